"""Head masks. One meaning everywhere: face, hair, ears and headwear, soft-edged; not neck or shoulders.

The same code serves photos, drawn pictures and generated faces: a face parser when one is given, the picture's own
transparency where it has some, else GrabCut (Rother et al. 2004) seeded from the eyes and the mouth.
"""

from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np

Point = tuple[float, float]

WORK = 64  # GrabCut runs at this side: its colour model needs no more, and it costs 4x per doubling
# proportions of a head in eye distances, from the eye centre; measured on the photos of ../shared
CHIN = 1.85  # eyes to the chin's tip, where the mouth is unknown; with a mouth 1.62 x eyes-to-mouth
CHIN_OF_MOUTH = 1.68
SURE_HALF_WIDTH, SURE_TOP, SURE_CHIN = 0.82, -1.15, 0.93  # surely head: skin and the hair line (or a bald crown)
GRABCUT_ROUNDS = 3
SAME_COLOUR = 6.0  # distance in CIELAB up to which a colour counts as the wall's
GRAIN = 4.0  # grey levels
HAIR_HALF_WIDTH, HAIR_TOP = 1.75, -2.0  # where hair may be


def head_mask(
    rgb: np.ndarray,
    eye_l: Point,
    eye_r: Point,
    mouth: Point | None = None,
    alpha: np.ndarray | None = None,
    parser: Path | None = None,
) -> np.ndarray:
    """The head in an aligned picture.

    Args:
        rgb: uint8 [R, R, 3], FFHQ crop.
        eye_l, eye_r, mouth: positions in its pixels; an unknown mouth is put where it usually is.
        alpha: uint8 [R, R] transparency of a style picture; the mask is then alpha above the chin line.
        parser: ONNX face parser (19 classes of CelebAMask-HQ) used instead of GrabCut.

    Returns:
        uint8 [R, R], 0..255, soft edge.
    """
    frame = _Frame(rgb.shape[0], eye_l, eye_r, mouth)
    if alpha is not None:
        return (alpha.astype(np.float32) * frame.above_chin()).round().astype(np.uint8)
    if parser is not None:
        return feather(parse_head(rgb, parser), rgb.shape[0] / 64)
    return _grabcut_head(rgb, frame)


def feather(mask: np.ndarray, sigma: float) -> np.ndarray:
    """Softens the edge of a uint8 mask [H, W] by a Gaussian of ``sigma`` pixels."""
    return cv2.GaussianBlur(mask, (0, 0), sigma) if sigma > 0 else mask


def dilate(mask: np.ndarray, pixels: int) -> np.ndarray:
    """Grows (``pixels`` > 0) or shrinks (< 0) a uint8 mask [H, W] by a disc."""
    if pixels == 0:
        return mask
    size = 2 * abs(pixels) + 1
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (size, size))
    return cv2.dilate(mask, disc) if pixels > 0 else cv2.erode(mask, disc)


def mask_iou(a: np.ndarray, b: np.ndarray) -> float:
    """Intersection over union of two uint8 masks at half level; 1 when both are empty."""
    p, q = a >= 128, b >= 128
    union = np.logical_or(p, q).sum()
    return float(np.logical_and(p, q).sum() / union) if union else 1.0


class _Frame:
    """Coordinates of an aligned head: u across and v down from the eye centre, in eye distances, turned with it."""

    def __init__(self, resolution: int, eye_l: Point, eye_r: Point, mouth: Point | None) -> None:
        left, right = np.asarray(eye_l, float), np.asarray(eye_r, float)
        centre, across = (left + right) / 2, right - left
        self.unit = max(float(np.linalg.norm(across)), 1.0)
        axis = across / self.unit
        y, x = np.mgrid[0:resolution, 0:resolution] + 0.5
        dx, dy = x - centre[0], y - centre[1]
        self.u = (dx * axis[0] + dy * axis[1]) / self.unit
        self.v = (-dx * axis[1] + dy * axis[0]) / self.unit
        if mouth is not None and np.isfinite(mouth).all():
            reach = float(np.dot(np.asarray(mouth, float) - centre, [-axis[1], axis[0]])) / self.unit
            self.chin = float(np.clip(CHIN_OF_MOUTH * reach, 1.3, 2.6))
        else:
            self.chin = CHIN

    def resized(self, side: int) -> "_Frame":
        other = object.__new__(_Frame)
        other.unit, other.chin = self.unit * side / self.u.shape[0], self.chin
        other.u, other.v = (cv2.resize(a, (side, side), interpolation=cv2.INTER_AREA) for a in (self.u, self.v))
        return other

    def above_chin(self) -> np.ndarray:
        """1 above the chin line, 0 below, soft over about two pixels; float32 [R, R].

        The line is the lower jaw: half an ellipse below the face, rising to both sides no further than the mouth's
        height, so that hair beside the neck is cut where the neck begins but hair beside the face stays; further out,
        where only shoulders are, it rises on.
        """
        across = np.abs(self.u)
        jaw = self.chin - 0.55 * (1 - np.sqrt(np.clip(1 - (across / 1.25) ** 2, 0, 1)))
        jaw -= 2.0 * np.maximum(across - 1.45, 0)
        edge = (jaw - self.v) * self.unit
        return np.clip(edge / 2 + 0.5, 0, 1).astype(np.float32)

    def ellipse(self, half_width: float, top: float, bottom: float) -> np.ndarray:
        """Inside of an upright ellipse, bool [R, R]."""
        middle, half_height = (top + bottom) / 2, (bottom - top) / 2
        return (self.u / half_width) ** 2 + ((self.v - middle) / half_height) ** 2 < 1


def _grabcut_head(rgb: np.ndarray, frame: _Frame) -> np.ndarray:
    resolution = rgb.shape[0]
    side = min(WORK, resolution)
    small = cv2.resize(rgb, (side, side), interpolation=cv2.INTER_AREA) if side != resolution else rgb
    f = frame if side == resolution else frame.resized(side)
    labels = np.full((side, side), cv2.GC_PR_BGD, np.uint8)
    # Sure background is only where hair hardly ever is: the upper corners and the sides above the eyes.
    border = max(1, side // 32)
    above = f.v < 0
    edge = np.zeros_like(above)
    edge[:, :border] = edge[:, -border:] = True
    edge[:border, : side // 4] = edge[:border, -side // 4 :] = True
    beyond = edge & above & (np.abs(f.u) > 1.3)
    wall = _like(small, beyond)
    # Wide: a background that is in the ellipse as well as outside is soon recognised, hair outside of it is lost, for
    # it would teach the background model its colour.
    hair = f.ellipse(HAIR_HALF_WIDTH, HAIR_TOP, f.chin + 0.4) & (np.abs(f.u) < np.where(f.v > 0.5, 1.4, 9))
    labels[hair & ~wall] = cv2.GC_PR_FGD
    labels[f.ellipse(SURE_HALF_WIDTH, SURE_TOP, SURE_CHIN * f.chin)] = cv2.GC_FGD
    labels[beyond] = cv2.GC_BGD
    # Below the chin lie clothes: they would teach the background model the colours of dark hair, so they are cut away.
    rows = max(int(np.max(np.nonzero((f.v < f.chin).any(axis=1)))) + 1, side // 2)
    cut = np.ascontiguousarray(labels[:rows])
    cv2.setRNGSeed(0)  # the random start of OpenCV's k-means would give another mask each time
    picture = _grained(cv2.GaussianBlur(small, (3, 3), 0)[:rows])
    cv2.grabCut(picture, cut, (0, 0, 1, 1), np.zeros((1, 65)), np.zeros((1, 65)), GRABCUT_ROUNDS, cv2.GC_INIT_WITH_MASK)
    mask = np.zeros((side, side), np.uint8)
    mask[:rows][(cut == cv2.GC_FGD) | (cut == cv2.GC_PR_FGD)] = 255
    mask = _clean(mask, f)
    if side != resolution:
        mask = np.asarray(cv2.resize(mask, (resolution, resolution), interpolation=cv2.INTER_CUBIC), np.uint8)
    soft = feather(mask, max(0.6, resolution / 90)).astype(np.float32) * frame.above_chin()
    return soft.round().clip(0, 255).astype(np.uint8)


def _like(rgb: np.ndarray, where: np.ndarray) -> np.ndarray:
    """Pixels whose colour is found among those of ``where``: bool [H, W].

    Both colour models would learn such a colour equally well from a wide ellipse, and a wall above the head would stay.
    """
    lab = cv2.cvtColor(rgb.astype(np.float32) / 255, cv2.COLOR_RGB2Lab)
    known = lab[where]
    found = np.zeros(rgb.shape[:2], bool)
    for colour in known[:: max(1, len(known) // 24)]:  # a loop over few colours: no large array of differences
        found |= np.square(lab - colour).sum(axis=2) < SAME_COLOUR**2
    return found


def _grained(rgb: np.ndarray) -> np.ndarray:
    """Adds fixed noise: the colour model of a plain wall gets some width and still holds where the light falls off."""
    noise = np.random.default_rng(0).normal(0, GRAIN, rgb.shape)
    return (rgb + noise).clip(0, 255).round().astype(np.uint8)


def _clean(mask: np.ndarray, frame: _Frame) -> np.ndarray:
    """One piece without holes: the component of the face, smoothed by an opening and a closing."""
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (3, 3))
    mask = cv2.morphologyEx(mask, cv2.MORPH_OPEN, disc)
    # with a frame of background: at the bare border a closing joins the crown to the picture's edge
    framed = cv2.copyMakeBorder(mask, 4, 4, 4, 4, cv2.BORDER_CONSTANT, value=0)
    framed = cv2.morphologyEx(framed, cv2.MORPH_CLOSE, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (5, 5)))
    mask = np.ascontiguousarray(framed[4:-4, 4:-4])
    mask[frame.ellipse(SURE_HALF_WIDTH, SURE_TOP, SURE_CHIN * frame.chin)] = 255
    _, parts = cv2.connectedComponents(mask, connectivity=4)
    at = np.unravel_index(np.argmin(frame.u**2 + (frame.v - 0.5) ** 2), mask.shape)
    head = np.where(parts == parts[at], 255, 0).astype(np.uint8)
    outside = cv2.copyMakeBorder(head, 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)
    cv2.floodFill(outside, None, (0, 0), 128)
    head[outside[1:-1, 1:-1] == 0] = 255
    return head


HEAD_CLASSES = (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 17, 18)  # CelebAMask-HQ: not neck 14, necklace 15, cloth 16


@lru_cache(maxsize=2)
def _parser(path: str) -> cv2.dnn.Net:
    return cv2.dnn.readNetFromONNX(path)


def parse_head(rgb: np.ndarray, parser: Path) -> np.ndarray:
    """Head mask by a face-parsing network: input [1, 3, 512, 512] ImageNet-normalised, output [1, 19, H, W] logits.

    Returns:
        uint8 [R, R], 0 or 255.
    """
    picture = cv2.resize(rgb, (512, 512), interpolation=cv2.INTER_CUBIC).astype(np.float32) / 255
    picture = (picture - np.array([0.485, 0.456, 0.406])) / np.array([0.229, 0.224, 0.225])
    net = _parser(str(parser))
    net.setInput(np.ascontiguousarray(picture.transpose(2, 0, 1)[None], dtype=np.float32))
    labels = net.forward()[0].argmax(0)
    head = np.where(np.isin(labels, HEAD_CLASSES), 255, 0).astype(np.uint8)
    return cv2.resize(head, (rgb.shape[1], rgb.shape[0]), interpolation=cv2.INTER_AREA)
