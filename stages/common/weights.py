"""Optional weights nobody ships: where they are looked for, what each improves. No torch import (doctor uses it)."""

import hashlib
import os
import sys
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class ExternalWeight:
    """One optional file: usual names, the start of its SHA-256 where only one is right, what it improves."""

    name: str
    files: tuple[str, ...]
    improves: str
    fallback: str
    sha256: str = ""


EXTERNAL = (
    ExternalWeight(
        "yunet",
        ("face_detection_yunet.onnx", "face_detection_yunet_2023mar.onnx"),
        "face detection and eye positions",
        "Haar cascades from OpenCV",
    ),
    ExternalWeight(
        "vgg19",
        ("vgg19_conv_u8.npz",),
        "feature loss of stages 2 and 3; distances between sets (fd_vgg19, kid_vgg19) where Inception is missing",
        "the source's discriminator as features; the shipped encoder for distances",
    ),
    ExternalWeight(
        "inception",
        ("pt_inception-2015-12-05-6726825d.pth",),
        "genuine FID",
        "Fréchet distance and KID in VGG19's or the shipped encoder's features (fd_vgg19, fd_enc)",
        "6726825d",
    ),
    ExternalWeight(
        "mobilefacenet",
        ("mobilefacenet_112.onnx",),
        "identity: ranks, face-identity loss, grouping photos by person",
        "landmark geometry; persons from file names",
    ),
    ExternalWeight("face_parser", ("face_parser.onnx",), "head masks", "GrabCut seeded from landmarks"),
)
BY_NAME = {weight.name: weight for weight in EXTERNAL}


def search_folders(root: Path | None = None) -> list[Path]:
    """Folders looked at, in order: every entry of $STYLEFACTORY_WEIGHTS, models/external, torch hub's cache."""
    named = [Path(entry) for entry in os.environ.get("STYLEFACTORY_WEIGHTS", "").split(os.pathsep) if entry]
    hub = Path(os.environ.get("TORCH_HOME", Path.home() / ".cache" / "torch")) / "hub" / "checkpoints"
    return [*named, (root or Path.cwd()) / "models" / "external", hub]


def find(name: str, root: Path | None = None) -> Path | None:
    """The file of the optional weight ``name`` (a key of BY_NAME), or None. A file with a wrong hash does not count."""
    weight = BY_NAME[name]
    for folder in search_folders(root):
        for file in weight.files:
            path = folder / file
            if path.is_file() and (not weight.sha256 or sha256(path).startswith(weight.sha256)):
                return path
    return None


def sha256(path: Path) -> str:
    """SHA-256 of a file as hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def inventory(root: Path | None = None) -> dict[str, str]:
    """Name to SHA-256 of every optional weight found, so that results follow the weights that were there."""
    found = {weight.name: find(weight.name, root) for weight in EXTERNAL}
    return {name: sha256(path) for name, path in found.items() if path is not None}


def main() -> None:
    """DVC stage ``weights``: records the inventory in models/weights.json, touched only when it changed.

    ``--json`` only prints what is found and what each missing file would improve, for ``stylefactory doctor``.
    """
    import json

    if sys.argv[1:] == ["--json"]:
        rows = [
            {"name": w.name, "path": str(find(w.name) or ""), "improves": w.improves, "fallback": w.fallback}
            for w in EXTERNAL
        ]
        print(json.dumps(rows))
        return
    target = Path("models/weights.json")
    text = json.dumps(inventory(), indent=2, sort_keys=True) + "\n"
    if not target.is_file() or target.read_text() != text:
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.with_suffix(".json.tmp")
        temporary.write_text(text)
        temporary.replace(target)
    names = ", ".join(json.loads(text)) or "none (named fallbacks are used)"
    print(f"optional weights: {names}", flush=True)


if __name__ == "__main__":
    main()
