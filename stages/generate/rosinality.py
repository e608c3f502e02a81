"""Rosinality-style StyleGAN2 checkpoints (also JoJoGAN, pSp, e4e): their names to the official ones."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from stages.common.errors import ModelFileError


def read_rosinality(path: Path) -> dict[str, dict[str, Tensor]]:
    """{"G": ..., "D": ...} under official names from a `.pt` file; "D" only where the file has one.

    `latent_avg` becomes w_avg (zeros where it is missing). Reading uses torch's restricted reader.

    Raises:
        ModelFileError: not such a file, or parameters without a counterpart.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises RuntimeError, UnpicklingError, EOFError, ...
        text = " ".join(str(error).split())
        refused = re.search(r"GLOBAL ([\w.]+)", text)
        reason = f"refused: it asks for {refused[1]}" if refused else f"damaged or not a torch file ({text[:80]})"
        raise ModelFileError(f"{path}: {reason}") from error
    if not isinstance(content, Mapping) or not isinstance(content.get("g_ema", content.get("g")), Mapping):
        raise ModelFileError(f"{path}: holds neither g_ema nor g; not a rosinality checkpoint")
    generator = _tensors(path, content.get("g_ema", content.get("g")))
    try:
        out = {"G": _generator(path, generator, content.get("latent_avg"))}
        if isinstance(content.get("d"), Mapping):
            out["D"] = _discriminator(path, _tensors(path, content["d"]))
    except (IndexError, RuntimeError) as error:  # a tensor without the dimensions its name promises
        raise ModelFileError(
            f"{path}: a parameter has the wrong shape ({' '.join(str(error).split())[:80]})"
        ) from error
    return out


def _tensors(path: Path, state: Any) -> dict[str, Tensor]:
    wrong = next((k for k, v in state.items() if not isinstance(v, Tensor)), None)
    if wrong is not None:
        raise ModelFileError(f"{path}: {wrong} is not a tensor")
    return dict(state)


def _generator(path: Path, state: dict[str, Tensor], latent_avg: Any) -> dict[str, Tensor]:
    out: dict[str, Tensor] = {}
    used: set[str] = set()

    def take(name: str) -> Tensor:
        if name not in state:
            raise ModelFileError(f"{path}: {name} is missing")
        used.add(name)
        return state[name]

    layers = sum(bool(re.fullmatch(r"style\.\d+\.weight", name)) for name in state)
    for i in range(layers):  # style.0 is the normalisation
        for kind in ("weight", "bias"):
            out[f"mapping.fc{i}.{kind}"] = take(f"style.{i + 1}.{kind}")
    w_dim = out["mapping.fc0.weight"].shape[0] if layers else 0
    # pSp and e4e repeat it once per layer
    known = isinstance(latent_avg, Tensor) and w_dim and latent_avg.numel() % w_dim == 0
    out["mapping.w_avg"] = latent_avg.reshape(-1, w_dim)[0] if known else torch.zeros(w_dim)
    out["synthesis.b4.const"] = take("input.input")[0]

    def convolution(ours: str, theirs: str, noise: int) -> None:
        out[f"{ours}.weight"] = take(f"{theirs}.conv.weight")[0]
        out[f"{ours}.affine.weight"] = take(f"{theirs}.conv.modulation.weight")
        out[f"{ours}.affine.bias"] = take(f"{theirs}.conv.modulation.bias")
        out[f"{ours}.bias"] = take(f"{theirs}.activate.bias")
        out[f"{ours}.noise_strength"] = take(f"{theirs}.noise.weight").reshape([])
        out[f"{ours}.noise_const"] = take(f"noises.noise_{noise}")[0, 0]

    def to_rgb(ours: str, theirs: str) -> None:
        out[f"{ours}.weight"] = take(f"{theirs}.conv.weight")[0]
        out[f"{ours}.affine.weight"] = take(f"{theirs}.conv.modulation.weight")
        out[f"{ours}.affine.bias"] = take(f"{theirs}.conv.modulation.bias")
        out[f"{ours}.bias"] = take(f"{theirs}.bias").reshape(-1)

    convolution("synthesis.b4.conv1", "conv1", 0)
    to_rgb("synthesis.b4.torgb", "to_rgb1")
    blocks = sum(bool(re.fullmatch(r"to_rgbs\.\d+\.bias", name)) for name in state)
    for k in range(blocks):
        name = f"synthesis.b{8 * 2**k}"
        convolution(f"{name}.conv0", f"convs.{2 * k}", 2 * k + 1)
        convolution(f"{name}.conv1", f"convs.{2 * k + 1}", 2 * k + 2)
        to_rgb(f"{name}.torgb", f"to_rgbs.{k}")
    _nothing_left(path, state, used)
    return out


def _discriminator(path: Path, state: dict[str, Tensor]) -> dict[str, Tensor]:
    out: dict[str, Tensor] = {}
    used: set[str] = set()

    def take(ours: str, theirs: str) -> None:
        if theirs not in state:
            raise ModelFileError(f"{path}: {theirs} is missing")
        used.add(theirs)
        out[ours] = state[theirs]

    blocks = sum(bool(re.fullmatch(r"convs\.\d+\.conv1\.0\.weight", name)) for name in state)
    top = 4 * 2**blocks
    take(f"b{top}.fromrgb.weight", "convs.0.0.weight")
    take(f"b{top}.fromrgb.bias", "convs.0.1.bias")
    for i in range(blocks):
        name = f"b{top >> i}"
        take(f"{name}.conv0.weight", f"convs.{i + 1}.conv1.0.weight")
        take(f"{name}.conv0.bias", f"convs.{i + 1}.conv1.1.bias")
        take(f"{name}.conv1.weight", f"convs.{i + 1}.conv2.1.weight")  # .0 is the blur
        take(f"{name}.conv1.bias", f"convs.{i + 1}.conv2.2.bias")
        take(f"{name}.skip.weight", f"convs.{i + 1}.skip.1.weight")
    take("b4.conv.weight", "final_conv.0.weight")
    take("b4.conv.bias", "final_conv.1.bias")
    for ours, theirs in {"fc": "0", "out": "1"}.items():
        take(f"b4.{ours}.weight", f"final_linear.{theirs}.weight")
        take(f"b4.{ours}.bias", f"final_linear.{theirs}.bias")
    _nothing_left(path, state, used)
    return out


def _nothing_left(path: Path, state: Mapping[str, Tensor], used: set[str]) -> None:
    """Every parameter must have found its place; blur kernels must be StyleGAN2's filter, scaled."""
    for name, value in state.items():
        if name in used:
            continue
        if not name.endswith(".kernel"):
            raise ModelFileError(f"{path}: unexpected parameter {name} {list(value.shape)}")
        taps = torch.tensor([1.0, 3.0, 3.0, 1.0])
        if value.shape != (4, 4) or not torch.allclose(value / value.sum(), torch.outer(taps, taps) / 64, atol=1e-4):
            raise ModelFileError(f"{path}: {name} is not the [1,3,3,1] filter of StyleGAN2")
