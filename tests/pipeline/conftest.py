"""A small factory with stand-in stages: the real wrapper, DVC, lock and flows around work that takes no time."""

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from pipeline.processes import environment
from pipeline.project import Project
from pipeline.settings.render import render

FAKE = Path(__file__).parent / "fake"
REPO = Path(__file__).resolve().parents[2]


def git(root: Path, *args: str) -> str:
    """Runs git in ``root`` as a test author."""
    who = ["-c", "user.name=Tester", "-c", "user.email=tester@example.org"]
    result = subprocess.run(["git", *who, *args], cwd=root, capture_output=True, text=True, check=True)
    return result.stdout


def make_factory(root: Path, styles: tuple[str, ...] = ("one",)) -> Project:
    """A committed project with ``styles``, three pictures each, and three photos. Nothing is built yet."""
    root.mkdir(parents=True, exist_ok=True)
    shutil.copy(FAKE / "dvc.yaml", root)
    shutil.copy(FAKE / "fakestages.py", root)
    shutil.copy(REPO / ".gitignore", root)
    shutil.copy(REPO / ".dvcignore", root)
    shutil.copytree(REPO / ".dvc", root / ".dvc", ignore=shutil.ignore_patterns("tmp", "cache", "config.local"))
    tree = render({"styles": {style: {"pictures": f"pictures/{style}", "licence": "CC0"} for style in styles}})
    tree["photos"]["path"] = "people"
    tree["ops"].update(retry_wait_s=0.1, min_free_gb=0)
    with (root / "params.yaml").open("w") as file:
        YAML().dump(tree, file)
    for folder in ("people", *(f"pictures/{style}" for style in styles)):
        (root / folder).mkdir(parents=True)
        for i in range(3):
            (root / folder / f"{i}.png").write_bytes(f"{folder} {i}".encode())
    git(root, "init", "-q", "-b", "main")
    git(root, "add", "-A")
    git(root, "commit", "-q", "-m", "start")
    return Project(root)


@pytest.fixture
def factory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Project]:
    """A fresh project with one style; the working folder and every lookup point to it."""
    project = make_factory(tmp_path / "factory")
    monkeypatch.chdir(project.root)
    monkeypatch.setenv("STYLEFACTORY_ROOT", str(project.root))
    for name in [key for key in os.environ if key.startswith("PREFECT_")]:
        monkeypatch.delenv(name)
    yield project


@pytest.fixture
def start_cli() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts ``stylefactory`` in a project; whatever is left at the end is killed."""
    from pipeline.processes import kill_tree

    started: list[subprocess.Popen[str]] = []

    def start(project: Project, *args: str, **env: str) -> subprocess.Popen[str]:
        environ = environment() | {"STYLEFACTORY_ROOT": str(project.root)} | env
        process = subprocess.Popen(
            ["stylefactory", *args],
            cwd=project.root,
            env=environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        if process.poll() is None:
            kill_tree(process.pid, grace_s=2)
