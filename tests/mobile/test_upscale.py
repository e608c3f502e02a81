"""Enlarging follows the photo where the photo explains the drawing, and nothing else."""

import cv2
import numpy as np

from stages.mobile.upscale import enlarge


def photo(side: int) -> np.ndarray:
    """A bright disc on a dark ground, uint8 [side, side, 3]."""
    y, x = (np.mgrid[:side, :side] + 0.5) / side - 0.5
    return np.where((np.hypot(x, y) < 0.3)[..., None], 200, 60).repeat(3, 2).astype(np.uint8)


def small(picture: np.ndarray) -> np.ndarray:
    return cv2.resize(picture, (64, 64), interpolation=cv2.INTER_AREA)


def test_a_drawing_that_follows_the_photo_gets_the_photos_edges() -> None:
    large = photo(512)
    wanted = (large.astype(float) * [1.0, 0.5, 0.8] + [20, 60, 0]).astype(np.uint8)
    plain = cv2.resize(small(wanted), (512, 512), interpolation=cv2.INTER_CUBIC)
    guided = enlarge(small(large), small(wanted), large)
    error, error_plain = (np.abs(p.astype(float) - wanted).mean() for p in (guided, plain))
    assert error < 0.5 * error_plain


def test_a_shape_the_photo_does_not_have_is_enlarged_as_it_is() -> None:
    flat = np.full((512, 512, 3), 120, np.uint8)
    drawn = small(photo(512))
    guided = enlarge(small(flat), drawn, flat)
    assert np.abs(guided.astype(int) - cv2.resize(drawn, (512, 512), interpolation=cv2.INTER_CUBIC)).max() <= 1


def test_equal_sizes_change_nothing() -> None:
    drawn = small(photo(512))
    assert np.array_equal(enlarge(np.zeros_like(drawn), drawn, np.zeros_like(drawn)), drawn)
