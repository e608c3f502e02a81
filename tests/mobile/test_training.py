"""Training end to end on toy pairs: it learns, resumes exactly, every switch works, stages write their files."""

import itertools
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from pipeline.settings import CommonSettings
from pipeline.settings.mobile import ExportSettings, MobileSettings
from stages.common.device import Device
from stages.common.errors import InputError
from stages.common.images import read_image
from stages.common.runner import StageContext
from stages.mobile import export, train
from stages.mobile.ablate import variants
from stages.mobile.data import TrainingData, load_training_data
from stages.mobile.measures import equivariance, measure
from stages.mobile.models import load_mobile
from stages.mobile.runtime import MobileStylizer
from stages.mobile.trainer import Teachers, Trainer, averaged
from stages.pair.networks import TranslatorConfig, TranslatorGenerator

from .conftest import SIDE, write_pairs

CPU = Device(torch.device("cpu"), torch.float32)
QUICK = {"tier": "xs", "batch": 8, "patch_width": 8, "perceptual": 0.0, "distillation": 0.0}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> TrainingData:
    root = tmp_path_factory.mktemp("data")
    write_pairs(root / "pairs", 40)
    write_pairs(root / "styled", 24)
    return load_training_data(root / "pairs", root / "styled", SIDE, root / "cache")


def trainer(data: TrainingData, teachers: Teachers | None = None, **settings: object) -> Trainer:
    return Trainer(MobileSettings(**(QUICK | settings)), data, teachers or Teachers(), CPU, seed=3)


def test_it_learns_the_drawing_and_keeps_the_background(data: TrainingData, tmp_path: Path) -> None:
    run = trainer(data, kimg=0.9, adversarial=0.0)
    before = measure(averaged(run), data.validation)
    result = run.run(tmp_path, checkpoint_nimg=10_000)
    after = measure(averaged(run), data.validation)
    assert result.nimg == 904 and (tmp_path / "stats.csv").is_file()
    assert after["pixel_error"] < 0.4 * before["pixel_error"]
    assert after["mask_iou"] > 0.6 and after["background_psnr"] > before["background_psnr"] + 5


def test_interrupted_equals_uninterrupted(data: TrainingData, tmp_path: Path) -> None:
    settings = {"kimg": 0.064, "batch": 8}
    whole = trainer(data, **settings)
    whole.run(tmp_path / "a", checkpoint_nimg=32)
    first = trainer(data, **settings)
    steps = itertools.count()
    original = first.step

    def stop(nimg: int) -> dict[str, torch.Tensor]:
        if next(steps) == 6:
            raise KeyboardInterrupt
        return original(nimg)

    first.step = stop  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        first.run(tmp_path / "b", checkpoint_nimg=32)
    second = trainer(data, **settings)
    second.run(tmp_path / "b", checkpoint_nimg=32)
    for name, value in whole.ema.net.state_dict().items():
        assert torch.equal(value, second.ema.net.state_dict()[name]), name


class FakeEmbedder(torch.nn.Module):
    """The mean colours of the four quarters, as unit vectors."""

    name = "quarters"

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.normalize(torch.nn.functional.adaptive_avg_pool2d(images, 2).flatten(1), dim=1)


def test_faces_stay_recognisable_as_their_targets(data: TrainingData) -> None:
    run = trainer(data, Teachers(likeness=FakeEmbedder()), adversarial=0.0, face_identity=4.0)  # type: ignore[arg-type]
    first = run.step(0)["likeness"]
    for nimg in range(8, 320, 8):
        last = run.step(nimg)["likeness"]
    assert last < 0.5 * first
    assert "likeness" not in trainer(data, Teachers(), face_identity=4.0).step(0)


def translator(mask: bool) -> TranslatorGenerator:
    """An untrained stage-2 generator."""
    return TranslatorGenerator(TranslatorConfig(4, 1, mask)).eval().requires_grad_(False)


SWITCHES = ("pixel", "mask", "perceptual", "adversarial", "edge_promoting", "colour", "distillation", "equivariance")


@pytest.mark.parametrize("mask", [True, False])
def test_distillation_leaves_backgrounds_to_the_photo_without_a_mask_branch_too(data: TrainingData, mask: bool) -> None:
    run = trainer(data, Teachers(None, "none", translator(mask)), distillation=1.0, augment=False)
    batch = run._distillation_batch(0)
    assert batch is not None and 0 < float(batch.mask.mean()) < 1
    if not mask:  # the heads of stage 1
        n = len(batch.mask)
        assert torch.equal(batch.mask, data.styled_batch("photo_mask", 0, n, run.seed + 2, torch.device("cpu")))
    torch.testing.assert_close(
        batch.styled[(batch.mask == 0).expand_as(batch.styled)], batch.photo[(batch.mask == 0).expand_as(batch.photo)]
    )


@pytest.mark.parametrize("off", [*SWITCHES, "augment", "none"])
def test_every_loss_can_be_switched_off(data: TrainingData, off: str) -> None:
    def features(images: torch.Tensor) -> list[torch.Tensor]:
        return [torch.nn.functional.avg_pool2d(images, 2)]

    everything = {"perceptual": 1.0, "distillation": 1.0, "total_variation": 0.1}
    change = {} if off == "none" else {off: False if off == "augment" else 0.0}
    run = trainer(data, Teachers(features, "test", translator(True)), **(everything | change))
    losses = run.step(0)
    named = {*SWITCHES, "total_variation", "judge"} - {"edge_promoting"}
    expected = named - {off} - ({"judge"} if off == "adversarial" else set())
    assert set(losses) == expected
    assert all(torch.isfinite(value) for value in losses.values())


def test_steps_depend_on_seed_and_image_number_only(data: TrainingData) -> None:
    runs = [trainer(data) for _ in range(2)]
    results = []
    for run in runs:
        torch.manual_seed(11)
        results.append(run.step(8))
    assert all(torch.equal(results[0][name], results[1][name]) for name in results[0])


def test_stabilising_loss_lowers_flicker(data: TrainingData, tmp_path: Path) -> None:
    photos = torch.nn.functional.interpolate(torch.rand(16, 3, 12, 12) * 2 - 1, (SIDE, SIDE), mode="bilinear")
    figures = []
    for weight in (0.0, 40.0):
        run = trainer(data, kimg=0.24, adversarial=0.0, equivariance=weight)
        run.run(tmp_path / str(weight), checkpoint_nimg=10_000)
        figures.append(equivariance(averaged(run), photos))
    assert figures[1] < figures[0]


def test_ablation_rows_add_one_thing_each() -> None:
    rows = list(variants(MobileSettings()).values())
    for before, after in itertools.pairwise(rows):
        changed = {k for k in MobileSettings.model_fields if getattr(before, k) != getattr(after, k)}
        assert changed in ({"perceptual", "adversarial"}, {"edge_promoting"}, {"augment"}, {"equivariance"})
    assert all(row.distillation == 0 for row in rows)


def test_stages_write_model_report_and_mnn(tmp_path: Path) -> None:
    write_pairs(tmp_path / "data/pairs/toy", 20)
    write_pairs(tmp_path / "data/styled/toy", 20)
    common = CommonSettings(resolution=SIDE, threads=1)
    mobile = MobileSettings(**(QUICK | {"kimg": 0.2}))
    settings = SimpleNamespace(
        common=common, mobile=mobile, export=ExportSettings(inputs=2), item=SimpleNamespace(licence="CC0")
    )
    for name, main in (("mobile", train.main), ("export", export.main)):
        work, report = tmp_path / "work" / name, tmp_path / "reports/toy" / name
        work.mkdir(parents=True)
        report.mkdir(parents=True)
        main(StageContext(name, "toy", settings, tmp_path, work, report))  # type: ignore[arg-type]
    models = tmp_path / "models/toy"
    wanted = {"mobile.safetensors", "mobile.onnx", "mobile.mnn", "mobile.fp16.mnn", "mobile.int8.mnn", "mobile.json"}
    assert {p.name for p in models.iterdir()} == wanted | {"mobile.golden.npz"}
    report = tmp_path / "reports/toy"
    assert (report / "mobile/stats.csv").is_file() and (report / "mobile/summary.json").is_file()
    assert len(list((report / "mobile").glob("grid_*.png"))) >= 2
    assert (report / "export/parity.png").is_file()
    assert load_mobile(models / "mobile.safetensors")[1].meta["licence"] == "CC0"
    stylizer = MobileStylizer(models / "mobile.mnn")
    assert stylizer.sidecar.content["licence"] == "CC0"
    photo = read_image(report / "mobile" / sorted(p.name for p in (report / "mobile").glob("grid_*.png"))[0])
    assert stylizer(np.ascontiguousarray(photo[:SIDE, :SIDE])).shape == (SIDE, SIDE, 3)


def test_missing_pairs_say_which_stage_to_run(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"index\.csv: missing"):
        load_training_data(tmp_path / "pairs", tmp_path / "styled", SIDE, tmp_path / "cache")
