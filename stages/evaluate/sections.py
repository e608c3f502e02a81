"""What the report says about each stage, read from the files the stages left: numbers, curves, pictures, reasons."""

import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
from markupsafe import Markup

from stages.evaluate import charts
from stages.evaluate.page import Album, words

STAGES = {
    "photos": "Photos",
    "source": "Source model",
    "style_faces": "Style faces",
    "transfer": "1 · Transfer",
    "fuse": "1 · Fusion",
    "generate": "1 · Styled faces",
    "translate": "2 · Translator",
    "pair": "2 · Pairs",
    "mobile": "3 · Mobile network",
    "export": "3 · Export",
    "bench": "3 · Bench, on this machine",
}
SHARED = ("photos", "source", "bench")
DATA = {
    "photos": "data/photos",
    "style_faces": "data/style_faces/{style}",
    "generate": "data/styled/{style}",
    "pair": "data/pairs/{style}",
}
SKIPPED_CURVES = ("nimg", "seconds", "sec", "elapsed", "step")
MOST_GRIDS, MOST_SHEETS = 5, 6


@dataclass
class Section:
    """One stage on the page.

    Attributes:
        key, title: folder name and heading.
        numbers: (name, text) from summary.json.
        tables: small tables from its CSV files: (name, header, rows).
        curves: (name, SVG) from stats.csv.
        grids: (image count, data URI), fixed seed over training.
        sheets: (caption, data URI).
        rejected: (reason, count) of the dataset it made.
        seconds: how long it took, None if unknown.
    """

    key: str
    title: str
    numbers: list[tuple[str, str]] = field(default_factory=list)
    tables: list[tuple[str, list[str], list[list[str]]]] = field(default_factory=list)
    curves: list[tuple[str, Markup]] = field(default_factory=list)
    grids: list[tuple[str, str]] = field(default_factory=list)
    sheets: list[tuple[str, str]] = field(default_factory=list)
    rejected: list[tuple[str, int]] = field(default_factory=list)
    seconds: float | None = None


def stage_sections(root: Path, style: str, album: Album) -> list[Section]:
    """Sections of all stages that left something, in the diagram's order; sweeps, ablations and others after them."""
    reports = root / "reports"
    folders = {key: reports / key if key in SHARED else reports / style / key for key in STAGES}
    own = sorted(p for p in (reports / style).glob("*") if p.is_dir()) if (reports / style).is_dir() else []
    extra = {p.name: p for p in own if p.name not in STAGES and p.name != "evaluate"}
    titles = STAGES | {name: words(name).capitalize() for name in extra}
    sections = []
    for key, folder in (folders | extra).items():
        section = Section(key, titles[key])
        read_folder(section, folder, album)
        if key in DATA:
            section.rejected = rejected(root / DATA[key].format(style=style))
        if section.seconds is None:
            section.seconds = recorded_seconds(reports, style, key)
        if any((section.numbers, section.tables, section.curves, section.grids, section.sheets, section.rejected)):
            sections.append(section)
    return sections


def read_folder(section: Section, folder: Path, album: Album) -> None:
    """Fills a section from a stage's report folder; missing or unreadable files are left out."""
    summary = read_json(folder / "summary.json") | read_json(folder / "model.json")
    section.seconds = _float(summary.pop("seconds", None))
    section.numbers = [(words(name), text) for name, text in flat(summary)]
    section.curves = curves(folder / "stats.csv")
    for path in sorted(folder.glob("*.csv")):
        if path.name not in ("stats.csv",):
            table = small_table(path)
            if table:
                section.tables.append((words(path.stem), *table))
    pictures = sorted(folder.glob("*.png")) + sorted(folder.glob("*.jpg"))
    grids = [path for path in pictures if re.fullmatch(r"(grid_)?\d+", path.stem)]
    for path in _spread(grids, MOST_GRIDS):
        uri = album.file(path, 520)
        if uri:
            section.grids.append((f"{int(path.stem.removeprefix('grid_')):,} images".replace(",", "\u2009"), uri))
    for path in [path for path in pictures if path not in grids][:MOST_SHEETS]:
        uri = album.file(path, 1100)
        if uri:
            caption = folder / f"{path.stem}.txt"
            text = caption.read_text(encoding="utf-8").strip() if caption.is_file() else words(path.stem)
            section.sheets.append((text, uri))


def curves(path: Path) -> list[tuple[str, Markup]]:
    """One small chart per column of a stats.csv."""
    try:
        table = pd.read_csv(path)
    except (OSError, ValueError, pd.errors.ParserError):
        return []
    x = table["nimg"] if "nimg" in table else pd.Series(range(len(table)))
    columns = [name for name in table.columns if name not in SKIPPED_CURVES and table[name].dtype.kind in "if"]
    drawn = []
    for name in columns:
        if table[name].nunique() < 2:
            continue
        drawn.append((words(name), charts.line(x, table[name], words(name))))
    return [(name, svg) for name, svg in drawn if svg]


def small_table(path: Path, most: int = 20) -> tuple[list[str], list[list[str]]] | None:
    """Header and rows of a CSV of at most ``most`` rows, as text; None for longer ones (data, not a summary)."""
    try:
        table = pd.read_csv(path)
    except (OSError, ValueError, pd.errors.ParserError):
        return None
    if not 0 < len(table) <= most or len(table.columns) > 12:
        return None
    rows = [[show(value) for value in row] for row in table.itertuples(index=False)]
    return [words(str(name)) for name in table.columns], rows


def rejected(folder: Path) -> list[tuple[str, int]]:
    """Reasons of a dataset's rejected.csv with their counts, most frequent first."""
    try:
        reasons = pd.read_csv(folder / "rejected.csv")["reason"].astype(str)
    except (OSError, KeyError, ValueError, pd.errors.ParserError):
        return []
    return [(words(str(name)), int(count)) for name, count in reasons.value_counts().items()]


def recorded_seconds(reports: Path, style: str, stage: str) -> float | None:
    """Duration of a stage from the numbers DVC tracks."""
    folder = reports / "metrics" if stage in SHARED else reports / "metrics" / style
    return _float(read_json(folder / f"{stage}.json").get("seconds"))


def flat(values: dict[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Nested numbers and short texts as (name, text); long lists and texts are left out."""
    rows: list[tuple[str, str]] = []
    for key, value in values.items():
        name = f"{prefix}{key}"
        if isinstance(value, dict):
            rows += flat(value, f"{name} ")
        elif isinstance(value, list):
            if len(value) <= 6 and all(isinstance(v, int | float | str) for v in value):
                rows.append((name, ", ".join(show(v) for v in value)))
        elif value is not None and len(show(value)) <= 80:
            rows.append((name, show(value)))
    return rows


def show(value: Any) -> str:
    """One cell: numbers short, everything else as it is."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int | float):
        return charts.number(value)
    return "" if pd.isna(value) else str(value)


def read_json(path: Path) -> dict[str, Any]:
    """A JSON file's object, {} where it is missing or no object."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def _float(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) else None


def _spread(paths: list[Path], most: int) -> list[Path]:
    """At most ``most`` of the paths, first and last among them."""
    if len(paths) <= most:
        return paths
    return [paths[round(i * (len(paths) - 1) / (most - 1))] for i in range(most)]
