"""The training loop: exact resume after kills, damaged checkpoints, NaN guard, torchrun."""

import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from stages.common.checkpoint import checkpoint_files, load_newest, read_checkpoint, save_checkpoint
from stages.common.errors import DivergedError
from stages.common.loop import _Stats, train
from stages.common.modelfile import load_model
from tests.common import toy_trainer

REPO = Path(__file__).resolve().parents[2]


def toy(work: Path, out: Path, *extra: str) -> list[str]:
    return [sys.executable, "-m", "tests.common.toy_trainer", str(work), str(out), *extra]


def run_killed(work: Path, out: Path, kills: int, seed: int, *extra: str) -> int:
    """Starts the toy, SIGKILLs it ``kills`` times at random moments, lets it finish; returns kills that hit."""
    rng, hits = random.Random(seed), 0
    for _ in range(kills):
        process = subprocess.Popen(toy(work, out, *extra), cwd=REPO, stdout=subprocess.DEVNULL)
        while process.poll() is None and not (work / "stats.csv").exists():
            time.sleep(0.02)
        try:
            process.wait(rng.uniform(0.05, 3.5))
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
            hits += 1
    subprocess.run(toy(work, out, *extra), cwd=REPO, check=True, stdout=subprocess.DEVNULL)
    return hits


def assert_same_model(a: Path, b: Path) -> None:
    left, right = load_model(a, "toy").state, load_model(b, "toy").state
    assert left.keys() == right.keys()
    for name in left:
        assert torch.equal(left[name], right[name]), name


def test_killed_and_resumed_is_bit_identical(tmp_path: Path) -> None:
    toy_trainer.run([str(tmp_path / "a"), str(tmp_path / "a.safetensors")])
    hits = run_killed(tmp_path / "b", tmp_path / "b.safetensors", 2, 0, "--sleep", "0.03")
    assert hits >= 1
    assert_same_model(tmp_path / "a.safetensors", tmp_path / "b.safetensors")
    assert (tmp_path / "a" / "stats.csv").read_bytes() == (tmp_path / "b" / "stats.csv").read_bytes()


@pytest.mark.slow
def test_twenty_kills(tmp_path: Path) -> None:
    total = ["--total", "8000"]
    subprocess.run(toy(tmp_path / "a", tmp_path / "a.safetensors", *total), cwd=REPO, check=True)
    hits = run_killed(tmp_path / "b", tmp_path / "b.safetensors", 20, 1, "--sleep", "0.05", *total)
    assert hits >= 18
    assert_same_model(tmp_path / "a.safetensors", tmp_path / "b.safetensors")


def run_two(work: Path, out: Path, *options: str) -> None:
    """With torchrun's environment set by hand: the launcher itself would only cost another torch import."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    ranks = [
        subprocess.Popen(
            toy(work, out, *options),
            cwd=REPO,
            env=os.environ | shared | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.DEVNULL,
        )
        for rank in range(2)
    ]
    assert [process.wait(120) for process in ranks] == [0, 0]


def test_two_processes_give_the_losses_of_one(tmp_path: Path) -> None:
    options = ["--data-seed-only", "--total", "160"]
    toy_trainer.run([str(tmp_path / "one"), str(tmp_path / "one.safetensors"), *options])
    run_two(tmp_path / "two", tmp_path / "two.safetensors", *options)
    one, two = (
        load_model(tmp_path / "one.safetensors", "toy").state,
        load_model(tmp_path / "two.safetensors", "toy").state,
    )
    for name in one:
        torch.testing.assert_close(one[name], two[name], rtol=1e-3, atol=1e-5)


def test_nan_in_one_process_rolls_all_back(tmp_path: Path) -> None:
    """The others' losses are sound: left alone they would go on, and wait forever for the one that went back."""
    options = ["--data-seed-only", "--total", "160"]
    run_two(tmp_path / "work", tmp_path / "nan.safetensors", *options, "--nan-at", "96")
    content = read_checkpoint(checkpoint_files(tmp_path / "work")[-1])
    assert content["nimg"] == 160 and content["state"]["guard"] == {"tripped": True}
    run_two(tmp_path / "sound", tmp_path / "sound.safetensors", *options)
    lr = [read_checkpoint(checkpoint_files(tmp_path / n)[-1])["state"]["opt_g"] for n in ("work", "sound")]
    assert lr[0]["param_groups"][0]["lr"] == lr[1]["param_groups"][0]["lr"] / 2


def small_state() -> dict:
    torch.manual_seed(0)
    net = nn.Linear(4, 4)
    return {"net": net, "opt": torch.optim.Adam(net.parameters(), 1e-2)}


def step_of(state: dict, poison_at: set[int] | None = None) -> Callable[[int], dict[str, torch.Tensor]]:
    def step(nimg: int) -> dict[str, torch.Tensor]:
        loss = (state["net"](torch.randn(8, 4)) ** 2).mean()
        state["opt"].zero_grad()
        loss.backward()
        state["opt"].step()
        if poison_at and nimg in poison_at:
            poison_at.discard(nimg)
            loss = loss * float("nan")
        return {"loss": loss}

    return step


def test_damaged_checkpoint_is_set_aside_and_the_one_before_used(tmp_path: Path) -> None:
    state = small_state()
    save_checkpoint(tmp_path, state, 10, {"stats": {}})
    first = {k: v.clone() for k, v in state["net"].state_dict().items()}
    with torch.no_grad():
        state["net"].weight += 1
    newest = save_checkpoint(tmp_path, state, 20, {"stats": {}})
    data = bytearray(newest.read_bytes())
    data[len(data) // 2] ^= 0xFF
    newest.write_bytes(data)
    found = load_newest(tmp_path, state)
    assert found is not None and found[0] == 10
    assert all(torch.equal(first[k], v) for k, v in state["net"].state_dict().items())
    assert newest.with_suffix(".damaged").exists()


@pytest.mark.parametrize("cut", [0, 30, 65, 200])
def test_truncated_checkpoint_counts_as_damaged(tmp_path: Path, cut: int) -> None:
    state = small_state()
    path = save_checkpoint(tmp_path, state, 10, {"stats": {}})
    path.write_bytes(path.read_bytes()[:cut])
    assert load_newest(tmp_path, state) is None


def test_only_two_checkpoints_are_kept(tmp_path: Path) -> None:
    state = small_state()
    train(tmp_path, state, step_of(state), 800, 8, 0, checkpoint_nimg=80, stats_nimg=80)
    assert [path.name for path in checkpoint_files(tmp_path)] == ["checkpoint_000000720.pt", "checkpoint_000000800.pt"]


def test_nan_rolls_back_once_with_half_the_rate(tmp_path: Path) -> None:
    state = small_state()
    result = train(tmp_path, state, step_of(state, {400}), 800, 8, 0, checkpoint_nimg=160, stats_nimg=8)
    assert result.rolled_back
    assert state["opt"].param_groups[0]["lr"] == pytest.approx(5e-3)
    rows = pd.read_csv(tmp_path / "stats.csv")
    assert rows["nimg"].is_monotonic_increasing and rows["nimg"].is_unique and rows["nimg"].iloc[-1] == 800
    assert np.isfinite(rows["loss"]).all()


@pytest.mark.parametrize("at", [232, 248])  # 232: the step just before the checkpoint; its own loss is sound
def test_nan_weights_are_never_saved(tmp_path: Path, at: int) -> None:
    """No report is due between the damage and the checkpoint, and a saved NaN would be what a roll-back restores."""
    state, waiting = small_state(), {at}
    sound = step_of(state)

    def step(nimg: int) -> dict[str, torch.Tensor]:
        losses = sound(nimg)
        if nimg in waiting:
            waiting.discard(nimg)
            with torch.no_grad():
                state["net"].weight[0, 0] = float("nan")
        return losses

    result = train(tmp_path, state, step, 800, 8, 0, checkpoint_nimg=240, stats_nimg=400)
    assert result.rolled_back and not waiting
    assert torch.isfinite(state["net"].weight).all()
    rows = pd.read_csv(tmp_path / "stats.csv")
    assert rows["nimg"].tolist() == [400, 800] and np.isfinite(rows["loss"]).all()


def test_stats_are_appended_counted_exactly_and_survive_a_torn_line(tmp_path: Path) -> None:
    def flushed(stats: _Stats, nimg: int) -> None:
        stats.add({"loss": nimg * 0.5} | ({"late": 1.0} if nimg > 1_000_300 else {}))
        stats.flush(nimg)

    whole, torn = (_Stats(tmp_path / name, 8, True) for name in ("whole.csv", "torn.csv"))
    for stats in (whole, torn):
        for nimg in (1_000_000, 1_000_256):
            flushed(stats, nimg)
    first = torn.path.stat().st_ino
    flushed(torn, 1_000_264)
    assert torn.path.stat().st_ino == first, "a row of known columns is appended"
    torn.path.write_bytes(torn.path.read_bytes()[:-3])
    again = _Stats(torn.path, 8, True)
    again.restore({"sums": {}, "counts": {}}, 1_000_256)
    for stats in (whole, again):
        for nimg in (1_000_264, 1_000_512):
            flushed(stats, nimg)
    assert whole.path.read_text() == again.path.read_text()
    assert pd.read_csv(again.path)["nimg"].tolist() == [1_000_000, 1_000_256, 1_000_264, 1_000_512]


def test_second_divergence_is_a_clear_error(tmp_path: Path) -> None:
    state = small_state()

    def step(nimg: int) -> dict[str, float]:
        return {"loss": float("inf") if nimg >= 400 else 1.0}

    with pytest.raises(DivergedError, match=r"diverged again at .* images .*loss = inf.*lower the learning rate"):
        train(tmp_path, state, step, 800, 8, 0, checkpoint_nimg=160, stats_nimg=8)


def test_first_step_divergence_has_a_way_back(tmp_path: Path) -> None:
    state = small_state()
    assert train(tmp_path, state, step_of(state, {0}), 80, 8, 0, checkpoint_nimg=1000, stats_nimg=8).rolled_back


def test_grids_and_snapshots_come_at_fixed_counts(tmp_path: Path) -> None:
    state, snapshots = small_state(), []
    train(
        tmp_path,
        state,
        step_of(state),
        100,
        8,
        0,
        checkpoint_nimg=40,
        grid=lambda: np.zeros((4, 4, 3), np.uint8),
        grid_nimg=48,
        snapshot=snapshots.append,
        snapshot_nimg=50,
    )
    assert sorted(p.name for p in (tmp_path / "grids").iterdir()) == [
        "000000000.png",
        "000000048.png",
        "000000096.png",
        "000000104.png",
    ]
    assert snapshots == [56, 104]
