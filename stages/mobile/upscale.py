"""A small stylised face at the photo's own size: guided upsampling, so that edges follow the photo's edges.

The network draws 64 to 256 pixels; a face in a photo has five hundred. Enlarging the drawing alone gives blurred or
blocky outlines. The fast guided filter (He & Sun 2015) instead fits, in every small window, the drawing as a straight
line of the small photo, ``drawn = a * photo + b``, enlarges the smooth maps a and b, and applies them to the large
photo. Where the drawing has a shape of its own (other eyes), the photo explains nothing, a is 0, and b is the plain
enlargement.
"""

import cv2
import numpy as np

RADIUS = 2  # of the window, pixels of the small picture
NOISE = 0.03  # contrast (scale of 1) below which the photo's detail counts as skin and grain, which styles leave out
UNRELATED, RELATED = 0.3, 0.7  # explained variance: below, the drawing has its own shape there; above, the photo's
STEEPEST = 1.5  # largest a: a faint edge of the photo must not become a glaring one


def enlarge(small_photo: np.ndarray, small_styled: np.ndarray, photo: np.ndarray) -> np.ndarray:
    """The drawing at the size of ``photo``.

    Args:
        small_photo, small_styled: uint8 [h, w, 3], what the network saw and drew.
        photo: uint8 [H, W, 3], the same crop at full size.

    Returns:
        uint8 [H, W, 3].
    """
    size = (photo.shape[1], photo.shape[0])
    if photo.shape == small_photo.shape:
        return small_styled
    guide = cv2.cvtColor(small_photo, cv2.COLOR_RGB2GRAY).astype(np.float32)[..., None] / 255
    drawn = small_styled.astype(np.float32) / 255
    mean_guide, mean_drawn = _mean(guide), _mean(drawn)
    variance = _mean(guide * guide) - mean_guide * mean_guide
    covariance = _mean(guide * drawn) - mean_guide * mean_drawn
    slope = (covariance / (variance + NOISE**2)).clip(-STEEPEST, STEEPEST)
    explained = covariance**2 / ((variance + 1e-4) * (_mean(drawn * drawn) - mean_drawn**2 + 1e-4))
    trust = _mean(explained.min(axis=2, keepdims=True))
    slope = _mean(slope * ((trust - UNRELATED) / (RELATED - UNRELATED)).clip(0, 1))
    # what the line leaves over is the drawing's own; it is enlarged as it is
    rest = drawn - slope * guide
    slopes, rests = (cv2.resize(part, size, interpolation=cv2.INTER_CUBIC) for part in (slope, rest))
    light = cv2.cvtColor(photo, cv2.COLOR_RGB2GRAY).astype(np.float32)[..., None]
    return (slopes * light + rests * 255 + 0.5).clip(0, 255).astype(np.uint8)


def _mean(picture: np.ndarray) -> np.ndarray:
    side = 2 * RADIUS + 1
    mean = cv2.blur(picture, (side, side), borderType=cv2.BORDER_REFLECT)
    return mean[..., None] if mean.ndim == 2 else mean
