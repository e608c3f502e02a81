"""From ingested rows to a finished folder: data/photos or data/style_faces/S."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from stages.common.atomic import publish_dir, write_bytes, write_json
from stages.common.dataset import write_index
from stages.common.errors import InputError
from stages.common.images import read_image, write_png
from stages.common.progress import log
from stages.common.seeding import rng
from stages.faces.backgrounds import background, replace_background
from stages.faces.cache import PictureCache
from stages.faces.distribution import distribution
from stages.faces.groups import join_groups
from stages.faces.select import Limits, assign_splits, balance_weights, mark_duplicates, measure_reasons, table_of

HEAD = ("id", "file", "source")
LAST = ("near", "weight")


@dataclass(frozen=True)
class Plan:
    """How candidates become a dataset.

    Attributes:
        group: name of the grouping column, "person" or "design".
        group_of: (table) to each row's group name.
        held_out: (table, rejected) to a bool per row: its group and all tied to that are in the test split.
        balance_over: columns whose histogram the weights even out.
        licence: recorded in summary.json.
        source: name for pictures that lie directly in the folder.
    """

    group: str
    group_of: Callable[[pd.DataFrame], list[str]]
    limits: Limits
    val_share: float
    test_share: float
    balance: float
    balance_over: tuple[str, ...]
    licence: str
    source: str
    drawn: bool
    held_out: Callable[[pd.DataFrame, pd.DataFrame], np.ndarray] | None = None


def select(rows: list[dict[str, Any]], plan: Plan, cache: PictureCache) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Ingest rows to (index, rejected): thresholds, duplicates, groups, splits and weights applied.

    Raises:
        InputError: the plan's hold-out list names what is not there.
    """
    table, rejected = table_of(rows, plan.drawn, plan.source)
    if table.empty:
        return table, rejected
    reasons = measure_reasons(table, plan.limits)
    bad = reasons["reason"] != ""
    rejected = pd.concat([rejected, _refused(table[bad], reasons[bad])], ignore_index=True)
    table = table[~bad].reset_index(drop=True)
    if table.empty:
        return table, rejected

    def pixels(i: int) -> np.ndarray:
        picture = cache.pixels(table["key"][i], f"image_{table['face'][i]}")
        return picture if picture is not None else np.zeros((plan.limits.resolution,) * 2 + (3,), np.uint8)

    marks = mark_duplicates(table, pixels)
    twice = marks["same_as"] >= 0
    kept_instead = marks.loc[twice, "same_as"].map(lambda i: table["file"][i])
    text = pd.DataFrame({"reason": "duplicate", "detail": "same picture as " + kept_instead.astype(str)})
    rejected = pd.concat([rejected, _refused(table[twice], text)], ignore_index=True)
    table["near"] = [table["id"][i] if i != at else "" for at, i in enumerate(marks["near"])]
    groups = pd.Series(plan.group_of(table), index=table.index)
    # only the very same picture ties two persons together: likeness of drawings says nothing about their design
    ties = [(i, int(same)) for i, same in enumerate(marks["same_as"]) if same >= 0]
    # and all faces of one photo stay on one side: each is in the others' background
    first_of = {file: i for i, file in reversed(list(enumerate(table["file"])))}
    ties += [(i, first_of[file]) for i, file in enumerate(table["file"])]
    table[plan.group] = groups
    held = plan.held_out(table, rejected) if plan.held_out is not None else None
    table["split"] = assign_splits(groups, join_groups(len(table), ties), plan.val_share, plan.test_share, held)
    table = table[~twice].reset_index(drop=True)
    table["weight"] = balance_weights(table, plan.balance, plan.balance_over)
    first = [*HEAD, plan.group, "split"]
    middle = [name for name in table.columns if name not in {*first, *LAST}]
    columns = [*first, *middle, *LAST]
    return table[columns], rejected.sort_values("file", kind="stable").reset_index(drop=True)


def _refused(table: pd.DataFrame, reasons: pd.DataFrame) -> pd.DataFrame:
    columns = {"file": table["file"], "reason": reasons["reason"], "detail": reasons["detail"]}
    return pd.DataFrame(columns)


def require_usable(table: pd.DataFrame, rejected: pd.DataFrame, folder: Path) -> None:
    """Raises InputError (exit 3) when nothing at all can be used; says why."""
    if len(table) == 0:
        counts = rejected["reason"].value_counts()
        why = ", ".join(f"{n} {reason}" for reason, n in counts.items()) or "no pictures in it"
        raise InputError(f"{folder}: no usable picture ({why}); 'stylefactory doctor' and docs/faces.md say what helps")


def summary_of(table: pd.DataFrame, rejected: pd.DataFrame, plan: Plan, options: Any) -> dict[str, Any]:
    """Counts, splits, distribution and licence, for summary.json."""
    return {
        "used": len(table),
        "files_rejected": int(rejected["file"].nunique()),
        "rejected": {str(k): int(v) for k, v in rejected["reason"].value_counts().items()},
        "splits": {str(k): int(v) for k, v in table["split"].value_counts().items()},
        f"{plan.group}s": int(table[plan.group].nunique()),
        "detector": options.detector,
        "methods": {str(k): int(v) for k, v in table["method"].value_counts().items()},
        "licence": plan.licence,
        "distribution": distribution(table),
    }


def with_background_copies(table: pd.DataFrame, copies: int) -> pd.DataFrame:
    """The index with ``copies`` more rows per training picture, whose background :func:`publish` will exchange."""
    table = table.assign(copy=0)
    train = table[table["split"] == "train"]
    more = [train.assign(copy=k, id=train["id"] + f"-bg{k}") for k in range(1, copies + 1)]
    return pd.concat([table, *more], ignore_index=True)


def publish(
    table: pd.DataFrame, rejected: pd.DataFrame, summary: dict[str, Any], cache: PictureCache, work: Path, final: Path
) -> None:
    """Writes the dataset below ``work`` and puts it in the place of ``final``.

    Raises:
        InputError: somebody emptied the picture cache meanwhile.
    """
    folder = work / "dataset"
    shutil.rmtree(folder, ignore_errors=True)
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True)
    for row in table.itertuples():
        for kind in ("image", "mask"):
            data = cache.picture(row.key, f"{kind}_{row.face}")
            if data is None:
                raise InputError(f"work/cache/faces was emptied during the run ({row.file}); run the stage again")
            (folder / f"{kind}s" / f"{row.id}.png").write_bytes(data)
        if getattr(row, "copy", 0):
            _exchange_background(folder, str(row.id))
    write_index(folder / "index.csv", table.drop(columns=["key", "content", "face"]))
    write_index(folder / "rejected.csv", rejected)
    write_json(folder / "summary.json", summary)
    publish_dir(folder, final)
    log(f"{final.name}: {len(table)} usable, {len(rejected)} rejected")


def _exchange_background(folder: Path, name: str) -> None:
    picture = read_image(folder / "images" / f"{name}.png")
    mask = read_image(folder / "masks" / f"{name}.png")[..., 0]
    behind = background("mixed", picture.shape[0], rng("background copy", name))
    write_png(folder / "images" / f"{name}.png", replace_background(picture, mask, behind))


def report_files(report: Path, summary: dict[str, Any], rejected: pd.DataFrame) -> None:
    """summary.json and rejected.csv of the report folder."""
    write_json(report / "summary.json", summary)
    write_bytes(report / "rejected.csv", rejected.to_csv(index=False).encode())
