"""``stylefactory status``: what is done, stale, missing or running, and what a run would do."""

import json
import time
from dataclasses import asdict, dataclass
from typing import Any, Literal

import psutil
from ruamel.yaml import YAML

from pipeline import dvc
from pipeline.files import human_size, human_time, read_json
from pipeline.project import Project, Stage
from pipeline.settings import Settings
from stages.common.errors import StageError

State = Literal["done", "stale", "missing", "running", "failed"]


@dataclass(frozen=True)
class StageStatus:
    """One stage of one style.

    Attributes:
        seconds: how long it took last time, None when never run here.
        size: bytes of its outputs as recorded in dvc.lock.
        why: first reason for stale, error for failed, progress for running.
    """

    stage: str
    style: str
    state: State
    seconds: float | None
    size: int
    why: str


def survey(project: Project, styles: list[str]) -> list[StageStatus]:
    """The state of every stage, shared ones first under style ""; works on a chain never built.

    Upstream counts: a stage whose own inputs are unchanged is stale when a stage before it will run again.

    Raises:
        StageError: DVC cannot read the project.
    """
    try:
        changed = dvc.changed(project)
    except StageError as error:
        raise StageError(f"{error}; 'stylefactory doctor' checks the set-up") from error
    recorded = _lock_entries(project)
    rows: list[StageStatus] = []
    will_run: set[str] = set()
    for style in ["", *styles]:
        for stage in project.stages:
            if stage.per_style != bool(style):
                continue
            row = _status(project, stage, style, changed, recorded, will_run)
            rows.append(row)
            if row.state != "done":
                will_run.add(stage.target(style))
    return rows


def _status(
    project: Project,
    stage: Stage,
    style: str,
    changed: dict[str, list[str]],
    recorded: dict[str, Any],
    will_run: set[str],
) -> StageStatus:
    target = stage.target(style)
    entry = recorded.get(target)
    folder = project.work_of(stage.name, style)
    last = read_json(folder / "last.json") or {}
    size = sum(int(out.get("size", 0)) for out in (entry or {}).get("outs", []))
    seconds = _seconds(project, stage, style, last)
    upstream = [s.target(style) for s in project.needed_by(stage.name) if s.name != stage.name]
    waiting = next((name for name in upstream if name in will_run), None)
    reasons = changed.get(target, [])
    running = read_json(folder / "running.json")
    if running and _alive(int(running["pid"]), float(running["since"])):
        since = human_time(time.time() - float(running["since"]))
        return StageStatus(stage.name, style, "running", seconds, size, f"process {running['pid']}, {since}")
    if last.get("code") and (reasons or entry is None):
        return StageStatus(stage.name, style, "failed", seconds, size, str(last.get("error", "")).splitlines()[0])
    if entry is None:
        return StageStatus(stage.name, style, "missing", seconds, size, "never run")
    if reasons:
        return StageStatus(stage.name, style, "stale", seconds, size, reasons[0])
    if waiting:
        return StageStatus(stage.name, style, "stale", seconds, size, f"after {waiting}")
    return StageStatus(stage.name, style, "done", seconds, size, "")


def _alive(pid: int, since: float) -> bool:
    """Whether ``pid`` is the process that noted ``since``, not a later one with the same number."""
    try:
        return psutil.Process(pid).create_time() <= since + 1
    except psutil.NoSuchProcess:
        return False


def _seconds(project: Project, stage: Stage, style: str, last: dict[str, Any]) -> float | None:
    numbers = read_json(project.root / "reports" / "metrics" / style / f"{stage.name}.json") or {}
    if "seconds" in numbers:
        return float(numbers["seconds"])
    return float(last["seconds"]) if last.get("code") == 0 else None


def _lock_entries(project: Project) -> dict[str, Any]:
    path = project.root / "dvc.lock"
    if not path.is_file():
        return {}
    return YAML(typ="safe").load(path.read_text(encoding="utf-8")).get("stages", {})


def expected_seconds(project: Project, settings: Settings, new: str) -> float | None:
    """What the whole run of style ``new`` will take; None if no style has been run here.

    The mean of each stage over the styles that have been run, trainings in proportion to their length (``kimg``).
    """
    locked = _lock_entries(project)
    wanted = settings.for_style(new)
    total = 0.0
    known = False
    for stage in project.stages:
        if not stage.per_style:
            continue
        length = getattr(getattr(wanted, stage.name, None), "kimg", None)
        times = []
        for style in settings.styles:
            seconds = _seconds(project, stage, style, {})
            if seconds is not None:
                before = _recorded_kimg(locked.get(stage.target(style), {}), stage.name, style)
                times.append(seconds * length / before if length and before else seconds)
        if times:
            total += sum(times) / len(times)
            known = True
    return total if known else None


def _recorded_kimg(entry: dict[str, Any], stage: str, style: str) -> float | None:
    """The training length a dvc.lock entry was made with: the style's own, else the section's."""
    params = entry.get("params", {}).get("params.yaml", {})
    own = (params.get(f"styles.{style}.{stage}") or {}).get("kimg")
    kimg = own if own is not None else (params.get(stage) or {}).get("kimg")
    return None if kimg is None else float(kimg)


def as_json(rows: list[StageStatus]) -> str:
    """Machine-readable form of :func:`survey`."""
    return json.dumps([asdict(row) for row in rows], indent=2)


def as_text(rows: list[StageStatus]) -> str:
    """One line per stage, grouped by style, without colours."""
    lines: list[str] = []
    group: str | None = None
    for row in rows:
        if row.style != group:
            group = row.style
            lines.append(f"{group or 'shared'}:")
        took = human_time(row.seconds) if row.seconds is not None else ""
        size = human_size(row.size) if row.size else ""
        lines.append(f"  {row.stage:<12} {row.state:<8} {took:>9} {size:>9}  {row.why}".rstrip())
    return "\n".join(lines)
