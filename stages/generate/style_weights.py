"""How often each style picture is drawn in a transfer: like the source's people in skin tone and in what they wear.

An emoji set has as many dark as light faces, and a hat or a helmet on every other head; a set of photos has neither.
Left alone, the adversarial loss gives the source's people the style's distribution: pale faces under dim light turn
brown, and hat brims are drawn into foreheads. The original system tuned its training distribution by hand; here it
follows from the source.
"""

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from stages.common.facial import USUAL
from stages.common.images import to_uint8
from stages.common.seeding import generator as seeded
from stages.faces.distribution import TONES
from stages.faces.quality import typology_angle
from stages.generate.encoder import Encoder
from stages.generate.networks import Generator

SAMPLES = 512
BATCH = 64
TONE_LIMITS = (1 / 8, 4.0)  # of a tone class's weight: a few pictures shall not stand for most people
USUAL_SPREAD = 1.25  # bare heads differ from the lower quartile by about this factor
STEEPNESS = 8.0  # a head drawn 1.5 times as badly as that counts a twentieth
DETAIL = 12  # cells per side in which source and style picture are compared: colours and shapes, not line work
EDGES = tuple(edge for _, edge in reversed(TONES[:-1]))


@torch.no_grad()
def source_tones(source: Generator, seed: int) -> NDArray[np.float64]:
    """Individual typology angles [N] in degrees of the source's samples, cheeks where the alignment puts them."""
    side = source.arch.resolution
    everything = np.full((side, side), 255, np.uint8)
    eye_l, eye_r, mouth = ((x * side, y * side) for x, y in USUAL)
    z = torch.randn(SAMPLES, source.arch.z_dim, generator=seeded(seed, "source tones"))
    pictures = [picture for part in z.split(BATCH) for picture in to_uint8(source(part, 1.0, "const"))]
    return np.array([typology_angle(picture, everything, eye_l, eye_r, mouth) for picture in pictures])


def tone_weights(style: NDArray[np.float64], source: NDArray[np.float64], strength: float = 1.0) -> NDArray[np.float64]:
    """Weights [N] with which the style's skin-tone classes become as frequent as the source's.

    Args:
        style: typology angles [N] of the style pictures, degrees; NaN (no cheeks seen) weighs 1.
        source: typology angles of the source's faces.
        strength: 0 gives ones, 1 the full ratio, limited to 1/8 .. 4.
    """
    known = np.isfinite(style)
    wanted, there = _shares(source[np.isfinite(source)]), _shares(style[known])
    ratio = (wanted / np.maximum(there, 1e-9)).clip(*TONE_LIMITS)
    weights = np.ones(len(style))
    weights[known] = ratio[np.searchsorted(EDGES, style[known])] ** strength
    return weights


@torch.no_grad()
def likeness_weights(
    images: Tensor, masks: Tensor, source: Generator, encoder: Encoder, strength: float = 1.0
) -> NDArray[np.float64]:
    """Weights [N] in (0, 1]: low for pictures whose upper head the source has nothing like, as hats and helmets.

    Compared are the picture and what the source draws for its encoder code, coarsely and above the eyes.

    Args:
        images: uint8 [N, 3, R, R]. masks: uint8 [N, 1, R, R], head masks.
        strength: 0 gives ones, 1 the full effect.
    """
    errors = []
    for part, mask in zip(images.split(BATCH), masks.split(BATCH), strict=True):
        wanted = part.float().div(127.5).sub(1)
        drawn = source.synthesis(encoder(wanted), "const").clamp(-1, 1)
        distance = (F.adaptive_avg_pool2d(drawn, DETAIL) - F.adaptive_avg_pool2d(wanted, DETAIL)).abs().mean(1)
        upper = F.adaptive_avg_pool2d(mask.float(), DETAIL)[:, 0] / 255
        upper[:, round(DETAIL * (USUAL[0][1] - 0.1)) :] = 0
        errors.append((distance * upper).sum((1, 2)) / upper.sum((1, 2)).clamp_min(1e-6))
    error = torch.cat(errors).double().numpy()
    relative = error / max(float(np.quantile(error, 0.25)) * USUAL_SPREAD, 1e-9)
    weights: NDArray[np.float64] = (2 / (1 + relative**STEEPNESS)).clip(0, 1) ** strength
    return weights


def _shares(angles: NDArray[np.float64]) -> NDArray[np.float64]:
    counts = np.bincount(np.searchsorted(EDGES, angles), minlength=len(TONES))
    return counts / max(len(angles), 1)
