"""DVC stage photos: people's photos become aligned faces with masks, in data/photos/."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from pipeline.settings import Settings
from pipeline.settings.faces import PhotosSettings
from stages.common.errors import InputError
from stages.common.images import list_images
from stages.common.runner import StageContext, run_stage
from stages.common.tables import read_table
from stages.faces.cache import PictureCache
from stages.faces.detect import Face
from stages.faces.groups import compile_pattern
from stages.faces.holdout import Entry, match_holdout, require_found
from stages.faces.ingest import CACHE, Options, Way, ingest, make_options
from stages.faces.locate import LANDMARKS, below_landmarks, read_landmarks
from stages.faces.persons import join_by_face, persons_by_name
from stages.faces.publish import Plan, publish, report_files, require_usable, select, summary_of, with_background_copies
from stages.faces.select import Limits
from stages.faces.sheets import write_sheets

OUTPUT = Path("data/photos")


def main(ctx: StageContext) -> None:
    """Detect, align, mask, measure, select and split the photos of settings.photos.path."""
    settings = ctx.settings.photos
    folder = ctx.root / settings.path
    table, rejected, options, plan = prepare(folder, ctx.settings, ctx.root)
    require_usable(table, rejected, folder)
    summary = summary_of(table, rejected, plan, options)
    report_files(ctx.report, summary, rejected)
    cache = PictureCache(ctx.root / CACHE)
    write_sheets(ctx.report, table, rejected, folder, cache, ctx.settings.common.resolution)
    if settings.background_copies:
        table = with_background_copies(table, settings.background_copies)
    publish(table, rejected, summary, cache, ctx.work, ctx.root / OUTPUT)


def prepare(folder: Path, settings: Settings, root: Path) -> tuple[pd.DataFrame, pd.DataFrame, Options, Plan]:
    """Everything but the writing: (index, rejected, options, plan) of the photos in ``folder``.

    Raises:
        InputError: the folder is missing, a landmarks.csv or the hold-out list cannot be read, or the list names what
            is not there.
        SettingsError: photos.person_pattern is no regular expression with a group.
    """
    mine, common = settings.photos, settings.common
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; photos.path must name one")
    known = read_landmarks(folder) if mine.align in ("auto", "landmarks") else {}
    if mine.align == "landmarks" and not known:
        raise InputError(f"{folder}: photos.align is landmarks, but there is no {LANDMARKS} with rows")
    plan = plan_of(mine, common.resolution, folder, root)
    rows, options = _ingest_photos(folder, settings, root, known)
    table, rejected = select(rows, plan, PictureCache(root / CACHE))
    return table, rejected, options, plan


def _ingest_photos(
    folder: Path, settings: Settings, root: Path, known: dict[str, Face]
) -> tuple[list[dict[str, Any]], Options]:
    """Rows of all photos and the options of those searched.

    Of several folders of photos each was checked for itself: here too one may have a table and another be searched.
    """
    mine, common, files = settings.photos, settings.common, list_images(folder)
    other: Way = "detect" if mine.align == "auto" else mine.align
    marked = below_landmarks(files, folder, known)
    parts: dict[Way, list[Path]] = {other: []}
    for file in files:
        parts.setdefault("landmarks" if file in marked else other, []).append(file)
    ways: list[Way] = [way for way in parts if parts[way]] or [other]
    options = {
        way: make_options(common.resolution, False, way, mine.detector, root, mine.faces == "all", seed=common.seed)
        for way in ways
    }
    rows = [row for way in ways for row in ingest(parts[way], folder, options[way], root, known, label="photos")]
    order = {path.relative_to(folder).as_posix(): i for i, path in enumerate(files)}
    return sorted(rows, key=lambda row: order[row["file"]]), options[ways[0]]


def plan_of(mine: PhotosSettings, resolution: int, folder: Path, root: Path) -> Plan:
    """The selection plan that the settings describe.

    Raises:
        InputError: the hold-out list cannot be read.
        SettingsError: photos.person_pattern is no regular expression with a group.
    """
    pattern = compile_pattern(mine.person_pattern, "photos.person_pattern")
    held = read_holdout(root / mine.holdout) if mine.holdout else []
    limits = Limits(
        resolution, mine.min_source, mine.min_sharpness, mine.max_roll, mine.max_yaw, mine.min_brightness,
        mine.max_brightness,
    )  # fmt: skip

    def persons(table: pd.DataFrame) -> list[str]:
        by_name = persons_by_name(table, pattern)
        return by_name if pattern else join_by_face(table, by_name, PictureCache(root / CACHE), root)

    def held_out(table: pd.DataFrame, rejected: pd.DataFrame) -> np.ndarray:
        named, lost = match_holdout(held, table, rejected, folder, pattern)
        require_found(lost, root / mine.holdout)
        return named

    return Plan(
        "person", persons, limits, mine.val_share, mine.test_share, mine.balance, ("yaw", "brightness", "ita"),
        mine.licence, folder.name, False, held_out if held else None,
    )  # fmt: skip


def read_holdout(path: Path) -> list[Entry]:
    """The lines of a hold-out list (CSV with a column file, person or both) that are not blank.

    Raises:
        InputError: it cannot be read or has neither column.
    """
    try:
        table = read_table(path, str)
    except InputError as error:
        raise InputError(f"photos.holdout: {error}") from error
    columns = [name for name in ("file", "person") if name in table.columns]
    if not columns:
        raise InputError(f"photos.holdout: {path} needs a column file or person")
    lines = table[columns].fillna("").apply(lambda column: column.str.strip()).itertuples(index=False)
    return [entry for line in lines if (entry := tuple(value for value in line if value))]


def inputs(settings: Settings, style: str) -> list[Path]:
    """Files whose content decides about the result."""
    mine = settings.photos
    return [Path(name) for name in (mine.path, mine.holdout, "models/weights.json") if name]


if __name__ == "__main__":
    run_stage("photos", main, inputs, per_style=False)
