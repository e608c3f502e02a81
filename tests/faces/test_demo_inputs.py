"""demo_inputs: complete folders, true landmarks, deterministic samples, clear errors."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from pipeline.settings import Settings
from pipeline.settings.render import render
from stages.common.errors import InputError, ModelFileError
from stages.common.images import list_images, read_image
from stages.common.runner import StageContext
from stages.faces.avatars import draw_avatar
from stages.faces.demo_inputs import STYLE, draw_avatars, main, sample_photos
from stages.generate.models import save_stylegan
from stages.generate.networks import Architecture, Discriminator, Generator

ARCH = Architecture(resolution=32, z_dim=16, w_dim=16, mapping_layers=2, channel_base=256, channel_max=16)


def write_source(path: Path, with_discriminator: bool = True) -> None:
    torch.manual_seed(0)
    discriminator = Discriminator(ARCH) if with_discriminator else None
    save_stylegan(path, Generator(ARCH), discriminator, {"licence": "none"})


def test_stage_publishes_photos_avatars_masks_and_landmarks(tmp_path: Path) -> None:
    (tmp_path / "models/source").mkdir(parents=True)
    write_source(tmp_path / "models/source/source.safetensors")
    old = tmp_path / "data/demo/styles/avatar/old.png"
    old.parent.mkdir(parents=True)
    old.write_bytes(b"left over")
    settings = Settings.model_validate(render({"demo_inputs": {"photos": 20, "avatars": 20, "avatar_size": 64}}))
    work, report = tmp_path / "work", tmp_path / "reports"
    work.mkdir()
    report.mkdir()
    main(StageContext("demo_inputs", "", settings, tmp_path, work, report))
    demo = tmp_path / "data/demo"
    assert not old.exists()
    assert len(list_images(demo / "photos")) == 20
    pictures = list_images(demo / "styles" / STYLE)
    masks = list_images(demo / "masks" / STYLE)
    assert [p.name for p in pictures] == [p.name for p in masks] == [f"avatar_{i:04d}.png" for i in range(20)]
    table = pd.read_csv(demo / "styles" / STYLE / "landmarks.csv")
    assert list(table.file) == [p.name for p in pictures]
    avatar = draw_avatar(settings.common.seed, 7, 64)
    row = table.iloc[7]
    assert (row.eye_l_x, row.eye_l_y, row.mouth_y) == pytest.approx((*avatar.eye_l, avatar.mouth[1]), abs=0.01)
    assert np.array_equal(read_image(pictures[7], alpha="keep"), avatar.image)
    assert np.array_equal(read_image(masks[7])[..., 0], avatar.mask)


def test_photos_are_the_same_for_the_same_seed_and_the_best_by_the_discriminator(tmp_path: Path) -> None:
    source = tmp_path / "source.safetensors"
    write_source(source)
    for name, rejected, seed in (("a", 0.5, 1), ("b", 0.5, 1), ("all", 0.0, 1), ("other", 0.5, 2)):
        sample_photos(source, tmp_path / name, 12 if rejected else 24, 0.8, rejected, seed)
    pictures = {n: [read_image(p) for p in list_images(tmp_path / n)] for n in ("a", "b", "all", "other")}
    assert np.array_equal(pictures["a"], pictures["b"])
    assert not np.array_equal(pictures["a"], pictures["other"])
    every = {p.tobytes() for p in pictures["all"]}
    assert len(every) == 24
    assert {p.tobytes() for p in pictures["a"]} < every


def test_missing_source_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="nothing_here"):
        sample_photos(tmp_path / "nothing_here.safetensors", tmp_path, 20, 0.8, 0.0, 0)


def test_rejecting_without_a_discriminator_says_what_to_set(tmp_path: Path) -> None:
    source = tmp_path / "source.safetensors"
    write_source(source, with_discriminator=False)
    with pytest.raises(InputError, match=r"demo_inputs\.rejected"):
        sample_photos(source, tmp_path, 20, 0.8, 0.2, 0)
    sample_photos(source, tmp_path / "photos", 20, 0.8, 0.0, 0)
    assert len(list_images(tmp_path / "photos")) == 20


def test_avatars_do_not_depend_on_how_many_are_drawn(tmp_path: Path) -> None:
    draw_avatars(tmp_path / "few", 3, 64, 0)
    draw_avatars(tmp_path / "more", 5, 64, 0)
    few, more = (list_images(tmp_path / n / "styles" / STYLE) for n in ("few", "more"))
    assert [p.read_bytes() for p in few] == [p.read_bytes() for p in more[:3]]
