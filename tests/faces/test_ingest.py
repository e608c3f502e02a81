"""photos and style_faces from folders with everything people put into folders."""

import io
import json
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from stages.common.errors import InputError
from stages.common.images import read_image, write_png
from stages.faces import cache, drawn, ingest, photos, places, style_faces
from stages.faces.check import check_pictures
from tests.faces.helpers import context, draw_head, landmarks_csv, on_colour, settings_with

# drawn busts that the Haar cascade takes for a face
SEEN = (0, 2, 3, 5, 6, 7, 8, 10)


def bust(seed: int, size: int = 240) -> np.ndarray:
    return on_colour(draw_head(seed, size)[0], (100 + 10 * seed, 140, 190))


def header_bomb() -> bytes:
    """A PNG that claims 20,000 x 20,000 pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 20000, 20000, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 100)) + chunk(b"IEND", b"")
    )


def fill_with_everything(folder: Path) -> tuple[set[str], dict[str, str]]:
    """Writes 25 kinds of files; returns the usable ones and the others with their reason."""
    folder.mkdir(parents=True)
    good, bad = set(), {}

    def usable(name: str, image: Image.Image, **options: object) -> None:
        image.save(folder / name, **options)  # type: ignore[arg-type]
        good.add(name)

    def useless(name: str, data: bytes, reason: str) -> None:
        (folder / name).write_bytes(data)
        bad[name] = reason

    heads = {seed: Image.fromarray(bust(seed)) for seed in SEEN}
    usable("plain.jpg", heads[0], quality=95)
    usable("cmyk.jpg", heads[2].convert("CMYK"), quality=95)
    grey16 = np.asarray(heads[3].convert("L")).astype(np.uint16) * 257
    usable("sixteen bit.png", Image.fromarray(grey16))
    usable("grey.png", heads[5].convert("L"))
    usable("palette.png", heads[6].convert("P", palette=Image.Palette.ADAPTIVE))
    usable("animated.gif", heads[7], save_all=True, append_images=[heads[0]])
    usable("animated.webp", heads[8], save_all=True, append_images=[heads[0]], lossless=True)
    exif = Image.Exif()
    exif[0x0112] = 6
    usable("turned by exif.jpg", heads[10].transpose(Image.Transpose.ROTATE_90), exif=exif, quality=95)
    three = Image.new("RGB", (720, 240))
    for i, seed in enumerate((0, 3, 6)):
        three.paste(Image.fromarray(on_colour(draw_head(seed, 240)[0])), (240 * i, 0))
    usable("three faces.png", three)
    usable("UPPER.JPG", Image.fromarray(bust(2, 300)).transpose(Image.Transpose.FLIP_LEFT_RIGHT), quality=95)
    usable("Ünïcode 顔.png", Image.fromarray(on_colour(draw_head(5, 300)[0], (30, 90, 60))))
    usable("transparent.png", Image.fromarray(draw_head(7, 300)[0]))
    buffer = io.BytesIO()
    heads[0].save(buffer, "JPEG")
    jpeg = buffer.getvalue()
    useless("truncated.jpg", jpeg[: len(jpeg) // 2], "truncated")
    corrupt = bytearray((folder / "grey.png").read_bytes())
    corrupt[len(corrupt) // 2 : len(corrupt) // 2 + 40] = b"x" * 40
    useless("corrupt.png", bytes(corrupt), "corrupt")
    useless("empty.jpg", b"", "empty")
    useless("text.jpg", b"just some text, nothing more", "not_a_picture")
    useless("bomb.png", header_bomb(), "too_large")
    for name, size in (("one pixel.png", 1), ("one row.png", 2)):
        Image.new("RGB", (size, 1)).save(folder / name)
        bad[name] = "no_face"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (90, 90, 3)).astype(np.uint8)).save(folder / "noise.png")
    bad["noise.png"] = "no_face"
    Image.fromarray(bust(0)).crop((0, 0, 90, 240)).save(folder / "half a face.png")
    bad["half a face.png"] = "no_face"
    tiny = Image.new("RGB", (64, 64), (90, 120, 90))
    tiny.paste(heads[3].resize((24, 24), Image.Resampling.LANCZOS), (20, 20))
    tiny.save(folder / "tiny face.png")
    bad["tiny face.png"] = "no_face|face_too_small"
    (folder / "again.jpg").write_bytes((folder / "plain.jpg").read_bytes())
    bad["plain.jpg"] = "duplicate"  # "again.jpg" comes first by name
    good.discard("plain.jpg")
    good.add("again.jpg")
    Image.fromarray((bust(6) * 0.02).astype(np.uint8)).save(folder / "night.png")
    bad["night.png"] = "no_face|too_dark"
    (folder / "broken link.jpg").symlink_to(folder / "nowhere.jpg")  # not a file: not listed at all
    (folder / "notes.txt").write_text("no picture by its name: not looked at")
    return good, bad


@pytest.fixture(scope="module")
def ingested(tmp_path_factory):
    root = tmp_path_factory.mktemp("photos")
    good, bad = fill_with_everything(root / "in")
    (root / "in" / "locked.jpg").write_bytes(b"x")
    settings = settings_with(photos={"path": "in", "detector": "haar", "min_sharpness": 0.2})
    photos.main(context(root, "photos", settings))
    return root, good, bad


def test_usable_files_are_used_and_the_others_listed_with_reasons(ingested):
    root, good, bad = ingested
    index = pd.read_csv(root / "data/photos/index.csv")
    rejected = pd.read_csv(root / "data/photos/rejected.csv").set_index("file")
    assert len(good) + len(bad) >= 23
    assert set(index["file"]) == good
    for name, reasons in bad.items():
        assert rejected.loc[name, "reason"] in reasons.split("|"), name
        assert len(rejected.loc[name, "detail"]) > 3
    assert json.loads((root / "data/photos/summary.json").read_text())["used"] == len(good)


def test_every_row_has_its_pictures_and_the_contract_columns(ingested):
    root, _, _ = ingested
    index = pd.read_csv(root / "data/photos/index.csv", dtype={"phash": str})
    wanted = "id file source person split eye_l_x eye_l_y eye_r_x eye_r_y mouth_x mouth_y quad roll yaw sharpness"
    wanted += " brightness ita mouth_open phash weight"
    assert set(wanted.split()) <= set(index.columns) and index["id"].is_unique
    for name in index["id"]:
        image = read_image(root / f"data/photos/images/{name}.png")
        mask = read_image(root / f"data/photos/masks/{name}.png")
        assert image.shape == mask.shape == (32, 32, 3)
        assert 0.05 < (mask >= 128).mean() < 0.8
    assert len(index["quad"].iloc[0].split()) == 8
    assert (index["eye_l_x"] < index["eye_r_x"]).all() and set(index["split"]) <= {"train", "val", "test"}
    for sheet in ("accepted.png", "rejected.png"):
        assert read_image(root / "reports/photos" / sheet).shape[1] > 90


def test_turned_picture_is_upright(ingested):
    root, _, _ = ingested
    index = pd.read_csv(root / "data/photos/index.csv").set_index("file")
    assert abs(index.loc["turned by exif.jpg", "roll"]) < 15


def test_all_faces_of_a_group(tmp_path):
    (tmp_path / "in").mkdir()
    row = np.concatenate([on_colour(draw_head(seed, 240)[0]) for seed in (0, 3, 6)], axis=1)
    write_png(tmp_path / "in/group.png", row)
    settings = settings_with(photos={"path": "in", "detector": "haar", "faces": "all", "min_sharpness": 0.2})
    photos.main(context(tmp_path, "photos", settings))
    index = pd.read_csv(tmp_path / "data/photos/index.csv")
    assert len(index) >= 2 and index["id"].is_unique
    # nobody is two people, and nobody's photo is on both sides
    assert index["person"].tolist() == ["group", *(f"group#{i}" for i in range(2, len(index) + 1))]
    assert index["split"].nunique() == 1


@pytest.mark.parametrize("files", [[], ["text.jpg"]])
def test_nothing_usable_is_an_input_error_with_reasons(tmp_path, files):
    (tmp_path / "in").mkdir()
    for name in files:
        (tmp_path / "in" / name).write_text("text")
    settings = settings_with(photos={"path": "in"})
    with pytest.raises(InputError, match="no usable picture") as caught:
        photos.main(context(tmp_path, "photos", settings))
    assert caught.value.exit_code == 3 and ("not_a_picture" in str(caught.value)) == bool(files)


def test_missing_folder_and_missing_landmarks(tmp_path):
    with pytest.raises(InputError, match="no such folder"):
        photos.prepare(tmp_path / "nowhere", settings_with(), tmp_path)
    (tmp_path / "in").mkdir()
    with pytest.raises(InputError, match=r"landmarks\.csv"):
        photos.prepare(tmp_path / "in", settings_with(photos={"align": "landmarks"}), tmp_path)


def style_folder(folder: Path, count: int, start: int = 0, size: int = 160) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    rows = {}
    for i in range(start + count):
        rgba, marks = draw_head(i, size)
        rows[f"head_{i:03d}.png"] = marks
        if i >= start:
            write_png(folder / f"head_{i:03d}.png", rgba)
    (folder / "landmarks.csv").write_text(landmarks_csv(rows))


def test_style_by_landmarks_composited_and_reproducible(tmp_path):
    style_folder(tmp_path / "in", 12)
    settings = settings_with(pictures="in")
    style_faces.main(context(tmp_path, "style_faces", settings, "s"))
    folder = tmp_path / "data/style_faces/s"
    index = pd.read_csv(folder / "index.csv")
    assert len(index) + len(pd.read_csv(folder / "rejected.csv")) == 12 and set(index["method"]) == {"landmarks"}
    # FFHQ places: eyes at 3/8 and 5/8 of the side
    assert np.allclose(index["eye_l_x"], 12, atol=0.6) and np.allclose(index["eye_r_x"], 20, atol=0.6)
    corners = [read_image(folder / f"images/{name}.png")[0, 0] for name in index["id"]]
    assert len({tuple(c) for c in corners}) > 6  # backgrounds differ
    before = (folder / "index.csv").read_bytes()
    style_faces.main(context(tmp_path, "style_faces", settings, "s"))
    assert (folder / "index.csv").read_bytes() == before
    assert json.loads((folder / "summary.json").read_text())["licence"] == "test licence"


def test_adding_pictures_costs_only_those_and_moves_nobody(tmp_path, monkeypatch):
    style_folder(tmp_path / "in", 12)
    settings = settings_with(pictures="in")
    style_faces.main(context(tmp_path, "style_faces", settings, "s"))
    first = pd.read_csv(tmp_path / "data/style_faces/s/index.csv").set_index("file")
    style_folder(tmp_path / "in", 3, start=12)
    written = []
    write = cache.PictureCache.write
    monkeypatch.setattr(cache.PictureCache, "write", lambda self, *args: (written.append(args[0]), write(self, *args)))
    style_faces.main(context(tmp_path, "style_faces", settings, "s"))
    second = pd.read_csv(tmp_path / "data/style_faces/s/index.csv").set_index("file")
    assert len(written) == 3
    assert (second.loc[first.index, "split"] == first["split"]).all()
    assert (second.loc[first.index, "id"] == first["id"]).all()


def counted(monkeypatch: pytest.MonkeyPatch, module: Any, name: str) -> list[Any]:
    """The results of every call of a function from now on."""
    calls, inner = [], getattr(module, name)

    def call(*args: Any, **kwargs: Any) -> Any:
        calls.append(inner(*args, **kwargs))
        return calls[-1]

    monkeypatch.setattr(module, name, call)
    return calls


def heads(folder: Path, start: int, stop: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for seed in range(start, stop):
        write_png(folder / f"head_{seed:03d}.png", draw_head(seed)[0])


def work_of_ten_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, align: str) -> dict[str, Any]:
    """Counts the work of a run with 10 more pictures than the run before; checks that only the set decides."""
    heads(tmp_path / "in", 0, 20)
    settings = settings_with(pictures="in", style_faces={"align": align, "detector": "haar", "min_sharpness": 0.0})
    looks = counted(monkeypatch, drawn, "learn_look")
    first, _, _, _ = style_faces.prepare(tmp_path / "in", settings, tmp_path)
    heads(tmp_path / "in", 20, 30)
    detected, refined = counted(monkeypatch, drawn, "find_drawn"), counted(monkeypatch, places, "_refine_all")
    searched, made = counted(monkeypatch, places, "_search_all"), counted(monkeypatch, ingest, "make_sample")
    warm, _, _, _ = style_faces.prepare(tmp_path / "in", settings, tmp_path)
    work = {"detected": len(detected), "refined": len(refined), "searched": len(searched), "made": len(made)}
    for calls in (detected, refined, searched, made):
        calls.clear()
    again, _, _, _ = style_faces.prepare(tmp_path / "in", settings, tmp_path)
    assert not detected and not refined and not searched and not made
    cold, _, _, _ = style_faces.prepare(tmp_path / "in", settings, tmp_path / "elsewhere")
    assert warm.equals(again) and warm.equals(cold) and len(warm) > len(first) > 10
    quads = warm.set_index("file")["quad"].reindex(first["file"]).to_numpy()
    work["moved"] = int((quads != first["quad"].to_numpy()).sum())
    if looks:
        work["changed"] = len(set(looks[1].names()) - set(looks[0].names()))
    return work


@pytest.mark.parametrize("align", ["alpha", "center"])
def test_adding_style_pictures_costs_only_those(tmp_path, monkeypatch, align):
    assert work_of_ten_more(tmp_path, monkeypatch, align)["made"] == 10


@pytest.mark.parametrize("align", ["auto", "detect"])
def test_adding_style_pictures_costs_only_those_while_the_look_stays(tmp_path, monkeypatch, align):
    look = drawn.learn_look

    def old_look(candidates: dict[str, Any]) -> Any:
        return look({name: found for name, found in candidates.items() if name < "head_020"})

    monkeypatch.setattr(drawn, "learn_look", old_look)
    work = work_of_ten_more(tmp_path, monkeypatch, align)
    assert work["changed"] == 0 and work["moved"] == 0
    assert work["detected"] == work["refined"] == work["made"] == 10 and work["searched"] <= 10


def test_a_changed_look_costs_as_much_as_it_changes(tmp_path, monkeypatch):
    work = work_of_ten_more(tmp_path, monkeypatch, "auto")  # so small a set that its look does change
    assert work["changed"] >= 1 and work["detected"] == 10 and work["refined"] == 30
    assert work["made"] <= 10 + work["moved"] + 5 and work["made"] < 20


@pytest.mark.parametrize("align", ["center", "alpha"])
def test_other_ways_to_align(tmp_path, align):
    style_folder(tmp_path / "in", 6)
    settings = settings_with(pictures="in", style_faces={"align": align})
    table, rejected, _, _ = style_faces.prepare(tmp_path / "in", settings, tmp_path)
    assert len(table) + len(rejected) == 6 and set(table["method"]) == {align}
    if align == "alpha":
        quads = np.array([[float(v) for v in quad.split()] for quad in table["quad"]]).reshape(-1, 4, 2)
        assert np.abs(quads.mean(1) - [80, 81]).max() < 25  # near the true eyes at (80, 78)


def test_alpha_alignment_of_opaque_pictures_says_what_to_do(tmp_path):
    (tmp_path / "in").mkdir()
    write_png(tmp_path / "in/a.png", bust(0))
    settings = settings_with(pictures="in", style_faces={"align": "alpha"})
    _, rejected, _, _ = style_faces.prepare(tmp_path / "in", settings, tmp_path)
    assert rejected["reason"].tolist() == ["no_landmarks"] and "transparency" in rejected["detail"][0]


def test_a_full_alpha_channel_is_no_cutout(tmp_path):
    (tmp_path / "in").mkdir()
    rgba, marks = draw_head(0, 240)
    opaque = np.dstack([on_colour(rgba), np.full(rgba.shape[:2], 255, np.uint8)])
    write_png(tmp_path / "in/a.png", opaque)
    (tmp_path / "in/landmarks.csv").write_text(landmarks_csv({"a.png": marks}))
    table, _, _, _ = style_faces.prepare(tmp_path / "in", settings_with(), tmp_path)
    assert 0.1 < table["mask_area"][0] < 0.6  # by its alpha everything above the chin would be head


def test_another_face_parser_makes_other_samples(tmp_path, monkeypatch):
    monkeypatch.setenv("STYLEFACTORY_WEIGHTS", str(tmp_path / "weights"))
    (tmp_path / "weights").mkdir()
    made = []
    for content in (b"", b"one", b"two"):
        if content:
            (tmp_path / "weights/face_parser.onnx").write_bytes(content)
        made.append(ingest.make_options(32, False, "center", "haar", tmp_path))
    assert made[0].parser == made[0].parser_hash == ""
    assert made[1].parser == made[2].parser and made[1] != made[2]


def test_verdict_before_anything_is_registered(tmp_path):
    style_folder(tmp_path / "in", 8)
    (tmp_path / "in/broken.png").write_bytes(b"nothing")
    few = check_pictures([tmp_path / "in"], "style", settings_with(), tmp_path)
    assert few["verdict"] == "unusable" and few["licence_missing"] and few["rejected"]["not_a_picture"] == 1
    assert any("licence" in line.lower() for line in few["text"])
    enough = check_pictures([tmp_path / "in"], "style", settings_with(style_faces={"min_usable": 4}), tmp_path, "CC0")
    assert enough["verdict"] == "thin" and not enough["licence_missing"]
    json.dumps(enough, allow_nan=False)
    assert not (tmp_path / "data").exists()


def test_damaged_cache_entry_is_made_again(tmp_path):
    style_folder(tmp_path / "in", 4)
    settings = settings_with(pictures="in")
    first, _, _, _ = style_faces.prepare(tmp_path / "in", settings, tmp_path)
    for entry in (tmp_path / "work/cache/faces").rglob("*.npz"):
        entry.write_bytes(entry.read_bytes()[:100])
    second, _, _, _ = style_faces.prepare(tmp_path / "in", settings, tmp_path)
    assert first.equals(second)


def test_background_copies_change_the_background_only(tmp_path):
    style_folder(tmp_path / "in", 6)
    options = {"path": "in", "background_copies": 2, "min_sharpness": 0.1, "val_share": 0.0, "test_share": 0.0}
    photos.main(context(tmp_path, "photos", settings_with(photos=options)))
    index = pd.read_csv(tmp_path / "data/photos/index.csv")
    assert len(index) == 18 and index["id"].is_unique and index["copy"].value_counts().to_dict() == {0: 6, 1: 6, 2: 6}
    name = index["id"][0]
    first, copy = (read_image(tmp_path / f"data/photos/images/{n}.png").astype(int) for n in (name, f"{name}-bg1"))
    mask = read_image(tmp_path / f"data/photos/masks/{name}.png")[..., 0]
    assert np.abs(first - copy)[mask == 255].max() <= 1 and np.abs(first - copy)[mask == 0].mean() > 10
