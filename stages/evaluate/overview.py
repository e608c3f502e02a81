"""``reports/index.html``: all styles and their earlier runs on one page. ``python -m stages.evaluate.overview``."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup

from stages.common.errors import FactoryError
from stages.common.images import read_image
from stages.common.progress import log
from stages.evaluate import charts, history
from stages.evaluate.page import Album, write_page
from stages.evaluate.sections import read_json

SHOWN = {
    "style_gap": "Style gap",
    "identity": "Identity",
    "background_psnr": "Background, dB",
    "sharpness": "Sharpness off by",
    "size_kb": "kB",
}
FACES = 4


def write_overview(root: Path) -> Path:
    """Writes the index page from what lies in ``reports/``; styles without an evaluation are listed as such."""
    reports = root / "reports"
    evaluated = {path.parent.parent.name for path in reports.glob("*/evaluate/metrics.json")}
    recorded = {path.stem for path in (reports / "history").glob("*.jsonl")}
    album = Album()
    styles = [card(root, name, album) for name in sorted(evaluated | recorded)]
    path = reports / "index.html"
    write_page(path, "index.html.j2", {"styles": styles, "shown": SHOWN})
    log(f"report: {path}, {len(styles)} styles")
    return path


def card(root: Path, style: str, album: Album) -> dict[str, Any]:
    """What the page shows of one style."""
    folder = root / "reports" / style
    metrics = read_json(folder / "evaluate" / "metrics.json")
    runs = history.read(root, style)
    latest = metrics if "rows" in metrics else (runs[-1] if runs else {})
    rows = latest.get("rows", {})
    faces = []
    for path in sorted((folder / "evaluate" / "faces").glob("*.png"))[:FACES]:
        strip = read_image(path)
        side = strip.shape[0]
        pair = np.concatenate([strip[:, :side], strip[:, -side:]], axis=0)
        faces.append(album.picture(pair, path.name, 160))
    return {
        "name": style,
        "verdict": latest.get("verdict", "unknown"),
        "when": latest.get("when") or "",
        "git": latest.get("git") or "",
        "figures": [(title, rows.get(name)) for name, title in SHOWN.items()],
        "bad": [row.get("title", name) for name, row in metrics.get("rows", {}).items() if row["state"] == "fail"],
        "faces": [uri for uri in faces if uri],
        "page": f"{style}/report.html" if (folder / "report.html").is_file() else "",
        "trend": trend(runs),
        "runs": [_run(run) for run in reversed(runs[-8:])],
    }


def trend(runs: list[dict[str, Any]]) -> Markup:
    """Style gap over the recorded runs."""
    values = [run.get("rows", {}).get("style_gap", {}).get("value") for run in runs]
    known = [float(value) for value in values if value is not None]
    return charts.line(range(1, len(known) + 1), known, "Style gap over runs") if len(known) > 1 else Markup("")


def _run(run: dict[str, Any]) -> dict[str, Any]:
    figures = [run.get("rows", {}).get(name) for name in SHOWN]
    return {"when": run.get("when") or "", "verdict": run.get("verdict"), "git": run.get("git"), "figures": figures}


def main() -> int:
    """Command line; returns the exit code."""
    try:
        write_overview(Path.cwd())
    except FactoryError as error:
        print(f"overview: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
