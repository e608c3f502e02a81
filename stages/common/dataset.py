"""One dataset class for ingested folders and generated shards, over a memory-mapped uint8 cache."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import torch

from stages.common.atomic import atomic_path, write_text
from stages.common.errors import InputError
from stages.common.hashing import tree_hash
from stages.common.images import read_image
from stages.common.seeding import rng
from stages.common.shards import is_mask, read_shards, shard_files
from stages.common.tables import read_table

CACHE = Path("work/cache")
STYLED_FIELDS = ("photo", "styled", "photo_mask", "styled_mask")  # of data/styled: each picture with its own head


class FaceDataset:
    """Aligned faces with their masks, or pairs, at one resolution.

    Reads an ingested folder (``images/``, ``masks/``, ``index.csv``) or a generated one (``shards/*.tar``,
    ``index.csv``). The first use decodes everything once into ``<cache>/<hash>.<field>.npy``; after that a batch is a
    gather from memory-mapped uint8.

    Attributes:
        index: the rows of index.csv in use, in order, row i describing sample i.
        resolution: side of the samples in pixels.
        split: what it was opened with; None for everything.
        key: of the cache, over the folder's content and the resolution.
    """

    def __init__(
        self,
        folder: Path,
        resolution: int,
        split: str | None = None,
        fields: Sequence[str] = ("image", "mask"),
        cache: Path = CACHE,
        key: str = "",
    ) -> None:
        """Opens ``folder``.

        Args:
            folder: an ingested or generated dataset.
            resolution: samples of another size are resized (area down, cubic up).
            split: keep only rows of this split ("train", "val", "test").
            fields: what to load: "image", "mask" of an ingested folder; "photo", "styled", "mask" of shards
                (data/styled also has the mask's two parts, see STYLED_FIELDS).
            cache: where the memory maps live.
            key: of the same dataset opened before, which saves hashing the folder once more.

        Raises:
            InputError: no such dataset, no rows, or a field that its samples lack.
        """
        self.folder, self.resolution, self.fields = Path(folder), resolution, tuple(fields)
        self.split = split
        index_file = self.folder / "index.csv"
        if not index_file.is_file():
            raise InputError(f"{index_file}: missing; run the stage that makes {self.folder} first")
        needed = ("id",) if split is None else ("id", "split")
        index = read_table(index_file, {"id": str, "person": str, "design": str, "photo_id": str}, needed)
        if index["id"].isna().any():
            raise InputError(f"{index_file}: every row needs an id")
        self.key = key or tree_hash([self.folder])[:24] + f"_{resolution}"
        self._maps = self._open_cache(index["id"].tolist(), cache)
        keep = np.arange(len(index)) if split is None else np.flatnonzero(index["split"].to_numpy() == split)
        if len(keep) == 0:
            which = "samples" if split is None else f"samples in split '{split}'"
            raise InputError(f"{self.folder}: has no {which}; add pictures")
        self._rows = keep
        self.index = index.iloc[keep].reset_index(drop=True)

    def __len__(self) -> int:
        return len(self._rows)

    def get(self, i: int, field: str) -> np.ndarray:
        """Sample ``i``: uint8 [H, W, 3], or [H, W] for masks."""
        return np.array(self._maps[field][self._rows[i]])

    def take(self, indices: Sequence[int] | np.ndarray, field: str) -> torch.Tensor:
        """Samples by position as uint8 [N, 3, H, W] in channels-last memory, or [N, 1, H, W] for masks."""
        picked = torch.from_numpy(self._maps[field][self._rows[np.asarray(indices)]])
        return picked[:, None] if is_mask(field) else picked.permute(0, 3, 1, 2)

    def batch(self, nimg: int, n: int, seed: int, weights: np.ndarray | None = None) -> dict[str, torch.Tensor]:
        """The ``n`` samples that follow image number ``nimg``, the same whenever asked.

        Args:
            nimg: images drawn so far; any number, which makes resuming exact.
            n: batch size.
            seed: seed of the order.
            weights: optional sampling weight per sample, [len(self)]; then draws are independent.

        Returns:
            Every field as uint8 tensor (see :meth:`take`) and "index", int64 [n].
        """
        chosen = sample_indices(len(self), nimg, n, seed, weights)
        return {field: self.take(chosen, field) for field in self.fields} | {"index": torch.from_numpy(chosen)}

    def _open_cache(self, ids: list[str], cache: Path) -> dict[str, np.ndarray]:
        paths = {field: cache / f"{self.key}.{field}.npy" for field in self.fields}
        if not all(path.is_file() for path in paths.values()):
            self._fill_cache(ids, paths)
        try:
            return {field: np.load(path, mmap_mode="r") for field, path in paths.items()}
        except ValueError:  # cut short by a crash of the machine: decode again
            self._fill_cache(ids, paths)
            return {field: np.load(path, mmap_mode="r") for field, path in paths.items()}

    def _fill_cache(self, ids: list[str], paths: dict[str, Path]) -> None:
        side = self.resolution
        shapes = {f: (len(ids), side, side) if is_mask(f) else (len(ids), side, side, 3) for f in self.fields}
        place = {name: i for i, name in enumerate(ids)}
        from contextlib import ExitStack

        with ExitStack() as stack:
            temporary = {field: stack.enter_context(atomic_path(path)) for field, path in paths.items()}
            maps = {
                f: np.lib.format.open_memmap(temporary[f], mode="w+", dtype=np.uint8, shape=shapes[f])
                for f in self.fields
            }
            seen = 0
            for name, images in self._samples(ids):
                if name not in place:
                    continue
                seen += 1
                for field in self.fields:
                    if field not in images:
                        raise InputError(f"{self.folder}: sample {name} has no '{field}'; run its stage again")
                    maps[field][place[name]] = _fit(images[field], side)
            if seen != len(place):
                raise InputError(
                    f"{self.folder}: index.csv lists {len(place)} samples, {seen} found; run its stage again"
                )
            for array in maps.values():
                array.flush()

    def _samples(self, ids: list[str]) -> Iterator[tuple[str, dict[str, np.ndarray]]]:
        if shard_files(self.folder / "shards"):
            yield from read_shards(self.folder / "shards")
            return
        for name in ids:
            images = {}
            if "image" in self.fields:
                images["image"] = read_image(self.folder / "images" / f"{name}.png")
            if "mask" in self.fields:
                images["mask"] = read_image(self.folder / "masks" / f"{name}.png")[..., 0]
            yield name, images


def _fit(image: np.ndarray, side: int) -> np.ndarray:
    if image.shape[:2] == (side, side):
        return image
    how = cv2.INTER_AREA if image.shape[0] > side else cv2.INTER_CUBIC
    return cv2.resize(image, (side, side), interpolation=how)


def sample_indices(size: int, nimg: int, n: int, seed: int, weights: np.ndarray | None = None) -> np.ndarray:
    """Positions of the images nimg .. nimg + n - 1 in an endless order over ``size`` samples, int64 [n].

    Without weights every epoch is its own permutation; with weights each position is an independent draw.
    """
    if weights is not None:
        cumulative = np.cumsum(np.asarray(weights, np.float64))
        # one draw per image number, so that a batch may start anywhere
        draws = np.array([rng(seed, "draw", i).random() for i in range(nimg, nimg + n)])
        return np.searchsorted(cumulative, draws * cumulative[-1], side="right").clip(0, size - 1).astype(np.int64)
    chosen = np.empty(n, np.int64)
    done = 0
    while done < n:
        epoch, offset = divmod(nimg + done, size)
        order = _epoch_order(size, epoch, seed)
        part = order[offset : offset + n - done]
        chosen[done : done + len(part)] = part
        done += len(part)
    return chosen


_orders: dict[tuple[int, int, int], np.ndarray] = {}


def _epoch_order(size: int, epoch: int, seed: int) -> np.ndarray:
    key = (size, epoch, seed)
    if key not in _orders:
        if len(_orders) > 64:
            _orders.clear()
        _orders[key] = rng(seed, "epoch", epoch).permutation(size)
    return _orders[key]


def write_index(path: Path, rows: pd.DataFrame) -> None:
    """Writes index.csv (or any table) atomically, floats to 6 digits, so that equal content gives equal bytes."""
    write_text(path, rows.to_csv(index=False, float_format="%.6g", lineterminator="\n"))
