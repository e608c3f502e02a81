"""DVC stage style_faces@S: style pictures become aligned faces with masks, in data/style_faces/S/."""

from pathlib import Path

import pandas as pd

from pipeline.settings import Settings
from pipeline.settings.faces import StyleFacesSettings
from stages.common.errors import InputError
from stages.common.images import list_images
from stages.common.runner import StageContext, run_stage
from stages.faces.cache import PictureCache
from stages.faces.drawn import locate_drawn
from stages.faces.groups import compile_pattern, design_of
from stages.faces.ingest import CACHE, Options, Way, ingest, make_options
from stages.faces.locate import LANDMARKS, below_landmarks, read_landmarks
from stages.faces.publish import Plan, publish, report_files, require_usable, select, summary_of
from stages.faces.select import Limits
from stages.faces.sheets import write_sheets

OUTPUT = Path("data/style_faces")


def main(ctx: StageContext) -> None:
    """Align, mask, measure, select and split the style's pictures."""
    assert ctx.settings.item is not None
    folder = ctx.root / ctx.settings.item.pictures
    table, rejected, options, plan = prepare(folder, ctx.settings, ctx.root)
    require_usable(table, rejected, folder)
    summary = summary_of(table, rejected, plan, options)
    report_files(ctx.report, summary, rejected)
    cache = PictureCache(ctx.root / CACHE)
    write_sheets(ctx.report, table, rejected, folder, cache, ctx.settings.common.resolution)
    publish(table, rejected, summary, cache, ctx.work, ctx.root / OUTPUT / ctx.style)


def prepare(folder: Path, settings: Settings, root: Path) -> tuple[pd.DataFrame, pd.DataFrame, Options, Plan]:
    """Everything but the writing: (index, rejected, options, plan) of the style pictures in ``folder``.

    Raises:
        InputError: the folder is missing or a landmarks.csv cannot be read.
        SettingsError: style_faces.design_pattern is no regular expression with a group.
    """
    mine, common = settings.style_faces, settings.common
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; the style's 'pictures' must name one")
    known = read_landmarks(folder) if mine.align in ("auto", "landmarks") else {}
    files = list_images(folder)
    marked = below_landmarks(files, folder, known)
    way: Way
    match mine.align:
        case "auto":
            way = "landmarks" if known and len(marked) == len(files) else "set"
        case "detect":
            way = "set"
        case other:
            way = other
    if mine.align == "landmarks" and not known:
        raise InputError(f"{folder}: style_faces.align is landmarks, but there is no {LANDMARKS} with rows")
    options = make_options(
        common.resolution, True, way, mine.detector, root, backgrounds=mine.backgrounds, seed=common.seed
    )
    licence = settings.item.licence if settings.item else ""
    plan = plan_of(mine, common.resolution, folder, licence)
    if way == "set":
        known = locate_drawn([file for file in files if file not in marked], folder, options, root) | known
    rows = ingest(files, folder, options, root, known, label="style pictures")
    table, rejected = select(rows, plan, PictureCache(root / CACHE))
    return table, rejected, options, plan


def plan_of(mine: StyleFacesSettings, resolution: int, folder: Path, licence: str) -> Plan:
    """The selection plan that the settings describe."""
    pattern = compile_pattern(mine.design_pattern, "style_faces.design_pattern")

    def designs(table: pd.DataFrame) -> list[str]:
        return [design_of(file, pattern) for file in table["file"]]

    limits = Limits(resolution, mine.min_source, mine.min_sharpness, mine.max_roll, mine.max_yaw)
    return Plan(
        "design", designs, limits, mine.val_share, mine.test_share, mine.balance, ("brightness", "ita"), licence,
        folder.name, True,
    )  # fmt: skip


def inputs(settings: Settings, style: str) -> list[Path]:
    """Files whose content decides about the result."""
    pictures = [Path(settings.styles[style].pictures)] if style in settings.styles else []
    return [*pictures, Path("models/weights.json")]


if __name__ == "__main__":
    run_stage("style_faces", main, inputs)
