"""What the discriminators see: regions, differentiable augmentation, edge-smoothed pictures."""

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from stages.common.dilation import dilate

GREY = 0.0  # mid grey of [-1, 1], outside the region


def flip_some(flips: Tensor, *images: Tensor) -> list[Tensor]:
    """Mirrors the samples where ``flips`` (bool [N]) is set, in each of the batches [N, C, H, W] (any range) alike."""
    pick = flips[:, None, None, None]
    return [torch.where(pick, image.flip(3), image) for image in images]


def region(mask: Tensor, grow: float, feather: float = 0.015) -> Tensor:
    """Dilated, feathered head mask.

    Args:
        mask: [N, 1, H, W] in [0, 1].
        grow: dilation as a share of the side (rounded to whole pixels).
        feather: half-width of the soft edge outside it, as a share of the side (at least one pixel).
    """
    side = mask.shape[-1]
    reach, soft = round(grow * side), max(1, round(feather * side))
    grown = dilate(mask, reach + soft)
    # replicated border: a head that is cut by the picture's edge must not fade there
    return F.avg_pool2d(F.pad(grown, (soft,) * 4, mode="replicate"), 2 * soft + 1, 1)


def inside(mask: Tensor) -> Tensor:
    """What is surely head: 0 up to the middle of the mask's soft edge, 1 where the mask is; [N, 1, H, W] in [0, 1].

    Styled faces stand before the bright procedural backgrounds of their style set. Whatever is compared up to the soft
    edge or beyond brings those colours along, as fringes around every head.
    """
    return (2 * mask - 1).clamp_min(0)


def below(top: float, side: int) -> Tensor:
    """[1, 1, side, 1]: 0 above ``top`` (share of the side), 1 below it, over a soft border of 0.06; all 1 for 0.

    A style's hair and hats begin lower on the forehead than people's. Discriminators that see them make the translator
    darken the skin under every hairline.
    """
    height = (torch.arange(side) + 0.5) / side
    rows = ((height - top) / 0.06 + 0.5).clamp(0, 1) if top > 0 else torch.ones(side)
    return rows[None, None, :, None]


def look_at(images: Tensor, where: Tensor) -> Tensor:
    """``images`` [N, 3, H, W] in [-1, 1] with grey outside ``where`` [N, 1, H, W] in [0, 1]."""
    return GREY + (images - GREY) * where


def augment(images: Tensor, probability: float) -> Tensor:
    """Differentiable augmentation (Zhao et al. 2020): brightness, saturation, contrast, translation by up to 1/8.

    ``images`` [N, 3, H, W] in [-1, 1] to the same. Each happens per sample with ``probability``; real and fake pictures
    must both go through it.
    """
    if probability <= 0:
        return images
    n, _, height, width = images.shape
    make, on = images.new_empty, images.device

    def chance() -> Tensor:
        return (torch.rand(n, 1, 1, 1, device=on) < probability).to(images.dtype)

    def amount(spread: float) -> Tensor:
        return make(n, 1, 1, 1).uniform_(-spread, spread) * chance()

    images = images + amount(0.25)
    grey = images.mean(1, keepdim=True)
    images = grey + (images - grey) * (1 + amount(0.5))
    centre = images.mean((1, 2, 3), keepdim=True)
    images = centre + (images - centre) * (1 + amount(0.25))
    # whole-pixel translation by indexing: exact, and its backward is a scatter without interpolation
    dy = (amount(0.125).flatten() * height).round().long()
    dx = (amount(0.125).flatten() * width).round().long()
    rows = (torch.arange(height, device=on)[None] + dy[:, None]).clamp(0, height - 1)
    columns = (torch.arange(width, device=on)[None] + dx[:, None]).clamp(0, width - 1)
    sample = torch.arange(n, device=on)[:, None, None]
    moved = images.permute(0, 2, 3, 1)[sample, rows[:, :, None], columns[:, None, :]]
    return moved.permute(0, 3, 1, 2)


def smooth_edges(image: np.ndarray) -> np.ndarray:
    """The picture with only its edges blurred, a fake in CartoonGAN (Chen et al. 2018).

    Canny(100, 200) on grey, dilated 5×5; just those pixels are replaced by a 5×5 Gaussian of sigma 1.1.

    Args:
        image: uint8 [H, W, 3] RGB.

    Returns:
        uint8 [H, W, 3].
    """
    edges = cv2.Canny(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), 100, 200)
    near = cv2.dilate(edges, np.ones((5, 5), np.uint8)) > 0
    return np.where(near[..., None], cv2.GaussianBlur(image, (5, 5), 1.1), image)
