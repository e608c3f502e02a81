"""Speed of stage 1: `python -m tests.bench.bench_stylegan` prints ratios measured in one run.

The reference is `tests.bench.plain_stylegan`: the same function, float32, per-sample weights, separate blur.
"""

import argparse
import json
import resource
import time
from collections.abc import Callable

import torch

from stages.common.device import setup
from stages.generate import losses
from stages.generate.networks import Architecture, Discriminator, Generator
from stages.generate.train import GanOptions, GanTrainer
from tests.bench import plain_stylegan as plain

ARCH_64 = Architecture(64, 128, 128, 2, channel_base=2048, channel_max=128)
ARCH_128 = Architecture(128, 128, 128, 2, channel_base=4096, channel_max=128)
BATCH = 16
NEVER = 10**9


def rate(step: Callable[[int], object], images: int, steps: int) -> float:
    """Images per second, the best of three rounds: the machine may be shared."""
    step(0)
    best = float("inf")
    for round_ in range(3):
        began = time.perf_counter()
        for i in range(steps):
            step(BATCH * (1 + i + round_ * steps))
        best = min(best, time.perf_counter() - began)
    return images * steps / best


def plain_step(arch: Architecture, real: torch.Tensor) -> Callable[[int], object]:
    """G and D update of the reference, with the same optimiser."""
    G, D = Generator(arch), Discriminator(arch)
    opt_g = torch.optim.Adam(G.parameters(), lr=0.002, betas=(0.0, 0.99), fused=True)
    opt_d = torch.optim.Adam(D.parameters(), lr=0.002, betas=(0.0, 0.99), fused=True)
    x = real.float() / 127.5 - 1

    def step(_: int) -> None:
        D.requires_grad_(False)
        fake = plain.synthesis(G, G.mapping(torch.randn(BATCH, arch.z_dim)))
        losses.generator_loss(plain.discriminate(D, fake)).backward()
        opt_g.step()
        opt_g.zero_grad()
        D.requires_grad_(True)
        losses.discriminator_loss(plain.discriminate(D, fake.detach()), plain.discriminate(D, x)).backward()
        opt_d.step()
        opt_d.zero_grad()

    return step


def our_step(arch: Architecture, real: torch.Tensor, **options: float) -> Callable[[int], object]:
    """One update of our trainer; by default without R1, augmentation and EMA's ramp."""
    plain_options = {"r1_interval": NEVER, "ada_target": 0.0, "ema_rampup": 0.0, **options}
    trainer = GanTrainer(
        Generator(arch),
        Discriminator(arch),
        lambda nimg, n: real[:n],
        GanOptions(batch=BATCH, **plain_options),  # type: ignore[arg-type]
        setup(),
    )
    return trainer.step


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=6, help="updates per round")
    parser.add_argument("--large", action="store_true", help="also 128 px, channel base 4096")
    args = parser.parse_args()
    torch.manual_seed(0)
    device = setup()
    figures: dict[str, float] = {"threads": torch.get_num_threads()}
    real = torch.randint(0, 256, (BATCH, 3, 64, 64), dtype=torch.uint8)
    figures["plain_64"] = rate(plain_step(ARCH_64, real), BATCH, args.steps)
    figures["ours_64"] = rate(our_step(ARCH_64, real), BATCH, args.steps)
    figures["ratio_64"] = figures["ours_64"] / figures["plain_64"]
    # A whole cycle of the lazy regulariser, p where runs of ours end.
    full = rate(our_step(ARCH_64, real, r1_interval=16, augment_p=0.2), BATCH, 16)
    figures["ours_64_ada_r1_ema"] = full
    figures["ada_r1_overhead"] = figures["ours_64"] / full - 1
    G = Generator(ARCH_64).eval()

    @torch.no_grad()
    def sample(_: int) -> None:
        with device.autocast():
            G(torch.randn(BATCH * 2, 128), 0.8)

    figures["sampling_64"] = rate(sample, BATCH * 2, args.steps)
    if args.large:
        real = torch.randint(0, 256, (BATCH, 3, 128, 128), dtype=torch.uint8)
        figures["ours_128"] = rate(our_step(ARCH_128, real), BATCH, max(2, args.steps // 3))
    figures["peak_gb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(json.dumps({name: round(value, 3) for name, value in figures.items()}, indent=2))


if __name__ == "__main__":
    main()
