"""`stylefactory sweep fuse STYLE`: fused faces over fusion point x width x transfer snapshot, measured and shown.

Each cell: the same eight faces with style gap, diversity relative to the source (spread of features of unpaired
samples) and to the transferred model (with a 95 % interval), and yield. Writes reports/STYLE/sweep_fuse/sheet.png and
cells.csv; nothing of the chain changes.
"""

import argparse
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from pydantic import ValidationError
from scipy.spatial.distance import pdist, squareform
from torch import Tensor

from pipeline.settings import Settings, load_settings
from pipeline.settings.generate import FuseSettings
from stages.common.dataset import FaceDataset, write_index
from stages.common.device import Device, setup
from stages.common.distances import diversity, head_only, style_gap
from stages.common.errors import FactoryError, InputError, SettingsError
from stages.common.features import FeatureNet, feature_net
from stages.common.images import grid, to_uint8, write_png
from stages.common.progress import log, track
from stages.common.seeding import generator as seeded
from stages.generate.encoder import Encoder, load_encoder
from stages.generate.fuse import SOURCE, answering_to, fuse_generators, other_parent
from stages.generate.generate import fit_filter
from stages.generate.landmark_net import LandmarkNet, find_landmarks, load_landmark_net
from stages.generate.models import load_stylegan
from stages.generate.networks import Discriminator, Generator
from stages.generate.production import LANDMARKS
from stages.generate.yield_filter import YieldFilter

SHOWN = 8
FEWEST = 32  # samples; fewer tell nothing about diversity
PSI = 0.75  # the default of production


@dataclass(frozen=True)
class Bench:
    """What every cell is measured with.

    style, photos: features [N, F] of real style pictures and of the source's samples. photo_images: those samples,
    [N, 3, R, R] in [-1, 1]. mask: the mean head mask [1, 1, R, R] in [0, 1]. ws: the common latents [N, num_ws, w_dim].
    """

    net: FeatureNet
    style: NDArray[np.float32]
    photos: NDArray[np.float32]
    photo_images: Tensor
    mask: Tensor
    ws: Tensor
    filter: YieldFilter
    encoder: Encoder
    landmarks: LandmarkNet
    style_d: Discriminator | None
    device: Device

    def images(self, generator: Generator) -> Tensor:
        """The generator's pictures of the common latents, [N, 3, R, R] in [-1, 1] on the CPU."""
        with torch.no_grad(), self.device.autocast():
            parts = [generator.synthesis(w.to(self.device.device), "const") for w in self.ws.split(32)]
        return torch.cat(parts).float().clamp(-1, 1).cpu()

    def features(self, images: Tensor) -> NDArray[np.float32]:
        """Features [N, F] of the heads of pictures [N, 3, R, R] in [-1, 1]."""
        return self.net.extract(head_only(images, self.mask)).numpy()

    def figures(self, images: Tensor, transferred: NDArray[np.float32]) -> dict[str, float]:
        """style_gap, diversity (1 = the source's), pose and mouth spread (1 = the source's), yield in [0, 1].

        images: [N, 3, R, R] in [-1, 1]. over_transferred (with _low, _high): diversity over that of `transferred`,
        features [N, F] of the same latents.
        """
        features = self.features(images)
        ratio, low, high = diversity_ratio(features, transferred)
        gap = style_gap(features, self.style, self.photos, interval=False)
        scores = self.filter.scores(self.encoder, self.style_d, self.landmarks, images)
        pose, mouth = spreads(self.landmarks, images)
        pose_source, mouth_source = spreads(self.landmarks, self.photo_images)
        return {
            "style_gap": float(gap.gap.value),
            "diversity": diversity(features) / max(diversity(self.photos), 1e-9),
            "over_transferred": ratio,
            "over_transferred_low": low,
            "over_transferred_high": high,
            "pose_spread": pose / max(pose_source, 1e-9),
            "mouth_spread": mouth / max(mouth_source, 1e-9),
            "yield": float(np.mean([not r for r in self.filter.reasons(scores)])),
        }


def diversity_ratio(features: NDArray[np.float32], others: NDArray[np.float32]) -> tuple[float, float, float]:
    """Mean pairwise distance of features [N, F] over that of others [N, F] with a 95 % interval: (ratio, low, high).

    Rows belong together (same latents), so the bootstrap draws the same rows of both.
    """
    mine, theirs = squareform(pdist(features)), squareform(pdist(others))
    counts = np.random.default_rng(0).multinomial(len(mine), np.full(len(mine), 1 / len(mine)), 500)
    ratios = ((counts @ mine) * counts).sum(1) / np.maximum(((counts @ theirs) * counts).sum(1), 1e-12)
    low, high = np.quantile(ratios, [0.025, 0.975])
    return float(mine.sum() / max(theirs.sum(), 1e-12)), float(low), float(high)


def spreads(landmarks: LandmarkNet, images: Tensor) -> tuple[float, float]:
    """How much pose and mouth vary over faces [N, 3, R, R] in [-1, 1]: (pose, mouth).

    pose: standard deviation of the mouth's sideways place between the eyes, in eye distances (a turned head's mouth
    moves off the middle). mouth: of the contrast in the mouth's rows, which opening and teeth change, over the mean.
    """
    points = find_landmarks(landmarks, images).points
    across = np.linalg.norm(points[:, 1] - points[:, 0], axis=1).clip(0.05)
    aside = (points[:, 2, 0] - (points[:, 0, 0] + points[:, 1, 0]) / 2) / across
    side = images.shape[-1]
    grey = images.mean(1).numpy()
    contrast = []
    for picture, (x, y) in zip(grey, points[:, 2] * side, strict=True):
        top, left = int(np.clip(y - 0.08 * side, 0, side - 2)), int(np.clip(x - 0.1 * side, 0, side - 2))
        part = picture[top : top + int(0.16 * side) + 1, left : left + int(0.2 * side) + 1]
        contrast.append(float(part.mean(1).max() - part.mean(1).min()))
    values = np.array(contrast)
    return float(_robust_std(aside)), float(_robust_std(values) / max(abs(float(np.median(values))), 1e-6))


def _robust_std(values: NDArray[np.floating]) -> float:
    low, high = np.quantile(values, [0.16, 0.84])
    return float(high - low) / 2


def bench(root: Path, style: str, settings: Settings, samples: int, device: Device) -> Bench:
    """Everything a sweep measures with."""
    source, _, _ = load_stylegan(root / SOURCE)
    _, style_d, _ = load_stylegan(root / f"models/{style}/transferred.safetensors")
    data = FaceDataset(root / f"data/style_faces/{style}", source.arch.resolution, cache=root / "work/cache")
    splits = data.index["split"].to_numpy()
    held = np.flatnonzero(splits == "val") if (splits == "val").sum() >= 4 else np.flatnonzero(splits == "train")
    mask = data.take(np.arange(min(len(data), 200)), "mask").float().mean(0, keepdim=True) / 255
    pictures = data.take(held, "image").float().div(127.5).sub(1)
    net = feature_net(settings, root)
    z = torch.randn(samples, source.arch.z_dim, generator=seeded(settings.common.seed, "sweep fuse"))
    ws = source.mapping(z, PSI)
    made = Bench(
        net,
        net.extract(head_only(pictures, mask)).numpy(),
        np.zeros((0, 0), np.float32),
        torch.zeros(0),
        mask,
        ws,
        fit_filter(root, style, source.arch.resolution, settings.generate.filter_loss),
        load_encoder(root / "models/source/encoder.safetensors"),
        load_landmark_net(root / LANDMARKS),
        style_d,
        device,
    )
    photos = made.images(source.to(device.device))
    features = net.extract(head_only(photos, mask)).numpy()
    return Bench(**{**vars(made), "photos": features, "photo_images": photos})


def snapshots(root: Path, style: str, wanted: int) -> dict[str, Path]:
    """The published transferred model and up to `wanted` - 1 earlier snapshots, by name."""
    found = {
        p.stem.lstrip("0") or "0": p
        for p in sorted((root / f"models/{style}/snapshots").glob("*.safetensors"))
        if re.fullmatch(r"\d+", p.stem)
    }
    names = list(found)[:: max(1, len(found) // max(1, wanted - 1))][: max(0, wanted - 1)]
    return {name: found[name] for name in names} | {"chosen": root / f"models/{style}/transferred.safetensors"}


def sweep(
    root: Path,
    style: str,
    settings: Settings,
    mids: Sequence[float],
    widths: Sequence[float],
    snapshot_count: int,
    schedules: Sequence[str],
    samples: int,
    device: Device,
) -> pd.DataFrame:
    """Measure every cell, write sheet and table, return the table.

    Raises:
        SettingsError: a mid or width that `fuse` does not take.
    """
    cells: list[tuple[str, Path, FuseSettings]] = []
    for name, path in snapshots(root, style, snapshot_count).items():
        for kind in schedules:
            for mid in mids:
                for width in widths if kind != "swap" else widths[:1]:
                    changed = settings.fuse.model_dump() | {"schedule": kind, "mid": mid, "width": width}
                    try:
                        cells.append((name, path, FuseSettings(**changed)))
                    except ValidationError as error:
                        wrong = error.errors()[0]
                        raise SettingsError(f"--{wrong['loc'][0]}s: {wrong['input']}: {wrong['msg']}") from error
    measured = bench(root, style, settings, samples, device)
    rows: list[dict[str, object]] = []
    tiles: list[NDArray[np.uint8]] = list(to_uint8(measured.photo_images[:SHOWN]))
    captions = ["source", *[""] * (SHOWN - 1)]
    compared: dict[str, NDArray[np.float32]] = {}
    parent, _, _ = load_stylegan(root / other_parent(settings.fuse))
    source, _, _ = load_stylegan(root / SOURCE)
    for name, path, fuse in track(cells, len(cells), "sweep fuse", "cells"):
        transferred, _, _ = load_stylegan(path)
        fused = answering_to(fuse_generators(parent, transferred, fuse), source).to(device.device)
        images = measured.images(fused)
        if name not in compared:
            compared[name] = measured.features(measured.images(answering_to(transferred, source).to(device.device)))
        figures = measured.figures(images, compared[name])
        rows.append(
            {"snapshot": name, "schedule": fuse.schedule, "mid": fuse.mid, "width": fuse.width}
            | {k: round(v, 4) for k, v in figures.items()}
        )
        tiles += list(to_uint8(images[:SHOWN]))
        how = f"width {fuse.width:g}" if fuse.schedule == "smooth" else fuse.schedule
        captions += [name, f"mid {fuse.mid:g}", how]
        captions += [f"gap {figures['style_gap']:.2f}", f"div {figures['diversity']:.2f}"]
        captions += [f"pose {figures['pose_spread']:.2f}", f"mouth {figures['mouth_spread']:.2f}"]
        captions += [f"yield {figures['yield']:.2f}", *[""] * (SHOWN - 8)]
    out = root / f"reports/{style}/sweep_fuse"
    write_png(out / "sheet.png", grid(tiles, columns=SHOWN, labels=captions))
    table = pd.DataFrame(rows)
    write_index(out / "cells.csv", table)
    return table


def main(argv: Sequence[str] | None = None) -> int:
    """Try fusion settings of a style; returns the exit code."""
    parser = argparse.ArgumentParser(prog="stylefactory sweep fuse", description=__doc__)
    parser.add_argument("--style", required=True, help="name of a style in params.yaml")
    parser.add_argument("--mids", type=float, nargs="+", default=[0.5, 1.5, 2.5], help="fusion points")
    parser.add_argument("--widths", type=float, nargs="+", default=[0.3, 0.7], help="widths")
    parser.add_argument("--schedules", nargs="+", default=["smooth", "swap"], choices=["smooth", "linear", "swap"])
    parser.add_argument("--snapshots", type=int, default=2, help="transfer snapshots, the chosen one among them")
    parser.add_argument("--samples", type=int, default=256, help="faces per cell; 1024 halve the intervals")
    parser.add_argument("--params", type=Path, default=Path("params.yaml"))
    args = parser.parse_args(argv)
    if args.samples < FEWEST:
        parser.error(f"--samples must be at least {FEWEST}")
    try:
        settings = load_settings(args.params).for_style(args.style)
        if not Path(f"models/{args.style}/transferred.safetensors").is_file():
            raise InputError(
                f"models/{args.style}/transferred.safetensors is missing; run the style up to transfer first"
            )
        device = setup(settings.common.device, settings.common.precision, settings.common.threads)
        table = sweep(
            Path.cwd(),
            args.style,
            settings,
            args.mids,
            args.widths,
            args.snapshots,
            args.schedules,
            args.samples,
            device,
        )
    except FactoryError as error:
        print(f"sweep fuse: {error}", file=sys.stderr)
        return error.exit_code
    log(table.to_string(index=False))
    log(f"sheet: reports/{args.style}/sweep_fuse/sheet.png")
    return 0


if __name__ == "__main__":
    sys.exit(main())
