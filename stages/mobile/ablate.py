"""``stylefactory ablate STYLE``: what each loss buys, at equal training length: pixel → + perceptual and adversarial →
+ edge-promoting → + augmentation, like the table of the original system, → + steadying. Writes ``reports/S/ablation/``.
"""

import argparse
import math
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from pipeline.settings import Settings, load_settings
from pipeline.settings.mobile import MobileSettings
from stages.common import distances
from stages.common.atomic import write_json, write_text
from stages.common.dataset import FaceDataset
from stages.common.device import Device, setup
from stages.common.errors import FactoryError, InputError
from stages.common.features import FeatureNet, feature_net
from stages.common.hashing import settings_hash, tree_hash
from stages.common.images import grid, to_uint8, write_png
from stages.common.progress import log
from stages.evaluate.systems import choose_split
from stages.mobile.data import TrainingData, as_float, load_training_data
from stages.mobile.measures import draw, measure
from stages.mobile.network import MobileNet
from stages.mobile.train import inputs, load_teachers, teacher_files
from stages.mobile.trainer import Trainer, averaged

SHOWN = 8  # faces on the sheet
OFF = {"perceptual": 0.0, "adversarial": 0.0, "edge_promoting": 0.0, "augment": False}


def variants(settings: MobileSettings) -> dict[str, MobileSettings]:
    """The rows of the table, each the one before plus one thing; distillation and likeness stay off in all."""
    plain = settings.model_copy(update={**OFF, "distillation": 0.0, "equivariance": 0.0, "face_identity": 0.0})
    learned = {"perceptual": settings.perceptual, "adversarial": settings.adversarial}
    edges = {"edge_promoting": settings.edge_promoting}
    return {
        "pixel": plain,
        "+ perceptual + adversarial": plain.model_copy(update=learned),
        "+ edge-promoting": plain.model_copy(update={**learned, **edges}),
        "+ augmentation": plain.model_copy(update={**learned, **edges, "augment": True}),
        "+ steadying": plain.model_copy(
            update={**learned, **edges, "augment": True, "equivariance": settings.equivariance}
        ),
    }


def ablate(settings: Settings, style: str, root: Path, kimg: float) -> list[dict[str, Any]]:
    """Trains every variant for ``kimg`` thousand images and measures it on held-out pairs; one row per variant.

    An interrupted call continues where it stopped: every variant keeps its own work folder until all are done.

    Raises:
        InputError: missing datasets, or too few pairs or style pictures to measure; before anything is trained.
    """
    common = settings.common
    device = setup(common.device, common.precision, common.threads)
    data = load_training_data(
        root / "data/pairs" / style, root / "data/styled" / style, common.resolution, root / "work/cache"
    )
    if len(held_out(data)) < 2:
        raise InputError(f"{root / 'data/pairs' / style}: one pair is too few to measure; add photos")
    real, split = style_pictures(root / "data/style_faces" / style, common.resolution, root / "work/cache")
    features = feature_net(settings, root)
    key = tree_hash(inputs(settings, style))[:16]
    work = root / "work" / style / "ablate"
    rows, pictures = [], []
    for name, variant in variants(settings.mobile.model_copy(update={"kimg": kimg})).items():
        variant_key = settings_hash({"settings": variant.model_dump(mode="json"), "data": key, "seed": common.seed})[
            :16
        ]
        net, rate = _train(variant, data, root, style, device, common, work / variant_key, name)
        rows.append({"variant": name, **judge(net, data, real, features), "img_per_s": round(rate, 1)})
        pictures.append(_pictures(net, data))
        log(f"ablate: {rows[-1]}")
    report = root / "reports" / style / "ablation"
    write_text(report / "ablation.csv", pd.DataFrame(rows).to_csv(index=False, float_format="%.5g"))
    write_json(report / "ablation.json", {"kimg": kimg, "style_split": split, "rows": [_plain(row) for row in rows]})
    write_png(report / "ablation.png", _sheet(data, pictures))
    shutil.rmtree(work, ignore_errors=True)
    return rows


def style_pictures(folder: Path, resolution: int, cache: Path) -> tuple[FaceDataset, str]:
    """Real style pictures to measure against, and their split: "test", or a larger part where that is too small.

    Raises:
        InputError: no such dataset, or all of it is too little.
    """
    whole = FaceDataset(folder, resolution, cache=cache)
    _, split = choose_split(whole.index, folder)
    return (whole if split == "all" else FaceDataset(folder, resolution, split, cache=cache)), split


def held_out(data: TrainingData) -> FaceDataset:
    """The pairs to measure on: those for validation, or the training pairs where it has less than two."""
    validation = data.validation
    return data.pairs if validation is None or len(validation) < 2 else validation


def _train(
    settings: MobileSettings,
    data: TrainingData,
    root: Path,
    style: str,
    device: Device,
    common: Any,
    work: Path,
    name: str,
) -> tuple[MobileNet, float]:
    teachers = load_teachers(settings, teacher_files(root, style), root, device)
    trainer = Trainer(settings, data, teachers, device, common.seed)
    result = trainer.run(work, common.checkpoint_nimg, label=f"ablate {name}")
    return averaged(trainer), result.rate


@torch.no_grad()
def judge(
    net: MobileNet, data: TrainingData, style: FaceDataset, features: FeatureNet, limit: int = 256
) -> dict[str, float]:
    """Sharpness, distances of drawn heads to held-out real style pictures, style gap, and pixel figures.

    Args:
        style: four or more real style pictures, held out, with fields "image" and "mask".
        limit: most pictures of either side.
    """
    dataset = held_out(data)
    figures = measure(net, dataset)
    photo, mask = _fields(dataset, ("photo", "mask"), limit)
    real, real_mask = _fields(style, ("image", "mask"), limit)
    drawn, wanted, before = (
        features.extract(distances.head_only(images, masks))
        for images, masks in ((draw(net, photo), mask), (real, real_mask), (photo, mask))
    )
    gap = distances.style_gap(drawn, wanted, before)
    return {
        "sharpness": round(figures["sharpness"], 3),
        "sharpness_ratio": round(figures["sharpness_ratio"], 4),
        features.frechet_name: round(distances.frechet(wanted, drawn), 4),
        features.kid_name: round(distances.kid(wanted, drawn), 6),
        "style_gap": round(gap.gap.value, 4),
        "style_gap_low": round(gap.gap.low, 4),
        "style_gap_high": round(gap.gap.high, 4),
        "pixel_error": round(figures["pixel_error"], 5),
        "equivariance": round(figures["equivariance"], 5),
        "n": float(len(photo)),
        "n_style": float(len(real)),
    }


def _fields(dataset: FaceDataset, fields: Sequence[str], limit: int) -> list[torch.Tensor]:
    chosen = np.linspace(0, len(dataset) - 1, min(limit, len(dataset))).astype(int)
    return [as_float(dataset.take(chosen, field), field) for field in fields]


@torch.no_grad()
def _pictures(net: MobileNet, data: TrainingData) -> np.ndarray:
    return to_uint8(draw(net, _fields(held_out(data), ("photo",), SHOWN)[0]))


def _sheet(data: TrainingData, pictures: list[np.ndarray]) -> np.ndarray:
    """Rows photo, target, then one per variant."""
    rows = [to_uint8(images) for images in _fields(held_out(data), ("photo", "styled"), SHOWN)]
    return grid([image for row in (*rows, *pictures) for image in row], columns=len(rows[0]))


def _plain(row: dict[str, Any]) -> dict[str, Any]:
    """NaN (too few pictures for an interval) as None: JSON has no NaN."""
    return {key: None if isinstance(value, float) and not math.isfinite(value) else value for key, value in row.items()}


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog="stylefactory ablate", description=__doc__)
    parser.add_argument("--style", required=True, help="name of a style in params.yaml")
    parser.add_argument("--kimg", type=float, help="thousand images per variant; default: the style's own length")
    parser.add_argument("--params", type=Path, default=Path("params.yaml"), help="settings file")
    args = parser.parse_args(argv)
    try:
        settings = load_settings(args.params).for_style(args.style)
        rows = ablate(settings, args.style, Path.cwd(), args.kimg or settings.mobile.kimg)
    except FactoryError as error:
        print(f"ablate: {error}", file=sys.stderr)
        return error.exit_code
    log(pd.DataFrame(rows).to_string(index=False))
    return 0


if __name__ == "__main__":
    sys.exit(main())
