"""``stylefactory gc``: what can go from the disk, shown first. Nothing a release or a lock file names is touched."""

import re
import time
from dataclasses import dataclass
from pathlib import Path

from pipeline import dvc
from pipeline.files import read_json, remove, size_of
from pipeline.lock import checkout_lock
from pipeline.processes import lives
from pipeline.project import Project

DAY_S = 86400.0


@dataclass(frozen=True)
class Garbage:
    """Something that can go.

    Attributes:
        path: relative to the project; for DVC objects its cache folder.
        size: bytes; -1 where DVC does not say.
        why: reason in words.
    """

    path: str
    size: int
    why: str


def find(project: Project, styles: list[str], older_days: float) -> list[Garbage]:
    """Old scratch of runs and datasets' caches, folders of styles that are gone, temporary files.

    Args:
        styles: the styles of params.yaml.
        older_days: how long nothing may have been written to a checkpoint or cache folder.
    """
    found: list[Garbage] = []
    limit = time.time() - older_days * DAY_S
    for folder in _folders(project.work):
        if folder.name == "cache":
            for cache in sorted(folder.iterdir()):
                if _newest(cache) < limit:
                    found.append(
                        _entry(project, cache, f"dataset cache, unused for {older_days:g} days; rebuilt on demand")
                    )
        elif folder.name not in (*styles, "_", "intake"):
            found.append(_entry(project, folder, "no such style in params.yaml"))
        else:
            found += _old_runs(project, folder, limit, older_days)
    for area in ("data", "models", "reports"):
        for path in sorted((project.root / area).rglob("*.tmp*")):
            if path.lstat().st_mtime < time.time() - DAY_S and ".dvc" not in path.parts:
                found.append(_entry(project, path, "left over from a killed write"))
    return found


def _old_runs(project: Project, folder: Path, limit: float, older_days: float) -> list[Garbage]:
    found = []
    for stage in _folders(folder):
        running = read_json(stage / "running.json")
        if running and lives(int(running["pid"])):
            continue
        for run in _folders(stage):
            if _newest(run) < limit:
                found.append(_entry(project, run, f"interrupted run, untouched for {older_days:g} days"))
    return found


def _folders(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []


def _newest(path: Path) -> float:
    """Latest change or read of anything under ``path``."""
    entries = [path, *(path.rglob("*") if path.is_dir() else ())]
    return max(max(entry.lstat().st_mtime, entry.lstat().st_atime if entry.is_file() else 0) for entry in entries)


def _entry(project: Project, path: Path, why: str) -> Garbage:
    return Garbage(str(path.relative_to(project.root)), size_of(path), why)


def unused_objects(project: Project) -> Garbage | None:
    """DVC objects that neither the workspace's lock file, nor a branch, nor a release tag names; None without any."""
    output = dvc.query(project, "gc", *SCOPE, "--dry", "--force")
    match = re.search(r"(\d+) objects? ", output.replace("No ", "0 "))
    count = int(match.group(1)) if match else 0
    return Garbage(".dvc/cache", -1, f"{count} objects no lock file, branch or release uses") if count else None


SCOPE = ("--workspace", "--all-branches", "--all-tags")


def collect(project: Project, garbage: list[Garbage], objects: bool) -> int:
    """Removes what :func:`find` listed and, with ``objects``, DVC's unused objects.

    Returns:
        Bytes freed, DVC's objects included.
    """
    cache = project.root / ".dvc" / "cache"
    with checkout_lock(project, "gc"):
        before = sum(item.size for item in garbage)
        for item in garbage:
            remove(project.root / item.path)
        if objects:
            size = size_of(cache)
            dvc.query(project, "gc", *SCOPE, "--force")
            before += size - size_of(cache)
    return before
