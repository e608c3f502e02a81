"""Inline SVG charts. Colours are CSS classes, so that one page serves light and dark; no script, no network."""

import math
from collections.abc import Callable, Sequence
from html import escape

import numpy as np
from markupsafe import Markup
from numpy.typing import ArrayLike

WIDTH, HEIGHT = 240, 118
LEFT, RIGHT, TOP, BOTTOM = 34, 8, 8, 20
MOST_POINTS = 160


def number(value: float | int | None, digits: int = 3) -> str:
    """A figure as people read it: 3 significant digits, thousands grouped, "–" for none."""
    if value is None or not math.isfinite(value):
        return "–"
    if value == 0:
        return "0"
    if float(value).is_integer() and abs(value) < 1e6:
        return f"{int(value):,}".replace(",", "\u2009")
    size = math.floor(math.log10(abs(value)))
    if size >= 4:
        return f"{value:,.0f}".replace(",", "\u2009")
    if size < -3:
        return f"{value:.1e}"
    text = f"{value:.{max(0, digits - 1 - size)}f}"
    return text.replace("-", "−")


def ticks(low: float, high: float, count: int = 3) -> list[float]:
    """Round numbers that span [low, high], about ``count`` of them."""
    if not (math.isfinite(low) and math.isfinite(high)) or high <= low:
        return [low]
    step = (high - low) / count
    magnitude = 10 ** math.floor(math.log10(step))
    step = next(m * magnitude for m in (1, 2, 2.5, 5, 10) if m * magnitude >= step - 1e-12)
    first = math.ceil(low / step - 1e-9)
    return [first * step + i * step for i in range(int((high - first * step) / step + 1e-9) + 1)]


def line(x: ArrayLike, y: ArrayLike, label: str) -> Markup:
    """A curve: raw values faint, a running mean on top. Values that are not finite are left out."""
    xs, ys = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    keep = np.isfinite(xs) & np.isfinite(ys)
    xs, ys = xs[keep], ys[keep]
    if len(xs) == 0:
        return Markup("")
    if len(xs) > MOST_POINTS:
        parts = np.array_split(np.arange(len(xs)), MOST_POINTS)
        xs, ys = (np.array([values[part].mean() for part in parts]) for values in (xs, ys))
    # a single spike must not flatten the curve
    low, high = np.percentile(ys, [1, 99]) if len(ys) > 20 else (ys.min(), ys.max())
    if high - low < 1e-12:
        low, high = low - 0.5, high + 0.5
    span = max(xs.max() - xs.min(), 1e-12)

    def place(px: float, py: float) -> tuple[float, float]:
        across = LEFT + (px - xs.min()) / span * (WIDTH - LEFT - RIGHT)
        up = HEIGHT - BOTTOM - (min(max(py, low), high) - low) / (high - low) * (HEIGHT - TOP - BOTTOM)
        return across, up

    smooth = _smooth(ys)
    body = [_frame(low, high, lambda v: place(xs.min(), v)[1])]
    body += [f'<polyline class="raw" points="{_points(place, xs, ys)}"/>'] if len(xs) > 12 else []
    body.append(f'<polyline class="curve" points="{_points(place, xs, smooth)}"/>')
    for value in (xs.min(), xs.max()):
        anchor = "start" if value == xs.min() else "end"
        body.append(
            f'<text x="{place(value, low)[0]:.0f}" y="{HEIGHT - 6}" text-anchor="{anchor}">{number(value)}</text>'
        )
    return _svg(WIDTH, HEIGHT, f"{label}: from {number(ys[0])} to {number(ys[-1])}", body)


def bullet(value: float, low: float, high: float, limits: tuple[float, float]) -> Markup:
    """Where a figure stands between pass (left), warn and fail (right), with its interval."""
    good, bad = limits

    def across(v: float) -> float:
        t = (v - good) / (bad - good) if bad != good else (0.0 if v <= good else 2.0)
        share = 0.45 + 0.3 * t if 0 <= t <= 1 else 0.45 * math.exp(t) if t < 0 else 1 - 0.25 * math.exp(1 - t)
        return 2 + 126 * min(max(share, 0.0), 1.0)

    body = [
        f'<rect class="zone-{name}" x="{a:.1f}" y="5" width="{b - a:.1f}" height="8" rx="1"/>'
        for name, a, b in (("pass", 2, 58.7), ("warn", 58.7, 96.5), ("fail", 96.5, 128))
    ]
    if math.isfinite(value):
        if math.isfinite(low) and math.isfinite(high):
            ends = sorted((across(low), across(high)))
            body.append(f'<line class="whisker" x1="{ends[0]:.1f}" x2="{ends[1]:.1f}" y1="9" y2="9"/>')
        body.append(f'<circle class="dot" cx="{across(value):.1f}" cy="9" r="4"/>')
    return _svg(130, 18, f"{number(value)} between pass {number(good)} and fail {number(bad)}", body, "bullet")


def dots(rows: Sequence[tuple[str, float, float, float, int, bool]], label: str) -> Markup:
    """Groups below each other: dot, interval, N. Rows are (name, value, low, high, n, faint)."""
    known = [v for _, value, low, high, _, _ in rows for v in (value, low, high) if math.isfinite(v)]
    if not known:
        return Markup("")
    least, most = min(known), max(known)
    pad = (most - least) * 0.06 or max(abs(most), 1) * 0.1
    least, most = least - pad, most + pad
    left, right, row_height = 92, 300, 20
    height = row_height * len(rows) + 22

    def across(v: float) -> float:
        return left + (v - least) / (most - least) * (right - left)

    body = []
    for tick in ticks(least, most, 3):
        x = across(tick)
        body.append(f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="4" y2="{height - 18}"/>')
        body.append(f'<text x="{x:.1f}" y="{height - 5}" text-anchor="middle">{number(tick)}</text>')
    for i, (name, value, low, high, n, faint) in enumerate(rows):
        y = 14 + i * row_height
        style = ' class="faint"' if faint else ""
        body.append(f'<g{style}><text x="{left - 8}" y="{y + 4}" text-anchor="end" class="name">{escape(name)}</text>')
        if math.isfinite(value):
            if math.isfinite(low) and math.isfinite(high):
                body.append(f'<line class="whisker" x1="{across(low):.1f}" x2="{across(high):.1f}" y1="{y}" y2="{y}"/>')
            body.append(f'<circle class="dot" cx="{across(value):.1f}" cy="{y}" r="4"/>')
        body.append(f'<text x="{right + 44}" y="{y + 4}" text-anchor="end">n {n}</text></g>')
    return _svg(right + 50, height, label, body, "dots")


def bars(rows: Sequence[tuple[str, float, str]], label: str) -> Markup:
    """Horizontal bars: (name, value, text)."""
    most = max((value for _, value, _ in rows if math.isfinite(value)), default=0) or 1
    body, height = [], 20 * len(rows) + 4
    for i, (name, value, text) in enumerate(rows):
        y = 4 + i * 20
        width = 170 * max(value, 0) / most if math.isfinite(value) else 0
        body.append(f'<text x="92" y="{y + 11}" text-anchor="end" class="name">{escape(name)}</text>')
        body.append(f'<rect class="bar" x="100" y="{y + 1}" width="{max(width, 1):.1f}" height="13" rx="2"/>')
        body.append(f'<text x="{106 + width:.1f}" y="{y + 11}">{escape(text)}</text>')
    return _svg(340, height, label, body, "bars")


def histogram(values: ArrayLike, reference: float, label: str, bins: int = 24) -> Markup:
    """Distribution of per-picture values with a dashed line at ``reference`` (NaN: none)."""
    array = np.asarray(values, dtype=np.float64)
    array = array[np.isfinite(array)]
    if len(array) < 2:
        return Markup("")
    ends = [array.min(), array.max()] + ([reference] if math.isfinite(reference) else [])
    low, high = min(ends), max(ends)
    if high - low < 1e-12:
        low, high = low - 0.5, high + 0.5
    counts, edges = np.histogram(array, bins=bins, range=(low, high))
    base, width = HEIGHT - BOTTOM, (WIDTH - LEFT - RIGHT) / bins
    body = []
    for i, count in enumerate(counts):
        if count:
            tall = count / counts.max() * (base - TOP)
            x = LEFT + i * width
            body.append(
                f'<rect class="bar" x="{x:.1f}" y="{base - tall:.1f}" width="{width - 1:.1f}" height="{tall:.1f}"/>'
            )
    if math.isfinite(reference):
        x = LEFT + (reference - low) / (high - low) * (WIDTH - LEFT - RIGHT)
        body.append(f'<line class="mark" x1="{x:.1f}" x2="{x:.1f}" y1="{TOP - 4}" y2="{base}"/>')
    body.append(f'<line class="axis" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{base}" y2="{base}"/>')
    for value, anchor, x in ((edges[0], "start", LEFT), (edges[-1], "end", WIDTH - RIGHT)):
        body.append(f'<text x="{x}" y="{HEIGHT - 6}" text-anchor="{anchor}">{number(value)}</text>')
    return _svg(WIDTH, HEIGHT, label, body)


def _frame(low: float, high: float, up: Callable[[float], float]) -> str:
    parts = []
    for tick in ticks(low, high, 3):
        y = up(tick)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text x="{LEFT - 4}" y="{y + 3:.1f}" text-anchor="end">{number(tick, 2)}</text>')
    return "".join(parts)


def _smooth(values: np.ndarray) -> np.ndarray:
    reach = max(1, len(values) // 14)
    if reach == 1:
        return values
    padded = np.pad(values, (reach, reach), mode="reflect")
    return np.convolve(padded, np.ones(2 * reach + 1) / (2 * reach + 1), mode="valid")


def _points(place: Callable[[float, float], tuple[float, float]], xs: np.ndarray, ys: np.ndarray) -> str:
    return " ".join("{:.1f},{:.1f}".format(*place(x, y)) for x, y in zip(xs, ys, strict=True))


def _svg(width: float, height: float, label: str, body: Sequence[str], kind: str = "chart") -> Markup:
    text = escape(label)
    head = (
        f'<svg class="{kind}" viewBox="0 0 {width:g} {height:g}" role="img" aria-label="{text}"><title>{text}</title>'
    )
    return Markup(head + "".join(body) + "</svg>")
