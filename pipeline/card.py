"""The model card that goes into a release: the evaluation's card, then files and provenance of the release."""

import hashlib
import json
import time
from pathlib import Path

from pipeline.files import human_size, read_json
from pipeline.project import Project
from pipeline.settings import StyleItem, load_settings
from stages.common.errors import StageError


def model_card(
    project: Project, style: str, version: int, item: StyleItem, verdict: str, files: list[Path], commit: str
) -> str:
    """Markdown: what stages/evaluate/model_card.py wrote of the model, then what this release holds.

    Args:
        files: the shipped model files.
        commit: git commit of code and settings.

    Raises:
        StageError: the evaluation left no card.
    """
    evaluated = project.root / "reports" / style / "model_card.md"
    if not evaluated.is_file():
        raise StageError(f"{evaluated}: missing; 'dvc checkout' or 'dvc pull' brings it back")
    settings = load_settings(project.params).for_style(style)
    overrides = {
        key: value
        for key in type(item).model_fields
        if key not in ("pictures", "licence") and (value := getattr(item, key))
    }
    weights = read_json(project.root / "models" / "weights.json") or {}
    table = "\n".join(
        f"| `{path.name}` | {human_size(path.stat().st_size)} | `{hashlib.sha256(path.read_bytes()).hexdigest()}` |"
        for path in files
    )
    photos = settings.photos.licence or "none given (the embedded demo's photos are generated, by this project)"
    return f"""{evaluated.read_text(encoding="utf-8").rstrip()}

## Release {style} v{version}

Made {time.strftime("%Y-%m-%d")} at {settings.common.resolution} px, seed {settings.common.seed}; verdict {verdict}.

| file | size | sha256 |
|---|---|---|
{table}

`mobile.golden.npz` holds an input and the output it must give. Run it: `stylefactory stylize --help`.

- Style pictures: {item.pictures}. Licence: {item.licence or "UNKNOWN: none was given when the style was added"}.
- Photos: {settings.photos.path}. Licence: {photos}.
- Code: Apache-2.0 (licences/), git commit `{commit}`; this release's tag also holds dvc.lock and params.yaml.
- Overrides of this style: `{json.dumps(overrides)}`
- Optional weights used: {", ".join(weights) or "none (named fallbacks)"}.
"""
