"""Does a source repeat its training photos? Nearest training photo of its samples, against people among themselves.

`python -m stages.generate.memorisation MODEL PHOTOS` prints the figures. PHOTOS must be the photos it was trained on.
"""

import argparse
import json
import re
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from stages.common.embedder import load_embedder
from stages.common.errors import FactoryError, InputError
from stages.common.images import grid, to_uint8, write_png
from stages.common.seeding import generator as seeded
from stages.generate.models import load_stylegan
from stages.generate.networks import Generator
from stages.generate.training_photos import load_training_photos

PIXEL_SIDE = 32  # pixel space: small and luma only, so that neither noise nor one tint decides


@dataclass(frozen=True)
class Nearness:
    """Similarity (higher is nearer) of each sample to its nearest photo, and of photos to other people's photos."""

    samples: np.ndarray
    nearest: np.ndarray
    baseline: np.ndarray
    same_person: np.ndarray

    def figures(self) -> dict[str, float]:
        """Quantiles, and how many samples are nearer to a photo than 99 % of people are to anybody else."""
        limit = float(np.quantile(self.baseline, 0.99))
        out = {
            "samples_median": float(np.median(self.samples)),
            "samples_p95": float(np.quantile(self.samples, 0.95)),
            "samples_max": float(self.samples.max()),
            "train_to_train_median": float(np.median(self.baseline)),
            "train_to_train_p99": limit,
            "share_above_p99": float((self.samples > limit).mean()),
        }
        if len(self.same_person):
            usual = float(np.median(self.same_person))
            out |= {"same_person_median": usual, "share_above_same_person": float((self.samples > usual).mean())}
        return out


def nearness(samples: np.ndarray, photos: np.ndarray, persons: list[str]) -> Nearness:
    """Cosine similarities, in [-1, 1], of rows of length 1.

    Args:
        samples: [M, F]; photos: [N, F]; persons: N names, two photos of one person share theirs.
    """
    between = samples @ photos.T
    within = photos @ photos.T
    names = np.array(persons)
    same = names[:, None] == names[None, :]
    itself = np.eye(len(photos), dtype=bool)
    return Nearness(between.max(1), between.argmax(1), np.where(same, -np.inf, within).max(1), within[same & ~itself])


def pixel_vectors(images: Tensor) -> np.ndarray:
    """Luma at 32 px, zero mean, unit length: images [N, 3, R, R] in [-1, 1] -> float32 [N, 1024]."""
    luma = (images * torch.tensor([0.299, 0.587, 0.114])[:, None, None]).sum(1, keepdim=True)
    small = torch.nn.functional.interpolate(luma, size=(PIXEL_SIDE, PIXEL_SIDE), mode="area").flatten(1)
    small = small - small.mean(1, keepdim=True)
    return torch.nn.functional.normalize(small, dim=1).numpy()


@torch.no_grad()
def draw(generator: Generator, n: int, psi: float, seed: int) -> Tensor:
    """Samples [n, 3, R, R] in [-1, 1]."""
    z = torch.randn(n, generator.arch.z_dim, generator=seeded(seed, "memorisation"))
    return torch.cat([generator(part, psi, "const").clamp(-1, 1) for part in z.split(32)])


def person_of(file: str) -> str:
    """The person of a photo by its name: the last number of three digits in it, else the whole name.

    That is how the Face Research Lab London set is named; other sets count as one photo per person.
    """
    numbers = re.findall(r"(?<!\d)\d{3}(?!\d)", Path(file).stem)
    return f"{Path(file).parent}/{numbers[-1]}" if numbers else file


def check(generator: Generator, photos: Tensor, files: list[str], n: int, psi: float, seed: int) -> dict[str, Nearness]:
    """Nearness by space: "pixel" always, "embedder" where the face embedder's weights are there.

    Args:
        photos: aligned training photos uint8 [N, 3, R, R]; files: their names.
    """
    persons = [person_of(file) for file in files]
    real, fake = photos.float() / 127.5 - 1, draw(generator, n, psi, seed)
    spaces = {"pixel": nearness(pixel_vectors(fake), pixel_vectors(real), persons)}
    embedder = load_embedder()
    if embedder is not None:
        with torch.no_grad():
            a, b = (torch.cat([embedder(p) for p in x.split(64)]).numpy() for x in (fake, real))
        spaces["embedder"] = nearness(a, b, persons)
    return spaces


def main(argv: list[str] | None = None) -> int:
    """Command line; prints JSON, optionally draws the nearest pairs (they show real people: do not publish)."""
    parser = argparse.ArgumentParser(prog="python -m stages.generate.memorisation", description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("photos", type=Path)
    parser.add_argument("--exclude", type=Path, help="CSV of photos that were not trained on")
    parser.add_argument("--samples", type=int, default=1000)
    parser.add_argument("--psi", type=float, default=0.8)
    parser.add_argument("--pairs", type=Path, help="picture of the nearest pairs")
    args = parser.parse_args(argv)
    try:
        if not args.photos.is_dir():
            raise InputError(f"{args.photos}: no such folder")
        generator, _, _ = load_stylegan(args.model)
        with tempfile.TemporaryDirectory() as work:  # the mapping outlives the file's name
            photos, files = load_training_photos(args.photos, generator.arch.resolution, args.exclude, Path(work))
        spaces = check(generator, photos, files, args.samples, args.psi, 0)
    except FactoryError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    print(json.dumps({name: space.figures() for name, space in spaces.items()}, indent=2))
    if args.pairs:
        space = spaces.get("embedder", spaces["pixel"])
        order = np.argsort(-space.samples)[:24]
        fakes = to_uint8(draw(generator, args.samples, args.psi, 0)[torch.from_numpy(order)])
        tiles = [
            t for i, f in zip(order, fakes, strict=True) for t in (f, photos[space.nearest[i]].permute(1, 2, 0).numpy())
        ]
        write_png(args.pairs, grid(tiles, columns=8))
    return 0


if __name__ == "__main__":
    sys.exit(main())
