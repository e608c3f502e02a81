"""Which models contain a picture: by name, and by what is in it."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from stages.common.atomic import write_text
from stages.common.images import write_png
from stages.evaluate import lineage
from stages.generate.near_copies import save_hashes
from tests.evaluate import synthetic


@pytest.fixture
def root(tmp_path: Path) -> Path:
    from stages.faces.quality import perceptual_hash

    rows = []
    for number, split in ((1, "train"), (2, "test")):
        picture, _, _ = synthetic.draw(synthetic.Person.make(number), number, cartoon=False)
        write_png(tmp_path / f"upload_{number}.png", cv2.resize(picture, (128, 128), interpolation=cv2.INTER_CUBIC))
        rows.append(f"f{number},IMG_{number}.jpg,{split},{perceptual_hash(picture)}")
    write_text(tmp_path / "data/photos/index.csv", "id,file,split,phash\n" + "\n".join(rows) + "\n")
    write_text(
        tmp_path / "data/style_faces/cel/index.csv", "id,file,split,phash\ns1,cel/a.png,train,00ff00ff00ff00ff\n"
    )
    write_text(tmp_path / "data/pairs/cel/index.csv", "id,photo_id,split\n000001,f1,train\n000002,f2,val\n")
    write_text(tmp_path / "data/styled/cel/index.csv", "id,kind,photo_id\n000007,inverted,f1\n")
    for name in (
        "transferred.safetensors",
        "fused.safetensors",
        "translator.safetensors",
        "mobile.safetensors",
        "mobile.mnn",
    ):
        write_text(tmp_path / "models/cel" / name, name)
    return tmp_path


def trained(traces: list[lineage.Trace]) -> set[str]:
    return {Path(trace.what).name for trace in traces if trace.trained}


def test_a_renamed_training_photo_is_found_by_content(root: Path) -> None:
    assert trained(lineage.contains(root, root / "upload_1.png")) == {
        "translator.safetensors",
        "mobile.safetensors",
        "mobile.mnn",
    }


def test_a_test_photo_was_never_trained_on(root: Path) -> None:
    traces = lineage.contains(root, root / "upload_2.png")
    assert {trace.how for trace in traces} >= {"ingested, split test"}
    assert not trained(traces)


def test_a_style_picture_is_in_every_model_of_its_style(root: Path) -> None:
    write_png(root / "a.png", np.zeros((64, 64, 3), np.uint8))
    assert "transferred.safetensors" in trained(lineage.contains(root, root / "a.png"))


def test_an_unknown_picture_is_nowhere(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    noise = np.random.default_rng(3).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    write_png(root / "other.png", noise)
    monkeypatch.chdir(root)
    assert lineage.main(["--contains", "other.png"]) == 0
    assert "in no dataset" in capsys.readouterr().out
    assert lineage.main(["--contains", "missing.png"]) == 3
    assert "missing.png" in capsys.readouterr().err


def test_a_photo_the_source_was_trained_on_is_found_in_the_source(root: Path) -> None:
    """No dataset knows it any more: only the hashes beside the source do, of the photo and of its mirror image."""
    photo, _, _ = synthetic.draw(synthetic.Person.make(77), 77, cartoon=False)
    other, _, _ = synthetic.draw(synthetic.Person.make(78), 78, cartoon=False)
    (root / "models/source").mkdir()
    save_hashes(root / "models/source", photo[None])
    for name, picture in (("mine", photo), ("mirrored", photo[:, ::-1]), ("other", other)):
        write_png(root / f"{name}.png", cv2.resize(picture, (128, 128), interpolation=cv2.INTER_CUBIC))
    for name in ("mine", "mirrored"):
        (trace,) = lineage.contains(root, root / f"{name}.png")
        assert (trace.what, trace.trained) == ("models/source/source.safetensors", True)
    assert lineage.contains(root, root / "other.png") == []


def test_what_cannot_be_told_of_the_source_is_not_denied(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    noise = np.random.default_rng(3).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    write_png(root / "other.png", noise)
    monkeypatch.chdir(root)
    monkeypatch.setenv("STYLEFACTORY_WEIGHTS", "")
    monkeypatch.setenv("TORCH_HOME", str(root))
    write_text(root / "models/source/source.safetensors", "weights")
    assert lineage.main(["--contains", "other.png"]) == 0
    told = capsys.readouterr().out
    assert "no training_photos.npy" in told and "or model" not in told
    save_hashes(root / "models/source", noise[None, ::-1])
    lineage.main(["--contains", "other.png"])
    assert "face_detection_yunet.onnx" in capsys.readouterr().out
    monkeypatch.setattr(lineage, "find", lambda _name, _root: root)
    lineage.main(["--contains", "other.png"])
    assert "in no dataset or model" in capsys.readouterr().out


def test_hashes_change_with_content(root: Path) -> None:
    before = lineage.hashes(root, "cel")
    assert "models/cel/mobile.mnn" in before
    write_text(root / "models/cel/mobile.mnn", "other")
    after = lineage.hashes(root, "cel")
    assert [k for k in before if before[k] != after[k]] == ["models/cel/mobile.mnn"]
