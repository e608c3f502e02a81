"""What the flows decide before a stage runs."""

from pathlib import Path

import pytest

from pipeline import flows
from pipeline.project import Project
from stages.common.errors import FactoryError, StageError
from tests.pipeline.conftest import make_factory


@pytest.mark.parametrize(("named", "built"), [([], ["one", "two", "three"]), (["three", "one"], ["three", "one"])])
def test_several_styles_are_built_in_turn_and_all_where_none_is_named(
    named: list[str], built: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project: Project = make_factory(tmp_path / "factory", ("one", "two", "three"))
    monkeypatch.setenv("STYLEFACTORY_ROOT", str(project.root))
    monkeypatch.chdir(project.root)
    started: list[str] = []

    def produce(style: str, **_: object) -> str:
        started.append(style)
        if style == "three":
            raise StageError("three: no luck")
        return "pass"

    monkeypatch.setattr(flows, "produce_style", produce)
    failures: dict[str, FactoryError] = flows.produce_styles.fn(named)
    assert started == built and list(failures) == ["three"]
