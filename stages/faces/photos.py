"""DVC stage photos: people's photos become aligned faces with masks, in data/photos/."""

from pathlib import Path

import numpy as np
import pandas as pd

from pipeline.settings import Settings
from pipeline.settings.faces import PhotosSettings
from stages.common.errors import InputError
from stages.common.images import list_images
from stages.common.runner import StageContext, run_stage
from stages.common.tables import read_table
from stages.faces.cache import PictureCache
from stages.faces.groups import compile_pattern
from stages.faces.ingest import CACHE, Options, Way, ingest, make_options
from stages.faces.locate import LANDMARKS, read_landmarks
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
        InputError: the folder is missing, or landmarks.csv or the hold-out list cannot be read.
        SettingsError: photos.person_pattern is no regular expression with a group.
    """
    mine, common = settings.photos, settings.common
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; photos.path must name one")
    known = read_landmarks(folder) if mine.align in ("auto", "landmarks") else {}
    way: Way = mine.align if mine.align != "auto" else ("landmarks" if known else "detect")
    if mine.align == "landmarks" and not known:
        raise InputError(f"{folder}: photos.align is landmarks, but there is no {LANDMARKS} with rows")
    options = make_options(common.resolution, False, way, mine.detector, root, mine.faces == "all", seed=common.seed)
    plan = plan_of(mine, common.resolution, folder, root)
    rows = ingest(list_images(folder), folder, options, root, known, label="photos")
    table, rejected = select(rows, plan, PictureCache(root / CACHE))
    return table, rejected, options, plan


def plan_of(mine: PhotosSettings, resolution: int, folder: Path, root: Path) -> Plan:
    """The selection plan that the settings describe."""
    pattern = compile_pattern(mine.person_pattern, "photos.person_pattern")
    held = read_holdout(root / mine.holdout) if mine.holdout else frozenset()
    limits = Limits(
        resolution, mine.min_source, mine.min_sharpness, mine.max_roll, mine.max_yaw, mine.min_brightness,
        mine.max_brightness,
    )  # fmt: skip

    def persons(table: pd.DataFrame) -> list[str]:
        by_name = persons_by_name(table, pattern)
        return by_name if pattern else join_by_face(table, by_name, PictureCache(root / CACHE), root)

    def held_out(table: pd.DataFrame) -> np.ndarray:
        named = table["person"].isin(held) | table["file"].isin(held)
        return table["person"].isin(set(table.loc[named, "person"])).to_numpy()

    return Plan(
        "person", persons, limits, mine.val_share, mine.test_share, mine.balance, ("yaw", "brightness", "ita"),
        mine.licence, folder.name, False, held_out if held else None,
    )  # fmt: skip


def read_holdout(path: Path) -> frozenset[str]:
    """Files and persons of a hold-out list (CSV with a column file, person or both).

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
    return frozenset(value for name in columns for value in table[name].dropna())


def inputs(settings: Settings, style: str) -> list[Path]:
    """Files whose content decides about the result."""
    mine = settings.photos
    return [Path(name) for name in (mine.path, mine.holdout, "models/weights.json") if name]


if __name__ == "__main__":
    run_stage("photos", main, inputs, per_style=False)
