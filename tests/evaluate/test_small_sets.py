"""Sets too small for a test split of their own, and figures of few runs."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from stages.common.dataset import FaceDataset
from stages.common.errors import InputError
from stages.common.images import to_tensor, write_png
from stages.common.runner import StageContext
from stages.evaluate import evaluate, product
from stages.evaluate.subjects import Faces
from stages.evaluate.systems import held_out
from stages.mobile import ablate
from stages.mobile.data import load_training_data
from stages.mobile.export import describe, export_files
from stages.mobile.models import save_mobile
from stages.mobile.network import MobileNet
from tests.conftest import REPO
from tests.evaluate import checkout, synthetic
from tests.mobile.conftest import write_pairs

STYLE = checkout.STYLE


def write_set(folder: Path, faces: Faces, splits: list[str]) -> Path:
    """A dataset of the first faces, one per given split."""
    some = faces.some(np.arange(len(splits)))
    for name, image, mask in zip(some.ids, some.images, some.masks, strict=True):
        write_png(folder / "images" / f"{name}.png", image)
        write_png(folder / "masks" / f"{name}.png", mask)
    some.index.assign(split=splits).to_csv(folder / "index.csv", index=False)
    return folder


@pytest.mark.parametrize(
    ("splits", "chosen", "count"),
    [
        (["test"] * 4 + ["train"] * 2, "test", 4),
        (["test"] * 3 + ["val"] * 4, "val", 4),
        (["test"] * 3 + ["val"] + ["train"] * 2, "all", 6),
        (["train"] * 4, "all", 4),
    ],
)
def test_style_pictures_come_from_the_first_split_that_can_be_measured(
    tmp_path: Path, splits: list[str], chosen: str, count: int
) -> None:
    folder = write_set(tmp_path / "style_faces" / STYLE, synthetic.style_pictures(8), splits)
    found = held_out(folder, checkout.settings(), tmp_path / "cache")
    assert (found.index.attrs["split"], len(found)) == (chosen, count)
    assert set(found.index["split"]) == (set(splits) if chosen == "all" else {chosen})
    shown = FaceDataset(folder, synthetic.SIDE, cache=tmp_path / "cache")  # pictures and rows still belong together
    place = shown.index["id"].tolist().index(found.ids[-1])
    assert np.array_equal(found.images[-1], shown.get(place, "image"))
    data, split = ablate.style_pictures(folder, synthetic.SIDE, tmp_path / "cache")
    assert (split, len(data)) == (chosen, count)


def test_too_few_pictures_in_all_are_one_clear_line(tmp_path: Path) -> None:
    style = write_set(tmp_path / "style_faces" / STYLE, synthetic.style_pictures(4), ["test"] * 3)
    with pytest.raises(InputError, match=r"avatar: 3 usable in all, measuring needs at least 4; add pictures"):
        held_out(style, checkout.settings(), tmp_path / "cache")
    with pytest.raises(InputError, match="at least 4"):
        ablate.style_pictures(style, synthetic.SIDE, tmp_path / "cache")
    photos = write_set(tmp_path / "photos", synthetic.photos(persons=2)[0], ["test"])
    with pytest.raises(InputError, match="1 usable in all, measuring needs at least 2"):
        held_out(photos, checkout.settings(), tmp_path / "cache")


def test_the_smallest_sets_go_through_the_whole_stage(tmp_path: Path) -> None:
    """Three test style pictures and one test photo used to end it with a ValueError, after all training."""
    shipped = REPO / "models" / "shipped"
    if not (shipped / "landmarks.safetensors").is_file() or not (shipped / "encoder.safetensors").is_file():
        pytest.skip("models/shipped has no encoder or landmark network yet")
    shutil.copytree(shipped, tmp_path / "models" / "shipped")
    faces = synthetic.photos(persons=1)[0]
    write_set(tmp_path / "data/photos", faces, ["test", "train"])
    write_set(tmp_path / "data/style_faces" / STYLE, synthetic.style_pictures(4), ["test"] * 3 + ["train"])
    torch.manual_seed(0)
    net, models = MobileNet("xs").eval(), tmp_path / "models" / STYLE
    save_mobile(models / "mobile.safetensors", net, 64, {"style": STYLE})
    limits = {"fp32": 1.0, "fp16": 1.0, "int8": 1.0}
    figures = export_files(net, models, to_tensor(faces.images[:2]), limits, dynamic=True)  # type: ignore[arg-type]
    (models / "mobile.json").write_text(json.dumps(describe(net, {}, STYLE, 64, True, models, figures)))
    report, work = tmp_path / "reports" / STYLE / "evaluate", tmp_path / "work" / STYLE / "evaluate" / "x"
    for folder in (report, work):
        folder.mkdir(parents=True)
    evaluate.main(StageContext("evaluate", STYLE, checkout.settings(), tmp_path, work, report))
    metrics = json.loads((report / "metrics.json").read_text())
    assert metrics["kinds"]["split"] == "photos all, style all"
    assert metrics["n"] == {"photos": 2, "persons": 1, "style": 4}
    assert metrics["verdict"] == "fail"  # two photos judge nobody


def test_one_pair_for_validation_does_not_judge_an_ablation(tmp_path: Path) -> None:
    write_pairs(tmp_path / "pairs", 5)
    write_pairs(tmp_path / "styled", 5)
    data = load_training_data(tmp_path / "pairs", tmp_path / "styled", 32, tmp_path / "cache")
    assert data.validation is not None and len(data.validation) == 1
    assert ablate.held_out(data) is data.pairs
    write_pairs(tmp_path / "more", 10)
    data = load_training_data(tmp_path / "more", tmp_path / "styled", 32, tmp_path / "cache")
    assert ablate.held_out(data) is data.validation


@pytest.mark.parametrize(("runs", "low", "high"), [(20, 6, 15), (100, 40, 61), (5, 1, 5), (1, 1, 1)])
def test_interval_of_the_latency_is_the_medians(
    monkeypatch: pytest.MonkeyPatch, runs: int, low: int, high: int
) -> None:
    """Runs of 1, 2, 3 … ms in any order: the ranks a table of the binomial distribution gives for 95 %."""
    lengths = np.random.default_rng(0).permutation(np.arange(1, runs + 1)) / 1000
    clock = iter([time for length in lengths for time in (0.0, length)])
    monkeypatch.setattr(product, "time", SimpleNamespace(perf_counter=lambda: next(clock)))
    found = product.latency(lambda picture: picture, np.zeros((2, 2, 3), np.uint8), runs)
    assert found.value == pytest.approx((runs + 1) / 2)
    assert (found.low, found.high, found.n) == (pytest.approx(low), pytest.approx(high), runs)
