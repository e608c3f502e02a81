"""Reads params.yaml and says what is wrong with it in one line per mistake."""

from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from pipeline.settings.tree import STYLE_SECTIONS, Settings
from stages.common.errors import SettingsError


def load_settings(path: Path = Path("params.yaml")) -> Settings:
    """The validated settings.

    Raises:
        SettingsError: no such file, not YAML, or a wrong, missing or unknown key: its path, the value, what is allowed.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path}: cannot be read ({error}); run the command in the project's folder") from error
    try:
        raw = YAML(typ="safe", pure=True).load(text)
    except (YAMLError, ValueError, LookupError, AttributeError, TypeError, RecursionError) as error:
        # ruamel's own, and what its scalars (!!int _) and deep nesting make Python raise
        raise SettingsError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from error
    return parse_settings(raw, str(path))


def parse_settings(raw: Any, name: str = "params.yaml") -> Settings:
    """Validates settings given as plain maps; ``name`` stands in messages.

    Raises:
        SettingsError: one line per mistake.
    """
    if not isinstance(raw, dict):
        raise SettingsError(f"{name}: expected a map of sections, found {type(raw).__name__}")
    mistakes = _missing(Settings, raw)
    settings: Settings | None = None
    try:
        settings = Settings.model_validate({key: value for key, value in raw.items() if key != "item"})
        if "item" in raw:
            mistakes.append("item: unknown key; remove it")
    except ValidationError as error:
        mistakes += _explain(error)
    if settings is not None:
        mistakes += _check_overrides(settings)
    if mistakes or settings is None:
        raise SettingsError("\n".join(f"{name}: {mistake}" for mistake in dict.fromkeys(mistakes)))
    return settings


def _missing(model: type[BaseModel], raw: dict[str, Any], path: str = "") -> list[str]:
    """Keys of the models that the file lacks. Defaults are what `preset demo` writes, never silently assumed."""
    mistakes = []
    for key, info in model.model_fields.items():
        if info.exclude:
            continue
        where = f"{path}{key}"
        if key not in raw:
            if info.is_required() and model is not Settings:
                continue  # pydantic says so itself
            default = "" if info.is_required() else f" (default {info.get_default(call_default_factory=True)!r})"
            mistakes.append(f"{where}: missing; add it{default}")
        elif isinstance(info.annotation, type) and issubclass(info.annotation, BaseModel):
            if isinstance(raw[key], dict):
                mistakes += _missing(info.annotation, raw[key], f"{where}.")
        elif key == "styles" and isinstance(raw[key], dict):
            for style, entry in raw[key].items():
                if isinstance(entry, dict):
                    item = Settings.model_fields["styles"].annotation.__args__[1]  # type: ignore[union-attr]
                    mistakes += _missing(item, entry, f"styles.{style}.")
    return mistakes


def _explain(error: ValidationError, prefix: str = "") -> list[str]:
    lines = []
    for part in error.errors(include_url=False):
        where = prefix + ".".join(str(step) for step in part["loc"])
        if part["type"] == "extra_forbidden":
            lines.append(f"{where}: unknown key; remove it or correct its spelling")
        elif part["type"] == "missing":
            lines.append(f"{where}: missing; add it")
        else:
            value = part["input"]
            shown = repr(value) if len(repr(value)) <= 60 else repr(value)[:57] + "..."
            reason = part["msg"].removeprefix("Value error, ").replace("Input should", "must")
            lines.append(f"{where}: {shown}: {reason}")
    return lines


def _check_overrides(settings: Settings) -> list[str]:
    mistakes = []
    for style, item in settings.styles.items():
        for section in STYLE_SECTIONS:
            base = getattr(settings, section)
            try:
                type(base).model_validate(base.model_dump() | getattr(item, section))
            except ValidationError as error:
                mistakes += _explain(error, f"styles.{style}.{section}.")
    return mistakes
