"""Small stand-ins: an exported network with random weights, and pairs."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from stages.common.atomic import write_json
from stages.common.shards import write_shard
from stages.mobile.export import FILES, describe, export_files
from stages.mobile.network import MobileNet, settle_to_half

SIDE = 32


def lively(tier: str = "xs") -> MobileNet:
    """Random weights with batch statistics of random pictures: outputs neither constant nor saturated."""
    torch.manual_seed(0)
    net = MobileNet(tier).train()  # type: ignore[arg-type]
    for _ in range(12):
        net(torch.rand(8, 3, 64, 64) * 2 - 1)
    with torch.no_grad():
        net.head.weight.mul_(4)
    return net.eval()


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with mobile.mnn and all that belongs to it, side 32."""
    folder = tmp_path_factory.mktemp("model")
    photos = torch.rand(2, 3, SIDE, SIDE) * 2 - 1
    net = settle_to_half(lively())
    figures = export_files(net, folder, photos, {"fp32": 1e-4, "fp16": 1.0, "int8": 1.0}, dynamic=True)
    write_json(folder / "mobile.json", describe(net, {}, "toy", SIDE, True, folder, figures))
    assert all((folder / name).is_file() for name in FILES.values())
    return folder


def write_pairs(folder: Path, count: int, side: int = SIDE) -> None:
    """Photos of a bright disc on a gradient; styled: the disc in another colour. Every fifth is validation."""
    rng = np.random.default_rng(count)
    y, x = np.mgrid[:side, :side] / side
    rows, samples = [], []
    for i in range(count):
        centre, colour = rng.uniform(0.4, 0.6, 2), rng.integers(90, 200, 3)
        mask = np.hypot(y - centre[0], x - centre[1]) < 0.3
        photo = np.where(mask[..., None], colour, (x * 120)[..., None] + rng.integers(0, 80)).astype(np.uint8)
        styled = np.where(mask[..., None], [250, 40, 120], photo).astype(np.uint8)
        masks = dict.fromkeys(("mask", "photo_mask", "styled_mask"), (mask * 255).astype(np.uint8))
        samples.append((f"{i:06d}", {"photo": photo, "styled": styled, **masks}))
        rows.append({"id": f"{i:06d}", "photo_id": i, "person": i, "split": "val" if i % 5 == 0 else "train"})
    folder.mkdir(parents=True)
    write_shard(folder / "shards" / "000000.tar", iter(samples))
    pd.DataFrame(rows).to_csv(folder / "index.csv", index=False)
