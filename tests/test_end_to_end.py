"""The real chain, tiny, through the real DVC in a temporary clone: pictures to .mnn and report."""

import contextlib
import json
import os
import random
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
from ruamel.yaml import YAML

REPO = Path(__file__).resolve().parents[1]
# Seconds instead of minutes: nothing here is meant to look good, everything is meant to fit together.
TINY = {
    "demo_inputs.photos": 60,
    "demo_inputs.avatars": 60,
    "photos.min_usable": 5,
    "style_faces.min_usable": 5,
    "transfer.kimg": 0.064,
    "transfer.snapshots": 1,
    "transfer.min_diversity": 0,
    "generate.sampled": 24,
    "generate.inverted": 4,
    "generate.invert_steps": 2,
    "generate.face_filter": False,
    "translate.kimg": 0.064,
    "translate.warm_kimg": 0.032,
    "mobile.kimg": 0.064,
    "mobile.tier": "xs",
    "pair.min_mask_iou": 0.0,
    "pair.min_score": 0.0,
    "evaluate.pictures": 24,
    "evaluate.latency_runs": 2,
}


def clone(folder: Path) -> Path:
    """A copy of the files git knows or would know, with tiny settings, committed."""
    names = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=REPO,
        capture_output=True,
        check=True,
    ).stdout.decode()
    for name in names.split("\0"):
        if name and (REPO / name).is_file():
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes((REPO / name).read_bytes())
    yaml = YAML()
    tree = yaml.load((folder / "params.yaml").read_text())
    for key, value in TINY.items():
        section, name = key.split(".")
        assert name in tree[section], key
        tree[section][name] = value
    with (folder / "params.yaml").open("w") as file:
        yaml.dump(tree, file)
    git(folder, "init", "-q")
    git(folder, "add", "-A")
    git(folder, "commit", "-qm", "start")
    return folder


def git(folder: Path, *args: str) -> None:
    subprocess.run(["git", "-c", "user.name=t", "-c", "user.email=t@example.org", *args], cwd=folder, check=True)


def dvc(folder: Path, *args: str) -> str:
    """Runs DVC as a person would, without optional weights; returns its output, fails the test with it."""
    bins = str(Path(sys.executable).parent)
    env = os.environ | {"PATH": f"{bins}:{os.environ['PATH']}", "STYLEFACTORY_WEIGHTS": "", "PYTHONPATH": str(folder)}
    done = subprocess.run([f"{bins}/dvc", *args], cwd=folder, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


def test_pictures_to_phone_model_and_report(tmp_path: Path) -> None:
    root = clone(tmp_path / "factory")
    dvc(root, "repro")
    sidecar = json.loads((root / "models/avatar/mobile.json").read_text())
    assert sidecar["style"] == "avatar"
    page = (root / "reports/avatar/report.html").read_text()
    assert "<html" in page and not re.search(r'(src|href)="https?://', page), "the page needs no network"
    metrics = json.loads((root / "reports/metrics/avatar/evaluate.json").read_text())
    assert metrics

    unchanged = dvc(root, "repro")
    assert "Running stage 'weights'" in unchanged and unchanged.count("Running stage") == 1

    params = (root / "params.yaml").read_text()
    (root / "params.yaml").write_text(params.replace("max_zoom: 0.06", "max_zoom: 0.05"))
    stale = [name for name in json.loads(dvc(root, "status", "--json")) if name != "weights"]
    assert stale == ["mobile@avatar"], "a changed stage-3 setting reaches stage 3 only"

    image = root / "data/demo/photos"
    picture = sorted(image.glob("*.png"))[0]
    out = tmp_path / "styled.png"
    command = [sys.executable, "-m", "stages.mobile.stylize", "--model", "models/avatar/mobile.mnn", "--whole-frame"]
    subprocess.run([*command, str(picture), str(out)], cwd=root, check=True, capture_output=True)
    assert out.stat().st_size > 500


def new_checkpoint(root: Path, process: subprocess.Popen[bytes]) -> bool:
    """Waits until the running transfer has written a checkpoint that was not there before; False if it never does."""

    def newest() -> float:
        times = []
        for file in (root / "work/avatar/transfer").glob("*/checkpoint_*.pt"):
            with contextlib.suppress(FileNotFoundError):  # the loop removes old ones
                times.append(file.stat().st_mtime)
        return max(times, default=0.0)

    before, deadline = newest(), time.monotonic() + 120
    while process.poll() is None and time.monotonic() < deadline:
        if newest() > before:
            return True
        time.sleep(0.02)
    return False


def orphans(root: Path) -> list[str]:
    """Pids of transfer stages that run in ``root``."""
    found = subprocess.run(["pgrep", "-f", "stages.generate.transfer"], capture_output=True, text=True).stdout.split()
    running = []
    for pid in found:
        with contextlib.suppress(FileNotFoundError):  # it has just ended
            if Path(f"/proc/{pid}/cwd").resolve(strict=True) == root:
                running.append(pid)
    return running


@pytest.mark.slow
def test_killed_chain_ends_as_an_uninterrupted_one(tmp_path: Path) -> None:
    """20 SIGKILLs of DVC while it trains: no orphan, and the next repro ends bit-identical."""
    bins = str(Path(sys.executable).parent)

    def build(folder: Path, kills: int) -> bytes:
        root = clone(folder)
        path = {"PATH": f"{bins}:{os.environ['PATH']}", "STYLEFACTORY_WEIGHTS": "", "PYTHONPATH": str(root)}
        dvc(root, "repro", "style_faces@avatar")
        text = re.sub(r"(\ntransfer:.*?\n  kimg: )[0-9.]+", r"\g<1>3.0", (root / "params.yaml").read_text(), flags=re.S)
        (root / "params.yaml").write_text(text.replace("checkpoint_nimg: 2000", "checkpoint_nimg: 32"))
        rng, checkpointed = random.Random(0), 0
        for kill in range(kills):
            process = subprocess.Popen(
                [f"{bins}/dvc", "repro", "-s", "transfer@avatar"], cwd=root, env=os.environ | path
            )
            # half of the kills anywhere in the start, half in training: a fixed wait meets only one of both, and which
            # one depends on the machine
            if kill % 2:
                checkpointed += new_checkpoint(root, process)
                time.sleep(rng.uniform(0, 1))
            else:
                time.sleep(rng.uniform(0.2, 5))
            assert process.poll() is None, f"kill {kill} met no running chain"
            process.kill()
            process.wait()
            deadline = time.monotonic() + 30  # a stage still importing torch ends when that is done
            while orphans(root) and time.monotonic() < deadline:
                time.sleep(0.1)
            assert not orphans(root), "the stage outlived DVC"
        assert checkpointed == kills // 2
        dvc(root, "repro", "-s", "transfer@avatar")
        return (root / "models/avatar/transferred.safetensors").read_bytes()

    assert build(tmp_path / "a", 0) == build(tmp_path / "b", 20)
