"""The latent space of a generator: how likely a w is, how far two are apart, which way it varies most."""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from stages.common.seeding import generator as seeded
from stages.generate.networks import Generator

SAMPLES = 10_000  # as StyleGAN2's projector (Karras et al. 2020a, appendix D)
VARIANCE_FLOOR = 1e-3  # of the largest variance: flat directions are not weighted without limit


@dataclass(frozen=True)
class LatentSpace:
    """Statistics of w, all float32.

    mean, std: of w, [w_dim]. spread: mean distance of two random w, so that 1 means "two different people".
    p_mean, p_whiten: w seen through the inverse of its last leaky ReLU is close to normal (Zhu et al. 2020,
    arXiv:2012.09036); whiten [w_dim, w_dim] makes it standard normal.
    axes, scales: principal axes of w as rows [w_dim, w_dim], strongest first, with standard deviations
    [w_dim].
    """

    mean: Tensor
    std: Tensor
    spread: float
    p_mean: Tensor
    p_whiten: Tensor
    axes: Tensor
    scales: Tensor

    @classmethod
    @torch.no_grad()
    def of(cls, net: Generator, samples: int = SAMPLES) -> "LatentSpace":
        """Measure a generator's w over `samples` fixed latents."""
        z = torch.randn(samples, net.arch.z_dim, generator=seeded("latent space"))
        w = net.mapping.w(z.to(net.mapping.w_avg.device)).double()
        half = samples // 2
        spread = float((w[:half] - w[half : 2 * half]).norm(dim=1).mean())
        p = to_p(w)
        p_values, p_axes = torch.linalg.eigh(torch.cov(p.T))
        p_values = p_values.clamp_min(p_values.max() * VARIANCE_FLOOR)
        values, axes = torch.linalg.eigh(torch.cov(w.T))
        return cls(
            w.mean(0).float(),
            w.std(0).float(),
            spread,
            p.mean(0).float(),
            (p_axes * p_values.rsqrt()).float(),
            axes.T.flip(0).float(),
            values.flip(0).clamp_min(0).sqrt().float(),
        )

    def improbability(self, ws: Tensor) -> Tensor:
        """Mean squared whitened coordinate of ws [..., w_dim] -> [...]; about 1 for the generator's own
        samples.
        """
        return ((to_p(ws) - self.p_mean) @ self.p_whiten).square().mean(-1)

    def distances(self, a: Tensor, b: Tensor) -> Tensor:
        """Distances of latents a [N, w_dim] to b [M, w_dim] -> [N, M], 1 = two random samples."""
        return torch.cdist(a, b) / self.spread


def to_p(w: Tensor) -> Tensor:
    """Undo the mapping network's last activation, leaky ReLU 0.2 with gain sqrt 2: w [..., w_dim] to the same shape.

    That is space P of Zhu et al. 2020, but for the gain, which only scales.
    """
    return F.leaky_relu(w, 5.0) / math.sqrt(2)
