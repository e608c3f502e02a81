"""Training of the inversion encoder, part of the `source` stage.

First on the generator's own samples, whose latents are known; then half of every batch are photos, judged by
what the generator makes of the latents found. Photos of persons held out for tests must not be among them.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from pipeline.settings.generate import EncoderSettings
from stages.common.dataset import sample_indices
from stages.common.device import Device, average_gradients
from stages.common.ema import EMA, half_life_beta
from stages.common.loop import train
from stages.common.seeding import seed_all
from stages.generate.encoder import Encoder, EncoderConfig
from stages.generate.latents import LatentSpace
from stages.generate.networks import Discriminator, Generator
from stages.generate.perceptual import face_distance, normalised_features, region_weights

IMAGE_WEIGHT = 0.5
PRIOR_WEIGHT = 0.02
MIXED = 0.5  # share of samples with two people's w, so that layers learn to differ
PHOTO_START = 0.5  # share of the run before photos join


@dataclass(frozen=True)
class EncoderFigures:
    """Held-out figures, shown in the source's README.

    w_error: squared error of standardised w on fresh samples (1 = guessing the mean).
    head_ratio: pixel error of the mean face inside the head, over the encoder's, on photos (higher is
    better).
    """

    w_error: float
    head_ratio: float


def train_encoder(
    generator: Generator,
    discriminator: Discriminator,
    photos: Tensor | None,
    masks: Tensor | None,
    settings: EncoderSettings,
    work: Path,
    seed: int,
    device: Device,
    start: Encoder | None = None,
) -> Encoder:
    """Train (or continue from `start`) the encoder of a source.

    Args:
        generator, discriminator: the source, frozen.
        photos: aligned training photos uint8 [N, 3, R, R]; None = samples only.
        masks: their head masks uint8 [N, 1, R, R], or None.
        settings: how long and how fast.
        work: folder of the run's checkpoints; the same call resumes.
        seed: seed of the run.
        device: where to compute.
        start: weights to continue from; its latent statistics are replaced by this generator's.

    Returns:
        The averaged (EMA) encoder, eval mode, on `device`.
    """
    generator.to(device.device), discriminator.to(device.device)
    space = LatentSpace.of(generator)
    arch = generator.arch
    seed_all(seed, "encoder weights")  # the same in every process, whatever ran before
    encoder = Encoder(EncoderConfig(arch.resolution, arch.num_ws, arch.w_dim))
    if start is not None:
        encoder.load_state_dict(start.state_dict())
    encoder.w_avg.copy_(space.mean)
    encoder.w_scale.copy_(space.std)
    encoder = encoder.train().requires_grad_(True)
    encoder = encoder.to(device.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    ema = EMA(encoder)
    optimiser = torch.optim.Adam(encoder.parameters(), lr=settings.lr, betas=(0.9, 0.99))
    for group in optimiser.param_groups:
        group["base_lr"] = settings.lr  # what the loop's guard halves
    total, batch = int(settings.kimg * 1000), max(2, settings.batch // device.world)
    share = 0 if photos is None else batch // 2

    def step(nimg: int) -> Mapping[str, Tensor]:
        progress = nimg / total
        for group in optimiser.param_groups:
            group["lr"] = group["base_lr"] * min(1.0, 4.0 * (1.02 - progress))
        n_photos = share if progress >= PHOTO_START else 0
        losses: dict[str, Tensor] = {}
        ws = sample_ws(generator, batch - n_photos, device)
        with torch.no_grad(), device.autocast():
            samples = generator.synthesis(ws, "random").clamp(-1, 1)
        given, target = disturb(samples), samples
        weights = region_weights(None, samples)
        if n_photos and photos is not None:
            # every process has an order of its own, of which it takes its share
            start, own_seed = nimg // device.world, seed * device.world + device.rank
            chosen = torch.from_numpy(sample_indices(len(photos), start, n_photos, own_seed))
            real = to_float(photos[chosen], device)
            head = None if masks is None else masks[chosen].to(device.device).float() / 255
            given = torch.cat([disturb(real), given])
            target, weights = real, region_weights(head, real)
        with device.autocast():
            found = encoder(given)
        losses["w"] = ((found[n_photos:] - ws) / encoder.w_scale).square().mean()
        loss = losses["w"]
        if n_photos:
            with device.autocast():
                made = generator.synthesis(found[:n_photos], "const")
                with torch.no_grad():
                    features = normalised_features(discriminator, target)
                losses["image"] = face_distance(discriminator, made, target, features, weights).mean()
            losses["prior"] = (space.improbability(found[:n_photos]) - 1).relu().mean()
            loss = loss + IMAGE_WEIGHT * losses["image"] + PRIOR_WEIGHT * losses["prior"]
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        average_gradients(encoder.parameters())
        torch.nn.utils.clip_grad_norm_(encoder.parameters(), 5.0)
        optimiser.step()
        ema.update(half_life_beta(settings.batch, min(2000.0, nimg * 0.1 + 1)))
        return {name: value.detach() for name, value in losses.items()}

    train(
        work,
        {"encoder": encoder, "ema": ema, "optimiser": optimiser},
        step,
        total,
        batch * device.world,
        seed,
        checkpoint_nimg=max(settings.batch, total // 10),
        stats_nimg=max(settings.batch, total // 50),
        label="encoder",
        rank=device.rank,
    )
    return ema.net  # type: ignore[return-value]


@torch.no_grad()
def sample_ws(generator: Generator, n: int, device: Device) -> Tensor:
    """Latents to learn from, [n, num_ws, w_dim]: truncation 0.5 to 1.1, part of them two people's, crossed
    over.
    """
    arch = generator.arch
    z = torch.randn(2, n, arch.z_dim, device=device.device)
    first, second = generator.mapping(z[0]), generator.mapping(z[1])
    crossing = torch.randint(1, arch.num_ws, (n, 1, 1), device=device.device)
    crossing = torch.where(torch.rand(n, 1, 1, device=device.device) < MIXED, crossing, arch.num_ws)
    ws = torch.where(torch.arange(arch.num_ws, device=device.device)[None, :, None] < crossing, first, second)
    psi = torch.empty(n, 1, 1, device=device.device).uniform_(0.5, 1.1)
    return generator.mapping.w_avg + psi * (ws - generator.mapping.w_avg)


def disturb(images: Tensor) -> Tensor:
    """A little of what photos have and samples lack: grain, exposure and contrast; images [N, 3, R, R] in [-1, 1]."""
    n = len(images)
    contrast = torch.empty(n, 1, 1, 1, device=images.device).uniform_(0.9, 1.1)
    light = torch.empty(n, 1, 1, 1, device=images.device).uniform_(-0.06, 0.06)
    grain = torch.empty(n, 1, 1, 1, device=images.device).uniform_(0, 0.06)
    return (images * contrast + light + torch.randn_like(images) * grain).clamp(-1, 1)


def to_float(images: Tensor, device: Device) -> Tensor:
    """uint8 [N, 3, H, W] -> float32 in [-1, 1] on the device."""
    return images.to(device.device).float().div_(127.5).sub_(1)


@torch.no_grad()
def encoder_figures(
    generator: Generator, encoder: Encoder, photos: Tensor, masks: Tensor | None, device: Device
) -> EncoderFigures:
    """Measure an encoder on 512 fresh samples and on photos (uint8 [N, 3, R, R]) it has not seen."""
    torch.manual_seed(1)
    space = LatentSpace.of(generator)
    ws = sample_ws(generator, 512, device)
    real = to_float(photos, device)
    weights = torch.ones_like(real[:, :1]) if masks is None else masks.to(device.device).float() / 255
    with device.autocast():
        found = torch.cat([encoder(generator.synthesis(w, "const").clamp(-1, 1)) for w in ws.split(64)])
        made = torch.cat([generator.synthesis(encoder(x), "const") for x in real.split(64)])
        mean = generator.synthesis(generator.mapping.w_avg.expand(1, generator.arch.num_ws, -1), "const")
    w_error = ((found - ws) / space.std).square().mean()
    return EncoderFigures(float(w_error), float(head_error(mean, real, weights) / head_error(made, real, weights)))


def head_error(images: Tensor, target: Tensor, weights: Tensor) -> Tensor:
    """Mean squared pixel error inside the mask, a scalar.

    images: [N or 1, 3, R, R], cut to [-1, 1]; target: [N, 3, R, R] in [-1, 1]; weights: [N, 1, R, R] >= 0.
    """
    square = (images.float().clamp(-1, 1) - target).square() * weights
    return square.sum() / (3 * weights.sum())
