"""The checkout as orchestration sees it: where it is, which stages its dvc.yaml has and how they hang together."""

import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from stages.common.errors import SettingsError


@dataclass(frozen=True)
class Stage:
    """One box of the diagram. Paths are templates as written in dvc.yaml (``${key}`` = style)."""

    name: str
    per_style: bool
    deps: tuple[str, ...]
    params: tuple[str, ...]
    outs: tuple[str, ...]

    def target(self, style: str = "") -> str:
        """The name DVC knows it by: ``photos`` or ``transfer@avatar``."""
        return f"{self.name}@{style}" if self.per_style else self.name

    def outputs(self, style: str = "") -> list[str]:
        """Output paths for one style, relative to the project."""
        return [out.replace("${key}", style) for out in self.outs]


@dataclass(frozen=True)
class Project:
    """A checkout of the factory."""

    root: Path

    @property
    def params(self) -> Path:
        """The settings file."""
        return self.root / "params.yaml"

    @property
    def work(self) -> Path:
        """Git-ignored scratch: locks, checkpoints, caches."""
        return self.root / "work"

    @cached_property
    def stages(self) -> list[Stage]:
        """The stages in the order of dvc.yaml, which is the order of the diagram.

        Raises:
            SettingsError: dvc.yaml is missing or not readable.
        """
        from ruamel.yaml import YAML
        from ruamel.yaml.error import YAMLError

        path = self.root / "dvc.yaml"
        try:
            diagram = YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8"))["stages"]
        except (OSError, YAMLError, KeyError, TypeError) as error:
            raise SettingsError(f"{path}: no readable diagram ({' '.join(str(error).split())})") from error
        return [_stage(name, body) for name, body in diagram.items()]

    def stage(self, name: str) -> Stage:
        """The stage called ``name``.

        Raises:
            SettingsError: there is none.
        """
        for stage in self.stages:
            if stage.name == name:
                return stage
        known = ", ".join(stage.name for stage in self.stages)
        raise SettingsError(f"no stage '{name}' in dvc.yaml (stages: {known})")

    def needed_by(self, name: str) -> list[Stage]:
        """``name`` and everything upstream of it, in the order of the diagram."""
        wanted = {self.stage(name).name}
        for stage in reversed(self.stages):
            if any(stage.name in self._upstream(other) for other in self.stages if other.name in wanted):
                wanted.add(stage.name)
        return [stage for stage in self.stages if stage.name in wanted]

    def _upstream(self, stage: Stage) -> set[str]:
        return {
            other.name
            for other in self.stages
            if other.name != stage.name and any(_feeds(out, dep) for out in other.outs for dep in stage.deps)
        }

    def work_of(self, stage: str, style: str) -> Path:
        """Where the stage runner keeps its lock, ``last.json`` and checkpoints."""
        return self.work / (style or "_") / stage


def split_target(target: str) -> tuple[str, str]:
    """``transfer@avatar`` to ("transfer", "avatar"), ``photos`` to ("photos", "")."""
    stage, _, style = target.partition("@")
    return stage, style


def find_project(start: Path | None = None) -> Project:
    """The checkout that contains ``start`` (the working folder); $STYLEFACTORY_ROOT overrides.

    Raises:
        SettingsError: no folder upwards has a dvc.yaml and a params.yaml.
    """
    named = os.environ.get("STYLEFACTORY_ROOT")
    here = Path(named) if named else (start or Path.cwd())
    for folder in (here.resolve(), *here.resolve().parents):
        if (folder / "dvc.yaml").is_file() and (folder / "params.yaml").is_file():
            return Project(folder)
    raise SettingsError(f"{here}: not inside a factory checkout (no dvc.yaml and params.yaml here or above)")


def _stage(name: str, body: dict[str, Any]) -> Stage:
    inner = body.get("do", body)
    outs = [*inner.get("outs", []), *inner.get("metrics", []), *inner.get("plots", [])]
    return Stage(
        name,
        per_style="foreach" in body,
        deps=tuple(_path(dep) for dep in inner.get("deps", [])),
        params=tuple(inner.get("params", [])),
        outs=tuple(_path(out) for out in outs),
    )


def _path(entry: Any) -> str:
    """Entries are a path or a map of the path to its options."""
    return str(next(iter(entry))) if isinstance(entry, dict) else str(entry)


def _feeds(out: str, dep: str) -> bool:
    """Whether an output is, contains or lies in what a stage reads. ``${photos.path}`` and ``${item.pictures}`` may be
    any folder; they count as made by demo_inputs, which is where they point at first."""
    if dep in ("${photos.path}", "${item.pictures}"):
        return out.startswith("data/demo")
    return out == dep or dep.startswith(out.rstrip("/") + "/") or out.startswith(dep.rstrip("/") + "/")
