"""Stage `transfer`: the source learns a style from a few hundred pictures (StyleGAN2-ADA transfer)."""

import re
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.settings import Settings
from pipeline.settings.generate import TransferSettings
from stages.common.atomic import write_json
from stages.common.dataset import FaceDataset, sample_indices
from stages.common.errors import InputError, SettingsError
from stages.common.features import feature_net
from stages.common.images import grid, to_uint8, write_png
from stages.common.loop import LoopResult, train
from stages.common.modelfile import file_hash
from stages.common.progress import log
from stages.common.runner import StageContext, run_stage
from stages.common.seeding import generator as seeded
from stages.generate.anchors import Anchors, make_anchors
from stages.generate.encoder import Encoder, load_encoder
from stages.generate.models import load_stylegan, save_stylegan
from stages.generate.networks import Discriminator, Generator
from stages.generate.snapshots import PSI, Candidate, Judge, as_rows, choose
from stages.generate.style_weights import likeness_weights, source_tones, tone_weights
from stages.generate.train import GanOptions, GanTrainer, RealBatch, options_from

SOURCE = Path("models/source/source.safetensors")
ENCODER = SOURCE.with_name("encoder.safetensors")
SHEET_FACES = 12
FEWEST = 8  # pictures; below that D has seen everything within one step


def inputs(settings: Settings, style: str) -> Sequence[Path]:
    """Files that decide the result."""
    return [SOURCE, ENCODER, Path(f"data/style_faces/{style}"), Path("models/weights.json")]


def main(ctx: StageContext) -> None:
    """Transfer the source to the style; the best snapshot is published."""
    settings, common, style = ctx.settings.transfer, ctx.settings.common, ctx.style
    source, discriminator, _ = load_stylegan(ctx.root / SOURCE)
    if discriminator is None:
        raise InputError(f"{ctx.root / SOURCE}: has no discriminator, which transfer needs")
    if source.arch.resolution != common.resolution:
        raise InputError(
            f"{ctx.root / SOURCE}: {source.arch.resolution} px, but common.resolution is {common.resolution}"
        )
    folder = ctx.root / f"data/style_faces/{style}"
    pictures = style_pictures(folder, common.resolution, ctx.root)
    encoder = load_encoder(ctx.root / ENCODER)
    weights = picture_weights(pictures, settings, source, encoder, common.seed)
    reals, count = style_batches(pictures, weights, common.seed), len(pictures)
    anchors = None
    if settings.anchor_weight > 0:
        anchors = make_anchors(pictures.take(np.arange(count), "image"), encoder, common.seed, weights)
    trainer = _trainer(source, discriminator, reals, settings, ctx, anchors)
    candidates = ctx.work / "candidates"
    candidates.mkdir(parents=True, exist_ok=True)
    total = int(settings.kimg * 1000)

    def keep(nimg: int) -> None:
        # Early on faces are half source, half style: with few pictures to measure on, such a one may win by luck.
        if ctx.device.rank == 0 and nimg - settings.batch >= total / 2:
            save_stylegan(candidates / f"{nimg:09d}.safetensors", trainer.averaged, None, {"nimg": nimg})

    result = train(
        ctx.work,
        trainer.state,
        trainer.step,
        total,
        settings.batch,
        common.seed,
        common.checkpoint_nimg,
        snapshot=keep,
        snapshot_nimg=max(1, -(-total // (2 * settings.snapshots))),
        label=f"transfer {style}",
        rank=ctx.device.rank,
    )
    if ctx.device.rank == 0:
        _finish(ctx, source.to(ctx.device.device), trainer, result, candidates, folder, count)


def gan_options(settings: TransferSettings) -> GanOptions:
    """The trainer's options from the settings."""
    return options_from(
        settings,
        # Adam's moments are empty at the start.
        warmup_kimg=min(0.3, settings.kimg / 20),
        ema_rampup=0.0,
        constraint_resolutions=tuple(settings.constraint_resolutions),
    )


def _trainer(
    source: Generator,
    discriminator: Discriminator,
    reals: RealBatch,
    settings: TransferSettings,
    ctx: StageContext,
    anchors: Anchors | None,
) -> GanTrainer:
    unknown = [r for r in settings.lr_by_resolution if r not in source.arch.resolutions]
    if unknown:
        raise SettingsError(f"transfer.lr_by_resolution: the source has no {unknown[0]} px layers")
    constrained = settings.activation_weight > 0 or settings.consistency_weight > 0
    if constrained and not set(settings.constraint_resolutions) & set(source.arch.resolutions):
        raise SettingsError("transfer.constraint_resolutions: the source has none of these layers")
    try:
        return GanTrainer(source, discriminator, reals, gan_options(settings), ctx.device, anchors)
    except ValueError as error:  # combinations only the networks can judge: freeze_d, batch among processes
        raise SettingsError(f"transfer: {error}") from error


def style_pictures(folder: Path, resolution: int, root: Path) -> FaceDataset:
    """The style's training split.

    Raises:
        InputError: no such dataset, or fewer than 8 pictures.
    """
    data = FaceDataset(folder, resolution, "train", fields=("image", "mask"), cache=root / "work" / "cache")
    if len(data) < FEWEST:
        raise InputError(f"{folder}: {len(data)} training pictures; transfer needs at least {FEWEST}")
    return data


def picture_weights(
    data: FaceDataset, settings: TransferSettings, source: Generator, encoder: Encoder, seed: int
) -> NDArray[np.float64] | None:
    """How often each picture is drawn, float64 [N] of mean 1; None where all count alike (then epochs are better)."""
    weights = np.ones(len(data))
    if settings.use_weights and "weight" in data.index.columns:
        weights = data.index["weight"].to_numpy(float)
    if settings.match_tone > 0 and "ita" in data.index.columns:
        tones = data.index["ita"].to_numpy(float)
        weights = weights * tone_weights(tones, source_tones(source, seed), settings.match_tone)
    if settings.match_heads > 0:
        rows = np.arange(len(data))
        images, masks = data.take(rows, "image"), data.take(rows, "mask")
        weights = weights * likeness_weights(images, masks, source, encoder, settings.match_heads)
    return None if np.ptp(weights) == 0 else weights / weights.mean()


def style_batches(data: FaceDataset, weights: NDArray[np.float64] | None, seed: int) -> RealBatch:
    """Real batches uint8 [n, 3, R, R] of the style's training pictures, drawn by weight [N] where there are weights."""

    def batch(nimg: int, n: int) -> Tensor:
        return data.take(sample_indices(len(data), nimg, n, seed, weights), "image")

    return batch


def _held_out(folder: Path, resolution: int, root: Path) -> tuple[Tensor, Tensor, str]:
    """Pictures to measure against [N, 3, R, R] in [-1, 1], the mean head mask, and the split they are from.

    The validation split: test pictures are for the final report alone. A style without four validation pictures is
    measured against its training pictures, and the summary says so.
    """
    data = FaceDataset(folder, resolution, None, fields=("image", "mask"), cache=root / "work" / "cache")
    splits = data.index["split"].to_numpy()
    split = "val" if (splits == "val").sum() >= 4 else "train"
    rows = np.flatnonzero(splits == split)
    pictures = data.take(rows, "image").float().div(127.5).sub(1)
    mask = data.take(np.flatnonzero(splits != "test"), "mask").float().mean(0, keepdim=True) / 255
    return pictures, mask, split


def _finish(
    ctx: StageContext,
    source: Generator,
    trainer: GanTrainer,
    result: LoopResult,
    candidates: Path,
    folder: Path,
    count: int,
) -> None:
    """Measure the snapshots, publish the best one, the others as candidates for `sweep fuse`, and the report."""
    settings, common = ctx.settings.transfer, ctx.settings.common
    pictures, mask, split = _held_out(folder, common.resolution, ctx.root)
    judge = Judge(feature_net(ctx.settings, ctx.root), source, pictures, mask, common.seed, ctx.device)
    found: list[Candidate] = []
    nets: dict[int, Generator] = {}
    for path in sorted(candidates.glob("*.safetensors")):
        if not re.fullmatch(r"\d{9}", path.stem):
            continue
        nimg = int(path.stem)
        nets[nimg] = load_stylegan(path)[0].to(ctx.device.device)
        found.append(judge.measure(nets[nimg], nimg))
        log(f"transfer {ctx.style}: {nimg} images: style gap {found[-1].gap:.3f}, diversity {found[-1].diversity:.2f}")
    best = choose(found, settings.min_diversity)
    models = ctx.root / "models" / ctx.style
    meta = {
        "style": ctx.style,
        "licence": ctx.settings.item.licence if ctx.settings.item else "",
        "parent": file_hash(ctx.root / SOURCE),
        "nimg": best.nimg,
        "pictures": count,
        "style_gap": best.gap,
        "settings": settings.model_dump(mode="json"),
    }
    D = trainer.D.cpu().eval()
    save_stylegan(models / "transferred.safetensors", nets[best.nimg].cpu(), D, meta)
    _publish_snapshots(models / "snapshots", nets, meta)
    write_png(ctx.report / "grid_transfer.png", sheet([source.cpu(), *(n.cpu() for n in nets.values())], common.seed))
    shutil.copyfile(ctx.work / "stats.csv", ctx.report / "stats.csv")
    summary = {
        "nimg": result.nimg,
        "images_per_second": round(result.rate, 1),
        "chosen_nimg": best.nimg,
        "style_gap": best.gap,
        "diversity": best.diversity,
        "measured_on": f"{len(pictures)} {split} pictures, mean head mask, {judge.net.kid_name}",
        "candidates": as_rows(found),
        "augment_p": trainer.ada.p,
        "pictures": count,
        "halved_rate": result.rolled_back,
    }
    write_json(ctx.report / "summary.json", summary)


def _publish_snapshots(final: Path, nets: dict[int, Generator], meta: dict[str, object]) -> None:
    temporary = final.with_name(".snapshots.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    for nimg, net in nets.items():
        save_stylegan(temporary / f"{nimg:09d}.safetensors", net.cpu(), None, {**meta, "nimg": nimg}, half=True)
    shutil.rmtree(final, ignore_errors=True)
    temporary.replace(final)


@torch.no_grad()
def sheet(generators: Sequence[Generator], seed: int) -> np.ndarray:
    """One row per generator, the same latents down each column: uint8 [H, W, 3]."""
    z = torch.randn(SHEET_FACES, generators[0].arch.z_dim, generator=seeded(seed, "transfer sheet"))
    tiles: list[np.ndarray] = []
    for net in generators:
        tiles += list(to_uint8(net(z, PSI, "const")))
    return grid(tiles, columns=SHEET_FACES)


if __name__ == "__main__":
    run_stage("transfer", main, inputs)
