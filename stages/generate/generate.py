"""Stage `generate`: thousands of varied styled faces, sampled and from inverted photos, filtered, in shards."""

import math
import shutil
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.settings import Settings
from stages.common.atomic import atomic_path, publish_dir, write_json
from stages.common.dataset import FaceDataset, write_index
from stages.common.device import usable_cores
from stages.common.errors import StageError
from stages.common.images import grid, write_png
from stages.common.mapshards import map_shards
from stages.common.progress import log
from stages.common.runner import StageContext, run_stage
from stages.common.seeding import generator as seeded
from stages.common.seeding import rng
from stages.generate.curation import curation_file, dropped
from stages.generate.directions import build
from stages.generate.encoder import load_encoder
from stages.generate.landmark_net import load_landmark_net
from stages.generate.latents import LatentSpace
from stages.generate.models import load_stylegan
from stages.generate.networks import Generator
from stages.generate.production import LANDMARKS, load_fused, make_shard, shard_name, truncation
from stages.generate.yield_filter import YieldFilter

OWN_SAMPLES = 128
FIT_FACES = 300  # pictures of each kind the filter learns from; more change its limits little
PREVIEW = 32
LEAST_YIELD = 0.05  # of the wanted samples; below, the models are broken and the chain should stop here


def inputs(settings: Settings, style: str) -> Sequence[Path]:
    """Files that decide the result."""
    return [
        Path("models/source"),
        Path(f"models/{style}/fused.safetensors"),
        Path(f"models/{style}/transferred.safetensors"),
        Path("data/photos"),
        Path(f"data/style_faces/{style}"),
        Path(f"data/curation/{style}.csv"),
        LANDMARKS,
    ]


def fit_filter(root: Path, style: str, resolution: int, loss: float, own: Tensor | None = None) -> YieldFilter:
    """The yield filter of a style, from its training pictures, the photos and the model's `own` samples.

    Args:
        loss: share of real style faces it may reject, over all checks.
        own: samples of the fused model, [N, 3, R, R] in [-1, 1].
    """
    encoder = load_encoder(root / "models/source/encoder.safetensors")
    landmarks = load_landmark_net(root / LANDMARKS)
    _, discriminator, _ = load_stylegan(root / f"models/{style}/transferred.safetensors")
    pictures = []
    for folder in (root / f"data/style_faces/{style}", root / "data/photos"):
        data = FaceDataset(folder, resolution, split="train", fields=("image",), cache=root / "work/cache")
        rows = np.linspace(0, len(data) - 1, min(len(data), FIT_FACES)).astype(int)
        pictures.append(data.take(rows, "image").float().div(127.5).sub(1))
    return YieldFilter.fit(encoder, discriminator, landmarks, pictures[0], pictures[1], loss, own)


@torch.no_grad()
def own_samples(ctx: StageContext, source: Generator) -> Tensor:
    """Samples of the fused model as production makes them, but for `directions`; [N, 3, R, R] in [-1, 1]."""
    fused = load_fused(ctx.root / f"models/{ctx.style}/fused.safetensors", source)
    z = torch.randn(OWN_SAMPLES, source.arch.z_dim, generator=seeded(ctx.settings.common.seed, "own samples"))
    ws = source.mapping(z, truncation(ctx.settings.generate, source.arch.num_ws))
    return torch.cat([fused.synthesis(part, "const").clamp(-1, 1) for part in ws.split(32)])


def jobs(ctx: StageContext) -> list[dict[str, Any]]:
    """The shards to make: sampled ones by candidate numbers, then inverted ones by photos (those of tests left out)."""
    settings, common = ctx.settings.generate, ctx.settings.common
    base = {
        "root": str(ctx.root),
        "style": ctx.style,
        "work": str(ctx.work),
        "settings": settings.model_dump(mode="json"),
        "seed": common.seed,
        "device": [common.device, common.precision, 1 if workers(ctx) > 1 else common.threads],
    }
    drops = dropped(curation_file(ctx.root, ctx.style))
    out: list[dict[str, Any]] = []
    attempts = math.ceil(settings.shard_size * settings.attempts)
    for first in range(0, settings.sampled, settings.shard_size):
        wanted = min(settings.shard_size, settings.sampled - first)
        start = len(out) * attempts
        mine = {
            k: v
            for k, v in drops.items()
            if k[:1] == "s" and k[1:].isdigit() and start <= int(k[1:]) < start + attempts
        }
        out.append(
            base
            | {
                "number": len(out),
                "kind": "sampled",
                "wanted": wanted,
                "first": start,
                "attempts": attempts,
                "drops": mine,
            }
        )
    if settings.inverted:
        photos = FaceDataset(ctx.root / "data/photos", common.resolution, cache=ctx.root / "work/cache")
        index = photos.index
        rows = np.flatnonzero(index["split"].to_numpy() != "test")
        # the first ones would come from the first folder and its persons
        rows = np.sort(rng(common.seed, "inverted").permutation(rows)[: settings.inverted])
        parts = max(1, math.ceil(len(rows) / settings.shard_size), workers(ctx))
        for part in np.array_split(rows, parts):
            if len(part):
                ids = index["id"].iloc[part].tolist()
                mine = {k: v for k, v in drops.items() if k.removeprefix("i-") in ids}
                out.append(
                    base
                    | {
                        "number": len(out),
                        "parts": parts,
                        "kind": "inverted",
                        "photos_key": photos.key,
                        "wanted": len(part),
                        "rows": part.tolist(),
                    }
                    | {"photo_ids": ids, "splits": index["split"].iloc[part].tolist(), "drops": mine}
                )
    return out


def workers(ctx: StageContext) -> int:
    """Processes to use: the setting, else one per core, or one where a GPU does the work."""
    asked = ctx.settings.generate.workers
    return asked or (1 if ctx.device.device.type == "cuda" else usable_cores())


def near_duplicates(latents: dict[str, NDArray[np.float16]], space: LatentSpace, limit: float) -> dict[str, str]:
    """{id: id it repeats} of samples whose mean w is nearer than `limit` to an earlier one's (1 = two random ones).

    Args:
        latents: w [num_ws, w_dim] by id.
    """
    ids = list(latents)
    if not ids or limit <= 0:
        return {}
    points = torch.from_numpy(np.stack([latents[i].astype(np.float32).mean(0) for i in ids]))
    out: dict[str, str] = {}
    for start in range(0, len(ids), 1024):
        near = space.distances(points[start : start + 1024], points[: start + 1024]) < limit
        for row, columns in enumerate(near):
            earlier = columns[: start + row].nonzero().flatten().tolist()
            original = next((j for j in earlier if ids[j] not in out), None)
            if original is not None:
                out[ids[start + row]] = ids[original]
    return out


def read_latents(files: Sequence[Path]) -> dict[str, NDArray[np.float16]]:
    """Latents w [num_ws, w_dim], float16, of the shards' files by id, in their order."""
    out: dict[str, NDArray[np.float16]] = {}
    for path in files:
        with np.load(path) as file:
            out |= {name: file[name] for name in file.files}
    return out


def main(ctx: StageContext) -> None:
    """Make the styled faces of a style."""
    settings = ctx.settings.generate
    source, _, _ = load_stylegan(ctx.root / "models/source/source.safetensors")
    space = LatentSpace.of(source)
    if not (ctx.work / "filter.npz").is_file():
        own = own_samples(ctx, source)
        judge = fit_filter(ctx.root, ctx.style, source.arch.resolution, settings.filter_loss, own)
        judge.save(ctx.work / "filter.npz")
    with atomic_path(ctx.work / "directions.npz") as temporary, temporary.open("wb") as file:
        np.savez(file, offsets=build(source, space, settings.directions).numpy())
    made = jobs(ctx)
    results = map_shards(make_shard, made, workers(ctx), ctx.work / "done", label="generate")
    rows = [row for result in results for row in result["rows"]]
    rejected = [row for result in results for row in result["rejected"]]
    # by name: a run resumed with other cores has left shards behind that are not its own
    latents = read_latents([ctx.work / "latents" / f"{shard_name(job)}.npz" for job in made])
    repeats = near_duplicates(latents, space, settings.duplicate_distance)
    rejected += [row | {"reason": f"duplicate of {repeats[row['id']]}"} for row in rows if row["id"] in repeats]
    rows = [row for row in rows if row["id"] not in repeats]
    _check_yield(ctx, sum(job["wanted"] for job in made), rows, rejected)
    shards = [ctx.work / "shards" / f"{shard_name(job)}.tar" for job in made]
    publish(ctx, shards, rows, rejected, {row["id"]: latents[row["id"]] for row in rows})


def _check_yield(ctx: StageContext, wanted: int, rows: list[dict[str, Any]], rejected: list[dict[str, Any]]) -> None:
    if len(rows) < max(1, LEAST_YIELD * wanted):
        causes = ", ".join(f"{name} {count}" for name, count in Counter(r["reason"] for r in rejected).most_common(3))
        raise StageError(
            f"only {len(rows)} usable faces of {len(rows) + len(rejected)} candidates ({causes}); look at "
            f"reports/{ctx.style}/fuse and raise fuse.mid (less style), transfer longer, or check the style pictures"
        )


def publish(
    ctx: StageContext,
    shards: Sequence[Path],
    rows: list[dict[str, Any]],
    rejected: list[dict[str, Any]],
    latents: dict[str, NDArray[np.float16]],
) -> None:
    """Put shards, index, latents, rejections and preview in `data/styled/STYLE`, and the figures in the report."""
    out = ctx.work / "publish"
    shutil.rmtree(out, ignore_errors=True)  # of a run that was killed here
    (out / "shards").mkdir(parents=True)
    for path in shards:
        (out / "shards" / path.name).hardlink_to(path)
    index = pd.DataFrame(rows)
    write_index(out / "index.csv", index)
    write_index(out / "rejected.csv", pd.DataFrame(rejected or None, columns=None if rejected else ["id", "reason"]))
    with atomic_path(out / "latents.npz") as temporary, temporary.open("wb") as file:
        np.savez(file, allow_pickle=False, **latents)  # type: ignore[arg-type]
    publish_dir(out, ctx.root / f"data/styled/{ctx.style}")
    sheet = preview(ctx.root / f"data/styled/{ctx.style}", ctx.root / "work/cache")
    write_png(ctx.root / f"data/styled/{ctx.style}/preview.png", sheet)
    write_png(ctx.report / "grid_photo_styled.png", sheet)
    summary = figures(rows, rejected)
    write_json(ctx.report / "summary.json", summary)
    log(f"generate: {len(rows)} faces, yield {summary['yield']['sampled']:.0%} of sampled candidates")


def figures(rows: list[dict[str, Any]], rejected: list[dict[str, Any]]) -> dict[str, Any]:
    """Counts by kind and reason; yield = accepted / candidates looked at."""
    made, refused = Counter(r["kind"] for r in rows), Counter(r["kind"] for r in rejected)
    kinds = ("sampled", "inverted")
    return {
        "accepted": {k: made[k] for k in kinds},
        "rejected": dict(Counter(r["reason"].split(" of ")[0] for r in rejected).most_common()),
        "yield": {k: made[k] / max(1, made[k] + refused[k]) for k in kinds},
    }


def preview(folder: Path, cache: Path, count: int = PREVIEW) -> NDArray[np.uint8]:
    """Photo and styled face side by side, evenly picked over the index: uint8 [H, W, 3]."""
    from stages.common.shards import read_shards

    ids = pd.read_csv(folder / "index.csv", dtype={"id": str})["id"].tolist()
    chosen = set(ids[:: max(1, len(ids) // count)][:count])
    tiles: list[NDArray[np.uint8]] = []
    for _, fields in read_shards(folder / "shards", chosen):
        tiles += [fields["photo"], fields["styled"]]
    return grid(tiles, columns=16)


if __name__ == "__main__":
    run_stage("generate", main, inputs)
