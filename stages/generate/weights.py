"""Generators and discriminators from parameters under the official names."""

import re
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn

from stages.common.errors import ModelFileError
from stages.generate.layers import StyledConv, fir_filter
from stages.generate.networks import Architecture, Discriminator, Generator

State = Mapping[str, np.ndarray | Tensor]


def _tensors(state: State) -> dict[str, Tensor]:
    return {name: torch.as_tensor(np.asarray(v) if not isinstance(v, Tensor) else v) for name, v in state.items()}


def _shape(state: Mapping[str, Tensor], name: str, dimensions: int = 4) -> torch.Size:
    if name not in state:
        raise ModelFileError(f"not StyleGAN2 weights: {name} is missing")
    shape = state[name].shape
    if len(shape) != dimensions or 0 in shape:
        raise ModelFileError(f"not StyleGAN2 weights: {name} has shape {list(shape)}, expected {dimensions} dimensions")
    return shape


def _channel_limits(channels: dict[int, int]) -> tuple[int, int]:
    """channel_base and channel_max that give these channels per resolution, or an error."""
    # The largest resolution is the one least likely to be clipped by channel_max.
    top = max(channels)
    base, limit = channels[top] * top, max(channels.values())
    wrong = [r for r, c in channels.items() if c != min(base // r, limit)]
    if wrong:
        raise ModelFileError(f"channels do not follow min(base // resolution, max) at {wrong[0]} px: {channels}")
    return base, limit


def _load(net: nn.Module, state: dict[str, Tensor], what: str) -> None:
    """Copy strictly: every parameter must be there with its shape, and nothing may be left over."""
    target = net.state_dict()
    for name in state:
        if name.endswith("resample_filter"):
            if state[name].shape != (4, 4) or not torch.allclose(state[name].float(), fir_filter(), atol=1e-3):
                raise ModelFileError(f"{what}: {name} is not the [1,3,3,1] filter of StyleGAN2")
        elif name not in target:
            raise ModelFileError(f"{what}: unexpected parameter {name} {list(state[name].shape)}")
        elif state[name].shape != target[name].shape:
            raise ModelFileError(
                f"{what}: {name} has shape {list(state[name].shape)}, expected {list(target[name].shape)}"
            )
        elif not torch.isfinite(state[name].float()).all():
            raise ModelFileError(f"{what}: {name} holds values that are not finite")
    missing = [name for name in target if name not in state and not name.endswith("resample_filter")]
    if missing:
        raise ModelFileError(f"{what}: {missing[0]} is missing ({len(missing)} missing in all)")
    fitting = {name: value.float() for name, value in state.items() if name in target}
    net.load_state_dict({**target, **fitting})


def generator_from_official(state: State) -> Generator:
    """Generator (float32, eval mode) from arrays under official names; the architecture follows from the shapes.

    Raises:
        ModelFileError: a parameter is missing, left over or of the wrong shape; nothing is ever dropped.
    """
    tensors = _tensors(state)
    blocks = sorted({int(m[1]) for name in tensors if (m := re.match(r"synthesis\.b(\d+)\.", name))})
    layers = sorted({int(m[1]) for name in tensors if (m := re.match(r"mapping\.fc(\d+)\.", name))})
    if not blocks or not layers:
        raise ModelFileError("not a StyleGAN2 generator: no synthesis.b* or mapping.fc* parameters")
    if any(name.startswith("mapping.embed") for name in tensors):
        raise ModelFileError("class-conditional generators are not supported (mapping.embed is present)")
    channels = {r: _shape(tensors, f"synthesis.b{r}.conv1.weight")[0] for r in blocks}
    base, limit = _channel_limits(channels)
    w_dim, z_dim = _shape(tensors, "mapping.fc0.weight", 2)
    arch = _architecture(blocks, z_dim, w_dim, len(layers), base, limit)
    net = Generator(arch)
    _load(net, tensors, "generator")
    return net.eval().requires_grad_(False)


def discriminator_from_official(state: State) -> Discriminator:
    """Discriminator (float32, eval mode) from arrays under official names.

    The latent sizes of its `arch` are 0: a discriminator does not know them.

    Raises:
        ModelFileError: as `generator_from_official`.
    """
    tensors = _tensors(state)
    blocks = sorted({int(m[1]) for name in tensors if (m := re.match(r"b(\d+)\.", name))})
    if not blocks or f"b{blocks[-1]}.fromrgb.weight" not in tensors:
        raise ModelFileError("not a StyleGAN2 discriminator: no b<resolution>.fromrgb parameters")
    channels = {r: _shape(tensors, f"b{r}.conv0.weight")[0] for r in blocks if r > 4}
    channels[4] = _shape(tensors, "b4.conv.weight")[0]
    base, limit = _channel_limits(channels)
    net = Discriminator(_architecture(blocks, 0, 0, 0, base, limit))
    _load(net, tensors, "discriminator")
    return net.eval().requires_grad_(False)


def _architecture(blocks: list[int], z_dim: int, w_dim: int, layers: int, base: int, limit: int) -> Architecture:
    try:
        arch = Architecture(blocks[-1], z_dim, w_dim, layers, base, limit)
    except ValueError as error:
        raise ModelFileError(str(error)) from error
    if arch.resolutions != blocks:
        raise ModelFileError(f"resolutions {blocks} are not 4, 8, ... {blocks[-1]}")
    return arch


@torch.no_grad()
def balance_demodulated(generator: Generator) -> Generator:
    """Scale demodulated weights far from root mean square 1 to 1, in place; the function stays the same.

    Demodulation cancels the scale, but Adam's step is absolute: weights stored 20 times smaller (as in a source we
    were given) learn 20 times faster and the run diverges within 2 kimg. Published checkpoints are near 1; weights
    within a factor of two are left as they are.
    """
    for _, layer, _ in generator.synthesis.layers():
        if isinstance(layer, StyledConv):
            size = layer.weight.square().mean().sqrt().clamp_min(1e-8)
            if not 0.5 < size < 2:
                layer.weight.div_(size)
    return generator
