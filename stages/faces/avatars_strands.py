"""How avatar hair and cloth are painted: tints, masses, strands, gloss, curls."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from stages.faces.avatars_svg import Colour, Pen, Sheet, curve, mix, ring, times

Points = Sequence[Sequence[float]]


@dataclass(frozen=True)
class Tint:
    """Hair (or cloth) colours from light to dark, and the colour of its edge."""

    light: Colour
    base: Colour
    dark: Colour
    line: Colour


def tint(colour: Colour) -> Tint:
    """Highlights lean warm, shadows keep some saturation so that black hair stays readable."""
    return Tint(
        light=mix(colour, (255, 226, 190), 0.34),
        base=colour,
        dark=mix(times(colour, (0.56, 0.5, 0.52)), (40, 20, 40), 0.08),
        line=times(colour, (0.4, 0.34, 0.36)),
    )


def lock(
    sheet: Sheet, pen: Pen, points: Points, colours: Tint, light: int, tension: float = 1.0, edge: float = 0.75
) -> str:
    """Fill one mass (points (x, y[, z]), z = 0 without) with its gradient and edge; returns the clip reference."""
    shape = curve(pen.many(points, 0.0), tension=tension)
    ys = [p[1] for p in points]
    start, end = pen.at(30 * light, min(ys), 0), pen.at(-40 * light, max(ys), 0)
    stops = [(0.0, mix(colours.base, colours.light, 0.55)), (0.4, colours.base), (1.0, colours.dark)]
    sheet.fill(shape, sheet.linear(start, end, stops))
    if edge > 0:
        sheet.line(shape, colours.line, 1.8, edge)
    return sheet.clip(shape)


def strands(
    sheet: Sheet, pen: Pen, clip: str, lines: Sequence[Points], colour: Colour, width: float, opacity: float
) -> None:
    """Thin lines that show which way hair falls; z = 30 where a point has none."""
    for line in lines:
        sheet.line(curve(pen.many(line, 30.0), closed=False), colour, width, opacity, clip)


def gloss(sheet: Sheet, pen: Pen, clip: str, colours: Tint, light: int, y: float = 34.0, spread: float = 46.0) -> None:
    """The band of light that makes hair look solid and shiny."""
    band = [(light * (8 + spread * t), y + 26 * t * t) for t in (-0.35, 0.0, 0.35, 0.7, 1.0)]
    shine = mix(colours.light, (255, 255, 255), 0.35)
    sheet.line(curve(pen.many(band, 40.0), closed=False), colours.light, 10.0, 0.4, clip)
    sheet.line(curve(pen.many(band[1:4], 40.0), closed=False), shine, 4.0, 0.5, clip)


def curls(sheet: Sheet, pen: Pen, along: Points, radius: float, colours: Tint, light: int) -> None:
    """Overlapping round curls along a polyline; z = -10 where a point has none."""
    for i, (x, y, z) in enumerate(_spaced([(p[0], p[1], p[2] if len(p) > 2 else -10.0) for p in along], radius)):
        r = radius * (0.8 + 0.4 * ((i * 0.618) % 1.0))
        shape = curve(pen.many([(a, b, z) for a, b in ring(x, y, r, r, 7)]))
        centre = pen.at(x + 0.4 * r * light, y - 0.5 * r, z)
        stops = [
            (0.0, mix(colours.base, colours.light, 0.32)),
            (0.5, colours.base),
            (1.0, mix(colours.base, colours.dark, 0.7)),
        ]
        sheet.fill(shape, sheet.radial(centre, 1.7 * r, stops))


def curl_marks(
    sheet: Sheet, pen: Pen, clip: str, box: tuple[float, float, float, float], n: int, colours: Tint
) -> None:
    """Scatter n small arcs over the box (left, top, right, bottom): the inside of curly hair."""
    left, top, right, bottom = box
    for i in range(n):
        x, y = left + (right - left) * ((i * 0.618 + 0.3) % 1.0), top + (bottom - top) * (i + 0.5) / n
        bend = 1 if i % 2 else -1
        arc = [(x + bend * dx, y + dy, 30) for dx, dy in ((-7, 4), (-6, -1), (-1, -5), (5, -3), (7, 1))]
        strands(sheet, pen, clip, [arc], colours.light if i % 3 else colours.dark, 3.6, 0.34)


def _spaced(points: list[tuple[float, float, float]], gap: float) -> list[tuple[float, float, float]]:
    out = [points[0]]
    for end in points[1:]:
        start = out[-1]
        steps = max(1, round(math.dist(start, end) / gap))
        out += [
            (
                start[0] + (end[0] - start[0]) * k / steps,
                start[1] + (end[1] - start[1]) * k / steps,
                start[2] + (end[2] - start[2]) * k / steps,
            )
            for k in range(1, steps + 1)
        ]
    return out
