"""Earlier evaluations of every style, one JSON line each: what the index page shows and compare falls back to."""

import json
from pathlib import Path
from typing import Any

from stages.common.atomic import write_text

KEEP = 200


def history_file(root: Path, style: str) -> Path:
    """``reports/history/S.jsonl``: no DVC output, so it survives every run."""
    return root / "reports" / "history" / f"{style}.jsonl"


def append(root: Path, style: str, metrics: dict[str, Any]) -> None:
    """Adds one run's verdict and rows. The same result again (same hashes) replaces the last line."""
    runs = read(root, style)
    run = {key: metrics.get(key) for key in ("when", "verdict", "git", "kinds", "n", "hashes")}
    run["rows"] = {
        name: {key: row[key] for key in ("value", "low", "high", "n", "state")} for name, row in metrics["rows"].items()
    }
    if runs and runs[-1].get("hashes") == run["hashes"] and runs[-1].get("rows") == run["rows"]:
        runs.pop()
    lines = [json.dumps(entry, ensure_ascii=False) for entry in [*runs, run][-KEEP:]]
    write_text(history_file(root, style), "\n".join(lines) + "\n")


def read(root: Path, style: str) -> list[dict[str, Any]]:
    """All recorded runs, oldest first; lines that cannot be read are left out."""
    try:
        lines = history_file(root, style).read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
    runs = []
    for line in lines:
        try:
            entry = json.loads(line)
        except ValueError:
            continue
        if isinstance(entry, dict):
            runs.append(entry)
    return runs
