"""`stylefactory review STYLE`: look at the generated faces, decide, and start the next round.

Without options it draws contact sheets (reports/STYLE/review/) and writes `data/curation/STYLE.csv` for people to edit:
one row per face on the sheets, `decision` empty, keep or drop. `generate` and `pair` leave dropped ids out. With
`--accept` the kept faces become style pictures of the next round in `data/raw/styles/STYLE/`.
"""

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline.settings import load_settings
from stages.common.arguments import positive
from stages.common.atomic import write_text
from stages.common.errors import FactoryError, InputError
from stages.common.images import grid, write_png
from stages.common.progress import log
from stages.common.shards import read_shards
from stages.common.tables import read_table
from stages.generate.curation import COLUMNS, curation_file, kept, read_decisions

PER_SHEET = 60
COLUMNS_PER_SHEET = 12
SHOWN = 300  # faces to review at most: the doubtful half by discriminator score, the rest spread evenly


def read_styled(root: Path, style: str) -> pd.DataFrame:
    """The index of a style's generated faces. Raises InputError: there are none, or it is no CSV."""
    path = root / f"data/styled/{style}/index.csv"
    if not path.is_file():
        raise InputError(f"{path} is missing; run the style up to generate first")
    return read_table(path, {"id": str, "photo_id": str}, ("id",))


def to_review(index: pd.DataFrame, count: int) -> list[str]:
    """Ids worth looking at: half those the discriminator doubts most, half evenly over the rest."""
    if "realness" not in index or len(index) <= count:
        return index["id"].tolist()[:count]
    doubtful = index.sort_values("realness")["id"].tolist()[: count // 2]
    rest = [i for i in index["id"] if i not in set(doubtful)]
    return doubtful + rest[:: max(1, len(rest) // (count - len(doubtful)))][: count - len(doubtful)]


def pictures(root: Path, style: str, ids: Sequence[str]) -> dict[str, NDArray[np.uint8]]:
    """The styled pictures of some ids, uint8 [R, R, 3]."""
    wanted = set(ids)
    return {key: f["styled"] for key, f in read_shards(root / f"data/styled/{style}/shards", wanted)}


def contact_sheets(root: Path, style: str, count: int = SHOWN) -> int:
    """Draw the sheets and add their ids to the curation file (decisions already there stay); number of faces shown."""
    index = read_styled(root, style)
    ids = to_review(index, count)
    images = pictures(root, style, ids)
    ids = [i for i in ids if i in images]
    out = root / f"reports/{style}/review"
    for number, start in enumerate(range(0, len(ids), PER_SHEET)):
        part = ids[start : start + PER_SHEET]
        sheet = grid([images[i] for i in part], columns=COLUMNS_PER_SHEET, pad=6, labels=part)
        write_png(out / f"sheet_{number:02d}.png", sheet)
    path = curation_file(root, style)
    decided = read_decisions(path)
    rows = {row.id: row for row in decided.itertuples()}
    lines = [",".join(COLUMNS)]
    for name in [*rows, *(i for i in ids if i not in rows)]:
        row = rows.get(name)
        reason = str(getattr(row, "reason", "") or "") if row is not None else ""
        lines.append(f"{name},{row.decision if row is not None else ''},{_quoted(reason)}")
    write_text(path, "\n".join(lines) + "\n")
    return len(ids)


def accept(root: Path, style: str, pictures_folder: Path) -> int:
    """Copy the kept faces into the style's picture folder as pictures of the next round; returns how many.

    Their rows are marked done, so that the next round's faces of the same ids are not taken unseen. Kept pairs
    (``pair_…``) are `pair`'s business.

    Raises:
        InputError: nothing is marked keep, or a kept face is no longer among the generated ones.
    """
    ids = [name for name in kept(curation_file(root, style)) if not name.startswith("pair_")]
    if not ids:
        raise InputError(f"{curation_file(root, style)}: nothing is marked keep; edit the file, then --accept")
    images = pictures(root, style, ids)
    missing = [i for i in ids if i not in images]
    if missing:
        raise InputError(f"{missing[0]} is marked keep but is not among the generated faces of '{style}' any more")
    names = (re.fullmatch(r"round(\d+)_.*\.png", path.name) for path in pictures_folder.glob("round*.png"))
    rounds = [int(name[1]) for name in names if name]
    number = max(rounds, default=0) + 1
    for name, image in images.items():
        write_png(pictures_folder / f"round{number}_{name}.png", image)
    table = read_table(curation_file(root, style), str, ("id", "decision"), keep_default_na=False)
    accepted = table["id"].isin(ids)
    table.loc[accepted, "decision"] = ""
    table.loc[accepted, "reason"] = f"accepted in round {number}"
    write_text(curation_file(root, style), table.to_csv(index=False))
    return len(images)


def _quoted(text: str) -> str:
    return '"' + text.replace('"', '""') + '"' if any(c in text for c in ',"\n') else text


def main(argv: Sequence[str] | None = None) -> int:
    """Review a style's generated faces; returns the exit code."""
    parser = argparse.ArgumentParser(prog="stylefactory review", description=__doc__)
    parser.add_argument("--style", required=True, help="name of a style in params.yaml")
    parser.add_argument("--accept", action="store_true", help="kept faces become pictures of the next round")
    parser.add_argument("--count", type=positive, default=SHOWN, help="faces to show")
    parser.add_argument("--params", type=Path, default=Path("params.yaml"))
    args = parser.parse_args(argv)
    try:
        settings = load_settings(args.params).for_style(args.style)
        root = Path.cwd()
        if args.accept:
            folder = root / f"data/raw/styles/{args.style}"
            count = accept(root, args.style, folder)
            log(f"review: {count} faces copied to {folder.relative_to(root)}")
            if settings.item and Path(settings.item.pictures) != folder.relative_to(root):
                log(f"review: styles.{args.style}.pictures is {settings.item.pictures}; point it at the folder above")
        else:
            shown = contact_sheets(root, args.style, args.count)
            log(f"review: {shown} faces on reports/{args.style}/review/sheet_*.png")
            log(f"review: decide in data/curation/{args.style}.csv, then 'stylefactory run {args.style}'")
    except FactoryError as error:
        print(f"review: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
