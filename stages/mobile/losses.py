"""Losses of the mobile network, named after the papers' terms. Each takes tensors and returns one number as tensor.

Targets are [N, 3, H, W] in [-1, 1]; so are outputs, but for the overshoot that training mode does not clip. Masks are
[N, 1, H, W] in [0, 1].
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import nn

from stages.mobile.edge import gaussian_blur


def pixel_loss(
    output: torch.Tensor, target: torch.Tensor, mask: torch.Tensor, head_weight: float | torch.Tensor
) -> torch.Tensor:
    """Charbonnier distance √(d² + 1e-6) (Charbonnier et al. 1994), head pixels ``head_weight`` times the others.

    Args:
        output, target: [N, 3, H, W], about [-1, 1]. mask: [N, 1, H, W] in [0, 1]. head_weight: one number >= 1, or
            [1, 1, H, W].
    """
    weight = 1 + (head_weight - 1) * mask
    distance = ((output - target).square() + 1e-6).sqrt()
    return (distance * weight).sum() / (weight.sum() * output.shape[1])


def mask_loss(logits: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Binary cross-entropy of the network's mask logits with the head mask; acts where the hard sigmoid is flat too.

    Both [N, 1, H, W], the mask in [0, 1].
    """
    return F.binary_cross_entropy_with_logits(logits, mask)


def colour_loss(output: torch.Tensor, target: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """L1 on Y plus Huber on U and V, inside the head, of blurred pictures: tones, not edges.

    The colour reconstruction loss of AnimeGAN (Chen et al. 2020), which blurs nothing.

    output, target [N, 3, H, W], about [-1, 1]; mask [N, 1, H, W] in [0, 1].
    """
    matrix = output.new_tensor([[0.299, 0.587, 0.114], [-0.147, -0.289, 0.436], [0.615, -0.515, -0.1]])
    difference = gaussian_blur(torch.einsum("ij,njhw->nihw", matrix, (output - target) * mask), 5)
    y, uv = difference[:, :1], difference[:, 1:]
    return y.abs().mean() + F.huber_loss(uv, torch.zeros_like(uv))


def total_variation(images: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Mean absolute difference of neighbours inside the head (Rudin et al. 1992, along the axes).

    images [N, 3, H, W], about [-1, 1]; mask [N, 1, H, W] in [0, 1].
    """
    across = ((images[..., 1:] - images[..., :-1]).abs() * mask[..., 1:]).mean()
    down = ((images[..., 1:, :] - images[..., :-1, :]).abs() * mask[..., 1:, :]).mean()
    return across + down


def discriminator_loss(
    real: Sequence[torch.Tensor], fake: Sequence[torch.Tensor], smooth: Sequence[torch.Tensor] | None, edge: float
) -> torch.Tensor:
    """Least-squares loss (Mao et al. 2017) over scales: real → 1, drawn → 0, edge-smoothed → 0 with weight ``edge``.

    Edge-smoothed pictures as fakes: CartoonGAN (Chen et al. 2018).
    Each a list over scales of scores [N, 1, h, w].
    """
    loss = torch.stack(
        [(r.float() - 1).square().mean() + f.float().square().mean() for r, f in zip(real, fake, strict=True)]
    )
    total = loss.mean()
    if smooth is not None:
        total = total + edge * torch.stack([s.float().square().mean() for s in smooth]).mean()
    return total


def generator_loss(fake: Sequence[torch.Tensor]) -> torch.Tensor:
    """Least-squares loss (Mao et al. 2017) over scales: drawn → 1; scores [N, 1, h, w] per scale."""
    return torch.stack([(f.float() - 1).square().mean() for f in fake]).mean()


class PatchDiscriminator(nn.Module):
    """Fully convolutional discriminators on ever smaller versions of the picture (pix2pixHD, Wang et al. 2018).

    Spectral norm (Miyato et al. 2018) keeps least squares stable without further regularisers.

    Args:
        width: channels of the first layer. scales: how many; each sees half the side of the one before.
    """

    def __init__(self, width: int = 32, scales: int = 2) -> None:
        super().__init__()
        self.scales = nn.ModuleList(_patch_net(width) for _ in range(scales))

    def forward(self, images: torch.Tensor) -> list[torch.Tensor]:
        """[N, 3, H, W], about [-1, 1] → one map of scores per scale, [N, 1, h, w]."""
        scores = []
        for i, net in enumerate(self.scales):
            if i:
                images = F.avg_pool2d(images, 2)
            scores.append(net(images))
        return scores


def _patch_net(width: int) -> nn.Sequential:
    """Two halvings, 22-pixel patches: larger than an eye, smaller than a face at 64 px."""
    norm = nn.utils.parametrizations.spectral_norm
    return nn.Sequential(
        norm(nn.Conv2d(3, width, 4, 2, 1)),
        nn.LeakyReLU(0.2),
        norm(nn.Conv2d(width, 2 * width, 4, 2, 1)),
        nn.LeakyReLU(0.2),
        norm(nn.Conv2d(2 * width, 2 * width, 3, 1, 1)),
        nn.LeakyReLU(0.2),
        norm(nn.Conv2d(2 * width, 1, 3, 1, 1)),
    )
