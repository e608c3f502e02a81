"""Runs everything that is compared on the same test photos: baselines, the stages' results, the product."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.settings import Settings
from stages.common.dataset import FaceDataset
from stages.common.device import Device
from stages.common.errors import InputError
from stages.common.images import to_tensor, to_uint8
from stages.common.progress import log
from stages.common.seeding import rng
from stages.evaluate import baselines
from stages.evaluate.subjects import Faces, Pictures, System, fit

BATCH = 16
FEWEST_STYLE = 4
"""Style pictures that can be measured against: two halves of two, as every distance between sets needs two."""
FEWEST_PHOTOS = 2
Network = Callable[[Tensor], tuple[Tensor, Tensor | None]]


def held_out(folder: Path, settings: Settings, cache: Path) -> Faces:
    """The test split of an ingested dataset at evaluation size, at most ``evaluate.pictures`` of it.

    Which ones is a draw by seed, so that all runs with equal settings measure the same pictures.
    Falls back to the validation split, then to everything, where a small set has no test split or one too small to
    measure (:data:`FEWEST_STYLE`, :data:`FEWEST_PHOTOS`); ``index.attrs["split"]`` records which, "test", "val" or
    "all", and is compared before two runs are.

    Raises:
        InputError: no such dataset, or all of it is too little.
    """
    data = FaceDataset(folder, settings.common.resolution, cache=cache)
    rows, split = choose_split(data.index, folder)
    if len(rows) > settings.evaluate.pictures:
        draw = rng(settings.common.seed, "evaluate", folder.name)
        rows = np.sort(draw.permutation(rows)[: settings.evaluate.pictures])
    side = min(settings.common.resolution, settings.evaluate.max_side)
    images = np.stack([fit(data.get(int(row), "image"), side) for row in rows])
    masks = np.stack([fit(data.get(int(row), "mask"), side) for row in rows])
    index = data.index.iloc[rows].reset_index(drop=True)
    index.attrs["split"] = split
    return Faces(images, masks, index)


def choose_split(index: pd.DataFrame, folder: Path) -> tuple[NDArray[np.intp], str]:
    """Rows int [N] of ``index`` that hold enough to measure, and their split: "test", else "val", else "all".

    Args:
        folder: where the dataset lies; ``data/style_faces/S`` holds style pictures, any other photos.

    Raises:
        InputError: the whole set is too small.
    """
    fewest = FEWEST_STYLE if folder.parent.name == "style_faces" else FEWEST_PHOTOS
    for split in ("test", "val") if "split" in index else ():
        rows = np.flatnonzero(index["split"].to_numpy() == split)
        if len(rows) >= fewest:
            return rows, split
        log(f"{folder}: {len(rows)} in split '{split}' are too few to measure")
    if len(index) < fewest:
        raise InputError(f"{folder}: {len(index)} usable in all, measuring needs at least {fewest}; add pictures")
    return np.arange(len(index)), "all"


def latent_pairs(folder: Path, settings: Settings, cache: Path, count: int) -> System:
    """Stage 1's own pairs, source(w) beside fused(w): what stage 2 is taught from."""
    data = FaceDataset(folder, settings.common.resolution, None, ("photo", "styled", "mask"), cache)
    rows = np.sort(rng(settings.common.seed, "latent").permutation(len(data))[:count])
    side = min(settings.common.resolution, settings.evaluate.max_side)
    photos, styled, masks = (
        np.stack([fit(data.get(int(row), field), side) for row in rows]) for field in ("photo", "styled", "mask")
    )
    index = data.index.iloc[rows][["id"]].reset_index(drop=True)
    note = "made from the source's samples, not from the test photos; backgrounds are not kept by construction"
    return System("latent", "Stage 1: pairs from latents", "baseline", Faces(photos, masks, index), styled, note=note)


@torch.no_grad()
def run_network(network: Network, pictures: Pictures, side: int, device: Device) -> tuple[Pictures, Pictures | None]:
    """uint8 [N, H, W, 3] through a network at ``side`` pixels and back to the pictures' size: results and masks."""
    results, masks = [], []
    for start in range(0, len(pictures), BATCH):
        batch = np.stack([fit(picture, side) for picture in pictures[start : start + BATCH]])
        with device.autocast(False):
            styled, mask = network(to_tensor(batch).to(device.device))
        results += [fit(picture, pictures.shape[1]) for picture in to_uint8(styled)]
        if mask is not None:
            planes = (mask.float().clamp(0, 1) * 255).round().to(torch.uint8)[:, 0].cpu().numpy()
            masks += [fit(plane, pictures.shape[1]) for plane in planes]
    return np.stack(results), np.stack(masks) if masks else None


def translator(path: Path, faces: Faces, side: int, device: Device) -> System:
    """Stage 2's result on the test photos."""
    from stages.pair.models import load_translator

    network = load_translator(path).to(device.device)

    def run(photo: Tensor) -> tuple[Tensor, Tensor | None]:
        translation = network(photo)
        return translation[0], translation[1]

    images, masks = run_network(run, faces.images, side, device)
    return System("translator", "Stage 2: translator", "stage", faces, images, masks)


def mobile_torch(path: Path, faces: Faces, device: Device) -> System:
    """Stage 3 before export."""
    from stages.mobile.models import load_mobile

    network, file = load_mobile(path)
    images, masks = run_network(network.to(device.device), faces.images, int(file.config["resolution"]), device)
    return System("torch", "Stage 3: mobile, torch", "stage", faces, images, masks)


def aligned_stylizer(path: Path) -> Callable[[Pictures], tuple[Pictures, Pictures]]:
    """The shipped file as a function on one aligned picture of any size: its styled picture and mask, uint8.

    One thread, as latency is quoted.

    Raises:
        ModelFileError: not a model of ours, or its sidecar is missing.
    """
    from stages.mobile.runtime import MobileStylizer

    stylizer = MobileStylizer(path, threads=1)

    def run(picture: Pictures) -> tuple[Pictures, Pictures]:
        styled, mask = stylizer.run(fit(picture, stylizer.size))
        plane = np.round(mask * 255).astype(np.uint8)
        return fit(styled, picture.shape[0]), fit(plane, picture.shape[0])

    return run


def mobile_mnn(path: Path, faces: Faces) -> System:
    """The file that ships, run through its own runtime on aligned faces."""
    run = aligned_stylizer(path)
    pairs = [run(picture) for picture in faces.images]
    images, masks = (np.stack(part) for part in zip(*pairs, strict=True))
    return System("mnn", "Product: mobile.mnn", "product", faces, images, masks)


def load_systems(root: Path, style: str, settings: Settings, device: Device, faces: Faces, real: Faces) -> list[System]:
    """Everything that is compared, in the order of the tables: baselines, stages, product.

    Raises:
        InputError: the product is missing. A missing earlier stage is only left out of the tables.
    """
    models, cache = root / "models" / style, root / "work" / "cache"
    resolution = settings.common.resolution
    found = [baselines.photo(faces), baselines.colour_transfer(faces, real)]
    if (root / "data/styled" / style / "index.csv").is_file():
        found.append(latent_pairs(root / "data/styled" / style, settings, cache, len(faces)))
    if (models / "translator.safetensors").is_file():
        found.append(translator(models / "translator.safetensors", faces, resolution, device))
    if (models / "mobile.safetensors").is_file():
        found.append(mobile_torch(models / "mobile.safetensors", faces, device))
    if not (models / "mobile.mnn").is_file():
        raise InputError(f"{models / 'mobile.mnn'}: missing; run the 'export' stage of style {style} first")
    found.append(mobile_mnn(models / "mobile.mnn", faces))
    return found
