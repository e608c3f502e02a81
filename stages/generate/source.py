"""Stage `source`: the face model everything starts from, with its inversion encoder.

`source.input` decides: a folder or file with weights is checked and taken over, a folder of photos is trained on.
"""

import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from pipeline.settings import Settings
from pipeline.settings.generate import SourceSettings
from stages.common.atomic import write_json
from stages.common.errors import InputError, SettingsError
from stages.common.images import grid, list_images, to_uint8, write_png
from stages.common.loop import train
from stages.common.modelfile import file_hash
from stages.common.progress import log
from stages.common.runner import StageContext, run_stage
from stages.common.seeding import generator as seeded
from stages.common.seeding import seed_all
from stages.generate.encoder import Encoder, load_encoder, save_encoder
from stages.generate.encoder_training import train_encoder
from stages.generate.import_weights import Imported, read_weights
from stages.generate.models import save_stylegan
from stages.generate.near_copies import FILE as HASHES
from stages.generate.near_copies import save_hashes
from stages.generate.networks import Architecture, Discriminator, Generator
from stages.generate.train import GanOptions, GanTrainer, options_from
from stages.generate.training_photos import load_training_photos, real_batches
from stages.generate.weights import balance_demodulated

SOURCE, ENCODER = "source.safetensors", "encoder.safetensors"
GRID_FACES, GRID_PSI = 64, 0.8


def inputs(settings: Settings, style: str) -> Sequence[Path]:
    """Files that decide the result."""
    source = settings.source
    return [Path(p) for p in (source.input, source.start, source.exclude) if p]


def main(ctx: StageContext) -> None:
    """Take over or train the face model, and its inversion encoder."""
    settings = ctx.settings.source
    where = ctx.root / settings.input
    if not where.exists():
        raise InputError(f"source.input: {where} does not exist")
    photos: Tensor | None = None
    encoder_file: Path | None = None
    if where.is_file():
        model = read_weights(where)
    elif (where / SOURCE).is_file():
        model = read_weights(where / SOURCE)
        encoder_file = where / ENCODER
    elif list_images(where):
        model, photos = _trained(ctx, where)
    else:
        raise InputError(f"source.input: {where} holds neither {SOURCE} nor photos")
    _check(ctx, model, where)
    balance_demodulated(model.generator)  # transfer trains them at one rate
    own_encoder = encoder_file is None or not encoder_file.is_file()
    encoder = _train_encoder(ctx, model, photos) if own_encoder else None
    if ctx.device.rank:  # under torchrun all processes train, the first one publishes
        return
    folder = ctx.work / "publish"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    save_stylegan(folder / SOURCE, model.generator, model.discriminator, model.origin)
    if photos is not None:
        save_hashes(folder, photos.permute(0, 2, 3, 1).numpy())
    elif (where / HASHES).is_file():
        shutil.copyfile(where / HASHES, folder / HASHES)
    if encoder is not None:
        save_encoder(folder / ENCODER, encoder, {"parent": model.origin.get("sha256", "")})
    elif encoder_file is not None:
        fitting = load_encoder(encoder_file).config
        arch = model.generator.arch
        if (fitting.resolution, fitting.num_ws, fitting.w_dim) != (arch.resolution, arch.num_ws, arch.w_dim):
            raise InputError(f"{encoder_file}: made for another source ({fitting}); remove it to train a new one")
        shutil.copyfile(encoder_file, folder / ENCODER)
    sheet = samples_grid(model.generator, ctx.settings.common.seed)
    write_png(ctx.report / "samples.png", sheet)
    write_json(
        ctx.report / "summary.json",
        {
            "resolution": model.generator.arch.resolution,
            "parameters": sum(p.numel() for p in model.generator.parameters()),
            "kimg": model.origin.get("kimg", 0),
            "input": settings.input,
        },
    )
    _publish(folder, ctx.root / "models" / "source")


def _check(ctx: StageContext, model: Imported, where: Path) -> None:
    wanted, found = ctx.settings.common.resolution, model.generator.arch.resolution
    if found != wanted:
        raise InputError(f"{where}: a {found} px model, but common.resolution is {wanted}; change one of the two")
    if model.discriminator is None:
        raise InputError(f"{where}: has no discriminator, which transfer needs; import a file that has one")


def _publish(folder: Path, final: Path) -> None:
    final.mkdir(parents=True, exist_ok=True)
    for path in sorted(folder.iterdir()):
        path.replace(final / path.name)


def _train_encoder(ctx: StageContext, model: Imported, photos: Tensor | None) -> Encoder:
    assert model.discriminator is not None
    log("source: no encoder for these weights, training one")
    return train_encoder(
        model.generator,
        model.discriminator,
        photos,
        None,
        ctx.settings.source.encoder,
        ctx.work / "encoder",
        ctx.settings.common.seed,
        ctx.device,
    )


def gan_options(settings: SourceSettings) -> GanOptions:
    """The trainer's options from the settings."""
    return options_from(
        settings,
        lr_d=settings.lr,
        # Adam's moments are empty at the start, also when weights are continued.
        warmup_kimg=min(1.0, settings.kimg / 10),
        ema_rampup=0.2 if settings.start else 0.05,
    )


def _trained(ctx: StageContext, folder: Path) -> tuple[Imported, Tensor]:
    """Train on the photos of a folder, from `start` or from scratch."""
    settings, seed = ctx.settings.source, ctx.settings.common.seed
    exclude = ctx.root / settings.exclude if settings.exclude else None
    photos, used = load_training_photos(folder, ctx.settings.common.resolution, exclude, ctx.work, ctx.device.rank)
    generator, discriminator, parent = _start(ctx, settings)
    try:
        trainer = GanTrainer(generator, discriminator, real_batches(photos, seed), gan_options(settings), ctx.device)
    except ValueError as error:  # what only the networks can judge: batch among processes
        raise SettingsError(f"source: {error}") from error

    def draw() -> np.ndarray:
        return samples_grid(trainer.averaged, seed)

    result = train(
        ctx.work,
        trainer.state,
        trainer.step,
        int(settings.kimg * 1000),
        settings.batch,
        seed,
        ctx.settings.common.checkpoint_nimg,
        grid=draw,
        grid_nimg=int(settings.grid_kimg * 1000),
        label="source",
        rank=ctx.device.rank,
    )
    if not ctx.device.rank:
        shutil.copyfile(ctx.work / "stats.csv", ctx.report / "stats.csv")
    meta = {
        "kimg": result.nimg / 1000,
        "photos": len(used),
        "licence": settings.licence,
        "seed": seed,
        "parent": parent,
    }
    return Imported(trainer.averaged.cpu(), trainer.D.cpu().eval().requires_grad_(False), meta), photos


def _start(ctx: StageContext, settings: SourceSettings) -> tuple[Generator, Discriminator, str]:
    resolution = ctx.settings.common.resolution
    if settings.start:
        path = ctx.root / settings.start
        model = read_weights(path)
        _check(ctx, model, path)
        assert model.discriminator is not None
        return balance_demodulated(model.generator), model.discriminator, file_hash(path)
    arch = Architecture(
        resolution,
        settings.z_dim,
        settings.w_dim,
        settings.mapping_layers,
        settings.channel_base,
        settings.channel_max,
    )
    seed_all(ctx.settings.common.seed, "initial weights")
    return Generator(arch), Discriminator(arch), ""


@torch.no_grad()
def samples_grid(generator: Generator, seed: int, n: int = GRID_FACES, psi: float = GRID_PSI) -> np.ndarray:
    """Fixed-seed samples in rows of eight: uint8 [H, W, 3]."""
    z = torch.randn(n, generator.arch.z_dim, generator=seeded(seed, "source grid"))
    images = [generator(part.to(generator.mapping.w_avg.device), psi, "const") for part in z.split(16)]
    return grid(list(to_uint8(torch.cat(images))), columns=8)


if __name__ == "__main__":
    run_stage("source", main, inputs, per_style=False)
