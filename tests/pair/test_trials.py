"""The variants' table and the identity sweep on drawn faces."""

import json
from pathlib import Path

import pandas as pd
import pytest

from stages.common.errors import SettingsError
from stages.common.images import read_image
from stages.pair import sweep_identity, trials, variants
from tests.conftest import REPO
from tests.pair.factory import SIDE, STYLE, build, context


@pytest.fixture
def factory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("STYLEFACTORY_WEIGHTS", str(tmp_path))
    (tmp_path / "models").mkdir()
    (tmp_path / "models/shipped").symlink_to(REPO / "models/shipped")
    return build(tmp_path)


def test_variants_share_budget_and_yardstick_and_resume(factory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = {name: variants.VARIANTS[name] for name in ("plain", "both", "latents_only")}
    table = trials.run_trials(context(factory, "variants"), chosen, 0.012, "variants", "variants")
    assert table["trial"].tolist() == list(chosen) and table["kimg"].eq(0.012).all()
    assert table["style_gap"].notna().all() and table["measured_with"].eq("kid_enc").all()
    assert pd.isna(table["mask_iou"][0]) and table["mask_iou"][1] >= 0
    out = factory / "reports" / STYLE / "variants"
    assert read_image(out / "pictures.png").shape[0] == 4 * (SIDE + 2) + 2
    assert json.loads((out / "summary.json").read_text())["rows"] == ["photo", *chosen]
    assert pd.read_csv(out / "table.csv")["style_gap"].tolist() == table["style_gap"].tolist()
    steps = []
    monkeypatch.setattr("stages.pair.training.Trainer.step", lambda *_: steps.append(1))
    again = trials.run_trials(context(factory, "variants"), chosen, 0.012, "variants", "variants")
    assert not steps, "finished trials are not trained again"
    pd.testing.assert_frame_equal(again, table)


def test_sweep_draws_a_curve(factory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweep_identity, "FACTORS", {"style": 0.5, "likeness": 2.0})
    sweep_identity.work(context(factory, "sweep_identity"), 0.008)
    out = factory / "reports" / STYLE / "sweep_identity"
    assert read_image(out / "curve.png").shape == (360 + 2 * 18, 520, 3)
    table = pd.read_csv(out / "table.csv")
    assert len(table) == 2
    base = context(factory, "sweep_identity").settings.translate.model_dump()
    wanted = sweep_identity.settings_for(2.0, base)
    assert dict(table.iloc[1][list(wanted)]) == wanted, "the values to copy"


def test_a_weight_beyond_its_limit_is_one_line(factory: Path) -> None:
    with pytest.raises(SettingsError, match=r"sweep: wild: translate\.cycle: 2000\.0"):
        trials.run_trials(context(factory, "sweep"), {"wild": {"cycle": 2000.0}}, 0.008, "sweep", "sweep")


def test_knobs_move_against_each_other() -> None:
    base = {"cycle": 10.0, "identity": 8.0, "face_identity": 1.0, "gan": 1.0}
    more = sweep_identity.settings_for(4.0, base)
    assert more == {"cycle": 40.0, "identity": 32.0, "face_identity": 4.0, "gan": 0.5}


@pytest.mark.parametrize("arguments", [["--style", "nobody"], ["--style", STYLE, "--kimg", "-1"]])
def test_wrong_use_is_one_line(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        variants.main([*arguments, "--params", str(REPO / "params.yaml")])
    assert stop.value.code in (1, 2) and len(capsys.readouterr().err.strip().splitlines()) == 1
