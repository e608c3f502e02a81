"""Tar shards of about a thousand samples: what DVC, disks and networks like better than many small files."""

import io
import tarfile
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

import numpy as np

from stages.common.atomic import atomic_path
from stages.common.errors import InputError
from stages.common.images import decode_image, encode_png

SHARD_SIZE = 1000


def is_mask(field: str) -> bool:
    """Whether a field holds masks, uint8 [H, W], instead of pictures, uint8 [H, W, 3]."""
    return field.endswith("mask")


def shard_path(folder: Path, number: int) -> Path:
    """``folder/000007.tar`` for shard 7."""
    return Path(folder) / f"{number:06d}.tar"


def write_shard(path: Path, samples: Iterator[tuple[str, Mapping[str, np.ndarray]]]) -> int:
    """Writes one shard atomically, the same bytes for the same samples.

    Args:
        path: the shard's final name.
        samples: (key, {field: uint8 image}) in order; the member names are ``<key>.<field>.png``.

    Returns:
        How many samples were written.
    """
    count = 0
    with atomic_path(path) as temporary, tarfile.open(temporary, "w") as tar:
        for key, fields in samples:
            count += 1
            for field, image in fields.items():
                data = encode_png(image)
                # A fresh TarInfo has no time, owner or mode of this machine: equal samples give equal shards,
                # which DVC then stores once.
                info = tarfile.TarInfo(f"{key}.{field}.png")
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
    return count


def shard_files(folder: Path) -> list[Path]:
    """The shards of a generated dataset in order."""
    return sorted(Path(folder).glob("*.tar"))


def read_shards(folder: Path, wanted: Collection[str] | None = None) -> Iterator[tuple[str, dict[str, np.ndarray]]]:
    """Yields (key, {field: uint8 image}) of every sample below ``folder`` in order; masks come as [H, W].

    ``wanted``: keys; others are passed over without decoding. None for all.

    Raises:
        InputError: a shard is damaged or cut short; names it.
    """
    for path in shard_files(folder):
        key, fields = "", dict[str, np.ndarray]()
        try:
            with tarfile.open(path, "r") as tar:
                for member in tar:
                    name, field, _ = member.name.rsplit(".", 2)
                    if wanted is not None and name not in wanted:
                        continue
                    if name != key and fields:
                        yield key, fields
                        fields = {}
                    key = name
                    file = tar.extractfile(member)
                    image = decode_image(file.read() if file else b"", f"{path}:{member.name}")
                    fields[field] = image[..., 0] if is_mask(field) else image
        except (tarfile.TarError, ValueError, EOFError) as error:
            raise InputError(f"{path}: damaged shard ({error}); delete it and run the stage again") from error
        if fields:
            yield key, fields
