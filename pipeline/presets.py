"""Named sets of values for params.yaml."""

from dataclasses import dataclass
from typing import Any

from ruamel.yaml.comments import CommentedMap

from pipeline import params
from pipeline.project import Project
from stages.common.errors import SettingsError


@dataclass(frozen=True)
class Preset:
    """Values by dotted key; every setting not named goes back to its default (the demo's)."""

    meant_for: str
    verified: str
    values: dict[str, Any]


PRESETS = {
    "demo": Preset(
        meant_for="64 px on 2 CPU cores, minutes",
        verified="run at every change of the project",
        values={},
    ),
}


def apply(project: Project, name: str) -> list[str]:
    """Writes a preset's values into params.yaml; comments, styles and their overrides, paths and ops settings stay.

    Returns:
        The changed keys as "key: old -> new".

    Raises:
        SettingsError: no such preset.
    """
    if name not in PRESETS:
        raise SettingsError(f"no preset '{name}' (presets: {', '.join(PRESETS)})")
    wanted = _defaults() | PRESETS[name].values
    changes: list[str] = []

    def change(tree: CommentedMap) -> None:
        for key, value in wanted.items():
            section, _, field = key.partition(".")
            old = tree[section].get(field)
            if old != value:
                changes.append(f"{key}: {old} -> {value}")
                tree[section][field] = value

    params.edit(project.params, change)
    return changes


KEPT = frozenset({"photos.path", "source.input"})  # where people's data is: not a matter of size


def _defaults() -> dict[str, Any]:
    from pipeline.settings import STAGE_SECTIONS, Settings

    values: dict[str, Any] = {}
    for section in ("common", *STAGE_SECTIONS):
        model = Settings.model_fields[section].annotation
        assert model is not None
        for field, value in model().model_dump(mode="json").items():
            if f"{section}.{field}" not in KEPT:
                values[f"{section}.{field}"] = value
    return values
