"""Drawings with the same outline have their eyes at the same place: variants of a design share what is known of one."""

from collections.abc import Sequence

import cv2
import numpy as np

from stages.faces.detect import Face

SIDE = 32  # silhouettes are compared at this size
SAME_OUTLINE = 0.96  # overlap (IoU) of two silhouettes of one drawing in two colours
TRUSTED = 0.75  # correlation with the set's look from which a place counts as known
NEAR = 0.2  # eye distances within which two places agree


def silhouette(picture: np.ndarray) -> np.ndarray | None:
    """Opaque parts of RGBA uint8 [H, W, 4], bool [32, 32]; None without transparency to speak of."""
    if picture.shape[2] != 4:
        return None
    small = cv2.resize(picture[..., 3], (SIDE, SIDE), interpolation=cv2.INTER_AREA) >= 128
    return small if 0.02 < small.mean() < 0.98 else None


def share(
    faces: Sequence[Face | None],
    likeness: Sequence[float],
    outlines: Sequence[np.ndarray | None],
    sizes: Sequence[tuple[int, int]],
) -> list[Face | None]:
    """Faces in which pictures without a trusted place take that of pictures with their outline.

    Args:
        faces, likeness: what was found in each picture and its correlation with the set's look.
        outlines: :func:`silhouette` of each picture, bool [h, w].
        sizes: (height, width) of each picture; only equal sizes are compared.
    """
    result = list(faces)
    known = [i for i, outline in enumerate(outlines) if outline is not None]
    if not known:
        return result
    flat = np.stack([np.asarray(outlines[i]).ravel() for i in known]).astype(np.float32)
    area = flat.sum(axis=1)
    for row, i in enumerate(known):
        common = flat @ flat[row]
        overlap = common / (area + area[row] - common)
        alike = [known[j] for j in np.flatnonzero(overlap >= SAME_OUTLINE) if sizes[known[j]] == sizes[i]]
        agreed = _agreed([f for j in alike if likeness[j] >= TRUSTED and (f := faces[j]) is not None])
        if agreed is None:
            continue
        mine = faces[i]
        if mine is None or likeness[i] < TRUSTED or (_apart(mine, agreed[0]) > NEAR and agreed[1] >= 3):
            result[i] = agreed[0]
    return result


def _agreed(faces: Sequence[Face]) -> tuple[Face, int] | None:
    """The face most others agree with, and how many do (itself included); None when half or more disagree."""
    if not faces:
        return None
    votes = [sum(_apart(a, b) <= NEAR for b in faces) for a in faces]
    best = int(np.argmax(votes))
    return (faces[best], votes[best]) if 2 * votes[best] > len(faces) else None


def _apart(a: Face, b: Face) -> float:
    """Largest distance between the eyes of two faces, in eye distances of the second."""
    p, q = np.array([a.eye_l, a.eye_r]), np.array([b.eye_l, b.eye_r])
    return float(np.linalg.norm(p - q, axis=1).max() / max(np.linalg.norm(q[1] - q[0]), 1e-6))
