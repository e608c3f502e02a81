"""The report of a style: ``reports/S/report.html``, one file that needs no network.

``python -m stages.evaluate.report --style avatar [--open]`` writes it anew from the files the stages left; nothing is
computed again.
"""

import argparse
import sys
import webbrowser
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from markupsafe import Markup

from pipeline.settings import Settings, load_settings
from stages.common.errors import FactoryError, InputError
from stages.common.images import read_image
from stages.common.progress import duration, log
from stages.evaluate import charts, history
from stages.evaluate.page import Album, write_page
from stages.evaluate.sections import Section, read_json, stage_sections

HERO_FACES = 12
FIGURES = {
    "style_gap": "Style gap ↓",
    "style_gap_fid": "Style gap by FID ↓",
    "style_gap_fd_vgg19": "Style gap by Fréchet ↓",
    "style_gap_fd_enc": "Style gap by Fréchet ↓",
    "kid": "KID ↓",
    "kid_vgg19": "KID, VGG19 features ↓",
    "kid_enc": "KID, encoder features ↓",
    "fid": "FID ↓",
    "fd_vgg19": "Fréchet, VGG19 features ↓",
    "fd_enc": "Fréchet, encoder features ↓",
    "precision": "Precision ↑",
    "recall": "Recall ↑",
    "diversity": "Diversity against photos ↑",
    "sharpness": "Sharpness (|Laplacian|)",
    "sharpness_ratio": "Sharpness against the style's",
    "identity": "Identity (share ranked behind) ↑",
    "recognised": "Right person among five of 60, in another photo ↑",
    "identity_top1": "Identity, right person first ↑",
    "background_psnr": "Background PSNR, dB ↑",
    "background_ssim": "Background SSIM ↑",
    "mask_iou": "Head mask IoU ↑",
    "seam": "Seam, levels/px ↓",
    "face_lost": "Faces lost ↓",
    "pose": "Eyes, mouth moved ↓",
    "expression": "Expression kept (mouth, correlation) ↑",
    "colour_shift": "Colour shift, ΔE",
    "lightness_shift": "Lightness shift, L*",
    "equivariance": "Shift equivariance, dB ↑",
    "parity": "Torch to MNN, levels ↓",
    "size_kb": "Size, kB ↓",
    "latency_ms": "Time here, one thread, ms ↓",
}
SYSTEM_TITLES = {
    "photo": "Photo",
    "colour": "Colour transfer",
    "latent": "Stage 1 pairs",
    "translator": "Stage 2",
    "torch": "Mobile, torch",
    "mnn": "Product",
    "style": "Real style, half to half",
}
GALLERIES = {
    "style_distance": "Least like the style",
    "background_psnr": "Background changed most, dB",
    "identity": "Least like the person",
    "pose": "Eyes and mouth moved most, eye distances",
    "seam": "Hardest seams, grey levels/px",
    "mask_iou": "Masks furthest off, IoU",
    "sharpness": "Softest",
    "colour_shift": "Colours shifted most, ΔE",
}
SENTENCES = {
    "pass": "Ready to ship by every threshold.",
    "warn": "Usable, with reservations: read the amber rows.",
    "fail": "Do not ship: read the red rows.",
    "unknown": "Not enough was measured to decide.",
}


def write_report(root: Path, style: str, settings: Settings) -> Path:
    """Writes ``reports/S/report.html`` from what lies in ``reports/`` and ``data/``.

    Returns:
        The page's path.

    Raises:
        InputError: the style was never evaluated.
    """
    folder = root / "reports" / style / "evaluate"
    metrics = read_json(folder / "metrics.json")
    if "rows" not in metrics:
        raise InputError(f"{folder / 'metrics.json'}: missing; run the 'evaluate' stage of style {style} first")
    album = Album()
    heading, faces = hero(folder, album)
    sections = stage_sections(root, style, album)
    pictures = read_table(folder / "pictures.csv", {"id": str})
    content: dict[str, Any] = {
        "style": style,
        "metrics": metrics,
        "sentence": SENTENCES[metrics["verdict"]],
        "counts": {state: sum(r["state"] == state for r in metrics["rows"].values()) for state in SENTENCES},
        "columns": heading,
        "faces": faces,
        "systems": systems_table(metrics),
        "distributions": distributions(pictures, metrics),
        "groups": group_charts(read_table(folder / "groups.csv"), metrics),
        "gaps": gap_rows(metrics),
        "sections": sections,
        "seconds": duration_chart(sections, metrics),
        "masks": album.file(folder / "masks.png"),
        "stress": album.file(folder / "stress.png", 1100),
        "stressed": stress_rows(read_table(folder / "stress.csv")),
        "worst": worst_galleries(folder, album),
        "pairs": pair_galleries(root, style, album),
        "settings": settings_rows(settings),
        "licences": {"photos": settings.photos.licence, "style": settings.item.licence if settings.item else ""},
        "runs": run_rows(history.read(root, style)),
        "left_out": album.left_out,
    }
    path = root / "reports" / style / "report.html"
    write_page(path, "report.html.j2", content)
    log(f"report: {path} ({path.stat().st_size / 1e6:.1f} MB)")
    return path


def hero(folder: Path, album: Album) -> tuple[list[str], list[tuple[str, list[str]]]]:
    """Column titles, and per shown face its id and one data URI per column."""
    columns = read_lines(folder / "faces" / "columns.txt")
    rows = []
    for path in sorted((folder / "faces").glob("*.png"))[:HERO_FACES]:
        strip = read_image(path)
        side = strip.shape[0]
        tiles = [strip[:, i * side : (i + 1) * side] for i in range(strip.shape[1] // side)]
        rows.append((path.stem, [album.picture(tile, path.name, 192) for tile in tiles]))
    return columns, rows


def systems_table(metrics: dict[str, Any]) -> dict[str, Any]:
    """Figures as rows, systems as columns."""
    systems = metrics["systems"]
    names = [name for name in SYSTEM_TITLES if name in systems]
    rows = []
    for figure, title in FIGURES.items():
        cells = [systems[name].get(figure) for name in names]
        if any(cell is not None and cell["value"] is not None for cell in cells):
            rows.append((title, cells))
    return {"names": [(name, SYSTEM_TITLES[name]) for name in names], "rows": rows}


def distributions(pictures: pd.DataFrame, metrics: dict[str, Any]) -> list[tuple[str, Markup]]:
    """Histograms of the per-picture figures that decide most; the dashed line is the style's own or the limit."""
    real = metrics["systems"].get("style", {}).get("sharpness", {}).get("value")
    lines = {
        "style_distance": metrics["rows"]["style_gap"]["pass"],
        "sharpness": float("nan") if real is None else real,
        "identity": metrics["rows"]["identity"]["pass"],
        "background_psnr": metrics["rows"]["background_psnr"]["pass"],
    }
    titles = {
        "style_distance": "Style distance per picture (0 style, 1 photo)",
        "sharpness": "Sharpness per picture (line: the style's own)",
        "identity": "Identity per picture",
        "background_psnr": "Background PSNR per picture, dB",
    }
    found = [(titles[k], charts.histogram(pictures[k], v, titles[k])) for k, v in lines.items() if k in pictures]
    return [(title, svg) for title, svg in found if svg]


def group_charts(groups: pd.DataFrame, metrics: dict[str, Any]) -> list[tuple[str, list[tuple[str, Markup]]]]:
    """Per grouping, one chart per figure: dot and interval per group; groups too small to compare are faint."""
    titles = {
        "identity": "Identity ↑",
        "background_psnr": "Background PSNR, dB ↑",
        "style_step": "Moved to the style ↑",
        "face_lost": "Faces lost ↓",
        "lightness_shift": "Lightened, L*",
    }
    least = int(metrics.get("group_min", 8))
    found = []
    for grouping, part in groups.groupby("grouping", sort=False):
        drawn = []
        for metric, title in titles.items():
            some = part[part["metric"] == metric]
            rows = [(str(r.group), r.value, r.low, r.high, int(r.n), int(r.n) < least) for r in some.itertuples()]
            svg = charts.dots(rows, f"{title} by {grouping}")
            if svg:
                drawn.append((title, svg))
        if drawn:
            found.append((str(grouping), drawn))
    return found


def gap_rows(metrics: dict[str, Any]) -> list[dict[str, Any]]:
    """All largest gaps, surest first."""
    gaps = [gap for gap in metrics.get("gaps", []) if gap["value"]]
    return sorted(gaps, key=lambda gap: (gap["chance"], -(gap["value"] or 0)))[:12]


def duration_chart(sections: Sequence[Section], metrics: dict[str, Any]) -> Markup:
    """How long each stage took."""
    rows = [(s.key, s.seconds, duration(s.seconds)) for s in sections if s.seconds]
    if metrics.get("seconds"):
        rows.append(("evaluate", metrics["seconds"], duration(metrics["seconds"])))
    return charts.bars(rows, "Duration per stage") if rows else Markup("")


def stress_rows(table: pd.DataFrame) -> list[tuple[str, list[tuple[str, str, str, str]], str]]:
    """Per condition: its name, per system (title, style gap, background, faces found), faces found in the photos."""
    found = []
    for condition, part in table.groupby("condition", sort=False) if len(table) else []:
        cells = [
            (str(r.title), f"{r.style_gap:.2f}", f"{r.background_psnr:.1f}", f"{100 * r.face_found:.0f} %")
            for r in part.itertuples()
        ]
        found.append((str(condition), cells, f"{100 * part['photo_found'].iloc[0]:.0f} %"))
    return found


def worst_galleries(folder: Path, album: Album) -> list[dict[str, Any]]:
    """Per figure: the worst pictures and their ids."""
    listed = read_table(folder / "worst" / "worst.csv", {"id": str})
    found = []
    for metric, rows in listed.groupby("metric", sort=False) if len(listed) else []:
        entries = [(int(r.rank), str(r.id), charts.number(r.value)) for r in rows.itertuples()]
        title = GALLERIES.get(str(metric), str(metric))
        sheet = album.file(folder / "worst" / f"{metric}.png", 760)
        found.append({"title": title, "sheet": sheet, "entries": entries})
    return found


def pair_galleries(root: Path, style: str, album: Album) -> dict[str, Any]:
    """The worst training pairs as stage 2 scored them, with lines ready for the curation file."""
    folder = root / "data" / "pairs" / style
    sheet = album.file(folder / "worst.png", 1000)
    index = read_table(folder / "index.csv", {"id": str})
    ids = index.sort_values("quality").head(20)["id"].astype(str).tolist() if "quality" in index else []
    return {"sheet": sheet, "best": album.file(folder / "best.png", 1000), "ids": ids}


def settings_rows(settings: Settings) -> list[tuple[str, list[tuple[str, str, bool]]]]:
    """Per section: (key, value, whether it differs from the default), the style's overrides merged in."""
    found = []
    for name in type(settings).model_fields:
        section = getattr(settings, name)
        if name in ("styles", "item", "ops") or section is None:
            continue
        default = type(section)()
        rows = [(k, str(v), getattr(default, k) != getattr(section, k)) for k, v in section.model_dump().items()]
        found.append((name, rows))
    return found


def run_rows(runs: list[dict[str, Any]], most: int = 12) -> list[dict[str, Any]]:
    """Earlier runs, newest first, with the figures people ask for."""
    wanted = ("style_gap", "identity", "background_psnr", "sharpness")
    rows = []
    for run in reversed(runs[-most:]):
        figures = [run.get("rows", {}).get(name) for name in wanted]
        rows.append(
            {"when": run.get("when") or "", "verdict": run.get("verdict"), "git": run.get("git"), "figures": figures}
        )
    return rows


def read_table(path: Path, dtype: dict[str, type] | None = None) -> pd.DataFrame:
    """A CSV, empty where it is missing or unreadable."""
    try:
        return pd.read_csv(path, dtype=dtype)
    except (OSError, ValueError, pd.errors.ParserError):
        return pd.DataFrame()


def read_lines(path: Path) -> list[str]:
    """Lines of a text file, none where it is missing."""
    return path.read_text(encoding="utf-8").splitlines() if path.is_file() else []


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog="stylefactory report", description="Write the report of a style anew.")
    parser.add_argument("--style", required=True)
    parser.add_argument("--open", action="store_true", help="show it in the browser")
    parser.add_argument("--params", type=Path, default=Path("params.yaml"))
    args = parser.parse_args(argv)
    try:
        from stages.evaluate.overview import write_overview

        path = write_report(Path.cwd(), args.style, load_settings(args.params).for_style(args.style))
        write_overview(Path.cwd())
    except FactoryError as error:
        print(f"report: {error}", file=sys.stderr)
        return error.exit_code
    if args.open and not webbrowser.open(path.resolve().as_uri()):
        log("report: no browser found here; open the file above in one")
    return 0


if __name__ == "__main__":
    sys.exit(main())
