"""DVC stage ``mobile``: trains the phone-sized network on the pairs. ``python -m stages.mobile.train --style S``."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pipeline.settings import Settings
from pipeline.settings.mobile import MobileSettings
from stages.common.atomic import write_bytes, write_json
from stages.common.device import Device
from stages.common.embedder import load_embedder
from stages.common.modelfile import file_hash
from stages.common.progress import log
from stages.common.runner import StageContext, run_stage
from stages.generate.feature_loss import load_features
from stages.mobile.data import load_training_data
from stages.mobile.measures import measure
from stages.mobile.models import save_mobile
from stages.mobile.network import TIERS, count_macs, parameter_count, settle_to_half
from stages.mobile.trainer import Teachers, Trainer, averaged
from stages.pair.models import load_translator


def inputs(settings: Settings, style: str) -> Sequence[Path]:
    """What training reads; other content means another run."""
    datasets = [Path(f"data/pairs/{style}"), Path(f"data/styled/{style}")]
    return [*datasets, *teacher_files(Path(), style), Path("models/weights.json")]


def teacher_files(root: Path, style: str) -> list[Path]:
    """Source (its discriminator's features) and translator (distillation), in this order."""
    return [root / "models/source/source.safetensors", root / f"models/{style}/translator.safetensors"]


def main(ctx: StageContext) -> None:
    """Trains, measures on held-out pairs, writes models/S/mobile.safetensors and the report folder."""
    settings, resolution = ctx.settings.mobile, ctx.settings.common.resolution
    data = load_training_data(
        ctx.root / "data/pairs" / ctx.style, ctx.root / "data/styled" / ctx.style, resolution, ctx.root / "work/cache"
    )
    files = teacher_files(ctx.root, ctx.style)
    teachers = load_teachers(settings, files, ctx.root, ctx.device)
    trainer = Trainer(settings, data, teachers, ctx.device, ctx.settings.common.seed)
    log(
        f"mobile: tier {settings.tier}, {count_macs(trainer.net) / 1e6:.0f} M multiply-accumulates at 256 px, "
        f"{len(data.pairs)} pairs, perceptual features: {teachers.features_name}"
    )
    result = trainer.run(ctx.work, ctx.settings.common.checkpoint_nimg, grid_nimg=max(trainer.total // 4, 1))
    if ctx.device.rank:
        return
    net = settle_to_half(averaged(trainer))
    held_out = data.validation or data.pairs
    figures = measure(net, held_out)
    summary: dict[str, Any] = {
        **{name: round(value, 5) for name, value in figures.items()},
        "split": "val" if data.validation else "train (no person left for validation)",
        "tier": settings.tier,
        "macs_256": count_macs(net),
        "macs_limit_256": int(TIERS[settings.tier].limit * 1e6),
        "parameters": parameter_count(net),
        "perceptual_features": teachers.features_name,
        "likeness_net": teachers.likeness.name if teachers.likeness is not None else "none",
        "distillation": teachers.translator is not None and settings.distillation > 0,
        "pairs": len(data.pairs),
        "images_seen": result.nimg,
        "training_seconds": round(result.seconds, 1),
        "images_per_second": round(result.rate, 1),
    }
    meta = {
        "style": ctx.style,
        "licence": ctx.settings.item.licence if ctx.settings.item else "",
        "settings": settings.model_dump(mode="json"),
        "seed": ctx.settings.common.seed,
        "parents": {path.name: file_hash(path, 16) for path in files if path.is_file()},
        "figures": figures,
    }
    _publish_report(ctx, summary)
    save_mobile(ctx.root / "models" / ctx.style / "mobile.safetensors", net, resolution, meta)


def load_teachers(settings: MobileSettings, files: Sequence[Path], root: Path, device: Device) -> Teachers:
    """Features for the perceptual loss, face embedder, stage-2 generator, as far as the settings want them.

    VGG19 when its file is found, else the source's discriminator; the embedder only where its file is found.
    ``files`` as :func:`teacher_files` gives them.

    Raises:
        ModelFileError: a wanted model is damaged or of another kind.
    """
    source, translator = files
    teachers = Teachers()
    if settings.perceptual:
        teachers.features, teachers.features_name = load_features(source, root, device)
    if settings.face_identity:
        teachers.likeness = load_embedder(root)
        if teachers.likeness is not None:
            teachers.likeness.to(device.device)
    if settings.distillation:
        teachers.translator = load_translator(translator).to(device.device)
    return teachers


def _publish_report(ctx: StageContext, summary: dict[str, Any]) -> None:
    write_json(ctx.report / "summary.json", summary)
    for path in (ctx.work / "stats.csv", *sorted((ctx.work / "grids").glob("*.png"))):
        name = path.name if path.suffix == ".csv" else f"grid_{path.name}"
        write_bytes(ctx.report / name, path.read_bytes())


if __name__ == "__main__":
    run_stage("mobile", main, inputs)
