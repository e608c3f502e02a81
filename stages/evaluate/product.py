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
    """Median milliseconds per picture with its interval (order statistics), after three runs to warm up."""
    for _ in range(3):
        stylize(picture)
    times = []
    for _ in range(runs):
        start = time.perf_counter()
        stylize(picture)
        times.append((time.perf_counter() - start) * 1000)
    low, high = np.percentile(times, [10, 90])
    return Estimate(float(np.median(times)), float(low), float(high), runs)


def size_kb(path: Path) -> Estimate:
    """Size of a file in kB (1000 bytes)."""
    value = path.stat().st_size / 1000
    return Estimate(value, value, value, 1)


def hard_photos(picture: Pictures, other: Pictures) -> dict[str, Pictures]:
    """What real use does to a photo, by name: the stress set, made from one test photo and a second one.

    Deterministic, so that two runs show the same difficulties.
    """
    side = picture.shape[0]
    noise = np.random.default_rng(0).normal(0, 18, picture.shape)
    _, packed = cv2.imencode(".jpg", picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 12])
    half = np.linspace(0.35, 1.6, side)[None, :, None]
    covered = picture.copy()
    covered[int(0.62 * side) : int(0.85 * side), int(0.3 * side) : int(0.7 * side)] = (90, 140, 170)
    beside = np.concatenate([picture[:, side // 4 : 3 * side // 4], other[:, side // 4 : 3 * side // 4]], axis=1)
    small = np.full_like(picture, picture[:2].mean(axis=(0, 1)).astype(np.uint8))
    quarter = side // 4
    small[quarter : quarter + side // 2, quarter : quarter + side // 2] = cv2.resize(
        picture, (side // 2, side // 2), interpolation=cv2.INTER_AREA
    )
    return {
        "as is": picture,
        "turned 20°": _turn(picture, 20),
        "turned −20°": _turn(picture, -20),
        "zoomed in": _zoom(picture, 1.3),
        "far away": small,
        "dark": _clip(255 * (picture / 255.0) ** 2.4),
        "bright": _clip(picture * 1.5 + 30),
        "side light": _clip(picture * half),
        "grey": cv2.cvtColor(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB),
        "colour cast": _clip(picture * np.array([0.7, 0.9, 1.25])),
        "blurred": cv2.GaussianBlur(picture, (0, 0), side / 50),
        "noisy": _clip(picture + noise),
        "JPEG 12": cv2.cvtColor(np.asarray(cv2.imdecode(packed, cv2.IMREAD_COLOR)), cv2.COLOR_BGR2RGB),
        "mouth covered": covered,
        "two people": beside,
        "mirrored": picture[:, ::-1].copy(),
    }


def _shift(picture: Pictures, step: int) -> Pictures:
    matrix = np.array([[1, 0, step], [0, 1, step]], dtype=np.float32)
    size = picture.shape[1], picture.shape[0]
    return cv2.warpAffine(picture, matrix, size, flags=cv2.INTER_NEAREST, borderMode=cv2.BORDER_REPLICATE)


def _turn(picture: Pictures, degrees: float) -> Pictures:
    size = picture.shape[1], picture.shape[0]
    matrix = cv2.getRotationMatrix2D((size[0] / 2 - 0.5, size[1] / 2 - 0.5), degrees, 1)
    return cv2.warpAffine(picture, matrix, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)


def _zoom(picture: Pictures, factor: float) -> Pictures:
    size = picture.shape[1], picture.shape[0]
    matrix = cv2.getRotationMatrix2D((size[0] / 2 - 0.5, size[1] / 2 - 0.5), 0, factor)
    return cv2.warpAffine(picture, matrix, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)


def _clip(values: NDArray[np.float64]) -> Pictures:
    return np.clip(values + 0.5, 0, 255).astype(np.uint8)
