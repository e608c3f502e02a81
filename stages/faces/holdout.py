"""The hold-out list against the pictures that are there: an entry that names nobody would hold out nobody, unseen."""

import re
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path, PurePath

import numpy as np
import pandas as pd

from stages.common.errors import InputError
from stages.faces.groups import person_of

Entry = tuple[str, ...]  # a line of the list: its file, its person or both
SHOWN = 3  # entries named in the error


def match_holdout(
    entries: Sequence[Entry], table: pd.DataFrame, rejected: pd.DataFrame, folder: Path, pattern: re.Pattern[str] | None
) -> tuple[np.ndarray, list[Entry]]:
    """Who is held out, and which entries name nobody.

    What is called exactly so is meant alone. Else ``stylefactory photos DIR`` may have put a folder before the names
    since the list was written (``x.jpg`` is ``DIR/x.jpg`` now, ``anna`` is ``DIR_anna``), or the list was written one
    folder further up: then files are recognised by the end of their path, persons with or without their folder.

    Args:
        table: usable pictures with file and person.
        rejected: the others, with file: an entry that names one of them is no mistake.
        folder: where both lie.
        pattern: settings.photos.person_pattern.

    Returns:
        bool [rows of table], True for what an entry names; and the entries neither a usable nor a rejected one answers
        to.
    """
    usable = table["file"].tolist() if len(table) else []
    files = [*usable, *rejected["file"]]
    named = [person_of(file, pattern) for file in files]  # a person joined by face may have another's name by now
    joined = table["person"].tolist() if len(table) else []
    exact: dict[str, set[int]] = defaultdict(set)
    loose: dict[str, set[int]] = defaultdict(set)
    for i, file in enumerate(files):
        persons = {named[i], joined[i]} if i < len(joined) else {named[i]}
        for name in {file, *persons}:
            exact[name].add(i)
        parts, above = PurePath(folder.resolve().name, file).parts, PurePath(file).parent.name
        for k in range(len(parts)):
            loose["/".join(parts[k:])].add(i)
        for person in persons:
            loose[person.removeprefix(f"{above}_") if above else f"{folder.resolve().name}_{person}"].add(i)
    held, lost = np.zeros(len(files), bool), []
    for entry in entries:
        hits = set[int]().union(*(exact.get(value) or loose.get(value, set()) for value in entry))
        held[list(hits)] = True
        if not hits:
            lost.append(entry)
    return held[: len(usable)], lost


def require_found(lost: Sequence[Entry], path: Path) -> None:
    """Refuses a hold-out list with entries that name nobody: misspelt, they would be trained on.

    Raises:
        InputError: ``lost`` is not empty; names its first entries.
    """
    if lost:
        some = "; ".join(", ".join(entry) for entry in lost[:SHOWN]) + ("; …" if len(lost) > SHOWN else "")
        raise InputError(
            f"photos.holdout: {len(lost)} of {path}'s entries match no file and no person of the photos ({some}); "
            "correct them or delete their lines, or set photos.holdout to ''"
        )
