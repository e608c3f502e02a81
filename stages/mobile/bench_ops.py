"""``stylefactory bench ops``: what single building blocks cost in MNN on this processor. The network follows from it.

Each candidate is timed inside a small network and the same network without it is subtracted, so that layout changes
at input and output do not count.
"""

import argparse
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import torch
import torch.nn.functional as F
from torch import nn

from stages.common.arguments import positive
from stages.common.atomic import write_text
from stages.common.errors import FactoryError, StageError
from stages.common.progress import log, track
from stages.mobile.convert import export_onnx, onnx_to_mnn
from stages.mobile.network import count_macs
from stages.mobile.timing import mnn_latency, processor

SIDE = 256  # input side; a block at 1/2, 1/4 … of it sees 128, 64 … pixels
COPIES = 4  # of a block in a row: small blocks alone drown in noise


@dataclass(frozen=True)
class Candidate:
    """One row: ``build(channels)`` keeps the size (group block, resample) or makes the output (group head)."""

    group: str
    name: str
    channels: int
    halvings: int
    build: Callable[[int], nn.Module]


class Resize(nn.Module):
    """×2 up-sampling without weights."""

    def __init__(self, mode: str) -> None:
        super().__init__()
        self.mode = mode

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.interpolate(
            x, scale_factor=2.0, mode=self.mode, align_corners=None if self.mode == "nearest" else False
        )


def depthwise(c: int, kernel: int = 3, stride: int = 1) -> nn.Conv2d:
    """Depthwise convolution."""
    return nn.Conv2d(c, c, kernel, stride, kernel // 2, groups=c)


def separable(c: int, activation: Callable[[], nn.Module] = nn.ReLU6) -> nn.Module:
    """3×3 depthwise and 1×1, each with activation."""
    return nn.Sequential(depthwise(c), activation(), nn.Conv2d(c, c, 1), activation())


def candidates() -> list[Candidate]:
    """Everything that was weighed when the network was designed."""
    blocks: dict[str, Callable[[int], nn.Module]] = {
        "separable ReLU6": separable,
        "separable HardSwish": lambda c: separable(c, nn.Hardswish),
        "separable PReLU": lambda c: separable(c, lambda: nn.PReLU(c)),
        "separable + instance norm": lambda c: nn.Sequential(separable(c), nn.InstanceNorm2d(c)),
        "depthwise 5×5 + 1×1": lambda c: nn.Sequential(depthwise(c, 5), nn.ReLU6(), nn.Conv2d(c, c, 1), nn.ReLU6()),
        "inverted residual ×2": lambda c: nn.Sequential(
            nn.Conv2d(c, 2 * c, 1), nn.ReLU6(), depthwise(2 * c), nn.ReLU6(), nn.Conv2d(2 * c, c, 1)
        ),
        "dense 3×3": lambda c: nn.Sequential(nn.Conv2d(c, c, 3, 1, 1), nn.ReLU6()),
    }
    resample: dict[str, Callable[[int], nn.Module]] = {
        "halve, bilinear": lambda c: nn.Sequential(depthwise(c, 3, 2), Resize("bilinear")),
        "halve, nearest": lambda c: nn.Sequential(depthwise(c, 3, 2), Resize("nearest")),
        "halve, depthwise deconvolution": lambda c: nn.Sequential(
            depthwise(c, 3, 2), nn.ConvTranspose2d(c, c, 4, 2, 1, groups=c)
        ),
        "halve, pixel shuffle": lambda c: nn.Sequential(depthwise(c, 3, 2), nn.Conv2d(c, 4 * c, 1), nn.PixelShuffle(2)),
    }
    heads: dict[str, Callable[[int], nn.Module]] = {
        "deconvolution 4×4 to 4": lambda c: nn.ConvTranspose2d(c, 4, 4, 2, 1),
        "3×3 to 4, bilinear": lambda c: nn.Sequential(nn.Conv2d(c, 4, 3, 1, 1), Resize("bilinear")),
        "bilinear, 3×3 to 4": lambda c: nn.Sequential(Resize("bilinear"), nn.Conv2d(c, 4, 3, 1, 1)),
        "bilinear, separable to 4": lambda c: nn.Sequential(
            Resize("bilinear"), depthwise(c), nn.ReLU6(), nn.Conv2d(c, 4, 1)
        ),
        "pixel shuffle to 4": lambda c: nn.Sequential(nn.Conv2d(c, 16, 3, 1, 1), nn.PixelShuffle(2)),
    }
    rows = [Candidate("block", name, c, h, b) for c, h in ((16, 1), (48, 2), (96, 3)) for name, b in blocks.items()]
    rows += [Candidate("resample", name, 48, 2, build) for name, build in resample.items()]
    return rows + [Candidate("head", name, 16, 1, build) for name, build in heads.items()]


def network(candidate: Candidate, copies: int) -> nn.Module:
    """The small network around ``copies`` of a candidate; a head is either there or replaced by a 1×1."""
    c = candidate.channels
    layers: list[nn.Module] = [nn.Conv2d(3, c, 3, 2, 1), nn.ReLU6()]
    layers += [depthwise(c, 3, 2) for _ in range(candidate.halvings - 1)]
    if candidate.group == "head":
        return nn.Sequential(*layers, candidate.build(c) if copies else nn.Conv2d(c, 4, 1)).eval()
    return nn.Sequential(*layers, *(candidate.build(c) for _ in range(copies)), nn.Conv2d(c, 1, 1)).eval()


def measure_candidate(candidate: Candidate, folder: Path, threads: int = 1, repeats: int = 30) -> dict[str, object]:
    """One row of the table: milliseconds and multiply-accumulates of one block; error text if MNN cannot convert it."""
    copies = 1 if candidate.group == "head" else COPIES
    row: dict[str, object] = {
        "group": candidate.group,
        "block": candidate.name,
        "channels": candidate.channels,
        "side": SIDE >> candidate.halvings,
    }
    times, macs = [], []
    try:
        for count in (0, copies):
            net = network(candidate, count)
            export_onnx(net, folder / "op.onnx", SIDE, ("styled",), dynamic=False)
            onnx_to_mnn(folder / "op.onnx", folder / "op.mnn")
            times.append(mnn_latency(folder / "op.mnn", SIDE, threads, repeats, outputs=1).min_ms)
            macs.append(count_macs(net, SIDE))
    except StageError as error:
        return row | {"note": str(error)}
    spent, work = (times[1] - times[0]) / copies, (macs[1] - macs[0]) / copies / 1e6
    return row | {"ms": round(spent, 3), "MMACs": round(work, 2), "GMACs_per_s": round(work / max(spent, 1e-3), 1)}


def table(rows: Sequence[dict[str, object]], threads: int) -> str:
    """Markdown with the processor's name in front: the figures are that processor's, not a phone's."""
    frame = pd.DataFrame(rows).fillna("")
    header = "| " + " | ".join(frame.columns) + " |\n|" + "---|" * len(frame.columns)
    lines = ["| " + " | ".join(str(value) for value in row) + " |" for row in frame.itertuples(index=False)]
    place = f"MNN fp32, {threads} thread(s) on {processor()} (x86: ratios differ on phones), fastest of the runs."
    return "\n".join(["# Cost of building blocks", "", place, "", header, *lines, ""])


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; writes reports/bench/ops.md and .csv."""
    parser = argparse.ArgumentParser(prog="stylefactory bench ops", description=__doc__)
    parser.add_argument("--threads", type=int, default=1, help="CPU threads")
    parser.add_argument("--repeats", type=positive, default=30, help="timed runs per network")
    parser.add_argument("--only", choices=("block", "resample", "head"), help="one group")
    parser.add_argument("--out", type=Path, default=Path("reports/bench"), help="folder of the tables")
    args = parser.parse_args(argv)
    chosen = [c for c in candidates() if args.only in (None, c.group)]
    try:
        with tempfile.TemporaryDirectory() as folder:
            rows = [
                measure_candidate(c, Path(folder), args.threads, args.repeats)
                for c in track(chosen, len(chosen), "bench ops", "blocks")
            ]
        write_text(args.out / "ops.md", table(rows, args.threads))
        write_text(args.out / "ops.csv", pd.DataFrame(rows).to_csv(index=False))
    except FactoryError as error:
        print(f"bench ops: {error}", file=sys.stderr)
        return error.exit_code
    log(table(rows, args.threads))
    return 0


if __name__ == "__main__":
    sys.exit(main())
