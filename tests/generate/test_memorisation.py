"""The memorisation check finds copies and does not cry wolf."""

import numpy as np
import pytest
import torch

from stages.generate.memorisation import nearness, person_of, pixel_vectors


def test_copies_are_found() -> None:
    torch.manual_seed(0)
    photos = torch.rand(40, 3, 32, 32) * 2 - 1
    fresh = torch.rand(20, 3, 32, 32) * 2 - 1
    copies = photos[:20] * 0.9 + 0.02 * torch.randn(20, 3, 32, 32)
    persons = [str(i) for i in range(40)]
    vectors = pixel_vectors(photos)
    copied = nearness(pixel_vectors(copies), vectors, persons)
    assert copied.figures()["share_above_p99"] == 1 and (copied.nearest == np.arange(20)).all()
    assert nearness(pixel_vectors(fresh), vectors, persons).figures()["share_above_p99"] < 0.2


def test_photos_of_one_person_are_not_the_baseline() -> None:
    photos = np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    found = nearness(photos[:1], photos, ["a", "a", "b"])
    assert found.baseline.max() == 0 and found.same_person.min() == 1


@pytest.mark.parametrize(
    "file,person",
    [
        ("london/neutral_front_012_03.jpg", "london/012"),
        ("london/smiling_front_012_08.jpg", "london/012"),
        ("congress/A000370.jpg", "congress/A000370.jpg"),
    ],
)
def test_person_from_the_name(file: str, person: str) -> None:
    assert person_of(file) == person
