"""Nesting: faces of one style inverted into another style's model ("models in series").

`python -m stages.generate.nest --style OUTER --inner INNER` takes generated faces of INNER, finds them in OUTER's fused
model, and writes first | second | nested rows to reports/OUTER/nest_INNER.png. The nested face is what OUTER's model
makes nearest to INNER's face: INNER's content in OUTER's hand.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

from pipeline.settings import load_settings
from stages.common.arguments import positive
from stages.common.dataset import FaceDataset
from stages.common.device import Device, setup
from stages.common.errors import FactoryError, InputError
from stages.common.images import grid, to_uint8, write_png
from stages.common.progress import log
from stages.generate.encoder import load_encoder
from stages.generate.inversion import Inversion, invert
from stages.generate.latents import LatentSpace
from stages.generate.models import load_stylegan

STEPS = 100


def nest(root: Path, outer: str, images: Tensor, masks: Tensor | None, device: Device, steps: int = STEPS) -> Inversion:
    """Invert styled faces [N, 3, R, R] in [-1, 1] (head masks [N, 1, R, R] in [0, 1]) into a style's fused model.

    The distance is measured in the features of that style's discriminator: they know its lines and colours.

    Raises:
        InputError: the style has no models yet.
    """
    for name in ("fused", "transferred"):
        if not (root / f"models/{outer}/{name}.safetensors").is_file():
            raise InputError(f"models/{outer}/{name}.safetensors is missing; run '{outer}' up to fuse first")
    fused, _, _ = load_stylegan(root / f"models/{outer}/fused.safetensors")
    _, discriminator, _ = load_stylegan(root / f"models/{outer}/transferred.safetensors")
    if discriminator is None:
        raise InputError(f"models/{outer}/transferred.safetensors has no discriminator")
    encoder = load_encoder(root / "models/source/encoder.safetensors")
    for net in (fused, discriminator, encoder):
        net.to(device.device)
    space = LatentSpace.of(fused)
    return invert(fused, discriminator, images, masks, space, device, encoder=encoder, steps=steps)


def main(argv: Sequence[str] | None = None) -> int:
    """Nest one style's faces into another's model; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--style", required=True, help="the outer style, whose model draws the result")
    parser.add_argument("--inner", required=True, help="the style whose generated faces are nested")
    parser.add_argument("--number", type=positive, default=12)
    parser.add_argument("--params", type=Path, default=Path("params.yaml"))
    args = parser.parse_args(argv)
    try:
        common = load_settings(args.params).common
        root, device = Path.cwd(), setup(common.device, common.precision, common.threads)
        folder = root / f"data/styled/{args.inner}"
        fields = ("photo", "styled", "mask")
        data = FaceDataset(folder, common.resolution, fields=fields, cache=root / "work/cache")
        rows = list(range(min(args.number, len(data))))
        styled = data.take(rows, "styled").float().div(127.5).sub(1)
        found = nest(root, args.style, styled, data.take(rows, "mask").float().div(255), device)
        photos = data.take(rows, "photo").permute(0, 2, 3, 1).numpy()
        tiles = [*photos, *to_uint8(styled), *to_uint8(found.images)]
        path = root / f"reports/{args.style}/nest_{args.inner}.png"
        write_png(path, grid(tiles, columns=len(rows)))
    except FactoryError as error:
        print(f"nest: {error}", file=sys.stderr)
        return error.exit_code
    log(f"nest: {path}: photo, {args.inner}, {args.inner} in {args.style}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
