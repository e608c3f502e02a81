"""Stage ``pair``: all photos become (photo, styled, mask), pasted on their own background and filtered."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from pipeline.settings import PairSettings, Settings
from stages.common.atomic import atomic_path, publish_dir, write_json
from stages.common.dataset import FaceDataset, write_index
from stages.common.device import Device
from stages.common.embedder import load_embedder
from stages.common.errors import InputError, StageError
from stages.common.images import grid, to_uint8, write_png
from stages.common.mapshards import map_shards
from stages.common.progress import log
from stages.common.runner import StageContext, run_stage
from stages.common.shards import SHARD_SIZE, shard_path, write_shard
from stages.faces.detect import FaceDetector
from stages.generate.curation import curation_file, read_decisions
from stages.pair.augment import region
from stages.pair.filters import judge, score_pairs
from stages.pair.models import load_translator
from stages.pair.networks import TranslatorGenerator

SHEET = 20  # pairs on the best and on the worst sheet
Sample = Callable[[int], dict[str, np.ndarray]]  # position → photo, styled, mask
EYES = ["eye_l_x", "eye_l_y", "eye_r_x", "eye_r_y"]
PHOTO_EYES = [f"photo_{name}" for name in EYES]  # of stage 1's pairs, whose other points are the styled face's


def inputs(settings: Settings, style: str) -> Sequence[Path]:
    """What half-finished work depends on."""
    folders = [Path("data/photos"), Path("data/styled") / style, Path("models") / style / "translator.safetensors"]
    return [*folders, Path("data/curation") / f"{style}.csv", Path("models/weights.json")]


@dataclass(frozen=True)
class Source:
    """Where pairs come from: a dataset, the translator's file ("" = the dataset's own pairs), the key of its cache."""

    folder: str
    translator: str
    cache: str
    resolution: int
    key: str = ""


def main(ctx: StageContext) -> None:
    """Makes data/pairs/<style>: shards, index.csv, rejected.csv and the best and worst sheets."""
    settings, side = ctx.settings.pair, ctx.settings.common.resolution
    cache = str(ctx.root / "work" / "cache")
    if settings.origin == "translator":
        model = ctx.root / "models" / ctx.style / "translator.safetensors"
        load_translator(model)  # a damaged file is named before any work
        source = Source(str(ctx.root / "data/photos"), str(model), cache, side)
    else:
        source = Source(str(ctx.root / "data/styled" / ctx.style), "", cache, side)
    dataset = _open(source)
    source = replace(source, key=dataset.key)
    rows, made = _make(ctx, source, len(dataset))
    sample = _reader(made, dataset)
    table = pd.DataFrame(rows)
    verdict, notes = judge(table, settings)
    table = pd.concat([table, verdict], axis=1)
    table, curated = _curate(table, ctx)
    kept, rejected = table[table["reason"] == ""], table[table["reason"] != ""]
    if kept.empty:
        counts = ", ".join(f"{reason} {count}" for reason, count in Counter(rejected["reason"]).most_common())
        sheet = ctx.report / "worst.png"
        write_png(sheet, _sheet(_ranked(table).tail(SHEET)[::-1], sample))
        raise StageError(f"pair: all {len(table)} pairs were rejected ({counts}); look at {sheet}")
    _publish(ctx, sample, table, kept, rejected)
    summary = {
        "photos": len(table),
        "kept": len(kept),
        "rejected": dict(Counter(rejected["reason"])),
        "curated": curated,
        "notes": notes,
        "origin": settings.origin,
        "means": {name: _mean(kept[name]) for name in ("mask_iou", "identity", "landmark_shift", "seam", "artefact")},
        "faces_found": _mean((table["face_score"] > 0).where(table["face_score"].notna())),
        "landmarks_within_4_percent": _mean(
            (table["landmark_shift"] <= 0.04).where(table["face_score"].notna() & table["landmark_shift"].notna())
        ),
    }
    write_json(ctx.report / "summary.json", summary)
    log(f"pair: {len(kept)} of {len(table)} pairs kept; rejected: {summary['rejected'] or 'none'}")
    for note in notes:
        log(f"pair: {note}")


# ---- making ----------------------------------------------------------------------------------------------------------


def _open(source: Source) -> FaceDataset:
    fields = ("image", "mask") if source.translator else ("photo", "styled", "mask")
    return FaceDataset(Path(source.folder), source.resolution, fields=fields, cache=Path(source.cache), key=source.key)


def _make(ctx: StageContext, source: Source, count: int) -> tuple[list[dict[str, Any]], list[Path]]:
    """Pastes and scores all samples, in shards over the cores: their scores, and the files of their pictures in order.

    Shards' bounds depend on the cores: a run resumed on another machine leaves files behind that are not in the list.
    """
    device = ctx.device
    cores = torch.get_num_threads() if device.device.type == "cpu" else 1
    size = SHARD_SIZE if count > SHARD_SIZE * cores else max(1, -(-count // cores))
    jobs: list[dict[str, Any]] = [
        {
            "source": source.__dict__,
            "settings": ctx.settings.pair.model_dump(mode="json"),
            "start": start,
            "stop": min(start + size, count),
            "out": str(ctx.work / f"made_{start:09d}_{min(start + size, count):09d}"),
            "device": [str(device.device), str(device.dtype).removeprefix("torch.")],
            "root": str(ctx.root),
        }
        for start in range(0, count, size)
    ]
    workers = None if device.device.type == "cpu" else 1
    parts = map_shards(make_shard, jobs, workers, ctx.work / "done", "pair")
    return [row for part in parts for row in part], [Path(job["out"]) for job in jobs]


def make_shard(job: dict[str, Any]) -> list[dict[str, Any]]:
    """Translates, pastes and scores samples start..stop; writes uint8 ``out``.styled.npy and ``out``.mask.npy."""
    source, settings = Source(**job["source"]), PairSettings(**job["settings"])
    dataset, root = _open(source), Path(job["root"])
    device = Device(torch.device(job["device"][0]), getattr(torch, job["device"][1]))
    net = load_translator(Path(source.translator)).to(device.device) if source.translator else None
    detector, embedder = _detector(root), load_embedder(root)
    rows: list[dict[str, Any]] = []
    styled_all, mask_all = [], []
    for begin in range(job["start"], job["stop"], settings.batch):
        chosen = np.arange(begin, min(begin + settings.batch, job["stop"]))
        photos, styled, drawn, heads = _translate(net, dataset, chosen, settings.grow, device)
        # scores are taken from what is stored, after rounding to 8 bit
        styled_pixels = to_uint8(styled)
        stored = torch.from_numpy(styled_pixels).permute(0, 3, 1, 2).float() / 127.5 - 1
        index = dataset.index.iloc[chosen]
        scores = score_pairs(photos, stored, drawn, heads, _eyes(index, source.resolution), detector, embedder)
        for i, (position, row) in enumerate(zip(chosen, index.to_dict("records"), strict=True)):
            rows.append(_row(int(position), row) | {name: float(values[i]) for name, values in scores.items()})
        styled_all.append(styled_pixels)
        mask_all.append((drawn[:, 0].clamp(0, 1) * 255).round().to(torch.uint8).numpy())
    for name, parts in (("styled", styled_all), ("mask", mask_all)):
        with atomic_path(Path(f"{job['out']}.{name}.npy")) as temporary, temporary.open("wb") as file:
            np.save(file, np.concatenate(parts))
    return rows


@torch.no_grad()
def _translate(
    net: TranslatorGenerator | None, dataset: FaceDataset, chosen: np.ndarray, grow: float, device: Device
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """(photos, pasted results, masks in use, reference head masks) on the CPU."""
    heads = dataset.take(chosen, "mask").float() / 255
    if net is None:
        photos = dataset.take(chosen, "photo").float() / 127.5 - 1
        content, drawn = dataset.take(chosen, "styled").float() / 127.5 - 1, heads
        return photos, photos + drawn * (content - photos), drawn, heads
    photos = dataset.take(chosen, "image").float() / 127.5 - 1
    placed = photos.to(device.device).contiguous(memory_format=device.memory_format)
    with device.autocast():
        output, mask, _, _ = net(placed)
    output, mask = output.float().cpu(), mask.float().cpu()
    drawn = mask if net.config.mask else heads
    return photos, paste(photos, output, drawn, grow), drawn, heads


def paste(photos: Tensor, results: Tensor, masks: Tensor, grow: float) -> Tensor:
    """Results on the photos' own background: exactly the photo beyond the grown, feathered mask.

    Args:
        photos, results: [N, 3, H, W] in [-1, 1]; masks: [N, 1, H, W] in [0, 1].
        grow: how far beyond the mask the result still counts, share of the side.
    """
    where = region((masks > 0.5).to(photos.dtype), grow)
    return photos + where * (results - photos)


def _detector(root: Path) -> FaceDetector | None:
    try:
        return FaceDetector(root=root)
    except InputError:  # neither YuNet nor cascades: the other checks still work
        return None


def _eyes(index: pd.DataFrame, side: int) -> np.ndarray:
    for names in (PHOTO_EYES, EYES):
        if set(names) <= set(index.columns):
            return index[names].to_numpy(np.float64) / side
    return np.full((len(index), 4), np.nan)


def _row(position: int, row: dict[str, Any]) -> dict[str, Any]:
    photo = str(row["id"])
    # a prefix of its own: curation names pairs and stage 1's faces in one file
    return {
        "id": f"pair_{photo}",
        "photo_id": photo,
        "person": row.get("person", photo),
        "split": row.get("split", "train"),
        "position": position,
    }


# ---- deciding and publishing -----------------------------------------------------------------------------------------


def _curate(table: pd.DataFrame, ctx: StageContext) -> tuple[pd.DataFrame, int]:
    """People's decisions overrule the filters."""
    decisions = read_decisions(curation_file(ctx.root, ctx.style)).set_index("id")["decision"]
    table = table.copy()
    chosen = table["id"].map(decisions)
    table.loc[chosen == "keep", ["reason", "detail"]] = ""
    table.loc[chosen == "drop", ["reason", "detail"]] = ["curated", "dropped by hand"]
    return table, int(chosen.notna().sum())


def _publish(
    ctx: StageContext, sample: Sample, table: pd.DataFrame, kept: pd.DataFrame, rejected: pd.DataFrame
) -> None:
    out = ctx.work / "pairs"
    columns = ["id", "photo_id", "person", "split"]
    scores = [name for name in table.columns if name not in (*columns, "position", "reason", "detail")]
    positions = list(zip(kept["id"], kept["position"], strict=True))
    for number, start in enumerate(range(0, len(positions), SHARD_SIZE)):
        part = positions[start : start + SHARD_SIZE]
        write_shard(shard_path(out / "shards", number), ((key, sample(int(i))) for key, i in part))
    write_index(out / "index.csv", kept[columns + scores])
    write_index(out / "rejected.csv", rejected[[*columns, "reason", "detail", *scores]])
    ranked = _ranked(table)
    for name, rows in (("best", ranked[ranked["reason"] == ""].head(SHEET)), ("worst", ranked.tail(SHEET)[::-1])):
        sheet = _sheet(rows, sample)
        write_png(out / f"{name}.png", sheet)
        write_png(ctx.report / f"{name}.png", sheet)
    publish_dir(out, ctx.root / "data" / "pairs" / ctx.style)


def _ranked(table: pd.DataFrame) -> pd.DataFrame:
    return table.sort_values("quality", ascending=False)


def _reader(made: Sequence[Path], dataset: FaceDataset) -> Sample:
    """What was made of the photo at a position: photo, styled, mask."""
    # mapped, not read: all results of a large set would not fit into memory
    parts = [{name: np.load(f"{path}.{name}.npy", mmap_mode="r") for name in ("styled", "mask")} for path in made]
    ends = np.cumsum([len(part["mask"]) for part in parts])
    field = "photo" if "photo" in dataset.fields else "image"

    def sample(position: int) -> dict[str, np.ndarray]:
        shard = int(np.searchsorted(ends, position, side="right"))
        row = position - (int(ends[shard - 1]) if shard else 0)
        return {"photo": dataset.get(position, field)} | {
            name: np.array(pictures[row]) for name, pictures in parts[shard].items()
        }

    return sample


def _sheet(rows: pd.DataFrame, sample: Sample) -> np.ndarray:
    """photo | mask | result of each pair with its quality, and the reason where it was rejected."""
    tiles, labels = [], []
    for row in rows.to_dict("records"):
        parts = sample(int(row["position"]))
        tiles += [parts["photo"], np.repeat(parts["mask"][..., None], 3, 2), parts["styled"]]
        labels += [str(row["photo_id"])[-10:], row["reason"][:10], f"{row['quality']:.2f}"]
    return grid(tiles, columns=12, labels=labels)


def _mean(values: pd.Series) -> float | None:
    known = values.dropna()
    return round(float(known.mean()), 4) if len(known) else None


if __name__ == "__main__":
    run_stage("pair", main, inputs)
