"""Stage `fuse`: the transferred model and the source (or one other parent) become the style's fused model."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from pipeline.settings import Settings
from pipeline.settings.generate import FuseSettings
from stages.common.atomic import write_json
from stages.common.errors import InputError, SettingsError
from stages.common.images import grid, to_uint8, write_png
from stages.common.modelfile import file_hash
from stages.common.progress import log
from stages.common.runner import StageContext, run_stage
from stages.common.seeding import generator as seeded
from stages.generate.fusion import Schedule, fuse, rebase_affines, same_mapping, share_table
from stages.generate.models import load_stylegan, save_stylegan
from stages.generate.networks import Generator
from stages.generate.weights import generator_from_official

SOURCE = Path("models/source/source.safetensors")
SHEET_FACES = 12
SHEET_PSI = 0.8


def inputs(settings: Settings, style: str) -> Sequence[Path]:
    """Files that decide the result."""
    return [Path(f"models/{style}/transferred.safetensors"), other_parent(settings.fuse)]


def other_parent(settings: FuseSettings) -> Path:
    """Model file of the parent beside the transferred one."""
    return Path(settings.parent_b) if settings.parent_b else SOURCE


def schedules(settings: FuseSettings) -> tuple[Schedule, Schedule | None]:
    """The schedule of all layers and the toRGB layers' own one, from the settings."""
    main_one = Schedule(settings.schedule, settings.mid, settings.width, settings.per_resolution)
    if settings.torgb_mid is None:
        return main_one, None
    return main_one, Schedule(settings.schedule, settings.torgb_mid, settings.width, settings.per_resolution)


def fuse_generators(source: Generator, transferred: Generator, settings: FuseSettings) -> Generator:
    """The fused generator of two that share an architecture; see `fusion.fuse`."""
    schedule, torgb = schedules(settings)
    state = fuse(
        source.state_dict(), transferred.state_dict(), schedule, low=settings.low, mapping=settings.mapping, torgb=torgb
    )
    return generator_from_official(state)


def answering_to(net: Generator, source: Generator) -> Generator:
    """`net`, understanding the source's w: everything is drawn from the same.

    Where training or fusion gave it another mapping network, its affine layers are re-based in place.
    """
    own, wanted = net.state_dict(), source.state_dict()
    if not same_mapping(own, wanted):
        net.load_state_dict(rebase_affines(own, wanted, z_dim=source.arch.z_dim))
    return net


@torch.no_grad()
def sheet(generators: Sequence[Generator], seed: int, faces: int = SHEET_FACES, psi: float = SHEET_PSI) -> np.ndarray:
    """One row per generator, the same latents (the first one's mapping) down each column: uint8 [H, W, 3]."""
    first = generators[0]
    z = torch.randn(faces, first.arch.z_dim, generator=seeded(seed, "fusion sheet"))
    ws = first.mapping(z.to(first.mapping.w_avg.device), psi)
    tiles: list[np.ndarray] = []
    for net in generators:
        tiles += list(to_uint8(net.synthesis(ws, noise_mode="const")))
    return grid(tiles, columns=faces)


def main(ctx: StageContext) -> None:
    """Fuse the transferred model with its source, layer by layer."""
    settings, style = ctx.settings.fuse, ctx.style
    transferred_path = ctx.root / f"models/{style}/transferred.safetensors"
    parent_path = ctx.root / other_parent(settings)
    source, _, parent_file = load_stylegan(parent_path)
    transferred, _, file = load_stylegan(transferred_path)
    unknown = [r for r in settings.per_resolution if r not in source.arch.resolutions]
    if unknown:
        raise SettingsError(f"fuse.per_resolution: the source has no {unknown[0]} px layers")
    if source.arch != transferred.arch:
        raise InputError(f"{parent_path} and {transferred_path} differ in architecture and cannot be fused")
    fused = fuse_generators(source, transferred, settings)
    schedule, torgb = schedules(settings)
    shares = share_table(fused.state_dict(), schedule, torgb)
    meta = {
        "parents": {"source": file_hash(parent_path), "transferred": file_hash(transferred_path)},
        "fuse": settings.model_dump(mode="json"),
        "licence": file.meta.get("licence", parent_file.meta.get("licence", "")),
        "data": file.meta.get("data", ""),
    }
    target = ctx.root / f"models/{style}/fused.safetensors"
    save_stylegan(target, fused, None, meta)
    shown = [source, answering_to(fused, source), answering_to(transferred, source)]
    write_png(ctx.report / "grid_source_fused_transferred.png", sheet(shown, ctx.settings.common.seed))
    write_json(ctx.report / "summary.json", {"low": settings.low, "shares_of_the_high_parent": shares})
    log(f"fuse: {target.relative_to(ctx.root)} written; sheet in {ctx.report.relative_to(ctx.root)}")


if __name__ == "__main__":
    run_stage("fuse", main, inputs)
