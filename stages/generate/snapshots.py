"""Candidates of a transfer and the choice among them: smallest style gap with enough diversity."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
import torch
from torch import Tensor

from stages.common.device import Device
from stages.common.distances import diversity, head_only, style_gap
from stages.common.features import FeatureNet
from stages.common.seeding import generator as seeded
from stages.generate.networks import Generator

SAMPLES = 256
PSI = 0.8  # what production samples with, roughly


@dataclass(frozen=True)
class Candidate:
    """One snapshot's figures; `diversity` is relative to the style's own pictures."""

    nimg: int
    gap: float
    diversity: float


class Judge:
    """Measures snapshots against held-out style pictures, with one mask and the same latents for all.

    The mask is the style's mean head mask: samples have no masks of their own yet, and style, samples and photos
    must be cut alike for their distances to be comparable. Photos are the source's samples of the same latents.

    Args:
        net: feature network of the style gap.
        pictures: style pictures float32 [N, 3, R, R] in [-1, 1], not trained on; N >= 4.
        mask: [1, 1, R, R] in [0, 1].
    """

    def __init__(
        self, net: FeatureNet, source: Generator, pictures: Tensor, mask: Tensor, seed: int, device: Device
    ) -> None:
        self.net, self.mask, self.seed, self.device = net, mask, seed, device
        self.z = torch.randn(SAMPLES, source.arch.z_dim, generator=seeded(seed, "judge"))
        self.photos = self._features(source)
        self.style = net.extract(head_only(pictures, mask)).numpy()
        self.style_diversity = diversity(self.style)

    @torch.no_grad()
    def _features(self, generator: Generator) -> np.ndarray:
        parts = []
        for z in self.z.split(32):
            with self.device.autocast():
                images = generator(z.to(self.device.device), PSI, "const").clamp(-1, 1).cpu()
            parts.append(self.net.extract(head_only(images, self.mask)))
        return torch.cat(parts).numpy()

    def measure(self, generator: Generator, nimg: int) -> Candidate:
        """Style gap and relative diversity of a generator's samples."""
        features = self._features(generator)
        gap = style_gap(features, self.style, self.photos, seed=self.seed, interval=False)
        return Candidate(nimg, float(gap.gap.value), diversity(features) / max(self.style_diversity, 1e-9))


def choose(candidates: Sequence[Candidate], min_diversity: float) -> Candidate:
    """The candidate with the smallest gap among those diverse enough; where none is, the most diverse one."""
    if not candidates:
        raise ValueError("no candidates")
    diverse = [c for c in candidates if c.diversity >= min_diversity]
    if not diverse:
        return max(candidates, key=lambda c: c.diversity)
    return min(diverse, key=lambda c: c.gap if np.isfinite(c.gap) else float("inf"))


def as_rows(candidates: Sequence[Candidate]) -> list[dict[str, float]]:
    """For summary.json."""
    return [asdict(c) for c in candidates]
