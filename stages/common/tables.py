"""Reading CSV tables that people or stages wrote."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from stages.common.errors import InputError


def read_table(
    path: Path, dtype: type | Mapping[str, type] | None = None, columns: Sequence[str] = (), **options: Any
) -> pd.DataFrame:
    """A CSV file as a table, one row per line.

    Args:
        path: the file, UTF-8.
        dtype: of all columns, or by name; what is not named is guessed.
        columns: names that have to be there.
        options: further ones of ``pandas.read_csv``.

    Raises:
        InputError: the file is absent, not a CSV, or lacks a column.
    """
    try:
        table = pd.read_csv(path, dtype=dtype, **options)  # type: ignore[arg-type]
    except (OSError, ValueError, OverflowError) as error:  # pandas' own errors and Unicode's are ValueErrors
        reason = " ".join(str(error).split())  # the parser's messages end with a line break
        raise InputError(f"{path}: not a readable CSV ({reason})") from error
    missing = [name for name in columns if name not in table.columns]
    if missing:
        raise InputError(f"{path}: column {missing[0]} is missing; it needs {', '.join(columns)}")
    return table
