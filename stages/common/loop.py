"""The one training loop: counted in images, seeded by image number, resumable at any moment."""

import csv
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from stages.common.atomic import write_text
from stages.common.checkpoint import Stateful, load_newest, save_checkpoint
from stages.common.device import any_process
from stages.common.errors import DivergedError
from stages.common.images import write_png
from stages.common.progress import Progress, log
from stages.common.seeding import seed_all

Losses = Mapping[str, float | torch.Tensor]
DIVERGED_ABOVE = 1e5  # no loss of ours is meant to come near; beyond it a run never came back in our trials


@dataclass
class LoopResult:
    """What a finished run reports: images seen, seconds of this process, images per second, rollbacks."""

    nimg: int
    seconds: float
    rate: float
    rolled_back: bool


def train(
    work: Path,
    state: Mapping[str, Stateful],
    step: Callable[[int], Losses],
    total: int,
    batch: int,
    seed: int,
    checkpoint_nimg: int,
    stats_nimg: int = 256,
    grid: Callable[[], np.ndarray] | None = None,
    grid_nimg: int | None = None,
    snapshot: Callable[[int], None] | None = None,
    snapshot_nimg: int | None = None,
    label: str = "training",
    rank: int = 0,
) -> LoopResult:
    """Runs ``step(nimg)`` until ``total`` images, from the newest checkpoint in ``work`` if there is one.

    Everything that changes must be in ``state``. Before each step torch, numpy and random are seeded from
    (seed, nimg, rank), so an interrupted run repeats exactly what the lost steps did. Checkpoints, statistics,
    grids and snapshots come at fixed image counts, never by the clock. Nothing is saved that is not finite.

    Args:
        work: folder for checkpoints, ``stats.csv`` and ``grids/``; only this run writes there.
        state: every net, EMA, optimiser and accumulator by name.
        step: one update; gets the images seen so far, returns the losses by name (tensors are read lazily).
        total: images to see; the last step may pass it by less than ``batch``.
        batch: images per step over all processes.
        seed: seed of the run.
        checkpoint_nimg: images between checkpoints.
        stats_nimg: images between rows of stats.csv (means over the interval).
        grid: draws the fixed-seed preview, uint8 [H, W, 3]; called at 0, every ``grid_nimg`` and at the end.
        snapshot: called every ``snapshot_nimg`` images and at the end, to keep a candidate.
        label: name shown in progress.
        rank: torchrun rank; rank 0 writes.

    Raises:
        DivergedError: a loss was NaN, infinite or beyond 1e5, or a weight not finite, again after one roll-back to the
            last checkpoint at half the learning rate.
    """
    work.mkdir(parents=True, exist_ok=True)
    guard = _Guard(state)
    everything = {**state, "guard": guard}
    stats = _Stats(work / "stats.csv", stats_nimg, write=rank == 0)
    nimg = 0
    restored = load_newest(work, everything)
    if restored is not None:
        nimg, extra = restored
        stats.restore(extra["stats"], nimg)
        log(f"{label}: resumed at {nimg} of {total} images")
    elif rank == 0:
        save_checkpoint(work, everything, 0, {"stats": stats.pending()})  # a NaN before the first one has a way back
    began, start = time.monotonic(), nimg

    def draw_grid() -> None:
        if grid is not None and rank == 0:
            seed_all(seed, "grid")
            write_png(work / "grids" / f"{nimg:09d}.png", grid())

    if nimg == 0:
        draw_grid()
    with Progress(label, total, start=start) as progress:
        while nimg < total:
            seed_all(seed, nimg, rank)
            losses = step(nimg)
            before, nimg = nimg, nimg + batch
            stats.add(losses)
            ended = nimg >= total
            reporting = stats.due(before, nimg) or ended
            saving = _crossed(before, nimg, checkpoint_nimg) or ended
            if reporting or saving:
                means = stats.means()
                bad = {name: value for name, value in means.items() if not abs(value) < DIVERGED_ABOVE}
                if saving and not bad and not _all_finite(state):
                    bad = {"a weight": math.nan}  # its losses come one step later; saved, it would be the way back
                if any_process(bool(bad)):
                    nimg = _roll_back(work, everything, guard, stats, bad, nimg, label, rank)
                    continue
            if reporting:
                stats.flush(nimg)
                progress.update(min(nimg, total), "  ".join(f"{k} {v:.3g}" for k, v in list(means.items())[:5]))
            if _crossed(before, nimg, grid_nimg) or ended:
                draw_grid()
            if snapshot is not None and (_crossed(before, nimg, snapshot_nimg) or ended):
                seed_all(seed, "snapshot", nimg)
                snapshot(nimg)
            if saving and rank == 0:
                save_checkpoint(work, everything, nimg, {"stats": stats.pending()})
    seconds = time.monotonic() - began
    return LoopResult(nimg, seconds, (nimg - start) / max(seconds, 1e-9), guard.tripped)


def _crossed(before: int, after: int, every: int | None) -> bool:
    """Whether a multiple of ``every`` lies in (before, after]."""
    return every is not None and before // every != after // every


def _roll_back(
    work: Path,
    everything: Mapping[str, Stateful],
    guard: "_Guard",
    stats: "_Stats",
    bad: dict[str, float],
    nimg: int,
    label: str,
    rank: int,
) -> int:
    what = ", ".join(f"{name} = {value:.3g}" for name, value in bad.items()) or "another process diverged"
    if guard.tripped:
        raise DivergedError(f"{label}: diverged again at {nimg} images ({what}); lower the learning rate")
    restored = load_newest(work, everything)
    if restored is None:
        raise DivergedError(f"{label}: diverged at {nimg} images ({what}) with no intact checkpoint to go back to")
    back, extra = restored
    stats.restore(extra["stats"], back)
    guard.trip()
    any_process(False)  # all have read it before the first one replaces it
    if rank == 0:
        save_checkpoint(work, everything, back, {"stats": stats.pending()})
    log(f"{label}: {what} at {nimg} images; back to {back} with half the learning rate")
    return back


def _all_finite(state: Mapping[str, Stateful]) -> bool:
    """Whether no floating-point tensor of the states, however nested, holds NaN or infinity."""
    left: list[Any] = [part.state_dict() for part in state.values()]
    while left:
        value = left.pop()
        if isinstance(value, Mapping):
            left += value.values()
        elif isinstance(value, list | tuple):
            left += value
        elif isinstance(value, torch.Tensor) and value.is_floating_point() and not torch.isfinite(value).all():
            return False
    return True


class _Guard:
    """Remembers that the learning rates were halved, through checkpoints too."""

    def __init__(self, state: Mapping[str, Stateful]) -> None:
        self.tripped = False
        self._optimisers = [part for part in state.values() if isinstance(part, torch.optim.Optimizer)]

    def trip(self) -> None:
        self.tripped = True
        for optimiser in self._optimisers:
            for group in optimiser.param_groups:
                group["lr"] *= 0.5
                # schedules multiply "base_lr" where a trainer keeps one
                if "base_lr" in group:
                    group["base_lr"] *= 0.5

    def state_dict(self) -> dict[str, bool]:
        return {"tripped": self.tripped}

    def load_state_dict(self, state: dict[str, bool]) -> None:
        self.tripped = state["tripped"]


class _Stats:
    """Means of the losses over intervals of images, appended to a CSV that a resumed run cuts back."""

    def __init__(self, path: Path, every: int, write: bool) -> None:
        self.path, self.every, self.write = path, every, write
        self._sums: dict[str, torch.Tensor] = {}
        self._counts: dict[str, int] = {}
        self._rows: list[dict[str, float]] = []
        self._names: list[str] = []  # columns of the file as it is; none before it was written here

    def add(self, losses: Losses) -> None:
        for name, value in losses.items():
            # kept on the device: reading every loss at every step would wait for the GPU
            tensor = value.detach().double() if isinstance(value, torch.Tensor) else torch.tensor(float(value)).double()
            self._sums[name] = self._sums[name] + tensor if name in self._sums else tensor
            self._counts[name] = self._counts.get(name, 0) + 1

    def due(self, before: int, after: int) -> bool:
        return _crossed(before, after, self.every)

    def means(self) -> dict[str, float]:
        return {name: float(total) / self._counts[name] for name, total in self._sums.items()}

    def flush(self, nimg: int) -> None:
        means = self.means()
        self._sums, self._counts = {}, {}
        if self.write:
            self._rows.append({"nimg": nimg, **means})
            self._save()

    def pending(self) -> dict[str, object]:
        return {"sums": {k: float(v) for k, v in self._sums.items()}, "counts": dict(self._counts)}

    def restore(self, pending: dict[str, dict], nimg: int) -> None:
        self._sums = {name: torch.tensor(value, dtype=torch.float64) for name, value in pending["sums"].items()}
        self._counts = dict(pending["counts"])
        self._rows, self._names = [], []
        if self.path.is_file():
            lines = self.path.read_text().splitlines(keepends=True)
            whole = [line for line in lines if line.endswith("\n")]  # a kill may have cut the last one
            rows = [{k: float(v) for k, v in row.items() if v not in ("", None)} for row in csv.DictReader(whole)]
            self._rows = [row | {"nimg": int(row["nimg"])} for row in rows if row["nimg"] <= nimg]

    def _save(self) -> None:
        """Appends the newest row; a new column, or rows taken back, need the whole file anew.

        Writing everything each time took 1.6 s at 39,000 rows, the length of a source's training at 256 px.
        """
        if self._names and set(self._rows[-1]) <= set(self._names):
            with self.path.open("a") as file:
                file.write(self._line(self._rows[-1]))
            return
        self._names = list(dict.fromkeys(name for row in self._rows for name in row))
        write_text(self.path, ",".join(self._names) + "\n" + "".join(map(self._line, self._rows)))

    def _line(self, row: dict[str, float]) -> str:
        texts = {name: str(int(value)) if name == "nimg" else f"{value:.6g}" for name, value in row.items()}
        return ",".join(texts.get(name, "") for name in self._names) + "\n"
