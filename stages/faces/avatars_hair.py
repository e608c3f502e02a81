"""Haircuts of the avatars."""

from stages.faces.avatars_design import Design
from stages.faces.avatars_face import skin_tones
from stages.faces.avatars_strands import Points, Tint, curl_marks, curls, gloss, lock, strands, tint
from stages.faces.avatars_svg import Pen, Sheet, curve, mirrored, mix, ring, surface_depth, times

CURLY = ("curly", "afro", "curls_long")
LONG = ("long", "wavy", "curls_long", "locks")
COVERED = ("cap", "beanie", "hijab", "turban")

# hairlines from the right ear over the forehead to the left one, head units
# fmt: off
_NATURAL: Points = [
    (73, 122), (67, 100), (63, 78), (52, 57), (28, 47), (0, 45), (-28, 47), (-52, 57), (-63, 78), (-67, 100),
    (-73, 122)]
_RECEDED: Points = [
    (73, 122), (68, 100), (64, 74), (54, 42), (38, 30), (20, 38), (0, 41),
    (-20, 38), (-38, 30), (-54, 42), (-64, 74), (-68, 100), (-73, 122)]
_SIDE: Points = [
    (73, 122), (67, 100), (63, 76), (54, 54), (38, 40), (27, 33), (12, 47), (-14, 56), (-42, 61), (-60, 77), (-67, 100),
    (-73, 122)]
_CREW: Points = [
    (73, 120), (68, 98), (65, 72), (57, 56), (30, 52), (0, 50), (-30, 52), (-57, 56), (-65, 72), (-68, 98), (-73, 120)]
_FRINGE: Points = [
    (74, 132), (69, 108), (66, 86), (48, 78), (24, 81), (0, 79), (-24, 81), (-48, 78), (-66, 86), (-69, 108),
    (-74, 132)]
_SWEPT: Points = [
    (74, 130), (68, 104), (63, 76), (52, 52), (34, 36), (26, 30), (8, 48), (-18, 64), (-44, 76), (-62, 90), (-69, 112),
    (-74, 132)]
_CURTAIN: Points = [
    (74, 140), (69, 114), (63, 88), (50, 64), (26, 44), (4, 27), (-4, 27), (-26, 44), (-50, 64), (-63, 88), (-69, 114),
    (-74, 140)]
_MESSY: Points = [
    (73, 120), (67, 97), (66, 76), (55, 66), (50, 54), (36, 70), (26, 52), (8, 70), (-6, 54), (-24, 70), (-34, 54),
    (-50, 66), (-60, 60), (-66, 80), (-67, 98), (-73, 120)]
# fmt: on


def draw_back_hair(sheet: Sheet, pen: Pen, design: Design) -> None:
    """Hair that lies behind neck and shoulders."""
    own, light = tint(design.hair_colour), design.light
    behind = tint(times(design.hair_colour, (0.8, 0.78, 0.8)))
    v, hair, part = design.volume, design.hair, design.part
    if hair not in ("bald", *COVERED):  # closes the gap between a turned head and its hair
        _, outer = _shape(design)
        sheet.fill(curve(pen.many(mirrored([*outer, (0.0, outer[-1][1] + 20.0)]), 0.0)), behind.dark)
    # fmt: off
    if hair == "afro":
        radius = 90 + 12 * v
        rim = ring(0, 78, radius, radius * 0.94, 16)
        curls(sheet, pen, [*rim, rim[0]], 15, own, light)
        even = Tint(own.light, own.base, own.base, own.line)
        clip = lock(sheet, pen, [(x, y, -10) for x, y in rim], even, light, edge=0)
        curl_marks(sheet, pen, clip, (-85, 0, 85, 150), 30, own)
    elif hair in ("bob", "bangs"):
        low = 214 + 16 * v
        right = [
            (0, 2 - 6 * v), (50, 18), (80 + 4 * v, 70), (88 + 6 * v, 130), (90 + 7 * v, 180), (84, low), (58, low + 5),
            (0, low - 6)]
        lock(sheet, pen, [(*p, -12) for p in mirrored(right)], behind, light)
    elif hair in ("long", "wavy", "locks"):
        right = [
            (0, 2 - 6 * v), (52, 18), (82, 70), (90 + 4 * v, 130), (95 + 8 * v, 200), (99 + 8 * v, 262), (96, 300),
            (0, 300)]
        lock(sheet, pen, [(*p, -12) for p in mirrored(right)], behind, light)
    elif hair == "curls_long":
        right = [
            (0, -6 - 6 * v), (54, 8), (86, 60), (96 + 6 * v, 125), (101 + 9 * v, 190), (98 + 9 * v, 244), (70, 266),
            (0, 260)]
        body = mirrored(right)
        curls(sheet, pen, [*body, body[0]], 17, behind, light)
        clip = lock(sheet, pen, [(*p, -12) for p in body], behind, light, edge=0)
        curl_marks(sheet, pen, clip, (-105, 40, 105, 262), 60, behind)
    elif hair == "bun":
        centre = (0.0, -4.0) if v > 0.4 else (62.0 * part, 205.0)
        clip = lock(sheet, pen, [(x, y, -30) for x, y in ring(*centre, 36, 30, 12)], own, light)
        x, y = centre
        strands(sheet, pen, clip, [[(x - 20, y - 16), (x, y - 24), (x + 22, y - 14)]], own.light, 5, 0.45)
    elif hair == "ponytail":
        tail = [(40, 30), (84, 60), (104, 120), (108, 190), (94, 262), (74, 250), (80, 180), (70, 110)]
        clip = lock(sheet, pen, [(part * x, y, -30) for x, y in tail], own, light)
        middle = [(part * 88, 80, -30), (part * 96, 140, -30), (part * 92, 220, -30)]
        strands(sheet, pen, clip, [middle], own.dark, 3, 0.5)
    # fmt: on


def draw_front_hair(sheet: Sheet, pen: Pen, design: Design, face: str) -> None:
    """Hair on the head and in front of the face, with the shadow it casts on the forehead."""
    hair, light, colours = design.hair, design.light, tint(design.hair_colour)
    if hair == "bald":
        sheet.glow(pen.at(light * 22, 40), 24, (255, 250, 240), 0.5, face, 0.6)
        return
    hairline, outer = _shape(design)
    points = _cap(outer, hairline)
    tension = 0.55 if hair == "messy" else 1.0
    if hair == "buzz":
        lock(sheet, pen, points, tint(mix(design.hair_colour, design.skin, 0.3)), light, edge=0.5)
        return
    shadow = [(x, y + 7.0, z) for x, y, z in points]
    sheet.fill(curve(pen.many(shadow), tension=tension), skin_tones(design).deep, 0.38, face)
    if hair in CURLY:
        _draw_curly_cap(sheet, pen, design, points, len(outer) * 2 - 1, colours)
        return
    if hair in LONG:
        _draw_side_locks(sheet, pen, design, colours)
    if hair in ("bob", "bangs"):
        _draw_bob_sides(sheet, pen, design, colours)
    clip = lock(sheet, pen, points, colours, light, tension)
    _draw_fall(sheet, pen, design, clip, colours)
    gloss(sheet, pen, clip, colours, light, y=22.0 - 6 * design.volume)


def _shape(design: Design) -> tuple[Points, list[tuple[float, float]]]:
    """Hairline (right to left) and outer edge (right half) of the hair on the head."""
    v, part = design.volume, design.part
    # hairline, growth sideways and upwards, height of the sideburn
    # fmt: off
    cuts: dict[str, tuple[Points, float, float, float]] = {
        "receding": (_RECEDED, 1.0, 2 + 4 * v, 120), "buzz": (_NATURAL, 0.5, 1.0, 120),
        "crew": (_CREW, 1 + 2 * v, 5 + 7 * v, 118), "side_part": (_flip(_SIDE, part), 3 + 3 * v, 8 + 9 * v, 122),
        "quiff": (_NATURAL, 0.5, 16 + 12 * v, 116), "messy": (_MESSY, 6 + 4 * v, 9 + 9 * v, 120),
        "curly": (_CREW, 4 + 3 * v, 8 + 8 * v, 116), "afro": (_NATURAL, 6, 8, 118),
        "pixie": (_flip(_SWEPT, part), 4 + 3 * v, 8 + 6 * v, 132), "bun": (_NATURAL, 1.5, 4 + 2 * v, 124),
        "ponytail": (_flip(_SIDE, part), 2, 5 + 3 * v, 124), "bob": (_flip(_SWEPT, part), 7, 8 + 6 * v, 136),
        "bangs": (_FRINGE, 7, 8 + 5 * v, 136), "long": (_CURTAIN, 7, 6 + 5 * v, 142),
        "wavy": (_flip(_SWEPT, part), 8, 8 + 6 * v, 142), "locks": (_CURTAIN, 8, 8 + 4 * v, 142),
        "curls_long": (_CURTAIN, 9, 10 + 6 * v, 142),
    }
    # fmt: on
    hairline, grow, top, low = cuts[design.hair]
    outer = [
        (0.0, 8.0 - top), (32.0, 11.0 - 0.95 * top), (58.0 + 0.5 * grow, 31.0 - 0.6 * top),
        (73.0 + 0.8 * grow, 64.0 - 0.2 * top), (76.5 + grow, 94.0), (75.0 + 0.7 * grow, low),
    ]  # fmt: skip
    return hairline, outer


def _cap(outer_right: list[tuple[float, float]], hairline: Points) -> list[tuple[float, float, float]]:
    """Closed outline (x, y, z): outer edge from left to right, then the hairline, which lies on the face."""
    left = [(-x, y) for x, y in reversed(outer_right)]
    skull = [(x, y, 0.0) for x, y in [*left[:-1], *outer_right]]
    # near the ears the hairline meets the outline, or it would slide off the head as it turns
    return skull + [(p[0], p[1], min(surface_depth(p[0], p[1]), max(0.0, (77.0 - abs(p[0])) * 4.5))) for p in hairline]


def _flip(points: Points, side: int) -> Points:
    """A hairline for a parting on the other side, still running from right to left."""
    return points if side > 0 else [(-p[0], p[1]) for p in reversed(points)]


def _draw_curly_cap(
    sheet: Sheet, pen: Pen, design: Design, points: list[tuple[float, float, float]], outer: int, colours: Tint
) -> None:
    light = design.light
    if design.hair == "curly":
        curls(sheet, pen, points[:outer], 11, colours, light)
    even = Tint(colours.light, colours.base, colours.base, colours.line)  # no seam to the curls around it
    clip = lock(sheet, pen, points, even, light, edge=0)
    curl_marks(sheet, pen, clip, (-70, -14, 70, 66), 26, colours)
    curls(sheet, pen, points[outer + 1 : -1], 8.5 if design.hair == "curly" else 9.5, colours, light)


def _draw_fall(sheet: Sheet, pen: Pen, design: Design, clip: str, colours: Tint) -> None:
    """Strands from the parting (or the crown) down to the sides and into the fringe."""
    parted = design.hair in ("side_part", "pixie", "bob", "wavy", "ponytail")
    x0, y0 = (27.0 * design.part, 16.0) if parted else (0.0, 4.0)
    down = 20.0 if design.hair == "bangs" else 0.0
    for i, k in enumerate((-1.0, -0.78, -0.55, -0.32, 0.32, 0.55, 0.78, 1.0)):
        line = [
            (x0 + 5 * k, y0, 40), (x0 * 0.55 + 44 * k, 20 + 5 * abs(k) + down * 0.3, 50),
            (x0 * 0.15 + 64 * k, 50 + 10 * abs(k) + down, 40), (76 * k, 108 + down, 12),
        ]  # fmt: skip
        strands(sheet, pen, clip, [line], colours.light if i % 2 else colours.dark, 2.2, 0.34)


def _draw_bob_sides(sheet: Sheet, pen: Pen, design: Design, colours: Tint) -> None:
    low = 205 + 16 * design.volume
    shape = [
        (60, 40),
        (82, 90),
        (90, 140),
        (90, 185),
        (80, low),
        (66, low - 6),
        (71, 170),
        (72, 130),
        (66, 90),
        (55, 60),
    ]
    for side in (-1, 1):
        clip = lock(sheet, pen, [(side * x, y, 4) for x, y in shape], colours, design.light)
        inner = [(side * 78, 100, 4), (side * 81, 150, 4), (side * 77, 200, 4)]
        strands(sheet, pen, clip, [inner], colours.light if side == design.light else colours.dark, 4.0, 0.4)


def _draw_side_locks(sheet: Sheet, pen: Pen, design: Design, colours: Tint) -> None:
    """Long hair falling in front of the shoulders on both sides."""
    v, light = design.volume, design.light
    wave = 6.0 if design.hair == "wavy" else 1.5
    for side in (-1, 1):
        if design.hair == "locks":
            for k in (3, 2, 1, 0):
                x, low = 68 + 8.5 * k, 236 + 8 * (k % 2)
                shape = [
                    (x - 8, 50 + 10 * k), (x + 6, 54 + 12 * k), (x + 9, 160), (x + 8, low), (x, low + 10), (x - 5, low),
                    (x - 6, 150),
                ]  # fmt: skip
                lock(sheet, pen, [(side * a, b, 0) for a, b in shape], colours, light)
            continue
        shape = [
            (56, 40), (80, 66), (87 + 2 * v, 110), (88 + 5 * v + wave, 150), (93 + 6 * v - wave, 190),
            (96 + 8 * v + wave, 232), (90 + 6 * v, 290), (70, 290), (66 + wave, 240), (72 - wave, 200),
            (73 + 0.5 * wave, 160), (72, 120), (66, 90), (55, 66),
        ]  # fmt: skip
        clip = lock(sheet, pen, [(side * x, y, 4) for x, y in shape], colours, light)
        inner = [(side * 76, 90), (side * (80 + wave), 140), (side * (80 - wave), 190), (side * (82 + wave), 250)]
        strands(sheet, pen, clip, [[(x, y, 4) for x, y in inner]], colours.dark, 3.0, 0.5)
        if side == light:
            shine = [(side * 82, 104), (side * (85 + wave), 135), (side * (86 - wave), 165)]
            strands(sheet, pen, clip, [[(x, y, 4) for x, y in shine]], colours.light, 6.0, 0.45)
