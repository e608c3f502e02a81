"""What is measured: a test set of photos, a set of real style pictures, and the systems compared on them."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

import cv2
import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from stages.common.images import to_tensor

Pictures = NDArray[Any]
"""uint8, [N, H, W, 3] or one [H, W, 3]; masks without the last axis."""
Role = Literal["product", "stage", "baseline"]
CHUNK = 64


@dataclass(frozen=True)
class Faces:
    """Aligned pictures with head masks, row i of everything describing the same picture.

    Attributes:
        images: uint8 [N, H, W, 3] RGB.
        masks: uint8 [N, H, W], 255 = head.
        index: N rows; ``id``, for photos also ``person`` and, where known, ita, brightness, yaw, age, gender ...
    """

    images: Pictures
    masks: Pictures
    index: pd.DataFrame

    def __len__(self) -> int:
        return len(self.images)

    @property
    def ids(self) -> list[str]:
        """Picture ids as text."""
        return [str(value) for value in self.index["id"]]

    @property
    def persons(self) -> list[str]:
        """Person per picture; a picture without one is its own person."""
        if "person" not in self.index:
            return self.ids
        return [str(i) if pd.isna(p) else str(p) for i, p in zip(self.index["id"], self.index["person"], strict=True)]

    def some(self, rows: NDArray[np.intp]) -> "Faces":
        """The given rows only."""
        return Faces(self.images[rows], self.masks[rows], self.index.iloc[rows].reset_index(drop=True))


@dataclass(frozen=True)
class System:
    """One way from photo to styled picture, with what it made of the inputs.

    Attributes:
        name: key in tables, "mnn".
        title: what people read.
        role: "product" (judged by the verdict), "stage" (an intermediate result) or "baseline".
        inputs: the photos it was given, with reference masks.
        images: uint8 [N, H, W, 3], its outputs in the same order, before any pasting of the photo's background.
        masks: uint8 [N, H, W] the head mask it found itself, None when it has none.
        note: what a reader must know to compare it fairly.
    """

    name: str
    title: str
    role: Role
    inputs: Faces
    images: Pictures
    masks: Pictures | None = None
    note: str = ""


@dataclass(frozen=True)
class Chunk:
    """Tensors of some rows of a system: float NCHW [-1, 1] pictures and N1HW [0, 1] masks."""

    rows: slice
    photos: Tensor
    results: Tensor
    masks: Tensor
    own_masks: Tensor | None = field(default=None)


def chunks(system: System, size: int = CHUNK) -> Iterator[Chunk]:
    """The system's pictures as tensors, a few at a time: memory does not grow with the test set."""
    for start in range(0, len(system.images), size):
        rows = slice(start, start + size)
        yield Chunk(
            rows,
            to_tensor(system.inputs.images[rows]),
            to_tensor(system.images[rows]),
            mask_tensor(system.inputs.masks[rows]),
            None if system.masks is None else mask_tensor(system.masks[rows]),
        )


def mask_tensor(masks: Pictures) -> Tensor:
    """uint8 [N, H, W] → float [N, 1, H, W] in [0, 1]."""
    return torch.from_numpy(np.ascontiguousarray(masks)).float().div_(255)[:, None]


def masked(faces: Pictures, masks: Pictures) -> Pictures:
    """Pictures with everything outside the masks (N or one for all) mid-grey, uint8 [N, H, W, 3].

    The 8-bit twin of :func:`stages.common.distances.head_only`, so that features can be cached by content.
    """
    share = np.broadcast_to(masks, faces.shape[:3])[..., None].astype(np.uint16)
    return ((faces * share + 128 * (255 - share) + 127) // 255).astype(np.uint8)


def fit(picture: Pictures, side: int) -> Pictures:
    """One picture, uint8 [H, W, 3], or mask, uint8 [H, W], resized to ``side`` pixels.

    By area when it shrinks, bicubically when it grows.
    """
    if picture.shape[0] == side and picture.shape[1] == side:
        return picture
    how = cv2.INTER_AREA if picture.shape[0] > side else cv2.INTER_CUBIC
    return cv2.resize(picture, (side, side), interpolation=how)
