"""Adding, listing and removing styles; photos; intake; the disk."""

import errno
import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from pipeline import gc, intake, params, styles
from pipeline.files import read_json
from pipeline.processes import environment
from pipeline.settings import load_settings
from stages.common.errors import DiskFullError, FactoryError, InputError, SettingsError
from tests.pipeline.conftest import git

pytestmark = pytest.mark.usefixtures("accepts")


def pictures(folder: Path, count: int = 3, broken: bool = False) -> Path:
    folder.mkdir(parents=True)
    for i in range(count):
        (folder / f"{i}.png").write_bytes(f"{folder.name} {i}".encode())
    if broken:
        (folder / "broken.png").write_bytes(b"x")
    return folder


def test_new_style_is_registered_versioned_and_known_to_dvc(built, tmp_path):
    added = styles.add(built, "two", pictures(tmp_path / "mine"), "CC BY 4.0", {"fuse.mid": 0.5})
    assert (added.pictures, added.verdict) == (3, "good")
    assert added.expected_s is not None
    settings = load_settings(built.params).for_style("two")
    assert (settings.item.pictures, settings.item.licence) == ("data/raw/styles/two", "CC BY 4.0")
    assert settings.fuse.mid == 0.5
    assert (built.root / "data/curation/two.csv").read_text() == styles.CURATION_HEADER
    new = git(built.root, "status", "--porcelain", "--untracked-files=all").splitlines()
    assert {line[3:] for line in new} == {"params.yaml", "data/curation/two.csv", "data/raw/styles/two.dvc"}
    rows = {row["style"]: row for row in styles.describe(built)}
    assert (rows["one"]["verdict"], rows["two"]["verdict"]) == ("pass", "not evaluated")
    assert rows["two"]["overrides"] == ["fuse"]


def test_expected_time_follows_the_length_of_the_trainings(built, tmp_path):
    """The style built here trained for the default's length; one that trains ten times as long takes longer."""
    kimg = load_settings(built.params).transfer.kimg
    same = styles.add(built, "two", pictures(tmp_path / "mine"), "CC0")
    longer = styles.add(built, "three", pictures(tmp_path / "others"), "CC0", {"transfer.kimg": 10 * kimg})
    took = read_json(built.root / "reports/metrics/one/transfer.json")["seconds"]
    assert longer.expected_s == pytest.approx(same.expected_s + 9 * took)


@pytest.mark.parametrize("name", ["Two", "2two", "photos", "metrics", "a b", "one"])
def test_bad_and_taken_names_are_refused(built, tmp_path, name):
    with pytest.raises(SettingsError):
        styles.add(built, name, pictures(tmp_path / "mine"))


def test_unusable_pictures_change_nothing(built, tmp_path):
    before = built.params.read_text()
    with pytest.raises(styles.Rejected, match="0 of 1"):
        styles.add(built, "two", pictures(tmp_path / "mine", broken=True))
    with pytest.raises(SettingsError, match=r"styles\.two\.fuse\.width"):
        styles.add(built, "two", pictures(tmp_path / "other"), overrides={"fuse.width": 0})
    assert built.params.read_text() == before
    assert not (built.root / "data/raw").exists()


def test_remove_takes_everything_of_the_style_and_nothing_else(built, tmp_path):
    with pytest.raises(SettingsError, match="only style"):
        styles.delete(built, "one")
    styles.add(built, "two", pictures(tmp_path / "mine"))
    (built.root / "work/two/transfer").mkdir(parents=True)
    styles.delete(built, "two")
    assert list(load_settings(built.params).styles) == ["one"]
    assert not any(
        (built.root / path).exists()
        for path in ("work/two", "data/raw/styles/two", "data/raw/styles/two.dvc", "data/curation/two.csv")
    )
    assert (built.root / "models/one/mobile.mnn").is_file()
    text = (built.root / "dvc.lock").read_text()
    assert "@one" in text and "@two" not in text


def test_photos_are_copied_by_folder_and_the_setting_follows(built, tmp_path):
    first, second = pictures(tmp_path / "a"), pictures(tmp_path / "b", 2)
    assert styles.use_photos(built, [first, second], "consent forms") == 5
    photos = load_settings(built.params).photos
    assert (photos.path, photos.licence) == ("data/raw/photos", "consent forms")
    assert len(list((built.root / "data/raw/photos").rglob("*.png"))) == 5
    styles.use_photos(built, [second])
    assert [path.name for path in (built.root / "data/raw/photos").iterdir()] == ["b"]
    with pytest.raises(SettingsError, match="same name"):
        styles.use_photos(built, [first, pictures(tmp_path / "c" / "a")])


@pytest.mark.parametrize("case", ["dangling link", "full disk", "full disk later"])
def test_a_failed_copy_is_typed_and_leaves_nothing(built, tmp_path, monkeypatch, case):
    styles.use_photos(built, [pictures(tmp_path / "before")])
    new, expected, said = pictures(tmp_path / "new" / "sub").parent, DiskFullError, "no space left"
    if case == "dangling link":
        (new / "sub/gone.png").symlink_to(tmp_path / "nowhere.png")
        expected, said = InputError, r"sub/gone\.png: cannot be read"
    elif case == "full disk":
        copy, copied = shutil.copy2, []

        def full(source: str, target: str, **options: object) -> str:
            copied.append(source)
            if len(copied) == 2:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), source, None, target)
            return str(copy(source, target))

        monkeypatch.setattr(shutil, "copy2", full)
    else:

        def refused(*_args: object) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        monkeypatch.setattr(params, "edit", refused)
    before = built.params.read_text()
    calls = [lambda: styles.use_photos(built, [new]), lambda: styles.add(built, "two", new)]
    for call in calls:
        if case == "full disk":
            copied.clear()
        with pytest.raises(FactoryError, match=said) as caught:
            call()
        assert isinstance(caught.value, expected) and "\n" not in str(caught.value)
    assert built.params.read_text() == before
    kept = {path.name for path in (built.root / "data/raw").rglob("*") if path.is_dir()} - {"styles"}
    assert kept == {"photos", "before"} and not list((built.root / "data/raw").rglob("*.tmp"))
    assert len(list((built.root / "data/raw/photos/before").iterdir())) == 3


def test_only_the_factory_s_own_work_folder_is_hidden_from_dvc(built):
    paths = [
        "data/raw/photos/work/x.jpg",
        "data/raw/styles/work/x.png",
        "work/x",
        "work/one/x",
        ".venv/x",
        ".prefect/x",
    ]
    for path in paths:
        (built.root / path).parent.mkdir(parents=True, exist_ok=True)
        (built.root / path).touch()
    command = ["dvc", "check-ignore", *paths]
    ignored = subprocess.run(command, cwd=built.root, env=environment(), capture_output=True, text=True).stdout.split()
    assert ignored == paths[2:]


def test_intake_registers_complete_folders_and_leaves_bad_ones_alone(built):
    watched = built.root / "data/intake"
    pictures(watched / "My Style 2")
    (watched / "My Style 2/licence.txt").write_text("CC0\n")
    pictures(watched / "bad", broken=True)
    assert intake.look(built, Path("data/intake"), settle_s=3600) == []  # still being copied, for all we know
    found = {outcome.name: outcome for outcome in intake.look(built, Path("data/intake"), settle_s=0)}
    assert found["my-style-2"].registered and not found["bad"].registered
    assert "0 of 1" in found["bad"].text
    assert load_settings(built.params).styles["my-style-2"].licence == "CC0"
    assert intake.look(built, Path("data/intake"), settle_s=0) == []  # nothing new, nothing said twice
    (watched / "bad/broken.png").unlink()
    assert [outcome.registered for outcome in intake.look(built, Path("data/intake"), settle_s=0)] == [True]
    assert len(list(watched.rglob("*.png"))) == 6  # the watched folder is never written to


def test_gc_shows_and_removes_only_what_nobody_needs(built):
    old = time.time() - 30 * 86400
    for path in ("work/one/transfer/abc/checkpoint", "work/gone/transfer/x", "work/cache/set/images.npy"):
        (built.root / path).parent.mkdir(parents=True)
        (built.root / path).write_bytes(b"x" * 100)
    for path in [*(built.root / "work").rglob("*")]:
        os.utime(path, (old, old))
    (built.root / "work/one/fuse/new").mkdir(parents=True)
    found = gc.find(built, ["one"], older_days=7)
    assert [item.path for item in found] == ["work/cache/set", "work/gone", "work/one/transfer/abc"]
    params.edit(built.params, lambda tree: params.set_value(tree, "fuse.mid", 0.5))
    assert gc.unused_objects(built) is None
    stray = built.root / ".dvc/cache/files/md5/00/00000000000000000000000000000000"
    stray.parent.mkdir(exist_ok=True)
    stray.write_bytes(b"unused")
    objects = gc.unused_objects(built)
    assert objects is not None and objects.why.startswith("1 object")
    assert gc.collect(built, found, objects=True) >= 300
    assert not stray.exists() and not (built.root / "work/gone").exists()
    assert (built.root / "models/one/mobile.mnn").is_file()
    assert gc.unused_objects(built) is None
