"""Where the two pictures of a latent pair show the same thing.

source(w) and fused(w) are only approximately one person: the style puts a fringe on a bare forehead, blond hair on a
grey head, a shaven chin where there is a beard. Averaged over such pairs the translator drew the mean of both answers:
blotches on foreheads.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from stages.common.facial import facial_area
from stages.pair.augment import inside

SMOOTHING = 0.08  # share of the side over which colours are averaged: line work and shading are no disagreement


@torch.no_grad()
def agreement(photo: Tensor, styled: Tensor, mask: Tensor, tolerance: float) -> Tensor:
    """How far each place of a latent pair is the same thing in both pictures.

    A pair may change all colours alike (skin of another tone): differences count from the median over the head. Eyes
    and mouth count as the same in any case; that they differ is the style.

    Args:
        photo, styled: [N, 3, H, W] in [-1, 1]. mask: where both are head, [N, 1, H, W] in [0, 1].
        tolerance: root mean square difference of the smoothed colours (scale of 2) at which the answer falls to 1/e.

    Returns:
        [N, 1, H, W] in (0, 1].
    """
    side = mask.shape[-1]
    kernel = max(3, 2 * round(SMOOTHING * side / 2) + 1)
    head = inside(mask)
    weight = F.avg_pool2d(head, kernel, 1, kernel // 2)
    difference = F.avg_pool2d((styled - photo) * head, kernel, 1, kernel // 2) / weight.clamp_min(1e-3)
    usual = difference.masked_fill(head < 0.5, torch.nan).flatten(2).nanmedian(2).values.nan_to_num()
    error = (difference - usual[:, :, None, None]).square().mean(1, keepdim=True)
    same = torch.exp(-error / tolerance**2)
    return torch.maximum(same, facial_area(side).to(same.device))
