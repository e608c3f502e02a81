"""Contact sheets for people: accepted faces with eyes, mouth and mask outline, per split; rejected ones by reason."""

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pandas as pd

from stages.common.errors import ImageError
from stages.common.images import grid, read_image, write_png
from stages.faces.cache import PictureCache

TILE, COLUMNS, MOST = 96, 12, 96  # pixels, tiles per row, tiles per sheet
GREEN, YELLOW = (0, 230, 0), (255, 220, 0)


def write_sheets(
    report: Path, table: pd.DataFrame, rejected: pd.DataFrame, folder: Path, cache: PictureCache, resolution: int
) -> None:
    """Writes accepted.png, split_<name>.png and rejected.png below ``report``; at most 96 tiles each, spread evenly."""

    def tile(i: int) -> np.ndarray:
        row = table.loc[i]
        image, mask = (cache.pixels(row["key"], f"{kind}_{row['face']}") for kind in ("image", "mask"))
        if image is None or mask is None:
            return np.zeros((TILE, TILE, 3), np.uint8)
        return annotated(image, mask[..., 0], row, resolution)

    _sheet(report / "accepted.png", spread(table.index.tolist()), tile)
    for split, part in table.groupby("split"):
        _sheet(report / f"split_{split}.png", spread(part.index.tolist()), tile)
    if len(rejected):
        pick = rejected.groupby("reason").head(COLUMNS * 2).sort_values(["reason", "file"]).head(MOST)
        tiles = [thumbnail(folder / file) for file in pick["file"]]
        write_png(report / "rejected.png", grid(tiles, COLUMNS, labels=[reason[:16] for reason in pick["reason"]]))


def annotated(image: np.ndarray, mask: np.ndarray, row: pd.Series, resolution: int) -> np.ndarray:
    """One aligned face, enlarged, with its mask's outline and landmarks: uint8 [96, 96, 3]."""
    big = np.ascontiguousarray(cv2.resize(image, (TILE, TILE), interpolation=cv2.INTER_CUBIC))
    level = (cv2.resize(mask, (TILE, TILE), interpolation=cv2.INTER_LINEAR) >= 128).astype(np.uint8)
    outline, _ = cv2.findContours(level, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(big, outline, -1, YELLOW, 1)
    for name in ("eye_l", "eye_r", "mouth"):
        x, y = row[f"{name}_x"] * TILE / resolution, row[f"{name}_y"] * TILE / resolution
        if np.isfinite([x, y]).all():
            cv2.circle(big, (int(x), int(y)), 2, GREEN, -1)
    return big


def thumbnail(path: Path) -> np.ndarray:
    """The original, fitted into a tile, uint8 [TILE, TILE, 3]; a grey tile when it cannot be read."""
    canvas = np.full((TILE, TILE, 3), 128, np.uint8)
    try:
        picture = read_image(path)
    except ImageError:
        return canvas
    scale = TILE / max(picture.shape[:2])
    size = max(1, round(picture.shape[1] * scale)), max(1, round(picture.shape[0] * scale))
    small = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
    canvas[: small.shape[0], : small.shape[1]] = small
    return canvas


def spread(items: list[int]) -> list[int]:
    """At most 96 of them, evenly over the list."""
    if len(items) <= MOST:
        return items
    return [items[i] for i in np.linspace(0, len(items) - 1, MOST).round().astype(int)]


def _sheet(path: Path, items: list[int], tile: Callable[[int], np.ndarray]) -> None:
    if items:
        write_png(path, grid([tile(i) for i in items], COLUMNS))
