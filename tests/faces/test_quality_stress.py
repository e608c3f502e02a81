import math

import cv2
import numpy as np
import pandas as pd
import pytest

from stages.common.masks import mask_iou
from stages.faces import quality
from stages.faces.backgrounds import background, composite, replace_background
from stages.faces.check import variety_notes
from stages.faces.detect import Face
from stages.faces.distribution import distribution, tone_shares
from stages.faces.select import Limits, balance_weights, measure_reasons
from stages.faces.stress import stress
from tests.faces.helpers import draw_head, on_colour

FULL = np.full((64, 64), 255, np.uint8)


def test_sharpness_is_the_mean_magnitude_inside_the_mask():
    checker = (np.indices((64, 64)).sum(0) % 2 * 100).astype(np.uint8)[..., None].repeat(3, 2)
    # |4 * centre - 4 neighbours| = 4 * 100 at every inner pixel
    assert quality.sharpness(checker, FULL) == pytest.approx(400, rel=0.02)
    assert quality.sharpness(cv2.GaussianBlur(checker, (0, 0), 2), FULL) < 5
    assert quality.sharpness(checker, np.zeros_like(FULL)) == 0


def test_brightness_counts_the_head_only():
    picture = np.zeros((64, 64, 3), np.uint8)
    picture[:32] = 200
    mask = np.zeros((64, 64), np.uint8)
    mask[:32] = 255
    assert quality.brightness(picture, mask) == pytest.approx(200)


@pytest.mark.parametrize(
    ("colour", "low", "high"), [((240, 210, 190), 45, 90), ((190, 140, 105), 10, 45), ((75, 50, 40), -90, -20)]
)
def test_typology_angle_orders_skin(colour, low, high):
    picture = np.full((64, 64, 3), colour, np.uint8)
    assert low < quality.typology_angle(picture, FULL, (24, 30), (40, 30), (32, 47)) < high
    assert math.isnan(quality.typology_angle(picture, FULL * 0, (24, 30), (40, 30), None))


def test_yaw_follows_the_nose():
    def face(nose):
        return Face((0, 0, 9, 9), (24, 30), (40, 30), (32, 47), 1.0, nose)

    assert quality.yaw(face((32, 38))) == 0
    assert quality.yaw(face((36, 38))) == pytest.approx(24.4, abs=0.5) and quality.yaw(face((28, 38))) < 0
    assert math.isnan(quality.yaw(face(None)))


def test_mouth_open_sees_teeth_and_cavity():
    closed = np.full((64, 64, 3), (220, 170, 140), np.uint8)
    wide = closed.copy()
    wide[45:50, 27:38] = (40, 10, 10)
    eyes = (24.0, 30.0), (40.0, 30.0)
    assert quality.mouth_open(closed, *eyes, (32, 47)) < 0.05 < 0.15 < quality.mouth_open(wide, *eyes, (32, 47))
    assert math.isnan(quality.mouth_open(closed, *eyes, None))


def test_hash_survives_jpeg_and_tells_pictures_apart():
    first = on_colour(draw_head(0, 64)[0])
    _, data = cv2.imencode(".jpg", first, [cv2.IMWRITE_JPEG_QUALITY, 60])
    again = cv2.imdecode(data, cv2.IMREAD_COLOR)
    other = on_colour(draw_head(4, 64, (6, 3))[0], (20, 60, 30))

    def bits(a, b):
        return bin(int(quality.perceptual_hash(a), 16) ^ int(quality.perceptual_hash(b), 16)).count("1")

    assert bits(first, again) <= 4 < bits(first, other)


@pytest.mark.parametrize("kind", ["mixed", "plain", "keep"])
def test_backgrounds_are_seeded_and_varied(kind):
    pictures = [background(kind, 32, np.random.default_rng(i)) for i in range(24)]
    assert all(p.shape == (32, 32, 3) and p.dtype == np.uint8 for p in pictures)
    assert np.array_equal(pictures[3], background(kind, 32, np.random.default_rng(3)))
    means = np.array([p.mean((0, 1)) for p in pictures])
    assert (means == 255).all() if kind == "keep" else means.std(0).min() > 25


def test_compositing_and_replacing():
    rgba, _ = draw_head(2, 64)
    behind = np.full((64, 64, 3), (0, 255, 0), np.uint8)
    result = composite(rgba, behind)
    assert (result[rgba[..., 3] == 0] == behind[0, 0]).all() and (
        result[rgba[..., 3] == 255] == rgba[rgba[..., 3] == 255][:, :3]
    ).all()
    photo = on_colour(rgba)
    assert np.array_equal(replace_background(photo, FULL, behind), photo)


def test_distribution_and_notes():
    names = ("roll", "sharpness", "brightness", "mouth_open", "mask_area", "side")
    table = pd.DataFrame({name: [0.1, 0.2, 0.3] for name in names})
    table["yaw"], table["ita"] = np.nan, [60.0, 58, 61]
    described = distribution(table)
    assert described["tones"]["very_light"] == 1 and "yaw" not in described and described["roll"]["n"] == 3
    assert described["not_measured"] == ["yaw"] and "turned_15_degrees" not in described
    assert sum(tone_shares(pd.Series([-50.0, 0, 20, 30, 50, 60])).values()) == pytest.approx(1, abs=0.001)
    notes = variety_notes(described, "photos")
    assert any("Skin tones" in note for note in notes) and any("equally bright" in note for note in notes)
    assert any("not measured" in note for note in notes) and not any("Hardly any turned" in note for note in notes)
    table["yaw"] = [np.nan, 3.0, -20.0]
    described = distribution(table)
    assert described["not_measured"] == [] and described["yaw"]["n"] == 2 and described["turned_15_degrees"] == 0.5
    assert not any("not measured" in note for note in variety_notes(described, "photos"))


def test_unmeasured_yaw_breaks_no_limit_and_has_a_weight():
    table = pd.DataFrame({"side": [99.0] * 3, "brightness": 99.0, "sharpness": 9.0, "roll": 0.0, "ita": 50.0})
    table["yaw"] = [np.nan, 10.0, -70.0]
    reasons = measure_reasons(table, Limits(64, 0.75, 1.0, 45, 50))
    assert reasons["reason"].tolist() == ["", "", "profile"]
    for yaw in (table["yaw"], np.nan):
        weights = balance_weights(table.assign(yaw=yaw), 1.0, ("yaw", "brightness", "ita"))
        assert np.isfinite(weights).all() and weights.mean() == pytest.approx(1)


def test_stress_moves_landmarks_and_masks_along():
    rgba, marks = draw_head(5, 240)
    photo, mask = on_colour(rgba), rgba[..., 3]
    versions = {v.name: v for v in stress(photo, marks["eye_l"], marks["eye_r"], mask, seed=1, name="x")}
    assert set(versions) == {"roll", "yaw", "dim", "backlit", "blur", "occluder", "jpeg", "busy"}
    eyes = np.array([marks["eye_l"], marks["eye_r"]], float)
    for name, version in versions.items():
        assert version.image.shape == photo.shape and version.image.dtype == np.uint8 and version.parameters
        moved = version.points(eyes)
        if name in ("roll", "yaw"):
            assert not np.allclose(moved, eyes)
            # the moved pupils are dark in the moved picture
            for x, y in moved:
                assert version.image[int(y) - 1 : int(y) + 2, int(x) - 1 : int(x) + 2].mean() < 90
            # where the moved mask says head there is no wall colour
            inside = version.mask(mask) >= 250
            wall = np.abs(version.image.astype(int) - (120, 140, 190)).sum(2) < 12
            assert (wall & inside).sum() < 0.03 * inside.sum()
        else:
            assert np.array_equal(moved, eyes) and mask_iou(version.mask(mask), mask) == 1
    assert 10 <= abs(versions["roll"].parameters["degrees"]) <= 30
    again = stress(photo, marks["eye_l"], marks["eye_r"], mask, seed=1, name="x")
    assert all(np.array_equal(v.image, versions[v.name].image) for v in again)
    assert versions["dim"].image.mean() < 0.5 * photo.mean()
    assert "busy" not in {v.name for v in stress(photo, marks["eye_l"], marks["eye_r"])}
