"""What a step sees: inverted pairs start from the photo itself."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from pipeline.settings import TranslateSettings
from stages.common.device import Device
from stages.common.images import read_image
from stages.pair.augment import smooth_edges
from stages.pair.data import Feed
from tests.pair import factory


def _feed(root: Path, **changes: float) -> Feed:
    settings = TranslateSettings(**(factory.TINY | {"light": 0.0} | changes))
    folders = (root / "data" / name for name in ("photos", f"style_faces/{factory.STYLE}", f"styled/{factory.STYLE}"))
    return Feed(settings, factory.SIDE, 0, Device(torch.device("cpu"), torch.float32), *folders, root / "cache")


def test_inverted_pairs_show_the_photo_and_its_mask(tmp_path: Path) -> None:
    root = factory.build(tmp_path)
    index = root / "data/styled" / factory.STYLE / "index.csv"
    table = pd.read_csv(index)
    table["photo_id"] = [f"{i:04d}" if i in (1, 2) else "" for i in range(len(table))]
    table.loc[3, "photo_id"] = "0005"  # a test photo: never shown
    table.to_csv(index, index=False)
    feed = _feed(root)
    pairs = feed.pairs
    assert pairs is not None
    rows = np.arange(4)
    taken = {field: pairs.take(rows, field) for field in ("photo", "photo_mask")} | {"index": torch.arange(4)}
    images, masks = feed._inputs(taken, 4)
    photo = torch.from_numpy(read_image(root / "data/photos/images/0001.png")).permute(2, 0, 1) / 127.5 - 1
    assert torch.allclose(images[1], photo, atol=1e-6)
    mask = torch.from_numpy(read_image(root / "data/photos/masks/0001.png")[..., 0]) / 255
    assert torch.allclose(masks[1, 0], mask, atol=1e-6)
    for kept in (0, 3):
        assert torch.allclose(images[kept], pairs.take([kept], "photo")[0] / 127.5 - 1, atol=1e-6)


def test_pairs_are_compared_where_both_are_head(tmp_path: Path) -> None:
    batch = _feed(factory.build(tmp_path)).batch(0)
    assert len(batch.pair_photo) == len(batch.pair_drawn) == factory.TINY["batch"]  # the warm start sees pairs alone
    assert (batch.pair_drawn <= batch.pair_mask).all() and batch.pair_drawn.max() == 1
    # what lies under a drawn chin is the drawing's collar or background, and no answer for the photo's chin
    assert batch.pair_mask[:, :, factory.CHIN :].max() == 1 and batch.pair_drawn[:, :, factory.CHIN :].max() == 0


def test_the_style_is_seen_through_its_own_heads(tmp_path: Path) -> None:
    feed = _feed(factory.build(tmp_path), styled_share=1.0, warm_kimg=0.0)
    batch = feed.batch(0)
    assert batch.style_mask[:, :, factory.CHIN - 1].max() == 1 and batch.style_mask[:, :, factory.CHIN :].max() == 0


@pytest.mark.parametrize("share", [0.0, 0.25, 0.9, 1.0])
def test_styled_share_is_exact_over_small_batches(tmp_path: Path, share: float) -> None:
    feed = _feed(factory.build(tmp_path), styled_share=share, batch=4, warm_kimg=0.0)
    assert feed.pairs is not None
    drawn = {key.numpy().tobytes() for key in feed.style.take(np.arange(len(feed.style)), "image")}
    count, real = 0, 0
    for step in range(20):
        for picture in feed.batch(step * 4).style:
            pixels = ((picture + 1) * 127.5).round().to(torch.uint8).contiguous()
            count += 1
            real += bool({pixels.numpy().tobytes(), pixels.flip(-1).numpy().tobytes()} & drawn)
    assert count == 40
    assert real == round(40 * (1 - share))


def test_edge_smoothed_fakes_are_copies_of_pictures_shown_as_real(tmp_path: Path) -> None:
    feed = _feed(factory.build(tmp_path), styled_share=0.5, batch=4, warm_kimg=0.0)
    assert feed.pairs is not None
    kinds = {
        "drawn": feed.style.take(np.arange(len(feed.style)), "image"),
        "styled": feed.pairs.take(np.arange(len(feed.pairs)), "styled"),
    }
    copies = {
        name: {smooth_edges(np.ascontiguousarray(p.permute(1, 2, 0).numpy())).tobytes() for p in pictures}
        for name, pictures in kinds.items()
    }
    found = dict.fromkeys(copies, 0)
    for step in range(20):
        batch = feed.batch(step * 4)
        assert len(batch.edges) == len(batch.edges_mask) == 1
        picture = ((batch.edges[0] + 1) * 127.5).round().to(torch.uint8).permute(1, 2, 0).numpy()
        same = {np.ascontiguousarray(picture).tobytes(), np.ascontiguousarray(picture[:, ::-1]).tobytes()}
        for name, known in copies.items():
            found[name] += bool(same & known)
    assert min(found.values()) >= 5 and sum(found.values()) == 20
