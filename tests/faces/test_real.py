"""Figures of issue 3 on the photos of ../shared. Minutes long on two cores."""

import csv
from pathlib import Path

import numpy as np
import pytest

from stages.common.images import list_images, read_image
from stages.faces.align import ffhq_quad, move_points, to_aligned
from stages.faces.detect import FaceDetector

pytestmark = pytest.mark.slow


def marked_eyes(photos: Path) -> dict[str, np.ndarray]:
    with (photos / "london_eyes.csv").open() as file:
        rows = list(csv.DictReader(file))
    places = {}
    for row in rows:
        points = [[float(row[f"eye_{k}_x"]), float(row[f"eye_{k}_y"])] for k in "ab"]
        places[row["file"]] = np.array(sorted(points))
    return places


@pytest.mark.parametrize(("detector", "least", "p95"), [("yunet", 0.98, 0.03), ("haar", 0.90, 0.06)])
def test_photos_found_and_eyes_in_place(shared, monkeypatch, detector, least, p95):
    monkeypatch.setenv("STYLEFACTORY_WEIGHTS", str(shared / "weights"))
    photos = shared / "data" / "photos"
    finder, marked, found, errors = FaceDetector(detector), marked_eyes(photos), 0, []
    files = list_images(photos)
    for path in files:
        faces = finder.detect(read_image(path))
        found += bool(faces)
        name = path.relative_to(photos).as_posix()
        if faces and name in marked:
            face = faces[0]
            unit = to_aligned(ffhq_quad(face.eye_l, face.eye_r, face.mouth), 1)
            apart = move_points(unit, marked[name]) - move_points(unit, np.array([face.eye_l, face.eye_r]))
            errors += np.linalg.norm(apart, axis=1).tolist()
    assert found / len(files) >= least
    assert np.percentile(errors, 95) <= p95
