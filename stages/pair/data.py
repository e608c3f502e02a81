"""The batches of stage 2: photos, style pictures and latent pairs, flipped, on the device."""

import math
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from pipeline.settings import TranslateSettings
from stages.common.dataset import STYLED_FIELDS, FaceDataset
from stages.common.device import Device
from stages.common.errors import InputError
from stages.common.light import relight
from stages.pair.agreement import agreement
from stages.pair.augment import flip_some, smooth_edges
from stages.pair.training import Batch

MIN_PICTURES = 8  # below that a style has nothing to be learnt from but single pictures


class Feed:
    """Draws what a step sees after ``nimg`` photos; the same whenever asked (its flips use torch's seeded RNG)."""

    def __init__(
        self,
        settings: TranslateSettings,
        resolution: int,
        seed: int,
        device: Device,
        photos: Path,
        style_faces: Path,
        styled: Path,
        cache: Path,
    ) -> None:
        """Opens the training splits of the three datasets.

        Raises:
            InputError: a dataset is missing or too small; names it.
        """
        self.settings, self.device, self.seed = settings, device, seed
        self.photos = FaceDataset(photos, resolution, split="train", cache=cache)
        self.style = FaceDataset(style_faces, resolution, split="train", cache=cache)
        needs_pairs = max(settings.warm_kimg, settings.pairs_start, settings.pairs_end, settings.styled_share) > 0
        self.pairs = (
            FaceDataset(styled, resolution, split="train", fields=STYLED_FIELDS, cache=cache) if needs_pairs else None
        )
        for name, dataset in (("photos", self.photos), ("style faces", self.style)):
            if len(dataset) < MIN_PICTURES:
                raise InputError(
                    f"{dataset.folder}: {len(dataset)} {name} to train on, at least {MIN_PICTURES} are needed"
                )
        self._origins = _origins(self.pairs, self.photos) if self.pairs is not None else np.empty(0, np.int64)
        self._weights = {"photos": _weights(self.photos), "style": _weights(self.style)}

    def batch(self, nimg: int) -> Batch:
        """The pictures of the step after ``nimg`` photos (of this process's share of the batch)."""
        s, world, rank = self.settings, self.device.world, self.device.rank
        n = s.batch // world
        start = nimg // world
        seed = self.seed * world + rank
        warm = self.pairs is not None and nimg < s.warm_kimg * 1000
        paired = self.pairs is not None and max(s.pairs_start, s.pairs_end) > 0
        n_pairs = n if warm else n // 2 if paired else 0
        n_photos = n - n_pairs
        n_style = max(1, n // 2)
        n_drawn = n_style - (0 if self.pairs is None else _share(nimg // s.batch, n_style, s.styled_share))
        photos = self.photos.batch(start, max(1, n_photos), seed, self._weights["photos"])
        drawn = self.style.batch(start, max(1, n_drawn), seed + 1, self._weights["style"])
        style, style_mask = [drawn["image"][:n_drawn]], [drawn["mask"][:n_drawn]]
        pair_photo = pair_styled = pair_mask = pair_drawn = torch.empty(0)
        if self.pairs is not None:
            pairs = self.pairs.batch(start, n_pairs + n_style - n_drawn, seed + 2)
            images, masks = _image(pairs["styled"]), _mask(pairs["styled_mask"])
            style.append(pairs["styled"][n_pairs:])
            style_mask.append(pairs["styled_mask"][n_pairs:])
            pair_photo, pair_mask = self._inputs(pairs, n_pairs)
            pair_drawn = torch.minimum(masks[:n_pairs], pair_mask)
            if s.pairs_tolerance > 0:
                pair_drawn = pair_drawn * agreement(pair_photo, images[:n_pairs], pair_drawn, s.pairs_tolerance)
            flips = torch.rand(n_pairs) < 0.5
            pair_photo, pair_styled, pair_mask, pair_drawn = flip_some(
                flips, pair_photo, images[:n_pairs], pair_mask, pair_drawn
            )
        pictures, picture_masks = torch.cat(style), torch.cat(style_mask)
        # smoothed copies of the very pictures that are shown as real: of one kind alone they would tell the kinds apart
        n_edges = max(1, n_style // 2) if s.edge_weight > 0 and not warm else 0
        chosen = torch.randperm(n_style)[:n_edges]
        smooth = [smooth_edges(np.ascontiguousarray(picture)) for picture in _pixels(pictures[chosen])]
        edges = _image(torch.from_numpy(np.stack(smooth)).permute(0, 3, 1, 2)) if smooth else torch.empty(0)
        edges_mask = _mask(picture_masks[chosen])
        photo, photo_mask = _flip(_image(photos["image"]), _mask(photos["mask"]))
        if s.light > 0:
            photo = relight(photo, s.light)
            pair_photo = relight(pair_photo, s.light) if n_pairs else pair_photo
        styles, style_masks = _flip(_image(pictures), _mask(picture_masks))
        if n_edges:
            edges, edges_mask = _flip(edges, edges_mask)
        parts = (
            photo, photo_mask, styles, style_masks, edges, edges_mask, pair_photo, pair_styled, pair_mask,
            pair_drawn,
        )  # fmt: skip
        return Batch(*(self._to_device(part) for part in parts))

    def _inputs(self, pairs: dict[str, Tensor], count: int) -> tuple[Tensor, Tensor]:
        """Photos and head masks of the first ``count`` pairs; of inverted ones the photo itself, not its inversion.

        The translator will see photos. Trained on the source's pictures alone it reached a style gap of 0.39 to 0.44 on
        those (its targets: 0.32 to 0.36) and 0.59 on photos (noto, kid_enc).
        """
        photos, masks = pairs["photo"][:count].clone(), pairs["photo_mask"][:count].clone()
        origin = self._origins[pairs["index"][:count].numpy()]
        real = np.flatnonzero(origin >= 0)
        if len(real):
            photos[real] = self.photos.take(origin[real], "image")
            masks[real] = self.photos.take(origin[real], "mask")
        return _image(photos), _mask(masks)

    def _to_device(self, part: Tensor) -> Tensor:
        if part.ndim != 4:  # none of its kind; still where the others are, or they cannot be joined
            return part.to(self.device.device)
        return part.to(self.device.device).contiguous(memory_format=self.device.memory_format)


def _flip(images: Tensor, masks: Tensor) -> list[Tensor]:
    return flip_some(torch.rand(len(images)) < 0.5, images, masks)


def _pixels(pictures: Tensor) -> np.ndarray:
    return pictures.permute(0, 2, 3, 1).numpy()


def _image(pixels: Tensor) -> Tensor:
    return pixels.float().div_(127.5).sub_(1)


def _mask(pixels: Tensor) -> Tensor:
    return pixels.float().div_(255)


def _origins(pairs: FaceDataset, photos: FaceDataset) -> np.ndarray:
    """Of each pair the position of the photo that was inverted for it, int64 [len(pairs)]; -1 for sampled ones."""
    place = {name: i for i, name in enumerate(photos.index["id"])}
    if "photo_id" not in pairs.index:
        return np.full(len(pairs), -1)
    return np.array([place.get(name, -1) for name in pairs.index["photo_id"]], np.int64)


def _weights(dataset: FaceDataset) -> np.ndarray | None:
    """Sampling weights of the index, None where it has none or all are equal."""
    if "weight" not in dataset.index:
        return None
    weights = dataset.index["weight"].fillna(1.0).to_numpy(np.float64)
    return None if np.ptp(weights) == 0 or weights.sum() <= 0 else weights


def _share(step: int, count: int, share: float) -> int:
    """How many of a step's ``count`` pictures fall to ``share`` of them, exact over the steps: small batches too."""
    return math.floor((step + 1) * count * share) - math.floor(step * count * share)
