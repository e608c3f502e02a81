"""Drawn heads simple enough for a test and alike enough for a detector, and a hand-made stage context."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np

from pipeline.settings import Settings
from pipeline.settings.loading import parse_settings
from pipeline.settings.render import render
from stages.common.runner import StageContext

SIZE = 160


def draw_head(seed: int, size: int = SIZE, shift: tuple[int, int] = (0, 0)) -> tuple[np.ndarray, dict[str, Any]]:
    """A cartoon bust, uint8 [size, size, 4] RGBA, and its true eyes and mouth."""
    draw = np.random.default_rng(seed)
    scale = size / 160
    rgba = np.zeros((size, size, 4), np.uint8)
    skin = np.array([[230, 190, 160], [150, 100, 70], [250, 215, 190]])[draw.integers(3)]
    hair = draw.integers(20, 200, 3)

    def at(x: float, y: float) -> tuple[int, int]:
        return round((x + shift[0]) * scale), round((y + shift[1]) * scale)

    def ellipse(x: float, y: float, a: float, b: float, colour: Any) -> None:
        axes = round(a * scale), round(b * scale)
        cv2.ellipse(rgba, at(x, y), axes, 0, 0, 360, (*(int(c) for c in colour), 255), -1, cv2.LINE_8)

    ellipse(80, 175, 60, 50, draw.integers(0, 255, 3))
    ellipse(80, 72, 44, 50, hair)
    ellipse(80, 84, 36, 42, skin)
    for x in (65, 95):
        ellipse(x, 78, 8, 6, (255, 255, 255))
        ellipse(x, 78, 4, 4, (30, 30, 30))
        cv2.line(rgba, at(x - 8, 66), at(x + 8, 66), (40, 30, 20, 255), max(1, round(3 * scale)))
    ellipse(80, 92, 4, 5, (skin * 0.8).astype(int))
    ellipse(80, 107, 12, 4, (170, 50, 60))
    eyes = {"eye_l": at(65, 78), "eye_r": at(95, 78), "mouth": at(80, 107)}
    return rgba, eyes


def on_colour(rgba: np.ndarray, colour: tuple[int, int, int] = (120, 140, 190)) -> np.ndarray:
    weight = rgba[..., 3:] / 255.0
    return (rgba[..., :3] * weight + np.array(colour) * (1 - weight)).astype(np.uint8)


def landmarks_csv(rows: dict[str, dict[str, Any]]) -> str:
    lines = ["file,eye_l_x,eye_l_y,eye_r_x,eye_r_y,mouth_x,mouth_y"]
    for file, marks in rows.items():
        numbers = [*marks["eye_l"], *marks["eye_r"], *marks["mouth"]]
        lines.append(",".join([file, *map(str, numbers)]))
    return "\n".join(lines) + "\n"


def settings_with(resolution: int = 32, pictures: str = "", **sections: dict[str, Any]) -> Settings:
    """The default settings with changed sections; ``pictures`` becomes the style's folder."""
    settings = parse_settings(dict(render()), "defaults")
    update: dict[str, Any] = {"common": settings.common.model_copy(update={"resolution": resolution})}
    for name, values in sections.items():
        section = getattr(settings, name)
        update[name] = type(section).model_validate(section.model_dump() | values)
    if pictures:
        item = next(iter(settings.styles.values()))
        update["item"] = item.model_copy(update={"pictures": pictures, "licence": "test licence"})
    return settings.model_copy(update=update)


def context(root: Path, stage: str, settings: Settings, style: str = "") -> StageContext:
    work, report = root / "work" / "stage", root / "reports" / style / stage
    work.mkdir(parents=True, exist_ok=True)
    report.mkdir(parents=True, exist_ok=True)
    return StageContext(stage, style, settings, root, work, report)
