"""Harder versions of photos for evaluation: turned, dim, backlit, blurred, covered, busy behind, compressed.

Every version comes with the affine map from the photo's pixels to its own, so that landmarks and masks go along.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from stages.common.seeding import rng
from stages.faces.align import Point, move_points
from stages.faces.backgrounds import background


@dataclass(frozen=True)
class Stressed:
    """One harder version.

    Attributes:
        name: which stress.
        image: uint8 [H, W, 3], the photo's size.
        matrix: affine float64 [2, 3], photo pixels to pixels of ``image``; identity where nothing moves.
        parameters: what was drawn, for the report.
    """

    name: str
    image: np.ndarray
    matrix: np.ndarray
    parameters: dict[str, Any]

    def points(self, points: np.ndarray) -> np.ndarray:
        """Landmarks [N, 2] of the photo as positions in ``image``."""
        return move_points(self.matrix, points)

    def mask(self, mask: np.ndarray) -> np.ndarray:
        """The photo's mask [H, W] moved along; uint8."""
        if np.array_equal(self.matrix, IDENTITY):
            return mask
        return np.asarray(
            cv2.warpAffine(mask, _centred(self.matrix), mask.shape[1::-1], flags=cv2.INTER_LINEAR), np.uint8
        )


IDENTITY = np.array([[1.0, 0, 0], [0, 1, 0]])
Draw = tuple[np.ndarray, np.ndarray, dict[str, Any]]


def stress(
    rgb: np.ndarray, eye_l: Point, eye_r: Point, mask: np.ndarray | None = None, seed: int = 0, name: str = ""
) -> list[Stressed]:
    """All harder versions of one photo, deterministic in (seed, name).

    Args:
        rgb: uint8 [H, W, 3], the photo or an aligned crop of it.
        eye_l, eye_r: eyes in its pixels; they say where and how large the face is.
        mask: its head mask, uint8 [H, W]; without it "busy" (an exchanged background) is left out.
        name: the photo's id.
    """
    face = _Face(rgb, np.asarray(eye_l, float), np.asarray(eye_r, float), mask)
    kinds: dict[str, Callable[[_Face, np.random.Generator], Draw]] = {
        "roll": _roll,
        "yaw": _yaw,
        "dim": _dim,
        "backlit": _backlit,
        "blur": _blur,
        "occluder": _occluder,
        "jpeg": _jpeg,
    }
    if mask is not None:
        kinds["busy"] = _busy
    return [Stressed(kind, *draw(face, rng(seed, "stress", kind, name))) for kind, draw in kinds.items()]


class _Face:
    def __init__(self, rgb: np.ndarray, eye_l: np.ndarray, eye_r: np.ndarray, mask: np.ndarray | None) -> None:
        self.rgb, self.mask = rgb, mask
        self.centre, self.gap = (eye_l + eye_r) / 2, float(np.linalg.norm(eye_r - eye_l))
        self.middle = self.centre + np.array([0, 0.5 * self.gap])

    def warped(self, matrix: np.ndarray) -> np.ndarray:
        size = self.rgb.shape[1::-1]
        return np.asarray(
            cv2.warpAffine(self.rgb, _centred(matrix), size, flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT),
            np.uint8,
        )


def _centred(matrix: np.ndarray) -> np.ndarray:
    """The same map for OpenCV, which counts pixel centres as integers instead of pixel edges."""
    moved = matrix.copy()
    moved[:, 2] += matrix[:, :2].sum(axis=1) / 2 - 0.5
    return moved


def _roll(face: _Face, draw: np.random.Generator) -> Draw:
    """Turned in the picture by 10 to 30 degrees either way."""
    angle = float(draw.uniform(10, 30) * draw.choice([-1, 1]))
    matrix = np.asarray(cv2.getRotationMatrix2D(tuple(map(float, face.middle)), angle, 1))
    return face.warped(matrix), matrix, {"degrees": angle}


def _yaw(face: _Face, draw: np.random.Generator) -> Draw:
    """A head turned by 15 to 30 degrees, as far as an affine warp can: narrower, and sheared as if seen from beside."""
    angle = float(draw.uniform(15, 30) * draw.choice([-1, 1]))
    narrow, shear = np.cos(np.radians(angle)), 0.25 * np.sin(np.radians(angle))
    linear = np.array([[narrow, 0.0], [shear, 1.0]])
    matrix = np.column_stack([linear, face.middle - linear @ face.middle])
    return face.warped(matrix), matrix, {"degrees": angle}


def _dim(face: _Face, draw: np.random.Generator) -> Draw:
    """A dark room: 15 to 35 % of the light, with sensor noise."""
    light = float(draw.uniform(0.15, 0.35))
    noise = draw.normal(0, 4, face.rgb.shape)
    return _pixels(face.rgb * light + noise), IDENTITY, {"light": light}


def _backlit(face: _Face, draw: np.random.Generator) -> Draw:
    """A bright window behind: the head at 35 to 55 % of its light, everything far from it burnt out."""
    light = float(draw.uniform(0.35, 0.55))
    y, x = np.mgrid[0 : face.rgb.shape[0], 0 : face.rgb.shape[1]] + 0.5
    distance = np.hypot(x - face.middle[0], y - face.middle[1]) / face.gap
    glow = (1 / (1 + np.exp(-(distance - 1.9) / 0.25)))[..., None]
    return _pixels(face.rgb * (light * (1 - glow) + 1.3 * glow) + 60 * glow), IDENTITY, {"light": light}


def _blur(face: _Face, draw: np.random.Generator) -> Draw:
    """Out of focus: Gaussian of 4 to 8 % of the eye distance."""
    sigma = float(draw.uniform(0.04, 0.08) * face.gap)
    return np.asarray(cv2.GaussianBlur(face.rgb, (0, 0), sigma), np.uint8), IDENTITY, {"sigma": sigma}


def _occluder(face: _Face, draw: np.random.Generator) -> Draw:
    """A hand-sized ellipse over a cheek or the chin; the eyes stay visible."""
    side, colour = float(draw.choice([-1, 1])), draw.integers(30, 226, 3)
    at = face.centre + face.gap * np.array([side * draw.uniform(0.3, 0.8), draw.uniform(0.8, 1.4)])
    axes = face.gap * draw.uniform([0.3, 0.45], [0.5, 0.7])
    cover = np.zeros(face.rgb.shape[:2], np.uint8)
    angle = float(draw.uniform(-40, 40))
    cv2.ellipse(cover, tuple(map(int, at)), tuple(map(int, axes)), angle, 0, 360, 255, -1, cv2.LINE_AA)
    weight = cover[..., None] / 255
    mixed = face.rgb * (1 - weight) + colour * weight
    return _pixels(mixed), IDENTITY, {"x": float(at[0]), "y": float(at[1]), "axes": axes.tolist(), "angle": angle}


def _jpeg(face: _Face, draw: np.random.Generator) -> Draw:
    """Sent through a messenger twice: JPEG at quality 8 to 20."""
    quality = int(draw.integers(8, 21))
    _, data = cv2.imencode(".jpg", face.rgb[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
    decoded = np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR), np.uint8)
    return np.ascontiguousarray(decoded[..., ::-1]), IDENTITY, {"quality": quality}


def _busy(face: _Face, draw: np.random.Generator) -> Draw:
    """The background exchanged for strong shapes and textures."""
    assert face.mask is not None
    h, w = face.rgb.shape[:2]
    layers = [background("mixed", max(h, w), draw)[:h, :w].astype(np.float32) for _ in range(3)]
    y, x = np.mgrid[0:h, 0:w]
    period = float(draw.uniform(0.25, 0.6) * face.gap)
    stripes = (np.sin(2 * np.pi * (x * draw.uniform(-1, 1) + y * draw.uniform(-1, 1)) / period) > 0)[..., None]
    behind = np.where(stripes, layers[0], 0.5 * layers[1] + 0.5 * layers[2])
    weight = face.mask[..., None] / 255
    return _pixels(face.rgb * weight + behind * (1 - weight)), IDENTITY, {"period": period}


def _pixels(values: np.ndarray) -> np.ndarray:
    return values.clip(0, 255).round().astype(np.uint8)
