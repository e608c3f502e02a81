"""Atomic writes, full disks, model files, shards, datasets, map_shards."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from stages.common import shards
from stages.common.atomic import atomic_path, publish_dir, write_bytes, write_json
from stages.common.dataset import FaceDataset, sample_indices, write_index
from stages.common.errors import DiskFullError, InputError, ModelFileError
from stages.common.images import write_png
from stages.common.mapshards import map_shards
from stages.common.modelfile import load_model, load_state, save_model
from stages.common.progress import Progress
from stages.common.shards import read_shards, shard_path, write_shard


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_failed_write_leaves_the_old_file_and_no_litter(tmp_path: Path) -> None:
    target = tmp_path / "a.json"
    write_json(target, {"a": 1})
    with pytest.raises(ValueError), atomic_path(target) as temporary:
        temporary.write_text("half")
        raise ValueError
    assert target.read_text().strip().startswith("{") and names(tmp_path) == ["a.json"]


def test_publish_dir_replaces_as_a_whole(tmp_path: Path) -> None:
    for name, content in (("new", "2"), ("final", "1")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "x").write_text(content)
    (tmp_path / "final" / "old_only").touch()
    publish_dir(tmp_path / "new", tmp_path / "final")
    assert names(tmp_path) == ["final"] and names(tmp_path / "final") == ["x"]
    assert (tmp_path / "final" / "x").read_text() == "2"


@pytest.fixture
def small_disk(tmp_path: Path) -> Path:
    """A 1 MB file system; needs the right to mount."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder], capture_output=True).returncode:
        pytest.skip("mounting a tmpfs is not allowed here")
    yield folder
    subprocess.run(["umount", folder], check=True)


def test_full_disk(small_disk: Path) -> None:
    write_bytes(small_disk / "old.bin", b"precious")
    for attempt in (
        lambda: write_bytes(small_disk / "old.bin", bytes(2 << 20)),
        lambda: save_model(small_disk / "m.safetensors", "toy", {"w": torch.zeros(1 << 20)}, {}, {}),
        lambda: write_png(small_disk / "p.png", np.random.default_rng(0).integers(0, 255, (1024, 1024, 3), np.uint8)),
    ):
        with pytest.raises(DiskFullError, match="no space left"):
            attempt()
    assert names(small_disk) == ["old.bin"] and (small_disk / "old.bin").read_bytes() == b"precious"


def test_model_file_round_trip_and_refusals(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    net = nn.Linear(3, 2)
    save_model(path, "toy", net.state_dict(), {"width": 3}, {"licence": "none"}, half=True)
    loaded = load_model(path, "toy")
    assert loaded.config == {"width": 3} and loaded.meta == {"licence": "none"}
    torch.testing.assert_close(loaded.state["weight"], net.weight.detach(), rtol=1e-3, atol=1e-3)
    with pytest.raises(ModelFileError, match="kind 'toy', expected 'mobile'"):
        load_model(path, "mobile")
    with pytest.raises(ModelFileError, match=r"weight is \(2, 3\), expected \(2, 5\)"):
        load_state(nn.Linear(5, 2), loaded.state, path)
    with pytest.raises(ModelFileError, match="bias missing"):
        load_state(nn.Linear(3, 2), {"weight": loaded.state["weight"]}, path)
    with pytest.raises(ModelFileError, match="no such model file"):
        load_model(tmp_path / "none.safetensors", "toy")
    for cut in (0, 5, 50, -3):
        path_cut = tmp_path / "cut.safetensors"
        path_cut.write_bytes(path.read_bytes()[:cut])
        with pytest.raises(ModelFileError):
            load_model(path_cut, "toy")
    from safetensors.torch import save_file

    save_file({"w": torch.zeros(1)}, tmp_path / "foreign.safetensors")
    with pytest.raises(ModelFileError, match="weights import"):
        load_model(tmp_path / "foreign.safetensors", "toy")


def make_folder(folder: Path, n: int = 7, side: int = 16) -> np.ndarray:
    images = np.random.default_rng(0).integers(0, 256, (n, side, side, 3), dtype=np.uint8)
    for i, image in enumerate(images):
        write_png(folder / "images" / f"{i:03d}.png", image)
        write_png(folder / "masks" / f"{i:03d}.png", image[..., 0])
    splits = ["train"] * (n - 2) + ["val", "test"]
    write_index(folder / "index.csv", pd.DataFrame({"id": [f"{i:03d}" for i in range(n)], "split": splits}))
    return images


def test_dataset_of_a_folder(tmp_path: Path) -> None:
    images = make_folder(tmp_path / "data")
    data = FaceDataset(tmp_path / "data", 16, split="train", cache=tmp_path / "cache")
    assert (
        len(data) == 5
        and (data.get(3, "image") == images[3]).all()
        and (data.get(3, "mask") == images[3, ..., 0]).all()
    )
    batch = data.batch(3, 8, seed=1)
    assert batch["image"].shape == (8, 3, 16, 16) and batch["mask"].shape == (8, 1, 16, 16)
    assert batch["image"].dtype == torch.uint8
    for i, position in enumerate(batch["index"].tolist()):
        assert (batch["image"][i].permute(1, 2, 0).numpy() == images[position]).all()
    with pytest.raises(InputError, match="no samples in split 'night'"):
        FaceDataset(tmp_path / "data", 16, split="night", cache=tmp_path / "cache")
    with pytest.raises(InputError, match=r"index\.csv: missing"):
        FaceDataset(tmp_path / "nothing", 16, cache=tmp_path / "cache")


def test_changed_content_makes_a_new_cache(tmp_path: Path) -> None:
    make_folder(tmp_path / "data")
    FaceDataset(tmp_path / "data", 16, cache=tmp_path / "cache")
    write_png(tmp_path / "data" / "images" / "000.png", np.full((16, 16, 3), 9, np.uint8))
    assert (FaceDataset(tmp_path / "data", 16, cache=tmp_path / "cache").get(0, "image") == 9).all()


def test_a_cut_cache_is_made_again(tmp_path: Path) -> None:
    images = make_folder(tmp_path / "data")
    FaceDataset(tmp_path / "data", 16, cache=tmp_path / "cache")
    for file in (tmp_path / "cache").glob("*.npy"):
        file.write_bytes(file.read_bytes()[:200])
    assert (FaceDataset(tmp_path / "data", 16, cache=tmp_path / "cache").get(1, "image") == images[1]).all()


def test_dataset_of_shards(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (6, 16, 16, 3), dtype=np.uint8)
    for number in range(2):
        keys = range(number * 3, number * 3 + 3)
        samples = (
            (f"{i:06d}", {"photo": images[i], "styled": 255 - images[i], "mask": images[i, ..., 0]}) for i in keys
        )
        assert write_shard(shard_path(tmp_path / "d" / "shards", number), samples) == 3
    write_index(tmp_path / "d" / "index.csv", pd.DataFrame({"id": [f"{i:06d}" for i in range(6)], "split": "train"}))
    data = FaceDataset(tmp_path / "d", 16, fields=("photo", "styled", "mask"), cache=tmp_path / "cache")
    assert (data.get(4, "styled") == 255 - images[4]).all() and (data.get(5, "mask") == images[5, ..., 0]).all()
    shard = shard_path(tmp_path / "d" / "shards", 1)
    shard.write_bytes(shard.read_bytes()[:700])
    with pytest.raises(InputError, match=r"000001\.tar"):
        list(read_shards(tmp_path / "d" / "shards"))


def test_shards_are_read_for_some_samples_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    picture = np.zeros((8, 8, 3), np.uint8)
    write_shard(shard_path(tmp_path, 0), ((f"s{i}", {"photo": picture, "styled": picture}) for i in range(6)))
    decoded: list[str] = []
    real = shards.decode_image
    monkeypatch.setattr(shards, "decode_image", lambda data, name: decoded.append(name) or real(data, name))
    assert [key for key, _ in shards.read_shards(tmp_path, {"s1", "s4", "gone"})] == ["s1", "s4"]
    assert len(decoded) == 4


def test_equal_shards_have_equal_bytes(tmp_path: Path) -> None:
    image = np.zeros((4, 4, 3), np.uint8)
    for name in ("a", "b"):
        write_shard(tmp_path / f"{name}.tar", iter([("000000", {"photo": image})]))
    assert (tmp_path / "a.tar").read_bytes() == (tmp_path / "b.tar").read_bytes()


def test_sampler_starts_anywhere_and_covers_every_epoch() -> None:
    whole = sample_indices(10, 0, 45, seed=3)
    pieces = np.concatenate([sample_indices(10, start, 5, seed=3) for start in range(0, 45, 5)])
    assert (whole == pieces).all()
    assert all(sorted(whole[e * 10 : e * 10 + 10]) == list(range(10)) for e in range(4))
    assert (sample_indices(10, 0, 10, 3) != sample_indices(10, 10, 10, 3)).any(), "epochs are shuffled differently"
    assert (sample_indices(10, 0, 45, 4) != whole).any()


def test_weighted_sampler_follows_its_weights() -> None:
    draws = sample_indices(3, 0, 4000, 0, weights=np.array([1.0, 0.0, 3.0]))
    counts = np.bincount(draws, minlength=3) / 4000
    assert counts[1] == 0 and abs(counts[2] - 0.75) < 0.03
    assert (sample_indices(3, 100, 50, 0, np.array([1.0, 0.0, 3.0])) == draws[100:150]).all()


def square(n: int) -> int:
    if n < 0:
        raise InputError(f"shard {n}: negative")
    return n * n


def traced(job: list) -> int:
    folder, n = job
    with (Path(folder) / "calls").open("a") as file:
        file.write(f"{n}\n")
    if n == 3 and not (Path(folder) / "fixed").exists():
        raise InputError("shard 3 is broken")
    return n * 10


def test_map_shards_keeps_order_for_any_number_of_workers() -> None:
    assert map_shards(square, list(range(7)), workers=2) == map_shards(square, list(range(7)), workers=1)
    assert map_shards(square, []) == []
    with pytest.raises(InputError, match="negative"):
        map_shards(square, [1, -2, 3], workers=2)


def test_map_shards_restarts_only_what_is_missing(tmp_path: Path) -> None:
    jobs = [[str(tmp_path), n] for n in range(5)]
    with pytest.raises(InputError):
        map_shards(traced, jobs, workers=1, done_dir=tmp_path / "done")
    (tmp_path / "fixed").touch()
    assert map_shards(traced, jobs, workers=1, done_dir=tmp_path / "done") == [0, 10, 20, 30, 40]
    assert (tmp_path / "calls").read_text().split() == ["0", "1", "2", "3", "3", "4"]


def test_workers_die_with_their_parent(tmp_path: Path) -> None:
    code = (
        "import os, sys, time, pathlib\n"
        "from tests.common.sleepers import sleep_long\n"
        "from stages.common.mapshards import map_shards\n"
        f"map_shards(sleep_long, [[{str(tmp_path)!r}, i] for i in range(2)], workers=2)\n"
    )
    script = tmp_path / "main.py"
    script.write_text(f"if __name__ == '__main__':\n    {code.replace(chr(10), chr(10) + '    ')}")
    env = os.environ | {"PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    process = subprocess.Popen([sys.executable, str(script)], env=env)
    import time

    deadline = time.monotonic() + 60
    while len(list(tmp_path.glob("pid_*"))) < 2 and time.monotonic() < deadline:
        time.sleep(0.1)
    pids = [int(path.name.removeprefix("pid_")) for path in tmp_path.glob("pid_*")]
    assert len(pids) == 2
    process.kill()
    process.wait()
    deadline = time.monotonic() + 10
    while any(Path(f"/proc/{pid}").exists() for pid in pids) and time.monotonic() < deadline:
        time.sleep(0.1)
    alive = [pid for pid in pids if Path(f"/proc/{pid}").exists() and "Z" not in Path(f"/proc/{pid}/stat").read_text()]
    assert not alive


def test_workers_have_one_thread_each_also_where_the_command_imports_torch(tmp_path: Path) -> None:
    script = tmp_path / "main.py"
    script.write_text(
        "import sys, torch\n"
        "from stages.common.mapshards import map_shards\n"
        "def threads(_):\n    return torch.get_num_threads()\n"
        "if __name__ == '__main__':\n"
        "    print(map_shards(threads, [1, 2], workers=2), file=sys.stderr)\n"
    )
    env = os.environ | {"PYTHONPATH": str(Path(__file__).resolve().parents[2]), "OMP_NUM_THREADS": "2"}
    result = subprocess.run([sys.executable, str(script)], env=env, capture_output=True, text=True, timeout=120)
    assert result.returncode == 0 and result.stderr.strip() == "[1, 1]", result.stderr


def test_a_stream_longer_than_announced_is_no_flood_of_lines(capsys: pytest.CaptureFixture[str]) -> None:
    with Progress("video", 1, "frames") as progress:
        for i in range(1, 500):
            progress.update(i)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) <= 3 and not any(" -" in line for line in lines)
