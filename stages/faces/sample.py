"""One face of one picture becomes one sample: aligned picture, head mask and its measures."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from stages.common.masks import head_mask
from stages.common.seeding import rng
from stages.faces import quality
from stages.faces.align import align, ffhq_quad, move_points, quad_roll, quad_side, to_aligned
from stages.faces.backgrounds import Kind, background, composite
from stages.faces.detect import Face


@dataclass(frozen=True)
class Sample:
    """An aligned face.

    image: uint8 [R, R, 3]; mask: uint8 [R, R]; record: the columns of index.csv that follow from the picture alone.
    """

    image: np.ndarray
    mask: np.ndarray
    record: dict[str, Any]


def make_sample(
    picture: np.ndarray,
    face: Face,
    resolution: int,
    backgrounds: Kind = "mixed",
    seed: int = 0,
    name: str = "",
    parser: Path | None = None,
) -> Sample:
    """Aligns one face and measures it.

    Args:
        picture: uint8 [H, W, 3] RGB or [H, W, 4] RGBA; RGBA is put on a procedural background.
        name: seeds the background together with ``seed``.

    Raises:
        ValueError: the eyes coincide.
    """
    quad = ffhq_quad(face.eye_l, face.eye_r, face.mouth)
    points = np.array([face.eye_l, face.eye_r, face.mouth or (np.nan, np.nan)])
    eye_l, eye_r, mouth = (tuple(p) for p in move_points(to_aligned(quad, resolution), points).tolist())
    known_mouth = mouth if face.mouth else None
    aligned = align(picture, quad, resolution)
    if aligned.shape[2] == 4:
        mask = head_mask(aligned[..., :3], eye_l, eye_r, known_mouth, alpha=aligned[..., 3])
        image = composite(aligned, background(backgrounds, resolution, rng(seed, "background", name)))
    else:
        image, mask = aligned, head_mask(aligned, eye_l, eye_r, known_mouth, parser=parser)
    record = {
        "eye_l_x": eye_l[0],
        "eye_l_y": eye_l[1],
        "eye_r_x": eye_r[0],
        "eye_r_y": eye_r[1],
        "mouth_x": mouth[0],
        "mouth_y": mouth[1],
        "quad": " ".join(f"{v:.2f}" for v in quad.ravel()),
        "side": quad_side(quad),
        "roll": quad_roll(quad),
        "yaw": quality.yaw(face),
        "sharpness": quality.sharpness(image, mask),
        "brightness": quality.brightness(image, mask),
        "ita": quality.typology_angle(image, mask, eye_l, eye_r, known_mouth),
        "mouth_open": quality.mouth_open(image, eye_l, eye_r, known_mouth),
        "mask_area": float((mask >= 128).mean()),
        "phash": quality.perceptual_hash(image),
        "method": face.method,
        "score": face.score,
    }
    return Sample(image, mask, record)
