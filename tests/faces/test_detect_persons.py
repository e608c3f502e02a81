"""Which detector is taken, what happens without one, and who is joined by face recognition."""

import shutil

import cv2
import numpy as np
import pandas as pd
import pytest
import torch

from stages.common.errors import InputError
from stages.common.images import list_images, read_image
from stages.faces import detect, haar, persons, photos
from stages.faces.cache import PictureCache
from stages.faces.sample import Sample
from tests.faces.helpers import settings_with


def test_without_any_detector_it_says_what_to_add(monkeypatch):
    monkeypatch.setattr(detect, "find", lambda *_: None)
    assert detect.FaceDetector().name == "haar"
    with pytest.raises(InputError, match=r"face_detection_yunet\.onnx is not in models/external"):
        detect.FaceDetector("yunet")
    monkeypatch.setattr(haar, "cascades_available", lambda: False)
    with pytest.raises(InputError, match=r"no face detector: put face_detection_yunet\.onnx into models/external"):
        detect.FaceDetector()


def test_detectors_agree_on_where_eyes_are(shared, monkeypatch):
    monkeypatch.setenv("STYLEFACTORY_WEIGHTS", str(shared / "weights"))
    picture = read_image(list_images(shared / "data/photos/london")[0])
    assert detect.FaceDetector().name == "yunet"
    found = [detect.FaceDetector(name).detect(picture)[0] for name in ("yunet", "haar")]
    apart = np.linalg.norm(np.array(found[0].eye_l) - np.array(found[1].eye_l))
    assert apart < 0.2 * np.linalg.norm(np.array(found[0].eye_r) - np.array(found[0].eye_l))


def entry(cache: PictureCache, name: str, shade: int) -> dict[str, object]:
    """A cached face of one grey; returns its row."""
    picture = np.full((8, 8, 3), shade, np.uint8)
    cache.write(name, {}, [Sample(picture, picture[..., 0], {})])
    return {"file": f"{name}.png", "key": name, "face": 0}


class ByShade(torch.nn.Module):
    """An embedder: faces of one shade are one person. Counts what it was asked."""

    asked = 0

    def forward(self, faces: torch.Tensor) -> torch.Tensor:
        ByShade.asked += len(faces)
        place = ((faces.mean(dim=(1, 2, 3)) + 1) * 20).round().long()
        return torch.nn.functional.one_hot(place, persons.DIMENSIONS).float()


def test_names_of_one_face_are_joined_and_faces_are_read_once(tmp_path, monkeypatch):
    weights = tmp_path / "net.onnx"
    weights.write_bytes(b"x")
    monkeypatch.setattr(persons, "find", lambda *_: weights)
    monkeypatch.setattr("stages.common.embedder.load_embedder", lambda _root: ByShade())
    cache = PictureCache(tmp_path / "cache")
    shades = {"anna": 50, "bert": 150, "holiday": 50, "party": 150, "cleo": 220}
    table = pd.DataFrame([entry(cache, name, shade) for name, shade in shades.items()])
    joined = persons.join_by_face(table, list(shades), cache, tmp_path)
    assert joined == ["anna", "bert", "anna", "bert", "cleo"]
    assert persons.join_by_face(table, list(shades), cache, tmp_path) == joined
    assert ByShade.asked == len(shades)

    lost = pd.DataFrame([{"file": "x.png", "key": "0" * 40, "face": 0}])
    assert persons.join_by_face(pd.concat([table, lost]), [*shades, "x"], cache, tmp_path) == [*joined, "x"]


def test_further_faces_of_a_file_are_other_persons():
    table = pd.DataFrame({"file": ["a/anna-03.png", "a/anna-03.png", "a/anna-04.png", "x.png"], "face": [0, 1, 0, 2]})
    assert persons.persons_by_name(table, None) == ["a_anna", "a_anna-03#2", "a_anna", "x#3"]


def test_without_the_file_names_decide(tmp_path, monkeypatch):
    monkeypatch.setattr(persons, "find", lambda *_: None)
    table = pd.DataFrame({"file": ["a.png", "b.png"]})
    assert persons.join_by_face(table, ["a", "b"], PictureCache(tmp_path), tmp_path) == ["a", "b"]


def test_renamed_photos_of_one_person_stay_in_one_split(shared, tmp_path, monkeypatch):
    monkeypatch.setenv("STYLEFACTORY_WEIGHTS", str(shared / "weights"))
    folder = tmp_path / "in"
    folder.mkdir()
    pairs = {}
    for number in ("001", "002", "003", "004", "005", "006"):
        for take, path in enumerate(sorted((shared / "data/photos/london").glob(f"*_front_{number}_*"))[:2]):
            name = f"upload{number}{'xy'[take]}.jpg"
            shutil.copy(path, folder / name)
            pairs.setdefault(number, []).append(name)
    assert all(cv2.imread(str(folder / name)) is not None for names in pairs.values() for name in names)
    table, _, _, _ = photos.prepare(folder, settings_with(64), tmp_path)
    person = table.set_index("file")["person"]
    full = [names for names in pairs.values() if len(names) == 2]
    assert len(full) >= 3
    assert all(person[a] == person[b] for a, b in full)
    assert person.nunique() == len(pairs)
