"""Speed of stage 1: `python -m tests.bench.bench_stylegan` prints ratios measured in one run.

The reference is `tests.bench.plain_stylegan`: the same function, float32, per-sample weights, separate blur.
"""

import argparse
import resource
import time
from collections.abc import Callable

import torch
from torch.utils.flop_counter import FlopCounterMode

from stages.common.device import setup
from stages.generate import losses
from stages.generate.networks import Architecture, Discriminator, Generator
from stages.generate.train import GanOptions, GanTrainer
from tests.bench import plain_stylegan as plain
from tests.bench.table import row

ARCH_64 = Architecture(64, 128, 128, 2, channel_base=2048, channel_max=128)
ARCH_128 = Architecture(128, 128, 128, 2, channel_base=4096, channel_max=128)
BATCH = 16
NEVER = 10**9


def rate(step: Callable[[int], object], images: int, steps: int) -> float:
    """Images per second, the best of five rounds: the machine may be shared."""
    step(0)
    best = float("inf")
    for round_ in range(5):
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


def step_flops(step: Callable[[int], object]) -> int:
    """Multiplications and additions of one update, forward and backward, as torch counts them."""
    step(0)
    with FlopCounterMode(display=False) as counter:
        step(BATCH)
    return int(counter.get_total_flops())


def matrix_peak(side: int = 4096) -> float:
    """FLOP/s of a large bf16 matrix product, the best of three."""
    a, b = (torch.randn(side, side).bfloat16() for _ in "ab")
    best = float("inf")
    for _ in range(4):
        began = time.perf_counter()
        a @ b
        best = min(best, time.perf_counter() - began)
    return 2 * side**3 / best


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=6, help="updates per round")
    parser.add_argument("--large", action="store_true", help="also 128 px, channel base 4096")
    args = parser.parse_args()
    torch.manual_seed(0)
    device = setup()
    real = torch.randint(0, 256, (BATCH, 3, 64, 64), dtype=torch.uint8)
    plainly = rate(plain_step(ARCH_64, real), BATCH, args.steps)
    ours = rate(our_step(ARCH_64, real), BATCH, args.steps)
    threads = f"{torch.get_num_threads()} threads"
    row(
        f"StyleGAN2 step, 64 px, batch 16, {threads}",
        f"{ours:.1f} img/s",
        f"plain fp32 {plainly:.1f} img/s",
        ours / plainly,
        "ratio 1.8; 65 img/s",
    )
    flops, peak = step_flops(our_step(ARCH_64, real)), matrix_peak()
    share = flops / BATCH * ours / peak
    row("share of the matrix peak in that step", f"{share:.0%}", f"bf16 4096³ product {peak / 1e9:.0f} GFLOP/s")
    # A whole cycle of the lazy regulariser, p where runs of ours end.
    full = rate(our_step(ARCH_64, real, r1_interval=16, augment_p=0.2), BATCH, 16)
    row(
        "the same with ADA (p 0.2), lazy R1 and EMA",
        f"{full:.1f} img/s",
        "without",
        full / ours,
        "25 % more time at most",
    )
    G = Generator(ARCH_64).eval()

    @torch.no_grad()
    def sample(_: int) -> None:
        with device.autocast():
            G(torch.randn(BATCH * 2, 128), 0.8)

    row("sampling, 64 px", f"{rate(sample, BATCH * 2, args.steps):.0f} img/s", wanted="400 img/s")
    if args.large:
        real = torch.randint(0, 256, (BATCH, 3, 128, 128), dtype=torch.uint8)
        large = rate(our_step(ARCH_128, real), BATCH, max(2, args.steps // 3))
        row("StyleGAN2 step, 128 px, base 4096", f"{large:.1f} img/s", wanted="15 img/s")
    peak_gb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    row("peak memory of all this", f"{peak_gb:.2f} GB", wanted="2 GB at most")


if __name__ == "__main__":
    main()
