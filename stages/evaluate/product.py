"""The shipped file itself: size, speed, parity with torch, steadiness under shifts, behaviour on hard photos."""

import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from stages.common.distances import Estimate, bootstrap, psnr
from stages.common.images import to_tensor
from stages.evaluate.subjects import Faces, Pictures, System

Stylize = Callable[[Pictures], Pictures]
"""One aligned uint8 [H, W, 3] picture → its styled picture of the same size."""

SHIFT = 0.03
"""Shift of the equivariance test, share of the side: 2 px at 64, what a hand-held camera does between frames."""


def equivariance(stylize: Stylize, faces: Faces) -> NDArray[np.float64]:
    """PSNR in dB, [N], between stylizing the shifted photo and shifting the stylized photo.

    Measured away from the borders, where the two cannot agree. High means that video does not flicker.
    """
    side = faces.images.shape[1]
    step = max(1, round(SHIFT * side))
    inner = slice(2 * step, side - 2 * step)
    scores = []
    for picture in faces.images:
        shifted = _shift(picture, step)
        before, after = stylize(shifted), _shift(stylize(picture), step)
        scores.append(psnr(to_tensor(before[inner, inner]), to_tensor(after[inner, inner]))[0])
    return np.array(scores)


def parity(torch_system: System | None, product: System) -> Estimate:
    """Mean absolute difference of the torch network and the shipped file, grey levels; NaN without the former."""
    if torch_system is None:
        return Estimate(float("nan"), float("nan"), float("nan"), 0)
    apart = np.abs(torch_system.images.astype(np.int16) - product.images.astype(np.int16))
    return bootstrap(apart.reshape(len(apart), -1).mean(axis=1))


def latency(stylize: Stylize, picture: Pictures, runs: int) -> Estimate:
    """Median milliseconds for a picture uint8 [H, W, 3], after three runs to warm up.

    The 95 % interval of the median is a pair of order statistics, the runs of rank n/2 ± 0.98 √n (Conover 1999); with
    fewer than six runs no pair is that sure, and it is the fastest and the slowest.
    """
    for _ in range(3):
        stylize(picture)
    times = []
    for _ in range(runs):
        start = time.perf_counter()
        stylize(picture)
        times.append((time.perf_counter() - start) * 1000)
    times.sort()
    half = 0.98 * np.sqrt(runs)  # 1.96 standard deviations of the number of runs below the median, √n / 2
    low, high = max(round(runs / 2 - half) - 1, 0), min(round(runs / 2 + half), runs - 1)  # ranks from 0
    return Estimate(float(np.median(times)), times[low], times[high], runs)


def size_kb(path: Path) -> Estimate:
    """Size of a file in kB (1000 bytes)."""
    value = path.stat().st_size / 1000
    return Estimate(value, value, value, 1)


def _shift(picture: Pictures, step: int) -> Pictures:
    matrix = np.array([[1, 0, step], [0, 1, step]], dtype=np.float32)
    size = picture.shape[1], picture.shape[0]
    return cv2.warpAffine(picture, matrix, size, flags=cv2.INTER_NEAREST, borderMode=cv2.BORDER_REPLICATE)
