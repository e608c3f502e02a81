"""Deliberately bad models must fail the verdict, each on the right row; the good one must not."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest

from pipeline.settings import EvaluateSettings
from stages.common.distances import Estimate
from stages.evaluate import baselines, hard, product
from stages.evaluate.assess import Assessment, assess
from stages.evaluate.measure import _expression, ruler
from stages.evaluate.subjects import Faces, Pictures, masked
from stages.evaluate.verdict import fold, judge, overall
from tests.evaluate import synthetic

SETTINGS = EvaluateSettings()
Spoil = Callable[[Faces, Pictures], Pictures]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> tuple[Faces, Pictures, Faces, Path]:
    faces, targets = synthetic.photos()
    return faces, targets, synthetic.style_pictures(), tmp_path_factory.mktemp("features")


def run(world: tuple[Faces, Pictures, Faces, Path], images: Pictures, shift_db: float = 35.0) -> Assessment:
    faces, _, real, cache = world
    systems = [baselines.photo(faces), baselines.colour_transfer(faces, real), synthetic.product(faces, images)]
    shipped = {"equivariance": shift_db, "parity": 0.01, "size_kb": 900.0, "latency_ms": 8.0}
    estimates = {name: Estimate(value, value, value, 1) for name, value in shipped.items()}
    return assess(systems, real, estimates, synthetic.tools(cache), SETTINGS)


def states(result: Assessment) -> dict[str, str]:
    return {row.metric: row.state for row in result.rows}


def blurred(faces: Faces, targets: Pictures) -> Pictures:
    return np.stack([cv2.GaussianBlur(t, (0, 0), 3.0) for t in targets])


def noisy(faces: Faces, targets: Pictures) -> Pictures:
    noise = np.random.default_rng(0).normal(0, 60, targets.shape)
    return np.clip(targets + noise * (faces.masks[..., None] > 127), 0, 255).astype(np.uint8)


def collapsed(faces: Faces, targets: Pictures) -> Pictures:
    return np.repeat(targets[:1], len(targets), axis=0)


def background_destroying(faces: Faces, targets: Pictures) -> Pictures:
    return np.where(faces.masks[..., None] > 127, targets, 255 - targets)


def identity_swapped(faces: Faces, targets: Pictures) -> Pictures:
    other = np.roll(targets, len(targets) // 2, axis=0)
    share = faces.masks[..., None] / 255
    return np.round(other * share + faces.images * (1 - share)).astype(np.uint8)


def untouched(faces: Faces, targets: Pictures) -> Pictures:
    return faces.images


def faceless(faces: Faces, targets: Pictures) -> Pictures:
    return masked(np.full_like(targets, 200), faces.masks)


def test_the_good_model_passes_every_row_of_quality(world: tuple[Faces, Pictures, Faces, Path]) -> None:
    result = run(world, world[1])
    bad = {row.metric: row.reason for row in result.rows if row.state != "pass" and not row.metric.startswith("gap_")}
    assert not bad
    photo = result.figures["photo"]
    assert photo["style_gap"].value == pytest.approx(1.0)
    assert result.figures["mnn"]["style_gap"].value < result.figures["colour"]["style_gap"].value < 1


@pytest.mark.parametrize(
    ("spoil", "row"),
    [
        (blurred, "sharpness"),
        (noisy, "sharpness"),
        (collapsed, "diversity"),
        (background_destroying, "background_psnr"),
        (identity_swapped, "identity"),
        (identity_swapped, "recognised"),
        (untouched, "style_gap"),
        (faceless, "face_lost"),
    ],
)
def test_bad_models_fail_on_the_right_row(world: tuple[Faces, Pictures, Faces, Path], spoil: Spoil, row: str) -> None:
    result = run(world, spoil(world[0], world[1]))
    assert states(result)[row] == "fail"
    assert result.verdict == "fail"


def test_untouched_photo_keeps_everything_else(world: tuple[Faces, Pictures, Faces, Path]) -> None:
    found = states(run(world, world[0].images))
    for row in ("identity", "background_psnr", "background_ssim", "diversity", "pose", "face_lost"):
        assert found[row] == "pass"


def test_recognition_needs_another_photo_and_an_embedder(world: tuple[Faces, Pictures, Faces, Path]) -> None:
    assert states(run(world, world[0].images))["recognised"] == "pass"
    alone = world[0].some(np.arange(0, len(world[0]), 2))  # one photo of everybody: to find that very one says little
    result = run((alone, *world[1:]), world[1][::2])
    assert "recognised" not in states(result) and np.isnan(result.figures["photo"]["recognised"].value)
    assert np.isfinite(result.figures["photo"]["identity"].value)
    faces, targets, real, cache = world
    blind = replace(synthetic.tools(cache), embed=None)
    systems = [baselines.photo(faces), synthetic.product(faces, targets)]
    assert "recognised" not in states(assess(systems, real, {}, blind, SETTINGS))


def test_expression_is_a_correlation_of_mouths() -> None:
    smiles = np.linspace(0.0, 0.3, 20)
    kept = _expression(pd.DataFrame({"mouth_photo": smiles, "mouth_result": 0.5 * smiles + 0.1}))
    assert kept.value == pytest.approx(1.0)
    frozen = _expression(pd.DataFrame({"mouth_photo": smiles, "mouth_result": 0.1}))
    assert np.isnan(frozen.value)
    few = _expression(pd.DataFrame({"mouth_photo": [0.1, np.nan], "mouth_result": [0.1, 0.2]}))
    assert (np.isnan(few.value), few.n) == (True, 1)


def test_flicker_is_measured_and_fails(world: tuple[Faces, Pictures, Faces, Path]) -> None:
    faces = world[0].some(np.arange(4))
    steady = product.equivariance(lambda picture: 255 - picture, faces)
    assert (steady > 50).all()
    grid = (np.indices((64, 64))[0] % 3 * 40).astype(np.uint8)[..., None]
    jumping = product.equivariance(lambda picture: picture // 2 + grid, faces)
    assert jumping.mean() < 60
    found = states(run(world, world[1], shift_db=15.0))
    assert found["equivariance"] == "fail"


def test_judging_one_row() -> None:
    def psnr(value: float, low: float = 31) -> str:
        return judge("background_psnr", Estimate(value, low, value + 1, 9), SETTINGS).state

    assert [psnr(35), psnr(26, 25), psnr(20, 19)] == ["pass", "warn", "fail"]
    assert psnr(35, low=20) == "warn"  # the interval reaches into failing
    nothing = judge("parity", Estimate(float("nan"), float("nan"), float("nan"), 0), SETTINGS, "no file")
    assert (nothing.state, nothing.reason) == ("unknown", "no file")
    assert overall([nothing]) == "unknown"
    good = judge("size_kb", Estimate(500, 500, 500, 1), SETTINGS)
    assert overall([nothing, good]) == "warn"
    assert overall([good]) == "pass"
    half = fold(Estimate(0.5, 0.4, 0.625, 9))
    assert (half.value, half.low, half.high) == (2.0, 1.6, 2.5)
    assert fold(Estimate(1.1, 0.9, 1.3, 9)).low == 1.0


def test_the_stress_set_says_what_breaks(world: tuple[Faces, Pictures, Faces, Path]) -> None:
    faces, targets, real, cache = world
    tools = synthetic.tools(cache)
    some = faces.some(np.arange(8))
    conditions = hard.hard_faces(some, seed=0)
    names = {"as is", "roll", "yaw", "dim", "backlit", "blur", "occluder", "jpeg", "busy"}
    assert set(conditions) == names
    again = hard.hard_faces(some, seed=0)
    assert all((conditions[name].images == again[name].images).all() for name in names)
    spoiled = hard.together(conditions)
    # styles untouched photos perfectly and gives every spoiled one back as it came
    images = np.concatenate([targets[:8], spoiled.images[8:]])
    table = hard.hard_table(conditions, [synthetic.product(spoiled, images)], ruler(real, tools), tools)
    table = table.set_index("condition")
    assert table.loc["as is", "style_gap"] < 0.3 < table.loc["jpeg", "style_gap"]
    assert table.loc["as is", "face_found"] == 1
    assert table.loc["dim", "background_psnr"] == 60  # compared with the spoiled photo, not with the clean one
    assert hard.hard_sheet(conditions, synthetic.product(spoiled, images)).shape[1] >= 9 * 64


def test_latency_and_size(tmp_path: Path) -> None:
    quick = product.latency(lambda picture: picture, np.zeros((8, 8, 3), np.uint8), 5)
    assert quick.n == 5
    assert quick.value < 50
    (tmp_path / "x").write_bytes(b"1" * 2500)
    assert product.size_kb(tmp_path / "x").value == 2.5


def test_without_an_embedder_identity_warns_at_most(world: tuple[Faces, Pictures, Faces, Path]) -> None:
    faces, targets, real, cache = world
    strict = SETTINGS.model_copy(update={"limit_identity": [2.0, 1.5]})  # nothing can reach it
    systems, measured = [baselines.photo(faces), synthetic.product(faces, targets)], synthetic.tools(cache)
    for tools, state in ((measured, "fail"), (replace(measured, embed=None, embed_name="landmark geometry"), "warn")):
        row = next(row for row in assess(systems, real, {}, tools, strict).rows if row.metric == "identity")
        assert row.state == state and ("landmark geometry" in row.reason) == (state == "warn")


def test_landmark_identity_is_judged_on_its_own_scale(world: tuple[Faces, Pictures, Faces, Path]) -> None:
    """Recoloured photos show the same faces: what geometry loses on them is the instrument's, not the style's."""
    faces, targets, real, cache = world
    systems = [baselines.photo(faces), baselines.colour_transfer(faces, real), synthetic.product(faces, targets)]
    tools = replace(synthetic.tools(cache), embed=None, embed_name="landmark geometry")
    result = assess(systems, real, {}, tools, SETTINGS)
    row = next(row for row in result.rows if row.metric == "identity")
    best = result.figures["colour"]["identity"].value
    wanted = [0.5 + (best - 0.5) / 0.5 * (limit - 0.5) for limit in SETTINGS.limit_identity]
    assert 0.5 < best <= 1 and row.limits == pytest.approx(wanted, abs=1e-3)
    assert judge("identity", Estimate(0.7, 0.6, 0.8, 50), SETTINGS, limits=(0.72, 0.61)).state == "warn"
    assert judge("identity", Estimate(0.75, 0.65, 0.8, 50), SETTINGS, limits=(0.72, 0.61)).state == "pass"
