"""Translators trained with changed settings and measured alike: the base of the variants' table and of the sweep."""

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from pydantic import ValidationError
from torch import Tensor

from pipeline.settings import TranslateSettings, load_settings
from stages.common.atomic import write_json
from stages.common.dataset import FaceDataset, write_index
from stages.common.distances import background_psnr, head_only, identity_rank, mask_iou, sharpness, style_gap
from stages.common.embedder import FaceEmbedder, load_embedder
from stages.common.errors import FactoryError, SettingsError, StageError
from stages.common.features import FeatureNet, feature_net
from stages.common.hashing import settings_hash, tree_hash
from stages.common.images import grid, to_uint8, write_png
from stages.common.progress import log
from stages.common.runner import StageContext
from stages.pair.networks import TranslatorGenerator
from stages.pair.translate import held_back, inputs, spread, train_translator

PICTURES = 12  # photos shown
MEASURED = 200  # photos measured at most


class Yardstick:
    """Held-back photos, held-out pictures of the style and the networks that measure."""

    def __init__(self, ctx: StageContext) -> None:
        side, cache = ctx.settings.common.resolution, ctx.root / "work/cache"
        self.photos = held_back(ctx)
        chosen = spread(len(self.photos), MEASURED)
        self.images = self.photos.take(chosen, "image").float() / 127.5 - 1
        self.masks = self.photos.take(chosen, "mask").float() / 255
        self.people = self.photos.index["person"].iloc[chosen].astype(str).tolist()
        style = FaceDataset(ctx.root / "data/style_faces" / ctx.style, side, split="test", cache=cache)
        everything = np.arange(len(style))
        pictures = style.take(everything, "image").float() / 127.5 - 1
        self.net: FeatureNet = feature_net(ctx.settings, ctx.root)
        self.embedder: FaceEmbedder | None = load_embedder(ctx.root)
        self.style_features = self._features(pictures, style.take(everything, "mask").float() / 255)
        self.photo_features = self._features(self.images, self.masks)

    def _features(self, images: Tensor, masks: Tensor) -> Tensor:
        return self.net.extract(head_only(images, masks))

    @torch.no_grad()
    def measure(self, net: TranslatorGenerator) -> tuple[dict[str, Any], np.ndarray]:
        """Figures before any pasting, and the first results as uint8 [PICTURES, H, W, 3]."""
        device = next(net.parameters()).device
        parts = [net(part.to(device)) for part in self.images.split(32)]
        results = torch.cat([part.output.cpu() for part in parts])
        drawn = torch.cat([part.mask.cpu() for part in parts])
        gap = style_gap(self._features(results, self.masks), self.style_features, self.photo_features)
        figures: dict[str, Any] = {
            "style_gap": round(gap.gap.value, 3),
            "style_gap_low": round(gap.gap.low, 3),
            "style_gap_high": round(gap.gap.high, 3),
            "background_psnr": round(float(np.nanmedian(background_psnr(self.images, results, self.masks))), 2),
            "mask_iou": round(float(np.nanmean(mask_iou(drawn, self.masks))), 3) if net.config.mask else None,
            "sharpness": round(float(np.nanmean(sharpness(results, self.masks))), 2),
            "measured_with": self.net.kid_name,
            "n": len(results),
            "split": self.photos.split or "all",
        }
        if self.embedder is not None:
            gallery, probes = self.embedder(self.images), self.embedder(results)
            figures["identity_cosine"] = round(float((gallery * probes).sum(1).mean()), 3)
            ranks = identity_rank(probes, gallery, self.people, self.people)
            figures["identity_rank1"] = round(float((np.asarray(ranks) == 1).mean()), 3)
        return figures, to_uint8(results[spread(len(results), PICTURES)])

    def shown(self) -> np.ndarray:
        """The photos that belong to the pictures of :meth:`measure`, uint8 [N, H, W, 3]."""
        return to_uint8(self.images[spread(len(self.images), PICTURES)])


def run_trials(
    ctx: StageContext, trials: Mapping[str, Mapping[str, Any]], kimg: float | None, folder: str, title: str
) -> pd.DataFrame:
    """Trains one translator per entry of ``trials`` (name to changed settings) for the same number of images.

    Every trial resumes by itself and a finished one is not trained again. Writes ``table.csv`` (figures, then the
    settings that were changed), ``summary.json`` and
    ``pictures.png`` (first row the photos, then one row per trial) to ``reports/<style>/<folder>/``; nothing of the
    chain changes.

    Args:
        kimg: images per trial, thousands; None takes translate.kimg.

    Raises:
        SettingsError: a changed setting is beyond its limits.
    """
    base = ctx.settings.translate.model_dump()
    if kimg is not None:  # the schedule shrinks with the run
        base |= {"kimg": kimg, "warm_kimg": base["warm_kimg"] * kimg / base["kimg"]}
    yardstick = Yardstick(ctx)
    rows, pictures = [], [yardstick.shown()]
    data = tree_hash(ctx.root / path for path in inputs(ctx.settings, ctx.style))
    for name, changes in trials.items():
        try:
            settings = TranslateSettings(**(base | dict(changes)))
        except ValidationError as error:
            wrong = error.errors()[0]
            raise SettingsError(
                f"{title}: {name}: translate.{wrong['loc'][0]}: {wrong['input']}: {wrong['msg']}"
            ) from None
        key = settings_hash([settings.model_dump(mode="json"), ctx.settings.common.model_dump(mode="json"), data])
        log(f"{title}: {name}")
        net, result, _ = train_translator(ctx, settings, ctx.work / key[:16])
        figures, shown = yardstick.measure(net)
        rows.append({"trial": name, **figures, "kimg": result.nimg / 1000, **changes})
        pictures.append(shown)
        log(f"{title}: {name}: style gap {figures['style_gap']}, background {figures['background_psnr']} dB")
    table = pd.DataFrame(rows)
    out = ctx.root / "reports" / ctx.style / folder
    out.mkdir(parents=True, exist_ok=True)
    write_index(out / "table.csv", table)
    write_png(out / "pictures.png", grid([tile for row in pictures for tile in row], columns=len(pictures[0])))
    write_json(out / "summary.json", {"rows": ["photo", *trials], "kimg": float(rows[0]["kimg"])})
    return table


def command(
    name: str, description: str | None, work: Callable[[StageContext, float | None], None], argv: Sequence[str] | None
) -> None:
    """Command line ``--style S [--kimg K]`` around ``work``; errors end in one line and an exit code."""
    parser = argparse.ArgumentParser(prog=f"python -m stages.pair.{name}", description=description)
    parser.add_argument("--style", required=True, help="name of a style in params.yaml")
    parser.add_argument("--kimg", type=float, help="images per trial, thousands; default translate.kimg")
    parser.add_argument("--params", type=Path, default=Path("params.yaml"), help="settings file")
    args = parser.parse_args(argv)
    root = Path.cwd()
    try:
        if args.kimg is not None and args.kimg <= 0:
            raise StageError(f"--kimg {args.kimg:g}: must be above 0")
        settings = load_settings(args.params).for_style(args.style)
        folders = root / "work" / args.style / name, root / "reports" / args.style / name
        for folder in folders:
            folder.mkdir(parents=True, exist_ok=True)
        work(StageContext(name, args.style, settings, root, *folders), args.kimg)
    except FactoryError as error:
        print(f"{name}: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
