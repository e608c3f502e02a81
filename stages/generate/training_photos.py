"""Training pictures of the `source` stage: aligned pictures as they are, other photos through face detection."""

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from stages.common.atomic import atomic_path, write_json
from stages.common.dataset import sample_indices
from stages.common.errors import ImageError, InputError
from stages.common.images import list_images, read_image
from stages.common.mapshards import map_shards
from stages.common.progress import log
from stages.common.tables import read_table
from stages.faces.align import align, ffhq_quad
from stages.faces.detect import FaceDetector
from stages.generate.train import RealBatch

FEWEST = 16
SHARD = 500  # photos that one process aligns at a time


def load_training_photos(
    folder: Path, resolution: int, exclude: Path | None, work: Path, rank: int = 0
) -> tuple[Tensor, list[str]]:
    """All faces of a folder at one resolution.

    Pictures that already are resolution x resolution count as aligned; in others the largest face is found and
    aligned by the FFHQ quad. Unreadable pictures and pictures without a face are left out and counted. Aligned once,
    over the cores; afterwards all of torchrun's processes map the same file (70,000 faces of 256 px are 14 GB).

    Args:
        exclude: CSV with a column "file" (paths relative to the folder) of photos never to train on.
        work: where the faces are kept, for this folder, resolution and list alone.
        rank: torchrun's process; the first one aligns, the others wait for its file.

    Returns:
        uint8 [N, 3, R, R], and the files used, relative to the folder.

    Raises:
        InputError: fewer than 16 usable photos, or a CSV that excludes nothing in the folder.
    """
    faces, names = work / "photos.npy", work / "photos.json"
    while rank and not names.is_file():
        time.sleep(0.5)
    if not names.is_file():
        _align_all(folder, resolution, exclude, faces, names)
    # copy-on-write: torch wants memory that it may write to
    images = np.load(faces, mmap_mode="c")
    return torch.from_numpy(images).permute(0, 3, 1, 2), json.loads(names.read_text())


def _align_all(folder: Path, resolution: int, exclude: Path | None, faces: Path, names: Path) -> None:
    files = list_images(folder)
    kept = _without(files, folder, exclude)
    jobs: list[dict[str, Any]] = [
        {
            "files": [str(path) for path in kept[start : start + SHARD]],
            "resolution": resolution,
            "out": str(faces.parent / f"aligned_{start:09d}.npy"),
        }
        for start in range(0, len(kept), SHARD)
    ]
    parts = map_shards(align_shard, jobs, None, faces.parent / "aligned", "align photos")
    used = [Path(name).relative_to(folder).as_posix() for part in parts for name in part]
    if len(used) < FEWEST:
        raise InputError(f"{folder}: {len(used)} usable photos of {len(kept)}; training needs at least {FEWEST}")
    log(f"{folder}: {len(used)} of {len(kept)} photos usable, {len(files) - len(kept)} excluded")
    shape = (len(used), resolution, resolution, 3)
    with atomic_path(faces) as temporary:
        together = np.lib.format.open_memmap(temporary, mode="w+", dtype=np.uint8, shape=shape)
        start = 0
        for job, part in zip(jobs, parts, strict=True):
            together[start : start + len(part)] = np.load(job["out"], mmap_mode="r")
            start += len(part)
        together.flush()
    write_json(names, used)
    for job in jobs:
        Path(job["out"]).unlink()


def align_shard(job: dict[str, Any]) -> list[str]:
    """Aligns the faces of some photos; writes uint8 [N, R, R, 3] to ``out`` and returns the files used."""
    resolution = job["resolution"]
    detector: FaceDetector | None = None
    faces: list[np.ndarray] = []
    used: list[str] = []
    for name in job["files"]:
        try:
            picture = read_image(Path(name))
        except ImageError as error:
            log(str(error))
            continue
        if picture.shape[:2] != (resolution, resolution):
            detector = detector or FaceDetector()
            found = detector.detect(picture)
            if not found:
                continue
            face = max(found, key=lambda f: f.box[2] * f.box[3])
            picture = align(picture, ffhq_quad(face.eye_l, face.eye_r, face.mouth), resolution)
        faces.append(picture)
        used.append(name)
    made = np.stack(faces) if faces else np.empty((0, resolution, resolution, 3), np.uint8)
    with atomic_path(Path(job["out"])) as temporary, temporary.open("wb") as file:
        np.save(file, made)
    return used


def _without(files: list[Path], folder: Path, exclude: Path | None) -> list[Path]:
    if exclude is None:
        return files
    names = set(read_table(exclude, str, ("file",))["file"])
    kept = [path for path in files if path.relative_to(folder).as_posix() not in names]
    if len(kept) == len(files):
        raise InputError(f"{exclude}: names no photo of {folder}; paths must be relative to that folder")
    return kept


def real_batches(images: Tensor, seed: int, weights: np.ndarray | None = None) -> RealBatch:
    """Shuffled epochs, or weighted draws, over uint8 [N, 3, R, R]; any rank can ask for any image number."""

    def batch(nimg: int, n: int) -> Tensor:
        return images[torch.from_numpy(sample_indices(len(images), nimg, n, seed, weights))]

    return batch
