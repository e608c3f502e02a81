"""Who is held out for tests, and landmarks given by people: both must still be found where pictures were copied to."""

from pathlib import Path
from typing import Any

import pytest

from stages.common.errors import InputError
from stages.common.hashing import tree_hash
from stages.common.images import write_png
from stages.faces import photos, style_faces
from stages.faces.check import check_pictures
from tests.faces.helpers import settings_with
from tests.faces.test_ingest import SEEN, bust, heads, style_folder


def test_holdout_goes_to_test(tmp_path):
    folder = tmp_path / "in"
    style_folder(folder, 10)
    (tmp_path / "hold.csv").write_text("file,person\nhead_003.png,head_003\n")
    settings = settings_with(photos={"holdout": "hold.csv", "test_share": 0.0, "min_sharpness": 0.1})
    table, _, _, _ = photos.prepare(folder, settings, tmp_path)
    assert table.set_index("file")["split"].eq("test").pipe(lambda s: s.index[s].tolist()) == ["head_003.png"]


def held_files(folder: Path, root: Path, text: str, **options: Any) -> list[str]:
    """Files of the test split with a hold-out list of this text and nobody else in it."""
    (root / "hold.csv").write_text(text)
    options = {"holdout": "hold.csv", "test_share": 0.0, "min_sharpness": 0.1} | options
    table, _, _, _ = photos.prepare(folder, settings_with(photos=options), root)
    return table["file"][table["split"] == "test"].tolist()


@pytest.mark.parametrize(
    "text",
    ["file\nhead_003.png\n", "person\nhead_003\n", "file\nmine/head_003.png\n", "person\nmine_head_003\n"],
)
def test_holdout_follows_photos_into_their_folder(tmp_path, text):
    """The lists people have were written before 'stylefactory photos mine' put the photos into mine/."""
    style_folder(tmp_path / "photos/mine", 6)
    assert held_files(tmp_path / "photos", tmp_path, text) == ["mine/head_003.png"]
    assert held_files(tmp_path / "photos/mine", tmp_path, text) == ["head_003.png"]


def test_an_exact_name_on_the_holdout_list_means_that_file_alone(tmp_path):
    style_folder(tmp_path / "in", 4)
    style_folder(tmp_path / "in/more", 6, start=3)
    assert held_files(tmp_path / "in", tmp_path, "file\nhead_003.png\n") == ["head_003.png"]


def test_holdout_entries_that_name_nobody_are_refused(tmp_path):
    style_folder(tmp_path / "a", 5)
    style_folder(tmp_path / "b", 3, start=5)
    (tmp_path / "a/broken.png").write_bytes(b"nothing")
    # a picture that was refused is no mistake; of a line one half suffices
    lines = "file,person\nhead_003.png,anna\nbroken.png,\n,head_002\n"
    assert held_files(tmp_path / "a", tmp_path, lines) == ["head_002.png", "head_003.png"]
    with pytest.raises(InputError, match=r"1 of .*hold\.csv's entries match no file.*\(head_0O3\.png\)") as caught:
        held_files(tmp_path / "a", tmp_path, lines + "head_0O3.png,\n")
    assert "\n" not in str(caught.value)
    # of two folders each has only some
    settings = settings_with(photos={"holdout": "hold.csv"})
    (tmp_path / "hold.csv").write_text("file\nhead_003.png\nb/head_006.png\n")
    check_pictures([tmp_path / "a", tmp_path / "b"], "photos", settings, tmp_path)
    with pytest.raises(InputError, match=r"b/head_006\.png"):
        check_pictures([tmp_path / "a"], "photos", settings, tmp_path)


def test_who_shares_a_picture_with_a_held_out_person_is_held_out(tmp_path):
    style_folder(tmp_path / "in", 5)
    (tmp_path / "in/zoe.png").write_bytes((tmp_path / "in/head_003.png").read_bytes())
    marks = (tmp_path / "in/landmarks.csv").read_text()
    row = next(line for line in marks.splitlines() if line.startswith("head_003"))
    (tmp_path / "in/landmarks.csv").write_text(marks + row.replace("head_003", "zoe") + "\n")
    assert held_files(tmp_path / "in", tmp_path, "person\nzoe\n") == ["head_003.png"]  # zoe.png is left out as its copy


@pytest.mark.parametrize("align", ["auto", "landmarks"])
def test_landmarks_of_sub_folders_count_for_their_pictures(tmp_path, align):
    """'stylefactory photos a b' was checked with a/landmarks.csv and without one in b: the stage sees the same."""
    style_folder(tmp_path / "in/a", 4)
    (tmp_path / "in/b").mkdir()
    for seed in SEEN[:3]:
        write_png(tmp_path / f"in/b/{seed}.png", bust(seed))
    settings = settings_with(photos={"align": align, "detector": "haar", "min_sharpness": 0.1})
    table, rejected, _, _ = photos.prepare(tmp_path / "in", settings, tmp_path)
    methods = table.assign(folder=table["file"].str[0]).groupby("folder")["method"].agg(set).to_dict()
    assert len(table[table["source"] == "a"]) == 4
    if align == "auto":
        assert methods == {"a": {"landmarks"}, "b": {"haar"}} and rejected.empty
    else:
        assert methods == {"a": {"landmarks"}} and rejected["reason"].tolist() == ["no_landmarks"] * 3


def test_a_style_with_landmarks_in_one_of_its_folders(tmp_path):
    style_folder(tmp_path / "in/a", 4)
    heads(tmp_path / "in/b", 0, 12)
    settings = settings_with(style_faces={"detector": "haar", "min_sharpness": 0.0}, photos={})
    table, rejected, _, _ = style_faces.prepare(tmp_path / "in", settings, tmp_path)
    assert set(table.loc[table["source"] == "a", "method"]) == {"landmarks"}
    assert "b" in set(table["source"]) and "no_landmarks" not in set(rejected["reason"])


def test_holdout_list_is_an_input(tmp_path):
    (tmp_path / "in").mkdir()
    path, folder = tmp_path / "hold.csv", str(tmp_path / "in")
    held = settings_with(photos={"path": folder, "holdout": str(path)})
    hashes = []
    for text in ("person\nanna\n", "person\nbert\n"):
        path.write_text(text)
        hashes.append(tree_hash(photos.inputs(held, "")))
    assert hashes[0] != hashes[1]
    assert photos.inputs(settings_with(photos={"path": "in"}), "") == [Path("in"), Path("models/weights.json")]
