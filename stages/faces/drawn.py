"""Drawn faces: the pictures of a set help each other.

A detector made for photos misses many drawings and takes some patterns for faces. But a style draws its faces alike:
what recurs around two eyes in many pictures *is* a face. So the detector's candidates vote. Patches around their eyes
are compared; the densest ones become templates (look.py); candidates are judged by their likeness to a template instead
of the detector's score, pictures without a good candidate are searched with the templates, and every position is
refined by them (places.py). A set without recurring faces falls back to the detector's own order.
"""

import base64
import json
from collections.abc import Sequence
from dataclasses import asdict
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
from stages.faces.locate import find_drawn, on_grey
from stages.faces.look import PATCH, Candidate, Look, learn_look, patch_at
from stages.faces.places import OPAQUE, inside, recall_face
from stages.faces.siblings import SIDE, share, silhouette


def locate_drawn(files: Sequence[Path], folder: Path, options: Options, root: Path) -> dict[str, Face]:
    """The face of every picture of a style set where one is found, by file name relative to ``folder``.

    The chosen faces depend on the whole set, and on nothing else. Detection is cached per picture, what a template
    finds per picture and template.
    """
    names = [path.relative_to(folder).as_posix() for path in files]
    base = {"folder": str(folder), "options": asdict(options), "root": str(root)}
    parts = [base | {"files": names[i : i + SHARD]} for i in range(0, len(names), SHARD)]
    workers = 1 if len(files) <= SHARD else None
    found = [row for part in map_shards(_candidates_shard, parts, workers, label="drawn faces") for row in part]
    look = learn_look({row["file"]: list(map(_unpack, row["candidates"])) for row in found if "candidates" in row})
    stored = [base64.b64encode(t.astype(np.float32).tobytes()).decode() for t in look.templates]
    seen = {"templates": stored, "contrast": look.contrast, "reach": list(look.reach)}
    shards = []
    faces_of = {row["file"]: [c["face"] for c in row["candidates"]] for row in found if "candidates" in row}
    for part in parts:
        known = [{"file": name, "faces": faces_of[name]} for name in part["files"] if name in faces_of]
        shards.append(base | {"pictures": known, "look": seen})
    placed = [row for part in map_shards(_place_shard, shards, workers, label="placing") for row in part]
    faces = share(
        [Face(**row["face"]) if row["face"] else None for row in placed],
        [row["likeness"] for row in placed],
        [_outline(row["outline"]) for row in placed],
        [tuple(row["size"]) for row in placed],
    )
    return {row["file"]: face for row, face in zip(placed, faces, strict=True) if face is not None}


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
                    if inside(picture, face)
                ]
            except ImageError:
                pass
            cache.write(key, record, [])
        rows.append({"file": name} | record)
    return rows


def _place_shard(shard: dict[str, Any]) -> list[dict[str, Any]]:
    seen = shard["look"]
    templates = [np.frombuffer(base64.b64decode(t), np.float32).reshape(PATCH[1], PATCH[0]) for t in seen["templates"]]
    look = Look(templates, seen["contrast"], tuple(seen["reach"]))
    options, cache = Options(**shard["options"]), PictureCache(Path(shard["root"]) / CACHE)
    return [_place(row, Path(shard["folder"]), options, look, cache) for row in shard["pictures"]]


def _place(row: dict[str, Any], folder: Path, options: Options, look: Look, cache: PictureCache) -> dict[str, Any]:
    """What placing found in one picture: face, likeness, and for :func:`share` its outline (hex) and size."""
    content = (folder / row["file"]).read_bytes()

    def load() -> np.ndarray:
        return decode_image(content, row["file"], alpha="keep")

    key = cache_key(content, ["places", OPAQUE, options.detector, options.detector_hash])
    record = cache.record(key)
    before = json.dumps(record)
    if record is None:
        picture = load()
        outline = silhouette(picture)
        packed = np.packbits(outline).tobytes().hex() if outline is not None else ""
        record = {"size": list(picture.shape[:2]), "outline": packed, "memory": {}}
    face, likeness = recall_face(load, [Face(**face) for face in row["faces"]], look, record["memory"])
    if json.dumps(record) != before:
        _forget(record["memory"], set(look.names()))
        cache.write(key, record, [])
    found = {"face": asdict(face) if face else None, "likeness": likeness}
    return {"file": row["file"], "outline": record["outline"], "size": record["size"]} | found


def _forget(memory: dict[str, Any], names: set[str]) -> None:
    """Drops what templates found that are no longer in use, so that a picture's file does not grow for ever."""
    for kind in ("refined", "searched"):
        memory[kind] = {name: place for name, place in memory.get(kind, {}).items() if name in names}


def _outline(packed: str) -> np.ndarray | None:
    if not packed:
        return None
    return np.unpackbits(np.frombuffer(bytes.fromhex(packed), np.uint8)).astype(bool).reshape(SIDE, SIDE)
