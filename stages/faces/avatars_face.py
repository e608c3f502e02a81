"""The avatar's face: head shape, ears, eyes, brows, nose, mouth and the marks of age."""

from dataclasses import dataclass

from stages.faces.avatars_design import Design
from stages.faces.avatars_svg import Colour, Pen, Point, Sheet, curve, mirrored, mix, ring, times

EYE_X, EYE_Y = 32.0, 121.0  # where the eyes of aligned photos lie (mean of 159 photos: 95.6 and 160.2 of 256; 120.6)
INK: Colour = (44, 26, 28)


@dataclass(frozen=True)
class Tones:
    """Skin colours of one avatar, from light to deep shadow."""

    light: Colour
    base: Colour
    shade: Colour
    deep: Colour
    blush: Colour


def skin_tones(design: Design) -> Tones:
    """Shadows turn red and saturated, as light scattered in skin does; light stays warm."""
    base = design.skin
    return Tones(
        light=mix(base, (255, 236, 214), 0.42 - 0.14 * design.skin_dark),
        base=base,
        shade=times(base, (0.83, 0.68, 0.64)),
        deep=times(base, (0.6, 0.42, 0.4)),
        blush=mix(times(base, (1.0, 0.62, 0.58)), (232, 84, 84), 0.42 - 0.1 * design.skin_dark),
    )


def face_outline(design: Design) -> list[tuple[float, ...]]:
    """Closed outline (x, y, z) of head and jaw without hair, in head units."""
    w, j, c = design.face_width, design.jaw, design.chin
    right = [
        (0.0, 14.0, 0.0), (30.0 * w, 18.0, 0.0), (55.0 * w, 37.0, 0.0), (69.0 * w, 70.0, 0.0), (72.5 * w, 105.0, 2.0),
        (72.0 * w, 138.0, 6.0), (68.0 * w, 166.0, 12.0), (60.0 * w * j, 194.0, 22.0),
        (45.0 * w * j, 217.0 + 0.6 * c, 34.0), (24.0 * w * j, 232.0 + c, 42.0), (0.0, 236.5 + c, 44.0),
    ]  # fmt: skip
    return mirrored(right)


def draw_ears(sheet: Sheet, pen: Pen, design: Design) -> None:
    """Both ears; the head drawn later covers their inner edge."""
    tones = skin_tones(design)
    k = design.ear
    for side in (-1, 1):
        x = 72.0 * design.face_width * side
        shape = [(0, -20), (9, -23), (14, -14), (13, 0), (10, 13), (4, 21), (-4, 18), (-6, 0)]
        outer = curve(pen.many([(x + side * dx * k, 136 + dy * k) for dx, dy in shape], -8))
        lit = side == design.light
        sheet.fill(outer, tones.base if lit else mix(tones.base, tones.shade, 0.6))
        sheet.line(outer, tones.deep, 1.3, 0.55)
        inner = [(3, -13), (8, -15), (9, -6), (6, 4), (4, 10), (1, 2)]
        sheet.fill(curve(pen.many([(x + side * dx * k, 136 + dy * k) for dx, dy in inner], -8)), tones.shade, 0.85)


def draw_head(sheet: Sheet, pen: Pen, design: Design) -> str:
    """Head shape with its shading; returns the clip reference of the face."""
    tones = skin_tones(design)
    outline = curve(pen.many(face_outline(design)))
    clip = sheet.clip(outline)
    lit = pen.at(26 * design.light, 96)
    sheet.fill(outline, sheet.radial(lit, 168, [(0, tones.light), (0.42, tones.base), (1, tones.shade)]))
    edge, far = pen.at(16 * design.light, 130), pen.at(-80 * design.light, 150)
    sheet.fill(
        outline, sheet.linear(edge, far, [(0, tones.shade, 0), (0.45, tones.shade, 0.16), (1, tones.deep, 0.62)])
    )
    rim, inside = pen.at(76 * design.light, 140, 0), pen.at(50 * design.light, 142)
    sheet.fill(outline, sheet.linear(rim, inside, [(0, tones.shade, 0.6), (1, tones.shade, 0)]))
    low, high = pen.at(0, 243 + design.chin, 30), pen.at(0, 196)
    sheet.fill(outline, sheet.linear(low, high, [(0, tones.deep, 0.6), (0.35, tones.shade, 0.42), (1, tones.shade, 0)]))
    for side in (-1, 1):
        sheet.glow(pen.at(43 * side, 160), 25, tones.blush, 0.62 * design.blush, clip, 0.8)
        sheet.glow(pen.at(EYE_X * side, 116), 27, tones.shade, 0.55, clip, 0.72)
        if side == design.light:
            sheet.glow(pen.at(41 * side, 147), 15, tones.light, 0.6, clip, 0.6)
    sheet.glow(pen.at(0, 226 + design.chin), 14, tones.light, 0.32, clip, 0.7)
    sheet.line(outline, tones.deep, 2.0, 0.7)
    if design.freckles:
        for i in range(14):
            x = (18 + 27 * ((i * 0.618) % 1.0)) * (-1 if i % 2 else 1)
            sheet.fill(curve(pen.many(ring(x, 150 + 15 * ((i * 0.377) % 1.0), 1.4, 1.3, 5))), tones.deep, 0.4)
    return clip


def draw_age(sheet: Sheet, pen: Pen, design: Design) -> None:
    """Lines under the eyes, beside nose and mouth, and on the forehead, growing with age."""
    tones = skin_tones(design)
    fold = max(0.0, design.age - 0.35) * 1.2 + 0.25 * max(0.0, design.smile) * (0.4 + design.age)
    for side in (-1, 1):
        nose = pen.many([(17 * side, 164), (25 * side, 173), (33 * side, 187)])
        sheet.line(curve(nose, closed=False), tones.deep, 2.4, min(0.4, 0.42 * fold))
        if design.age > 0.5:
            bag = [(EYE_X * side + dx, 149 - 0.03 * dx * dx) for dx in (-14, -8, 0, 8, 14)]
            sheet.line(curve(pen.many(bag), closed=False), tones.deep, 1.8, 0.5 * (design.age - 0.35))
    if design.age > 0.62 and design.hair not in ("bangs", "hijab", "cap", "beanie", "turban"):
        for y in (66.0, 75.0):
            sheet.line(
                curve(pen.many([(-28, y + 2), (-14, y + 0.5), (0, y), (14, y + 0.5), (28, y + 2)]), closed=False),
                tones.deep,
                1.8,
                0.3,
            )


def eye_outline(design: Design, side: int) -> list[tuple[float, float]]:
    """Almond of one eye: inner corner, upper lid to the outer corner, lower lid back (8 points, head units)."""
    k = design.eye_size
    width, up, low = 21.5 * k, 18.5 * k * (1 - 0.5 * design.squint), 14.5 * k * (1 - 1.1 * design.squint)
    tilt = design.eye_tilt
    shape = [
        (-width, 2.5), (-0.64 * width, -0.8 * up), (0.0, -up), (0.64 * width, -0.74 * up - 0.5 * tilt),
        (width, -tilt), (0.6 * width, 0.78 * low), (0.0, low), (-0.6 * width, 0.8 * low),
    ]  # fmt: skip
    return [(side * (EYE_X + dx), EYE_Y + dy) for dx, dy in shape]


def draw_eyes(sheet: Sheet, pen: Pen, design: Design) -> None:
    """Large open eyes: shaded white, glowing iris, pupil, two highlights, dark lash line, crease."""
    tones = skin_tones(design)
    k = design.eye_size
    lash = mix(INK, times(design.hair_colour, (0.35, 0.35, 0.35)), 0.3)
    for side in (-1, 1):
        almond = eye_outline(design, side)
        flat = pen.many(almond)
        shape = curve(flat)
        clip = sheet.clip(shape)
        sheet.fill(shape, (250, 250, 252))
        gx, gy = side * EYE_X - 1.2 * side + design.gaze[0], EYE_Y - 1.0 + design.gaze[1]
        centre = pen.at(gx, gy)
        iris = curve(pen.many(ring(gx, gy, 13.4 * k, 14.0 * k)))
        dark, bright = times(design.eye_colour, (0.42, 0.4, 0.45)), mix(design.eye_colour, (255, 240, 200), 0.35)
        below = (centre[0], centre[1] + 5)
        paint = sheet.radial(below, 15 * k, [(0, bright), (0.5, design.eye_colour), (1, dark)])
        sheet.fill(iris, paint, clip=clip)
        sheet.line(iris, times(dark, (0.6, 0.6, 0.6)), 1.6, clip=clip)
        sheet.fill(curve(pen.many(ring(gx, gy, 6.4 * k, 6.8 * k, 8))), (16, 10, 14), clip=clip)
        top, mid = pen.at(side * EYE_X, EYE_Y - 19.5 * k), pen.at(side * EYE_X, EYE_Y - 3 * k)
        sheet.fill(shape, sheet.linear(top, mid, [(0, INK, 0.55), (0.5, INK, 0.22), (1, INK, 0)]))
        glint = (gx + 2.4 * design.light * k, gy - 5.2 * k)
        sheet.fill(curve(pen.many(ring(*glint, 4.0 * k, 4.0 * k, 8))), (255, 255, 255), clip=clip)
        sheet.fill(
            curve(pen.many(ring(gx - 3.0 * design.light * k, gy + 6.0 * k, 2.0, 2.0, 6))), (255, 255, 255), 0.75, clip
        )
        sheet.line(curve([flat[4], flat[5], flat[6], flat[7], flat[0]], closed=False), tones.deep, 1.5, 0.75)
        sheet.fill(curve(pen.many(_lash(almond, side, design))), lash)
        crease = [(x + 0.06 * (x - side * EYE_X), y - (5.5 if i else 2.0)) for i, (x, y) in enumerate(almond[:4])]
        sheet.line(curve(pen.many(crease), closed=False), tones.deep, 1.7, 0.42)


def _lash(almond: list[tuple[float, float]], side: int, design: Design) -> list[tuple[float, float]]:
    """Lash line: the upper lid, thickening outwards, ending in a small wing on soft faces."""
    inner, rise, top, fall, outer = almond[:5]
    thick, wing = (3.6, 5.0) if design.soft else (2.9, 1.0)
    tip = (outer[0] + side * wing, outer[1] - 0.9 * wing)
    back = [(fall[0] + 0.8 * side, fall[1] - thick), (top[0], top[1] - thick * 0.95), (rise[0], rise[1] - thick * 0.7)]
    return [inner, rise, (top[0], top[1] + 0.4), (fall[0], fall[1] + 0.4), (outer[0], outer[1] + 0.8), tip, *back]


def draw_brows(sheet: Sheet, pen: Pen, design: Design) -> None:
    """Tapered brows; height and slant carry the expression."""
    colour = mix(times(design.hair_colour, (0.62, 0.58, 0.58)), INK, 0.3)
    if design.grey:
        colour = times(design.hair_colour, (0.72, 0.7, 0.7))
    lift, slant, weight = 5.0 * design.brow_raise, 4.0 * design.brow_angle, design.brow_weight
    y = 92.0 - lift - 3.0 * (design.eye_size - 1) * 10
    spine = [
        (12.0, y + 2.5 + slant, 3.6),
        (27.0, y - 2.5 + 0.3 * slant, 4.0),
        (42.0, y - 4.0 - 0.5 * slant, 3.2),
        (56.0, y + 3.5 - slant, 0.8),
    ]
    for side in (-1, 1):
        over = [(side * x, yy - t * weight) for x, yy, t in spine]
        under = [(side * x, yy + t * weight * 0.85) for x, yy, t in reversed(spine)]
        sheet.fill(curve(pen.many(over + under), tension=0.9), colour, 0.94)


def draw_nose(sheet: Sheet, pen: Pen, design: Design) -> None:
    """A rounded nose: bridge shade, lit ball, wings, nostrils and the shadow it casts."""
    tones = skin_tones(design)
    w, tip = design.nose_width, 158.0 + design.nose_length
    dark_side = -design.light

    def at(x: float, y: float, rise: float) -> Point:
        return pen.at(x, y, 78.0 + rise)

    sheet.glow(at(dark_side * 2, tip + 12, 4), 19 * w, tones.deep, 0.6, flat=0.42)
    bridge = [
        (dark_side * 5, 112, 2),
        (dark_side * 6.5, 130, 6),
        (dark_side * 13 * w, tip, 8),
        (dark_side * 5, tip + 4, 14),
        (dark_side * 2.5, 132, 10),
    ]
    shadow = curve([at(*p) for p in bridge])
    start, end = at(dark_side * 4, 108, 4), at(dark_side * 9, tip, 10)
    sheet.fill(shadow, sheet.linear(start, end, [(0, tones.shade, 0), (0.5, tones.shade, 0.6), (1, tones.deep, 0.5)]))
    for side in (-1, 1):
        wing = [at(side * (10.5 * w + dx), tip + dy, 2) for dx, dy in ((-4, -6), (3, -5), (5, 1), (2, 6), (-4, 6))]
        sheet.fill(curve(wing), mix(tones.base, tones.shade, 0.75 if side == dark_side else 0.3))
        rim = [at(side * (10.5 * w + dx), tip + dy, 2) for dx, dy in ((3, -5), (5.5, 1), (2.5, 6.5))]
        sheet.line(curve(rim, closed=False), tones.deep, 1.5, 0.6)
    ball = at(0, tip - 1, 14)
    sheet.fill(
        curve([at(x, y, 14) for x, y in ring(0, tip - 1.5, 11 * w, 10.0)]),
        sheet.radial(
            (ball[0] + 3.5 * design.light, ball[1] - 4),
            15 * w,
            [(0, tones.light), (0.45, tones.base), (1, mix(tones.base, tones.shade, 0.85), 0.85)],
        ),
    )
    for side in (-1, 1):
        hole = [at(side * 6.2 * w + dx, tip + 7.0 + dy, 8) for dx, dy in ring(0, 0, 3.5 * w, 1.9, 6)]
        sheet.fill(curve(hole), times(tones.deep, (0.6, 0.5, 0.5)), 0.85)
    sheet.glow(at(design.light * 3.5, tip - 5, 16), 5.5, (255, 255, 255), 0.5 - 0.1 * design.skin_dark)
    sheet.glow(at(design.light * 2.0, 128, 8), 9, tones.light, 0.7, flat=1.8)


def mouth_curves(design: Design) -> tuple[list[tuple[float, float]], list[tuple[float, float]]]:
    """Upper and lower edge of the mouth's opening, left to right (head units); equal when the mouth is closed."""
    s, o = design.smile, design.opened
    half = (25.0 + 9.0 * max(s, 0.0) - 5.0 * o * (1 - max(s, 0.0))) * design.mouth_width
    corner, middle = design.mouth_y - 6.5 * s, design.mouth_y + 3.2 * s
    drop = 25.0 * o
    upper = [
        (-half, corner),
        (-0.5 * half, middle - 0.35 * (middle - corner)),
        (0.0, middle + 0.6),
        (0.5 * half, middle - 0.35 * (middle - corner)),
        (half, corner),
    ]
    lower = [
        (-half, corner),
        (-0.58 * half, upper[1][1] + 0.7 * drop),
        (0.0, upper[2][1] + drop),
        (0.58 * half, upper[3][1] + 0.7 * drop),
        (half, corner),
    ]
    return upper, lower


def draw_mouth(sheet: Sheet, pen: Pen, design: Design) -> None:
    """Lips from neutral to a broad open smile with teeth and tongue."""
    tones = skin_tones(design)
    upper, lower = mouth_curves(design)
    thick = design.lip_fullness
    line = times(design.lips, (0.5, 0.4, 0.42))
    up = [(x, y - t * thick) for (x, y), t in zip(upper, (0.0, 4.6, 4.0, 4.6, 0.0), strict=True)]
    up[2:3] = [(-5.0, up[2][1] - 1.8 * thick), (0.0, up[2][1] + 0.4), (5.0, up[2][1] - 1.8 * thick)]
    low = [(x, y + t * thick) for (x, y), t in zip(lower, (0.0, 5.2, 7.6, 5.2, 0.0), strict=True)]
    sheet.glow(pen.at(0, low[2][1] + 6), 20, tones.deep, 0.5, flat=0.3)
    sheet.fill(curve(pen.many(up + upper[::-1][1:-1])), times(design.lips, (0.86, 0.8, 0.82)))
    lit, dim = pen.at(0, lower[2][1]), pen.at(0, low[2][1] + 2)
    sheet.fill(
        curve(pen.many(lower + low[::-1][1:-1])),
        sheet.linear(
            lit,
            dim,
            [
                (0, times(design.lips, (0.92, 0.86, 0.88))),
                (0.45, mix(design.lips, (255, 235, 225), 0.2)),
                (1, times(design.lips, (0.85, 0.8, 0.8))),
            ],
        ),
    )
    if design.opened > 0.0:
        opening = curve(pen.many(upper + lower[::-1][1:-1]))
        clip = sheet.clip(opening)
        sheet.fill(opening, (92, 26, 34))
        half = upper[-1][0]
        sheet.fill(curve(pen.many(ring(0, lower[2][1] + 4, 0.55 * half, 11.0))), (222, 104, 104), clip=clip)
        deep = 5.5 + 6.5 * min(1.0, 1.6 * design.opened)
        teeth = [
            *upper,
            (0.8 * half, upper[3][1] + deep * 0.8),
            (0.0, upper[2][1] + deep),
            (-0.8 * half, upper[1][1] + deep * 0.8),
        ]
        sheet.fill(curve(pen.many(teeth), tension=0.8), (252, 250, 246), clip=clip)
        sheet.line(opening, line, 1.5, 0.9)
    else:
        sheet.line(curve(pen.many(upper), closed=False), line, 2.6)
    for side in (-1, 1):
        x, y = upper[-1][0] * side, upper[-1][1]
        dimple = pen.many([(x + 1.5 * side, y - 3), (x + 3.4 * side, y), (x + 1.5 * side, y + 3)])
        sheet.line(curve(dimple, closed=False), tones.deep, 1.6, 0.3 + 0.35 * max(0.0, design.smile))


def landmarks(pen: Pen, design: Design) -> list[Point]:
    """Centres of the left and right eye and the middle between the mouth's corners, in the drawing."""
    upper, _ = mouth_curves(design)
    left, right = pen.at(*upper[0]), pen.at(*upper[-1])
    return [pen.at(-EYE_X, EYE_Y), pen.at(EYE_X, EYE_Y), ((left[0] + right[0]) / 2, (left[1] + right[1]) / 2)]
