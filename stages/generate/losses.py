"""GAN losses as plain functions, named after the papers' terms; weights are the caller's."""

import math
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor


def generator_loss(fake_logits: Tensor) -> Tensor:
    """Non-saturating logistic loss (Goodfellow et al. 2014): mean softplus(-D(fake)); logits [N, 1] -> scalar."""
    return F.softplus(-fake_logits).mean()


def discriminator_loss(fake_logits: Tensor, real_logits: Tensor) -> Tensor:
    """Logistic loss (Goodfellow et al. 2014): mean softplus(D(fake)) + mean softplus(-D(real)).

    Logits [N, 1] -> scalar.
    """
    return F.softplus(fake_logits).mean() + F.softplus(-real_logits).mean()


def r1_penalty(real_logits: Tensor, real_images: Tensor) -> Tensor:
    """R1 (Mescheder et al. 2018): mean squared norm of dD/d(image), a scalar, without gamma / 2.

    `real_images` [N, 3, R, R] in [-1, 1] are the images *before* augmentation, requiring gradients; `real_logits`
    [N, 1] come through it.
    """
    (gradient,) = torch.autograd.grad(real_logits.sum(), real_images, create_graph=True)
    return gradient.float().square().sum((1, 2, 3)).mean()


def path_lengths(images: Tensor, ws: Tensor) -> Tensor:
    """Path lengths (Karras et al. 2020a): images [N, 3, R, R], about [-1, 1], made from ws [N, num_ws, w_dim] -> [N].

    The noise is divided by sqrt(H W); the length is the root of the mean over ws of the summed squares.
    """
    noise = torch.randn_like(images) / math.sqrt(images.shape[2] * images.shape[3])
    (gradient,) = torch.autograd.grad((images * noise).sum(), ws, create_graph=True)
    return gradient.square().sum(2).mean(1).sqrt()


def anchor_distance(images: Tensor, wanted: Tensor) -> Tensor:
    """L1 of pictures [N, 3, R, R] to their anchors, plus L1 of both at a quarter of the size: place before detail.

    `images` as the generator makes them, about [-1, 1]; `wanted` in [-1, 1].
    """
    images = images.float()
    coarse = F.avg_pool2d(images, 4) - F.avg_pool2d(wanted, 4)
    return (images - wanted).abs().mean() + coarse.abs().mean()


def activation_distance(features: Mapping[int, Tensor], reference: Mapping[int, Tensor]) -> Tensor:
    """Mean squared difference of activations {resolution: [N, C, r, r]}, relative to the reference's mean square.

    Averaged over resolutions; keeps a transferred generator's features near the source's.
    """
    terms = [
        (features[r].float() - reference[r].float()).square().mean() / reference[r].float().square().mean()
        for r in reference
    ]
    return torch.stack(terms).mean()


def distance_consistency(features: Mapping[int, Tensor], reference: Mapping[int, Tensor]) -> Tensor:
    """Cross-domain distance consistency (Ojha et al. 2021) of activations {resolution: [N, C, r, r]}, N >= 3.

    The softmax over one sample's cosine similarities to the others should be the same before and after transfer:
    KL(reference || adapted), averaged over samples and resolutions. What is similar stays similar: diversity.
    """
    terms = [
        F.kl_div(_similarities(features[r]), _similarities(reference[r]), log_target=True, reduction="batchmean")
        for r in reference
    ]
    return torch.stack(terms).mean()


def _similarities(x: Tensor) -> Tensor:
    """Log-softmax over each sample's cosine similarities to the others: [N, ...] -> [N, N - 1]."""
    n = len(x)
    unit = F.normalize(x.float().flatten(1), dim=1)
    cosine = unit @ unit.t()
    others = cosine[~torch.eye(n, dtype=torch.bool, device=x.device)].reshape(n, n - 1)
    return F.log_softmax(others, dim=1)
