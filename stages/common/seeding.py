"""Randomness derives from (seed, counter) alone, so that a resumed run equals an uninterrupted one."""

import hashlib
import random
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch


def derive(*parts: object) -> int:
    """A 63-bit seed from any parts (numbers, names), the same on every machine and in every process."""
    digest = hashlib.blake2b("\x1f".join(map(str, parts)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def seed_all(*parts: object) -> None:
    """Seeds torch, numpy and random from ``parts``; called before every training step with (seed, nimg)."""
    seed = derive(*parts)
    import torch  # seconds: ingest's workers only need rng

    torch.manual_seed(seed)
    np.random.seed(seed & 0xFFFFFFFF)
    random.seed(seed)


def generator(*parts: object) -> "torch.Generator":
    """A CPU torch generator seeded from ``parts``."""
    import torch

    return torch.Generator().manual_seed(derive(*parts))


def rng(*parts: object) -> np.random.Generator:
    """A numpy generator seeded from ``parts``."""
    return np.random.default_rng(derive(*parts))
