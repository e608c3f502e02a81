"""Every measure of the project, defined once.

Distances between *sets* of pictures take feature matrices ``[N, F]`` (numpy or torch, see
:mod:`stages.common.features`); measures of *single* pictures take float tensors NCHW RGB in [-1, 1] and masks
N1HW in [0, 1] and return one float per picture. Identical definitions serve the choice of snapshots, the
tuning of pairs, the report and the verdict, so their figures may be compared.
"""

from stages.common.distances.frechet import frechet, frechet_from_statistics, statistics
from stages.common.distances.identity import diversity, identity_rank, recognised
from stages.common.distances.intervals import Estimate, bootstrap, difference, jackknife, rate
from stages.common.distances.neighbours import kid, precision_recall
from stages.common.distances.pixels import (
    background,
    background_psnr,
    background_ssim,
    colour_shift,
    mask_iou,
    outline_gradient,
    psnr,
    seam,
    sharpness,
)
from stages.common.distances.style import StyleGap, head_only, style_distance, style_gap

__all__ = [
    "Estimate",
    "StyleGap",
    "background",
    "background_psnr",
    "background_ssim",
    "bootstrap",
    "colour_shift",
    "difference",
    "diversity",
    "frechet",
    "frechet_from_statistics",
    "head_only",
    "identity_rank",
    "jackknife",
    "kid",
    "mask_iou",
    "outline_gradient",
    "precision_recall",
    "psnr",
    "rate",
    "recognised",
    "seam",
    "sharpness",
    "statistics",
    "style_distance",
    "style_gap",
]
