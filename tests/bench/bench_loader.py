"""Images per second from the memory-mapped cache; what a checkpoint costs. ``python -m tests.bench.bench_loader``"""

import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from stages.common.checkpoint import save_checkpoint
from stages.common.dataset import FaceDataset, write_index
from stages.common.shards import shard_path, write_shard
from tests.bench.table import row


def loader_rate(side: int, count: int, batch: int) -> float:
    """Images per second of random batches at ``side`` pixels, as float tensors ready for a network."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        images = np.random.default_rng(0).integers(0, 256, (count, side, side, 3), dtype=np.uint8)
        samples = ((f"{i:06d}", {"photo": images[i]}) for i in range(count))
        write_shard(shard_path(folder / "d" / "shards", 0), samples)
        write_index(folder / "d" / "index.csv", pd.DataFrame({"id": [f"{i:06d}" for i in range(count)]}))
        data = FaceDataset(folder / "d", side, fields=("photo",), cache=folder / "cache")
        data.batch(0, batch, 0)
        seen, began = 0, time.perf_counter()
        while time.perf_counter() - began < 2:
            data.batch(seen, batch, 0)
            seen += batch
        return seen / (time.perf_counter() - began)


def checkpoint_seconds(parameters: int) -> float:
    """Seconds to write a checkpoint of nets, EMA and Adam state together ``parameters`` floats."""
    net = torch.nn.Linear(1000, parameters // 1000, bias=False)
    with tempfile.TemporaryDirectory() as name:
        began = time.perf_counter()
        for i in range(5):
            save_checkpoint(Path(name), {"net": net}, i, {})
        return (time.perf_counter() - began) / 5


def main() -> None:
    """Prints one line per figure."""
    for side, count in ((64, 4000), (256, 400)):
        wanted = {64: "20,000 img/s", 256: "1,500 img/s"}[side]
        row(f"loader, {side} px, batch 16", f"{loader_rate(side, count, 16):,.0f} img/s", wanted=wanted)
    seconds = checkpoint_seconds(8_000_000)
    row("checkpoint of 8 M floats (StyleGAN2 at 64 px with EMA and Adam)", f"{seconds * 1000:.0f} ms")


if __name__ == "__main__":
    main()
