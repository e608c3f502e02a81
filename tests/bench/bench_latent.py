"""Latent-space speeds as ratios within one run: `python -m tests.bench.bench_latent`.

Prints the encoder's size and cost, encoder against 30 optimisation steps, and sampling through the whole of
production (both pictures, filter, masks) against bare synthesis.
"""

import time
from collections.abc import Callable
from pathlib import Path

import torch

from stages.common.device import setup
from stages.common.images import to_uint8
from stages.generate.encoder import load_encoder, multiply_accumulates, parameter_count
from stages.generate.inversion import invert
from stages.generate.landmark_net import find_landmarks, load_landmark_net
from stages.generate.latents import LatentSpace
from stages.generate.models import load_stylegan
from stages.generate.production import face_mask
from tests.bench.table import row

SHIPPED = Path("models/shipped")
FACES = 32


def seconds(work: Callable[[], object], repeats: int = 3) -> float:
    """Best wall-clock seconds of a few runs after one warm-up."""
    work()
    best = float("inf")
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        best = min(best, time.perf_counter() - start)
    return best


def main() -> None:
    """Measure and print."""
    device = setup()
    source, discriminator, _ = load_stylegan(SHIPPED / "source.safetensors")
    encoder, landmarks = (
        load_encoder(SHIPPED / "encoder.safetensors"),
        load_landmark_net(SHIPPED / "landmarks.safetensors"),
    )
    assert discriminator is not None
    space = LatentSpace.of(source)
    ws = source.mapping(torch.randn(FACES, source.arch.z_dim, generator=torch.Generator().manual_seed(0)), 0.75)

    def synthesis() -> torch.Tensor:
        with torch.no_grad(), device.autocast():
            return source.synthesis(ws, "const").clamp(-1, 1)

    images = synthesis()
    points = find_landmarks(landmarks, images).points * images.shape[-1]
    pictures = to_uint8(images)
    size = f"{parameter_count(encoder) / 1e6:.2f} M parameters, {multiply_accumulates(encoder) / 1e9:.3f} GMACs"
    row("inversion encoder", size, wanted="1.44 M, 0.1 GMACs at most")
    bare = seconds(synthesis)
    row("synthesis, 64 px, batch 32", f"{FACES / bare:.0f} img/s")
    for name, work in {
        "encoder": lambda: encoder(images),
        "landmarks": lambda: find_landmarks(landmarks, images),
        "head masks": lambda: [face_mask(p, q) for p, q in zip(pictures, points, strict=True)],
        "inversion, 30 steps": lambda: invert(
            source, discriminator, images, None, space, device, encoder=encoder, steps=30
        ),
    }.items():
        took = seconds(work, 1)
        row(name, f"{FACES / took:.0f} img/s", "bare synthesis", bare / took)


if __name__ == "__main__":
    main()
