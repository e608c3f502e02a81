"""Releases: what is frozen, what is refused, and that another machine gets the same files back."""

import csv
import hashlib
import shutil
import subprocess
import zipfile

import pytest

from pipeline import dvc, params, releases, reporting
from pipeline.processes import environment
from pipeline.project import Project
from stages.common.errors import StageError
from tests.pipeline.conftest import git


@pytest.mark.slow
def test_release_push_clone_pull_and_going_back(built, tmp_path):
    dvc.query(built, "remote", "add", "--default", "store", str(tmp_path / "store"))
    git(built.root, "commit", "-qam", "remote")
    first = releases.release(built, "one", force=False, push=True)
    assert (first.tag, first.bundle.name) == ("style/one/v1", "one-v1.zip")
    model = (built.root / "models/one/mobile.mnn").read_bytes()

    params.edit(built.params, lambda tree: params.set_value(tree, "common.seed", 7))
    subprocess.run(["dvc", "repro", "-q"], cwd=built.root, env=environment(), check=True, capture_output=True)
    assert (built.root / "models/one/mobile.mnn").read_bytes() != model
    assert releases.release(built, "one", force=False, push=True).tag == "style/one/v2"
    assert releases.versions(built, "one") == [1, 2]
    with (built.root / "releases.csv").open() as file:
        assert [row["tag"] for row in csv.DictReader(file)] == ["style/one/v1", "style/one/v2"]

    clone = tmp_path / "clone"
    git(tmp_path, "clone", "-q", str(built.root), str(clone))
    git(clone, "checkout", "-q", "style/one/v1")
    dvc.query(Project(clone), "pull", "--quiet", "--allow-missing")
    assert (clone / "models/one/mobile.mnn").read_bytes() == model

    git(built.root, "checkout", "-q", "style/one/v1")
    dvc.query(built, "checkout", "--quiet", "--allow-missing")
    assert (built.root / "models/one/mobile.mnn").read_bytes() == model


def test_bundle_is_complete_checked_and_reproducible(built):
    made = releases.release(built, "one", force=False, push=False)
    with zipfile.ZipFile(made.bundle) as archive:
        names = {name.removeprefix("one-v1/") for name in archive.namelist()}
        assert names == {"MODEL_CARD.md", "SHA256SUMS", "mobile.mnn", "mobile.json"}
        archive.extractall(built.root / "out")
        card = archive.read("one-v1/MODEL_CARD.md").decode()
    sums = subprocess.run(["sha256sum", "-c", "SHA256SUMS"], cwd=built.root / "out/one-v1", capture_output=True)
    assert sums.returncode == 0, sums.stdout
    assert card.startswith("# Model card: toy") and "verdict pass" in card and "CC0" in card
    assert hashlib.sha256((built.root / "models/one/mobile.mnn").read_bytes()).hexdigest() in card
    again = releases._bundle(built, "again", releases._model_files(built, "one"), card)
    shutil.move(made.bundle, built.root / "first.zip")
    same = releases._bundle(built, "again", releases._model_files(built, "one"), card)
    assert again.read_bytes() == same.read_bytes()


@pytest.mark.parametrize("refuses", ["commit", "tag"])
def test_a_release_git_refuses_leaves_nothing_and_the_next_try_writes_one_row(built, monkeypatch, refuses):
    if refuses == "commit":
        releases.release(built, "one", force=False, push=False)  # the list is there already
    params.edit(built.params, lambda tree: params.set_value(tree, "ops.push", False))
    (built.root / "data/curation").mkdir(parents=True, exist_ok=True)
    (built.root / "data/curation/one.csv").write_text("id,decision,reason\n")
    path = built.root / releases.LIST
    before = path.read_bytes() if path.exists() else None
    head, changed = git(built.root, "rev-parse", "HEAD"), git(built.root, "status", "--porcelain")
    run = releases._git

    def refuse(project: Project, *args: str) -> str:
        if args[:1] == (refuses,) and "-m" in args:
            raise StageError(f"git {refuses}: a hook says no")
        return run(project, *args)

    with monkeypatch.context() as refusing, pytest.raises(StageError, match="a hook says no"):
        refusing.setattr(releases, "_git", refuse)
        releases.release(built, "one", force=False, push=False)
    assert (path.read_bytes() if path.exists() else None) == before
    assert (git(built.root, "rev-parse", "HEAD"), git(built.root, "status", "--porcelain")) == (head, changed)
    made = releases.release(built, "one", force=False, push=False)
    with path.open() as file:
        assert [row["tag"] for row in csv.DictReader(file)].count(made.tag) == 1


def test_refusals(built, monkeypatch):
    (built.root / "fakestages.py").write_text((built.root / "fakestages.py").read_text() + "\n")
    with pytest.raises(StageError, match=r"fakestages\.py: changed but not committed"):
        releases.release(built, "one", force=False, push=False)
    git(built.root, "checkout", "fakestages.py")
    monkeypatch.setattr(reporting, "verdict_line", lambda _project, _style: "fail")
    with pytest.raises(StageError, match="verdict is 'fail'; --force"):
        releases.release(built, "one", force=False, push=False)
    params.edit(built.params, lambda tree: params.set_value(tree, "fuse.mid", 0.5))
    with pytest.raises(StageError, match="not finished"):
        releases.release(built, "one", force=True, push=False)
    assert releases.versions(built, "one") == []
