"""Where a model comes from, and which models contain a given picture.

``python -m stages.evaluate.lineage --contains FILE`` answers a person who asks for their photo to be taken out.
"""

import argparse
import hashlib
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from stages.common.errors import FactoryError
from stages.common.images import read_image
from stages.common.modelfile import file_hash
from stages.common.weights import find

MODELS = ("transferred", "fused", "translator", "mobile")
SAME_PICTURE_BITS = 6
"""Differing bits of the 64-bit perceptual hash up to which two aligned faces are taken as one picture (recompressed,
scaled); other pictures of the same person differ in 12 in the median, of other people in 26 (98 frontal portraits)."""


@dataclass(frozen=True)
class Trace:
    """One place where a picture went.

    Attributes:
        what: a dataset's row or a model file, relative to the checkout.
        how: in what role it got there.
        trained: whether weights were fitted to it (a test photo is looked at, never trained on).
    """

    what: str
    how: str
    trained: bool


def hashes(root: Path, style: str) -> dict[str, Any]:
    """Short content hashes of a style's models and datasets, for reports and history."""
    files = [root / "models/source/source.safetensors"]
    files += [root / "models" / style / f"{name}.safetensors" for name in MODELS]
    files += [root / "models" / style / "mobile.mnn"]
    found = {str(path.relative_to(root)): file_hash(path, 12) for path in files if path.is_file()}
    for folder in ("data/photos", f"data/style_faces/{style}", f"data/styled/{style}", f"data/pairs/{style}"):
        index = root / folder / "index.csv"
        if index.is_file():
            found[f"{folder}/index.csv"] = hashlib.sha256(index.read_bytes()).hexdigest()[:12]
    return found


def contains(root: Path, picture: Path) -> list[Trace]:
    """Everything in this checkout that a picture went into; empty if it was not found.

    Looked at are the photos, every style's pictures, and what the stages made of them, by file name and by the
    perceptual hash of the picture's aligned faces, so a renamed or recompressed copy is found too; and the source's
    training photos, of which only hashes lie in ``models/source``. Among so many a stranger's is soon near: of photos
    the shipped source was not trained on, 15 of 98 are taken for one. Of 95 it was trained on all are found, but only
    40 where no YuNet file is there to place the faces as they were placed for the training.

    Raises:
        ImageError: the picture cannot be read.
    """
    hashed = face_hashes(root, picture)
    traces = list(_in_source(root, hashed))
    photos = _read(root / "data/photos/index.csv")
    for row in _matches(photos, picture, hashed):
        traces.append(Trace(f"data/photos/images/{row['id']}.png", f"ingested, split {row['split']}", False))
        for style in _styles(root):
            traces += list(_photo_in_style(root, style, str(row["id"]), str(row["split"])))
    for style in _styles(root):
        for row in _matches(_read(root / "data/style_faces" / style / "index.csv"), picture, hashed):
            traces.append(Trace(f"data/style_faces/{style}/images/{row['id']}.png", f"ingested, {row['split']}", False))
            if row["split"] == "train":
                traces += [Trace(name, f"style picture of {style}", True) for name in _model_files(root, style, MODELS)]
    return list(dict.fromkeys(traces))


def _in_source(root: Path, hashed: list[int]) -> Iterator[Trace]:
    from stages.generate.near_copies import load_hashes

    known = load_hashes(root / "models/source")
    if len(known) and hashed:
        bits = int(np.bitwise_count(np.array(hashed, np.uint64)[:, None] ^ known[None]).min())
        if bits <= SAME_PICTURE_BITS:
            how = f"by hash ({bits} of 64 bits apart; 0 is sure) a training photo of the source, where all styles start"
            yield Trace("models/source/source.safetensors", how, True)


def source_doubt(root: Path, picture: Path) -> str:
    """Why a picture that was not found may have trained the source all the same; "" where there is no such doubt.

    Raises:
        ImageError: the picture cannot be read.
    """
    from stages.generate.near_copies import load_hashes

    if not (root / "models/source/source.safetensors").is_file():
        return ""
    if not len(load_hashes(root / "models/source")):
        return "models/source has no training_photos.npy; ask whoever made the source"
    if not face_hashes(root, picture):
        return "no face was found in the picture; give a crop of the face"
    if find("yunet", root) is None:
        return "faces must be placed as in its training; put face_detection_yunet.onnx into models/external"
    return ""


def face_hashes(root: Path, picture: Path) -> list[int]:
    """Perceptual hashes of a picture: of its aligned faces, and of the picture itself if it is square."""
    from stages.faces.align import align, ffhq_quad
    from stages.faces.detect import FaceDetector
    from stages.faces.quality import perceptual_hash

    rgb = read_image(picture)
    found = [perceptual_hash(rgb)] if rgb.shape[0] == rgb.shape[1] else []
    for face in FaceDetector(root=root).detect(rgb):
        found.append(perceptual_hash(align(rgb, ffhq_quad(face.eye_l, face.eye_r, face.mouth), 64)))
    return [int(text, 16) for text in found]


def _photo_in_style(root: Path, style: str, photo: str, split: str) -> Iterator[Trace]:
    styled = _read(root / "data/styled" / style / "index.csv")
    if "photo_id" in styled and (styled["photo_id"].astype(str) == photo).any():
        yield Trace(f"data/styled/{style}", "inverted and styled", False)
        for name in _model_files(root, style, ("translator", "mobile")):
            yield Trace(name, "through styled faces made from the photo", True)
    if split == "train":
        for name in _model_files(root, style, ("translator",)):
            yield Trace(name, "training photo of stage 2", True)
    pairs = _read(root / "data/pairs" / style / "index.csv")
    if "photo_id" in pairs:
        for _, row in pairs[pairs["photo_id"].astype(str) == photo].iterrows():
            yield Trace(f"data/pairs/{style}, {row['id']}", f"paired, split {row.get('split', '')}", False)
            if row.get("split", "train") == "train":
                for name in _model_files(root, style, ("mobile",)):
                    yield Trace(name, "training pair of stage 3", True)


def _matches(index: pd.DataFrame, picture: Path, hashed: list[int]) -> Iterator[pd.Series]:
    for _, row in index.iterrows():
        named = Path(str(row.get("file", ""))).name == picture.name
        code = str(row.get("phash", ""))
        alike = len(code) == 16 and any((int(code, 16) ^ own).bit_count() <= SAME_PICTURE_BITS for own in hashed)
        if named or alike:
            yield row


def _model_files(root: Path, style: str, names: Sequence[str]) -> list[str]:
    files = [f"models/{style}/{name}.safetensors" for name in names]
    if "mobile" in names:
        files.append(f"models/{style}/mobile.mnn")
    return [file for file in files if (root / file).is_file()]


def _styles(root: Path) -> list[str]:
    folders = [*(root / "data/style_faces").glob("*"), *(root / "models").glob("*")]
    names = {path.name for path in folders if path.is_dir()} - {"source", "shipped", "external"}
    return sorted(names)


def _read(path: Path) -> pd.DataFrame:
    try:
        return pd.read_csv(path, dtype={"id": str, "phash": str, "photo_id": str, "file": str})
    except (OSError, ValueError):
        return pd.DataFrame()


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog="stylefactory status", description="Which models contain a picture.")
    parser.add_argument("--contains", type=Path, required=True, metavar="FILE", help="the picture to look for")
    args = parser.parse_args(argv)
    try:
        traces = contains(Path.cwd(), args.contains)
        doubt = "" if traces else source_doubt(Path.cwd(), args.contains)
    except FactoryError as error:
        print(f"status: {error}", file=sys.stderr)
        return error.exit_code
    if not traces and doubt:
        print(f"{args.contains}: in no dataset of this checkout; whether it trained the source is not known: {doubt}")
    elif not traces:
        print(f"{args.contains}: in no dataset or model of this checkout")
    for trace in traces:
        print(f"{'trained on it ' if trace.trained else 'holds it      '} {trace.what}  ({trace.how})")
    return 0


if __name__ == "__main__":
    sys.exit(main())
