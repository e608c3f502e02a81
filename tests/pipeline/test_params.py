"""Edits of params.yaml: comments stay, invalid results are never written."""

import pytest

from pipeline import params, presets
from pipeline.settings import STYLE_SECTIONS, FuseSettings, load_settings
from stages.common.errors import SettingsError


def test_set_keeps_comments_and_other_lines(factory):
    before = factory.params.read_text() + "# a person's own remark\n"
    factory.params.write_text(before)
    params.edit(factory.params, lambda tree: params.set_value(tree, "fuse.mid", 0.5))
    after = factory.params.read_text()
    different = [(a, b) for a, b in zip(before.splitlines(), after.splitlines(), strict=True) if a != b]
    assert different == [("  mid: 1.5", "  mid: 0.5")]


def test_invalid_value_leaves_the_file_alone(factory):
    before = factory.params.read_text()
    with pytest.raises(SettingsError, match=r"fuse\.width.*-1"):
        params.edit(factory.params, lambda tree: params.set_value(tree, "fuse.width", -1))
    with pytest.raises(SettingsError, match=r"no key fuse\.middle"):
        params.edit(factory.params, lambda tree: params.set_value(tree, "fuse.middle", 1))
    assert factory.params.read_text() == before


def test_assignments():
    assert params.parse_assignment("fuse.mid=0.5") == ("fuse.mid", 0.5)
    assert params.parse_assignment("generate.truncation=[0.7, 0.8]") == ("generate.truncation", [0.7, 0.8])
    with pytest.raises(SettingsError, match="expected key=value"):
        params.parse_assignment("fuse.mid")


def test_new_style_gets_a_map_for_every_stage(factory):
    params.edit(factory.params, lambda tree: params.add_style(tree, "two", "pictures/two", "CC0", {"fuse.mid": 0.5}))
    settings = load_settings(factory.params)
    assert settings.for_style("two").fuse.mid == 0.5
    assert settings.fuse.mid == 1.5
    text = factory.params.read_text()
    assert all(f"    {section}: {{}}" in text for section in STYLE_SECTIONS if section != "fuse")


def test_bad_override_is_refused(factory):
    with pytest.raises(SettingsError, match=r"styles\.two\.fuse\.width"):
        params.edit(factory.params, lambda tree: params.add_style(tree, "two", "x", "", {"fuse.width": 0}))
    with pytest.raises(SettingsError, match="expected STAGE"):
        params.edit(factory.params, lambda tree: params.add_style(tree, "two", "x", "", {"common.seed": 0}))


def test_preset_demo_restores_defaults_but_not_paths_styles_and_ops(factory):
    presets.apply(factory, "demo")
    params.edit(factory.params, lambda tree: params.set_value(tree, "fuse.mid", 2.5))
    changes = presets.apply(factory, "demo")
    assert changes == [f"fuse.mid: 2.5 -> {FuseSettings().mid}"]
    settings = load_settings(factory.params)
    assert (settings.photos.path, settings.ops.retry_wait_s, list(settings.styles)) == ("people", 0.1, ["one"])
    assert presets.apply(factory, "demo") == []


@pytest.mark.parametrize("name", list(presets.PRESETS))
def test_every_preset_is_valid_and_says_whether_it_was_run(factory, name):
    presets.apply(factory, name)
    load_settings(factory.params)
    assert presets.PRESETS[name].verified


def test_shipped_source_follows_the_preset_and_ones_own_stays(factory):
    def source() -> str:
        return load_settings(factory.params).source.input

    presets.apply(factory, "gpu-128")
    assert source() == "models/shipped/128"
    presets.apply(factory, "real-64")
    assert source() == "models/shipped"
    params.edit(factory.params, lambda tree: tree["source"].update(input="models/external/mine.pkl"))
    presets.apply(factory, "gpu-128")
    assert source() == "models/external/mine.pkl"


def test_unknown_preset(factory):
    with pytest.raises(SettingsError, match="no preset 'gpu'"):
        presets.apply(factory, "gpu")
