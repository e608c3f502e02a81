"""Which finds of the tile search count as faces: sure ones, and fainter ones of a sure one's size."""

from typing import Any

import numpy as np

from stages.faces.detect import Face
from stages.mobile.frame import small_faces


class Finder:
    """Stands in for the Haar detector: one prepared find per tile."""

    name = "haar"

    def __init__(self, finds: list[Face]) -> None:
        self.finds = list(finds)

    def find(self, tile: np.ndarray) -> list[Face]:
        return [self.finds.pop(0)] if self.finds else []


def face(score: float, apart: float) -> Face:
    return Face((0, 0, 2 * apart, 2 * apart), (50, 50), (50 + apart, 50), None, score)


def kept(finds: list[Face], known: list[Face]) -> list[float]:
    detector: Any = Finder(finds)
    return [f.score for f in small_faces(np.zeros((720, 720, 3), np.uint8), detector, known)]


def test_faint_finds_count_when_they_are_as_large_as_sure_ones() -> None:
    assert kept([face(10, 40), face(3, 30), face(5, 10), face(7, 10)], []) == [10, 3, 7]


def test_a_face_that_fills_the_picture_makes_tile_finds_mistakes() -> None:
    assert kept([face(10, 20), face(8, 40)], [face(20, 200)]) == []
