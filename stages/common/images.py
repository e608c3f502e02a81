"""Pictures in and out: decodes what people have, writes PNG, tiles grids, converts to and from tensors."""

import io
import math
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import cv2
import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from stages.common.atomic import atomic_path
from stages.common.errors import ImageError

if TYPE_CHECKING:
    import torch

SUFFIXES = frozenset({".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif"})
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF")
MAX_PIXELS = 100_000_000  # a 100-megapixel camera still passes; a 20,000 x 20,000 header bomb (400 MP) does not

Image.init()  # loads every decoder: formats= fails on one that is not
# Our own limit comes first and names the file; Pillow's would only warn at 89 MP.
Image.MAX_IMAGE_PIXELS = None


def list_images(folder: Path) -> list[Path]:
    """All files below ``folder`` with a picture's suffix (any case), sorted; hidden files and folders left out."""
    return sorted(
        path
        for path in Path(folder).rglob("*")
        if path.suffix.lower() in SUFFIXES
        and path.is_file()
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    )


def read_image(path: Path, alpha: Literal["drop", "keep"] = "drop", max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """Decodes a picture: JPEG (CMYK and EXIF-rotated too), PNG of 1-16 bit, grey, palette, alpha, WebP, BMP, TIFF, GIF.

    Of an animation the first frame counts. 16-bit values are scaled to 8 bit, transparent pixels are put on white
    with ``alpha="drop"``.

    Returns:
        uint8 [H, W, 3] RGB, or [H, W, 4] RGBA with ``alpha="keep"`` when any pixel is transparent.

    Raises:
        ImageError: unreadable, empty, not a picture, truncated, damaged, or above ``max_pixels``; names the file.
    """
    path = Path(path)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ImageError(path, "unreadable", f"cannot be read ({error.strerror}); check the file's rights") from error
    return decode_image(data, path, alpha, max_pixels)


def decode_image(
    data: bytes, name: object, alpha: Literal["drop", "keep"] = "drop", max_pixels: int = MAX_PIXELS
) -> np.ndarray:
    """:func:`read_image` for bytes in memory: uint8 [H, W, 3], or [H, W, 4] where alpha is kept and there.

    Args:
        data: the file's content.
        name: stands in error messages.
        alpha: see :func:`read_image`.
        max_pixels: larger pictures are refused.

    Raises:
        ImageError: see :func:`read_image`.
    """
    if not data:
        raise ImageError(name, "empty", "is empty (0 bytes)")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's remarks on odd EXIF or palettes help nobody here
            with Image.open(io.BytesIO(data), formats=FORMATS) as picture:
                width, height = picture.size
                if width * height > max_pixels:
                    limit = f"{max_pixels / 1e6:.0f} megapixels"
                    raise ImageError(
                        name, "too_large", f"has {width}x{height} pixels, more than {limit}; scale it down"
                    )
                picture.seek(0)
                picture.load()
                oriented = ImageOps.exif_transpose(picture)
                return _to_uint8(oriented, keep_alpha=alpha == "keep")
    except ImageError:
        raise
    except UnidentifiedImageError as error:
        detail = "is not a picture in a known format (JPEG, PNG, WebP, BMP, TIFF, GIF)"
        raise ImageError(name, "not_a_picture", detail) from error
    except Exception as error:  # Pillow's decoders raise OSError, SyntaxError, ValueError, struct.error, ... on damage
        truncated = "truncated" in str(error).lower()
        reason = "truncated" if truncated else "corrupt"
        raise ImageError(name, reason, f"is {reason} ({error})") from error


def _to_uint8(picture: Image.Image, keep_alpha: bool) -> np.ndarray:
    if picture.mode in ("I;16", "I;16B", "I;16L", "I;16N", "I"):
        # 16-bit grey arrives as I or I;16; Pillow's convert would clip at 255 instead of scaling.
        grey = np.clip(np.asarray(picture).astype(np.int64) // 257, 0, 255).astype(np.uint8)
        return np.repeat(grey[..., None], 3, axis=2)
    if picture.mode == "F":
        grey = np.clip(np.nan_to_num(np.asarray(picture)), 0, 255).astype(np.uint8)
        return np.repeat(grey[..., None], 3, axis=2)
    if picture.has_transparency_data:
        rgba = np.asarray(picture.convert("RGBA"))
        if rgba[..., 3].min() == 255:  # many programs save a full alpha channel: that is no cut-out
            return rgba[..., :3].copy()
        if keep_alpha:
            return rgba.copy()
        weight = rgba[..., 3:].astype(np.float32) / 255
        return (rgba[..., :3] * weight + 255 * (1 - weight) + 0.5).astype(np.uint8)
    return np.asarray(picture.convert("RGB")).copy()


def encode_png(image: np.ndarray, compression: int = 3) -> bytes:
    """uint8 [H, W], [H, W, 3] RGB or [H, W, 4] RGBA to PNG bytes (level 3: fast, about 10 % larger than 9)."""
    if image.ndim == 3:
        image = cv2.cvtColor(image, cv2.COLOR_RGBA2BGRA if image.shape[2] == 4 else cv2.COLOR_RGB2BGR)
    done, buffer = cv2.imencode(".png", image, [cv2.IMWRITE_PNG_COMPRESSION, compression])
    if not done:
        raise ValueError(f"cannot encode an array of shape {image.shape}, {image.dtype} as PNG")
    return buffer.tobytes()


def write_png(path: Path, image: np.ndarray) -> None:
    """Writes uint8 [H, W], [H, W, 3] RGB or [H, W, 4] RGBA as PNG, atomically."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(encode_png(image))


def to_tensor(images: np.ndarray) -> "torch.Tensor":
    """uint8 [N, H, W, C] or [H, W, C] to float32 [N, C, H, W] in [-1, 1] (a single picture becomes N = 1)."""
    if images.ndim == 3:
        images = images[None]
    import torch  # seconds: workers that only read pictures never need it

    return torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2).float().div_(127.5).sub_(1)


def to_uint8(images: "torch.Tensor") -> np.ndarray:
    """Float [N, C, H, W] in [-1, 1] to uint8 [N, H, W, C], values beyond the range clipped."""
    scaled = images.detach().float().mul(127.5).add(128).clamp(0, 255)
    return scaled.byte().permute(0, 2, 3, 1).contiguous().cpu().numpy()


def grid(
    images: Sequence[np.ndarray],
    columns: int | None = None,
    pad: int = 2,
    labels: Sequence[str] | None = None,
    background: int = 255,
) -> np.ndarray:
    """Tiles uint8 [H, W, 3] (or [H, W]) pictures of one size row by row; ``labels`` are written under the tiles.

    Returns:
        uint8 [H', W', 3].
    """
    if not images:
        return np.full((8, 8, 3), background, np.uint8)
    columns = min(columns or math.ceil(math.sqrt(len(images))), len(images))
    rows = math.ceil(len(images) / columns)
    height, width = images[0].shape[:2]
    strip = 12 if labels else 0
    cell_h, cell_w = height + pad + strip, width + pad
    sheet = np.full((rows * cell_h + pad, columns * cell_w + pad, 3), background, np.uint8)
    for i, image in enumerate(images):
        y, x = pad + i // columns * cell_h, pad + i % columns * cell_w
        sheet[y : y + height, x : x + width] = image if image.ndim == 3 else image[..., None]
        if labels:
            place, ink = (x, y + height + 9), (40, 40, 40)
            cv2.putText(sheet, labels[i], place, cv2.FONT_HERSHEY_SIMPLEX, 0.3, ink, 1, cv2.LINE_AA)
    return sheet
