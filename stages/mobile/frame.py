"""One photo or video frame: faces found → aligned → stylised → pasted back at the photo's own size."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from stages.common.errors import InputError
from stages.faces.align import align, ffhq_quad, paste_back, quad_side
from stages.faces.detect import Face, FaceDetector, shrink
from stages.mobile.runtime import MobileStylizer
from stages.mobile.upscale import enlarge

FINE_SIDE = 1280  # longest side searched for small faces: finds eyes 10 pixels apart in a 1080p group
TILE = 360  # side of the tiles for Haar
CREDIBLE = 0.6  # share of the best score that makes a face found in a tile sure; below are collars and patterns, too
FAINT = 0.25  # share that suffices for a face at least half as large as the largest sure one: groups stand side by side
MIN_EYES = 8.0  # pixels between the eyes; below that a face has no detail to draw from
LARGEST = 1024  # side to which a drawn face is enlarged with the photo's detail; above that plainly
SAME_FACE = 0.5  # two finds are one face when their eyes lie closer than this share of the eye distance


@dataclass(frozen=True)
class Options:
    """How to treat pictures.

    Attributes:
        all_faces: every face, else only the largest.
        strength: 0 leaves the photo, 1 is the full style.
        whole_frame: no face search, the frame itself is stylised (an aligned face, or a face filling the frame).
    """

    all_faces: bool = False
    strength: float = 1.0
    whole_frame: bool = False


class FrameStylizer:
    """Stylises faces in pictures of any size.

    Args:
        stylizer: the model. options: see :class:`Options`. root: where models/external may hold detector weights.
    """

    def __init__(self, stylizer: MobileStylizer, options: Options, root: Path | None = None) -> None:
        self.stylizer, self.options = stylizer, options
        self.detector = None if options.whole_frame else FaceDetector(root=root)

    def __call__(self, rgb: np.ndarray) -> tuple[np.ndarray, int]:
        """uint8 [H, W, 3] → (uint8 [H, W, 3], faces stylised). Pixels outside the heads are the photo's exactly."""
        if self.options.whole_frame:
            return self.whole(rgb), 1
        quads = self.quads(rgb)
        for quad in quads:
            rgb = self.paste(rgb, quad)
        return rgb, len(quads)

    def quads(self, rgb: np.ndarray) -> list[np.ndarray]:
        """FFHQ crops float64 [4, 2] of the faces to stylise in uint8 [H, W, 3], largest first."""
        faces = self.faces(rgb)
        return [ffhq_quad(face.eye_l, face.eye_r, face.mouth) for face in faces]

    def faces(self, rgb: np.ndarray) -> list[Face]:
        """Faces to stylise in uint8 [H, W, 3], largest first: all with ``all_faces``, else one or none."""
        assert self.detector is not None
        faces = self.detector.detect(rgb)
        if self.options.all_faces and max(rgb.shape[:2]) > 640:
            # the detector stops at the first scale that shows any face; in groups the small ones need a closer look
            faces = _merged([*faces, *small_faces(rgb, self.detector, faces)])
        faces = [face for face in faces if _eye_distance(face) >= MIN_EYES]
        return faces if self.options.all_faces else faces[:1]

    def paste(self, rgb: np.ndarray, quad: np.ndarray) -> np.ndarray:
        """The photo, uint8 [H, W, 3], with the face in ``quad``, float [4, 2], stylised."""
        crop = align(rgb, quad, self.stylizer.size)
        styled, mask = self.stylizer.run(crop)
        side = min(round(quad_side(quad)), LARGEST)
        if side > self.stylizer.size:
            styled = enlarge(crop, styled, align(rgb, quad, side))
        return paste_back(rgb, styled, mask * self.options.strength, quad)

    def whole(self, rgb: np.ndarray) -> np.ndarray:
        """The frame, uint8 [H, W, 3], as one crop, scaled so that its short side is what the model was trained for."""
        height, width = rgb.shape[:2]
        content = self.stylizer.sidecar.content
        multiple, size = int(content["multiple"]), self.stylizer.size
        scale = size / min(height, width)
        small = tuple(max(multiple, round(side * scale / multiple) * multiple) for side in (width, height))
        if not content["dynamic"] or max(small) > 8 * size:
            small = (size, size)
        how = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
        small_rgb = cv2.resize(rgb, small, interpolation=how)
        styled, mask = self.stylizer.run(small_rgb)
        styled = enlarge(small_rgb, styled, rgb)
        share = cv2.resize(mask, (width, height), interpolation=cv2.INTER_LINEAR)[..., None] * self.options.strength
        mixed = (rgb * (1 - share) + styled * share + 0.5).clip(0, 255).astype(np.uint8)
        return np.where(share > 0, mixed, rgb)


def small_faces(rgb: np.ndarray, detector: FaceDetector, known: Sequence[Face] = ()) -> list[Face]:
    """Faces of a large picture, uint8 [H, W, 3], searched at :data:`FINE_SIDE`; by Haar in overlapping tiles.

    The Haar finder looks for nothing below a fifth of what it is given, hence tiles. A tile without a face offers its
    best mistake, hence the comparison with the best score anywhere, ``known`` faces of the whole picture included.
    """
    fine, scale = shrink(rgb, FINE_SIDE)
    if detector.name != "haar":
        return [face.moved(1 / scale, 0, 0) for face in detector.find(fine)]
    faces = []
    for y in range(0, max(fine.shape[0] - TILE // 2, 1), TILE // 2):
        for x in range(0, max(fine.shape[1] - TILE // 2, 1), TILE // 2):
            tile = np.ascontiguousarray(fine[y : y + TILE, x : x + TILE])
            faces += [face.moved(1 / scale, x / scale, y / scale) for face in detector.find(tile)]
    best = max((face.score for face in [*faces, *known]), default=0.0)
    sure = [face for face in [*faces, *known] if face.score >= CREDIBLE * best]
    least = max((_eye_distance(face) for face in sure), default=0.0) / 2
    return [f for f in faces if f.score >= (FAINT if _eye_distance(f) >= least else CREDIBLE) * best]


def require_faces(count: int, name: object) -> None:
    """InputError when no face was found in ``name``."""
    if count == 0:
        raise InputError(f"{name}: no face found; --whole-frame stylises the picture as it is")


def _eye_distance(face: Face) -> float:
    return float(np.hypot(face.eye_r[0] - face.eye_l[0], face.eye_r[1] - face.eye_l[1]))


def _merged(faces: list[Face]) -> list[Face]:
    """Each face once, largest first; of two finds of one face the surer one stays."""
    kept: list[Face] = []
    for face in sorted(faces, key=lambda f: -f.score):
        centre = np.add(face.eye_l, face.eye_r) / 2
        distances = [np.hypot(*(np.add(f.eye_l, f.eye_r) / 2 - centre)) for f in kept]
        if all(
            d > SAME_FACE * max(_eye_distance(f), _eye_distance(face)) for d, f in zip(distances, kept, strict=True)
        ):
            kept.append(face)
    return sorted(kept, key=lambda f: -f.box[2] * f.box[3])
