"""The watched folder: complete new sub-folders of pictures become styles; bad ones are reported and left alone."""

import json
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pipeline import styles
from pipeline.files import read_json, write_text
from pipeline.project import Project
from pipeline.settings import load_settings
from stages.common.errors import FactoryError

LICENCE_FILE = "licence.txt"
REMEMBERED = Path("intake") / "seen.json"


@dataclass(frozen=True)
class Outcome:
    """What became of one sub-folder."""

    name: str
    registered: bool
    text: str


def look(
    project: Project, folder: Path, settle_s: float, on_line: Callable[[str], None] | None = None
) -> list[Outcome]:
    """Registers every new sub-folder in which nothing has changed for ``settle_s`` seconds.

    The sub-folder's name, made lower-case with - for other signs, becomes the style's name; a ``licence.txt`` in it the
    licence. A rejected folder is remembered by its content's names, sizes and times and looked at again only when
    those change. Nothing in the watched folder is ever written or removed.

    Returns:
        One outcome per folder looked at in this round, rejected ones included.
    """
    base = folder if folder.is_absolute() else project.root / folder
    if not base.is_dir():
        return []
    memory = project.work / REMEMBERED
    seen = read_json(memory) or {}
    known = load_settings(project.params).styles
    outcomes = []
    for path in sorted(entry for entry in base.iterdir() if entry.is_dir() and not entry.name.startswith(".")):
        mark, newest = _fingerprint(path)
        if seen.get(path.name) == mark or time.time() - newest < settle_s:
            continue
        name = style_name(path.name)
        if name in known:
            outcome = Outcome(
                path.name, False, f"style '{name}' exists already; rename the folder or remove-style first"
            )
        else:
            outcome = _register(project, name, path, on_line)
        outcomes.append(outcome)
        seen[path.name] = mark
        write_text(memory, json.dumps(seen, indent=2))
    return outcomes


def _register(project: Project, name: str, path: Path, on_line: Callable[[str], None] | None) -> Outcome:
    note = path / LICENCE_FILE
    licence = " ".join(note.read_text(encoding="utf-8", errors="replace").split()) if note.is_file() else ""
    try:
        added = styles.add(project, name, path, licence, on_line=on_line)
    except FactoryError as error:
        return Outcome(name, False, str(error))
    return Outcome(name, True, f"registered with {added.pictures} usable pictures: {added.verdict}")


def style_name(folder: str) -> str:
    """A style name from a folder name: "My Style 2" becomes "my-style-2"."""
    return re.sub(r"[^a-z0-9_]+", "-", folder.lower()).strip("-_")[:40]


def _fingerprint(path: Path) -> tuple[str, float]:
    """Names, sizes and times of everything in the folder as one short text, and the latest time."""
    import hashlib

    digest, newest = hashlib.sha256(), path.stat().st_mtime
    for entry in sorted(path.rglob("*")):
        stat = entry.stat()
        digest.update(f"{entry.relative_to(path)}|{stat.st_size}|{stat.st_mtime_ns}\n".encode())
        newest = max(newest, stat.st_mtime)
    return digest.hexdigest(), newest
