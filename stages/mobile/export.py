"""DVC stage ``export``: ONNX → MNN, numeric gate, sidecar, golden pair. ``python -m stages.mobile.export``."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from pipeline.settings import Settings
from stages.common.atomic import atomic_path, write_json
from stages.common.dataset import FaceDataset
from stages.common.errors import InputError, StageError
from stages.common.images import grid, to_uint8, write_png
from stages.common.modelfile import file_hash
from stages.common.progress import log
from stages.common.runner import StageContext, run_stage
from stages.mobile.convert import Precision, export_onnx, onnx_to_mnn
from stages.mobile.data import as_float
from stages.mobile.models import load_mobile
from stages.mobile.network import STRIDE, Deployed, MobileNet, count_macs, parameter_count
from stages.mobile.runtime import SIDECAR_VERSION, MnnModule

OUTPUTS = ("styled", "mask")
FILES: dict[Precision, str] = {"fp32": "mobile.mnn", "fp16": "mobile.fp16.mnn", "int8": "mobile.int8.mnn"}


def inputs(settings: Settings, style: str) -> Sequence[Path]:
    """What the export reads."""
    return [Path(f"models/{style}/mobile.safetensors"), Path(f"data/pairs/{style}")]


def main(ctx: StageContext) -> None:
    """Exports models/S/mobile.safetensors; publishes only when every file passes its gate."""
    settings = ctx.settings.export
    target = ctx.root / "models" / ctx.style
    net, file = load_mobile(target / "mobile.safetensors")
    size = settings.size or int(file.config["resolution"])
    if size % STRIDE:
        raise StageError(f"export.size: {size} is no multiple of {STRIDE}")
    photos = test_photos(ctx, size, settings.inputs)
    limits: dict[Precision, float] = {
        "fp32": settings.max_error_fp32,
        "fp16": settings.max_error_fp16,
        "int8": settings.max_error_int8,
    }
    folder = ctx.work / "export"
    figures = export_files(net, folder, photos, limits, settings.dynamic)
    sidecar = describe(net, file.meta, ctx.style, size, settings.dynamic, folder, figures)
    for name in ("mobile.onnx", *FILES.values(), "mobile.golden.npz"):
        (folder / name).replace(target / name)
    write_json(target / "mobile.json", sidecar)
    write_png(ctx.report / "parity.png", parity_sheet(net, target, photos))
    write_json(ctx.report / "summary.json", {"size": size, **_flat(figures)})


def test_photos(ctx: StageContext, size: int, count: int) -> torch.Tensor:
    """Held-out photos of the pairs (training ones if there are none), float [N, 3, size, size] in [-1, 1]."""
    folder, cache = ctx.root / "data/pairs" / ctx.style, ctx.root / "work/cache"
    try:
        dataset = FaceDataset(folder, size, "val", ("photo",), cache)
    except InputError:
        dataset = FaceDataset(folder, size, None, ("photo",), cache)
    chosen = np.linspace(0, len(dataset) - 1, min(count, len(dataset))).astype(int)
    return as_float(dataset.take(chosen, "photo"), "photo").contiguous()


def export_files(
    net: MobileNet, folder: Path, photos: torch.Tensor, limits: dict[Precision, float], dynamic: bool
) -> dict[str, Any]:
    """Writes mobile.onnx, the three .mnn files and the golden pair into ``folder`` and compares each with torch.

    Args:
        photos: float [N, 3, S, S] in [-1, 1]; S becomes the fixed size. limits: largest allowed error by precision.

    Returns:
        Per file: bytes, max_error, mean_error (over both outputs and all sizes tried), sizes.

    Raises:
        StageError: conversion failed or a gate was missed; says which and by how much.
    """
    folder.mkdir(parents=True, exist_ok=True)
    deployed, size = Deployed(net).eval(), photos.shape[-1]
    onnx = folder / "mobile.onnx"
    export_onnx(deployed, onnx, size, OUTPUTS, dynamic)
    sizes = [size, size + 2 * STRIDE] if dynamic else [size]
    figures: dict[str, Any] = {"mobile.onnx": {"bytes": onnx.stat().st_size, "sha256": file_hash(onnx)}}
    for precision, name in FILES.items():
        path = folder / name
        onnx_to_mnn(onnx, path, precision)
        errors = [parity(net, path, photos, side) for side in sizes]
        worst = {key: float(np.max([error[key] for error in errors])) for key in errors[0]}
        figures[name] = {"bytes": path.stat().st_size, "sha256": file_hash(path), "sizes": sizes, **worst}
        log(f"export: {name}, {path.stat().st_size / 1e3:.0f} kB, largest error {worst['max_error']:.1e}")
        error = worst["max_error"]
        if not error <= limits[precision]:
            raise StageError(
                f"{name}: differs from torch by {error:.2e}, allowed {limits[precision]:.0e} "
                f"(export.max_error_{precision})"
            )
    with torch.no_grad():
        styled, mask = net(photos[:1])
    with atomic_path(folder / "mobile.golden.npz") as temporary:
        np.savez(temporary, image=photos[:1].numpy(), styled=styled.numpy(), mask=mask.numpy())
    return figures


@torch.no_grad()
def parity(net: MobileNet, path: Path, photos: torch.Tensor, side: int) -> dict[str, float]:
    """Largest and mean difference of both outputs between the file and torch, at ``side``.

    photos: float [N, 3, S, S] in [-1, 1], scaled where S is another side.
    """
    module, largest, total = MnnModule(path), 0.0, 0.0
    for photo in photos.split(1):
        if photo.shape[-1] != side:
            photo = F.interpolate(photo, (side, side), mode="bilinear", align_corners=False)
        want = net(photo)
        for have, wanted in zip(module(photo.numpy()), want, strict=True):
            difference = np.abs(have - wanted.numpy())
            # numpy's maximum keeps a NaN, Python's max may drop it
            largest, total = float(np.maximum(largest, difference.max())), total + float(difference.mean())
    return {"max_error": largest, "mean_error": total / (2 * len(photos))}


def describe(
    net: MobileNet,
    meta: dict[str, Any],
    style: str,
    size: int,
    dynamic: bool,
    folder: Path,
    figures: dict[str, Any],
) -> dict[str, Any]:
    """The sidecar: everything a program needs to feed the model, and where it comes from.

    :class:`stages.mobile.runtime.SidecarContent` says what each value means and may be.
    """
    return {
        "kind": "stylefactory-mobile",
        "version": SIDECAR_VERSION,
        "style": style,
        "licence": meta.get("licence", ""),
        "tier": net.tier,
        "size": size,
        "multiple": STRIDE,
        "dynamic": dynamic,
        "input": {
            "name": "image",
            "layout": "NCHW",
            "channels": "RGB",
            "type": "float32",
            "from_uint8": "value / 127.5 - 1",
            "alignment": "FFHQ quad; see docs/phone.md",
        },
        "outputs": {
            "styled": "float32 [1, 3, H, W] RGB in [-1, 1]; value * 127.5 + 127.5 gives uint8",
            "mask": "float32 [1, 1, H, W] in [0, 1]; 0 where the input passed untouched",
        },
        "parameters": parameter_count(net),
        "macs_256": count_macs(net),
        "files": figures,
        "golden": {"file": "mobile.golden.npz", "sha256": file_hash(folder / "mobile.golden.npz")},
        "training": {key: meta.get(key) for key in ("seed", "parents", "figures", "settings")},
    }


@torch.no_grad()
def parity_sheet(net: MobileNet, folder: Path, photos: torch.Tensor) -> np.ndarray:
    """Rows photo, torch, each .mnn file, for a person's eye; uint8 [H, W, 3]."""
    rows = [photos, net(photos)[0]]
    for name in FILES.values():
        module = MnnModule(folder / name)
        rows.append(torch.cat([torch.from_numpy(module(photo.numpy())[0]) for photo in photos.split(1)]))
    return grid([image for row in rows for image in to_uint8(row)], columns=len(photos))


def _flat(figures: dict[str, Any]) -> dict[str, float]:
    keys = ("bytes", "max_error", "mean_error")
    return {f"{name}.{key}": entry[key] for name, entry in figures.items() for key in keys if key in entry}


if __name__ == "__main__":
    run_stage("export", main, inputs)
