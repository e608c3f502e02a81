"""Where the faces of one picture are: by landmarks.csv, detection, silhouette or simply in the centre."""

from collections.abc import Sequence
from pathlib import Path, PurePath
from typing import Any

import cv2
import numpy as np

from stages.common.errors import InputError
from stages.common.tables import read_table
from stages.faces.align import CANON_EYE_L, CANON_EYE_R, CANON_MOUTH
from stages.faces.detect import Face, FaceDetector, shrink

LANDMARKS = "landmarks.csv"
_POINTS = ("eye_l_x", "eye_l_y", "eye_r_x", "eye_r_y")

# A head's eyes in its silhouette's box, as shares of it: medians over the base heads of the Fluent and Noto emoji.
ALPHA_EYE_Y, ALPHA_EYE_GAP, ALPHA_MOUTH = 0.56, 0.36, 0.22


def read_landmarks(folder: Path) -> dict[str, Face]:
    """``landmarks.csv`` of a picture folder: columns file, eye_l_x, eye_l_y, eye_r_x, eye_r_y[, mouth_x, mouth_y].

    Its sub-folders' are read as well, their files taken relative to them: ``stylefactory photos DIR`` puts DIR one
    level down. Where two tables name a picture, the upper one counts. Hidden folders are left out, as with pictures.

    Positions in pixels of the picture as it is shown (after EXIF rotation), left and right as seen in it.

    Returns:
        Faces by file name relative to ``folder``; empty when there is no such file.

    Raises:
        InputError: a file cannot be read or lacks a column.
    """
    inside = [path.relative_to(folder) for path in folder.rglob(LANDMARKS) if path.is_file()]
    seen = sorted(path for path in inside if not any(part.startswith(".") for part in path.parts))
    faces: dict[str, Face] = {}
    for path in sorted(seen, key=lambda path: -len(path.parts)):
        faces |= {(path.parent / name).as_posix(): face for name, face in _read_table(folder / path).items()}
    return faces


def below_landmarks(files: Sequence[Path], folder: Path, known: dict[str, Face]) -> set[Path]:
    """Those of ``files`` (below ``folder``) that a ``landmarks.csv`` with rows in their folder or above is meant for.

    Args:
        known: what :func:`read_landmarks` found in ``folder``.
    """
    named = {folder / above for name in known for above in PurePath(name).parents}
    homes = {above for file in files for above in file.parents if above in named}
    homes = {home for home in homes if (home / LANDMARKS).is_file()}
    return {file for file in files if not homes.isdisjoint(file.parents)}


def _read_table(path: Path) -> dict[str, Face]:
    table = read_table(path, {"file": str}, ("file", *_POINTS))
    try:
        points = table.reindex(columns=[*_POINTS, "mouth_x", "mouth_y"]).astype(float).to_numpy()
    except ValueError as error:
        raise InputError(f"{path}: a position is no number ({' '.join(str(error).split())})") from error
    usable = table["file"].notna().to_numpy() & np.isfinite(points[:, :4]).all(axis=1)
    faces = {}
    for file, place in zip(table["file"][usable], points[usable], strict=True):
        eyes = sorted([place[:2].tolist(), place[2:4].tolist()])
        mouth = place[4:].tolist() if np.isfinite(place[4:]).all() else None
        faces[str(file)] = face_at(eyes[0], eyes[1], mouth, "landmarks")
    return faces


def face_at(eye_l: Any, eye_r: Any, mouth: Any, method: str, score: float = 1.0) -> Face:
    """A face from its points; the box is the face's usual extent around them."""
    left, right = np.asarray(eye_l, float), np.asarray(eye_r, float)
    centre, gap = (left + right) / 2, float(np.linalg.norm(right - left))
    box = (centre[0] - 1.15 * gap, centre[1] - 0.95 * gap, 2.3 * gap, 2.8 * gap)
    point = (float(mouth[0]), float(mouth[1])) if mouth is not None else None
    return Face(box, (float(left[0]), float(left[1])), (float(right[0]), float(right[1])), point, score, None, method)


def face_in_centre(shape: tuple[int, ...]) -> Face:
    """The face of a picture that is already framed like an FFHQ crop: the centred square is the crop."""
    h, w = shape[:2]
    side = min(h, w)
    corner = np.array([(w - side) / 2, (h - side) / 2])
    eye_l, eye_r, mouth = (corner + side * np.array(p) for p in (CANON_EYE_L, CANON_EYE_R, CANON_MOUTH))
    return face_at(eye_l, eye_r, mouth, "center")


def face_in_alpha(alpha: np.ndarray) -> Face | None:
    """The face guessed from a head's silhouette: usual proportions of a drawn head in its box; None for an empty one.

    ``alpha`` is uint8 [H, W].
    A bust is cut below the head first, at its neck: the narrowest row above wider ones.
    """
    solid = alpha >= 128
    rows = np.flatnonzero(solid.any(axis=1))
    if len(rows) < 8:
        return None
    widths = solid[rows[0] : rows[-1] + 1].sum(axis=1).astype(float)
    bottom = _head_bottom(widths)
    head = solid[rows[0] : rows[0] + bottom]
    columns = np.flatnonzero(head.any(axis=0))
    x, w, y, h = columns[0], columns[-1] + 1 - columns[0], rows[0], bottom
    gap = ALPHA_EYE_GAP * min(w, h)
    centre_x, eye_y = x + w / 2, y + ALPHA_EYE_Y * h
    return face_at(
        (centre_x - gap / 2, eye_y), (centre_x + gap / 2, eye_y), (centre_x, eye_y + ALPHA_MOUTH * h), "alpha", 0.3
    )


def _head_bottom(widths: np.ndarray) -> int:
    """Rows of the head: up to the narrowest row in the middle of the figure if that is a neck, else all of it."""
    n = len(widths)
    low, high = n // 3, max(n * 5 // 6, n // 3 + 1)
    neck = low + int(np.argmin(widths[low:high]))
    above, below = widths[:neck].max(initial=0), widths[neck:].max(initial=0)
    return neck if widths[neck] < 0.72 * above and below > 1.2 * widths[neck] else n


# longest side, padding as a share of it; cascades cost more per pixel and lose little between two scales
DRAWN_PASSES = {
    "yunet": ((256, 0.0), (160, 0.3), (256, 0.3), (112, 0.5)),
    "haar": ((128, 0.25), (208, 0.25)),
}


def find_drawn(picture: np.ndarray, detector: FaceDetector) -> list[Face]:
    """Everything the detector takes for a face in a drawing, over several scales and paddings, best first.

    Args:
        picture: uint8 [H, W, 3] RGB or [H, W, 4] RGBA (put on grey).
    """
    rgb = on_grey(picture)
    faces = []
    for side, pad in DRAWN_PASSES[detector.name]:
        small, scale = shrink(rgb, side)
        margin = round(pad * side)
        if margin:
            edge = cv2.BORDER_CONSTANT if picture.shape[2] == 4 else cv2.BORDER_REPLICATE
            small = cv2.copyMakeBorder(small, margin, margin, margin, margin, edge, value=(GREY, GREY, GREY))
        found = sorted(detector.find(small), key=lambda face: -face.score)[:3]
        faces += [face.moved(1 / scale, -margin / scale, -margin / scale) for face in found]
    return sorted(faces, key=lambda face: -face.score)


GREY = 160


def on_grey(picture: np.ndarray) -> np.ndarray:
    """RGBA uint8 [H, W, 4] on a middle grey that neither light nor dark drawings vanish in; RGB [H, W, 3] as it is."""
    if picture.shape[2] == 3:
        return picture
    weight = picture[..., 3:].astype(np.float32) / 255
    return (picture[..., :3] * weight + GREY * (1 - weight) + 0.5).astype(np.uint8)
