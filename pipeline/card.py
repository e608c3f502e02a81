"""The model card that goes into a release."""

import hashlib
import json
import time
from pathlib import Path

from pipeline.files import human_size, read_json
from pipeline.project import Project
from pipeline.reporting import numbers
from pipeline.settings import StyleItem, load_settings

CARD_STAGES = ("evaluate", "export", "mobile")  # what concerns the shipped model; the rest is in the report


def model_card(
    project: Project, style: str, version: int, item: StyleItem, verdict: str, files: list[Path], commit: str
) -> str:
    """Markdown: what it is, files with hashes, figures, data and licences, where it came from, limits.

    Args:
        files: the shipped model files.
        commit: git commit of code and settings.
    """
    settings = load_settings(project.params).for_style(style)
    overrides = {
        key: value
        for key in type(item).model_fields
        if key not in ("pictures", "licence") and (value := getattr(item, key))
    }
    faces = read_json(project.root / "data" / "style_faces" / style / "summary.json") or {}
    weights = read_json(project.root / "models" / "weights.json") or {}
    table = "\n".join(
        f"| `{path.name}` | {human_size(path.stat().st_size)} | `{hashlib.sha256(path.read_bytes()).hexdigest()}` |"
        for path in files
    )
    figures = "\n".join(
        f"| {row['stage']} | {row['metric']} | {row['value']:g} |"
        for row in numbers(project, style)
        if row["stage"] in CARD_STAGES
    )
    photos = settings.photos.licence or "none given (the embedded demo's photos are generated, by this project)"
    return f"""# {style} v{version}

Turns a face photo into the style "{style}". Made {time.strftime("%Y-%m-%d")} by Face Style Factory at
{settings.common.resolution} px; seed {settings.common.seed}.

**Verdict of the evaluation: {verdict}**

## Files

| file | size | sha256 |
|---|---|---|
{table}

`mobile.json` says size, normalisation and hashes; `mobile.golden.npz` holds an input and the output it must give.
Run it: `stylefactory stylize --help`.

## Figures

Measured on this style's test photos; N, intervals and pictures are in the report of the same run.

| stage | figure | value |
|---|---|---|
{figures}

## Data and licences

- Style pictures: {item.pictures} ({faces.get("accepted", faces.get("usable", "unknown number"))} used).
  Licence: {item.licence or "UNKNOWN: none was given when the style was added"}.
- Photos: {settings.photos.path}. Licence: {photos}.
- Code: Apache-2.0 (licences/).

## Where it came from

- Code and settings: git commit `{commit}`; this release's tag also holds dvc.lock and params.yaml.
- Overrides of this style: `{json.dumps(overrides)}`
- Optional weights used: {", ".join(weights) or "none (named fallbacks)"}.

## Limits

- Speed was measured on the factory's own processor, never on a phone.
- Meant for photos like those it was tested on: mostly frontal, one clear face. Profiles, masks and very small faces are
  outside; the report's stress sheet shows what becomes of them.
- A stylised face can still be recognised. Use it with the consent of whoever is on the photo.
"""
