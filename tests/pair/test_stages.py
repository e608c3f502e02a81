"""The stages translate and pair end to end on drawn faces."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from stages.common.dataset import FaceDataset
from stages.common.errors import InputError, ModelFileError, SettingsError, StageError
from stages.common.images import read_image
from stages.common.modelfile import read_header
from stages.pair import pair, translate
from tests.pair.factory import SIDE, STYLE, build, context, write_folder


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A factory whose translator has been trained for a moment."""
    root = build(tmp_path_factory.mktemp("factory"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STYLEFACTORY_WEIGHTS", str(root))
        translate.main(context(root, "translate"))
    return root


@pytest.fixture
def factory(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("STYLEFACTORY_WEIGHTS", str(tmp_path))
    shutil.copytree(trained, tmp_path / "f")
    return tmp_path / "f"


def test_translate_leaves_model_curves_grids_and_figures(trained: Path) -> None:
    header = read_header(trained / "models" / STYLE / "translator.safetensors")
    assert header["kind"] == "translator" and header["meta"]["settings"]["kimg"] == 0.024
    report = trained / "reports" / STYLE / "translate"
    figures = json.loads((report / "summary.json").read_text())
    assert figures["likeness_net"] == "none" and figures["peak_memory_mb"] < 3000
    assert {"background_psnr", "mask_iou", "photos_per_second"} <= set(figures)
    columns = pd.read_csv(report / "stats.csv").columns
    ways = {
        f"{name}{way}" for name in ("gan", "cycle", "mask", "background", "identity", "cam") for way in ("", "_back")
    }
    assert {"nimg", "pairs", "pairs_back", "d_style", "d_photo"} | ways <= set(columns), "a curve per loss, both ways"
    grids = sorted(report.glob("grid_*.png"))
    assert len(grids) == 3  # start, 12 and 24 images
    sheet = read_image(grids[-1])
    assert sheet.shape[0] == 6 * (SIDE + 2) + 2, "photo, mask, attention, content, result, way back"


def test_pairs_keep_the_photos_background_exactly(factory: Path) -> None:
    limits = {"min_mask_iou": 0.0, "max_seam": 255.0, "max_artefact": 1.0, "max_landmark_shift": 1.0, "min_score": 0.0}
    pair.main(context(factory, "pair", pair=limits))
    folder = factory / "data/pairs" / STYLE
    made = FaceDataset(folder, SIDE, fields=("photo", "styled", "mask"), cache=factory / "cache")
    photos = FaceDataset(factory / "data/photos", SIDE, cache=factory / "cache")
    assert made.index["photo_id"].tolist() == photos.index["id"].tolist()
    assert made.index["split"].tolist() == photos.index["split"].tolist()
    for i in range(len(made)):
        photo, styled, mask = (made.get(i, field) for field in ("photo", "styled", "mask"))
        np.testing.assert_array_equal(photo, photos.get(i, "image"))
        far = np.ones_like(mask, bool)
        ys, xs = np.nonzero(mask >= 127)
        if len(ys):
            far[max(0, ys.min() - 4) : ys.max() + 5, max(0, xs.min() - 4) : xs.max() + 5] = False
        np.testing.assert_array_equal(styled[far], photo[far])
    for name in ("best.png", "worst.png", "rejected.csv"):
        assert (folder / name).is_file()


def test_rejections_name_reason_and_score_and_curation_overrules(factory: Path) -> None:
    curation = factory / "data/curation" / f"{STYLE}.csv"
    curation.parent.mkdir(parents=True)
    curation.write_text("id,decision,reason\npair_0003,keep,fine\npair_0004,keep,\n")
    pair.main(context(factory, "pair", pair={"min_mask_iou": 1.0}))
    folder = factory / "data/pairs" / STYLE
    assert set(pd.read_csv(folder / "index.csv")["id"]) == {"pair_0003", "pair_0004"}
    rejected = pd.read_csv(folder / "rejected.csv")
    assert set(rejected["reason"]) == {"mask_off"} and rejected["detail"].str.contains("mask_iou .*, limit 1").all()
    summary = json.loads((factory / "reports" / STYLE / "pair" / "summary.json").read_text())
    assert summary["rejected"] == {"mask_off": 18} and summary["curated"] == 2


def test_all_rejected_is_one_clear_error(factory: Path) -> None:
    with pytest.raises(StageError, match=r"all 20 pairs were rejected \(mask_off 20\); look at .*worst.png") as error:
        pair.main(context(factory, "pair", pair={"min_mask_iou": 1.0}))
    assert Path(str(error.value).rsplit(" ", 1)[1]).is_file()
    assert not (factory / "data/pairs" / STYLE).exists()


def test_pairs_straight_from_latents(factory: Path) -> None:
    (factory / "models" / STYLE / "translator.safetensors").unlink()
    limits = {"max_seam": 255.0, "max_artefact": 1.0, "min_score": 0.0, "max_landmark_shift": 1.0}
    pair.main(context(factory, "pair", pair={"origin": "latents", **limits}))
    index = pd.read_csv(factory / "data/pairs" / STYLE / "index.csv")
    assert len(index) == 12 and index["mask_iou"].eq(1).all()


def test_a_killed_pairing_continues_with_its_finished_shards(factory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    limits = {"min_mask_iou": 0.0, "max_seam": 255.0, "max_artefact": 1.0, "max_landmark_shift": 1.0, "min_score": 0.0}
    ctx = context(factory, "pair", pair=limits)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(pair, "judge", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt()))
        pair.main(ctx)
    monkeypatch.setattr(pair, "make_shard", lambda job: pytest.fail("finished shards must not be made again"))
    pair.main(ctx)
    assert len(pd.read_csv(factory / "data/pairs" / STYLE / "index.csv")) == 20


def test_a_pairing_resumed_with_other_cores_gives_every_photo_its_own_result(
    factory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits = {"min_mask_iou": 0.0, "max_seam": 255.0, "max_artefact": 1.0, "max_landmark_shift": 1.0, "min_score": 0.0}
    ctx, published = context(factory, "pair", pair=limits), factory / "data/pairs" / STYLE
    pair.main(ctx)
    straight = [FaceDataset(published, SIDE, fields=("styled",)).get(i, "styled") for i in range(20)]
    shutil.rmtree(ctx.work)
    ctx.work.mkdir()
    cut = pair.judge
    for threads in (3, 2):  # shards of 7, then of 10
        monkeypatch.setattr(pair.torch, "get_num_threads", lambda threads=threads: threads)
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(pair, "judge", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt()))
            pair.main(ctx)
    assert pair.judge is cut and len(list(ctx.work.glob("made_*.mask.npy"))) == 5
    pair.main(ctx)
    resumed = FaceDataset(published, SIDE, fields=("styled",))
    for i in range(20):
        np.testing.assert_array_equal(resumed.get(i, "styled"), straight[i])


def test_missing_and_small_inputs_are_named(factory: Path) -> None:
    shutil.rmtree(factory / "data/style_faces" / STYLE)
    with pytest.raises(InputError, match=r"style_faces/toy/index\.csv: missing"):
        translate.main(context(factory, "translate"))
    write_folder(factory / "data/style_faces" / STYLE, 6, styled=True)
    with pytest.raises(InputError, match="style faces to train on, at least 8"):
        translate.main(context(factory, "translate"))
    (factory / "models" / STYLE / "translator.safetensors").write_bytes(b"broken")
    with pytest.raises(ModelFileError, match="translator"):
        pair.main(context(factory, "pair"))


@pytest.mark.parametrize(("batch", "world"), [(4, 3), (4, 4), (6, 4)])
def test_a_batch_that_does_not_divide_among_processes_is_refused(factory: Path, batch: int, world: int) -> None:
    """Rounded per process, the losses of every fourth step would weigh more and the average be longer."""
    ctx = context(factory, "translate", translate={"batch": batch})
    vars(ctx)["device"] = replace(ctx.device, world=world)
    with pytest.raises(SettingsError, match=f"translate.batch: {batch} does not divide among {world} processes"):
        translate.train_translator(ctx, ctx.settings.translate, ctx.work)


def test_latent_pairs_are_measured_against_the_photos_own_eyes(factory: Path) -> None:
    index = factory / "data/styled" / STYLE / "index.csv"
    table = pd.read_csv(index)
    for name in pair.EYES:
        table[name], table[f"photo_{name}"] = 1.0, 16.0
    np.testing.assert_allclose(pair._eyes(table, SIDE), 16.0 / SIDE)
