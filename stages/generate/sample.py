"""`stylefactory generate MODEL|STYLE`: pictures from any StyleGAN2 model of the factory."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from stages.common.arguments import positive
from stages.common.device import setup
from stages.common.errors import FactoryError, InputError
from stages.common.images import grid, to_uint8, write_png
from stages.common.progress import log
from stages.common.seeding import generator as seeded
from stages.generate.models import load_stylegan


def model_file(name: str, root: Path) -> Path:
    """A model file, or the fused model of a style, or "source". Raises InputError when there is none."""
    if name.endswith(".safetensors"):
        return Path(name)
    path = root / "models" / name / ("source.safetensors" if name == "source" else "fused.safetensors")
    if not path.is_file():
        raise InputError(f"{path} is missing; give a model file, or run the style up to fuse")
    return path


def main(argv: Sequence[str] | None = None) -> int:
    """Sample a model; returns the exit code."""
    parser = argparse.ArgumentParser(prog="stylefactory generate", description=__doc__)
    parser.add_argument("model", help="model file, style name, or 'source'")
    parser.add_argument("--number", type=positive, default=64, help="pictures")
    parser.add_argument("--psi", type=float, default=0.75, help="truncation; lower is cleaner and less varied")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("samples"), help="folder for the pictures and grid.png")
    args = parser.parse_args(argv)
    try:
        device = setup()
        net, _, _ = load_stylegan(model_file(args.model, Path.cwd()))
        net.to(device.device)
        z = torch.cat([torch.randn(1, net.arch.z_dim, generator=seeded(args.seed, i)) for i in range(args.number)])
        images = []
        for part in z.split(32):
            with torch.no_grad(), device.autocast():
                images += list(to_uint8(net(part.to(device.device), args.psi, "const")))
        for i, image in enumerate(images):
            write_png(args.out / f"{i:06d}.png", image)
        write_png(args.out / "grid.png", grid(images[:64], columns=8))
    except FactoryError as error:
        print(f"generate: {error}", file=sys.stderr)
        return error.exit_code
    log(f"generate: {len(images)} pictures in {args.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
