"""Augmentation of pairs, on whole batches and any device: geometry on both sides, light and damage on the input only.

The network has to give the same drawing whatever the light, so the styled target keeps its colours inside the head;
outside it the target *is* the changed input, because backgrounds pass untouched (:func:`compose_target`).
Randomness comes from torch's global generator, which the training loop seeds from (seed, image number).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from pipeline.settings.mobile import MobileSettings
from stages.common.light import relight
from stages.mobile.edge import gaussian_blur

# JPEG's standard luminance quantisation table (ITU-T T.81, Annex K)
_JPEG_TABLE = (
    (16, 11, 10, 16, 24, 40, 51, 61),
    (12, 12, 14, 19, 26, 58, 60, 55),
    (14, 13, 16, 24, 40, 57, 69, 56),
    (14, 17, 22, 29, 51, 87, 80, 62),
    (18, 22, 37, 56, 68, 109, 103, 77),
    (24, 35, 55, 64, 81, 104, 113, 92),
    (49, 64, 78, 87, 103, 121, 120, 101),
    (72, 92, 95, 98, 112, 100, 103, 99),
)


@dataclass
class Pairs:
    """One batch: photo and styled float [N, 3, H, W] in [-1, 1], mask float [N, 1, H, W] in [0, 1]."""

    photo: torch.Tensor
    styled: torch.Tensor
    mask: torch.Tensor


def augment_pairs(pairs: Pairs, settings: MobileSettings) -> Pairs:
    """Geometry, background replacement, light and damage as set; ``styled`` becomes the composed target."""
    pairs = move(pairs, settings)
    photo = replace_background(pairs.photo, pairs.mask, settings.background)
    photo = damage(relight(photo, settings.light), settings.damage)
    return Pairs(photo, compose_target(photo, pairs.styled, pairs.mask), pairs.mask)


def compose_target(photo: torch.Tensor, styled: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """The styled head on the photo's own background; pictures [N, 3, H, W] in [-1, 1], mask [N, 1, H, W] in [0, 1]."""
    return photo + mask * (styled - photo)


def move(pairs: Pairs, settings: MobileSettings) -> Pairs:
    """The same random flip, rotation, zoom and shift for all parts of a pair; what comes in at the rim is mirrored."""
    photo, styled, mask = moved_together((pairs.photo, pairs.styled, pairs.mask), settings)
    return Pairs(photo.clamp(-1, 1), styled.clamp(-1, 1), mask.clamp(0, 1))


def moved_together(parts: Sequence[torch.Tensor], settings: MobileSettings) -> list[torch.Tensor]:
    """Parts [N, C, H, W] of the same pictures, moved alike at random; values may overshoot (:func:`warp`)."""
    n, device = len(parts[0]), parts[0].device

    def uniform(limit: float) -> torch.Tensor:
        return (torch.rand(n, device=device) * 2 - 1) * limit

    angle = uniform(math.radians(settings.max_rotation))
    zoom = torch.exp(uniform(math.log1p(settings.max_zoom)))
    flip = torch.where(torch.rand(n, device=device) < 0.5, -1.0, 1.0)
    cos, sin = torch.cos(angle) / zoom, torch.sin(angle) / zoom
    # grid coordinates span [-1, 1], so a shift of one side is 2
    rows = [cos * flip, -sin, 2 * uniform(settings.max_shift), sin * flip, cos, 2 * uniform(settings.max_shift)]
    theta = torch.stack(rows, 1).view(n, 2, 3)
    return list(warp(torch.cat(list(parts), 1), theta).split([part.shape[1] for part in parts], 1))


def warp(images: torch.Tensor, theta: torch.Tensor) -> torch.Tensor:
    """Bicubic warp of [N, C, H, W], any range, by inverse affine matrices [N, 2, 3] in grid coordinates, mirrored at
    the rim.

    Bilinear took a quarter of a 64 px target's sharpness (bicubic: 7 %), and the network learnt the blurred targets.
    Bicubic overshoots at edges; callers clamp what has a range.
    """
    grid = F.affine_grid(theta, list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, mode="bicubic", padding_mode="reflection", align_corners=False)


def replace_background(photo: torch.Tensor, mask: torch.Tensor, share: float) -> torch.Tensor:
    """Puts a share of the heads on smooth random colours or on another photo's background, with its own detail.

    photo [N, 3, H, W] in [-1, 1], mask [N, 1, H, W] in [0, 1] → [N, 3, H, W].
    """
    n, _, height, width = photo.shape
    coarse = torch.rand(n, 3, 4, 4, device=photo.device) * 2 - 1
    colours = F.interpolate(coarse, (height, width), mode="bilinear", align_corners=False)
    use_colours = torch.rand(n, 1, 1, 1, device=photo.device) < 0.5
    # upside down: the other photo's head is then no second face in the usual place
    background = torch.where(use_colours, colours, photo.roll(1, 0).flip(2))
    replaced = background + mask * (photo - background)
    return torch.where(torch.rand(n, 1, 1, 1, device=photo.device) < share, replaced, photo)


def damage(photo: torch.Tensor, share: float) -> torch.Tensor:
    """Blurs, adds noise to or JPEG-compresses a share of the inputs, one of the three each; [N, 3, H, W] in [-1, 1]."""
    n, device = len(photo), photo.device
    kind = torch.randint(0, 3, (n,), device=device)
    sigma = float(torch.empty(1).uniform_(0.4, 1.2))
    level = torch.rand(n, 1, 1, 1, device=device) * 0.12
    noise = torch.randn_like(photo)
    quality = torch.rand(n, 1, 1, 1, device=device) * 60 + 25
    chosen = torch.rand(n, device=device) < share
    # all is drawn for every picture, or one picture's damage would change the next one's; only a few are computed
    blurred, noisy, coded = ((chosen & (kind == which)).nonzero().flatten() for which in range(3))
    damaged = photo.clone()
    damaged[blurred] = gaussian_blur(photo[blurred], 5, sigma)
    damaged[noisy] += level[noisy] * noise[noisy]
    damaged[coded] = jpeg(photo[coded], quality[coded])
    return damaged.clamp(-1, 1)


def jpeg(images: torch.Tensor, quality: torch.Tensor) -> torch.Tensor:
    """What JPEG's quantisation does to pictures: 8×8 DCT of Y, Cb, Cr, rounding, back. No entropy coding.

    Transform and table are those of ITU-T T.81, sections A.3.3 and K.1. Chroma is not subsampled and uses the luminance
    table: blocking and ringing are what matters here.

    Args:
        images: float [N, 3, H, W] in [-1, 1], sides multiples of 8.
        quality: [N, 1, 1, 1], 1 to 100, scaled as libjpeg does.
    """
    n, _, height, width = images.shape
    to_ycc = images.new_tensor([[0.299, 0.587, 0.114], [-0.1687, -0.3313, 0.5], [0.5, -0.4187, -0.0813]])
    table = images.new_tensor(_JPEG_TABLE)
    scale = torch.where(quality < 50, 5000 / quality, 200 - 2 * quality) / 100
    steps = (table * scale.view(n, 1, 1, 1, 1, 1)).clamp_min(1)
    k = torch.arange(8, dtype=torch.float32, device=images.device)
    dct = torch.cos((2 * k[None] + 1) * k[:, None] * math.pi / 16) * 0.5
    dct[0] *= math.sqrt(0.5)
    ycc = torch.einsum("ij,njhw->nihw", to_ycc, images * 127.5)
    blocks = ycc.reshape(n, 3, height // 8, 8, width // 8, 8).transpose(3, 4)
    coefficients = dct @ blocks @ dct.T
    blocks = dct.T @ ((coefficients / steps).round() * steps) @ dct
    ycc = blocks.transpose(3, 4).reshape(n, 3, height, width)
    return (torch.einsum("ij,njhw->nihw", torch.linalg.inv(to_ycc), ycc) / 127.5).clamp(-1, 1)
