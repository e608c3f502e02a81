"""The FFHQ crop (Karras et al. 2019) and its inverse."""

import math

import cv2
import numpy as np

Point = tuple[float, float]

EYES_TO_MOUTH = 1.1  # in eye distances, where the mouth is unknown
# where eyes and mouth lie in an FFHQ crop, as shares of its side: follows from the quad with the mouth at 1.1
CANON_EYE_L, CANON_EYE_R, CANON_MOUTH = (0.375, 0.4725), (0.625, 0.4725), (0.5, 0.7475)
BLUR_FROM = 0.02  # a crop reaching further than this share of its side beyond the picture gets a blurred edge


def ffhq_quad(eye_l: Point, eye_r: Point, mouth: Point | None = None) -> np.ndarray:
    """Corners of the FFHQ crop: top left, bottom left, bottom right, top right; float64 [4, 2] in source pixels.

    Half-side = max(2.0 eye distance, 1.8 eye-to-mouth), centre = eye centre + 0.1 eye-to-mouth, turned with the face.

    Raises:
        ValueError: the eyes coincide.
    """
    left, right = np.asarray(eye_l, float), np.asarray(eye_r, float)
    across = right - left
    distance = float(np.linalg.norm(across))
    if distance < 1e-3:
        raise ValueError("the two eyes are the same point")
    down = np.array([-across[1], across[0]])
    to_mouth = np.asarray(mouth, float) - (left + right) / 2 if mouth is not None else EYES_TO_MOUTH * down
    x = across - np.array([-to_mouth[1], to_mouth[0]])
    x *= max(2.0 * distance, 1.8 * float(np.linalg.norm(to_mouth))) / np.linalg.norm(x)
    y = np.array([-x[1], x[0]])
    centre = (left + right) / 2 + 0.1 * to_mouth
    return np.stack([centre - x - y, centre - x + y, centre + x + y, centre + x - y])


def quad_side(quad: np.ndarray) -> float:
    """Side in source pixels of a square crop, float [4, 2]."""
    return float(np.linalg.norm(quad[3] - quad[0]))


def quad_roll(quad: np.ndarray) -> float:
    """Roll in degrees of a crop, float [4, 2]; positive when the head's right side in the picture hangs lower."""
    across = quad[3] - quad[0]
    return math.degrees(math.atan2(across[1], across[0]))


def to_aligned(quad: np.ndarray, resolution: int) -> np.ndarray:
    """Affine float64 [2, 3]: source pixels to pixels of the aligned picture (pixel edges at integers)."""
    target = np.array([[0, 0], [0, resolution], [resolution, resolution]], np.float32)
    return cv2.getAffineTransform(quad[:3].astype(np.float32), target).astype(np.float64)


def move_points(matrix: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Points [N, 2] through an affine [2, 3]."""
    return np.asarray(points, float) @ matrix[:, :2].T + matrix[:, 2]


def align(picture: np.ndarray, quad: np.ndarray, resolution: int) -> np.ndarray:
    """The crop ``quad`` of a picture as a square of ``resolution`` pixels, antialiased.

    Args:
        picture: uint8 [H, W, 3] RGB or [H, W, 4] RGBA. Outside RGB the picture is reflected and blurred, as FFHQ does;
            RGBA continues with its edge pixels (transparent, except where a bust is cut off by the frame).

    Returns:
        uint8 [R, R, 3 or 4].
    """
    if picture.shape[2] == 4:
        weight = picture[..., 3:].astype(np.float32) / 255
        flat = np.concatenate([picture[..., :3] * weight, picture[..., 3:].astype(np.float32)], axis=2)
        warped = _warp(flat, quad, resolution, cv2.BORDER_REPLICATE)
        alpha = warped[..., 3:]
        colour = np.where(alpha > 0.5, warped[..., :3] * 255 / np.maximum(alpha, 0.5), 0)
        return np.concatenate([colour, alpha], axis=2).clip(0, 255).round().astype(np.uint8)
    warped = _warp(picture, quad, resolution, cv2.BORDER_REFLECT)
    return _blur_outside(warped, quad, picture.shape[:2])


def _warp(picture: np.ndarray, quad: np.ndarray, resolution: int, border: int) -> np.ndarray:
    # Cut the neighbourhood out first: a 100-megapixel photo must not be resampled whole.
    side = quad_side(quad)
    h, w = picture.shape[:2]
    low = np.clip(np.floor(quad.min(0) - 4), 0, [w - 1, h - 1]).astype(int)
    high = np.clip(np.ceil(quad.max(0) + 4), low + 1, [w, h]).astype(int)
    cut = picture[low[1] : high[1], low[0] : high[0]]
    corner = low.astype(float)
    scale = np.ones(2)
    if side > 2 * resolution:  # by area to about twice the target, then bilinear and by area again: no aliasing
        factor = 2 * resolution / side
        size = max(1, round(cut.shape[1] * factor)), max(1, round(cut.shape[0] * factor))
        scale = np.array(size) / np.array(cut.shape[1::-1])
        cut = cv2.resize(cut, size, interpolation=cv2.INTER_AREA)
    over = 2 if side > resolution else 1
    matrix = to_aligned((quad - corner) * scale, resolution * over)
    # OpenCV counts pixel centres as integers, the quad counts pixel edges
    matrix[:, 2] += matrix[:, :2].sum(axis=1) / 2 - 0.5
    how = cv2.INTER_LINEAR if over == 2 else cv2.INTER_CUBIC
    size = (resolution * over, resolution * over)
    warped = cv2.warpAffine(cut, matrix, size, flags=how, borderMode=border)
    return cv2.resize(warped, (resolution, resolution), interpolation=cv2.INTER_AREA) if over == 2 else warped


def _blur_outside(warped: np.ndarray, quad: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    h, w = shape[:2]
    beyond = max(-quad.min(), (quad - [w, h]).max(), 0) / quad_side(quad)
    if beyond <= BLUR_FROM:
        return warped
    resolution = warped.shape[0]
    # how far each pixel lies outside the picture, as a share of the side; the blur fades in over a tenth of it
    steps = (np.arange(resolution) + 0.5) / resolution
    across, along = quad[3] - quad[0], quad[1] - quad[0]
    place = quad[0] + steps[None, :, None] * across + steps[:, None, None] * along
    outside = np.maximum(np.maximum(-place, place - [w, h]).max(axis=2), 0) / quad_side(quad)
    amount = np.clip(outside / 0.1, 0, 1)[..., None]
    blurred = cv2.GaussianBlur(warped, (0, 0), max(1.0, 0.03 * resolution), borderType=cv2.BORDER_REFLECT)
    return (warped * (1 - amount) + blurred * amount + 0.5).astype(np.uint8)


def paste_back(full: np.ndarray, stylised: np.ndarray, mask: np.ndarray, quad: np.ndarray) -> np.ndarray:
    """Puts a stylised crop back into the photo it was aligned from, at the photo's own size.

    Args:
        full: uint8 [H, W, 3] RGB.
        stylised: uint8 [r, r, 3], any r.
        mask: [m, m], uint8 0..255 or float 0..1; 1 shows the stylised head.
        quad: the crop, float [4, 2] in pixels of ``full``.

    Returns:
        uint8 [H, W, 3]; pixels where the mask is 0 are those of ``full`` exactly.
    """
    h, w = full.shape[:2]
    low = np.clip(np.floor(quad.min(0)), 0, [w, h]).astype(int)
    high = np.clip(np.ceil(quad.max(0)), 0, [w, h]).astype(int)
    result = full.copy()
    if (high <= low).any():
        return result
    size = (int(high[0] - low[0]), int(high[1] - low[1]))
    weight = mask.astype(np.float32) / (255 if mask.dtype == np.uint8 else 1)
    crop = _unwarp(stylised.astype(np.float32), quad - low, size, cv2.BORDER_REPLICATE)
    share = _unwarp(weight, quad - low, size, cv2.BORDER_CONSTANT).clip(0, 1)[..., None]
    part = result[low[1] : high[1], low[0] : high[0]]
    mixed = part * (1 - share) + crop * share
    result[low[1] : high[1], low[0] : high[0]] = np.where(share > 0, mixed.clip(0, 255) + 0.5, part).astype(np.uint8)
    return result


def _unwarp(crop: np.ndarray, quad: np.ndarray, size: tuple[int, int], border: int) -> np.ndarray:
    resolution = crop.shape[0]
    side = quad_side(quad)
    if resolution > 1.5 * side:  # pasted smaller than it was made: area first
        resolution = max(1, round(side))
        crop = cv2.resize(crop, (resolution, resolution), interpolation=cv2.INTER_AREA)
    matrix = cv2.invertAffineTransform(to_aligned(quad, resolution))
    matrix[:, 2] += matrix[:, :2].sum(axis=1) / 2 - 0.5
    how = cv2.INTER_LINEAR if crop.ndim == 2 else cv2.INTER_CUBIC
    return cv2.warpAffine(crop, matrix, size, flags=how, borderMode=border)
