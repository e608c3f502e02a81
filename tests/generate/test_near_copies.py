"""Samples close to a training photo are dropped wherever samples are made."""

from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest

from stages.common.errors import InputError
from stages.common.images import list_images, read_image
from stages.faces.demo_inputs import sample_photos
from stages.generate.near_copies import FILE, load_hashes, near_copies, save_hashes
from tests.generate.test_generate import run


def pictures(count: int, seed: int) -> np.ndarray:
    """Smooth random pictures, uint8 [N, 64, 64, 3]: as different as faces are, or more."""
    coarse = np.random.default_rng(seed).integers(0, 256, (count, 9, 9, 3)).astype(np.uint8)
    return np.stack([cv2.resize(picture, (64, 64), interpolation=cv2.INTER_CUBIC) for picture in coarse])


def test_copies_mirrored_noisy_or_compressed_are_found_and_others_not(tmp_path: Path) -> None:
    photos = pictures(40, 0)
    assert not near_copies(photos, load_hashes(tmp_path)).any()
    save_hashes(tmp_path, photos)
    known = load_hashes(tmp_path)
    assert len(known) == 80
    noise = np.random.default_rng(1).normal(0, 4, photos.shape)
    noisy = np.clip(photos + noise, 0, 255).astype(np.uint8)
    assert near_copies(noisy, known).mean() > 0.9
    assert near_copies(noisy[:, :, ::-1], known).mean() > 0.9
    packed = [cv2.imdecode(cv2.imencode(".jpg", picture)[1], cv2.IMREAD_COLOR) for picture in photos]
    assert near_copies(np.stack(packed), known).mean() > 0.9
    assert near_copies(pictures(200, 2), known).mean() < 0.05


@pytest.mark.parametrize("damage", [b"", b"no numpy file", "cut", "other"])
def test_a_damaged_file_is_named_not_taken_for_none(tmp_path: Path, damage: bytes | str) -> None:
    save_hashes(tmp_path, pictures(4, 0))
    file = tmp_path / FILE
    if damage == "other":
        np.save(file, np.zeros((2, 2)))
    else:
        file.write_bytes(damage if isinstance(damage, bytes) else file.read_bytes()[:-5])
    with pytest.raises(InputError, match=f"{FILE}: .*get it again"):
        load_hashes(tmp_path)


def test_production_drops_a_sample_the_source_has_seen(project: Path) -> None:
    before = run(project)
    victim = before[before["kind"] == "sampled"]["id"].iloc[2]
    rows = before.reset_index()
    from stages.common.dataset import FaceDataset

    data = FaceDataset(project / "data/styled/toon", 32, fields=("photo",), cache=project / "cache")
    copied = data.get(int(rows.index[rows["id"] == victim][0]), "photo")
    save_hashes(project / "models/source", copied[None])
    after = run(project, shard_size=4)  # other shards, so that none is taken from the run before
    assert victim not in set(after["id"])
    rejected = pd.read_csv(project / "data/styled/toon/rejected.csv", dtype={"id": str})
    assert rejected.loc[rejected["id"] == victim, "reason"].tolist() == ["near_a_training_photo"]


def test_the_demos_photos_are_no_copies(project: Path, tmp_path: Path) -> None:
    source = project / "models/source/source.safetensors"
    sample_photos(source, tmp_path / "before", 20, 1.0, 0.2, seed=0)
    seen = read_image(list_images(tmp_path / "before")[4])
    save_hashes(source.parent, seen[None])
    sample_photos(source, tmp_path / "after", 20, 1.0, 0.2, seed=0)
    remaining = np.stack([read_image(path) for path in list_images(tmp_path / "after")])
    assert len(remaining) <= 20
    assert not (remaining == seen).all(axis=(1, 2, 3)).any()
    assert not near_copies(remaining, load_hashes(source.parent)).any()
