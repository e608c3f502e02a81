"""Stage ``translate``: trains the unpaired translator photo → style, background kept."""

import resource
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pipeline.settings import Settings, TranslateSettings
from stages.common.atomic import write_bytes, write_json
from stages.common.dataset import FaceDataset
from stages.common.distances import background_psnr, mask_iou, sharpness
from stages.common.embedder import load_embedder
from stages.common.errors import SettingsError
from stages.common.images import to_tensor
from stages.common.loop import LoopResult, train
from stages.common.modelfile import file_hash
from stages.common.progress import log
from stages.common.runner import StageContext, run_stage
from stages.common.seeding import seed_all
from stages.generate.feature_loss import load_features
from stages.pair.data import Feed
from stages.pair.grids import translation_grid
from stages.pair.models import save_translator
from stages.pair.networks import TranslatorGenerator
from stages.pair.training import Trainer

GRID_PHOTOS = 12
CHECK_PHOTOS = 64
SOURCE = Path("models/source/source.safetensors")


def inputs(settings: Settings, style: str) -> Sequence[Path]:
    """What a checkpoint depends on."""
    datasets = [Path("data/photos"), Path("data/style_faces") / style, Path("data/styled") / style]
    return [*datasets, SOURCE, Path("models/weights.json")]  # the optional weights decide which losses there are


def main(ctx: StageContext) -> None:
    """Trains the translator of one style and writes models/<style>/translator.safetensors."""
    net, result, trainer = train_translator(ctx, ctx.settings.translate, ctx.work)
    if ctx.device.rank:  # under torchrun all processes train, the first one publishes
        return
    photos = held_back(ctx)
    figures = check(net, photos, ctx.settings.common.resolution)
    figures |= {
        "measured_on": photos.split or "all",
        "kimg": result.nimg / 1000,
        "seconds": round(result.seconds, 1),
        "photos_per_second": round(result.rate, 2),
        "peak_memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        "rolled_back": result.rolled_back,
        "pair_features": trainer.features_name,
        "likeness_net": trainer.likeness.name if trainer.likeness is not None else "none",
    }
    log("translate: " + ", ".join(f"{k} {v:.3g}" if isinstance(v, float) else f"{k} {v}" for k, v in figures.items()))
    target = ctx.root / "models" / ctx.style / "translator.safetensors"
    save_translator(target, net, describe(ctx, figures))
    publish_report(ctx.work, ctx.report, figures)


def train_translator(
    ctx: StageContext, settings: TranslateSettings, work: Path
) -> tuple[TranslatorGenerator, LoopResult, Trainer]:
    """Trains with ``settings`` in ``work`` (continuing what is there); returns the EMA generator, float32 in eval mode.

    Raises:
        InputError: a dataset is missing or too small.
        SettingsError: the batch does not divide among torchrun's processes.
        DivergedError: twice NaN or out of range.
    """
    common, data = ctx.settings.common, ctx.root / "data"
    seed_all(common.seed, "translate", "weights")
    device = ctx.device
    likeness = load_embedder(ctx.root) if settings.face_identity > 0 else None
    wanted = settings.pairs_perceptual > 0 and max(settings.pairs_start, settings.pairs_end) > 0
    features = load_features(ctx.root / SOURCE, ctx.root, device) if wanted else (None, "none")
    if settings.batch % device.world or settings.batch < 2 * device.world:
        raise SettingsError(
            f"translate.batch: {settings.batch} does not divide among {device.world} processes with 2 for each"
        )
    trainer = Trainer(settings, common.resolution, device, likeness, *features)
    styled, style_faces = data / "styled" / ctx.style, data / "style_faces" / ctx.style
    cache = ctx.root / "work" / "cache"
    feed = Feed(settings, common.resolution, common.seed, device, data / "photos", style_faces, styled, cache)
    shown = _first(held_back(ctx), GRID_PHOTOS).to(device.device)

    def preview() -> np.ndarray:
        with device.autocast():
            return translation_grid(trainer.averaged, trainer.backward_net, shown)

    result = train(
        work=work,
        state=trainer.state,
        step=lambda nimg: trainer.step(feed.batch(nimg), nimg),
        total=round(settings.kimg * 1000),
        batch=settings.batch,
        seed=common.seed,
        checkpoint_nimg=common.checkpoint_nimg,
        stats_nimg=settings.batch * 16,
        grid=preview,
        grid_nimg=round(settings.grid_kimg * 1000),
        label=f"translate {ctx.style}",
        rank=device.rank,
    )
    return trainer.averaged, result, trainer


def held_back(ctx: StageContext) -> FaceDataset:
    """Photos that training does not see, to look at meanwhile: validation, else test, else what there is."""
    index_splits = ("val", "test", None)
    folder, side, cache = ctx.root / "data/photos", ctx.settings.common.resolution, ctx.root / "work/cache"
    everything = FaceDataset(folder, side, cache=cache)
    for split in index_splits:
        if split is None or (everything.index["split"] == split).sum() >= GRID_PHOTOS:
            return FaceDataset(folder, side, split=split, cache=cache)
    raise AssertionError("unreachable: None accepts all")


def check(net: TranslatorGenerator, photos: FaceDataset, resolution: int) -> dict[str, Any]:
    """Quick figures on held-back photos, before any pasting: what the mask and the background are worth.

    Returns:
        background_psnr (dB, median), mask_iou, sharpness (means), n.
    """
    chosen = spread(len(photos), CHECK_PHOTOS)
    images = photos.take(chosen, "image").float() / 127.5 - 1
    masks = photos.take(chosen, "mask").float() / 255
    device = next(net.parameters()).device
    with torch.no_grad():
        parts = [net(part.to(device)) for part in images.split(16)]
    outputs = torch.cat([part.output.cpu() for part in parts])
    drawn = torch.cat([part.mask.cpu() for part in parts])
    return {
        "background_psnr": float(np.nanmedian(background_psnr(images, outputs, masks))),
        "mask_iou": float(np.nanmean(mask_iou(drawn, masks))) if net.config.mask else None,
        "sharpness": float(np.nanmean(sharpness(outputs, masks))),
        "n": len(chosen),
    }


def spread(size: int, count: int) -> np.ndarray:
    """At most ``count`` positions, int64 [n], evenly over ``size`` samples."""
    return np.unique(np.linspace(0, size - 1, min(size, count)).round().astype(int))


def describe(ctx: StageContext, figures: dict[str, Any]) -> dict[str, Any]:
    """Header of the model file: where it comes from."""
    index = {name: ctx.root / "data" / name / "index.csv" for name in ("photos", f"styled/{ctx.style}")}
    return {
        "style": ctx.style,
        "resolution": ctx.settings.common.resolution,
        "settings": ctx.settings.translate.model_dump(mode="json"),
        "seed": ctx.settings.common.seed,
        "data": {name: file_hash(path, 16) for name, path in index.items() if path.is_file()},
        "licence": ctx.settings.item.licence if ctx.settings.item else "",
        "figures": figures,
    }


def publish_report(work: Path, report: Path, figures: dict[str, Any]) -> None:
    """stats.csv, the preview grids and summary.json into the stage's report folder."""
    for old in report.glob("grid_*.png"):
        old.unlink()
    if (work / "stats.csv").is_file():
        write_bytes(report / "stats.csv", (work / "stats.csv").read_bytes())
    for picture in sorted((work / "grids").glob("*.png")):
        write_bytes(report / f"grid_{picture.name}", picture.read_bytes())
    write_json(report / "summary.json", figures)


def _first(photos: FaceDataset, count: int) -> torch.Tensor:
    chosen = spread(len(photos), count)
    return to_tensor(np.stack([photos.get(int(i), "image") for i in chosen])).contiguous(
        memory_format=torch.channels_last
    )


if __name__ == "__main__":
    run_stage("translate", main, inputs)
