"""``stylize`` end to end: pictures, folders, videos, and everything that can be wrong with them."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image
from skimage import data

from stages.common.errors import InputError
from stages.common.images import read_image, write_png
from stages.mobile.frame import FrameStylizer, Options
from stages.mobile.runtime import MobileStylizer
from stages.mobile.stylize import main, write_picture
from stages.mobile.video import Follower

MODEL = "mobile.mnn"


@pytest.fixture(scope="module")
def portrait() -> np.ndarray:
    """A face that Haar cascades find (scikit-image's astronaut, public domain, NASA)."""
    return data.astronaut()[:400, 50:450].copy()


def call(exported: Path, *arguments: object) -> int:
    return main(["--model", str(exported / MODEL), *map(str, arguments)])


def test_picture_keeps_size_and_background(exported: Path, portrait: np.ndarray, tmp_path: Path) -> None:
    write_png(tmp_path / "in.png", portrait)
    assert call(exported, tmp_path / "in.png", tmp_path / "out.png") == 0
    out = read_image(tmp_path / "out.png")
    assert out.shape == portrait.shape and not np.array_equal(out, portrait)
    assert np.array_equal(out[-30:], portrait[-30:])  # far from the head


def test_strength_zero_is_the_photo(exported: Path, portrait: np.ndarray, tmp_path: Path) -> None:
    write_png(tmp_path / "in.png", portrait)
    assert call(exported, "--strength", "0", tmp_path / "in.png", tmp_path / "out.png") == 0
    assert np.array_equal(read_image(tmp_path / "out.png"), portrait)


def test_rotated_photo_comes_out_upright(exported: Path, portrait: np.ndarray, tmp_path: Path) -> None:
    turned = Image.fromarray(np.rot90(portrait).copy())
    exif = Image.Exif()
    exif[0x0112] = 6
    turned.save(tmp_path / "in.jpg", exif=exif, quality=95)
    assert call(exported, tmp_path / "in.jpg", tmp_path / "out.jpg") == 0
    assert read_image(tmp_path / "out.jpg").shape == portrait.shape


def test_all_faces(exported: Path, portrait: np.ndarray) -> None:
    group = np.concatenate([portrait, portrait[:, ::-1]], axis=1)
    one = FrameStylizer(MobileStylizer(exported / MODEL), Options())
    every = FrameStylizer(MobileStylizer(exported / MODEL), Options(all_faces=True))
    assert one(group)[1] == 1 and every(group)[1] >= 2


def test_whole_frame_needs_no_face(exported: Path, tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (50, 70, 3), np.uint8)
    write_png(tmp_path / "in.png", noise)
    assert call(exported, tmp_path / "in.png", tmp_path / "a.png") == 3
    assert not (tmp_path / "a.png").exists()
    assert call(exported, "--whole-frame", tmp_path / "in.png", tmp_path / "b.png") == 0
    assert read_image(tmp_path / "b.png").shape == noise.shape


def bad_folder(folder: Path, portrait: np.ndarray) -> tuple[set[str], set[str]]:
    """20 and more kinds of odd files; (names that must come out, names that must be listed as skipped)."""
    folder.mkdir()
    picture = Image.fromarray(portrait)
    picture.save(folder / "good.jpg")
    picture.save(folder / "UPPER.JPG")
    picture.save(folder / "Grüße 图.png")
    picture.convert("CMYK").save(folder / "cmyk.jpg")
    picture.convert("L").save(folder / "grey.png")
    picture.convert("P").save(folder / "palette.png")
    picture.convert("RGBA").save(folder / "alpha.png")
    picture.save(folder / "still.webp")
    picture.save(folder / "frame.gif", save_all=True, append_images=[picture])
    picture.save(folder / "scan.tiff")
    picture.save(folder / "old.bmp")
    (folder / "deep" / "er").mkdir(parents=True)
    picture.save(folder / "deep" / "er" / "nested.png")
    cv2.imwrite(str(folder / "sixteen.png"), cv2.cvtColor(portrait, cv2.COLOR_RGB2BGR).astype(np.uint16) * 257)
    usable = {"good.jpg", "UPPER.JPG", "Grüße 图.png", "cmyk.jpg", "grey.png", "palette.png", "alpha.png", "still.webp"}
    usable |= {"frame.gif.png", "scan.tiff.png", "old.bmp.png", "nested.png", "sixteen.png"}
    whole = (folder / "good.jpg").read_bytes()
    (folder / "truncated.jpg").write_bytes(whole[: len(whole) // 2])
    (folder / "zero.png").write_bytes(b"")
    (folder / "text.jpg").write_text("no picture")
    (folder / "corrupt.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(200))
    Image.new("RGB", (1, 1)).save(folder / "tiny.png")
    Image.new("RGB", (300, 200), (90, 120, 200)).save(folder / "no_face.png")
    header = bytearray((folder / "tiny.png").read_bytes())
    header[16:24] = (20000).to_bytes(4, "big") * 2
    (folder / "bomb.png").write_bytes(header)
    picture.resize((24, 24)).save(folder / "small_face.png")
    (folder / "gone.png").symlink_to(folder / "nowhere.png")
    (folder / "notes.txt").write_text("not even a picture's name")
    (folder / ".hidden.png").write_bytes(b"x")
    bad = {"truncated.jpg", "zero.png", "text.jpg", "corrupt.png", "tiny.png", "no_face.png", "bomb.png"}
    return usable, bad | {"small_face.png"}


def test_folder_of_odd_files(exported: Path, portrait: np.ndarray, tmp_path: Path) -> None:
    usable, bad = bad_folder(tmp_path / "in", portrait)
    assert call(exported, tmp_path / "in", tmp_path / "out") == 0
    written = {p.name for p in (tmp_path / "out").rglob("*") if p.is_file()}
    assert written == usable | {"skipped.csv"}
    listed = (tmp_path / "out" / "skipped.csv").read_text().splitlines()[1:]
    assert {line.split('"')[1] for line in listed} == bad


def test_folder_with_nothing_usable_is_exit_3(exported: Path, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    assert call(exported, tmp_path / "in", tmp_path / "out") == 3
    (tmp_path / "in" / "a.png").write_bytes(b"x")
    assert call(exported, tmp_path / "in", tmp_path / "out") == 3
    assert {p.name for p in (tmp_path / "out").iterdir()} == {"skipped.csv"}


def write_video(path: Path, frames: list[np.ndarray]) -> None:
    height, width = frames[0].shape[:2]
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 10, (width, height))
    for frame in frames:
        writer.write(cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))
    writer.release()


def frame_count(path: Path) -> int:
    capture, count = cv2.VideoCapture(str(path)), 0
    while capture.read()[0]:
        count += 1
    return count


def test_video(exported: Path, portrait: np.ndarray, tmp_path: Path) -> None:
    write_video(tmp_path / "in.mp4", [np.roll(portrait, 2 * i, axis=1) for i in range(6)])
    assert call(exported, tmp_path / "in.mp4", tmp_path / "out.mp4") == 0
    assert frame_count(tmp_path / "out.mp4") == 6
    assert call(exported, tmp_path / "in.mp4", tmp_path / "out.avi") == 0
    assert frame_count(tmp_path / "out.avi") == 6


def test_a_video_whose_writing_fails_is_not_published(
    exported: Path, portrait: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a full disk: OpenCV's writer loses frames and says nothing."""
    write_video(tmp_path / "in.mp4", [portrait] * 6)

    class Losing:
        def __init__(self, *arguments: Any) -> None:
            self.real, self.left = real(*arguments), 4

        def write(self, frame: np.ndarray) -> None:
            self.left -= 1
            if self.left >= 0:
                self.real.write(frame)

        def __getattr__(self, name: str) -> Any:
            return getattr(self.real, name)

    real = cv2.VideoWriter
    Losing.fourcc = real.fourcc  # type: ignore[attr-defined]
    monkeypatch.setattr(cv2, "VideoWriter", Losing)
    assert call(exported, tmp_path / "in.mp4", tmp_path / "out.mp4") == 1
    assert [p.name for p in tmp_path.iterdir()] == ["in.mp4"]


@pytest.mark.parametrize("case", ["empty", "text", "header only", "sound only"])
def test_bad_videos_are_exit_3_and_leave_nothing(
    exported: Path, portrait: np.ndarray, tmp_path: Path, case: str
) -> None:
    path = tmp_path / "in.mp4"
    if case == "empty":
        path.write_bytes(b"")
    elif case == "text":
        path.write_text("no video")
    elif case == "header only":
        write_video(path, [portrait] * 3)
        path.write_bytes(path.read_bytes()[:40])
    else:
        import wave

        path = tmp_path / "in.avi"
        with wave.open(str(path), "wb") as sound:
            sound.setparams((1, 2, 8000, 0, "NONE", ""))
            sound.writeframes(bytes(16000))
    assert call(exported, path, tmp_path / "out.mp4") == 3
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_truncated_video_gives_what_there_was(exported: Path, portrait: np.ndarray, tmp_path: Path) -> None:
    frames = [np.roll(portrait, i, axis=0) for i in range(12)]
    height, width = portrait.shape[:2]
    writer = cv2.VideoWriter(str(tmp_path / "in.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 10, (width, height))
    for frame in frames:
        writer.write(frame)
    writer.release()
    whole = (tmp_path / "in.avi").read_bytes()
    (tmp_path / "cut.avi").write_bytes(whole[: len(whole) // 2])
    assert call(exported, tmp_path / "cut.avi", tmp_path / "out.avi") == 0
    assert 1 <= frame_count(tmp_path / "out.avi") < 12


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["absent.png", "out.png"], 3),
        (["in.png", "out.xyz"], 2),
        (["--strength", "1.5", "in.png", "out.png"], 2),
        (["--threads", "-1", "in.png", "out.png"], 2),
        (["in.png", "in.png"], 2),
    ],
)
def test_wrong_use(exported: Path, portrait: np.ndarray, tmp_path: Path, arguments: list[str], code: int) -> None:
    write_png(tmp_path / "in.png", portrait)
    paths = [str(tmp_path / a) if a.endswith(("png", "xyz")) else a for a in arguments]
    assert call(exported, *paths) == code
    assert {p.name for p in tmp_path.iterdir()} == {"in.png"}


def test_follower_steadies_and_holds() -> None:
    quad = np.array([[0, 0], [0, 100], [100, 100], [100, 0]], float)
    follower = Follower()
    follower.update([quad])
    jumped = follower.update([quad + 10])[0]
    assert 0 < (jumped - quad).mean() < 10
    assert len(follower.update([])) == 1  # lost for a frame: held
    for _ in range(6):
        held = follower.update([])
    assert held == []
    assert len(follower.update([quad, quad + 500])) == 2


def test_follower_draws_one_person_where_one_is_asked_for() -> None:
    """Two faces of about one size take turns at being the largest."""
    quad = np.array([[0, 0], [0, 100], [100, 100], [100, 0]], float)
    follower = Follower()
    for found in (quad, quad + 500, quad, quad + 500):
        assert len(follower.update([found], one=True)) == 1
    assert len(follower.update([], one=True)) == 1  # nobody found: held


@pytest.mark.parametrize("suffix", [".jpg", ".webp"])
def test_a_picture_too_wide_for_its_format_is_named(tmp_path: Path, suffix: str) -> None:
    with pytest.raises(InputError, match=r"66000x2 pixels are too many for this format; write a \.png"):
        write_picture(tmp_path / f"wide{suffix}", np.zeros((2, 66000, 3), np.uint8))
    assert not list(tmp_path.iterdir())
