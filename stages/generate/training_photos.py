"""Training pictures of the `source` stage: aligned pictures as they are, other photos through face detection."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from stages.common.dataset import sample_indices
from stages.common.errors import ImageError, InputError
from stages.common.images import list_images, read_image
from stages.common.progress import log
from stages.common.tables import read_table
from stages.faces.align import align, ffhq_quad
from stages.faces.detect import FaceDetector
from stages.generate.train import RealBatch

FEWEST = 16


def load_training_photos(folder: Path, resolution: int, exclude: Path | None) -> tuple[Tensor, list[str]]:
    """All faces of a folder at one resolution.

    Pictures that already are resolution x resolution count as aligned; in others the largest face is found and
    aligned by the FFHQ quad. Unreadable pictures and pictures without a face are left out and counted.

    Args:
        exclude: CSV with a column "file" (paths relative to the folder) of photos never to train on.

    Returns:
        uint8 [N, 3, R, R], and the files used, relative to the folder.

    Raises:
        InputError: fewer than 16 usable photos, or a CSV that excludes nothing in the folder.
    """
    files = list_images(folder)
    kept = _without(files, folder, exclude)
    detector: FaceDetector | None = None
    faces: list[np.ndarray] = []
    used: list[str] = []
    for path in kept:
        try:
            picture = read_image(path)
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
        used.append(path.relative_to(folder).as_posix())
    if len(faces) < FEWEST:
        raise InputError(f"{folder}: {len(faces)} usable photos of {len(kept)}; training needs at least {FEWEST}")
    log(f"{folder}: {len(faces)} of {len(kept)} photos usable, {len(files) - len(kept)} excluded")
    return torch.from_numpy(np.stack(faces)).permute(0, 3, 1, 2), used


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
