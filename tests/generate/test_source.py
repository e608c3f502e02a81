"""Stage source: weights taken over, photos trained on, errors that say what to do."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from pipeline.settings.common import CommonSettings
from pipeline.settings.generate import SourceSettings
from stages.common.errors import InputError, ModelFileError
from stages.common.images import read_image, to_uint8, write_png
from stages.common.runner import StageContext
from stages.generate import source, training_photos
from stages.generate.encoder import load_encoder
from stages.generate.models import load_stylegan, save_stylegan
from stages.generate.near_copies import load_hashes, near_copies
from stages.generate.training_photos import load_training_photos
from tests.generate.conftest import tiny_models

REPO = Path(__file__).resolve().parents[2]
QUICK = {
    "kimg": 0.032,
    "batch": 8,
    "z_dim": 8,
    "w_dim": 8,
    "channel_base": 128,
    "channel_max": 8,
    "encoder": {"kimg": 0.016, "batch": 8},
}


def context(root: Path, resolution: int = 32, **values: object) -> StageContext:
    settings = SimpleNamespace(
        source=SourceSettings(**values),  # type: ignore[arg-type]
        common=CommonSettings(resolution=resolution, threads=1, precision="fp32"),
        item=None,
    )
    work, report = root / "work" / "source", root / "reports" / "source"
    for folder in (work, report):
        folder.mkdir(parents=True, exist_ok=True)
    return StageContext("source", "", settings, root, work, report)  # type: ignore[arg-type]


def write_photos(folder: Path, count: int, side: int = 32) -> None:
    rng = np.random.default_rng(0)
    for i in range(count):
        write_png(folder / f"{i:02d}.png", rng.integers(0, 256, (side, side, 3), dtype=np.uint8))


def test_shipped_weights_are_taken_over(project: Path) -> None:
    shipped = project / "models" / "shipped"
    for name in (source.SOURCE, source.ENCODER):
        (shipped / name).write_bytes((project / "models" / "source" / name).read_bytes())
        (project / "models" / "source" / name).unlink()
    source.main(context(project))
    G, D, _ = load_stylegan(project / "models/source/source.safetensors")
    wanted, _ = tiny_models(0)
    assert D is not None and all((G.state_dict()[n] == v).all() for n, v in wanted.state_dict().items())
    assert load_encoder(project / "models/source/encoder.safetensors").config.resolution == 32
    assert (project / "reports/source/samples.png").is_file()


def test_a_trained_source_and_its_encoder(tmp_path: Path) -> None:
    write_photos(tmp_path / "photos", 18)
    (tmp_path / "held.csv").write_text("file,person\n00.png,a\n")
    source.main(context(tmp_path, input="photos", exclude="held.csv", licence="mine", **QUICK))
    G, D, file = load_stylegan(tmp_path / "models/source/source.safetensors")
    assert D is not None and G.arch.channel_base == 128
    assert (file.meta["photos"], file.meta["licence"], file.meta["kimg"]) == (17, "mine", 0.032)
    load_encoder(tmp_path / "models/source/encoder.safetensors")
    assert (tmp_path / "reports/source/stats.csv").read_text().startswith("nimg,")


def test_training_continues_from_a_model(tmp_path: Path) -> None:
    write_photos(tmp_path / "photos", 16)
    G, D = tiny_models(0)
    save_stylegan(tmp_path / "start.safetensors", G, D, {})
    source.main(context(tmp_path, input="photos", start="start.safetensors", **QUICK))
    _, _, file = load_stylegan(tmp_path / "models/source/source.safetensors")
    assert file.config["channel_base"] == 512 and len(file.meta["parent"]) == 64


def test_what_cannot_be_a_source(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        source.main(context(tmp_path, input="nowhere"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"neither source\.safetensors nor photos"):
        source.main(context(tmp_path, input="empty"))
    G, D = tiny_models(0)
    save_stylegan(tmp_path / "g.safetensors", G, None, {})
    with pytest.raises(InputError, match="no discriminator"):
        source.main(context(tmp_path, input="g.safetensors"))
    save_stylegan(tmp_path / "gd.safetensors", G, D, {})
    with pytest.raises(InputError, match=r"a 32 px model, but common.resolution is 64"):
        source.main(context(tmp_path, 64, input="gd.safetensors"))
    (tmp_path / "x.pkl").write_bytes(b"junk")
    with pytest.raises(ModelFileError, match=r"x\.pkl"):
        source.main(context(tmp_path, input="x.pkl"))


def test_photos_are_aligned_excluded_and_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "photos"
    write_photos(folder, 20)
    write_photos(folder / "large", 2, side=100)
    (folder / "broken.png").write_bytes(b"no picture")

    class Detector:
        def detect(self, rgb: np.ndarray) -> list[SimpleNamespace]:
            face = SimpleNamespace(box=(20, 20, 60, 60), eye_l=(35, 45), eye_r=(65, 45), mouth=(50, 75))
            return [face] if rgb.mean() < 127.5 else []

    monkeypatch.setattr(training_photos, "FaceDetector", Detector)
    (tmp_path / "held.csv").write_text("file\n00.png\n01.png\n")
    monkeypatch.setattr(training_photos, "SHARD", 9)
    monkeypatch.setattr(training_photos, "map_shards", lambda fn, jobs, *_: [fn(job) for job in jobs])  # no processes
    work = tmp_path / "work"
    work.mkdir()
    images, used = load_training_photos(folder, 32, tmp_path / "held.csv", work)
    assert [path.name for path in work.glob("*.npy")] == ["photos.npy"]
    monkeypatch.setattr(training_photos, "align_shard", None)  # a second start, or torchrun's other processes
    again, same = load_training_photos(folder, 32, tmp_path / "held.csv", work, rank=1)
    assert same == used and torch.equal(again, images)
    position = used.index("02.png")
    assert np.array_equal(images[position].permute(1, 2, 0).numpy(), read_image(folder / "02.png"))
    assert images.shape[1:] == (3, 32, 32) and len(images) == len(used)
    assert "00.png" not in used and "02.png" in used and 18 <= len(used) <= 20


def test_too_few_photos_and_useless_lists(tmp_path: Path) -> None:
    write_photos(tmp_path / "photos", 5)
    with pytest.raises(InputError, match="5 usable photos of 5; training needs at least 16"):
        load_training_photos(tmp_path / "photos", 32, None, tmp_path)
    (tmp_path / "held.csv").write_text("file\nother.png\n")
    with pytest.raises(InputError, match="names no photo"):
        load_training_photos(tmp_path / "photos", 32, tmp_path / "held.csv", tmp_path)
    (tmp_path / "bad.csv").write_text("name\nx\n")
    with pytest.raises(InputError, match="column file is missing"):
        load_training_photos(tmp_path / "photos", 32, tmp_path / "bad.csv", tmp_path)


@pytest.mark.parametrize(("folder", "side"), [("models/shipped", 64), ("models/shipped/128", 128)])
def test_shipped_sources_make_faces_their_encoders_find_again(folder: str, side: int) -> None:
    generator, discriminator, file = load_stylegan(REPO / folder / "source.safetensors")
    encoder = load_encoder(REPO / folder / "encoder.safetensors")
    assert generator.arch.resolution == side and discriminator is not None and file.meta["licence"]
    with torch.no_grad():
        z = torch.randn(8, generator.arch.z_dim, generator=torch.Generator().manual_seed(0))
        faces = generator(z, 0.7, "const").clamp(-1, 1)
        again = generator.synthesis(encoder(faces), "const").clamp(-1, 1)
    assert (faces - again).square().mean() < 0.3 * (faces - faces.mean(0)).square().mean()
    hashes = load_hashes(REPO / folder)
    assert len(hashes) > 1000 and not near_copies(to_uint8(faces), hashes).any()
