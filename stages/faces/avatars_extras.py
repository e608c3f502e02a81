"""What some avatars wear on the head: beards, headwear, glasses, earrings."""

from stages.faces.avatars_design import Design
from stages.faces.avatars_face import EYE_X, EYE_Y, face_outline, mouth_curves, skin_tones
from stages.faces.avatars_strands import gloss, lock, strands, tint
from stages.faces.avatars_svg import Pen, Sheet, curve, mirrored, mix, polygon, ring, surface_depth, times


def draw_beard(sheet: Sheet, pen: Pen, design: Design, face: str) -> None:
    """Stubble, moustache, goatee or full beard, drawn before the mouth so that the lips stay visible."""
    if design.beard == "none":
        return
    colours = tint(mix(design.hair_colour, design.skin, 0.06))
    upper, lower = mouth_curves(design)
    c = design.chin
    if design.beard in ("stubble", "full"):
        _draw_jaw_beard(sheet, pen, design, face)
    if design.beard == "goatee":
        y = lower[0][1] + 6
        chin = [
            (-27, y),
            (-30, 214),
            (-18, 236 + c),
            (0, 240 + c),
            (18, 236 + c),
            (30, 214),
            (27, y),
            (0, lower[2][1] + 11),
        ]
        lock(sheet, pen, [(a, b, surface_depth(a, min(b, 225))) for a, b in chin], colours, design.light)
    if design.beard in ("moustache", "goatee", "full"):
        half, mouth = abs(upper[0][0]) + 2, upper[2][1]
        right = [
            (0, mouth - 13), (14, mouth - 15), (0.75 * half, upper[0][1] - 8), (half + 2, upper[0][1] + 1),
            (0.7 * half, upper[3][1] - 3), (10, mouth - 3), (0, mouth - 5),
        ]  # fmt: skip
        lock(sheet, pen, [(p[0], p[1], surface_depth(p[0], p[1]) + 4) for p in mirrored(right)], colours, design.light)


def _draw_jaw_beard(sheet: Sheet, pen: Pen, design: Design, face: str) -> None:
    full = design.beard == "full"
    jaw = [p for p in face_outline(design) if p[1] > 125]
    edge = [(p[0] * (1.03 if full else 1.0), p[1] + (5.0 if full and p[1] > 200 else 0.0), p[2]) for p in jaw]
    inner = [(-67, 142), (-60, 168), (-42, 177), (-22, 167), (0, 169), (22, 167), (42, 177), (60, 168), (67, 142)]
    points = edge + [(x, y, min(surface_depth(x, y), (75.0 - abs(x)) * 4.0)) for x, y in inner]
    if full:
        lock(sheet, pen, points, tint(mix(design.hair_colour, design.skin, 0.06)), design.light)
    else:
        sheet.fill(curve(pen.many(points)), times(design.hair_colour, (0.9, 0.9, 0.95)), 0.34, face)


def draw_headwear(sheet: Sheet, pen: Pen, design: Design, face: str) -> None:
    """Cap, beanie, turban or hijab, with its shadow on the forehead."""
    low = {"cap": 62.0, "beanie": 66.0, "turban": 70.0, "hijab": 50.0}[design.hair]
    shadow = [(-74, low - 30), (0, low - 40), (74, low - 30), (72, low + 12), (0, low + 8), (-72, low + 12)]
    sheet.fill(curve(pen.many(shadow)), skin_tones(design).deep, 0.42, face)
    if design.hair == "hijab":
        _draw_hijab(sheet, pen, design)
        return
    colours, trim, light = tint(design.cloth_second), tint(times(design.cloth_second, (0.8, 0.8, 0.85))), design.light
    if design.hair != "turban":
        tuft = [(66, 60), (77, 62), (79, 100), (75, 126), (71, 112), (69, 90)]
        for side in (-1, 1):
            lock(sheet, pen, [(side * x, y, 4) for x, y in tuft], tint(design.hair_colour), light)
    top, grow = {"cap": (-12.0, 5), "beanie": (-20.0, 5), "turban": (-26.0, 12)}[design.hair]
    dome = [
        (-72 - grow, low + 6, 0), (-74 - grow, 40, 0), (-50, top + 18, 0), (0, top, 0), (50, top + 18, 0),
        (74 + grow, 40, 0), (72 + grow, low + 6, 0), (40, low - 8, 62), (0, low - 12, 76), (-40, low - 8, 62),
    ]  # fmt: skip
    clip = lock(sheet, pen, dome, colours, light)
    gloss(sheet, pen, clip, colours, light, y=top + 26)
    if design.hair == "turban":
        for k in range(4):
            wrap = [(-80, 66 - 20 * k), (-20, 30 - 14 * k), (60, 58 - 22 * k)]
            strands(sheet, pen, clip, [wrap, [(-x, y) for x, y in wrap]], colours.dark, 2.6, 0.5)
    elif design.hair == "beanie":
        over = [(-76, low + 8, 0), (-76, low - 16, 0), (-40, low - 30, 62), (0, low - 34, 76), (40, low - 30, 62)]
        under = [(76, low - 16, 0), (76, low + 8, 0), (40, low - 4, 64), (0, low - 8, 78), (-40, low - 4, 64)]
        lock(sheet, pen, over + under, trim, light)
    else:
        over = [(-70, low + 6, 10), (-50, low - 10, 60), (0, low - 18, 80), (50, low - 10, 60), (70, low + 6, 10)]
        lock(sheet, pen, [*over, (48, low + 12, 92), (0, low + 10, 112), (-48, low + 12, 92)], trim, light)


def _draw_hijab(sheet: Sheet, pen: Pen, design: Design) -> None:
    colours, light = tint(design.cloth_second), design.light
    right = [(0, 0), (44, 10), (76, 52), (86, 110), (86, 170), (92, 220), (112, 262), (100, 300), (0, 300)]
    hole = [(0, 46), (40, 56), (62, 92), (66, 140), (60, 186), (40, 220), (0, 238)]
    outer = curve(pen.many(mirrored(right), 0.0))
    inner = curve(pen.many([(p[0], p[1], 0.6 * surface_depth(p[0], p[1])) for p in mirrored(hole)]))
    start, end = pen.at(60 * light, 20, 0), pen.at(-80 * light, 250, 0)
    stops = [(0.0, colours.light), (0.4, colours.base), (1.0, colours.dark)]
    sheet.fill(outer + inner, sheet.linear(start, end, stops), even_odd=True)
    sheet.line(inner, colours.line, 2.2, 0.6)
    sheet.line(outer, colours.line, 1.8, 0.5)
    for k in (0, 1, 2):
        fold = [(-52 + 10 * k, 232 - 4 * k), (-8, 254 + 9 * k), (58 - 8 * k, 226 + 6 * k), (80, 160)]
        sheet.line(curve(pen.many(fold, 20.0), closed=False), colours.dark, 3.0, 0.5)
    shine = [(light * 40, 22), (light * 64, 56), (light * 75, 100)]
    strands(sheet, pen, sheet.clip(outer), [shine], colours.light, 7.0, 0.5)


def draw_glasses(sheet: Sheet, pen: Pen, design: Design) -> None:
    """Glasses of the size people wear: each lens a little wider than the eye."""
    if design.glasses == "none":
        return
    colour = design.glasses_colour
    lift = 4.0 if design.glasses == "cat" else 0.0
    box = [(-26, -15), (-16, -21), (14, -22 - lift * 0.5), (27, -17 - lift), (26, 6), (15, 20), (-12, 20), (-24, 9)]
    for side in (-1, 1):
        x, y = side * (EYE_X + 0.5), EYE_Y + 3
        lens = ring(x, y, 27, 26, 12) if design.glasses == "round" else [(x + side * dx, y + dy) for dx, dy in box]
        rim = curve(pen.many(lens, 78.0))
        sheet.fill(rim, (226, 240, 255), 0.07)
        sheet.line(rim, colour, 3.6)
        shine = [(x + design.light * 4 - 12, y + 8), (x + design.light * 4 - 2, y - 12)]
        sheet.line(polygon(pen.many(shine, 80.0)), (255, 255, 255), 3.0, 0.3)
        temple = pen.many([(side * (EYE_X + 27), EYE_Y - 4, 74.0), (side * 74, EYE_Y - 3, 8.0)])
        sheet.line(polygon(temple), colour, 3.2)
    bridge = pen.many([(-6.0, EYE_Y + 1, 84.0), (0, EYE_Y - 3, 86.0), (6.0, EYE_Y + 1, 84.0)])
    sheet.line(curve(bridge, closed=False), colour, 3.4)


def draw_earrings(sheet: Sheet, pen: Pen, design: Design) -> None:
    """Studs or drops under ears that no hair covers."""
    if not design.earrings or design.hair in ("long", "wavy", "curls_long", "locks", "bob", "bangs"):
        return
    for side in (-1, 1):
        drop = curve(pen.many(ring(side * 77, 164 + 4 * design.volume, 4.0, 4.0 + 4 * design.volume, 8), -4.0))
        sheet.fill(drop, (246, 214, 122))
        sheet.line(drop, (150, 110, 40), 1.2)
