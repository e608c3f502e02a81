"""Baselines: the photo as it is, and colours moved to the style's."""

import cv2
import numpy as np

from stages.evaluate import baselines
from stages.evaluate.subjects import Faces
from tests.evaluate import synthetic


def test_photo_is_untouched() -> None:
    faces, _ = synthetic.photos(persons=2, each=1)
    assert (baselines.photo(faces).images == faces.images).all()


def test_colour_transfer_takes_the_styles_colours_and_keeps_the_background() -> None:
    faces, _ = synthetic.photos(persons=4)
    style = synthetic.style_pictures(10)
    system = baselines.colour_transfer(faces, style)
    outside = faces.masks == 0
    assert (system.images[outside] == faces.images[outside]).all()

    def lightness(pictures: np.ndarray, masks: np.ndarray) -> float:
        lab = np.stack([cv2.cvtColor(p, cv2.COLOR_RGB2LAB) for p in pictures])
        return float(lab[masks == 255][:, 0].mean())

    wanted = lightness(style.images, style.masks)
    assert abs(lightness(system.images, faces.masks) - wanted) < abs(lightness(faces.images, faces.masks) - wanted) + 1


def test_colour_transfer_of_a_picture_without_a_head() -> None:
    faces, _ = synthetic.photos(persons=2, each=1)
    empty = Faces(faces.images, np.zeros_like(faces.masks), faces.index)
    assert (baselines.colour_transfer(empty, synthetic.style_pictures(4)).images == faces.images).all()
