"""Drawing tools of the avatars: a 3D-aware pen, colours, and an SVG sheet that collects layers.

Heads are described in *head units*: one unit is a pixel of a 256 px FFHQ-aligned picture of a frontal face, x to the
right from the middle of the face, y down with the eyes at 121 and the chin near 236, z towards the viewer. The pen
turns the head by yaw, pitch and roll, so everything drawn through it shows the right parallax.
"""

import colorsys
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Literal, NamedTuple

Point = tuple[float, float]
Colour = tuple[float, float, float]  # RGB, each 0..255

PIVOT_Y = 132.0  # height of the head's centre, about which it turns
NECK_Y = 205.0  # height of the neck joint, about which it rolls
SKULL = (86.0, 132.0, 80.0)  # half-axes of the ellipsoid that carries the features: width, height, depth


@dataclass(frozen=True)
class Pen:
    """Maps head units to the flat drawing for one pose; angles in degrees (yaw > 0: nose to the right)."""

    yaw: float = 0.0
    pitch: float = 0.0
    roll: float = 0.0

    def at(self, x: float, y: float, z: float | None = None) -> Point:
        """Position of a point in the drawing; without z it lies on the surface of the face."""
        if z is None:
            z = surface_depth(x, y)
        yaw, pitch, roll = (math.radians(a) for a in (self.yaw, self.pitch, self.roll))
        across = x * math.cos(yaw) + z * math.sin(yaw)
        depth = -x * math.sin(yaw) + z * math.cos(yaw)
        down = (y - PIVOT_Y) * math.cos(pitch) - depth * math.sin(pitch)
        near = 1.0 / (1.0 - (depth * math.cos(pitch)) / 1100.0)  # a portrait lens: the nearer half a little larger
        across, down = across * near, down * near + PIVOT_Y - NECK_Y
        return (
            across * math.cos(roll) - down * math.sin(roll),
            across * math.sin(roll) + down * math.cos(roll) + NECK_Y,
        )

    def many(self, points: Iterable[Sequence[float]], z: float | None = None) -> list[Point]:
        """`at` for a list of (x, y) or (x, y, z)."""
        return [self.at(p[0], p[1], p[2] if len(p) > 2 else z) for p in points]


def surface_depth(x: float, y: float) -> float:
    """Depth (head units) of the face's surface at (x, y)."""
    a, b, c = SKULL
    return c * math.sqrt(max(0.0, 1.0 - (x / a) ** 2 - ((y - PIVOT_Y) / b) ** 2))


def mirrored(right: Sequence[Sequence[float]]) -> list[tuple[float, ...]]:
    """A closed symmetric outline from its right half, given from top to bottom."""
    return [tuple(p) for p in right] + [(-p[0], *p[1:]) for p in reversed(right) if abs(p[0]) > 1e-6]


def curve(points: Sequence[Sequence[float]], closed: bool = True, tension: float = 1.0) -> str:
    """SVG path data of a smooth curve through the points (Catmull-Rom as cubic Bézier pieces)."""
    n = len(points)
    pick = (lambda i: points[i % n]) if closed else (lambda i: points[min(max(i, 0), n - 1)])
    parts = [f"M{points[0][0]:.1f} {points[0][1]:.1f}"]
    k = tension / 6.0
    for i in range(n if closed else n - 1):
        before, start, end, after = pick(i - 1), pick(i), pick(i + 1), pick(i + 2)
        parts.append(
            f"C{start[0] + k * (end[0] - before[0]):.1f} {start[1] + k * (end[1] - before[1]):.1f} "
            f"{end[0] - k * (after[0] - start[0]):.1f} {end[1] - k * (after[1] - start[1]):.1f} "
            f"{end[0]:.1f} {end[1]:.1f}"
        )
    return "".join(parts) + ("Z" if closed else "")


def polygon(points: Sequence[Point]) -> str:
    """SVG path data of a closed polygon."""
    return "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points) + "Z"


def ring(cx: float, cy: float, rx: float, ry: float, n: int = 10) -> list[tuple[float, float]]:
    """n points on an ellipse, in head units, to be sent through a pen."""
    return [(cx + rx * math.cos(2 * math.pi * i / n), cy + ry * math.sin(2 * math.pi * i / n)) for i in range(n)]


def mix(a: Colour, b: Colour, t: float) -> Colour:
    """Colour at fraction t from a to b."""
    return (a[0] + (b[0] - a[0]) * t, a[1] + (b[1] - a[1]) * t, a[2] + (b[2] - a[2]) * t)


def times(a: Colour, b: Colour) -> Colour:
    """Product of a colour with factors, the way a coloured shadow works."""
    return (min(255.0, a[0] * b[0]), min(255.0, a[1] * b[1]), min(255.0, a[2] * b[2]))


def hsl(hue: float, saturation: float, lightness: float) -> Colour:
    """Colour from hue in degrees, saturation and lightness in 0..1."""
    r, g, b = colorsys.hls_to_rgb((hue % 360.0) / 360.0, lightness, saturation)
    return (255.0 * r, 255.0 * g, 255.0 * b)


def css(c: Colour) -> str:
    """Hexadecimal form of a colour."""
    return "#" + "".join(f"{min(255, max(0, round(v))):02x}" for v in c)


Stop = tuple[float, Colour] | tuple[float, Colour, float]  # offset, colour, opacity


class Item(NamedTuple):
    """One element of a sheet: its layer, clip reference ("" without), SVG text, and path data if it is opaque."""

    layer: Literal["head", "body"]
    clip: str
    element: str
    solid: str


@dataclass
class Sheet:
    """Collects SVG elements in drawing order. The layer "head" is what the head mask shows, "body" the rest."""

    defs: list[str] = field(default_factory=list)
    items: list[Item] = field(default_factory=list)
    layer: Literal["head", "body"] = "head"

    def _define(self, text: str) -> str:
        name = f"d{len(self.defs)}"
        self.defs.append(text.replace("ID", name, 1))
        return f"url(#{name})"

    def radial(self, centre: Point, radius: float, stops: Sequence[Stop]) -> str:
        """Reference to a new radial gradient in drawing coordinates."""
        return self._define(
            f'<radialGradient id="ID" gradientUnits="userSpaceOnUse" cx="{centre[0]:.1f}" cy="{centre[1]:.1f}" '
            f'r="{radius:.1f}">{_stops(stops)}</radialGradient>'
        )

    def linear(self, start: Point, end: Point, stops: Sequence[Stop]) -> str:
        """Reference to a new linear gradient in drawing coordinates."""
        return self._define(
            f'<linearGradient id="ID" gradientUnits="userSpaceOnUse" x1="{start[0]:.1f}" y1="{start[1]:.1f}" '
            f'x2="{end[0]:.1f}" y2="{end[1]:.1f}">{_stops(stops)}</linearGradient>'
        )

    def clip(self, d: str) -> str:
        """Reference to a new clip path."""
        return self._define(f'<clipPath id="ID"><path d="{d}"/></clipPath>')

    def fill(self, d: str, paint: str | Colour, opacity: float = 1.0, clip: str = "", even_odd: bool = False) -> None:
        """Add a filled path; with even_odd an inner outline is a hole."""
        solid = opacity >= 1.0 and not clip
        rule = ' fill-rule="evenodd"' if even_odd else ""
        paint = paint if isinstance(paint, str) else css(paint)
        self._add(f'<path d="{d}" fill="{paint}"{rule}{_opacity("fill", opacity)}/>', clip, d if solid else "")

    def line(self, d: str, paint: str | Colour, width: float, opacity: float = 1.0, clip: str = "") -> None:
        """Add a stroked path with round ends."""
        paint = paint if isinstance(paint, str) else css(paint)
        self._add(
            f'<path d="{d}" fill="none" stroke="{paint}" stroke-width="{width:.2f}" stroke-linecap="round" '
            f'stroke-linejoin="round"{_opacity("stroke", opacity)}/>',
            clip,
        )

    def glow(
        self, centre: Point, radius: float, colour: Colour, opacity: float, clip: str = "", flat: float = 1.0
    ) -> None:
        """Add a soft round spot; `flat` squeezes it vertically."""
        paint = self._define(
            f'<radialGradient id="ID">{_stops([(0, colour, opacity), (0.45, colour, opacity * 0.62), (1, colour, 0)])}'
            "</radialGradient>"
        )
        place = f'cx="{centre[0]:.1f}" cy="{centre[1]:.1f}" rx="{radius:.1f}" ry="{radius * flat:.1f}"'
        self._add(f'<ellipse {place} fill="{paint}"/>', clip)

    def _add(self, element: str, clip: str, solid: str = "") -> None:
        self.items.append(Item(self.layer, clip, element, solid))

    def svg(self, size: int, centre: Point, half: float) -> str:
        """The whole picture: a square of side 2·half head units around `centre`, drawn at size x size pixels."""
        body = ""
        for clip, run in groupby(self.items, key=lambda item: item.clip):  # every clipped group is a layer: slow
            elements = "".join(item.element for item in run)
            body += f'<g clip-path="{clip}">{elements}</g>' if clip else elements
        return _document(size, centre, half, f"<defs>{''.join(self.defs)}</defs>{body}")

    def mask_svg(self, size: int, centre: Point, half: float) -> str:
        """The head in white, all that hides it and the rest in black; drawn from the solid shapes only."""
        side, left, top = 2 * half, centre[0] - half, centre[1] - half
        box = f'<rect x="{left:.2f}" y="{top:.2f}" width="{side:.2f}" height="{side:.2f}"/>'
        colours = {"head": "#fff", "body": "#000"}
        solid = (f'<path d="{i.solid}" fill="{colours[i.layer]}"/>' for i in self.items if i.solid)
        return _document(size, centre, half, box + "".join(solid))


def _document(size: int, centre: Point, half: float, content: str) -> str:
    box = f"{centre[0] - half:.2f} {centre[1] - half:.2f} {2 * half:.2f} {2 * half:.2f}"
    head = f'<svg xmlns="http://www.w3.org/2000/svg" width="{size}" height="{size}" viewBox="{box}">'
    return f"{head}{content}</svg>"


def _stops(stops: Sequence[Stop]) -> str:
    return "".join(
        f'<stop offset="{s[0]:.3f}" stop-color="{css(s[1])}"'
        + (f' stop-opacity="{s[2]:.3f}"' if len(s) > 2 else "")
        + "/>"
        for s in stops
    )


def _opacity(kind: str, value: float) -> str:
    # fill-opacity and stroke-opacity cost nothing; plain opacity makes resvg draw a separate layer
    return "" if value >= 1.0 else f' {kind}-opacity="{value:.3f}"'
