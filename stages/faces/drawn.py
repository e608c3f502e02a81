"""Drawn faces: the pictures of a set help each other.

A detector made for photos misses many drawings and takes some patterns for faces. But a style draws its faces alike:
what recurs around two eyes in many pictures *is* a face. So the detector's candidates vote. Patches around their eyes
are compared; the densest ones become templates; candidates are judged by their likeness to a template instead of the
detector's score, pictures without a good candidate are searched with the templates, and every position is refined by
them. A set without recurring faces falls back to the detector's own order.
"""

import base64
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from stages.common.errors import ImageError
from stages.common.images import decode_image
from stages.common.mapshards import map_shards
from stages.faces.cache import PictureCache, cache_key
from stages.faces.detect import Face
from stages.faces.ingest import CACHE, SHARD, Options, detector_of
from stages.faces.locate import face_at, face_in_alpha, find_drawn, on_grey
from stages.faces.siblings import share, silhouette

GAP = 16  # eye distance in a patch, pixels
LEFT, UP, RIGHT, DOWN = 1.05, 0.55, 1.05, 1.05  # reach of a patch around the eyes' centre, in eye distances
PATCH = (round((LEFT + RIGHT) * GAP), round((UP + DOWN) * GAP))  # width, height
ALIKE = 0.72  # correlation of two patches that show the same kind of face
SURE, FOUND = 0.62, 0.58  # correlation with a template: of a detector's candidate, of a place found by the template
LEAST_SHARE, LEAST_COUNT = 0.01, 4  # a template must recur in this share and number of the pictures
MOST_TEMPLATES = 12
SYMMETRIC = (
    0.25  # correlation of a face with its mirror image; Fluent heads, slightly turned: 0.3 to 0.75, Noto 0.5 to 0.98
)
# Share of a patch that lies inside the drawing. The top of a head against nothing recurs as well, and so do faces taken
# for larger than they are: Noto's heads have 0.97 and more, hair tops 0.82 to 0.89.
OPAQUE = 0.92
MOUTH = 0.95  # eyes to mouth in eye distances, where only a template found the face


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


def locate_drawn(files: Sequence[Path], folder: Path, options: Options, root: Path) -> dict[str, Face]:
    """The face of every picture of a style set where one is found, by file name relative to ``folder``.

    The chosen faces depend on the whole set; detection itself is cached per picture.
    """
    names = [path.relative_to(folder).as_posix() for path in files]
    base = {"folder": str(folder), "options": asdict(options), "root": str(root)}
    parts = [base | {"files": names[i : i + SHARD]} for i in range(0, len(names), SHARD)]
    workers = 1 if len(files) <= SHARD else None
    found = [row for part in map_shards(_candidates_shard, parts, workers, label="drawn faces") for row in part]
    candidates = {row["file"]: [_unpack(c) for c in row["candidates"]] for row in found if "candidates" in row}
    look = learn_look(candidates)
    stored = [base64.b64encode(t.astype(np.float32).tobytes()).decode() for t in look.templates]
    seen = {"templates": stored, "contrast": look.contrast, "reach": list(look.reach)}
    shards = []
    for part in parts:
        known = [
            {"file": name, "faces": [asdict(c.face) for c in candidates[name]]}
            for name in part["files"]
            if name in candidates
        ]
        shards.append(base | {"pictures": known, "look": seen})
    placed = [row for part in map_shards(_place_shard, shards, workers, label="placing") for row in part]
    faces = share(
        [Face(**row["face"]) if row["face"] else None for row in placed],
        [row["likeness"] for row in placed],
        [np.array(row["outline"], bool).reshape(32, 32) if row["outline"] else None for row in placed],
        [tuple(row["size"]) for row in placed],
    )
    return {row["file"]: face for row, face in zip(placed, faces, strict=True) if face is not None}


def learn_look(candidates: dict[str, list[Candidate]]) -> Look:
    """What recurs around two eyes over the candidates of a set, by file name."""
    pool = [c for group in candidates.values() for c in group]
    owner = np.array([i for i, group in enumerate(candidates.values()) for _ in group])
    if len(pool) < LEAST_COUNT:
        return Look([])
    patches = np.stack([c.patch for c in pool])
    # candidates that several passes agree on count more than chance finds
    votes = np.minimum([c.support for c in pool], 3) / 3
    alike = patches @ patches.T > ALIKE
    least = max(LEAST_COUNT, LEAST_SHARE * len(candidates))
    templates: list[np.ndarray] = []
    used: set[int] = set()
    shaped = patches.reshape(-1, PATCH[1], PATCH[0])
    # a torso or a half-hidden face may recur as well, but it is not the same on both sides
    free = (shaped * shaped[:, :, ::-1]).sum(axis=(1, 2)) > SYMMETRIC
    while len(templates) < MOST_TEMPLATES:
        density = (alike[:, free] * votes[free]).sum(axis=1) * free
        best = int(np.argmax(density))
        members = alike[best] & free
        if len(np.unique(owner[members])) < least:
            break
        mean = patches[members].mean(axis=0)
        templates.append((mean / np.linalg.norm(mean)).reshape(PATCH[1], PATCH[0]))
        free &= ~members
        used |= set(np.flatnonzero(members).tolist())
    taken = [pool[i] for i in sorted(used)]
    if not taken:
        return Look([])
    reach = np.percentile([c.reach for c in taken], [2, 98])
    contrast = 0.6 * float(np.percentile([c.contrast for c in taken], 5))
    return Look(templates, contrast, (0.85 * float(reach[0]), 1.15 * float(reach[1])))


def choose_face(picture: np.ndarray, faces: Sequence[Face], look: Look) -> tuple[Face | None, float]:
    """The face of one drawing.

    Args:
        picture: uint8 [H, W, 3] RGB or [H, W, 4] RGBA.
        faces: the detector's candidates, best first.
        look: what the set's faces look like; without templates the detector's first candidate is taken.

    Returns:
        The face, refined, and its likeness to the set's look (correlation); None and 0 when nothing is found.
    """
    if not look.templates:
        return (faces[0], 0.0) if faces else (_by_alpha(picture), 0.0)
    grey = cv2.cvtColor(on_grey(picture), cv2.COLOR_RGB2GRAY)
    refined = [pair for face in faces if _inside(picture, (pair := refine(grey, face, look))[0])]
    best = max(refined, key=lambda pair: pair[1], default=None)
    if best is not None and best[1] >= SURE:
        return best
    searched = search(grey, look, picture[..., 3] if picture.shape[2] == 4 else None)
    if searched is not None and searched[1] >= FOUND and (best is None or searched[1] > best[1]):
        return refine(grey, searched[0], look)
    # unlike the rest of the set (another expression, a mask): a detector that is sure may still be right
    sure = [face for face in faces if face.method == "yunet" and face.score >= 0.75]
    return (sure[0], 0.0) if sure else (None, 0.0)


def refine(grey: np.ndarray, face: Face, look: Look) -> tuple[Face, float]:
    """Moves and scales a face to where a template fits best nearby; returns it with the correlation there."""
    gap = float(np.hypot(face.eye_r[0] - face.eye_l[0], face.eye_r[1] - face.eye_l[1]))
    best, moved = -1.0, face
    for zoom in (0.8, 0.87, 0.93, 1.0, 1.07, 1.15, 1.25):
        region = patch_at(grey, face, zoom, margin=0.3)
        if region.std() < look.contrast:
            continue
        for template in look.templates:
            scores = cv2.matchTemplate(region, template, cv2.TM_CCOEFF_NORMED)
            _, score, _, (x, y) = cv2.minMaxLoc(scores)
            # off the detector's place only for a clear gain
            shift = np.array([x, y]) - (np.array(scores.shape[::-1]) - 1) / 2
            worth = score - 0.004 * float(np.hypot(*shift)) - 0.15 * abs(np.log(zoom))
            if worth > best:
                best, moved = worth, _shifted(face, shift * gap * zoom / GAP, zoom)
    return moved, best


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


def search(grey: np.ndarray, look: Look, alpha: np.ndarray | None = None) -> tuple[Face, float] | None:
    """The place in an upright drawing that looks most like one of the set's faces, with its correlation."""
    short = min(grey.shape)
    best: tuple[Face, float] | None = None
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
        for template in look.templates:
            scores = cv2.matchTemplate(small, template, cv2.TM_CCOEFF_NORMED)
            scores[flat] = -1  # correlation alone would take any faint gradient for a face
            _, score, _, (x, y) = cv2.minMaxLoc(scores)
            if best is None or score > best[1]:
                cx, cy = (x + LEFT * GAP) / scale, (y + UP * GAP) / scale
                mouth = (cx, cy + MOUTH * gap)
                best = face_at((cx - gap / 2, cy), (cx + gap / 2, cy), mouth, "set", float(score)), float(score)
    return best


def _spread(grey: np.ndarray) -> np.ndarray:
    """Standard deviation under a patch at every place where one fits, float32 [H - h + 1, W - w + 1]."""
    mean = _mean(grey)
    return np.sqrt(np.maximum(_mean(grey * grey) - mean * mean, 0))


def _mean(values: np.ndarray) -> np.ndarray:
    """Mean under a patch at every place where one fits, float32 [H - h + 1, W - w + 1]."""
    ones = np.full((PATCH[1], PATCH[0]), 1 / (PATCH[0] * PATCH[1]), np.float32)
    return cv2.matchTemplate(values, ones, cv2.TM_CCORR)


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


def _inside(picture: np.ndarray, face: Face) -> bool:
    """Whether the surroundings of a face's eyes are drawn; always so without transparency."""
    return picture.shape[2] == 3 or float(patch_at(picture[..., 3], face).mean()) >= 255 * OPAQUE


def _by_alpha(picture: np.ndarray) -> Face | None:
    return face_in_alpha(picture[..., 3]) if picture.shape[2] == 4 else None


def merge(faces: Sequence[Face]) -> list[tuple[Face, int]]:
    """Finds of several passes that mean the same place become one (the best), with the number of finds."""
    kept: list[tuple[Face, int]] = []
    for face in sorted(faces, key=lambda f: -f.score):
        eyes = np.array([face.eye_l, face.eye_r])
        for i, (other, count) in enumerate(kept):
            gap = np.hypot(*(np.array(other.eye_r) - other.eye_l))
            if np.abs(eyes - [other.eye_l, other.eye_r]).max() < 0.3 * gap:
                kept[i] = other, count + 1
                break
        else:
            kept.append((face, 1))
    return kept[:6]


def _unpack(stored: dict[str, Any]) -> Candidate:
    patch = np.frombuffer(base64.b64decode(stored["patch"]), np.uint8).astype(np.float32)
    contrast = float(patch.std())
    patch -= patch.mean()
    patch /= max(float(np.linalg.norm(patch)), 1e-6)
    return Candidate(Face(**stored["face"]), patch, stored["support"], contrast, stored["reach"])


def _candidates_shard(shard: dict[str, Any]) -> list[dict[str, Any]]:
    root, folder, options = Path(shard["root"]), Path(shard["folder"]), Options(**shard["options"])
    cache = PictureCache(root / CACHE)
    rows = []
    for name in shard["files"]:
        try:
            content = (folder / name).read_bytes()
        except OSError:
            continue  # ingest gives the reason
        key = cache_key(content, ["candidates", OPAQUE, options.detector, options.detector_hash])
        record = cache.record(key)
        if record is None:
            record = {}
            try:
                picture = decode_image(content, name, alpha="keep")
                grey = cv2.cvtColor(on_grey(picture), cv2.COLOR_RGB2GRAY)
                record["candidates"] = [
                    {
                        "face": asdict(face),
                        "support": support,
                        "reach": (face.eye_r[0] - face.eye_l[0]) / min(grey.shape),
                        "patch": base64.b64encode(patch_at(grey, face).astype(np.uint8).tobytes()).decode(),
                    }
                    for face, support in merge(find_drawn(picture, detector_of(options, root)))
                    if _inside(picture, face)
                ]
            except ImageError:
                pass
            cache.write(key, record, [])
        rows.append({"file": name} | record)
    return rows


def _place_shard(shard: dict[str, Any]) -> list[dict[str, Any]]:
    folder = Path(shard["folder"])
    seen = shard["look"]
    templates = [np.frombuffer(base64.b64decode(t), np.float32).reshape(PATCH[1], PATCH[0]) for t in seen["templates"]]
    look = Look(templates, seen["contrast"], tuple(seen["reach"]))
    rows = []
    for row in shard["pictures"]:
        content = (folder / row["file"]).read_bytes()
        picture = decode_image(content, row["file"], alpha="keep")
        face, likeness = choose_face(picture, [Face(**face) for face in row["faces"]], look)
        outline = silhouette(picture)
        rows.append(
            {
                "file": row["file"],
                "face": asdict(face) if face else None,
                "likeness": likeness,
                "outline": outline.astype(int).ravel().tolist() if outline is not None else None,
                "size": list(picture.shape[:2]),
            }
        )
    return rows
