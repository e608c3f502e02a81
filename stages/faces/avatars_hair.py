"""Hair, beards and headwear of the avatars."""

from collections.abc import Sequence
from dataclasses import dataclass

from stages.faces.avatars_design import Design
from stages.faces.avatars_face import face_outline, mouth_curves, skin_tones
from stages.faces.avatars_svg import Colour, Pen, Sheet, curve, mirrored, mix, ring, surface_depth, times

Points = Sequence[Sequence[float]]
LONG = ("long", "wavy", "curls_long", "locks")


@dataclass(frozen=True)
class Tint:
    """Hair (or cloth) colours from light to dark."""

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


def _skull(grow: float, top: float, low: float = 122.0) -> list[tuple[float, float]]:
    """Right half of the hair's outer edge from the crown down to the ear; `grow` sideways, `top` upwards."""
    return [
        (0.0, 8.0 - top), (32.0, 11.0 - 0.95 * top), (58.0 + 0.5 * grow, 31.0 - 0.6 * top), (73.0 + 0.8 * grow, 64.0 - 0.2 * top),
        (76.5 + grow, 94.0), (75.0 + 0.7 * grow, low),
    ]  # fmt: skip


def _cap(outer_right: Points, hairline: Points) -> list[tuple[float, ...]]:
    """Closed outline of a head of hair: outer edge from left to right, hairline (given right to left) back."""
    left = [(-p[0], *p[1:]) for p in reversed(outer_right)]
    on_skull = [(x, y, 0.0) for x, y, *_ in [*left[:-1], *outer_right]]
    return on_skull + [(x, y, surface_depth(x, y)) for x, y, *_ in hairline]


def _lock(sheet: Sheet, pen: Pen, points: Points, colours: Tint, light: int, tension: float = 1.0) -> str:
    """Fill one mass of hair with its gradient and edge; returns the clip reference."""
    shape = curve(pen.many(points, 0.0), tension=tension)
    ys = [p[1] for p in points]
    top, bottom = min(ys), max(ys)
    sheet.fill(shape, sheet.linear(pen.at(30 * light, top, 0), pen.at(-40 * light, bottom, 0), [
        (0, mix(colours.base, colours.light, 0.55)), (0.4, colours.base), (1, colours.dark)
    ]))  # fmt: skip
    sheet.line(shape, colours.line, 1.8, 0.75)
    return sheet.clip(shape)


def _strands(
    sheet: Sheet, pen: Pen, clip: str, lines: Sequence[Points], colour: Colour, width: float, opacity: float
) -> None:
    for line in lines:
        sheet.line(curve(pen.many(line, 30.0), closed=False), colour, width, opacity, clip)


def _gloss(sheet: Sheet, pen: Pen, clip: str, colours: Tint, light: int, y: float = 34.0, spread: float = 46.0) -> None:
    """The band of light that makes hair look solid and shiny."""
    band = [(light * (8 + spread * t), y + 26 * t * t) for t in (-0.35, 0.0, 0.35, 0.7, 1.0)]
    sheet.line(curve(pen.many(band, 40.0), closed=False), colours.light, 10.0, 0.4, clip)
    sheet.line(
        curve(pen.many(band[1:4], 40.0), closed=False), mix(colours.light, (255, 255, 255), 0.35), 4.0, 0.5, clip
    )


def _flip(points: Points, side: int) -> list[tuple[float, ...]]:
    """Points for a parting on the other side; order reversed so that hairlines still run right to left."""
    if side > 0:
        return [tuple(p) for p in points]
    return [(-p[0], *p[1:]) for p in reversed(points)]


_NATURAL = [
    (73, 122),
    (67, 100),
    (63, 78),
    (52, 57),
    (28, 47),
    (0, 45),
    (-28, 47),
    (-52, 57),
    (-63, 78),
    (-67, 100),
    (-73, 122),
]
_RECEDED = [
    (73, 122),
    (68, 100),
    (64, 74),
    (54, 42),
    (38, 30),
    (20, 38),
    (0, 41),
    (-20, 38),
    (-38, 30),
    (-54, 42),
    (-64, 74),
    (-68, 100),
    (-73, 122),
]
_SIDE = [
    (73, 122),
    (67, 100),
    (63, 76),
    (54, 54),
    (38, 40),
    (27, 33),
    (12, 47),
    (-14, 57),
    (-42, 62),
    (-60, 78),
    (-67, 100),
    (-73, 122),
]
_CREW = [
    (73, 120),
    (68, 98),
    (65, 72),
    (57, 56),
    (30, 52),
    (0, 50),
    (-30, 52),
    (-57, 56),
    (-65, 72),
    (-68, 98),
    (-73, 120),
]
_FRINGE = [
    (74, 132),
    (69, 108),
    (66, 88),
    (48, 82),
    (24, 85),
    (0, 83),
    (-24, 85),
    (-48, 82),
    (-66, 88),
    (-69, 108),
    (-74, 132),
]
_SWEPT = [
    (74, 130),
    (68, 104),
    (63, 76),
    (52, 52),
    (34, 36),
    (26, 30),
    (8, 50),
    (-18, 68),
    (-44, 80),
    (-62, 92),
    (-69, 112),
    (-74, 132),
]
_CURTAIN = [
    (74, 140),
    (69, 114),
    (63, 88),
    (50, 64),
    (26, 44),
    (4, 27),
    (-4, 27),
    (-26, 44),
    (-50, 64),
    (-63, 88),
    (-69, 114),
    (-74, 140),
]
_MESSY = [
    (73, 120),
    (67, 97),
    (66, 76),
    (55, 66),
    (50, 54),
    (36, 70),
    (26, 52),
    (8, 72),
    (-6, 54),
    (-24, 70),
    (-34, 54),
    (-50, 66),
    (-60, 60),
    (-66, 80),
    (-67, 98),
    (-73, 120),
]


def draw_back_hair(sheet: Sheet, pen: Pen, design: Design) -> None:
    """Hair that lies behind neck and shoulders."""
    colours = tint(times(design.hair_colour, (0.8, 0.78, 0.8)))
    v, hair = design.volume, design.hair
    if hair == "afro":
        radius = 92 + 12 * v
        _curls(sheet, pen, ring(0, 78, radius, radius * 0.95, 22), 17, colours, design)
        _lock(sheet, pen, [(x, y, -10) for x, y in ring(0, 78, radius, radius * 0.95, 16)], colours, design.light)
    elif hair in ("bob", "bangs"):
        bottom = 214 + 16 * v
        right = [
            (0, 2 - 6 * v),
            (50, 18),
            (80 + 4 * v, 70),
            (88 + 6 * v, 130),
            (90 + 7 * v, 180),
            (84, bottom),
            (58, bottom + 5),
            (0, bottom - 6),
        ]
        _lock(sheet, pen, [(x, y, -12) for x, y in mirrored(right)], colours, design.light)
    elif hair in ("long", "wavy", "locks"):
        right = [
            (0, 2 - 6 * v),
            (52, 18),
            (82, 70),
            (90 + 4 * v, 130),
            (95 + 8 * v, 200),
            (99 + 8 * v, 262),
            (96, 300),
            (0, 300),
        ]
        _lock(sheet, pen, [(x, y, -12) for x, y in mirrored(right)], colours, design.light)
    elif hair == "curls_long":
        right = [
            (0, -6 - 6 * v),
            (54, 8),
            (88, 60),
            (102 + 5 * v, 125),
            (108 + 8 * v, 190),
            (102 + 8 * v, 248),
            (70, 272),
            (0, 262),
        ]
        body = mirrored(right)
        _curls(sheet, pen, [p for p in body if abs(p[0]) > 45], 22, colours, design)
        _lock(sheet, pen, [(x, y, -12) for x, y in body], colours, design.light)
    elif hair == "bun":
        high = v > 0.4
        centre = (0, -6) if high else (design.part * 62, 208)
        clip = _lock(
            sheet, pen, [(x, y, -30) for x, y in ring(*centre, 36, 30, 12)], tint(design.hair_colour), design.light
        )
        _strands(
            sheet,
            pen,
            clip,
            [[(-20, centre[1] - 16), (0, centre[1] - 24), (22, centre[1] - 14)]],
            tint(design.hair_colour).light,
            5,
            0.4,
        )
    elif hair == "ponytail":
        s = design.part
        tail = [
            (40 * s, 30),
            (84 * s, 60),
            (104 * s, 120),
            (108 * s, 190),
            (94 * s, 262),
            (74 * s, 250),
            (80 * s, 180),
            (70 * s, 110),
        ]
        _lock(sheet, pen, [(x, y, -30) for x, y in tail], tint(design.hair_colour), design.light)


def draw_front_hair(sheet: Sheet, pen: Pen, design: Design, face: str) -> None:
    """Hair on the head and in front of the face, with the shadow it casts on the forehead."""
    hair, v, part, light = design.hair, design.volume, design.part, design.light
    colours = tint(design.hair_colour)
    if hair in ("cap", "beanie", "hijab", "turban"):
        _draw_headwear(sheet, pen, design, face)
        return
    if hair == "bald":
        sheet.glow(pen.at(light * 22, 40), 24, (255, 250, 240), 0.5, face, 0.6)
        return
    line, outer = _shape(design)
    points = _cap(outer, line)
    tension = 0.55 if hair == "messy" else 1.0
    shadow = [(p[0], p[1] + 7.0, p[2]) for p in points]
    if hair not in ("buzz",):
        sheet.fill(curve(pen.many(shadow), tension=tension), skin_tones(design).deep, 0.38, face)
    if hair == "buzz":
        short = tint(mix(design.hair_colour, design.skin, 0.3))
        _lock(sheet, pen, points, short, light)
        return
    if hair in ("curly", "afro", "curls_long"):
        edge = points if hair == "curly" else points[len(outer) * 2 - 1 :]
        _curls(sheet, pen, edge, 12 if hair == "curly" else 13, colours, design)
    clip = _lock(sheet, pen, points, colours, light, tension)
    if hair in ("curly", "afro", "curls_long"):
        for i in range(16):
            x, y = -64 + 128 * ((i * 0.618) % 1.0), -4 + 58 * ((i * 0.377 + 0.2) % 1.0)
            arc = [(x - 8, y + 5, 40), (x - 3, y - 5, 40), (x + 7, y - 3, 40)]
            _strands(sheet, pen, clip, [arc], colours.light if i % 2 else colours.dark, 4.0, 0.4)
        return
    root = (27.0 * part, 24.0) if hair in ("side_part", "pixie", "bob", "wavy") else (0.0, 14.0)
    fall = [
        [(root[0], root[1] - 10), (root[0] * 0.5 + k * 34, 30 + 4 * abs(k)), (k * 58, 62 + 6 * abs(k)), (k * 74, 104)]
        for k in (-1.0, -0.7, 0.7, 1.0)
    ]
    _strands(sheet, pen, clip, fall, colours.dark, 2.6, 0.5)
    _gloss(sheet, pen, clip, colours, light, y=22.0 - 6 * v)
    if hair in LONG:
        _draw_side_locks(sheet, pen, design)
    if hair in ("bob", "bangs"):
        for side in (-1, 1):
            bottom = 205 + 16 * v
            strand = [
                (side * x, y)
                for x, y in (
                    (66, 60),
                    (82, 90),
                    (90, 140),
                    (90, 185),
                    (80, bottom),
                    (66, bottom - 6),
                    (71, 170),
                    (72, 130),
                )
            ]
            _lock(sheet, pen, [(x, y, 4) for x, y in strand], colours, light)


def _shape(design: Design) -> tuple[list[tuple[float, ...]], list[tuple[float, float]]]:
    """Hairline (right to left) and outer edge (right half) of the hair on the head."""
    v, part = design.volume, design.part
    lines: dict[str, tuple[Points, float, float, float]] = {  # hairline, sideways, upwards, sideburn height
        "receding": (_RECEDED, 1.0, 2 + 4 * v, 120), "buzz": (_NATURAL, 0.5, 0.0, 120), "crew": (_CREW, 1 + 2 * v, 5 + 7 * v, 118),
        "side_part": (_flip(_SIDE, part), 3 + 3 * v, 8 + 9 * v, 122), "quiff": (_NATURAL, 0.5, 16 + 12 * v, 116),
        "messy": (_MESSY, 6 + 4 * v, 9 + 9 * v, 120), "curly": (_CREW, 4 + 3 * v, 8 + 8 * v, 116), "afro": (_NATURAL, 6, 8, 118),
        "pixie": (_flip(_SWEPT, part), 4 + 3 * v, 8 + 6 * v, 132), "bun": (_NATURAL, 1.5, 4 + 2 * v, 124), "ponytail": (_flip(_SIDE, part), 2, 5 + 3 * v, 124),
        "bob": (_flip(_SWEPT, part), 7, 8 + 6 * v, 136), "bangs": (_FRINGE, 7, 8 + 5 * v, 136), "long": (_CURTAIN, 7, 6 + 5 * v, 142),
        "wavy": (_flip(_SWEPT, part), 8, 8 + 6 * v, 142), "locks": (_CURTAIN, 8, 8 + 4 * v, 142), "curls_long": (_CURTAIN, 9, 10 + 6 * v, 142),
    }  # fmt: skip
    line, grow, top, low = lines[design.hair]
    outer = _skull(grow, top, low)
    return [tuple(p) for p in line], outer


def _curls(sheet: Sheet, pen: Pen, along: Points, radius: float, colours: Tint, design: Design) -> None:
    """Round curls along an outline."""
    for i, p in enumerate(along):
        x, y, z = p[0], p[1], p[2] if len(p) > 2 else -10.0
        r = radius * (0.85 + 0.3 * ((i * 0.618) % 1.0))
        shape = curve(pen.many([(a, b, z) for a, b in ring(x, y, r, r, 8)]))
        centre = pen.at(x + 0.35 * r * design.light, y - 0.4 * r, z)
        sheet.fill(
            shape,
            sheet.radial(
                centre, 1.6 * r, [(0, mix(colours.base, colours.light, 0.5)), (0.5, colours.base), (1, colours.dark)]
            ),
        )
        sheet.line(shape, colours.line, 1.2, 0.35)


def _draw_side_locks(sheet: Sheet, pen: Pen, design: Design) -> None:
    """Long hair falling in front of the shoulders on both sides."""
    colours, v = tint(design.hair_colour), design.volume
    wave = 6.0 if design.hair == "wavy" else 1.5
    for side in (-1, 1):
        if design.hair == "locks":
            for k in range(4):
                x = 68 + 8.5 * k
                shape = [
                    (x - 6, 60 + 14 * k),
                    (x + 7, 70 + 12 * k),
                    (x + 9, 160),
                    (x + 8, 236 + 8 * (k % 2)),
                    (x, 246 + 8 * (k % 2)),
                    (x - 5, 236),
                    (x - 6, 150),
                ]
                _lock(sheet, pen, [(side * a, b, 0) for a, b in shape], colours, design.light)
            continue
        shape = [
            (56, 40), (80, 66), (87 + 2 * v, 110), (88 + 5 * v + wave, 150), (93 + 6 * v - wave, 190), (96 + 8 * v + wave, 232), (90 + 6 * v, 290),
            (70, 290), (66 + wave, 240), (72 - wave, 200), (73 + 0.5 * wave, 160), (72, 120), (66, 90), (55, 66),
        ]  # fmt: skip
        clip = _lock(sheet, pen, [(side * x, y, 4) for x, y in shape], colours, design.light)
        inner = [(side * 76, 90), (side * (80 + wave), 140), (side * (80 - wave), 190), (side * (82 + wave), 250)]
        _strands(sheet, pen, clip, [[(x, y, 4) for x, y in inner]], colours.dark, 3.0, 0.5)
        if side == design.light:
            shine = [(side * 82, 104), (side * (85 + wave), 135), (side * (86 - wave), 165)]
            _strands(sheet, pen, clip, [[(x, y, 4) for x, y in shine]], colours.light, 6.0, 0.45)


def draw_beard(sheet: Sheet, pen: Pen, design: Design, face: str) -> None:
    """Stubble, moustache, goatee or full beard, drawn before the mouth so that the lips stay visible."""
    if design.beard == "none":
        return
    colours = tint(mix(design.hair_colour, design.skin, 0.06))
    upper, lower = mouth_curves(design)
    mouth, c = upper[2][1], design.chin
    jaw = [(x, y, z) for x, y, z in face_outline(design) if y > 125]
    if design.beard in ("stubble", "full"):
        full = design.beard == "full"
        edge = [(x * (1.03 if full else 1.0), y + (5.0 if full and y > 200 else 0.0), z) for x, y, z in jaw]
        inner = [(-64, 140), (-54, 172), (-40, 176), (-22, 166), (0, 169), (22, 166), (40, 176), (54, 172), (64, 140)]
        points = edge + [(x, y, surface_depth(x, y)) for x, y in inner]
        shape = curve(pen.many(points))
        if full:
            _lock(sheet, pen, points, colours, design.light)
        else:
            sheet.fill(shape, times(colours.base, (0.9, 0.9, 0.95)), 0.34, face)
    if design.beard == "goatee":
        chin = [
            (-27, lower[0][1] + 6),
            (-30, 214),
            (-18, 236 + c),
            (0, 240 + c),
            (18, 236 + c),
            (30, 214),
            (27, lower[0][1] + 6),
            (0, lower[2][1] + 11),
        ]
        _lock(sheet, pen, [(x, y, surface_depth(x, min(y, 225))) for x, y in chin], colours, design.light)
    if design.beard in ("moustache", "goatee", "full"):
        tip = upper[0][1] + (7 if design.beard != "moustache" else 3)
        half = abs(upper[0][0]) + 3
        right = [
            (0, mouth - 13),
            (14, mouth - 15),
            (0.75 * half, upper[0][1] - 8),
            (half + 2, tip),
            (0.7 * half, upper[3][1] - 1),
            (10, mouth - 3),
            (0, mouth - 5),
        ]
        _lock(sheet, pen, [(x, y, surface_depth(x, y) + 4) for x, y in mirrored(right)], colours, design.light)


def _draw_headwear(sheet: Sheet, pen: Pen, design: Design, face: str) -> None:
    colours, light = tint(design.cloth_second), design.light
    trim = tint(times(design.cloth_second, (0.8, 0.8, 0.85)))
    rim_y = {"cap": 62.0, "beanie": 66.0, "turban": 70.0, "hijab": 50.0}[design.hair]
    shadow = [(-74, rim_y - 30), (0, rim_y - 40), (74, rim_y - 30), (72, rim_y + 12), (0, rim_y + 8), (-72, rim_y + 12)]
    sheet.fill(curve(pen.many(shadow)), skin_tones(design).deep, 0.42, face)
    if design.hair == "hijab":
        right = [(0, 0), (44, 10), (76, 52), (86, 110), (86, 170), (92, 220), (112, 262), (100, 300), (0, 300)]
        hole = [(0, 46), (40, 56), (62, 92), (66, 140), (60, 186), (40, 220), (0, 238)]
        outer, inner = (
            pen.many(mirrored(right), 0.0),
            pen.many([(x, y, 0.6 * surface_depth(x, y)) for x, y in mirrored(hole)]),
        )
        paint = sheet.linear(
            pen.at(60 * light, 20, 0),
            pen.at(-80 * light, 250, 0),
            [(0, colours.light), (0.4, colours.base), (1, colours.dark)],
        )
        both = curve(outer) + curve(inner)
        sheet.fill(both, paint, even_odd=True)
        sheet.line(curve(inner), colours.line, 2.2, 0.6)
        sheet.line(curve(outer), colours.line, 1.8, 0.5)
        for k in (0, 1, 2):
            fold = [(-52 + 10 * k, 232 - 4 * k), (-8, 254 + 9 * k), (58 - 8 * k, 226 + 6 * k), (80, 160)]
            sheet.line(curve(pen.many(fold, 20.0), closed=False), colours.dark, 3.0, 0.5)
        _strands(
            sheet,
            pen,
            sheet.clip(curve(outer)),
            [[(light * 40, 22), (light * 64, 56), (light * 75, 100)]],
            colours.light,
            7.0,
            0.5,
        )
        return
    top = {"cap": -12.0, "beanie": -20.0, "turban": -26.0}[design.hair]
    sides = tint(design.hair_colour)
    if design.hair != "turban":
        for side in (-1, 1):
            tuft = [(side * x, y) for x, y in ((60, 60), (76, 62), (78, 100), (74, 126), (68, 112), (64, 90))]
            _lock(sheet, pen, [(x, y, 4) for x, y in tuft], sides, light)
    grow = 12 if design.hair == "turban" else 5
    dome = [
        (-72 - grow, rim_y + 6),
        (-74 - grow, 40),
        (-50, top + 18),
        (0, top),
        (50, top + 18),
        (74 + grow, 40),
        (72 + grow, rim_y + 6),
    ]
    lower = [(40, rim_y - 8, 62), (0, rim_y - 12, 76), (-40, rim_y - 8, 62)]
    clip = _lock(sheet, pen, [(x, y, 0) for x, y in dome] + lower, colours, light)
    _gloss(sheet, pen, clip, colours, light, y=top + 26)
    if design.hair == "turban":
        for k in range(4):
            a = [(-80, 66 - 20 * k), (-20, 30 - 14 * k), (60, 58 - 22 * k)]
            _strands(sheet, pen, clip, [a, [(-x, y) for x, y in a]], colours.dark, 2.6, 0.5)
        return
    if design.hair == "beanie":
        band = [
            (-76, rim_y + 8, 0),
            (-76, rim_y - 16, 0),
            (-40, rim_y - 30, 62),
            (0, rim_y - 34, 76),
            (40, rim_y - 30, 62),
            (76, rim_y - 16, 0),
            (76, rim_y + 8, 0),
            (40, rim_y - 4, 64),
            (0, rim_y - 8, 78),
            (-40, rim_y - 4, 64),
        ]
        _lock(sheet, pen, band, trim, light)
        return
    brim = [
        (-70, rim_y + 6, 10),
        (-50, rim_y - 10, 60),
        (0, rim_y - 18, 80),
        (50, rim_y - 10, 60),
        (70, rim_y + 6, 10),
        (48, rim_y + 12, 92),
        (0, rim_y + 10, 112),
        (-48, rim_y + 12, 92),
    ]
    _lock(sheet, pen, brim, trim, light)
