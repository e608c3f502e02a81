"""Edits of params.yaml that keep comments and never leave an invalid file behind."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap
from ruamel.yaml.error import YAMLError

from pipeline.files import write_text
from stages.common.errors import SettingsError


def _yaml() -> YAML:
    yaml = YAML()
    yaml.width = 4096  # no folding of values people wrote on one line
    yaml.preserve_quotes = True
    return yaml


def edit(path: Path, change: Callable[[CommentedMap], None]) -> None:
    """Applies ``change`` to the tree of params.yaml, validates the result and only then writes it.

    Raises:
        SettingsError: the file cannot be read, or the result would be invalid; the file is untouched then.
    """
    from pipeline.settings import parse_settings

    try:
        tree = _yaml().load(path.read_text(encoding="utf-8"))
    except (OSError, YAMLError) as error:
        raise SettingsError(f"{path}: cannot be edited ({' '.join(str(error).split())})") from error
    change(tree)
    text = io.StringIO()
    _yaml().dump(tree, text)
    parse_settings(YAML(typ="safe", pure=True).load(text.getvalue()), path.name)
    write_text(path, text.getvalue())


def set_value(tree: CommentedMap, key: str, value: Any) -> None:
    """Sets a dotted key that exists, e.g. ``transfer.kimg``; ``styles.NAME.stage.key`` may be new (an override).

    Raises:
        SettingsError: no such key.
    """
    *path, last = key.split(".")
    node: Any = tree
    for i, step in enumerate(path):
        if not isinstance(node, dict) or step not in node:
            raise SettingsError(f"params.yaml: no key {'.'.join(path[: i + 1])}")
        node = node[step]
    override = len(path) == 3 and path[0] == "styles"
    if not isinstance(node, dict) or (last not in node and not override):
        raise SettingsError(f"params.yaml: no key {key}")
    node[last] = value


def parse_assignment(text: str) -> tuple[str, Any]:
    """``transfer.kimg=12`` to ("transfer.kimg", 12); the value is read as YAML.

    Raises:
        SettingsError: not of that form.
    """
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise SettingsError(f"'{text}': expected key=value, e.g. transfer.kimg=12")
    try:
        return key.strip(), YAML(typ="safe", pure=True).load(value)
    except YAMLError as error:
        raise SettingsError(f"'{text}': the value is not valid YAML") from error


def add_style(tree: CommentedMap, name: str, pictures: str, licence: str, overrides: dict[str, Any]) -> None:
    """Adds style ``name`` with a map for every stage, empty or not (dvc.yaml tracks each of them).

    Args:
        overrides: "stage.key" to value.

    Raises:
        SettingsError: the style exists, or an override names no stage.
    """
    from pipeline.settings import STYLE_SECTIONS

    if name in tree["styles"]:
        raise SettingsError(f"style '{name}' is in params.yaml already; remove-style first, or choose another name")
    item = CommentedMap(pictures=pictures, licence=licence)
    for section in STYLE_SECTIONS:
        item[section] = CommentedMap()
        item[section].fa.set_flow_style()
    for key, value in overrides.items():
        section, _, field = key.partition(".")
        if section not in STYLE_SECTIONS or not field:
            raise SettingsError(f"'{key}': expected STAGE.KEY with STAGE one of {', '.join(STYLE_SECTIONS)}")
        item[section][field] = value
    tree["styles"][name] = item
