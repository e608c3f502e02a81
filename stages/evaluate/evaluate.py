"""Stage ``evaluate``: every figure of a style on the test split, the verdict, the report.

``python -m stages.evaluate.evaluate --style avatar`` writes ``reports/S/evaluate/``:

metrics.json    kinds, N, split; the verdict's rows; figures of all systems; largest group gaps; hashes
systems.csv     one row per system and figure
pictures.csv    one row per test photo of the product, with every per-picture figure
groups.csv      one row per fairness group and figure
faces/          the same test faces in every run, one picture each: photo | each system
worst/          the worst 20 pictures per figure: photo above result; ids in worst/worst.csv
stress.png      hard photos above what becomes of them; stress.csv: their figures per system
"""

import subprocess
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from pipeline.settings import Settings
from stages.common.atomic import publish_dir, write_json, write_text
from stages.common.device import Device
from stages.common.distances import Estimate, bootstrap
from stages.common.images import grid, write_png
from stages.common.progress import log
from stages.common.runner import StageContext, run_stage
from stages.evaluate import baselines, hard, history, product
from stages.evaluate.assess import Assessment, as_json, assess
from stages.evaluate.instruments import Instruments, load_instruments
from stages.evaluate.lineage import hashes
from stages.evaluate.measure import ruler, worst
from stages.evaluate.subjects import Faces, Pictures, System
from stages.evaluate.systems import aligned_stylizer, held_out, load_systems, mobile_mnn, translator

WORST = ("style_distance", "background_psnr", "identity", "pose", "seam", "mask_iou", "sharpness", "colour_shift")
WORST_COUNT = 20
STRESSED = 48
EQUIVARIANCE_PHOTOS = 32


def inputs(settings: Settings, style: str) -> Sequence[Path]:
    """What decides the figures."""
    folders = ("data/photos", f"data/style_faces/{style}", f"data/styled/{style}")
    models = [f"models/{style}/{name}" for name in ("translator.safetensors", "mobile.safetensors", "mobile.mnn")]
    return [Path(path) for path in (*folders, *models, "models/weights.json")]


def main(ctx: StageContext) -> None:
    """Measures a style on test photos, judges it, writes figures and report."""
    settings, root, style = ctx.settings, ctx.root, ctx.style
    began = time.time()
    cache = root / "work" / "cache"
    faces = held_out(root / "data/photos", settings, cache)
    real = held_out(root / "data/style_faces" / style, settings, cache)
    log(f"evaluate: {len(faces)} test photos, {len(real)} real style pictures")
    tools = load_instruments(settings, style, root)
    systems = load_systems(root, style, settings, ctx.device, faces, real)
    log(f"evaluate: {len(systems)} systems ran, {time.time() - began:.0f} s")

    models = root / "models" / style
    run = aligned_stylizer(models / "mobile.mnn")

    def stylize(picture: Pictures) -> Pictures:
        return run(picture)[0]

    shipped = shipped_figures(systems, faces, stylize, models / "mobile.mnn", settings.evaluate.latency_runs)
    result = assess(systems, real, shipped, tools, settings.evaluate)

    out = ctx.work / "report"
    metrics = write_results(out, root, style, settings, systems, real, tools, result)
    write_hard(out, models, settings, ctx.device, faces, real, tools)
    metrics["seconds"] = round(time.time() - began, 1)
    write_json(out / "metrics.json", metrics)
    publish_dir(out, ctx.report)
    history.append(root, style, metrics)
    failed = [row.title for row in result.rows if row.state == "fail"]
    log(f"evaluate@{style}: {result.verdict}" + (f"; failed: {', '.join(failed)}" if failed else ""))

    from stages.evaluate.model_card import write_card
    from stages.evaluate.overview import write_overview
    from stages.evaluate.report import write_report

    write_report(root, style, settings)
    write_card(root, style, settings)
    write_overview(root)


def shipped_figures(
    systems: Sequence[System], faces: Faces, stylize: product.Stylize, mnn: Path, runs: int
) -> dict[str, Estimate]:
    """Figures of the shipped file itself."""
    by_name = {system.name: system for system in systems}
    some = faces.some(np.arange(min(EQUIVARIANCE_PHOTOS, len(faces))))
    return {
        "equivariance": bootstrap(product.equivariance(stylize, some), clusters=some.persons),
        "parity": product.parity(by_name.get("torch"), by_name["mnn"]),
        "size_kb": product.size_kb(mnn),
        "latency_ms": product.latency(stylize, faces.images[0], runs),
    }


def write_results(
    out: Path,
    root: Path,
    style: str,
    settings: Settings,
    systems: Sequence[System],
    real: Faces,
    tools: Instruments,
    result: Assessment,
) -> dict[str, Any]:
    """Writes tables and pictures below ``out`` and returns what goes into metrics.json."""
    ours = next(system for system in systems if system.role == "product")
    write_tables(out, result, systems)
    write_pictures(out, result, systems, settings.evaluate.faces)
    metrics = {"style": style} | describe(settings, ours.inputs, real, tools) | as_json(result)
    metrics |= {"git": git_revision(root), "hashes": hashes(root, style)}
    metrics["when"] = datetime.now(UTC).isoformat(timespec="seconds")
    return metrics


def describe(settings: Settings, faces: Faces, real: Faces, tools: Instruments) -> dict[str, Any]:
    """What must be equal before two runs may be compared, and N."""
    kinds = {
        "features": tools.features.name,
        "layer": tools.features.layer,
        "fingerprint": tools.features.fingerprint,
        "identity": tools.embed_name,
        "side": int(faces.images.shape[1]),
        "split": f"photos {faces.index.attrs.get('split', '')}, style {real.index.attrs.get('split', '')}",
    }
    n = {"photos": len(faces), "persons": len(set(faces.persons)), "style": len(real)}
    return {"kinds": kinds, "n": n, "group_min": settings.evaluate.group_min}


def write_tables(out: Path, result: Assessment, systems: Sequence[System]) -> None:
    """The CSV files, for people, spreadsheets and ``dvc plots``."""
    titles = {system.name: system.title for system in systems} | {"style": "Real style pictures"}
    rows = [
        {"system": name, "title": titles[name], "figure": figure, **estimate.as_dict()}
        for name, figures in result.figures.items()
        for figure, estimate in figures.items()
    ]
    write_csv(out / "systems.csv", pd.DataFrame(rows))
    ours = next(system for system in systems if system.role == "product")
    write_csv(out / "pictures.csv", result.tables[ours.name])
    write_csv(out / "groups.csv", result.groups)


def write_csv(path: Path, table: pd.DataFrame) -> None:
    """A table with six significant digits, written atomically."""
    write_text(path, table.to_csv(index=False, float_format="%.6g"))


def write_hard(
    out: Path, models: Path, settings: Settings, device: Device, faces: Faces, real: Faces, tools: Instruments
) -> None:
    """The stress set through baselines, stage 2 and the product."""
    some = faces.some(np.linspace(0, len(faces) - 1, min(STRESSED, len(faces))).astype(int))
    conditions = hard.hard_faces(some, settings.common.seed)
    spoiled = hard.together(conditions)
    ran = [baselines.photo(spoiled), baselines.colour_transfer(spoiled, real)]
    if (models / "translator.safetensors").is_file():
        ran.append(translator(models / "translator.safetensors", spoiled, settings.common.resolution, device))
    ran.append(mobile_mnn(models / "mobile.mnn", spoiled))
    write_csv(out / "stress.csv", hard.hard_table(conditions, ran, ruler(real, tools), tools))
    write_png(out / "stress.png", hard.hard_sheet(conditions, ran[-1]))


def write_pictures(out: Path, result: Assessment, systems: Sequence[System], count: int) -> None:
    """Faces side by side, worst galleries."""
    ours = next(system for system in systems if system.role == "product")
    shared = [system for system in systems if system.inputs is ours.inputs]
    faces = ours.inputs
    for row in np.linspace(0, len(faces) - 1, min(count, len(faces))).astype(int):
        write_png(out / "faces" / f"{faces.ids[row]}.png", grid([s.images[row] for s in shared], len(shared), pad=0))
    write_text(out / "faces" / "columns.txt", "\n".join(system.title for system in shared) + "\n")
    latent = next((system for system in systems if system.name == "latent"), None)
    if latent is not None:
        pairs = [picture for i in range(min(12, len(latent.images))) for picture in _column(latent, i)]
        write_png(out / "latent.png", _two_rows(pairs))
    with_masks = [s for s in shared if s.masks is not None and s.role != "baseline" and s.name != "torch"]
    rows = np.linspace(0, len(faces) - 1, min(10, len(faces))).astype(int)
    tiles = [faces.images[row] for row in rows]
    for system in with_masks:
        tiles += [_grey(system.masks[row]) for row in rows if system.masks is not None]
        tiles += [system.images[row] for row in rows]
    write_png(out / "masks.png", grid(tiles, len(rows)))
    table = result.tables[ours.name]
    places = {name: row for row, name in enumerate(faces.ids)}
    listed = []
    for metric in WORST:
        bad = worst(table, metric, WORST_COUNT)
        if len(bad) == 0:
            continue
        pairs = [picture for name in bad["id"] for picture in _column(ours, places[name])]
        write_png(out / "worst" / f"{metric}.png", _two_rows(pairs))
        listed += [
            {"metric": metric, "rank": rank, "id": name, "value": value}
            for rank, (name, value) in enumerate(zip(bad["id"], bad[metric], strict=True), 1)
        ]
    write_csv(out / "worst" / "worst.csv", pd.DataFrame(listed, columns=["metric", "rank", "id", "value"]))


def _grey(mask: np.ndarray) -> np.ndarray:
    return np.repeat(mask[..., None], 3, axis=2)


def _column(system: System, row: int) -> tuple[np.ndarray, np.ndarray]:
    return system.inputs.images[row], system.images[row]


def _two_rows(pairs: list[np.ndarray], columns: int = 10) -> np.ndarray:
    """photo, result, photo, result ... → rows of ten photos, each above the row of their results."""
    tiles = []
    for start in range(0, len(pairs), 2 * columns):
        part = pairs[start : start + 2 * columns]
        missing = [np.full_like(pairs[0], 255)] * (columns - len(part) // 2) if len(pairs) > 2 * columns else []
        tiles += [*part[0::2], *missing, *part[1::2], *missing]
    return grid(tiles, min(columns, len(pairs) // 2))


def git_revision(root: Path) -> str:
    """Short commit of the checkout, with + when files differ from it; "" outside git."""
    command = ["git", "-C", str(root), "describe", "--always", "--dirty=+", "--abbrev=10"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    return result.stdout.strip() if result.returncode == 0 else ""


if __name__ == "__main__":
    run_stage("evaluate", main, inputs)
