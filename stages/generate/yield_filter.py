"""The yield filter: which generated faces are usable, and why the others are not.

Nothing to download: what a face of this style looks like is learned from the style's own pictures and the
source's photos. Every check is one number per picture; its limit is what real style pictures (each scored by
a filter that has not seen it) nearly all keep. See `CHECKS` for the checks.
"""

import json
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from stages.common.atomic import atomic_path
from stages.common.distances.pixels import sharpness
from stages.generate.encoder import Encoder
from stages.generate.landmark_net import LandmarkNet, find_landmarks
from stages.generate.networks import Discriminator, minibatch_std

CHECKS = {
    "eyes": "low",  # heat of the weaker eye: both eyes found
    "mouth": "low",  # heat of the mouth
    "tilt": "high",  # |height difference of the eyes| / their distance, the picture being aligned by its eyes
    "stray": "high",  # an eye where none belongs: ghosts of the source
    "strange": "high",  # distance to the nearest known faces in feature space
    "sharpness": "band",  # mean |Laplacian| of the middle of the face
    "realness": "low",  # discriminator score
}
REASONS = {
    "eyes": "eye_not_found",
    "mouth": "mouth_not_found",
    "tilt": "eyes_not_level",
    "stray": "extra_eye",
    "strange": "not_a_face_of_this_style",
    "sharpness": "sharpness",
    "realness": "discriminator_score",
}
AXES = 32  # principal axes of the feature space that `strange` looks at
NEIGHBOURS = 3
SHARPNESS_MARGIN = 1.5  # fusion changes texture a little: the band reaches this factor beyond the real pictures'
WORST = 0.15  # of the model's own samples, dropped for their discriminator score
UNLIMITED = 1e9  # JSON has no infinity


@dataclass(frozen=True)
class YieldFilter:
    """A fitted filter; `save` / `load` carry it to worker processes.

    references [M, AXES]: known faces in whitened feature space; to_space,
    centre: the map into it. limits: {check: (lowest, highest)} accepted. spread: see `usual_spread`.
    """

    references: Tensor
    to_space: Tensor
    centre: Tensor
    limits: dict[str, tuple[float, float]]
    spread: float = 0.0

    @classmethod
    def fit(
        cls,
        encoder: Encoder,
        discriminator: Discriminator | None,
        landmarks: LandmarkNet,
        style: Tensor,
        photos: Tensor,
        loss: float,
        own: Tensor | None = None,
    ) -> "YieldFilter":
        """Learn a filter.

        Args:
            encoder: the source's encoder, in whose features `strange` measures.
            discriminator: the transferred model's; None leaves its check out.
            landmarks: finds eyes and mouths.
            style, photos: aligned pictures [N, 3, R, R] in [-1, 1].
            loss: share of real style pictures the filter may reject, over all checks together.
            own: samples of the model to filter. A discriminator tells even good samples from real pictures, so
                `realness` drops the worst of these instead of what differs from real ones; None = no such check.
        """
        features = _features(encoder, torch.cat([style, photos]))
        centre, to_space = _whitening(features)
        spread = usual_spread(discriminator, style) if discriminator is not None else 0.0
        open_filter = cls((features - centre) @ to_space, to_space, centre, {}, spread)
        known = open_filter.scores(encoder, discriminator, landmarks, style, without_self=True)
        share = loss / len(known.columns)
        limits = {name: _limits(known[name].to_numpy(), name, share) for name in CHECKS if name != "realness"}
        if own is not None and discriminator is not None:
            worst = float(np.quantile(realness(discriminator, own, spread).numpy(), WORST))
            limits["realness"] = (worst, UNLIMITED)
        return replace(open_filter, limits=limits)

    def scores(
        self,
        encoder: Encoder,
        discriminator: Discriminator | None,
        landmarks: LandmarkNet,
        images: Tensor,
        without_self: bool = False,
    ) -> pd.DataFrame:
        """One row per image [N, 3, R, R] in [-1, 1], one column per check (see `CHECKS`).

        without_self: the images are among the references; skip each one's zero distance to itself.
        """
        found = find_landmarks(landmarks, images)
        weaker = found.peaks[:, :2].min(1)
        across = found.points[:, 1] - found.points[:, 0]
        located = (_features(encoder, images) - self.centre) @ self.to_space
        nearest = torch.cdist(located, self.references).sort(1).values
        skip = int(without_self)
        columns = {
            "eyes": weaker,
            "mouth": found.peaks[:, 2],
            "tilt": np.abs(across[:, 1]) / np.maximum(np.abs(across[:, 0]), 1e-3),
            "stray": found.stray,
            "strange": nearest[:, skip : skip + NEIGHBOURS].mean(1).numpy(),
            "sharpness": sharpness(images, middle(images)),
        }
        if discriminator is not None:
            columns["realness"] = realness(discriminator, images, self.spread).numpy()
        return pd.DataFrame(columns)

    def reasons(self, scores: pd.DataFrame) -> list[str]:
        """Why each row is rejected (the first check it fails), "" = accepted."""
        out = np.full(len(scores), "", dtype=object)
        for name in reversed([c for c in CHECKS if c in self.limits]):
            low, high = self.limits[name]
            value = scores[name].to_numpy()
            out[~((value >= low) & (value <= high))] = REASONS[name]
        return [str(reason) for reason in out]

    def save(self, path: Path) -> None:
        """Write as npz, atomically."""
        with atomic_path(path) as temporary, temporary.open("wb") as file:
            np.savez(
                file,
                settings=json.dumps({"limits": self.limits, "spread": self.spread}),
                **{k: getattr(self, k).numpy() for k in ("references", "to_space", "centre")},
            )

    @classmethod
    def load(cls, path: Path) -> "YieldFilter":
        """Read what `save` wrote."""
        with np.load(path, allow_pickle=False) as file:
            t = {k: torch.from_numpy(file[k]) for k in file.files if k != "settings"}
            settings = json.loads(str(file["settings"]))
        limits = {k: (v[0], v[1]) for k, v in settings["limits"].items()}
        return cls(t["references"], t["to_space"], t["centre"], limits, settings["spread"])


@torch.no_grad()
def realness(discriminator: Discriminator, images: Tensor, spread: float) -> Tensor:
    """Discriminator logits [N] of images [N, 3, R, R] in [-1, 1], each independent of its neighbours.

    spread: what takes the place of the minibatch standard deviation, see `usual_spread`.
    """
    out = []
    for part in images.split(64):
        x = discriminator.features(part)[4].float()
        plane = torch.full_like(x[:, :1], spread)
        head = discriminator.b4
        out.append(head.out(head.fc(head.conv(torch.cat([x, plane], 1)).flatten(1))).flatten())
    return torch.cat(out)


@torch.no_grad()
def usual_spread(discriminator: Discriminator, images: Tensor) -> float:
    """The minibatch standard deviation of real pictures [N, 3, R, R] in [-1, 1], averaged over groups of four."""
    x = discriminator.features(images[: len(images) // 4 * 4][:256])[4].float()
    return float(minibatch_std(x).mean())


def middle(images: Tensor) -> Tensor:
    """Weights [N, 1, R, R], 0 or 1: the ellipse where an aligned face always is. Of images only the shape counts, so
    they may be of any range.
    """
    n, _, h, w = images.shape
    ys, xs = torch.meshgrid(torch.linspace(-1, 1, h), torch.linspace(-1, 1, w), indexing="ij")
    inside = (xs / 0.55).square() + ((ys - 0.1) / 0.65).square() <= 1
    return inside.float().expand(n, 1, h, w)


@torch.no_grad()
def _features(encoder: Encoder, images: Tensor) -> Tensor:
    return torch.cat([encoder.features(part) for part in images.split(64)])


def _whitening(features: Tensor) -> tuple[Tensor, Tensor]:
    """(centre [F], map [F, AXES]) to unit variance along the strongest axes."""
    centre = features.mean(0)
    _, s, v = torch.linalg.svd(features - centre, full_matrices=False)
    k = min(AXES, len(s))
    return centre, v[:k].T * ((len(features) - 1) ** 0.5 / s[:k].clamp_min(1e-6))


def _limits(values: NDArray[np.float64], name: str, share: float) -> tuple[float, float]:
    if CHECKS[name] == "low":
        return float(np.quantile(values, share)), UNLIMITED
    if CHECKS[name] == "high":
        return -UNLIMITED, float(np.quantile(values, 1 - share))
    low, high = np.quantile(values, [share / 2, 1 - share / 2])
    return float(low) / SHARPNESS_MARGIN, float(high) * SHARPNESS_MARGIN
