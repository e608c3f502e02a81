"""A self-contained HTML page: templates, figures as text, pictures inside the file within a budget."""

import base64
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2
import jinja2
import numpy as np
from markupsafe import Markup
from PIL import Image

from stages.common.atomic import write_text
from stages.common.errors import ImageError
from stages.common.images import read_image
from stages.evaluate.charts import bullet, number

TEMPLATES = Path(__file__).parent / "templates"
MOST_BYTES = 4_600_000
"""Pictures in one page, as base64: the page stays below 5 MB with its text and charts."""


class Album:
    """Pictures that go into one page. Later ones are left out once the budget is spent, and the page says so.

    Attributes:
        left_out: names of what did not fit.
    """

    def __init__(self, budget: int = MOST_BYTES) -> None:
        self._left = budget
        self.left_out: list[str] = []

    def file(self, path: Path, widest: int = 1200) -> str:
        """A picture file as data URI, scaled down to ``widest`` pixels; "" if absent, unreadable or too much."""
        if not path.is_file():
            return ""
        try:
            return self.picture(read_image(path), path.name, widest)
        except ImageError:
            self.left_out.append(f"{path.name} (unreadable)")
            return ""

    def picture(self, image: np.ndarray, name: str, widest: int = 1200) -> str:
        """uint8 [H, W, 3] as data URI: PNG where that is smaller (drawings), else JPEG; "" if too much."""
        if image.shape[1] > widest:
            size = widest, max(1, round(image.shape[0] * widest / image.shape[1]))
            image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
        coded = [_coded(image, "jpeg", {"quality": 85})]
        if image.size < 120_000:
            coded.append(_coded(image, "png", {"optimize": True}))
        kind, data = min(coded, key=lambda pair: len(pair[1]))
        uri = f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
        if len(uri) > self._left:
            self.left_out.append(name)
            return ""
        self._left -= len(uri)
        return uri


def _coded(image: np.ndarray, kind: str, options: Mapping[str, Any]) -> tuple[str, bytes]:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, kind, **options)
    return kind, buffer.getvalue()


def write_page(path: Path, template: str, content: Mapping[str, Any]) -> None:
    """Renders a template of this package to a file, atomically. Everything that is not Markup is escaped."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters |= {"number": number, "interval": interval, "words": words, "short": short}
    environment.globals |= {"css": Markup((TEMPLATES / "style.css").read_text(encoding="utf-8")), "bullet": row_bullet}
    write_text(path, environment.get_template(template).render(content))


def interval(estimate: Mapping[str, Any] | None) -> str:
    """The interval of a figure, "0.31 to 0.44", two digits, or "" without one."""
    if not estimate or estimate.get("low") is None or estimate.get("high") is None:
        return ""
    if estimate["low"] == estimate["high"]:
        return ""
    return f"{number(estimate['low'], 2)} to {number(estimate['high'], 2)}"


def short(value: float) -> str:
    """A limit as somebody typed it: no trailing zeros."""
    return f"{value:g}"


def row_bullet(row: Mapping[str, Any]) -> Markup:
    """The little scale of a verdict row."""
    value, low, high = (float("nan") if row[key] is None else float(row[key]) for key in ("value", "low", "high"))
    return bullet(value, low, high, (row["pass"], row["fail"]))


def words(name: str) -> str:
    """A file or column name as words: "grid_002000" becomes "grid 2000"."""
    return " ".join(part.lstrip("0") or "0" if part.isdigit() else part for part in name.replace("-", "_").split("_"))
