"""Scores and limits of the pairs' filter."""

import numpy as np
import pandas as pd
import torch

from pipeline.settings import PairSettings
from stages.faces.detect import Face
from stages.pair.filters import artefacts, judge, score_pairs

SIDE = 32


class EyesAt:
    """A detector that sees eyes where it is told, or nothing."""

    def __init__(self, *found: tuple[float, float] | None) -> None:
        self.found = list(found)

    def detect(self, rgb: np.ndarray) -> list[Face]:
        assert rgb.dtype == np.uint8 and rgb.shape == (SIDE, SIDE, 3)
        place = self.found.pop(0)
        if place is None:
            return []
        x, y = place
        return [Face((0, 0, SIDE, SIDE), (x, y), (x + 8, y), None, 0.9)]


def _table(**columns: list[float]) -> pd.DataFrame:
    rows = len(next(iter(columns.values())))
    names = ("mask_iou", "face_score", "landmark_shift", "identity", "seam", "artefact")
    return pd.DataFrame({name: columns.get(name, [np.nan] * rows) for name in names})


def test_scores_of_an_untouched_photo_and_of_a_moved_face() -> None:
    photos = torch.rand(2, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0)) * 0.2
    head = torch.zeros(2, 1, SIDE, SIDE)
    head[..., 8:24, 8:24] = 1
    eyes = np.array([[12, 14, 20, 14]] * 2) / SIDE
    detector = EyesAt((12, 14), (12, 17.2))
    scores = score_pairs(photos, photos, head, head, eyes, detector, None)  # type: ignore[arg-type]
    np.testing.assert_allclose(scores["landmark_shift"], [0, 0.1], atol=1e-6)
    np.testing.assert_allclose(scores["mask_iou"], 1)
    np.testing.assert_allclose(scores["seam"], 0, atol=1e-4)
    assert (scores["artefact"] == 0).all() and np.isnan(scores["identity"]).all()
    assert scores["quality"][0] > scores["quality"][1]


def test_a_lost_face_scores_zero() -> None:
    photos, head = torch.zeros(1, 3, SIDE, SIDE), torch.ones(1, 1, SIDE, SIDE)
    scores = score_pairs(photos, photos, head, head, np.full((1, 4), np.nan), EyesAt(None), None)  # type: ignore[arg-type]
    assert scores["face_score"][0] == 0 and np.isnan(scores["landmark_shift"][0])


def test_artefacts_count_specks_and_clipping_that_the_photo_has_not() -> None:
    photo, mask = torch.zeros(1, 3, SIDE, SIDE), torch.ones(1, 1, SIDE, SIDE)
    speck = photo.clone()
    speck[..., 10, 10] = 0.9
    white = photo.clone()
    white[..., :16, :] = 1.0
    assert artefacts(photo, speck, mask)[0] == 1 / SIDE**2
    assert artefacts(speck, speck, mask)[0] == 0
    assert artefacts(photo, white, mask)[0] >= 0.5


def test_the_first_failed_check_is_the_reason() -> None:
    table = _table(mask_iou=[0.9, 0.2, 0.9], face_score=[0.9, 0.1, 0.9], landmark_shift=[0.01, 0.01, 0.2])
    verdict, notes = judge(table, PairSettings())
    assert verdict["reason"].tolist() == ["", "mask_off", "face_moved"]
    assert verdict["detail"][2] == "landmark_shift 0.2, limit 0.06"
    assert any("identity_lost: not checked" in note for note in notes)


def test_a_detector_that_does_not_know_the_style_is_left_out() -> None:
    table = _table(mask_iou=[0.9] * 4, face_score=[0.0, 0.0, 0.9, 0.0], landmark_shift=[0.5] * 4)
    verdict, notes = judge(table, PairSettings())
    assert verdict["reason"].eq("").all()
    assert any("finds only 25%" in note for note in notes)


def test_a_lost_person_is_rejected_where_recognition_knows_the_style() -> None:
    known, notes = judge(_table(identity=[0.4, -0.05, 0.3, 0.02]), PairSettings())
    assert known["reason"].tolist() == ["", "identity_lost", "", ""]
    assert known["detail"][1] == "identity -0.05, limit 0" and not [note for note in notes if "identity" in note]
    unknown, notes = judge(_table(identity=[0.05, -0.05, 0.1, 0.02]), PairSettings())
    assert (unknown["reason"] == "").all()
    assert "identity_lost: not checked, the recogniser hardly knows anybody in this style" in notes
