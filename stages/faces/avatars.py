"""Avatars: cartoon heads drawn from a seed, with their own landmarks and head masks.

The project's default style. Each design is a vector drawing with gradients, large open eyes where aligned photos have
theirs, natural skin and hair, and a head pose shown by parallax; resvg turns it into RGBA pixels.
"""

import io
from dataclasses import dataclass

import numpy as np
from PIL import Image
from resvg_py import svg_to_bytes

from stages.faces.avatars_body import draw_body
from stages.faces.avatars_design import Design, sample_design
from stages.faces.avatars_extras import draw_beard, draw_earrings, draw_glasses, draw_headwear
from stages.faces.avatars_face import (
    draw_age,
    draw_brows,
    draw_ears,
    draw_eyes,
    draw_head,
    draw_mouth,
    draw_nose,
    landmarks,
)  # fmt: skip
from stages.faces.avatars_hair import COVERED, draw_back_hair, draw_front_hair
from stages.faces.avatars_svg import Pen, Point, Sheet

MARGIN = 1.22  # side of the picture over side of the aligned square: room for the rolled square and some background


@dataclass(frozen=True)
class Avatar:
    """One drawn head.

    image: uint8 [size, size, 4] RGBA with straight alpha; mask: uint8 [size, size], 255 = head (face, hair, ears,
    headwear); eye_l, eye_r, mouth: (x, y) in pixels, left and right as seen in the picture.
    """

    design: Design
    image: np.ndarray
    mask: np.ndarray
    eye_l: Point
    eye_r: Point
    mouth: Point


def draw_avatar(seed: int, number: int, size: int = 256) -> Avatar:
    """Draw design `number` of the set `seed` at size x size pixels. Deterministic."""
    design = sample_design(seed, number)
    pen = Pen(design.yaw, design.pitch, design.roll)
    sheet = compose(design, pen)
    marks = landmarks(pen, design)
    centre, half = framing(marks)
    image = _raster(sheet.svg(size, centre, half))
    mask = _raster(sheet.mask_svg(size, centre, half))[:, :, 0]
    eye_l, eye_r, mouth = (_to_pixels(p, centre, half, size) for p in marks)
    return Avatar(design, image, mask, eye_l, eye_r, mouth)


def compose(design: Design, pen: Pen) -> Sheet:
    """All layers of one avatar, back to front."""
    sheet = Sheet()
    draw_back_hair(sheet, pen, design)
    draw_body(sheet, design)
    draw_ears(sheet, pen, design)
    draw_earrings(sheet, pen, design)
    face = draw_head(sheet, pen, design)
    draw_age(sheet, pen, design)
    draw_nose(sheet, pen, design)
    draw_beard(sheet, pen, design, face)
    draw_mouth(sheet, pen, design)
    draw_eyes(sheet, pen, design)
    draw_brows(sheet, pen, design)
    draw_top = draw_headwear if design.hair in COVERED else draw_front_hair
    draw_top(sheet, pen, design, face)
    draw_glasses(sheet, pen, design)
    return sheet


def framing(marks: list[Point]) -> tuple[Point, float]:
    """Centre and half-side of the picture around the FFHQ square of the landmarks (Karras et al. 2019)."""
    eye_l, eye_r, mouth = (np.array(p) for p in marks)
    eyes = (eye_l + eye_r) / 2
    half = max(2.0 * np.linalg.norm(eye_r - eye_l), 1.8 * np.linalg.norm(mouth - eyes))
    centre = eyes + 0.1 * (mouth - eyes)
    return (float(centre[0]), float(centre[1])), float(half * MARGIN)


def _to_pixels(p: Point, centre: Point, half: float, size: int) -> Point:
    scale = size / (2.0 * half)
    return ((p[0] - centre[0]) * scale + size / 2.0, (p[1] - centre[1]) * scale + size / 2.0)


def _raster(svg: str) -> np.ndarray:
    png = svg_to_bytes(svg_string=svg, skip_system_fonts=True)
    return np.asarray(Image.open(io.BytesIO(bytes(png))).convert("RGBA"))
