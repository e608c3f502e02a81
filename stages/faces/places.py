"""The face of one drawing, given what the set's faces look like; remembered per picture and template.

What a template finds in a picture depends on those two alone, so a template that stays (look.py) costs nothing in
pictures that stay.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from typing import Any

import cv2
import numpy as np

from stages.faces.detect import Face
from stages.faces.locate import face_at, face_in_alpha, on_grey
from stages.faces.look import GAP, LEFT, PATCH, UP, Look, patch_at

SURE, FOUND = 0.62, 0.58  # correlation with a template: of a detector's candidate, of a place found by the template
# Share of a patch that lies inside the drawing. The top of a head against nothing recurs as well, and so do faces taken
# for larger than they are: Noto's heads have 0.97 and more, hair tops 0.82 to 0.89.
OPAQUE = 0.92
MOUTH = 0.95  # eyes to mouth in eye distances, where only a template found the face
Place = tuple[Face, float]  # a face and its correlation with a template


def choose_face(picture: np.ndarray, faces: Sequence[Face], look: Look) -> tuple[Face | None, float]:
    """:func:`recall_face` of a picture at hand, uint8 [H, W, 3 or 4], nothing remembered."""
    return recall_face(lambda: picture, faces, look, {})


def recall_face(
    load: Callable[[], np.ndarray], faces: Sequence[Face], look: Look, memory: dict[str, Any]
) -> tuple[Face | None, float]:
    """The face of one drawing.

    Args:
        load: gives the picture, uint8 [H, W, 3] RGB or [H, W, 4] RGBA; called only if something is not remembered.
        faces: the detector's candidates, best first.
        look: what the set's faces look like; without templates the detector's first candidate is taken.
        memory: what earlier calls with this picture and these candidates found, by template; added to, JSON-friendly.

    Returns:
        The face, refined, and its likeness to the set's look (correlation); None and 0 when nothing is found.
    """
    if not look.templates:
        return (faces[0], 0.0) if faces else (_by_alpha(load, memory), 0.0)
    best = _recall(load, look, memory, "refined", lambda picture, part: _refine_all(picture, faces, part))
    if best is not None and best[1] >= SURE:
        return best
    searched = _recall(load, look, memory, "searched", _search_all)
    if searched is not None and (best is None or searched[1] > best[1]):
        return searched
    # unlike the rest of the set (another expression, a mask): a detector that is sure may still be right
    sure = [face for face in faces if face.method == "yunet" and face.score >= 0.75]
    return (sure[0], 0.0) if sure else (None, 0.0)


def _recall(
    load: Callable[[], np.ndarray],
    look: Look,
    memory: dict[str, Any],
    kind: str,
    work: Callable[[np.ndarray, Look], list[Place | None]],
) -> Place | None:
    """The best place over the look's templates; ``work`` is asked for the templates not in the memory, all at once."""
    known = memory.setdefault(kind, {})
    names = look.names()
    missing = [i for i, name in enumerate(names) if name not in known]
    if missing:
        part = replace(look, templates=[look.templates[i] for i in missing])
        for i, place in zip(missing, work(load(), part), strict=True):
            known[names[i]] = [asdict(place[0]), place[1]] if place else None
    places = [known[name] for name in names if known[name]]
    if not places:
        return None
    face, likeness = max(places, key=lambda place: place[1])
    return _face(face), likeness


def _by_alpha(load: Callable[[], np.ndarray], memory: dict[str, Any]) -> Face | None:
    if "alpha" not in memory:
        picture = load()
        face = face_in_alpha(picture[..., 3]) if picture.shape[2] == 4 else None
        memory["alpha"] = asdict(face) if face else None
    return _face(memory["alpha"]) if memory["alpha"] else None


def _face(stored: dict[str, Any]) -> Face:
    """A remembered face; JSON made lists of its points."""
    values: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in stored.items()
    }
    return Face(**values)


def _refine_all(picture: np.ndarray, faces: Sequence[Face], look: Look) -> list[Place | None]:
    """Per template the candidate that fits it best, refined; None where none lies inside the drawing."""
    grey = cv2.cvtColor(on_grey(picture), cv2.COLOR_RGB2GRAY)
    best: list[Place | None] = [None] * len(look.templates)
    for face in faces:
        for i, place in enumerate(refine(grey, face, look)):
            if inside(picture, place[0]) and place[1] > (known[1] if (known := best[i]) else -np.inf):
                best[i] = place
    return best


def _search_all(picture: np.ndarray, look: Look) -> list[Place | None]:
    """Per template the most similar place of the whole picture, refined; None where it is not similar enough."""
    grey = cv2.cvtColor(on_grey(picture), cv2.COLOR_RGB2GRAY)
    found = search(grey, look, picture[..., 3] if picture.shape[2] == 4 else None)
    return [
        refine(grey, place[0], replace(look, templates=[template]))[0] if place and place[1] >= FOUND else None
        for template, place in zip(look.templates, found, strict=True)
    ]


def refine(grey: np.ndarray, face: Face, look: Look) -> list[Place]:
    """Moves and scales a face to where a template fits best nearby; per template, with the correlation there.

    ``grey`` is uint8 [H, W].
    """
    gap = float(np.hypot(face.eye_r[0] - face.eye_l[0], face.eye_r[1] - face.eye_l[1]))
    best = [(face, -1.0)] * len(look.templates)
    for zoom in (0.8, 0.87, 0.93, 1.0, 1.07, 1.15, 1.25):
        region = patch_at(grey, face, zoom, margin=0.3)
        if region.std() < look.contrast:
            continue
        for i, template in enumerate(look.templates):
            scores = cv2.matchTemplate(region, template, cv2.TM_CCOEFF_NORMED)
            _, score, _, (x, y) = cv2.minMaxLoc(scores)
            # off the detector's place only for a clear gain
            shift = np.array([x, y]) - (np.array(scores.shape[::-1]) - 1) / 2
            worth = float(score - 0.004 * float(np.hypot(*shift)) - 0.15 * abs(np.log(zoom)))
            if worth > best[i][1]:
                best[i] = _shifted(face, shift * gap * zoom / GAP, zoom), worth
    return best


def _shifted(face: Face, shift: np.ndarray, zoom: float) -> Face:
    left, right = np.array(face.eye_l), np.array(face.eye_r)
    across = (right - left) / max(float(np.linalg.norm(right - left)), 1e-6)
    turn = np.array([[across[0], -across[1]], [across[1], across[0]]])
    centre = (left + right) / 2
    to = centre + turn @ shift

    def move(point: tuple[float, float]) -> tuple[float, float]:
        x, y = to + zoom * (np.array(point) - centre)
        return float(x), float(y)

    x, y, w, h = face.box
    box = (*move((x, y)), w * zoom, h * zoom)
    mouth = move(face.mouth) if face.mouth else None
    nose = move(face.nose) if face.nose else None
    return replace(face, box=box, eye_l=move(face.eye_l), eye_r=move(face.eye_r), mouth=mouth, nose=nose)


def search(grey: np.ndarray, look: Look, alpha: np.ndarray | None = None) -> list[Place | None]:
    """Per template the place in an upright drawing that looks most like it, with its correlation.

    Args:
        grey: uint8 [H, W]; alpha: uint8 [H, W], None for an opaque picture.

    Returns:
        One entry per template; None where no patch fits into the picture at all.
    """
    short = min(grey.shape)
    best: list[Place | None] = [None] * len(look.templates)
    for gap in np.geomspace(look.reach[0] * short, look.reach[1] * short, 10):
        scale = GAP / gap
        size = max(1, round(grey.shape[1] * scale)), max(1, round(grey.shape[0] * scale))
        small = cv2.resize(grey, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
        if small.shape[0] < PATCH[1] or small.shape[1] < PATCH[0]:
            continue
        small = small.astype(np.float32)
        flat = _spread(small) < look.contrast
        if alpha is not None:
            solid = cv2.resize(alpha, size, interpolation=cv2.INTER_AREA).astype(np.float32) / 255
            flat |= _mean(solid) < OPAQUE
        for i, template in enumerate(look.templates):
            scores = cv2.matchTemplate(small, template, cv2.TM_CCOEFF_NORMED)
            scores[flat] = -1  # correlation alone would take any faint gradient for a face
            _, score, _, (x, y) = cv2.minMaxLoc(scores)
            if score > (known[1] if (known := best[i]) else -np.inf):
                cx, cy = (x + LEFT * GAP) / scale, (y + UP * GAP) / scale
                eye_l, eye_r, mouth = (cx - gap / 2, cy), (cx + gap / 2, cy), (cx, cy + MOUTH * gap)
                # a rounded score: a template that changed a little and finds the same place changes nothing further on
                best[i] = face_at(eye_l, eye_r, mouth, "set", round(float(score), 1)), float(score)
    return best


def _spread(grey: np.ndarray) -> np.ndarray:
    """Standard deviation under a patch at every place where one fits, float32 [H - h + 1, W - w + 1]."""
    mean = _mean(grey)
    return np.sqrt(np.maximum(_mean(grey * grey) - mean * mean, 0))


def _mean(values: np.ndarray) -> np.ndarray:
    """Mean under a patch at every place where one fits, float32 [H - h + 1, W - w + 1]."""
    ones = np.full((PATCH[1], PATCH[0]), 1 / (PATCH[0] * PATCH[1]), np.float32)
    return cv2.matchTemplate(values, ones, cv2.TM_CCORR)


def inside(picture: np.ndarray, face: Face) -> bool:
    """Whether the surroundings of a face's eyes are drawn, uint8 [H, W, 3 or 4]; always so without transparency."""
    return picture.shape[2] == 3 or float(patch_at(picture[..., 3], face).mean()) >= 255 * OPAQUE
