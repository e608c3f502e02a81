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
    shutil.copy(FAKE / "diagram.yaml", root / "dvc.yaml")  # under that name the real DVC would read it here
    shutil.copy(FAKE / "fakestages.py", root)
    shutil.copy(REPO / ".gitignore", root)
    shutil.copy(REPO / ".dvcignore", root)
    shutil.copytree(REPO / ".dvc", root / ".dvc", ignore=shutil.ignore_patterns("tmp", "cache", "config.local"))
    tree = render({"styles": {style: {"pictures": f"pictures/{style}", "licence": "CC0"} for style in styles}})
    tree["photos"]["path"] = "people"
    tree["fuse"]["mid"] = 1.5  # tests change it to 0.5; the default is the demo's business
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


@pytest.fixture(scope="session")
def _built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A factory with one finished style, built once; tests get copies."""
    project = make_factory(tmp_path_factory.mktemp("built") / "factory")
    subprocess.run(["dvc", "repro", "-q"], cwd=project.root, env=environment(), check=True, capture_output=True)
    git(project.root, "add", "-A")
    git(project.root, "commit", "-q", "-m", "built")
    return project.root


@pytest.fixture
def built(_built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A copy of a factory with one finished and committed style."""
    root = tmp_path / "factory"
    shutil.copytree(_built, root, symlinks=True)
    git(root, "config", "user.name", "Tester")
    git(root, "config", "user.email", "tester@example.org")
    monkeypatch.chdir(root)
    monkeypatch.setenv("STYLEFACTORY_ROOT", str(root))
    return Project(root)


@pytest.fixture
def accepts(monkeypatch: pytest.MonkeyPatch) -> None:
    """The picture check says yes to everything but a folder with broken.png (the real one needs real faces)."""
    from pipeline import styles

    def check(_project: Project, _kind: str, folders: list[Path], *_args: object) -> dict[str, object]:
        for folder in folders:
            if (folder / "broken.png").exists() or not folder.is_dir():
                raise styles.Rejected(f"{folder}: 0 of 1 pictures usable (broken.png: not an image)")
        return {"usable": sum(1 for folder in folders for _ in folder.iterdir()), "verdict": "good"}

    monkeypatch.setattr(styles, "check", check)


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
