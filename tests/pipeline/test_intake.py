"""The watched folder when somebody uploads badly: one folder's trouble is its own."""

import errno
import os
from pathlib import Path

import pytest

from pipeline import intake, styles
from pipeline.settings import load_settings
from stages.common.errors import DiskFullError
from tests.pipeline.test_styles import pictures

pytestmark = pytest.mark.usefixtures("accepts")
WATCHED = Path("data/intake")


def test_a_bad_folder_is_reported_once_and_the_others_go_on(built):
    pictures(built.root / WATCHED / "a-bad")
    (built.root / WATCHED / "a-bad/link.png").symlink_to("nowhere.png")
    pictures(built.root / WATCHED / "b-good")
    assert intake.look(built, WATCHED, settle_s=3600) == []
    found = {outcome.name: outcome for outcome in intake.look(built, WATCHED, settle_s=0)}
    assert not found["a-bad"].registered and "link.png" in found["a-bad"].text
    assert "\n" not in found["a-bad"].text
    assert found["b-good"].registered
    assert "a-bad" not in load_settings(built.params).styles
    assert intake.look(built, WATCHED, settle_s=0) == []


def test_a_file_renamed_during_the_look_means_not_settled(built, monkeypatch):
    moving = pictures(built.root / WATCHED / "a-moving")
    pictures(built.root / WATCHED / "b-good")
    rglob = Path.rglob
    ghosts = [moving / "0.png.part"]
    monkeypatch.setattr(Path, "rglob", lambda path, what: [*rglob(path, what), *(ghosts if path == moving else [])])
    assert [outcome.name for outcome in intake.look(built, WATCHED, settle_s=0)] == ["b-good"]
    ghosts.clear()
    assert [outcome.name for outcome in intake.look(built, WATCHED, settle_s=0)] == ["a-moving"]


def test_a_folder_that_cannot_be_looked_at_is_reported_once(built, monkeypatch):
    pictures(built.root / WATCHED / "a-closed")
    pictures(built.root / WATCHED / "b-good")
    fingerprint = intake._fingerprint

    def refuse(path: Path) -> tuple[str, float]:
        if path.name == "a-closed":
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return fingerprint(path)

    monkeypatch.setattr(intake, "_fingerprint", refuse)
    found = {outcome.name: outcome for outcome in intake.look(built, WATCHED, settle_s=0)}
    assert "not allowed to read" in found["a-closed"].text and found["b-good"].registered
    assert intake.look(built, WATCHED, settle_s=0) == []


def test_names_in_an_old_encoding_stop_nobody(built):
    folder = pictures(built.root / WATCHED / "a-old")
    (folder / "0.png").rename(folder / os.fsdecode(b"f\xfcr.png"))
    pictures(built.root / WATCHED / "b-good")
    assert [outcome.name for outcome in intake.look(built, WATCHED, settle_s=0)] == ["a-old", "b-good"]


@pytest.mark.parametrize("error", [DiskFullError("full"), OSError(errno.ENOSPC, "No space left on device")])
def test_a_full_disk_is_not_the_folders_fault(built, monkeypatch, error):
    pictures(built.root / WATCHED / "mine")

    def fail(*_args: object, **_kwargs: object) -> None:
        raise error

    with monkeypatch.context() as full:
        full.setattr(styles, "add", fail)
        assert [outcome.registered for outcome in intake.look(built, WATCHED, settle_s=0)] == [False]
    assert [outcome.registered for outcome in intake.look(built, WATCHED, settle_s=0)] == [True]
