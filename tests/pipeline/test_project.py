"""The real diagram as orchestration reads it."""

import importlib
import re
from pathlib import Path

import pytest

from pipeline.project import Project, find_project, split_target
from pipeline.settings import STAGE_SECTIONS, load_settings
from stages.common.errors import SettingsError

REPO = Project(Path(__file__).resolve().parents[2])


def test_diagram_has_the_stages_of_the_settings_in_order():
    assert tuple(stage.name for stage in REPO.stages) == ("weights", *STAGE_SECTIONS)
    shared = [stage.name for stage in REPO.stages if not stage.per_style]
    assert shared == ["weights", "source", "demo_inputs", "photos"]


def test_every_input_is_made_before_it_is_read_or_comes_from_people():
    from_people = ("${photos", "${item", "${source", "models/shipped", "data/curation")
    made: list[str] = []
    for stage in REPO.stages:
        for dep in stage.deps:
            known = any(dep == out or dep.startswith(f"{out}/") for out in made)
            assert known or dep.startswith(from_people), f"{stage.name} reads {dep}, which no earlier stage makes"
        made += stage.outs


def test_every_stage_follows_its_own_settings_and_the_styles_overrides():
    for stage in REPO.stages:
        if stage.name == "weights":
            continue
        wanted = {"common", stage.name} | ({f"styles.${{key}}.{stage.name}"} if stage.per_style else set())
        assert set(stage.params) == wanted


def test_interrupted_work_is_not_continued_with_other_optional_weights():
    """A run that goes on with a loss it began without would be neither; DVC's dependency alone does not see work/."""
    users = [stage for stage in REPO.stages if "models/weights.json" in stage.deps]
    assert len(users) == 7
    diagram, settings = (REPO.root / "dvc.yaml").read_text(), load_settings(REPO.params)
    for stage in users:
        (module,) = re.findall(rf"python -m (stages\.\w+\.{stage.name}|stages\.{stage.name}\.train)\b", diagram)
        inputs = importlib.import_module(module).inputs(settings, "avatar")
        assert Path("models/weights.json") in inputs, module


def test_stage_commands_leave_no_shell_between_dvc_and_the_stage():
    commands = [line for line in (REPO.root / "dvc.yaml").read_text().splitlines() if "cmd:" in line]
    assert len(commands) == len(REPO.stages)
    assert all("cmd: exec python -m stages." in line for line in commands)


def test_needed_by_is_upstream_only():
    names = [stage.name for stage in REPO.needed_by("transfer")]
    assert names == ["weights", "source", "demo_inputs", "style_faces", "transfer"]
    assert [stage.name for stage in REPO.needed_by("evaluate")] == [stage.name for stage in REPO.stages]


def test_unknown_stage_is_named_with_the_known_ones():
    with pytest.raises(SettingsError, match=r"no stage 'tranfer'.*transfer"):
        REPO.stage("tranfer")


def test_targets():
    assert REPO.stage("fuse").target("avatar") == "fuse@avatar"
    assert REPO.stage("photos").target("avatar") == "photos"
    assert split_target("fuse@avatar") == ("fuse", "avatar")
    assert split_target("photos") == ("photos", "")


def test_find_project_walks_up_and_says_when_there_is_none(tmp_path, monkeypatch):
    monkeypatch.delenv("STYLEFACTORY_ROOT", raising=False)
    assert find_project(REPO.root / "stages" / "common").root == REPO.root
    with pytest.raises(SettingsError, match="not inside a factory checkout"):
        find_project(tmp_path)
