"""`stylefactory weights import FILE --out X` and `weights list`: StyleGAN2 weights of other projects.

Reads official pickles (.pkl), rosinality checkpoints (.pt, .pth), and .npz / .safetensors with official names.
"""

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from stages.common.errors import FactoryError, ModelFileError
from stages.common.modelfile import file_hash, read_header
from stages.generate.models import KIND, load_stylegan, save_stylegan
from stages.generate.networks import Discriminator, Generator
from stages.generate.official_pickle import read_official_pickle
from stages.generate.rosinality import read_rosinality
from stages.generate.weights import discriminator_from_official, generator_from_official

FOLDERS = ("models/shipped", "models/shipped/128", "models/source", "models/external")


@dataclass
class Imported:
    """Networks of a file (float32, eval, frozen); `origin` goes into the header of what is made from them."""

    generator: Generator
    discriminator: Discriminator | None
    origin: dict[str, object]


def read_weights(path: Path) -> Imported:
    """Networks from a file of any supported kind, chosen by its suffix.

    Raises:
        ModelFileError: absent, unknown kind, refused content, or parameters that are missing, left over or misshapen.
    """
    if not path.is_file():
        raise ModelFileError(f"{path}: no such file")
    origin: dict[str, object] = {"imported_from": path.name, "sha256": file_hash(path)}
    suffix = path.suffix.lower()
    if suffix == ".safetensors" and _is_ours(path):
        generator, discriminator, file = load_stylegan(path)
        return Imported(generator, discriminator, {**file.meta, **origin})
    if suffix == ".pkl":
        parts = read_official_pickle(path)
    elif suffix in (".pt", ".pth"):
        parts = read_rosinality(path)
    elif suffix == ".npz":
        parts = _split(path, _read_npz(path))
    elif suffix == ".safetensors":
        parts = _split(path, _read_safetensors(path))
    else:
        raise ModelFileError(f"{path}: unknown kind '{suffix}'; wanted .pkl, .pt, .pth, .npz or .safetensors")
    try:
        generator = generator_from_official(parts.get("G", {}))
        discriminator = discriminator_from_official(parts["D"]) if parts.get("D") else None
    except ModelFileError as error:
        raise ModelFileError(f"{path}: {error}") from error
    return Imported(generator, discriminator, origin)


def _is_ours(path: Path) -> bool:
    try:
        return read_header(path)["kind"] == KIND
    except ModelFileError:
        return False


def _read_npz(path: Path) -> dict[str, Tensor]:
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: torch.from_numpy(np.asarray(file[name])) for name in file.files}
    except Exception as error:  # zipfile, numpy and torch each have their own for damage
        raise ModelFileError(f"{path}: damaged or not plain arrays ({error})") from error


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        with safe_open(path, "pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError) as error:
        raise ModelFileError(f"{path}: damaged ({error})") from error


def _split(path: Path, arrays: dict[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """By the prefixes G. (or G_ema.) and D.; names without a prefix are a generator's."""
    parts: dict[str, dict[str, Tensor]] = {}
    for name, value in arrays.items():
        head, _, rest = name.partition(".")
        if head in ("G", "G_ema", "D"):
            parts.setdefault(head, {})[rest] = value
        elif head in ("mapping", "synthesis"):
            parts.setdefault("G", {})[name] = value
        else:
            raise ModelFileError(f"{path}: unexpected parameter {name}")
    if "G_ema" in parts:
        parts["G"] = parts.pop("G_ema")
    return parts


def import_weights(path: Path, out: Path, licence: str = "") -> str:
    """Convert a file to our safetensors; returns one line that says what was found.

    Raises:
        ModelFileError: see `read_weights`.
    """
    found = read_weights(path)
    save_stylegan(out, found.generator, found.discriminator, found.origin | ({"licence": licence} if licence else {}))
    return f"{out}: {describe(found.generator, found.discriminator)}"


def describe(generator: Generator, discriminator: Discriminator | None) -> str:
    """One line: resolution, size, whether a discriminator is there."""
    arch, count = generator.arch, sum(p.numel() for p in generator.parameters())
    with_d = "with discriminator" if discriminator else "without discriminator (transfer needs one)"
    return f"StyleGAN2 {arch.resolution} px, {count / 1e6:.1f} M parameters, w {arch.w_dim}, {with_d}"


def list_weights(root: Path) -> list[str]:
    """One line per StyleGAN2 weight file in the usual folders and the styles' folders."""
    folders = [root / name for name in FOLDERS] + sorted(p for p in (root / "models").glob("*") if p.is_dir())
    lines = []
    for path in dict.fromkeys(p for folder in folders for p in sorted(folder.glob("*"))):
        if path.suffix in (".pkl", ".pt", ".pth", ".npz"):
            lines.append(f"{path.relative_to(root)}  not imported yet")
        elif path.suffix == ".safetensors" and _is_ours(path):
            header = read_header(path)
            licence = header["meta"].get("licence") or "licence not recorded"
            lines.append(f"{path.relative_to(root)}  {header['config'].get('resolution')} px  {licence}")
    return lines


def main(argv: list[str] | None = None) -> int:
    """Command line; returns the exit code (3: the file cannot be used)."""
    parser = argparse.ArgumentParser(prog="python -m stages.generate.import_weights", description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    one = verbs.add_parser("import", help="convert a checkpoint to safetensors")
    one.add_argument("file", type=Path)
    one.add_argument("--out", type=Path, required=True)
    one.add_argument("--licence", default="")
    verbs.add_parser("list", help="show the weight files of this project")
    args = parser.parse_args(argv)
    try:
        if args.verb == "import":
            print(import_weights(args.file, args.out, args.licence))
        else:
            print("\n".join(list_weights(Path.cwd())) or "no StyleGAN2 weights here")
    except FactoryError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
