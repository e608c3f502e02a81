"""``python -m stages.pair.sweep_identity --style S``: the trade-off between likeness and style, with pictures.

From the most style to the most likeness: the adversarial weight falls while cycle, identity and face-recognition
weights rise. A designer picks a row and copies its values into params.yaml (docs/choosing-a-style.md). Likeness is
measured with the network that the likeness loss uses, so read it beside the pictures; without that network the
horizontal axis is the background instead of likeness and only the pictures judge.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import cv2
import numpy as np
import pandas as pd

from stages.common.images import write_png
from stages.common.progress import log
from stages.common.runner import StageContext
from stages.pair.trials import command, run_trials

FOLDER = "sweep_identity"
# beyond 2 there is nothing to choose: with an embedder, photos stay as they are (noto: style gap 0.84 at 2, 0.90 at 4)
FACTORS = {"style_most": 0.25, "style": 0.5, "middle": 1.0, "likeness": 1.4, "likeness_most": 2.0}
SIZE, MARGIN, LINE = (360, 520), 56, 18  # of the chart and of a legend's line, pixels
TEXT = 0.38  # scale of the font


def settings_for(factor: float, base: dict[str, Any]) -> dict[str, Any]:
    """The weights of one point: those that keep the person × ``factor``, the adversarial one ÷ √``factor``."""
    changed = {name: base[name] * factor for name in ("cycle", "identity", "face_identity")} | {
        "gan": base["gan"] / factor**0.5
    }
    return {name: round(value, 3) for name, value in changed.items()}


def work(ctx: StageContext, kimg: float | None) -> None:
    """Trains and measures all points and draws the curve."""
    base = ctx.settings.translate.model_dump()
    table = run_trials(
        ctx, {name: settings_for(f, base) for name, f in FACTORS.items()}, kimg, FOLDER, "sweep identity"
    )
    chart = draw(table, "identity_cosine" if "identity_cosine" in table else "background_psnr", "style_gap")
    write_png(ctx.root / "reports" / ctx.style / FOLDER / "curve.png", chart)
    log(table.to_string(index=False))


def draw(table: pd.DataFrame, x: str, y: str) -> np.ndarray:
    """The points of ``table`` as a numbered curve with its legend, uint8 [360 + 18 per point, 520, 3]."""
    height, width = SIZE
    rows = table.dropna(subset=[x, y]).to_dict("records")
    chart = np.full((height + LINE * len(rows), width, 3), 255, np.uint8)
    spans = {name: _span(table[name]) for name in (x, y)}

    def place(row: dict[str, Any]) -> tuple[int, int]:
        across, up = ((row[name] - spans[name][0]) / (spans[name][1] - spans[name][0]) for name in (x, y))
        return round(MARGIN + across * (width - 2 * MARGIN)), round(height - MARGIN - up * (height - 2 * MARGIN))

    cv2.rectangle(chart, (MARGIN, MARGIN), (width - MARGIN, height - MARGIN), (210, 210, 210), 1)
    points = [place(row) for row in rows]
    for start, end in pairwise(points):
        cv2.line(chart, start, end, (170, 170, 200), 1, cv2.LINE_AA)
    for number, (row, (px, py)) in enumerate(zip(rows, points, strict=True), 1):
        cv2.circle(chart, (px, py), 4, (40, 70, 160), -1, cv2.LINE_AA)
        _text(chart, str(number), (px + 7, py - 6))
        # names beside the points ran into each other where points lie close
        legend = f"{number}  {row['trial']}: {x} {row[x]:.3g}, {y} {row[y]:.3g}"
        _text(chart, legend, (MARGIN, height - 6 + LINE * number))
    _text(chart, f"{x} ({spans[x][0]:.2f} to {spans[x][1]:.2f}), more is more alike", (MARGIN, height - 20))
    _text(chart, f"{y} ({spans[y][0]:.2f} to {spans[y][1]:.2f}), less is more of the style", (MARGIN, 30))
    return chart


def _span(values: pd.Series) -> tuple[float, float]:
    low, high = float(values.min()), float(values.max())
    room = 0.1 * (high - low) or 0.05
    return low - room, high + room


def _text(chart: np.ndarray, text: str, where: tuple[int, int]) -> None:
    cv2.putText(chart, text, where, cv2.FONT_HERSHEY_SIMPLEX, TEXT, (40, 40, 40), 1, cv2.LINE_AA)


def main(argv: Sequence[str] | None = None) -> None:
    """Command line."""
    command("sweep_identity", __doc__, work, argv)


if __name__ == "__main__":
    main()
