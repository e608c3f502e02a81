"""What the faces of a drawn set look like, learnt so that adding a few pictures rarely changes it.

Everything here is decided by hashes of the patches themselves: a template is the mean of a handful of its cluster's
patches, those with the smallest hashes, and limits are rounded to a coarse grid. One more picture changes a template
only when its own hash is among the smallest, so what was computed with the others can be kept (places.py).
"""

import hashlib
import math
from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np

from stages.faces.detect import Face

GAP = 16  # eye distance in a patch, pixels
LEFT, UP, RIGHT, DOWN = 1.05, 0.55, 1.05, 1.05  # reach of a patch around the eyes' centre, in eye distances
PATCH = (round((LEFT + RIGHT) * GAP), round((UP + DOWN) * GAP))  # width, height
ALIKE = 0.72  # correlation of two patches that show the same kind of face
LEAST_SHARE, LEAST_COUNT = 0.01, 4  # a template must recur in this share and number of the pictures
MOST_TEMPLATES = 12
MOST_PICTURES = 1000  # pictures learnt from: comparing all candidates of 10,000 would take gigabytes
EXEMPLARS = 8  # patches in a template's mean; more are hardly smoother but change more often
CORE = 9  # tenths of the greatest density that a cluster's typical patches have
# Correlation of a face with its mirror image; Fluent heads, slightly turned: 0.3 to 0.75, Noto 0.5 to 0.98
SYMMETRIC = 0.25
STEP = 1.2  # limits are rounded to powers of this


@dataclass(frozen=True)
class Candidate:
    """A place that may be a face.

    patch: float32 [h * w], zero mean, unit norm; support: passes that agreed; contrast: the patch's standard deviation
    in grey levels; reach: eye distance over the picture's shorter side.
    """

    face: Face
    patch: np.ndarray
    support: int
    contrast: float
    reach: float


@dataclass(frozen=True)
class Look:
    """What the faces of a set look like.

    Attributes:
        templates: patches of recurring faces, unit-norm float32 [h, w], the most frequent first; may be empty.
        contrast: standard deviation (grey levels) below which a patch is too flat to be one of these faces.
        reach: smallest and largest eye distance, as shares of the picture's shorter side.
    """

    templates: list[np.ndarray]
    contrast: float = 0.0
    reach: tuple[float, float] = (0.07, 0.5)

    def names(self) -> list[str]:
        """One name per template, telling apart whatever a search with it depends on."""
        limits = np.array([self.contrast, *self.reach]).tobytes()
        return [hashlib.blake2b(t.tobytes() + limits, digest_size=8).hexdigest() for t in self.templates]


def learn_look(candidates: dict[str, list[Candidate]]) -> Look:
    """What recurs around two eyes over the candidates of a set, by file name; the names do not matter."""
    groups = sorted((group for group in candidates.values() if group), key=lambda group: min(map(_rank, group)))
    groups = groups[:MOST_PICTURES]
    pool = [c for group in groups for c in group]
    owner = np.array([i for i, group in enumerate(groups) for _ in group])
    if len(pool) < LEAST_COUNT:
        return Look([])
    ranks = [_rank(c) for c in pool]
    patches = np.stack([c.patch for c in pool])
    # candidates that several passes agree on count more than chance finds
    votes = np.minimum([c.support for c in pool], 3).astype(np.float32)
    alike = (patches @ patches.T > ALIKE).astype(np.float32)
    least = max(LEAST_COUNT, LEAST_SHARE * min(len(candidates), MOST_PICTURES))
    shaped = patches.reshape(-1, PATCH[1], PATCH[0])
    # a torso or a half-hidden face may recur as well, but it is not the same on both sides
    free = (shaped * shaped[:, :, ::-1]).sum(axis=(1, 2)) > SYMMETRIC
    templates: list[np.ndarray] = []
    used: set[int] = set()
    while len(templates) < MOST_TEMPLATES and free.any():
        density = (alike @ (votes * free)) * free
        dense = np.flatnonzero(10 * density >= CORE * density.max())
        # among about equally typical patches the hash decides: the very densest one changes with every picture
        seed = min(dense, key=lambda i: ranks[i])
        members = (alike[seed] > 0) & free
        if len(np.unique(owner[members])) < least:
            break
        core = np.flatnonzero(members & (10 * density >= CORE * density[members].max()))
        mean = patches[sorted(core, key=lambda i: ranks[i])[:EXEMPLARS]].mean(axis=0)
        templates.append((mean / np.linalg.norm(mean)).reshape(PATCH[1], PATCH[0]))
        free &= ~members
        used |= set(np.flatnonzero(members).tolist())
    taken = [pool[i] for i in sorted(used)]
    if not taken:
        return Look([])
    low, high = np.percentile([c.reach for c in taken], [2, 98])
    contrast = 0.65 * float(np.percentile([c.contrast for c in taken], 5))
    return Look(templates, _grid(contrast, math.floor), (_grid(0.93 * low, math.floor), _grid(1.07 * high, math.ceil)))


def _rank(candidate: Candidate) -> bytes:
    return hashlib.blake2b(candidate.patch.tobytes(), digest_size=8).digest()


def _grid(value: float, towards: Callable[[float], int]) -> float:
    """``value`` rounded ``towards`` a power of STEP; 0 stays 0."""
    return STEP ** towards(math.log(value) / math.log(STEP)) if value > 0 else 0.0


def patch_at(grey: np.ndarray, face: Face, zoom: float = 1.0, margin: float = 0.0) -> np.ndarray:
    """Grey values around a face's eyes in its own frame, float32 [h, w]; ``margin`` eye distances more all round."""
    left, right = np.array(face.eye_l), np.array(face.eye_r)
    centre, across = (left + right) / 2, (right - left) * zoom / GAP
    extra = round(margin * GAP)
    # source = centre + (x - origin) * across + (y - origin) * down
    down = np.array([-across[1], across[0]])
    origin = np.array([LEFT * GAP + extra, UP * GAP + extra])
    matrix = np.column_stack([across, down, centre - origin[0] * across - origin[1] * down])
    step = float(np.hypot(*across))
    if step > 1.5:  # antialias
        grey = cv2.GaussianBlur(grey, (0, 0), 0.4 * step)
    size = (PATCH[0] + 2 * extra, PATCH[1] + 2 * extra)
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return cv2.warpAffine(grey, matrix, size, flags=flags, borderMode=cv2.BORDER_REPLICATE).astype(np.float32)
