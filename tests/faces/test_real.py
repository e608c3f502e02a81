"""Figures of issue 3 on the photos of ../shared. Minutes long on two cores."""

import csv
import shutil
from pathlib import Path

import numpy as np
import pytest

from stages.common.images import decode_image, list_images, read_image
from stages.common.masks import head_mask, mask_iou
from stages.faces.align import ffhq_quad, move_points, to_aligned
from stages.faces.cache import PictureCache
from stages.faces.detect import FaceDetector
from stages.faces.drawn import locate_drawn
from stages.faces.ingest import CACHE, ingest, make_options
from stages.faces.photos import prepare
from tests.faces.helpers import settings_with

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


def test_held_out_people_stay_out_in_place_and_copied(shared, tmp_path, monkeypatch):
    """The same split from the folder itself and from where 'stylefactory photos' copies it."""
    monkeypatch.setenv("STYLEFACTORY_WEIGHTS", str(shared / "weights"))
    folder = shared / "data/photos"
    shutil.copytree(folder, tmp_path / "raw/photos")
    settings = settings_with(64, photos={"holdout": str(folder / "heldout.csv")})
    splits = []
    for place in (folder, tmp_path / "raw"):
        table, _, _, _ = prepare(place, settings, tmp_path)
        test = table[table["split"] == "test"]
        assert (len(table), len(test), test["person"].nunique()) == (663, 159, 136)
        splits.append(table["split"].tolist())
    assert splits[0] == splits[1]


@pytest.mark.parametrize("style", ["fluent3d", "noto"])
def test_style_sets_are_placed_and_masked_without_alpha(shared, tmp_path, monkeypatch, style):
    """At least 85 % of a style's heads and busts get a place, and GrabCut finds the head that alpha tells."""
    monkeypatch.setenv("STYLEFACTORY_WEIGHTS", "")
    folder = shared / "data" / "styles" / style
    files = [p for p in list_images(folder) if style == "noto" or p.name.startswith(("base", "role", "prof"))]
    assert len(files) > 300
    options = make_options(64, True, "set", "haar", tmp_path)
    rows = ingest(files, folder, options, tmp_path, locate_drawn(files, folder, options, tmp_path))
    placed = [row for row in rows if "samples" in row]
    assert len(placed) / len(files) >= 0.85
    cache, overlaps = PictureCache(tmp_path / CACHE), []
    for row in placed[::3]:
        record = row["samples"][0]
        image, mask = (decode_image(cache.picture(row["key"], f"{kind}_0") or b"", kind) for kind in ("image", "mask"))
        eye_l, eye_r, mouth = ((record[f"{p}_x"], record[f"{p}_y"]) for p in ("eye_l", "eye_r", "mouth"))
        guessed = head_mask(image, eye_l, eye_r, mouth if np.isfinite(mouth).all() else None)
        overlaps.append(mask_iou(guessed, mask[..., 0]))
    assert np.mean(overlaps) >= 0.85
