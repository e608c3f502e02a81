"""Figures of a trained mobile network on held-out pairs; the same definitions as the report's."""

import numpy as np
import torch

from stages.common import distances
from stages.common.dataset import FaceDataset
from stages.mobile.augment import compose_target
from stages.mobile.data import as_float, to_pairs
from stages.mobile.network import MobileNet
from stages.mobile.shift import random_shifts, shift


@torch.no_grad()
def draw(net: MobileNet, photos: torch.Tensor, batch: int = 32) -> torch.Tensor:
    """Styled pictures of photos, both float [N, 3, H, W] in [-1, 1], in eval mode."""
    return torch.cat([net.eval()(part)[0] for part in photos.split(batch)])


@torch.no_grad()
def measure(net: MobileNet, dataset: FaceDataset, limit: int = 128) -> dict[str, float]:
    """Pixel error, sharpness against the targets', background PSNR, mask IoU, equivariance; means over pictures.

    Args:
        net: on the CPU. dataset: pairs, at most ``limit`` evenly chosen.
    """
    chosen = np.linspace(0, len(dataset) - 1, min(limit, len(dataset))).astype(int)
    pairs = to_pairs(dataset, chosen, torch.device("cpu"))
    head = as_float(dataset.take(chosen, "mask"), "mask")
    target = compose_target(pairs.photo, pairs.styled, pairs.mask)
    drawn = draw(net, pairs.photo)
    _, mask = net(pairs.photo)
    sharp, wanted = distances.sharpness(drawn, head), distances.sharpness(target, head)
    return {
        "pictures": float(len(chosen)),
        "pixel_error": float((drawn - target).abs().mean()),
        "sharpness": float(np.nanmean(sharp)),
        "sharpness_ratio": float(np.nanmean(sharp) / np.nanmean(wanted)),
        "background_psnr": float(np.nanmean(distances.background_psnr(pairs.photo, drawn, head))),
        "mask_iou": float(np.nanmean(distances.mask_iou(mask, pairs.mask))),
        "equivariance": equivariance(net, pairs.photo),
    }


@torch.no_grad()
def equivariance(net: MobileNet, photos: torch.Tensor) -> float:
    """Mean |f(Tx) − T f(x)| over sub-pixel shifts T of photos [N, 3, H, W] in [-1, 1]; four pixels of rim left out."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        moves = random_shifts(len(photos), 1.0, photos.device)
    moved, drawn = draw(net, shift(photos, moves).clamp(-1, 1)), shift(draw(net, photos), moves)
    return float((moved - drawn)[..., 4:-4, 4:-4].abs().mean())
