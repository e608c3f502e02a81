"""Procedural backgrounds (colours, gradients, shapes, textures): domains are to differ in style, not in background."""

from typing import Literal

import cv2
import numpy as np

Kind = Literal["mixed", "plain", "keep"]


def background(kind: Kind, resolution: int, rng: np.random.Generator) -> np.ndarray:
    """One background.

    Args:
        kind: "mixed" draws one of four families, "plain" one colour, "keep" white.

    Returns:
        uint8 [R, R, 3] RGB.
    """
    if kind == "keep":
        return np.full((resolution, resolution, 3), 255, np.uint8)
    if kind == "plain":
        return np.broadcast_to(_colour(rng), (resolution, resolution, 3)).round().astype(np.uint8)
    family = rng.choice(4, p=(0.3, 0.3, 0.25, 0.15))
    picture = (_plain, _gradient, _shapes, _texture)[family](resolution, rng)
    return (picture + rng.normal(0, 1.2, picture.shape)).clip(0, 255).round().astype(np.uint8)


def composite(rgba: np.ndarray, behind: np.ndarray) -> np.ndarray:
    """uint8 [R, R, 4] RGBA over uint8 [R, R, 3]; uint8 [R, R, 3]."""
    weight = rgba[..., 3:].astype(np.float32) / 255
    return (rgba[..., :3] * weight + behind * (1 - weight) + 0.5).astype(np.uint8)


def replace_background(rgb: np.ndarray, mask: np.ndarray, behind: np.ndarray) -> np.ndarray:
    """A photo's background exchanged through the mask, shoulders too: uint8 [R, R, 3], mask uint8 [R, R]."""
    return composite(np.dstack([rgb, mask]), behind)


def _colour(rng: np.random.Generator) -> np.ndarray:
    """Mostly muted, sometimes vivid colours, as walls and studio backdrops are; float [3], 0..255."""
    hue, saturation = rng.uniform(0, 360), rng.beta(1.3, 2.6)
    value = rng.uniform(0.25, 1.0)
    pixel = np.array([[[hue, saturation, value]]], np.float32)
    return cv2.cvtColor(pixel, cv2.COLOR_HSV2RGB)[0, 0].astype(float) * 255


def _plain(resolution: int, rng: np.random.Generator) -> np.ndarray:
    """A wall with a slight fall of light."""
    light = 1 + rng.uniform(0, 0.15) * _ramp(resolution, rng)[..., None]
    return _colour(rng) * light


def _ramp(resolution: int, rng: np.random.Generator) -> np.ndarray:
    """A linear or radial ramp, -1..1, [R, R]."""
    y, x = np.mgrid[-1 : 1 : resolution * 1j, -1 : 1 : resolution * 1j]
    if rng.random() < 0.6:
        angle = rng.uniform(0, 2 * np.pi)
        return (x * np.cos(angle) + y * np.sin(angle)) / np.sqrt(2)
    radius = np.hypot(x - rng.uniform(-0.6, 0.6), y - rng.uniform(-0.6, 0.6))
    return 1 - radius.clip(0, 2)


def _gradient(resolution: int, rng: np.random.Generator) -> np.ndarray:
    share = (_ramp(resolution, rng)[..., None] + 1) / 2
    return _colour(rng) * share + _colour(rng) * (1 - share)


def _shapes(resolution: int, rng: np.random.Generator) -> np.ndarray:
    """Blurred discs and bars over a gradient: furniture, windows and plants out of focus."""
    picture = np.ascontiguousarray(_gradient(resolution, rng).astype(np.float32))
    for _ in range(rng.integers(3, 9)):
        colour = tuple(float(c) for c in _colour(rng))
        centre = rng.integers(0, resolution, 2)
        if rng.random() < 0.5:
            cv2.circle(picture, tuple(map(int, centre)), int(resolution * rng.uniform(0.05, 0.25)), colour, -1)
        else:
            size = (resolution * rng.uniform(0.08, 0.5, 2)).astype(int)
            low, high = centre - size // 2, centre + size // 2
            cv2.rectangle(picture, tuple(map(int, low)), tuple(map(int, high)), colour, -1)
    return cv2.GaussianBlur(picture, (0, 0), resolution * rng.uniform(0.01, 0.06))


def _texture(resolution: int, rng: np.random.Generator) -> np.ndarray:
    """Noise of several octaves between two colours: foliage, plaster, cloth."""
    field = np.zeros((resolution, resolution), np.float32)
    for octave in range(5):
        cells = 2 ** (octave + 1) + 1
        noise = rng.normal(0, 0.65**octave, (cells, cells)).astype(np.float32)
        field += cv2.resize(noise, (resolution, resolution), interpolation=cv2.INTER_CUBIC)
    share = ((field - field.min()) / max(float(np.ptp(field)), 1e-6))[..., None]
    return _colour(rng) * share + _colour(rng) * (1 - share)
