"""What DVC shows and compares: the numbers and the curve of a stage, each as one file of its own.

A stage's report folder is one DVC output, and DVC lets no output lie in another. So the runner copies the numbers of
``summary.json`` (the verdict's rows of ``metrics.json`` for evaluate) to ``reports/metrics/`` and ``stats.csv`` to
``reports/curves/``, which dvc.yaml declares as metrics and plots.
"""

import json
from pathlib import Path
from typing import Any

from stages.common.atomic import write_bytes, write_json


def publish_numbers(root: Path, stage: str, style: str, report: Path, seconds: float) -> None:
    """Writes ``reports/metrics/[S/]<stage>.json`` always and ``reports/curves/[S/]<stage>.csv`` if there is a curve.

    Args:
        report: the stage's report folder.
        seconds: how long the stage took; recorded unless the stage recorded its own.
    """
    numbers: dict[str, Any] = {"seconds": round(seconds, 1)}
    if (report / "summary.json").is_file():
        numbers |= _numbers(json.loads((report / "summary.json").read_text(encoding="utf-8")))
    if (report / "metrics.json").is_file():
        metrics = json.loads((report / "metrics.json").read_text(encoding="utf-8"))
        numbers["verdict"] = metrics.get("verdict", "")
        numbers |= {name: row["value"] for name, row in metrics.get("rows", {}).items()}
        numbers |= {f"n_{name}": count for name, count in metrics.get("n", {}).items()}
    write_json(root / "reports" / "metrics" / style / f"{stage}.json", numbers)
    if (report / "stats.csv").is_file():
        write_bytes(root / "reports" / "curves" / style / f"{stage}.csv", (report / "stats.csv").read_bytes())


def _numbers(values: dict[str, Any]) -> dict[str, Any]:
    """The plain numbers and short texts at the top; what lies deeper is for the report, a table of it reads badly."""
    return {
        key: value
        for key, value in values.items()
        if isinstance(value, int | float) or (isinstance(value, str) and len(value) <= 40)
    }
