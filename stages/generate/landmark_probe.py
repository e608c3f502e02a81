"""Where the eyes and the mouth are in aligned faces of any style, learned from examples in closed form.

No detector knows drawn or half-drawn faces, but every style comes with pictures whose landmarks are known
from their alignment. One linear map from the shipped encoder's local features to three heat maps (left eye,
right eye, mouth),
fitted by ridge regression in seconds, finds them again: in the style, in photos and in what is fused from
both.
"""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from stages.generate.encoder import Encoder

POINTS = ("eye_l", "eye_r", "mouth")
SIGMA = 1.3  # of the target blobs, in cells of the finest map (32 across)
RIDGE = 30.0
BACKGROUND_CELLS = 60  # random cells per picture that teach where nothing is
SEARCH = 5  # cells around the mean position where a landmark may lie: about 0.16 of the picture


@dataclass(frozen=True)
class Landmarks:
    """What the probe sees. points: [N, 3, 2] x, y in [0, 1] of the picture's side; peaks: [N, 3] heat (1 =
    as taught);
    stray: [N] the highest eye heat away from both eyes."""

    points: NDArray[np.float32]
    peaks: NDArray[np.float32]
    stray: NDArray[np.float32]


@dataclass(frozen=True)
class LandmarkProbe:
    """A fitted probe. weights [F + 1, 3]; feature mean and scale [F]; usual: mean positions [3, 2] in [0,
    1].
    """

    weights: Tensor
    mean: Tensor
    scale: Tensor
    usual: Tensor

    @classmethod
    @torch.no_grad()
    def fit(cls, encoder: Encoder, images: Tensor, points: NDArray[np.float32]) -> "LandmarkProbe":
        """Fit on images [N, 3, R, R] in [-1, 1] with points [N, 3, 2] in [0, 1]; a NaN point teaches
        nothing.
        """
        known = torch.from_numpy(points).float()
        generator = torch.Generator().manual_seed(0)
        rows, targets = [], []
        for start in range(0, len(images), 64):
            maps = local_features(encoder, images[start : start + 64])
            n, _, h, w = maps.shape
            heat = blobs(known[start : start + 64], h, w)
            lively = heat.nan_to_num(0).amax(1).flatten(1) > 0.05
            lively |= torch.rand(n, h * w, generator=generator) < BACKGROUND_CELLS / (h * w)
            rows.append(maps.flatten(2).transpose(1, 2)[lively])
            targets.append(heat.flatten(2).transpose(1, 2)[lively])
        x, y = torch.cat(rows).double(), torch.cat(targets).double()
        mean, scale = x.mean(0), x.std(0).clamp_min(1e-4)
        x = torch.cat([(x - mean) / scale, torch.ones(len(x), 1, dtype=torch.float64)], 1)
        columns = []
        for k in range(len(POINTS)):
            seen = ~y[:, k].isnan()
            gram = x[seen].T @ x[seen] + RIDGE * torch.eye(x.shape[1], dtype=torch.float64)
            columns.append(torch.linalg.solve(gram, x[seen].T @ y[seen, k]))
        usual = torch.from_numpy(np.nanmean(points, axis=0)).float()
        return cls(torch.stack(columns, 1).float(), mean.float(), scale.float(), usual)

    @torch.no_grad()
    def heat(self, encoder: Encoder, images: Tensor) -> Tensor:
        """Heat maps [N, 3, h, w] of images [N, 3, R, R] in [-1, 1]."""
        out = []
        for part in images.split(64):
            x = local_features(encoder, part).permute(0, 2, 3, 1)
            y = ((x - self.mean) / self.scale) @ self.weights[:-1] + self.weights[-1]
            out.append(y.permute(0, 3, 1, 2))
        return torch.cat(out)

    def find(self, encoder: Encoder, images: Tensor) -> Landmarks:
        """Landmarks of aligned images [N, 3, R, R] in [-1, 1]."""
        heat = self.heat(encoder, images)
        n, _, h, w = heat.shape
        ys, xs = torch.meshgrid(torch.arange(h), torch.arange(w), indexing="ij")
        usual = self.usual * torch.tensor([w, h]) - 0.5
        near = torch.stack([(xs - p[0]) ** 2 + (ys - p[1]) ** 2 <= SEARCH**2 for p in usual])
        peaks, cell = heat.masked_fill(~near, -1.0).flatten(2).max(2)
        cx, cy = cell % w, cell // w
        points = torch.stack([_refine(heat, cy, cx, axis) for axis in (1, 0)], dim=2)
        points = points / torch.tensor([w, h])
        eyes = heat[:, :2].amax(1)
        away = torch.ones(n, h, w, dtype=torch.bool)
        for k in range(2):  # an eye is about 5 cells wide; beyond that another one has no business in a face
            away &= (xs - cx[:, k, None, None]) ** 2 + (ys - cy[:, k, None, None]) ** 2 > 4.5**2
        away &= (xs - w / 2).abs() < 0.34 * w
        away &= (ys > 0.2 * h) & (ys < 0.8 * h)
        stray = eyes.masked_fill(~away, 0.0).flatten(1).amax(1)
        return Landmarks(points.numpy(), peaks.numpy(), stray.numpy())


def local_features(encoder: Encoder, images: Tensor) -> Tensor:
    """The encoder's three finest maps at the finest one's size: [N, 224, 32, 32] at 64 px, float32."""
    maps = encoder.maps(images)[:3]
    size = maps[0].shape[-2:]
    return torch.cat(
        [
            F.interpolate(m.float(), size, mode="bilinear", align_corners=False) if m.shape[-2:] != size else m.float()
            for m in maps
        ],
        dim=1,
    )


def blobs(points: Tensor, h: int, w: int) -> Tensor:
    """Gaussian targets [N, 3, h, w] at points [N, 3, 2] in [0, 1]; NaN where a point is unknown."""
    ys, xs = torch.meshgrid(torch.arange(h) + 0.5, torch.arange(w) + 0.5, indexing="ij")
    dx = xs - points[..., 0, None, None] * w
    dy = ys - points[..., 1, None, None] * h
    return torch.exp(-(dx.square() + dy.square()) / (2 * SIGMA**2))


def _refine(heat: Tensor, cy: Tensor, cx: Tensor, axis: int) -> Tensor:
    """Sub-cell position along an axis (0 = y, 1 = x) by a parabola through the peak and its neighbours: [N,
    3].
    """
    _, _, h, w = heat.shape
    flat = heat.flatten(2)

    def at(dy: int, dx: int) -> Tensor:
        index = (cy + dy).clamp(0, h - 1) * w + (cx + dx).clamp(0, w - 1)
        return flat.gather(2, index[..., None])[..., 0]

    step = (1, 0) if axis == 0 else (0, 1)
    before, centre, after = at(-step[0], -step[1]), at(0, 0), at(*step)
    curve = (before - 2 * centre + after).clamp_max(-1e-6)
    shift = (0.5 * (before - after) / curve).clamp(-0.5, 0.5)
    return (cy if axis == 0 else cx).float() + 0.5 + shift
