"""Decoding what people have: every kind of good and bad picture."""

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from stages.common.errors import ImageError
from stages.common.images import encode_png, grid, list_images, read_image, to_tensor, to_uint8, write_png


def gradient(width: int = 40, height: int = 30) -> np.ndarray:
    x, y = np.meshgrid(np.linspace(0, 255, width), np.linspace(0, 255, height))
    return np.stack([x, y, 255 - x], 2).astype(np.uint8)


def saved(path: Path, image: Image.Image, **options: object) -> Path:
    image.save(path, **options)
    return path


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".bmp", ".tif", ".gif", ".JPG"])
def test_common_formats(tmp_path: Path, suffix: str) -> None:
    image = read_image(saved(tmp_path / f"a{suffix}", Image.fromarray(gradient())))
    assert image.shape == (30, 40, 3) and image.dtype == np.uint8
    assert np.abs(image.astype(int) - gradient()).mean() < 12


def test_cmyk_jpeg_keeps_its_colours(tmp_path: Path) -> None:
    image = read_image(saved(tmp_path / "c.jpg", Image.fromarray(gradient()).convert("CMYK"), quality=95))
    assert np.abs(image.astype(int) - gradient()).mean() < 10


def test_sixteen_bit_grey_is_scaled_not_clipped(tmp_path: Path) -> None:
    ramp = np.linspace(0, 65535, 40 * 30).reshape(30, 40).astype(np.uint16)
    image = read_image(saved(tmp_path / "g.png", Image.fromarray(ramp)))
    assert image.shape == (30, 40, 3)
    assert np.abs(image[..., 0].astype(int) - (ramp // 257)).max() <= 1


def test_sixteen_bit_rgb_png(tmp_path: Path) -> None:
    import cv2

    cv2.imwrite(str(tmp_path / "rgb16.png"), (gradient()[..., ::-1].astype(np.uint16) * 257))
    assert np.abs(read_image(tmp_path / "rgb16.png").astype(int) - gradient()).max() <= 1


def test_palette_with_transparency_and_alpha(tmp_path: Path) -> None:
    rgba = np.dstack([gradient(), np.full((30, 40), 255, np.uint8)])
    rgba[:15, :, 3] = 0
    path = saved(tmp_path / "a.png", Image.fromarray(rgba))
    assert (read_image(path)[:15] == 255).all(), "transparent pixels go on white"
    kept = read_image(path, alpha="keep")
    assert kept.shape == (30, 40, 4) and (kept[..., 3] == rgba[..., 3]).all()
    palette = saved(tmp_path / "p.png", Image.fromarray(gradient()).quantize(16), transparency=0)
    assert read_image(palette).shape == (30, 40, 3)


def test_a_full_alpha_channel_is_no_transparency(tmp_path: Path) -> None:
    rgba = np.dstack([gradient(), np.full((30, 40), 255, np.uint8)])
    path = saved(tmp_path / "a.png", Image.fromarray(rgba))
    for image in (read_image(path), read_image(path, alpha="keep")):
        assert image.shape == (30, 40, 3) and (image == gradient()).all()


def test_exif_rotation_is_applied(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # rotate 90 degrees clockwise to view
    image = read_image(saved(tmp_path / "r.jpg", Image.fromarray(gradient()), exif=exif, quality=95))
    assert image.shape == (40, 30, 3)
    assert np.abs(image.astype(int) - np.rot90(gradient(), -1)).mean() < 6


@pytest.mark.parametrize("suffix", [".gif", ".webp", ".png", ".tif"])
def test_first_frame_of_an_animation(tmp_path: Path, suffix: str) -> None:
    frames = [Image.new("RGB", (20, 20), c) for c in ("red", "blue", "green")]
    path = tmp_path / f"a{suffix}"
    frames[0].save(path, save_all=True, append_images=frames[1:])
    assert read_image(path)[10, 10, 0] > 240


def test_one_by_one(tmp_path: Path) -> None:
    assert read_image(saved(tmp_path / "1.png", Image.new("RGB", (1, 1)))).shape == (1, 1, 3)


def header_bomb() -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    size = struct.pack(">IIBBBBB", 20000, 20000, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", size) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def truncated_jpeg() -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(gradient(200, 200)).save(buffer, "JPEG")
    return buffer.getvalue()[: len(buffer.getvalue()) // 2]


def corrupt_png() -> bytes:
    data = bytearray(encode_png(gradient(200, 200)))
    data[60:200] = bytes(140)
    return bytes(data)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "empty"),
        (b"just a text\n" * 50, "not_a_picture"),
        (header_bomb(), "too_large"),
        (truncated_jpeg(), "truncated"),
        (corrupt_png(), "corrupt"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n", "not_a_picture"),
    ],
)
def test_bad_files_are_typed_errors_that_name_the_file(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "bad.jpg"
    path.write_bytes(content)
    with pytest.raises(ImageError, match=r"bad\.jpg") as caught:
        read_image(path)
    assert caught.value.reason == reason
    assert "\n" not in str(caught.value)


def test_missing_file_and_folder(tmp_path: Path) -> None:
    for path in (tmp_path / "none.png", tmp_path):
        with pytest.raises(ImageError) as caught:
            read_image(path)
        assert caught.value.reason == "unreadable"


def test_listing_is_sorted_any_case_without_hidden(tmp_path: Path) -> None:
    for name in ("b.JPG", "ä.png", "a.webp", ".hidden.png", "notes.txt", "sub/c.jpeg", ".git/d.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert [str(p.relative_to(tmp_path)) for p in list_images(tmp_path)] == ["a.webp", "b.JPG", "sub/c.jpeg", "ä.png"]


def test_tensor_round_trip_is_exact() -> None:
    images = np.random.default_rng(0).integers(0, 256, (2, 8, 8, 3), dtype=np.uint8)
    tensor = to_tensor(images)
    assert tensor.shape == (2, 3, 8, 8) and float(tensor.min()) >= -1 and float(tensor.max()) <= 1
    assert (to_uint8(tensor) == images).all()
    assert to_uint8(torch.full((1, 3, 2, 2), 9.0)).max() == 255


def test_grid_layout(tmp_path: Path) -> None:
    sheet = grid([np.full((10, 12, 3), i, np.uint8) for i in range(5)], columns=3, pad=2)
    assert sheet.shape == (2 * 12 + 2, 3 * 14 + 2, 3)
    assert (sheet[2:12, 2:14] == 0).all() and (sheet[14:24, 16:28] == 4).all()
    write_png(tmp_path / "x.png", sheet)
    assert (read_image(tmp_path / "x.png") == sheet).all()
