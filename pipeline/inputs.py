"""Catches settings and pictures that change while a stage runs.

DVC hashes a stage's settings and inputs *after* its command has ended. Whoever edits params.yaml in between gets a
dvc.lock (and a run-cache entry) that ties the old result to the new values, for good. So the wrapper takes a signature
before, compares it after, and makes DVC forget a run that fell between.
"""

import contextlib
import hashlib
import io
import json
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from pipeline.files import read_json, write_text
from pipeline.project import Project, Stage, split_target

NOTE = "before.json"


def signature(project: Project, target: str) -> str:
    """A hash of the setting values ``target`` depends on, and of names, sizes and times of people's files it reads."""
    name, style = split_target(target)
    stage = project.stage(name)
    tree = YAML(typ="safe").load(project.params.read_text(encoding="utf-8"))
    values = [_get(tree, key.replace("${key}", style)) for key in stage.params]
    files = [_listing(path) for path in _people_paths(project, stage, style, tree)]
    return hashlib.sha256(json.dumps([values, files], sort_keys=True, default=str).encode()).hexdigest()


def note_before(project: Project, target: str) -> str:
    """Takes the signature and writes it down, in case nobody is left alive to compare it.

    A note of an earlier, killed run that says something else makes DVC forget that run.
    """
    now = signature(project, target)
    note = project.work_of(*split_target(target)) / NOTE
    earlier = read_json(note)
    if earlier is not None and earlier.get("signature") != now:
        forget(project, target, float(earlier.get("began", 0)))
    return now


def write_note(project: Project, target: str, taken: str, began: float) -> None:
    """Leaves ``taken`` for the next run to find; :func:`still_true` removes it."""
    write_text(project.work_of(*split_target(target)) / NOTE, json.dumps({"signature": taken, "began": began}))


def still_true(project: Project, target: str, taken: str, began: float) -> bool:
    """Whether ``taken`` holds after the run; if not, DVC has forgotten the run when this returns."""
    same = signature(project, target) == taken
    if not same:
        forget(project, target, began)
    (project.work_of(*split_target(target)) / NOTE).unlink(missing_ok=True)
    return same


def forget(project: Project, target: str, began: float) -> None:
    """Drops ``target`` from dvc.lock and the run-cache entries written since ``began`` (at worst a rerun too many)."""
    drop_lock_entries(project, {target})
    for entry in list((project.root / ".dvc" / "cache" / "runs").rglob("*")):
        if entry.is_file() and entry.stat().st_mtime >= began:
            entry.unlink(missing_ok=True)
            with contextlib.suppress(OSError):  # DVC stumbles over an empty folder; one with other runs stays
                entry.parent.rmdir()


def drop_lock_entries(project: Project, targets: set[str]) -> None:
    """Removes stages from dvc.lock, the rest unchanged."""
    path = project.root / "dvc.lock"
    if not path.is_file():
        return
    yaml = YAML()
    yaml.width = 4096
    lock = yaml.load(path.read_text(encoding="utf-8"))
    found = targets & set(lock.get("stages", {}))
    if not found:
        return
    for target in found:
        del lock["stages"][target]
    text = io.StringIO()
    yaml.dump(lock, text)
    write_text(path, text.getvalue())


def _get(tree: Any, key: str) -> Any:
    for step in key.split("."):
        tree = tree.get(step) if isinstance(tree, dict) else None
    return tree


def _people_paths(project: Project, stage: Stage, style: str, tree: Any) -> list[Path]:
    """Inputs no stage makes: folders named by settings, curation. Those made by stages change only under our lock."""
    made = [out.replace("${key}", style) for other in project.stages for out in other.outs]
    paths = []
    for dep in stage.deps:
        if dep.startswith("${item."):
            value = _get(tree, f"styles.{style}.{dep[7:-1]}")
        elif dep.startswith("${") and not dep.startswith("${key}"):
            value = _get(tree, dep[2:-1])
        else:
            value = dep.replace("${key}", style)
        if value and not any(str(value) == out or str(value).startswith(out + "/") for out in made):
            paths.append(project.root / str(value))
    return paths


def _listing(path: Path) -> list[tuple[str, int, int]]:
    entries = sorted(path.rglob("*")) if path.is_dir() else [path] if path.exists() else []
    stats = [(str(entry.relative_to(path.parent)), entry.stat()) for entry in entries if entry.is_file()]
    return [(name, stat.st_size, stat.st_mtime_ns) for name, stat in stats]
