"""``reports/S/model_card.md``: what a model is, is good for, and must not be used for. Goes into every release.

``python -m stages.evaluate.model_card --style avatar``
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd

from pipeline.settings import Settings, load_settings
from stages.common.atomic import write_text
from stages.common.errors import FactoryError, InputError
from stages.evaluate.charts import number
from stages.evaluate.page import TEMPLATES, interval, short
from stages.evaluate.report import SYSTEM_TITLES
from stages.evaluate.sections import read_json


def write_card(root: Path, style: str, settings: Settings, target: Path | None = None) -> Path:
    """Writes the card beside the report (or to ``target``) from the evaluation's figures.

    Raises:
        InputError: the style was never evaluated.
    """
    metrics = read_json(root / "reports" / style / "evaluate" / "metrics.json")
    if "rows" not in metrics:
        raise InputError(f"style {style} was not evaluated; run its 'evaluate' stage first")
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters |= {"number": number, "interval": interval, "short": short}
    rows = metrics["rows"]
    text = environment.get_template("model_card.md.j2").render(
        style=style,
        metrics=metrics,
        weak=[row for row in rows.values() if row["state"] in ("warn", "fail")],
        unknown=[row["title"] for row in rows.values() if row["state"] == "unknown"],
        titles=SYSTEM_TITLES,
        compared=bool(metrics.get("gaps")),
        gaps=[gap for gap in metrics.get("gaps", []) if gap["chance"] < 0.05 and gap["value"]],
        sidecar=read_json(root / "models" / style / "mobile.json"),
        data=data_rows(root, style, settings),
        source=source_facts(root),
    )
    path = target or root / "reports" / style / "model_card.md"
    write_text(path, text)
    return path


def data_rows(root: Path, style: str, settings: Settings) -> list[tuple[str, str, str]]:
    """(what, how many by split, licence) of the data a style was made from."""
    licence = settings.item.licence if settings.item else ""
    rows = []
    for what, folder, terms in (
        ("photos", root / "data/photos", settings.photos.licence),
        ("style pictures", root / "data/style_faces" / style, licence),
        ("styled faces (generated)", root / "data/styled" / style, licence),
        ("pairs (generated)", root / "data/pairs" / style, licence),
    ):
        try:
            splits = pd.read_csv(folder / "index.csv")["split"].value_counts()
        except (OSError, KeyError, ValueError):
            continue
        counts = ", ".join(f"{count} {name}" for name, count in splits.items())
        rows.append((what, counts, terms or "not stated"))
    return rows


def source_facts(root: Path) -> dict[str, Any]:
    """What the source model's file says about itself."""
    from stages.common.errors import ModelFileError
    from stages.common.modelfile import read_header

    try:
        meta = read_header(root / "models/source/source.safetensors")["meta"]
    except ModelFileError:
        return {}
    return {key: value for key, value in meta.items() if isinstance(value, str | int | float) and value != ""}


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; returns the exit code."""
    parser = argparse.ArgumentParser(description="Write the model card of a style.")
    parser.add_argument("--style", required=True)
    parser.add_argument("--params", type=Path, default=Path("params.yaml"))
    parser.add_argument("--out", type=Path, help="where to write it (default reports/STYLE/model_card.md)")
    args = parser.parse_args(argv)
    try:
        settings = load_settings(args.params).for_style(args.style)
        print(write_card(Path.cwd(), args.style, settings, args.out))
    except FactoryError as error:
        print(f"model card: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
