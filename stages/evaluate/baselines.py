"""What any result must beat: the photo itself and plain colour transfer."""

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from stages.evaluate.subjects import Faces, Pictures, System

MOST_GAIN = 2.0
"""Beyond this, spreading the colours of an evenly lit face only amplifies noise; the baseline should be a fair one."""


def photo(faces: Faces) -> System:
    """The untouched photo: keeps everything, styles nothing."""
    return System("photo", "Photo, untouched", "baseline", faces, faces.images, note="style gap 1 by definition")


def colour_transfer(faces: Faces, style: Faces) -> System:
    """Reinhard et al. 2001: the head takes the style's mean and spread of each Lab channel, the rest stays.

    What a style costs without any network: a model that is no closer to the style is not worth its training.
    """
    targets = np.concatenate([_lab(i)[m >= 128] for i, m in zip(style.images, style.masks, strict=True)])
    mean, spread = targets.mean(axis=0), targets.std(axis=0)
    results = np.stack([_recolour(i, m, mean, spread) for i, m in zip(faces.images, faces.masks, strict=True)])
    return System("colour", "Colour transfer (Reinhard)", "baseline", faces, results, faces.masks)


def _lab(image: Pictures) -> NDArray[Any]:
    return cv2.cvtColor(image.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)


def _recolour(image: Pictures, mask: Pictures, mean: NDArray[Any], spread: NDArray[Any]) -> Pictures:
    lab, head = _lab(image), mask >= 128
    if not head.any():
        return image
    own = lab[head]
    gain = np.minimum(spread / np.maximum(own.std(axis=0), 1e-3), MOST_GAIN)
    moved = (lab - own.mean(axis=0)) * gain + mean
    rgb = np.clip(cv2.cvtColor(moved.astype(np.float32), cv2.COLOR_LAB2RGB), 0, 1) * 255
    share = mask[..., None].astype(np.float32) / 255
    return np.clip(rgb * share + image * (1 - share) + 0.5, 0, 255).astype(np.uint8)
