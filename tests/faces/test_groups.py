import re

import numpy as np
import pandas as pd
import pytest

from stages.common.errors import SettingsError
from stages.faces.groups import compile_pattern, design_of, join_groups, near_pairs, person_of, split_of
from stages.faces.select import assign_splits, balance_weights, mark_duplicates


@pytest.mark.parametrize(
    ("file", "person"),
    [
        ("london/neutral_front_012_03.jpg", "london_012"),
        ("london/smiling_front_012_08.jpg", "london_012"),
        ("canada/003f.jpg", "canada_003f"),
        ("congress/A000055.jpg", "congress_A000055"),
        ("anna-03.jpg", "anna"),
        ("anna (4).png", "anna"),
        ("IMG_0012.jpg", "IMG_0012"),
        ("photo_0007.png", "photo_0007"),
    ],
)
def test_person_by_file_name(file, person):
    assert person_of(file) == person


@pytest.mark.parametrize(
    ("file", "design"),
    [
        ("prof_1f468_1f3fb_200d_1f33e.png", "prof_1f468_200d_1f33e"),
        ("prof_1f468_200d_1f33e.png", "prof_1f468_200d_1f33e"),
        ("role_1f46e_1f3ff.png", "role_1f46e"),
        ("avatar_0012.png", "avatar_0012"),
        ("wizard_red_03.png", "wizard_red"),
        ("Ünï.png", "Ünï"),
    ],
)
def test_design_by_file_name(file, design):
    assert design_of(file) == design


def test_own_patterns():
    assert person_of("a/x_7_y.jpg", re.compile(r"x_(\d+)")) == "a_7"
    assert design_of("hat-red.png", re.compile(r"^(\w+)-")) == "hat"
    with pytest.raises(SettingsError, match="group"):
        compile_pattern("abc", "photos.person_pattern")
    with pytest.raises(SettingsError, match="regular expression"):
        compile_pattern("(", "photos.person_pattern")


def test_splits_depend_on_the_name_alone():
    names = [f"p{i}" for i in range(2000)]
    splits = [split_of(name, 0.1, 0.2) for name in names]
    assert 0.17 < splits.count("test") / 2000 < 0.23 and 0.07 < splits.count("val") / 2000 < 0.13
    assert splits[:50] == [split_of(name, 0.1, 0.2) for name in names[:50]]


def test_tied_persons_share_a_split():
    names = pd.Series([f"p{i}" for i in range(60)])
    tied = list(range(60))
    tied[59] = 0
    splits = assign_splits(names, tied, 0.3, 0.3)
    assert splits[59] == splits[0]


def test_held_out_persons_take_those_tied_to_them_along():
    names = pd.Series([f"p{i}" for i in range(60)])
    tied = list(range(60))
    tied[59] = 7
    held = np.arange(60) == 59
    assert [i for i, split in enumerate(assign_splits(names, tied, 0.3, 0.0, held)) if split == "test"] == [7, 59]


def test_near_pairs_and_components():
    assert near_pairs(["0" * 16, "0" * 15 + "3", "f" * 16], 2) == [(0, 1)]
    assert join_groups(5, [(3, 4), (1, 3)]) == [0, 1, 2, 1, 1]


def test_only_the_same_picture_is_a_duplicate():
    draw = np.random.default_rng(0)
    first = draw.integers(0, 255, (8, 8, 3)).astype(np.uint8)
    pictures = [first, first + 1, np.roll(first, 3, 0)]
    table = pd.DataFrame(
        {
            "file": list("abc"),
            "content": list("xyz"),
            "phash": ["0" * 16] * 3,
            "side": [100.0, 200, 50],
            "face": [0] * 3,
        }
    )
    marks = mark_duplicates(table, lambda i: pictures[i])
    assert marks["same_as"].tolist() == [1, -1, -1]  # the larger original stays
    assert marks["near"].tolist() == [0, 0, 0]


def test_balance_evens_out_and_is_bounded():
    table = pd.DataFrame({"ita": [50.0] * 90 + [-40.0] * 10, "yaw": 0.0, "brightness": 100.0})
    assert np.allclose(balance_weights(table, 0, ("ita",)), 1)
    weights = balance_weights(table, 1, ("ita", "yaw", "brightness"))
    assert weights.mean() == pytest.approx(1) and weights[-1] > 4 * weights[0]
    assert weights[90:].sum() / weights.sum() > 0.25
