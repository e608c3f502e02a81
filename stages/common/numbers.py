"""What DVC shows and compares: the numbers and the curve of a stage, each as one file of its own.

A stage's report folder is one DVC output, and DVC lets no output lie in another. So the runner copies
``summary.json`` (``metrics.json`` for evaluate) to ``reports/metrics/`` and ``stats.csv`` to ``reports/curves/``, which
dvc.yaml declares as metrics and plots.
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
    for name in ("summary.json", "metrics.json"):
        if (report / name).is_file():
            numbers |= json.loads((report / name).read_text(encoding="utf-8"))
    write_json(root / "reports" / "metrics" / style / f"{stage}.json", numbers)
    if (report / "stats.csv").is_file():
        write_bytes(root / "reports" / "curves" / style / f"{stage}.csv", (report / "stats.csv").read_bytes())
