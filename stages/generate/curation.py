"""Curation: what people decided about single samples, in `data/curation/STYLE.csv` (id, keep|drop,
reason).
"""

from pathlib import Path

import pandas as pd

from stages.common.errors import InputError
from stages.common.tables import read_table

COLUMNS = ["id", "decision", "reason"]


def curation_file(root: Path, style: str) -> Path:
    """Where a style's decisions are kept; versioned by git."""
    return root / "data" / "curation" / f"{style}.csv"


def read_decisions(path: Path) -> pd.DataFrame:
    """Decisions as a table with columns id, decision, reason; empty when the file is absent.

    Raises:
        InputError: not a CSV, columns missing, a decision other than keep or drop, or one id with both.
    """
    if not path.is_file():
        return pd.DataFrame(columns=COLUMNS, dtype=str)
    table = read_table(path, str, ("id", "decision"), keep_default_na=False)
    table["decision"] = table["decision"].str.strip().str.lower()
    table = table[(table["id"] != "") & (table["decision"] != "")]
    wrong = table[~table["decision"].isin(["keep", "drop"])]
    if len(wrong):
        raise InputError(f"{path}: {wrong.iloc[0]['id']} says '{wrong.iloc[0]['decision']}', allowed: keep, drop")
    torn = table.groupby("id")["decision"].nunique()
    if (torn > 1).any():
        raise InputError(f"{path}: {torn[torn > 1].index[0]} is both keep and drop")
    return table.drop_duplicates("id")


def dropped(path: Path) -> dict[str, str]:
    """{id: reason} of the samples people dropped."""
    table = read_decisions(path)
    table = table[table["decision"] == "drop"]
    reasons = table["reason"] if "reason" in table else pd.Series("", index=table.index)
    return dict(zip(table["id"], reasons, strict=True))


def kept(path: Path) -> list[str]:
    """Ids of the samples people marked keep."""
    table = read_decisions(path)
    return table.loc[table["decision"] == "keep", "id"].tolist()
