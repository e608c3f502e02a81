"""Feature ("perceptual") loss of stages 2 and 3: VGG19 where its file is found, else the source's discriminator.

Feature reconstruction as in Johnson et al. 2016, with L1 as in CartoonGAN (Chen et al. 2018).
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import nn
from torch.autograd.function import once_differentiable

from stages.common.device import Device
from stages.common.features import load_vgg19
from stages.generate.frozen import FrozenFeatures
from stages.generate.models import load_stylegan
from stages.generate.networks import Discriminator

VGG_LAYERS = ("block1_conv2", "block2_conv2", "block3_conv4")  # conv4_4 of AnimeGANv2 is 8×8 at 64 px: too coarse here
Features = Callable[[torch.Tensor], Sequence[torch.Tensor]]


def load_features(source: Path, root: Path, device: Device) -> tuple[Features | None, str]:
    """What this machine has, and its name: "vgg19", "source discriminator", or None and "none".

    Args:
        source: model file of the face source model. root: where ``models/external`` may hold VGG19.

    Raises:
        ModelFileError: a file is damaged or of another kind.
    """
    vgg = load_vgg19(root)
    if vgg is not None:
        return vgg_features(vgg.to(device.device)), "vgg19"
    discriminator = load_stylegan(source)[1]
    if discriminator is not None:
        return discriminator_features(discriminator, device.device, device.dtype), "source discriminator"
    return None, "none"


def vgg_features(vgg: nn.Module) -> Features:
    """VGG19 responses [N, C, h, w] before the ReLU, for pictures [N, 3, H, W] in [-1, 1]; see :data:`VGG_LAYERS`."""

    def extract(images: torch.Tensor) -> list[torch.Tensor]:
        return list(vgg(images, VGG_LAYERS).values())

    return extract


def discriminator_features(discriminator: Discriminator, device: torch.device, dtype: torch.dtype) -> Features:
    """Stage-1 discriminator activations, finest first, without the coarsest (below an eighth of the side).

    Pictures [N, 3, H, W] in [-1, 1]; those of another size are resized to the one the discriminator takes.
    """
    side = discriminator.arch.resolution
    frozen = FrozenFeatures(discriminator.to(device), side // 8, dtype)

    def extract(images: torch.Tensor) -> list[torch.Tensor]:
        if images.shape[-1] != side:
            images = F.interpolate(images, (side, side), mode="bilinear", align_corners=False, antialias=True)
        return list(frozen(images).values())

    return extract


def perceptual_loss(features: Features, output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Mean over layers of L1 between features, relative to the target's mean magnitude in that layer.

    output, target [N, 3, H, W] in [-1, 1].
    """
    with torch.no_grad():
        wanted = features(target)
    total = output.new_zeros(())
    for have, want in zip(features(output), wanted, strict=True):
        magnitude = want.abs().mean(dtype=torch.float32).clamp_min(1e-6)
        total = total + cast(torch.Tensor, _MeanDistance.apply(have, want)) / magnitude
    return total / len(wanted)


class _MeanDistance(torch.autograd.Function):
    """Mean |have - want| as float32; the gradient comes in the features' own layout and type.

    Autograd's gradient of a mean is in the default layout. Between channels_last convolutions every layer below then
    converts it, and mixed layouts made leaky ReLU's backward 30 times slower.
    """

    @staticmethod
    def forward(ctx: Any, have: torch.Tensor, want: torch.Tensor) -> torch.Tensor:
        difference = have - want
        ctx.save_for_backward(difference)
        return torch.linalg.vector_norm(difference, 1, dtype=torch.float32) / difference.numel()

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor, None]:
        (difference,) = ctx.saved_tensors
        return difference.sign().mul_((grad / difference.numel()).to(difference.dtype)), None
