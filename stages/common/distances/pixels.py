"""Measures of single pictures: float NCHW RGB in [-1, 1] with masks N1HW in [0, 1] → one float64 per picture.

All work on the 8-bit scale (0 to 255) on which thresholds and published figures are quoted.
NaN means "nothing to measure here" (an empty mask, no background left) and is left out of averages.
"""

import cv2
import numpy as np
from numpy.typing import NDArray
from skimage.color import rgb2lab
from skimage.metrics import structural_similarity
from torch import Tensor

Scores = NDArray[np.float64]
Array = NDArray[np.float32]

IDENTICAL_PSNR = 60.0
"""dB reported for pictures closer than 8-bit rounding can tell (its noise, 1/12 squared levels, is 58.9
dB)."""

BACKGROUND_MARGIN = 3
"""Pixels by which the head mask grows before the rest counts as background (docs/metrics.md)."""

_SEAM_WIDTH = 2


def sharpness(images: Tensor, masks: Tensor) -> Scores:
    """Mean |3x3 Laplacian| of luma (0 to 255) inside the head mask, weighted by it.

    A statistic of magnitudes: a signed Laplacian sums to about 0 whatever the picture. It rises with noise as
    well as with edges, so judge it beside the style's own distribution, not "more is better".
    """
    rows = []
    for image, mask in _pairs(images, masks):
        luma = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
        edges = np.abs(cv2.Laplacian(luma, cv2.CV_32F, ksize=1, borderType=cv2.BORDER_REFLECT_101))
        rows.append(_weighted_mean(edges, mask))
    return np.array(rows)


def background(masks: Tensor, margin: int = BACKGROUND_MARGIN) -> Tensor:
    """Boolean N1HW: pixels outside the head mask (>= 0.5) grown by a disc of ``margin`` pixels."""
    outside = [_outside(_plane(mask), margin) for mask in masks]
    return masks.new_tensor(np.stack(outside)[:, None]).bool()


def background_psnr(photos: Tensor, results: Tensor, masks: Tensor, margin: int = BACKGROUND_MARGIN) -> Scores:
    """PSNR in dB over the background of the *reference* mask, at most :data:`IDENTICAL_PSNR`.

    Give results as the network made them, before any pasting of the photo's background.
    """
    rows = []
    for (photo, mask), result in zip(_pairs(photos, masks), _images(results), strict=True):
        rows.append(_psnr((photo - result)[_outside(mask, margin)]))
    return np.array(rows)


def background_ssim(photos: Tensor, results: Tensor, masks: Tensor, margin: int = BACKGROUND_MARGIN) -> Scores:
    """SSIM (Wang et al. 2004: Gaussian window, sigma 1.5) averaged over the background, at most 1.

    The head of the result is replaced by the photo's first, so that windows reaching over the border see
    changes of the background only.
    """
    rows = []
    for (photo, mask), result in zip(_pairs(photos, masks), _images(results), strict=True):
        outside = _outside(mask, margin)
        if not outside.any():
            rows.append(np.nan)
            continue
        mixed = np.where(outside[..., None], result, photo)
        _, similarity = structural_similarity(
            photo, mixed, data_range=255, channel_axis=-1, gaussian_weights=True, sigma=1.5,
            use_sample_covariance=False, full=True,
        )  # fmt: skip
        rows.append(float(similarity[outside].mean()))
    return np.array(rows)


def psnr(a: Tensor, b: Tensor) -> Scores:
    """PSNR in dB of whole pictures, at most :data:`IDENTICAL_PSNR`."""
    return np.array([_psnr(x - y) for x, y in zip(_images(a), _images(b), strict=True)])


def mask_iou(a: Tensor, b: Tensor) -> Scores:
    """Intersection over union of two masks cut at 0.5; NaN where both are empty."""
    first, second = (m.detach().float().cpu().numpy()[:, 0] >= 0.5 for m in (a, b))
    union = (first | second).sum(axis=(1, 2)).astype(np.float64)
    both = (first & second).sum(axis=(1, 2))
    return np.where(union > 0, both / np.maximum(union, 1), np.nan)


def outline_gradient(images: Tensor, masks: Tensor) -> Scores:
    """Mean luma gradient magnitude in a band of 2 px on both sides of the mask's 0.5 contour, grey levels per pixel."""
    disc, rows = _disc(_SEAM_WIDTH), []
    for image, mask in _pairs(images, masks):
        inside = (mask >= 0.5).astype(np.uint8)
        band = (cv2.dilate(inside, disc) - cv2.erode(inside, disc)).astype(np.float32)
        dy, dx = np.gradient(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY))
        rows.append(_weighted_mean(np.hypot(dx, dy), band))
    return np.array(rows)


def seam(photos: Tensor, results: Tensor, masks: Tensor) -> Scores:
    """Gradient along the head's outline beyond the photo's, grey levels per pixel; 0 when it blends in as in the photo.

    A hard cut-out edge is strongly positive, a smeared outline negative. Outlines that a style draws count too: compare
    with :func:`outline_gradient` of the style's own pictures rather than with 0.
    """
    return outline_gradient(results, masks) - outline_gradient(photos, masks)


def colour_shift(photos: Tensor, results: Tensor, masks: Tensor) -> tuple[Scores, Scores]:
    """Change of the head's mean colour: CIE76 distance (0 = same) and signed lightness change L* (+ =
    lighter).

    Stylizers tend to lighten skin; the signed figure by skin-tone group is how the report notices.
    """
    distances, lightness = [], []
    for (photo, mask), result in zip(_pairs(photos, masks), _images(results), strict=True):
        change = _mean_lab(result, mask) - _mean_lab(photo, mask)
        distances.append(float(np.linalg.norm(change)))
        lightness.append(float(change[0]))
    return np.array(distances), np.array(lightness)


def _images(images: Tensor) -> Array:
    """NCHW [-1, 1] → float32 NHWC 0..255."""
    return ((images.detach().float().cpu() + 1) * 127.5).permute(0, 2, 3, 1).contiguous().numpy()


def _pairs(images: Tensor, masks: Tensor) -> list[tuple[Array, Array]]:
    planes = [_plane(mask) for mask in masks]
    return list(zip(_images(images), planes, strict=True))


def _plane(mask: Tensor) -> Array:
    return mask.detach().float().cpu().numpy()[0]


def _disc(radius: int) -> NDArray[np.uint8]:
    y, x = np.mgrid[-radius : radius + 1, -radius : radius + 1]
    return (x * x + y * y <= radius * radius).astype(np.uint8)


def _outside(mask: Array, margin: int) -> NDArray[np.bool_]:
    grown = cv2.dilate((mask >= 0.5).astype(np.uint8), _disc(margin))
    return grown == 0


def _psnr(difference: Array) -> float:
    if difference.size == 0:
        return float("nan")
    error = float(np.mean(np.square(difference, dtype=np.float64)))
    if error == 0:
        return IDENTICAL_PSNR
    return min(IDENTICAL_PSNR, float(10 * np.log10(255**2 / error)))


def _mean_lab(image: Array, mask: Array) -> Scores:
    lab = rgb2lab(np.clip(image / 255, 0, 1))
    return np.array([_weighted_mean(lab[..., channel], mask) for channel in range(3)])


def _weighted_mean(values: Array, weights: Array) -> float:
    total = float(weights.sum())
    return float((values * weights).sum() / total) if total > 1e-6 else float("nan")
