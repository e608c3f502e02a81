"""Settings: every mistake is refused with its path, the value and what is allowed."""

import copy
import io
import itertools
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from pydantic import BaseModel
from ruamel.yaml import YAML

from pipeline.settings import STYLE_SECTIONS, Settings, load_settings, parse_settings
from pipeline.settings.render import reference, render
from stages.common.errors import SettingsError

REPO = Path(__file__).resolve().parents[2]


def plain() -> dict:
    buffer = io.StringIO()
    YAML().dump(render(), buffer)
    return YAML(typ="safe", pure=True).load(buffer.getvalue())


def test_shipped_params_are_valid_complete_and_commented() -> None:
    load_settings(REPO / "params.yaml")
    lines = (REPO / "params.yaml").read_text().splitlines()
    in_styles = False
    for before, line in itertools.pairwise(lines):
        in_styles = in_styles or line.startswith("styles:")
        if ":" in line and not line.strip().startswith("#") and not in_styles:
            assert before.strip().startswith("#"), f"no comment above: {line}"


def test_params_are_as_rendered(tmp_path: Path) -> None:
    from pipeline.settings.render import write_params

    (tmp_path / "params.yaml").write_text((REPO / "params.yaml").read_text())
    write_params(tmp_path / "params.yaml")
    assert (tmp_path / "params.yaml").read_text() == (REPO / "params.yaml").read_text()


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("common", "resolution"), 65, "common.resolution: 65"),
        (("common", "seed"), -1, "common.seed: -1: must be greater than or equal to 0"),
        (("common", "sede"), 1, "common.sede: unknown key"),
        (("nonsense",), {}, "nonsense: unknown key"),
        (("styles", "avatar", "transfer"), {"no_such": 1}, "styles.avatar.transfer.no_such: unknown key"),
        (("styles", "Bad Name"), {"pictures": "x"}, "is no style name"),
    ],
)
def test_wrong_values_and_unknown_keys(path: tuple[str, ...], value: object, message: str) -> None:
    tree = plain()
    node = tree
    for step in path[:-1]:
        node = node[step]
    node[path[-1]] = value
    with pytest.raises(SettingsError) as caught:
        parse_settings(tree)
    assert message in str(caught.value)


def leaves(model: type[BaseModel], prefix: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    found = []
    for name, info in model.model_fields.items():
        if info.exclude or name == "styles":
            continue
        kind, here = info.annotation, (*prefix, name)
        found += leaves(kind, here) if isinstance(kind, type) and issubclass(kind, BaseModel) else [here]
    return found


def test_every_missing_key_is_named() -> None:
    for path in [*leaves(Settings), ("styles", "avatar", "fuse"), ("styles", "avatar", "pictures")]:
        tree = plain()
        node = tree
        for step in path[:-1]:
            node = node[step]
        del node[path[-1]]
        with pytest.raises(SettingsError) as caught:
            parse_settings(tree)
        assert f"{'.'.join(path)}: missing" in str(caught.value)


def test_several_mistakes_are_all_told_one_per_line() -> None:
    tree = plain()
    tree["common"]["resolution"] = "big"
    tree["common"]["seed"] = -4
    with pytest.raises(SettingsError) as caught:
        parse_settings(tree)
    assert len(str(caught.value).splitlines()) == 2


def test_overrides_change_one_style_only() -> None:
    tree = plain()
    tree["styles"]["other"] = copy.deepcopy(tree["styles"]["avatar"]) | {"fuse": {"mid": 3.25}}
    settings = parse_settings(tree)
    assert settings.for_style("other").fuse.mid == 3.25
    assert settings.for_style("avatar").fuse.mid == settings.fuse.mid != 3.25
    assert settings.for_style("other").item is not None


def test_every_style_entry_has_every_section() -> None:
    assert set(STYLE_SECTIONS) <= set(plain()["styles"]["avatar"])


def test_not_yaml_and_not_a_map(tmp_path: Path) -> None:
    for text in ("a: [1,\n", "- 1\n", "", "\x00"):
        (tmp_path / "p.yaml").write_text(text)
        with pytest.raises(SettingsError):
            load_settings(tmp_path / "p.yaml")
    with pytest.raises(SettingsError, match="cannot be read"):
        load_settings(tmp_path / "none.yaml")


def test_reference_names_every_key() -> None:
    text = reference()
    for path in leaves(Settings):
        assert f"`{'.'.join(path[1:])}`" in text


def test_the_written_reference_is_what_is_rendered_now() -> None:
    command = "python -m pipeline.settings.render --docs docs/settings.md"
    text = reference() + "\n"
    assert command in text
    assert (REPO / "docs/settings.md").read_text() == text, f"docs/settings.md is not up to date; run: {command}"


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@hypothesis_settings(max_examples=150, deadline=None)
@given(st.sampled_from(leaves(Settings)), json_values)
def test_no_value_anywhere_makes_validation_crash(path: tuple[str, ...], value: object) -> None:
    tree = plain_cached()
    node = tree
    for step in path[:-1]:
        node = node[step]
    node[path[-1]] = value
    try:
        parse_settings(tree)
    except SettingsError as error:
        assert str(error)


_plain = plain()


def plain_cached() -> dict:
    return copy.deepcopy(_plain)
