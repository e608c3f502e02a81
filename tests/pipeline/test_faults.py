"""Faults, each tried five times at different moments: nothing is lost, the next run ends with the identical result.

The stand-in trainer counts 12 steps with a checkpoint each; its result is a hash chain over all of them.
"""

import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from pipeline import dvc, inputs, params
from pipeline.lock import holder
from pipeline.processes import environment, kill_tree
from pipeline.project import Project
from tests.pipeline.test_processes import wait_gone

pytestmark = pytest.mark.slow

TRIALS = range(5)
STEPS = 12
SLOW = {"FAKE_STEPS": str(STEPS), "FAKE_STEP_S": "0.15"}
QUICK = {"FAKE_STEPS": str(STEPS), "FAKE_STEP_S": "0"}
WRAPPER = (
    "from pipeline import dvc; from pipeline.project import find_project;"
    "dvc.reproduce(find_project(), 'transfer@one', on_line=lambda line: print(line, flush=True))"
)


@pytest.fixture
def ready(built: Project) -> Project:
    """Everything before transfer is up to date; transfer has to run, and no cache of DVC can stand in for it."""
    inputs.forget(built, "transfer@one", 0)
    (built.root / "models/one/transferred.safetensors").unlink()
    return built


@pytest.fixture(scope="session")
def wanted(_built: Path, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The result of a run nobody disturbed."""
    root = tmp_path_factory.mktemp("wanted") / "factory"
    shutil.copytree(_built, root, symlinks=True)
    project = Project(root)
    inputs.forget(project, "transfer@one", 0)
    subprocess.run([sys.executable, "-c", WRAPPER], cwd=root, env=_env(project, QUICK), check=True, capture_output=True)
    return (root / "models/one/transferred.safetensors").read_bytes()


def _env(project: Project, extra: dict[str, str]) -> dict[str, str]:
    return environment() | {"STYLEFACTORY_ROOT": str(project.root)} | extra


@contextlib.contextmanager
def running(project: Project, at_step: int, command: list[str] | None = None) -> Iterator[tuple[subprocess.Popen, int]]:
    """A run of transfer that has come to ``at_step``: (our process, the stage's pid)."""
    process = subprocess.Popen(
        command or [sys.executable, "-c", WRAPPER],
        cwd=project.root,
        env=_env(project, SLOW),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        # a background shell starts us with SIGINT ignored, which children inherit
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    try:
        assert process.stdout is not None
        seen = []
        for line in process.stdout:
            seen.append(line)
            if f"step {at_step}/" in line:
                break
        else:
            pytest.fail("".join(seen))
        yield process, json.loads((project.root / "work/one/transfer/running.json").read_text())["pid"]
    finally:
        if process.poll() is None:
            kill_tree(process.pid)
        process.wait()


def finishes_identically(project: Project, wanted: bytes, resumed: bool = True) -> None:
    """The next run ends well, went on from a checkpoint, and DVC agrees with what lies on the disk."""
    lines: list[str] = []
    os.environ.update(QUICK)
    try:
        run = dvc.reproduce(project, "transfer@one", on_line=lines.append)
    finally:
        for key in QUICK:
            del os.environ[key]
    assert run.ran
    assert any("resumed at step" in line for line in lines) == resumed, lines
    assert (project.root / "models/one/transferred.safetensors").read_bytes() == wanted
    assert "transfer@one" not in dvc.changed(project)
    assert holder(project) is None
    assert not list((project.root / "models").rglob("*.tmp*"))


def moment(trial: int) -> int:
    return random.Random(trial).randint(2, STEPS - 3)


@pytest.mark.parametrize("trial", TRIALS)
def test_stage_killed(ready, wanted, trial):
    with running(ready, moment(trial)) as (process, stage):
        os.kill(stage, signal.SIGKILL)
        output = process.communicate(timeout=60)[0]
        assert process.returncode != 0 and "killed from outside" in output
    finishes_identically(ready, wanted)


@pytest.mark.parametrize("trial", TRIALS)
def test_dvc_killed(ready, wanted, trial):
    with running(ready, moment(trial)) as (process, stage):
        psutil.Process(stage).parent().kill()
        assert wait_gone([stage]), "the stage outlived DVC"
        assert process.wait(timeout=60) != 0
    finishes_identically(ready, wanted)


@pytest.mark.parametrize("trial", TRIALS)
def test_wrapper_killed(ready, wanted, trial):
    with running(ready, moment(trial)) as (process, stage):
        os.kill(process.pid, signal.SIGKILL)
        assert wait_gone([stage]), "the stage outlived the wrapper"
    finishes_identically(ready, wanted)


@pytest.mark.parametrize("trial", TRIALS)
def test_flow_process_killed(ready, wanted, trial):
    command = ["stylefactory", "run", "one", "--upto", "transfer"]
    with running(ready, moment(trial), command) as (process, stage):
        below = [child.pid for child in psutil.Process(process.pid).children(recursive=True)]
        os.kill(process.pid, signal.SIGKILL)
        assert wait_gone([stage]), "the stage outlived the flow"
        for pid in below:  # Prefect's temporary server is no child of ours to clean up in a flow, but it is in a test
            with contextlib.suppress(psutil.NoSuchProcess):
                psutil.Process(pid).kill()
    finishes_identically(ready, wanted)


@pytest.mark.parametrize(("trial", "how"), [(i, s) for i in range(3) for s in (signal.SIGINT, signal.SIGTERM)])
def test_run_cancelled_from_the_terminal(ready, wanted, trial, how):
    command = ["stylefactory", "run", "one", "--upto", "transfer"]
    with running(ready, moment(trial), command) as (process, stage):
        os.kill(process.pid, how)
        output = process.communicate(timeout=60)[0]
        assert process.returncode in (130, 143, 1) and "Traceback" not in output, output
        assert wait_gone([stage])
    finishes_identically(ready, wanted)


@pytest.mark.parametrize("trial", TRIALS)
def test_checkpoint_corrupted(ready, wanted, trial):
    with running(ready, moment(trial)) as (process, _stage):
        os.kill(process.pid, signal.SIGKILL)
    time.sleep(0.5)
    checkpoint = next((ready.root / "work/one/transfer").glob("*/checkpoint.json"))
    data = bytearray(checkpoint.read_bytes())
    if trial % 2:
        data = data[: len(data) // 2]
    else:
        data[len(data) // 3 + trial] ^= 0x55
    checkpoint.write_bytes(bytes(data))
    finishes_identically(ready, wanted, resumed=False)


@pytest.mark.parametrize("trial", TRIALS)
def test_settings_changed_during_a_run(ready, wanted, trial):
    with running(ready, moment(trial)) as (process, _stage):
        params.edit(ready.params, lambda tree: params.set_value(tree, "common.seed", 7 + trial))
        output = process.communicate(timeout=60)[0]
        assert process.returncode != 0 and "changed while it ran" in output, output
    assert "transfer@one" in dvc.changed(ready)
    params.edit(ready.params, lambda tree: params.set_value(tree, "common.seed", 0))
    assert "transfer@one" in dvc.changed(ready), "the interrupted result must not count for the old settings either"
    finishes_identically(ready, wanted, resumed=False)


@pytest.mark.parametrize("trial", TRIALS)
def test_cached_file_deleted(built, trial):
    """The result of the chain survives without its cached copy, and a chain whose files are gone is rebuilt."""
    model = built.root / "models/one/mobile.mnn"
    before = model.read_bytes()
    digest = next(
        out["md5"] for out in _lock(built)["stages"]["export@one"]["outs"] if out["path"].endswith("mobile.mnn")
    )
    cached = built.root / ".dvc/cache/files/md5" / digest[:2] / digest[2:]
    cached.unlink()
    if trial % 2:  # the only other copy as well
        model.unlink()
    for target in ("export@one", "evaluate@one"):
        dvc.reproduce(built, target, on_line=lambda _line: None)
    assert model.read_bytes() == before
    assert dvc.changed(built) == {}


def _lock(project: Project) -> dict:
    from ruamel.yaml import YAML

    return YAML(typ="safe").load((project.root / "dvc.lock").read_text())


@pytest.mark.parametrize("trial", TRIALS)
def test_disk_full(_built, wanted, tmp_path, monkeypatch, trial):
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", str(disk)], capture_output=True)
    if mount.returncode:
        pytest.skip("needs the right to mount a tmpfs")
    try:
        root = disk / "factory"
        shutil.copytree(_built, root, symlinks=True)
        monkeypatch.chdir(root)
        monkeypatch.setenv("STYLEFACTORY_ROOT", str(root))
        project = Project(root)
        inputs.forget(project, "transfer@one", 0)
        with running(project, moment(trial)) as (process, _stage):
            _fill(disk / "ballast")
            output = process.communicate(timeout=60)[0]
            assert process.returncode != 0 and "no space left on the disk" in output, output
            assert not (root / "models/one/transferred.safetensors").exists()
        (disk / "ballast").unlink()
        finishes_identically(project, wanted)
    finally:
        os.chdir(tmp_path)
        subprocess.run(["umount", "-l", str(disk)], check=True)


def _fill(path: Path) -> None:
    """Writes until the disk is full."""
    file = os.open(path, os.O_CREAT | os.O_WRONLY)
    with contextlib.suppress(OSError):
        while True:
            os.write(file, b"\0" * 4096)
    with contextlib.suppress(OSError):
        os.close(file)


@pytest.mark.parametrize("trial", TRIALS)
def test_two_runs_at_once_share_the_checkout(ready, wanted, trial):
    with running(ready, 2) as (first, _stage):
        second = subprocess.run(
            [sys.executable, "-c", WRAPPER], cwd=ready.root, env=_env(ready, SLOW), capture_output=True, text=True
        )
        assert first.communicate(timeout=60) and first.returncode == 0
    assert second.returncode == 0
    assert f"waiting: process {first.pid} is running transfer@one" in second.stdout
    assert "step" not in second.stdout  # it found the work done
    assert (ready.root / "models/one/transferred.safetensors").read_bytes() == wanted


def test_torchrun_runs_a_stage_in_two_processes_under_one_lock(built):
    """docs/scale.md: torchrun by hand, then ``dvc commit``."""
    before = (built.root / "models/one/fused.safetensors").read_bytes()
    params.edit(built.params, lambda tree: params.set_value(tree, "fuse.mid", 0.5))
    command = ["torchrun", "--standalone", "--nproc_per_node", "2", "-m", "fakestages", "fuse", "--style", "one"]
    (built.root / "models/one/fused.safetensors").unlink()  # as DVC does; its links are read-only
    result = subprocess.run(command, cwd=built.root, env=_env(built, {}), capture_output=True, text=True)
    assert result.returncode == 0, result.stderr[-2000:]
    assert result.stdout.count("fuse@one: done") == 1
    assert (built.root / "models/one/fused.safetensors").read_bytes() != before
    dvc.query(built, "commit", "--force", "--quiet", "fuse@one")
    assert "fuse@one" not in dvc.changed(built)
