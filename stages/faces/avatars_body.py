"""Neck, shoulders and clothes of the avatars."""

from stages.faces.avatars_design import Design
from stages.faces.avatars_face import skin_tones
from stages.faces.avatars_strands import tint
from stages.faces.avatars_svg import Colour, Pen, Sheet, curve, mirrored, mix, polygon, times

BODY = Pen()  # the body stays upright and frontal while the head turns


def draw_body(sheet: Sheet, design: Design) -> None:
    """Shoulders with clothes and the neck; on the layer the head mask leaves out."""
    sheet.layer = "body"
    tones = skin_tones(design)
    width, light = design.shoulders, design.light
    neck_half = 44.0 * (1.0 + 1.0 * (width - 1.0))
    neck = mirrored(
        [(0, 190), (neck_half, 190), (neck_half, 232), (neck_half + 8, 254), (neck_half + 30, 268), (0, 300)]
    )
    shape = curve([(x, y) for x, y in neck])
    sheet.fill(
        shape,
        sheet.linear(
            (neck_half * light, 0),
            (-neck_half * light, 0),
            [(0, tones.base), (0.6, tones.shade), (1, mix(tones.shade, tones.deep, 0.6))],
        ),
    )
    clip = sheet.clip(shape)
    sheet.glow((-6.0 * light, 226 + design.chin), 58, tones.deep, 0.95, clip, 0.55)
    sheet.line(shape, tones.deep, 1.5, 0.5)
    cloth = design.cloth
    if design.clothes == "suit":
        cloth = mix(times(cloth, (0.42, 0.42, 0.5)), (34, 38, 56), 0.55)
    elif design.clothes == "shirt":
        cloth = mix(cloth, (236, 240, 248), 0.72)
    _torso(sheet, design, cloth)
    draw = {
        "suit": _suit,
        "shirt": _shirt,
        "tee": _tee,
        "hoodie": _hoodie,
        "turtleneck": _turtleneck,
        "blouse": _blouse,
    }
    draw[design.clothes](sheet, design, cloth, neck_half)
    sheet.layer = "head"


def _torso(sheet: Sheet, design: Design, cloth: Colour) -> None:
    w, colours = design.shoulders, tint(cloth)
    low = design.clothes in ("blouse",)
    start = 62 if low else 42
    right = [
        (0, 262 if not low else 292),
        (start, 248 if not low else 262),
        (84 * w, 256),
        (122 * w, 268),
        (150 * w, 290),
        (168 * w, 360),
        (0, 360),
    ]
    shape = curve(mirrored(right), tension=0.8)
    light = design.light
    sheet.fill(
        shape,
        sheet.linear(
            (110 * light, 240),
            (-130 * light, 310),
            [(0, mix(colours.base, colours.light, 0.6)), (0.45, colours.base), (1, colours.dark)],
        ),
    )
    sheet.line(shape, colours.line, 1.8, 0.6)


def _suit(sheet: Sheet, design: Design, cloth: Colour, neck: float) -> None:
    white: Colour = (244, 246, 250)
    sheet.fill(polygon([(-neck - 3, 240), (neck + 3, 240), (26, 320), (-26, 320)]), white)
    if design.soft:
        sheet.fill(polygon([(-neck + 6, 236), (neck - 6, 236), (0, 284)]), skin_tones(design).base)
    else:
        tie = design.cloth_second
        sheet.fill(polygon([(-9, 256), (9, 256), (6, 270), (14, 330), (-14, 330), (-6, 270)]), tie)
        sheet.fill(polygon([(-9, 256), (9, 256), (6, 270), (-6, 270)]), times(tie, (0.75, 0.72, 0.75)))
    for side in (-1, 1):
        collar = [(side * x, y) for x, y in ((neck - 2, 232), (neck + 8, 244), (24, 274), (4, 257))]
        sheet.fill(polygon(collar), white if side == design.light else (222, 226, 236))
        sheet.line(polygon(collar), (150, 156, 176), 1.2, 0.8)
        lapel = [
            (side * x, y)
            for x, y in ((neck + 6, 240), (neck + 24, 250), (62, 286), (50, 292), (30, 340), (16, 340), (30, 285))
        ]
        sheet.fill(polygon(lapel), mix(cloth, (255, 255, 255), 0.1 if side == design.light else 0.03))
        sheet.line(polygon(lapel), times(cloth, (0.5, 0.5, 0.5)), 1.4, 0.8)


def _shirt(sheet: Sheet, design: Design, cloth: Colour, neck: float) -> None:
    sheet.fill(polygon([(-neck + 4, 240), (neck - 4, 240), (0, 286)]), skin_tones(design).shade)
    for side in (-1, 1):
        collar = [(side * x, y) for x, y in ((neck - 4, 230), (neck + 12, 246), (34, 284), (2, 276))]
        sheet.fill(polygon(collar), mix(cloth, (255, 255, 255), 0.35 if side == design.light else 0.05))
        sheet.line(polygon(collar), times(cloth, (0.55, 0.55, 0.6)), 1.5, 0.8)
    sheet.line("M0 282L0 340", times(cloth, (0.6, 0.6, 0.65)), 1.8)


def _tee(sheet: Sheet, design: Design, cloth: Colour, neck: float) -> None:
    collar = curve([(-neck - 10, 246), (-neck * 0.5, 268), (0, 274), (neck * 0.5, 268), (neck + 10, 246)], closed=False)
    sheet.fill(collar + "Z", skin_tones(design).shade)
    sheet.line(collar, times(cloth, (0.72, 0.7, 0.74)), 6.0)


def _hoodie(sheet: Sheet, design: Design, cloth: Colour, neck: float) -> None:
    for side in (-1, 1):
        hood = [
            (side * x, y)
            for x, y in ((neck + 2, 226), (neck + 26, 238), (neck + 32, 262), (20, 300), (4, 290), (neck - 8, 262))
        ]
        sheet.fill(curve(hood), times(cloth, (0.86, 0.86, 0.9) if side == design.light else (0.68, 0.66, 0.7)))
        sheet.line(curve(hood), times(cloth, (0.45, 0.45, 0.5)), 1.6, 0.7)
        sheet.line(f"M{side * 16} 286L{side * 18} 340", (240, 240, 244), 3.0)


def _turtleneck(sheet: Sheet, design: Design, cloth: Colour, neck: float) -> None:
    colours = tint(cloth)
    shape = curve(mirrored([(0, 238), (neck + 2, 228), (neck + 5, 246), (neck + 10, 264), (0, 274)]))
    light = design.light
    sheet.fill(
        shape,
        sheet.linear(
            (neck * light, 0), (-neck * light, 0), [(0, colours.light), (0.5, colours.base), (1, colours.dark)]
        ),
    )
    sheet.line(shape, colours.line, 1.5, 0.7)


def _blouse(sheet: Sheet, design: Design, cloth: Colour, neck: float) -> None:
    tones = skin_tones(design)
    for side in (-1, 1):
        bone = [(side * x, y) for x, y in ((14, 268), (44, 262), (76, 258))]
        sheet.line(curve(bone, closed=False), tones.deep, 2.0, 0.4)
    edge = curve([(-62, 262), (-30, 284), (0, 292), (30, 284), (62, 262)], closed=False)
    sheet.line(edge, times(cloth, (0.7, 0.68, 0.72)), 3.0)
