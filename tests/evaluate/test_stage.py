"""The evaluate stage from files to page: real loaders, real export, drawn people."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from stages.common.atomic import write_json
from stages.common.device import setup
from stages.common.errors import InputError
from stages.common.images import to_tensor, write_png
from stages.common.runner import StageContext
from stages.evaluate import evaluate
from stages.evaluate.subjects import Faces
from stages.evaluate.systems import held_out, load_systems, run_network
from stages.mobile.export import describe, export_files
from stages.mobile.models import save_mobile
from stages.mobile.network import MobileNet
from tests.conftest import REPO
from tests.evaluate import checkout, synthetic

STYLE = checkout.STYLE


def ingest(folder: Path, faces: Faces, extra: Faces) -> None:
    """Writes a dataset as the photos and style_faces stages do: ``faces`` for testing, ``extra`` for training."""
    tables = []
    for split, some in (("test", faces), ("train", extra)):
        for i, name in enumerate(some.ids):
            write_png(folder / "images" / f"{split}-{name}.png", some.images[i])
            write_png(folder / "masks" / f"{split}-{name}.png", some.masks[i])
        tables.append(some.index.assign(split=split, id=[f"{split}-{name}" for name in some.ids]))
    pd.concat(tables).to_csv(folder / "index.csv", index=False)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("stage")
    shipped = REPO / "models" / "shipped"
    if not (shipped / "landmarks.safetensors").is_file() or not (shipped / "encoder.safetensors").is_file():
        pytest.skip("models/shipped has no encoder or landmark network yet")
    shutil.copytree(shipped, root / "models" / "shipped")
    faces, _ = synthetic.photos(persons=6)
    ingest(root / "data/photos", faces, synthetic.photos(persons=4, seed=3000)[0])
    ingest(root / "data/style_faces" / STYLE, synthetic.style_pictures(12), synthetic.style_pictures(8, seed=9000))
    torch.manual_seed(0)
    net = MobileNet("xs").eval()
    models = root / "models" / STYLE
    save_mobile(models / "mobile.safetensors", net, 64, {"style": STYLE})
    limits = {"fp32": 1.0, "fp16": 1.0, "int8": 1.0}
    figures = export_files(net, models, to_tensor(faces.images[:2]), limits, dynamic=True)  # type: ignore[arg-type]
    write_json(models / "mobile.json", describe(net, {}, STYLE, 64, True, models, figures))
    return root


def context(root: Path) -> StageContext:
    report = root / "reports" / STYLE / "evaluate"
    report.mkdir(parents=True, exist_ok=True)
    work = root / "work" / STYLE / "evaluate" / "x"
    work.mkdir(parents=True, exist_ok=True)
    return StageContext("evaluate", STYLE, checkout.settings(), root, work, report)


def test_from_files_to_page(root: Path) -> None:
    evaluate.main(context(root))
    reports = root / "reports" / STYLE
    metrics = json.loads((reports / "evaluate/metrics.json").read_text())
    assert metrics["n"] == {"photos": 12, "persons": 6, "style": 12}
    assert metrics["kinds"]["features"] == "enc"
    assert metrics["kinds"]["split"] == "photos test, style test"
    assert list(metrics["systems"]) == ["photo", "colour", "torch", "mnn", "style"]
    assert metrics["rows"]["parity"]["state"] == "pass"
    assert metrics["rows"]["pictures"]["state"] == "warn"
    assert metrics["systems"]["photo"]["style_gap"]["value"] == pytest.approx(1.0)
    assert "fd_enc" in metrics["systems"]["mnn"]
    assert "fid" not in metrics["systems"]["mnn"]
    assert f"models/{STYLE}/mobile.mnn" in metrics["hashes"]
    for name in ("report.html", "model_card.md", "../index.html"):
        assert (reports / name).stat().st_size > 1000
    hard = pd.read_csv(reports / "evaluate/stress.csv")
    assert hard["condition"].nunique() == 9
    assert hard[["style_gap", "background_psnr", "face_found"]].notna().all(axis=None)
    cached = list((root / "work/cache/features").glob("*.npy"))
    assert len(cached) >= 6

    before = {path: path.stat().st_mtime_ns for path in cached}
    evaluate.main(context(root))
    again = json.loads((reports / "evaluate/metrics.json").read_text())
    same = [name for name in metrics["rows"] if name != "latency_ms"]
    assert [metrics["rows"][n]["value"] for n in same] == [again["rows"][n]["value"] for n in same]
    assert {path: path.stat().st_mtime_ns for path in cached} == before  # features were not computed again


def test_a_missing_product_is_one_clear_line(root: Path, tmp_path: Path) -> None:
    ctx = context(root)
    faces = held_out(root / "data/photos", ctx.settings, tmp_path)
    with pytest.raises(InputError, match="run the 'export' stage"):
        load_systems(tmp_path, STYLE, ctx.settings, ctx.device, faces, faces)
    with pytest.raises(InputError, match="missing"):
        held_out(tmp_path / "nothing", ctx.settings, tmp_path)


def test_a_set_without_a_test_split_says_so(tmp_path: Path) -> None:
    faces = synthetic.style_pictures(5)
    folder = tmp_path / "photos"
    for i, name in enumerate(faces.ids):
        write_png(folder / "images" / f"{name}.png", faces.images[i])
        write_png(folder / "masks" / f"{name}.png", faces.masks[i])
    faces.index.assign(split="train").to_csv(folder / "index.csv", index=False)
    loaded = held_out(folder, checkout.settings(), tmp_path / "cache")
    assert loaded.index.attrs["split"] == "all"
    assert len(loaded) == 5


def test_networks_run_at_their_own_size() -> None:
    seen: list[tuple[int, ...]] = []

    def network(batch: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        seen.append(tuple(batch.shape))
        return -batch, (batch.mean(1, keepdim=True) > 0).float()

    pictures = np.random.default_rng(0).integers(0, 256, (18, 32, 32, 3), dtype=np.uint8)
    results, masks = run_network(network, pictures, 64, setup("cpu", "fp32", 1))
    assert seen == [(16, 3, 64, 64), (2, 3, 64, 64)]
    assert results.shape == pictures.shape
    assert masks is not None
    assert masks.shape == (18, 32, 32)
    flat = np.full((1, 32, 32, 3), 200, np.uint8)
    assert abs(int(run_network(network, flat, 64, setup("cpu", "fp32", 1))[0][0, 5, 5, 0]) - 55) <= 1
