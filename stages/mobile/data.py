"""What the mobile network learns from: pairs, the adversarial set, and samples for distillation."""

from dataclasses import dataclass
from pathlib import Path

import torch

from stages.common.dataset import STYLED_FIELDS, FaceDataset, sample_indices
from stages.common.dilation import dilate
from stages.common.errors import InputError
from stages.common.shards import is_mask
from stages.mobile.augment import Pairs

CHANGED_FROM, CHANGED_TO = 0.1, 0.3  # difference (scale of 2) at which a pixel begins to count as drawn, and fully does


@dataclass
class TrainingData:
    """Pairs to learn, pairs to judge by, and the styled set (pictures and source samples); validation may be None."""

    pairs: FaceDataset
    validation: FaceDataset | None
    styled: FaceDataset

    def pair_batch(self, nimg: int, n: int, seed: int, device: torch.device) -> Pairs:
        """The ``n`` pairs after image ``nimg``."""
        return to_pairs(self.pairs, sample_indices(len(self.pairs), nimg, n, seed), device)

    def styled_batch(self, field: str, nimg: int, n: int, seed: int, device: torch.device) -> torch.Tensor:
        """``n`` pictures of the styled set.

        Field "styled" or "photo": float [n, 3, H, W] in [-1, 1]; masks: [n, 1, H, W] in [0, 1].
        """
        chosen = sample_indices(len(self.styled), nimg, n, seed + 1)
        return as_float(self.styled.take(chosen, field).to(device), field)


def load_training_data(pairs: Path, styled: Path, resolution: int, cache: Path) -> TrainingData:
    """Opens data/pairs/S and data/styled/S.

    Raises:
        InputError: missing or empty datasets, with the stage to run.
    """
    fields = ("photo", "styled", "mask")
    train = FaceDataset(pairs, resolution, "train", fields, cache)
    try:
        validation = FaceDataset(pairs, resolution, "val", fields, cache)
    except InputError:  # few photos: no person was left for validation
        validation = None
    return TrainingData(train, validation, FaceDataset(styled, resolution, None, STYLED_FIELDS, cache))


def to_pairs(dataset: FaceDataset, indices: object, device: torch.device) -> Pairs:
    """Samples by position as float pairs; their mask covers all that the style drew (:func:`drawn_region`)."""
    photo, styled, mask = (
        as_float(dataset.take(indices, field).to(device), field)  # type: ignore[arg-type]
        for field in ("photo", "styled", "mask")
    )
    return Pairs(photo, styled, drawn_region(photo, styled, mask))


def as_float(images: torch.Tensor, field: str) -> torch.Tensor:
    """uint8 to float32: pictures to [-1, 1], masks to [0, 1]."""
    images = images.float()
    return images / 255 if is_mask(field) else images / 127.5 - 1


def drawn_region(photo: torch.Tensor, styled: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Head mask joined with what changed close to it: a style's hair may stand out beyond the photo's head.

    Pictures [N, 3, H, W] in [-1, 1], mask and result [N, 1, H, W] in [0, 1]. Changes further away are the translator's
    mistakes, not drawing.
    """
    changed = (styled - photo).abs().amax(1, keepdim=True)
    changed = ((changed - CHANGED_FROM) / (CHANGED_TO - CHANGED_FROM)).clamp(0, 1)
    return torch.maximum(mask, changed * dilate(mask, photo.shape[-1] // 16))
