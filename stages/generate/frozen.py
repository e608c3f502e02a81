"""A discriminator that only serves as feature network: its weights are prepared once, coarse blocks left out."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stages.generate.layers import SLOPE, Conv, blur
from stages.generate.networks import Discriminator


class _Layer(NamedTuple):
    weight: Tensor  # gain folded in
    bias: Tensor | None
    fir: Tensor | None  # of a layer that halves the side
    activate: bool

    def __call__(self, x: Tensor) -> Tensor:
        padding = self.weight.shape[-1] // 2
        if self.fir is None:
            x = F.conv2d(x, self.weight, self.bias, padding=padding)
        else:
            x = F.conv2d(blur(x, self.fir, padding + 1), self.weight, self.bias, stride=2)
        return F.leaky_relu_(x, SLOPE) if self.activate else x


class FrozenFeatures:
    """The same numbers as :meth:`Discriminator.features` down to ``coarsest``, for a discriminator that never changes.

    Folding gains into the weights and converting them at every call took as long as the convolutions themselves on
    small batches. The weights are constants here: gradients reach the pictures only.

    Args:
        discriminator: copied, not kept.
        coarsest: smallest side of a feature map; blocks below are not computed.
        dtype: of weights and features; the first layer stays float32.
    """

    def __init__(self, discriminator: Discriminator, coarsest: int = 4, dtype: torch.dtype = torch.float32) -> None:
        self.arch = discriminator.arch
        self.dtype = dtype
        self.blocks: list[tuple[_Layer | None, _Layer, _Layer, _Layer]] = []
        for resolution in discriminator.arch.resolutions[:0:-1]:
            if resolution // 2 < coarsest:
                break
            block = getattr(discriminator, f"b{resolution}")
            rgb = None if block.fromrgb is None else _prepared(block.fromrgb, torch.float32)
            conv0, conv1, skip = (_prepared(layer, dtype) for layer in (block.conv0, block.conv1, block.skip))
            self.blocks.append((rgb, conv0, conv1, skip))

    def __call__(self, images: Tensor) -> dict[int, Tensor]:
        """images [N, 3, R, R] in [-1, 1] -> {side: [N, C, side, side]}, finest first."""
        out: dict[int, Tensor] = {}
        with torch.autocast(images.device.type, enabled=False):
            x = images.float().contiguous(memory_format=torch.channels_last)
            for rgb, conv0, conv1, skip in self.blocks:
                if rgb is not None:
                    x = rgb(x).to(self.dtype)
                x = skip(x) + conv1(conv0(x))
                out[x.shape[-1]] = x
        return out


@torch.no_grad()
def _prepared(layer: nn.Module, dtype: torch.dtype) -> _Layer:
    assert isinstance(layer, Conv)
    gain = layer.weight_gain * layer.gain
    weight = (layer.weight * gain).to(dtype).contiguous(memory_format=torch.channels_last)
    bias = None if layer.bias is None else (layer.bias * layer.gain).to(dtype)
    return _Layer(weight, bias, layer.resample_filter.clone() if layer.down else None, layer.activate)
