"""Numbers about one aligned face: sharpness, light, skin tone, mouth, pose, a perceptual hash."""

import math

import cv2
import numpy as np

from stages.faces.detect import Face

Point = tuple[float, float]


def luma(rgb: np.ndarray) -> np.ndarray:
    """Luma 0..255, float32 [H, W]."""
    return cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY).astype(np.float32)


def sharpness(rgb: np.ndarray, mask: np.ndarray) -> float:
    """Mean magnitude of the 3x3 Laplacian of luma inside the mask (docs/metrics.md).

    Args:
        rgb: uint8 [H, W, 3]. mask: uint8 [H, W].
    """
    inside = cv2.erode(mask, np.ones((3, 3), np.uint8)) >= 128
    if not inside.any():
        return 0.0
    return float(np.abs(cv2.Laplacian(luma(rgb), cv2.CV_32F, ksize=1))[inside].mean())


def brightness(rgb: np.ndarray, mask: np.ndarray) -> float:
    """Mean luma, 0..255, of rgb uint8 [H, W, 3] inside the mask uint8 [H, W]; of all of it when the mask is empty."""
    inside = mask >= 128
    grey = luma(rgb)
    return float(grey[inside].mean()) if inside.any() else float(grey.mean())


def typology_angle(rgb: np.ndarray, mask: np.ndarray, eye_l: Point, eye_r: Point, mouth: Point | None) -> float:
    """Individual typology angle of the cheeks in degrees: atan2(L* - 50, b*) of their median (Chardon et al. 1991).

    About > 55 very light, 41 to 55 light, 28 to 41 intermediate, 10 to 28 tan, -30 to 10 brown, below dark. On drawn
    or colour-cast pictures it is a hue measure only. NaN when the cheeks are not in the mask.

    Args:
        rgb: uint8 [H, W, 3]. mask: uint8 [H, W]. eye_l, eye_r, mouth: (x, y) in pixels.
    """
    left, right = np.asarray(eye_l), np.asarray(eye_r)
    across = right - left
    down = np.array([-across[1], across[0]])
    below = np.asarray(mouth) - (left + right) / 2 if mouth is not None else 1.1 * down
    radius = max(1.5, 0.17 * float(np.linalg.norm(across)))
    y, x = np.mgrid[0 : rgb.shape[0], 0 : rgb.shape[1]] + 0.5
    cheeks = np.zeros(rgb.shape[:2], bool)
    for eye in (left - 0.08 * across, right + 0.08 * across):
        centre = eye + 0.55 * below
        cheeks |= (x - centre[0]) ** 2 + (y - centre[1]) ** 2 < radius**2
    cheeks &= mask >= 128
    if cheeks.sum() < 4:
        return math.nan
    lab = cv2.cvtColor(rgb.astype(np.float32) / 255, cv2.COLOR_RGB2Lab)[cheeks]
    lightness, b = np.median(lab[:, 0]), np.median(lab[:, 2])
    return math.degrees(math.atan2(lightness - 50, max(float(b), 0.1)))


def mouth_open(rgb: np.ndarray, eye_l: Point, eye_r: Point, mouth: Point | None) -> float:
    """Share of the mouth's surroundings that is cavity or teeth, 0..1: far darker, or brighter and paler, than skin.

    A proxy good enough for a distribution (closed about 0.05, broad smile 0.2 and more), not a measurement of a mouth.
    ``rgb`` is uint8 [H, W, 3]; NaN without a mouth point.
    """
    if mouth is None:
        return math.nan
    distance = float(np.linalg.norm(np.asarray(eye_r) - np.asarray(eye_l)))
    half_w, half_h = max(2, round(0.42 * distance)), max(1, round(0.24 * distance))
    x, y = round(mouth[0]), round(mouth[1])
    region = rgb[max(y - half_h, 0) : y + half_h + 1, max(x - half_w, 0) : x + half_w + 1]
    if region.size == 0:
        return math.nan
    lab = cv2.cvtColor(region.astype(np.float32) / 255, cv2.COLOR_RGB2Lab)
    light, chroma = lab[..., 0], np.hypot(lab[..., 1], lab[..., 2])
    skin_light, skin_chroma = np.median(light), np.median(chroma)
    cavity = light < 0.62 * skin_light
    teeth = (light > 1.08 * skin_light) & (chroma < 0.62 * skin_chroma)
    return float((cavity | teeth).mean())


def yaw(face: Face) -> float:
    """Estimated yaw in degrees from where the nose lies between the eyes; NaN, "not measured", without a nose point.

    Haar, landmarks.csv and templates give no nose. Their face box and the mask are made from the eyes or from a frontal
    model, so a yaw from those would measure its own assumptions; nothing is invented here.

    The tip stands about 0.55 eye distances before the plane of the eyes, so it shifts by 0.55 sin(yaw) of them.
    """
    if face.nose is None:
        return math.nan
    left, right = np.asarray(face.eye_l), np.asarray(face.eye_r)
    across = right - left
    distance = float(np.linalg.norm(across))
    shift = float(np.dot(np.asarray(face.nose) - (left + right) / 2, across)) / distance**2
    # the visible eye distance shrinks with the cosine
    return math.degrees(math.atan(shift / 0.55))


def perceptual_hash(rgb: np.ndarray) -> str:
    """64-bit DCT hash (Zauner 2010) of uint8 [H, W, 3] as 16 hex digits; equal pictures differ in few bits."""
    small = cv2.resize(luma(rgb), (32, 32), interpolation=cv2.INTER_AREA)
    low = cv2.dct(small)[:8, :8].ravel()
    bits = low > np.median(low[1:])
    return f"{int(''.join('1' if bit else '0' for bit in bits), 2):016x}"
