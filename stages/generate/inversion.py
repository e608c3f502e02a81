"""Inversion: the latents whose picture is nearest to a photo.

Optimisation in W or W+ as in the StyleGAN2 projector (Karras et al. 2020a, appendix D), started by the
encoder, many photos at once; every photo's result is independent of the others in its batch.
"""

import math
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from stages.common.device import Device
from stages.common.seeding import generator as seeded
from stages.generate.encoder import Encoder
from stages.generate.latents import LatentSpace
from stages.generate.layers import StyledConv
from stages.generate.networks import Discriminator, Generator
from stages.generate.perceptual import face_distance, normalised_features, region_weights

Space = Literal["w", "w+"]
RAMP_UP, RAMP_DOWN = 0.05, 0.25  # shares of the run (Karras et al. 2020a, appendix D)
W_NOISE = 0.05  # in standard deviations of w; gone after 3/4 of the run
W_NOISE_WITH_ENCODER = 0.01  # a good start needs no exploring
DELTA_WEIGHT = 0.1  # of the layers' scatter, relative to the prior's weight (e4e's delta norm)
NOISE_REGULARISER = 1e5  # StyleGAN2's


@dataclass(frozen=True)
class Inversion:
    """ws [N, num_ws, w_dim]; images [N, 3, R, R] what the generator makes of them (in [-1, 1]);
    distance [N]: final image distance, without priors; noise: optimised noise maps by layer name, or
    empty."""

    ws: Tensor
    images: Tensor
    distance: Tensor
    noise: dict[str, Tensor]


def invert(
    generator: Generator,
    discriminator: Discriminator,
    images: Tensor,
    masks: Tensor | None,
    space: LatentSpace,
    device: Device,
    *,
    encoder: Encoder | None = None,
    latent: Space = "w+",
    steps: int = 30,
    lr: float = 0.05,
    prior: float = 0.02,
    optimise_noise: bool = False,
    seed: int = 0,
) -> Inversion:
    """Invert aligned faces.

    Args:
        generator, discriminator: the source, frozen, on the device.
        images: [N, 3, R, R] in [-1, 1]; masks: head masks [N, 1, R, R] in [0, 1], or None.
        space: statistics of the generator's w.
        encoder: start from its latents; None starts from the mean face.
        latent: "w" one vector per face, "w+" one per layer.
        steps: optimisation steps; 0 returns the start.
        lr: Adam's rate in units of w's standard deviation.
        prior: weight of staying where the generator's own latents are.
        optimise_noise: also fit the noise maps, kept from carrying structure by an autocorrelation penalty.
        seed: of the exploring noise.
    """
    images = images.to(device.device)
    n, num_ws = len(images), generator.arch.num_ws
    mean, std = space.mean.to(images), space.std.to(images)
    with torch.no_grad(), device.autocast():
        start = encoder(images) if encoder is not None else mean.expand(n, num_ws, -1)
        target_features = normalised_features(discriminator, images)
    start = start.mean(1, keepdim=True) if latent == "w" else start
    # Optimised in units of w's standard deviation, so that one rate suits every generator.
    offset = ((start - mean) / std).clone().requires_grad_(True)
    weights = region_weights(None if masks is None else masks.to(images), images)
    noise = _noise_maps(generator, n, seed) if optimise_noise else {}
    optimiser = torch.optim.Adam([offset, *noise.values()], lr=lr, betas=(0.9, 0.999))
    exploring = W_NOISE if encoder is None else W_NOISE_WITH_ENCODER
    random = seeded(seed, "inversion")

    def ws_of(x: Tensor) -> Tensor:
        return (mean + std * x).expand(n, num_ws, -1)

    for step in range(steps):
        t = step / steps
        for group in optimiser.param_groups:
            group["lr"] = lr * _ramp(t)
        # one draw for all photos, so that a photo's result does not depend on its batch
        shake = torch.randn(1, *offset.shape[1:], generator=random).to(offset)
        ws = ws_of(offset + shake * exploring * max(0.0, 1 - t / 0.75) ** 2)
        with device.autocast():
            made = generator.synthesis(ws, "const", noise=noise or None)
            loss = face_distance(discriminator, made, images, target_features, weights)
        loss = loss + prior * space_penalty(space, ws_of(offset))
        total = loss.sum()  # a sum: each photo's gradient is its own
        if noise:
            total = total + NOISE_REGULARISER * noise_penalty(noise)
        optimiser.zero_grad(set_to_none=True)
        total.backward()
        optimiser.step()
        if noise:
            _renormalise(noise)
    with torch.no_grad():
        ws = ws_of(offset).contiguous()
        made = generator.synthesis(ws, "const", noise=noise or None)
        distance = face_distance(discriminator, made, images, normalised_features(discriminator, images), weights)
    return Inversion(ws, made.clamp(-1, 1), distance, {k: v.detach() for k, v in noise.items()})


def space_penalty(space: LatentSpace, ws: Tensor) -> Tensor:
    """[N]: how much less likely than the generator's own latents ws [N, num_ws, w_dim] are, plus their scatter.

    The first is the prior of Zhu et al. 2020 above its usual value, the second the delta norm of e4e (Tov et al. 2021),
    from the mean of the layers and squared.
    """
    unlikely = (space.improbability(ws) - 1).relu().mean(1)
    scatter = ((ws - ws.mean(1, keepdim=True)) / space.std.to(ws)).square().mean((1, 2))
    return unlikely + DELTA_WEIGHT * scatter


def noise_penalty(noise: dict[str, Tensor]) -> Tensor:
    """Squared autocorrelation of noise maps [N, 1, R, R] with one-pixel shifts over a pyramid down to 8 px, a scalar:
    summed over photos and layers (Karras et al. 2020a, appendix D).
    """
    total = torch.zeros(())
    for x in noise.values():
        while True:
            for axis in (2, 3):
                total = total + (x * x.roll(1, axis)).mean((1, 2, 3)).square().sum()
            if x.shape[-1] <= 8:
                break
            x = F.avg_pool2d(x, 2)
    return total


def _noise_maps(generator: Generator, n: int, seed: int) -> dict[str, Tensor]:
    maps = {}
    random = seeded(seed, "inversion noise")
    for name, layer, _ in generator.synthesis.layers():
        if isinstance(layer, StyledConv):
            side = layer.resolution
            start = torch.randn(1, 1, side, side, generator=random).expand(n, -1, -1, -1)
            maps[name] = start.to(generator.mapping.w_avg).clone().requires_grad_(True)
    return maps


@torch.no_grad()
def _renormalise(noise: dict[str, Tensor]) -> None:
    for x in noise.values():
        x -= x.mean((1, 2, 3), keepdim=True)
        x *= x.square().mean((1, 2, 3), keepdim=True).rsqrt()


def _ramp(t: float) -> float:
    """Learning-rate factor at t in [0, 1): linear up over 5 %, cosine down over the last 25 %."""
    down = min(1.0, (1.0 - t) / RAMP_DOWN)
    return (0.5 - 0.5 * math.cos(down * math.pi)) * min(1.0, (t + 1e-3) / RAMP_UP)
