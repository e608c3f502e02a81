"""Anchors: style pictures with the latents that show most nearly the same person in the source.

Purely adversarial transfer forgets within minutes which latent was whom, and learns the tiny sharp parts of a drawing
(eyes) last. The source's encoder gives every style picture a code w; asking the generator to draw that picture for that
code, beside the adversarial loss, keeps pose, hair, tone and smile where the source has them, and makes a few thousand
images suffice (the idea of JoJoGAN's fine-tuning on inverted references, Chong & Forsyth 2021, on a whole style set).
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from stages.common.dataset import sample_indices
from stages.generate.encoder import Encoder

ENCODE_BATCH = 64


@dataclass(frozen=True)
class Anchors:
    """Style pictures uint8 [N, 3, R, R] and their codes float32 [N, w_dim], row by row."""

    images: Tensor
    codes: Tensor
    seed: int

    def draw(self, nimg: int, n: int) -> tuple[Tensor, Tensor]:
        """The `n` anchors after image number `nimg`: codes [n, w_dim] and images [n, 3, R, R] in [-1, 1]."""
        rows = torch.from_numpy(sample_indices(len(self.images), nimg, n, self.seed))
        return self.codes[rows], self.images[rows].float().div(127.5).sub(1)


@torch.no_grad()
def make_anchors(images: Tensor, encoder: Encoder, seed: int) -> Anchors:
    """Anchors of the style pictures and of their mirror images, each with a code of its own.

    Args:
        images: uint8 [N, 3, R, R], aligned style pictures at the encoder's resolution.
        encoder: the source's encoder; its codes per layer are averaged to one w, where the source is best behaved.
        seed: seed of the order.
    """
    both = torch.cat([images, images.flip(3)])
    codes = [encoder(part.float().div(127.5).sub(1)).mean(1) for part in both.split(ENCODE_BATCH)]
    return Anchors(both, torch.cat(codes), seed)
