"""Samples that come too close to a photo the source was trained on are dropped from demo photos and generated sets.

Beside the source lies a 64-bit perceptual hash of every training photo (Zauner 2010; no picture can be made from it)
and of its mirror image, which training shows too. Noise, JPEG or a pixel's shift change at most `NEAR_BITS` of them in
99 of 100 pictures; two people's photos differ by 10 in the median.
"""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.common.atomic import atomic_path
from stages.common.errors import InputError
from stages.faces.quality import perceptual_hash

FILE = "training_photos.npy"
NEAR_BITS = 4
Hashes = NDArray[np.uint64]


def photo_hashes(pictures: NDArray[Any]) -> Hashes:
    """Hashes [N] of pictures uint8 [N, R, R, 3]."""
    return np.array([int(perceptual_hash(picture), 16) for picture in pictures], np.uint64)


def save_hashes(folder: Path, photos: NDArray[Any]) -> None:
    """Writes the hashes of training photos uint8 [N, R, R, 3] and of their mirror images beside the source."""
    both = np.concatenate([photo_hashes(photos), photo_hashes(photos[:, :, ::-1])])
    with atomic_path(folder / FILE) as temporary, temporary.open("wb") as file:
        np.save(file, np.sort(both))


def load_hashes(folder: Path) -> Hashes:
    """Hashes uint64 [N] of a source's training photos; none for a source that came without.

    Raises:
        InputError: the file is damaged or holds something else.
    """
    path = folder / FILE
    if not path.is_file():
        return np.empty(0, np.uint64)
    try:
        hashes = np.load(path, allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise InputError(f"{path}: damaged ({error}); get it again with the source model") from None
    if not isinstance(hashes, np.ndarray) or hashes.dtype != np.uint64 or hashes.ndim != 1:
        raise InputError(f"{path}: holds no hashes of training photos; get it again with the source model")
    return hashes


def near_copies(pictures: NDArray[Any], known: Hashes) -> NDArray[np.bool_]:
    """Which of the pictures uint8 [N, R, R, 3] differ from a known photo by `NEAR_BITS` at most; bool [N]."""
    if not len(known) or not len(pictures):
        return np.zeros(len(pictures), bool)
    apart = np.bitwise_count(photo_hashes(pictures)[:, None] ^ known[None, :])
    return np.asarray(apart.min(axis=1) <= NEAR_BITS)
