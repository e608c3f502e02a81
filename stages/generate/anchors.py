"""Anchors: style pictures with the latents that show most nearly the same person in the source.

Purely adversarial transfer forgets within minutes which latent was whom, and learns the tiny sharp parts of a drawing
(eyes) last. The source's encoder gives every style picture a code w; asking the generator to draw that picture for that
code, beside the adversarial loss, keeps pose, hair, tone and smile where the source has them, and makes a few thousand
images suffice (the idea of JoJoGAN's fine-tuning on inverted references, Chong & Forsyth 2021, on a whole style set).
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stages.common.dataset import sample_indices
from stages.generate.encoder import Encoder

ENCODE_BATCH = 64
EXPOSURES = (1.0, 0.75, 0.55)  # of a drawing before it is encoded; photos of different studios differ as much


@dataclass(frozen=True)
class Anchors:
    """Style pictures uint8 [N, 3, R, R] and their codes float32 [E, N, w_dim], one per exposure.

    `weights` [N] say how often each is drawn; None: equally often.
    """

    images: Tensor
    codes: Tensor
    seed: int
    weights: NDArray[np.float64] | None = None

    def draw(self, nimg: int, n: int) -> tuple[Tensor, Tensor]:
        """The `n` anchors after image number `nimg`: codes [n, w_dim] and images [n, 3, R, R] in [-1, 1].

        The exposures take turns.
        """
        rows = torch.from_numpy(sample_indices(len(self.images), nimg, n, self.seed, self.weights))
        exposure = torch.arange(nimg, nimg + n) % len(self.codes)
        return self.codes[exposure, rows], self.images[rows].float().div(127.5).sub(1)


@torch.no_grad()
def make_anchors(images: Tensor, encoder: Encoder, seed: int, weights: NDArray[np.float64] | None = None) -> Anchors:
    """Anchors of the style pictures and of their mirror images, each with a code of its own at every exposure.

    A drawing is always well lit. Seen darker, it has the code of a photo taken in less light, and that photo then
    becomes the same drawing: without this, pale people in a dim studio take the place of brown drawings.

    Args:
        images: uint8 [N, 3, R, R], aligned style pictures at the encoder's resolution.
        encoder: the source's encoder; its codes per layer are averaged to one w, where the source is best behaved.
        seed: seed of the order.
        weights: how often each picture is drawn, [N]; None: equally often.
    """
    both = torch.cat([images, images.flip(3)])
    codes = [
        torch.cat([encoder(part.float().mul(gain).div(127.5).sub(1)).mean(1) for part in both.split(ENCODE_BATCH)])
        for gain in EXPOSURES
    ]
    return Anchors(both, torch.stack(codes), seed, None if weights is None else np.concatenate([weights, weights]))
