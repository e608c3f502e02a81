"""One line per measured figure: every benchmark prints through here, ``python -m tests.bench`` makes a table."""

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

ROWS_FILE = "STYLEFACTORY_BENCH_ROWS"


@dataclass(frozen=True)
class Row:
    """A figure; ``ratio`` > 1 means better than the reference measured in the same run.

    Attributes:
        what: what was measured.
        value: with its unit.
        reference: what it is compared with and that one's value; "" for none.
        ratio: how many times better; NaN-free, None without a reference.
        wanted: the issue's target in words; "" for none.
    """

    what: str
    value: str
    reference: str = ""
    ratio: float | None = None
    wanted: str = ""


def row(what: str, value: str, reference: str = "", ratio: float | None = None, wanted: str = "") -> None:
    """Prints one figure and, below ``python -m tests.bench``, keeps it for the table."""
    made = Row(what, value, reference, None if ratio is None else round(ratio, 2), wanted)
    print(text(made), flush=True)
    if path := os.environ.get(ROWS_FILE):
        with Path(path).open("a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(made)) + "\n")


def text(made: Row) -> str:
    """The figure in one line."""
    against = f"; {made.reference}" if made.reference else ""
    ratio = f"; ratio {made.ratio:.2f}" if made.ratio is not None else ""
    return f"{made.what}: {made.value}{against}{ratio}" + (f" (wanted {made.wanted})" if made.wanted else "")


def markdown(rows: list[Row]) -> str:
    """All figures as one table."""
    lines = ["| what | here | reference, same run | ratio | wanted |", "|---|---|---|---|---|"]
    for made in rows:
        ratio = "" if made.ratio is None else f"{made.ratio:.2f}"
        lines.append(f"| {made.what} | {made.value} | {made.reference} | {ratio} | {made.wanted} |")
    return "\n".join(lines)
