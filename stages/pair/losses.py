"""Losses of the translator, named after the papers' terms. All take and return float32 tensors; results are scalars.

Pictures are [N, 3, H, W] in [-1, 1], masks and regions [N, 1, H, W] in [0, 1].
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

# ---- adversarial (least squares), over all heads of the discriminators -----------------------------------------------


def lsgan(logits: Sequence[Tensor], target: float, rows: slice = slice(None)) -> Tensor:
    """Mean squared distance of every head's logits [N, ...] to ``target`` (Mao et al. 2017), heads summed.

    ``rows`` selects samples.
    """
    return torch.stack([(head[rows] - target).square().mean() for head in logits]).sum()


def discriminator_loss(logits: Sequence[Tensor], real: int, fake: int, edge_weight: float) -> Tensor:
    """Least squares (Mao et al. 2017) of a batch stacked as ``real`` reals, ``fake`` translations, edge-smoothed reals.

    The last are fakes, too, as in CartoonGAN (Chen et al. 2018), by ``edge_weight``. Logits [N, ...] per head.
    """
    loss = lsgan(logits, 1.0, slice(0, real)) + lsgan(logits, 0.0, slice(real, real + fake))
    if edge_weight > 0 and logits[0].shape[0] > real + fake:
        loss = loss + edge_weight * lsgan(logits, 0.0, slice(real + fake, None))
    return loss


def cam_loss(own: Tensor, other: Tensor) -> Tensor:
    """Binary cross-entropy of the generator's CAM (U-GAT-IT, Kim et al. 2020): logits [N, 2] of its input domain to 1,
    of the other to 0.
    """
    one = F.binary_cross_entropy_with_logits(own, torch.ones_like(own))
    return one + F.binary_cross_entropy_with_logits(other, torch.zeros_like(other))


# ---- reconstruction --------------------------------------------------------------------------------------------------


def masked_l1(a: Tensor, b: Tensor, weight: Tensor) -> Tensor:
    """Mean |a − b| over the weighted area: [N, 3, H, W] with ``weight`` [N, 1, H, W] >= 0."""
    return ((a - b).abs() * weight).sum() / (weight.sum() * a.shape[1]).clamp_min(1.0)


def pair_loss(content: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """L1 inside the head on colours and on their differences to the right and lower neighbour, a scalar.

    The second part is the gradient difference loss of Mathieu et al. 2016, the differences' signs kept.
    ``content`` and ``target`` [N, 3, H, W] in [-1, 1], ``mask`` [N, 1, H, W] >= 0: what counts, and how much.
    Colours alone are satisfied by a blur: latent pairs are only approximate. Differences keep eyes and outlines crisp.
    """
    error = content - target
    right, down = (error[..., 1:] - error[..., :-1]).abs(), (error[..., 1:, :] - error[..., :-1, :]).abs()
    area = (mask.sum() * error.shape[1]).clamp_min(1.0)
    edges = (right * mask[..., 1:]).sum() + (down * mask[..., 1:, :]).sum()
    return ((error.abs() * mask).sum() + edges) / area


def cycle_loss(back: Tensor, start: Tensor, region: Tensor | None, outside: float) -> Tensor:
    """L1 between a picture [N, 3, H, W] and its way there and back (CycleGAN, Zhu et al. 2017).

    Outside ``region`` [N, 1, H, W] in [0, 1] it is weighted by ``outside``.
    """
    error = (back - start).abs()
    return error.mean() if region is None else (error * (region + outside * (1 - region))).mean()


def background_loss(output: Tensor, photo: Tensor, region: Tensor) -> Tensor:
    """‖(1 − region) ⊙ (output − photo)‖₁ per pixel of the background (region variant's L_bg); region [N, 1, H, W]."""
    return masked_l1(output, photo, 1 - region)


# ---- mask branch -----------------------------------------------------------------------------------------------------


def mask_loss(logits: Tensor, head: Tensor) -> Tensor:
    """Binary cross-entropy of the mask branch's logits against the soft head mask in [0, 1], both [N, 1, H, W]."""
    return F.binary_cross_entropy_with_logits(logits, head)


def total_variation(mask: Tensor) -> Tensor:
    """Mean absolute difference between neighbours of [N, 1, H, W] (Rudin et al. 1992, along the axes)."""
    return (mask[..., 1:, :] - mask[..., :-1, :]).abs().mean() + (mask[..., 1:] - mask[..., :-1]).abs().mean()


def area_hinge(mask: Tensor, head: Tensor, slack: float = 0.1) -> Tensor:
    """Zero while the mask's area is within ``slack`` (relative) of the head's, then linear: no collapse to 0 or 1.

    Both [N, 1, H, W] in [0, 1]; the mean over samples.
    """
    area, wanted = mask.mean((1, 2, 3)), head.mean((1, 2, 3))
    return F.relu((area - wanted).abs() - slack * wanted).mean()


# ---- likeness --------------------------------------------------------------------------------------------------------


def likeness_loss(a: Tensor, b: Tensor) -> Tensor:
    """1 − cosine of L2-normalised embeddings [N, F], mean."""
    return 1 - (a * b).sum(1).mean()
