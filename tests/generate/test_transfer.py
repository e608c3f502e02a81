"""Stage transfer on a tiny project: outputs, choice of the snapshot, resuming, errors."""

import json
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest

from pipeline.settings.common import CommonSettings
from pipeline.settings.generate import TransferSettings
from stages.common.errors import InputError, SettingsError
from stages.common.runner import StageContext
from stages.generate import transfer
from stages.generate.models import load_stylegan, save_stylegan
from stages.generate.train import RealBatch
from stages.generate.transfer import picture_weights, style_batches, style_pictures
from tests.generate.conftest import tiny_encoder, tiny_models

QUICK = {"kimg": 0.064, "batch": 8, "snapshots": 2, "min_diversity": 0.0}


def context(root: Path, **values: object) -> StageContext:
    settings = SimpleNamespace(
        transfer=TransferSettings(**{**QUICK, **values}),  # type: ignore[arg-type]
        common=CommonSettings(resolution=32, threads=1, precision="fp32"),
        evaluate=SimpleNamespace(fid_weights=""),
        item=SimpleNamespace(licence="test licence"),
    )
    work, report = root / "work/toon/transfer", root / "reports/toon/transfer"
    for folder in (work, report):
        folder.mkdir(parents=True, exist_ok=True)
    return StageContext("transfer", "toon", settings, root, work, report)  # type: ignore[arg-type]


@pytest.fixture
def four_validation_pictures(project: Path) -> Path:
    index = project / "data/style_faces/toon/index.csv"
    table = pd.read_csv(index)
    table["split"] = ["train"] * 8 + ["val"] * 4
    table.to_csv(index, index=False)
    return project


def test_a_transfer_publishes_its_best_snapshot(four_validation_pictures: Path) -> None:
    root = four_validation_pictures
    transfer.main(context(root))
    G, D, file = load_stylegan(root / "models/toon/transferred.safetensors")
    snapshots = sorted(path.stem for path in (root / "models/toon/snapshots").glob("*.safetensors"))
    assert snapshots == ["000000048", "000000064"], "only the second half competes"
    assert D is not None and f"{file.meta['nimg']:09d}" in snapshots and file.meta["licence"] == "test licence"
    source, _ = tiny_models(0)
    assert all((G.mapping.state_dict()[n] == v).all() for n, v in source.mapping.state_dict().items())
    assert (G.synthesis.b8.conv0.weight != source.synthesis.b8.conv0.weight).any()
    summary = json.loads((root / "reports/toon/transfer/summary.json").read_text())
    assert summary["chosen_nimg"] == file.meta["nimg"] and len(summary["candidates"]) == 2
    assert "val pictures" in summary["measured_on"]
    assert (root / "reports/toon/transfer/grid_transfer.png").is_file()


def test_as_many_candidates_as_asked_for_where_the_batch_does_not_divide_the_middle(
    four_validation_pictures: Path,
) -> None:
    root = four_validation_pictures
    transfer.main(context(root, kimg=0.07, batch=16))
    summary = json.loads((root / "reports/toon/transfer/summary.json").read_text())
    assert [candidate["nimg"] for candidate in summary["candidates"]] == [64, 80]


def test_too_few_validation_pictures_are_said(project: Path) -> None:
    transfer.main(context(project, snapshots=1))
    summary = json.loads((project / "reports/toon/transfer/summary.json").read_text())
    assert "8 train pictures" in summary["measured_on"]


def test_errors_say_what_to_do(project: Path) -> None:
    with pytest.raises(SettingsError, match="no 64 px layers"):
        transfer.main(context(project, lr_by_resolution={64: 0.5}))
    with pytest.raises(SettingsError, match="constraint_resolutions: the source has none"):
        transfer.main(context(project, activation_weight=1.0, constraint_resolutions=[64]))
    with pytest.raises(SettingsError, match="freeze_d 50 freezes all"):
        transfer.main(context(project, freeze_d=50))
    G, _ = tiny_models(0)
    save_stylegan(project / "models/source/source.safetensors", G, None, {})
    with pytest.raises(InputError, match="no discriminator"):
        transfer.main(context(project))


def test_sampling_weights_are_used(project: Path) -> None:
    index = project / "data/style_faces/toon/index.csv"
    table = pd.read_csv(index)
    table["weight"] = [1.0] + [0.0] * (len(table) - 1)
    table.to_csv(index, index=False)
    source, encoder = tiny_models(0)[0], tiny_encoder()
    pictures = style_pictures(project / "data/style_faces/toon", 32, project)

    def batches(**values: object) -> RealBatch:
        settings = TransferSettings(match_tone=0, match_heads=0, **values)  # type: ignore[arg-type]
        return style_batches(pictures, picture_weights(pictures, settings, source, encoder, 0), 0)

    images = batches()(0, 6)
    assert len(pictures) == 8 and (images == images[:1]).all()
    plain = batches(use_weights=False)
    assert (plain(0, 8)[0] != plain(0, 8)[1]).any()


def test_pictures_unlike_the_source_are_drawn_less(project: Path) -> None:
    source, encoder = tiny_models(0)[0], tiny_encoder()
    pictures = style_pictures(project / "data/style_faces/toon", 32, project)
    weights = picture_weights(pictures, TransferSettings(), source, encoder, 0)
    assert weights is not None and weights.mean() == pytest.approx(1) and weights.max() > 1.1 * weights.min()
    assert picture_weights(pictures, TransferSettings(match_tone=0, match_heads=0), source, encoder, 0) is None


def test_too_few_pictures(project: Path) -> None:
    index = project / "data/style_faces/toon/index.csv"
    table = pd.read_csv(index)
    table["split"] = ["train"] * 7 + ["test"] * 5
    table.to_csv(index, index=False)
    with pytest.raises(InputError, match="7 training pictures; transfer needs at least 8"):
        style_pictures(project / "data/style_faces/toon", 32, project)


def test_settings_are_checked() -> None:
    with pytest.raises(ValueError, match="multiple of 4"):
        TransferSettings(batch=6)
    with pytest.raises(ValueError, match="is not a resolution"):
        TransferSettings(lr_by_resolution={12: 1.0})
