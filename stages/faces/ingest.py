"""Folders of pictures to samples: the work per picture, in shards over processes, each picture once."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from stages.common.errors import ImageError, InputError
from stages.common.images import decode_image
from stages.common.mapshards import map_shards
from stages.common.weights import find, sha256
from stages.faces.backgrounds import Kind
from stages.faces.cache import PictureCache, cache_key
from stages.faces.detect import Face, FaceDetector
from stages.faces.locate import face_in_alpha, face_in_centre
from stages.faces.sample import make_sample

SHARD = 48  # pictures per piece of work: small enough to balance two cores, large enough to hide the start of a worker
CACHE = Path("work/cache/faces")
Way = Literal["detect", "alpha", "center", "landmarks", "set"]


MISSING = {
    "detect": "{detector} finds no face",
    "alpha": "nothing opaque in it",
    "set": "neither {detector} nor the likeness to the set's other faces finds one; a row in landmarks.csv would",
}


@dataclass(frozen=True)
class Options:
    """What a picture's samples depend on besides its content. JSON-friendly: it goes to workers and into cache keys.

    Attributes:
        drawn: style pictures (transparency kept) instead of photos.
        way: how pictures without a known face are searched; "landmarks" and "set" do not search: the face is in the
            table, or was found by the set's look, or the picture has none.
        all_faces: every face of a picture, not the largest only.
        detector: "yunet" or "haar"; detector_hash tells two YuNet files apart.
        parser: path of a face parser, "" for GrabCut; parser_hash tells two of them apart.
    """

    resolution: int
    drawn: bool
    way: Way
    detector: str
    detector_hash: str = ""
    all_faces: bool = False
    backgrounds: Kind = "mixed"
    seed: int = 0
    parser: str = ""
    parser_hash: str = ""


def make_options(
    resolution: int, drawn: bool, way: Way, prefer: Any, root: Path, all_faces: bool = False,
    backgrounds: Kind = "mixed", seed: int = 0,
) -> Options:  # fmt: skip
    """Options with the detector and parser that are really there.

    Raises:
        InputError: no detector although one is needed.
    """
    name, digest = "none", ""
    if way in ("detect", "set"):
        name = FaceDetector(prefer, root).name
        path = find("yunet", root) if name == "yunet" else None
        digest = sha256(path)[:16] if path else ""
    parser = find("face_parser", root)
    masks = (str(parser), sha256(parser)[:16]) if parser else ("", "")
    return Options(resolution, drawn, way, name, digest, all_faces, backgrounds, seed, *masks)


def ingest(
    files: Sequence[Path],
    folder: Path,
    options: Options,
    root: Path,
    faces: Mapping[str, Face] | None = None,
    workers: int | None = None,
    label: str = "pictures",
) -> list[dict[str, Any]]:
    """Samples of every file, from the cache where it has them.

    Args:
        files: pictures below ``folder``.
        faces: known faces by file name relative to ``folder``; files not in it are searched.

    Returns:
        One dict per file, in order: file, key (of the cache), content (hash), and either samples (records, the
        i-th with image_i and mask_i in the cache) or reason and detail.
    """
    shards = []
    for first in range(0, len(files), SHARD):
        names = [path.relative_to(folder).as_posix() for path in files[first : first + SHARD]]
        shards.append(
            {
                "folder": str(folder),
                "files": names,
                "faces": {name: asdict(faces[name]) for name in names if faces and name in faces},
                "options": asdict(options),
                "root": str(root),
            }
        )
    few = len(files) <= SHARD  # starting a process costs more than it saves
    return [row for part in map_shards(_ingest_shard, shards, 1 if few else workers, label=label) for row in part]


_detectors: dict[tuple[str, str], FaceDetector] = {}


def detector_of(options: Options, root: Path) -> FaceDetector:
    """The process's own detector for ``options``; loaded once."""
    key = (options.detector, str(root))
    if key not in _detectors:
        _detectors[key] = FaceDetector(options.detector, root)  # type: ignore[arg-type]
    return _detectors[key]


def _ingest_shard(shard: dict[str, Any]) -> list[dict[str, Any]]:
    root, folder = Path(shard["root"]), Path(shard["folder"])
    options = Options(**shard["options"])
    cache = PictureCache(root / CACHE)
    return [
        _ingest_file(folder / name, name, shard["faces"].get(name), options, root, cache) for name in shard["files"]
    ]


def _ingest_file(
    path: Path, name: str, known: dict[str, Any] | None, options: Options, root: Path, cache: PictureCache
) -> dict[str, Any]:
    row: dict[str, Any] = {"file": name}
    try:
        content = path.read_bytes()
    except OSError as error:
        return row | {"reason": "unreadable", "detail": error.strerror or str(error)}
    key = cache_key(content, [asdict(options), known])
    result = cache.record(key)
    if result is None:
        result, samples = _work(content, name, known, options, root)
        result["content"] = cache_key(content, "content")
        cache.write(key, result, samples)
    return row | {"key": key} | result


def _work(
    content: bytes, name: str, known: dict[str, Any] | None, options: Options, root: Path
) -> tuple[dict[str, Any], list[Any]]:
    try:
        picture = decode_image(content, name, alpha="keep")
        if not options.drawn and picture.shape[2] == 4:
            picture = decode_image(content, name)
        faces = _faces(picture, known, options, root)
    except ImageError as error:
        return {"reason": error.reason, "detail": error.detail}, []
    except InputError as error:
        return {"reason": "no_landmarks", "detail": str(error)}, []
    if not faces:
        return {"reason": "no_face", "detail": MISSING[options.way].format(detector=options.detector)}, []
    samples = []
    for face in faces if options.all_faces else faces[:1]:
        try:
            made = make_sample(
                picture, face, options.resolution, options.backgrounds, options.seed, cache_key(content, "content"),
                Path(options.parser) if options.parser else None,
            )  # fmt: skip
        except ValueError:
            continue
        made.record["faces"] = len(faces)
        samples.append(made)
    if not samples:
        return {"reason": "no_face", "detail": "both eyes at the same place"}, []
    return {"samples": [sample.record for sample in samples], "shape": list(picture.shape)}, samples


def _faces(picture: np.ndarray, known: dict[str, Any] | None, options: Options, root: Path) -> list[Face]:
    if known is not None:
        return [Face(**known)]
    match options.way:
        case "center":
            return [face_in_centre(picture.shape)]
        case "alpha":
            if picture.shape[2] != 4:
                raise InputError("has no transparency to align by; use align: center or landmarks")
            face = face_in_alpha(picture[..., 3])
            return [face] if face is not None else []
        case "landmarks":
            raise InputError("has no row in landmarks.csv")
        case "set":
            return []
    return detector_of(options, root).detect(picture)
