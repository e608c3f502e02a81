"""What orchestration costs, on stand-in stages that take no time. ``python -m tests.bench.bench_ops``

Ratios and seconds; run it on an otherwise idle machine.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

from pipeline.processes import environment
from stages.common.mapshards import map_shards
from tests.bench.table import row
from tests.pipeline.conftest import make_factory

SAMPLES, SHARD = 10_000, 250


def timed(command: list[str], cwd: Path) -> float:
    """Seconds of a command that must succeed."""
    env = environment() | {"STYLEFACTORY_ROOT": str(cwd)}
    began = time.perf_counter()
    subprocess.run(command, cwd=cwd, env=env, check=True, capture_output=True)
    return time.perf_counter() - began


def flow_overhead() -> None:
    """``stylefactory run`` against bare ``dvc repro`` on the same seven stages, first build and unchanged."""
    with tempfile.TemporaryDirectory() as name:
        bare, flow = Path(name) / "bare", Path(name) / "flow"
        for root in (bare, flow):
            make_factory(root)
        cold = timed(["stylefactory", "run", "--upto", "weights"], flow)
        row("first `stylefactory run` in a checkout (Prefect makes its database)", f"{cold:.1f} s")
        for label in ("7 stages built", "unchanged"):
            a, b = timed(["dvc", "repro"], bare), timed(["stylefactory", "run"], flow)
            row(
                f"flow overhead, {label}",
                f"{b - a:.1f} s",
                f"dvc repro {a:.1f} s, run {b:.1f} s",
                wanted="15 s at most",
            )


def quick_commands() -> None:
    """Commands people wait for."""
    with tempfile.TemporaryDirectory() as name:
        root = make_factory(Path(name) / "factory").root
        quickest = min(timed(["stylefactory", "--help"], root) for _ in range(3))
        row("stylefactory --help", f"{quickest:.2f} s", wanted="1 s at most")
        timed(["dvc", "repro"], root)
        row("stylefactory status", f"{timed(['stylefactory', 'status'], root):.1f} s")
        row("unchanged dvc repro of the toy chain", f"{timed(['dvc', 'repro'], root):.1f} s", wanted="10 s at most")


def samples(shard: list[int]) -> list[float]:
    """A shard of the kind generation makes: every sample filtered images of its own seed, JPEG-sized work."""
    import cv2
    import numpy as np

    means = []
    for seed in range(*shard):
        picture = np.random.default_rng(seed).integers(0, 256, (64, 64, 3), dtype=np.uint8)
        for _ in range(3):
            picture = cv2.GaussianBlur(cv2.resize(picture, (256, 256)), (0, 0), 3)
            picture = cv2.resize(picture, (64, 64))
        means.append(float(picture.mean()))
    return [float(np.mean(means)), psutil.Process().memory_info().rss / 1e6]


def scale() -> None:
    """10,000 samples through map_shards: is the memory flat, are all cores busy."""
    cores = len(os.sched_getaffinity(0))
    shards = [[first, first + SHARD] for first in range(0, SAMPLES, SHARD)]
    children_before = psutil.Process().cpu_times()
    began = time.perf_counter()
    results = map_shards(samples, shards, workers=cores)
    seconds = time.perf_counter() - began
    children = psutil.Process().cpu_times()
    busy = (children.children_user + children.children_system) - (
        children_before.children_user + children_before.children_system
    )
    memory = [result[1] for result in results]
    quarter = len(memory) // 4
    early, late = max(memory[quarter : 2 * quarter]), max(memory[-quarter:])
    row(f"map_shards, {SAMPLES} samples", f"{SAMPLES / seconds:.0f} samples/s on {cores} cores")
    row("cores busy meanwhile", f"{busy / seconds / cores:.0%}", wanted="85 %")
    row("worker memory, last quarter", f"{late:.0f} MB", f"second quarter {early:.0f} MB", wanted="flat")


PARTS = {"commands": quick_commands, "flow": flow_overhead, "scale": scale}


def main() -> None:
    """All parts, or the named one."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=list(PARTS))
    only = parser.parse_args().only
    for name, part in PARTS.items():
        if only in (None, name):
            part()
    sys.stdout.flush()


if __name__ == "__main__":
    main()
