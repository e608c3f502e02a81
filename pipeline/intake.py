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
from stages.common.errors import FactoryError, from_os_error

LICENCE_FILE = "licence.txt"
REMEMBERED = Path("intake") / "seen.json"


@dataclass(frozen=True)
class Outcome:
    """What became of one sub-folder; ``may_pass``: it was no fault of its own, the next look tries again."""

    name: str
    registered: bool
    text: str
    may_pass: bool = False


def look(
    project: Project, folder: Path, settle_s: float, on_line: Callable[[str], None] | None = None
) -> list[Outcome]:
    """Registers every new sub-folder in which nothing has changed for ``settle_s`` seconds.

    The sub-folder's name, made lower-case with - for other signs, becomes the style's name; a ``licence.txt`` in it the
    licence. A rejected folder is remembered by its content's names, sizes and times and looked at again only when
    those change; what may pass (a full disk) is tried again. A folder that cannot be read is reported like any rejected
    one and the others go on. Nothing in the watched folder is ever written or removed.

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
        name, unreadable = style_name(path.name), ""
        try:
            mark, newest = _fingerprint(path)
        except FileNotFoundError:
            continue  # renamed or removed as we looked: still being copied
        except OSError as error:
            unreadable = mark = str(from_os_error(error, path))
            newest = 0.0
        if seen.get(path.name) == mark or time.time() - newest < settle_s:
            continue
        if unreadable:
            outcome = Outcome(path.name, False, unreadable)
        elif name in known:
            outcome = Outcome(
                path.name, False, f"style '{name}' exists already; rename the folder or remove-style first"
            )
        else:
            outcome = _register(project, name, path, on_line)
        outcomes.append(outcome)
        if not outcome.may_pass:
            seen[path.name] = mark
            write_text(memory, json.dumps(seen, indent=2))
    return outcomes


def _register(project: Project, name: str, path: Path, on_line: Callable[[str], None] | None) -> Outcome:
    note = path / LICENCE_FILE
    try:
        licence = " ".join(note.read_text(encoding="utf-8", errors="replace").split()) if note.is_file() else ""
        added = styles.add(project, name, path, licence, on_line=on_line)
    except FactoryError as error:
        return Outcome(name, False, str(error), error.transient)
    except OSError as error:
        fault = from_os_error(error, error.filename or path)
        return Outcome(name, False, str(fault), fault.transient)
    except UnicodeError as error:  # names that are no UTF-8, as old zip files have
        return Outcome(name, False, f"{path}: a file name cannot be read ({error}); rename the files")
    return Outcome(name, True, f"registered with {added.pictures} usable pictures: {added.verdict}")


def style_name(folder: str) -> str:
    """A style name from a folder name: "My Style 2" becomes "my-style-2"."""
    return re.sub(r"[^a-z0-9_]+", "-", folder.lower()).strip("-_")[:40]


def _fingerprint(path: Path) -> tuple[str, float]:
    """Names, sizes and times of everything in the folder as one short text, and the latest time.

    A link to nothing counts with its own time. OSError if something cannot be looked at or is gone by then.
    """
    import hashlib

    digest, newest = hashlib.sha256(), path.stat().st_mtime
    for entry in sorted(path.rglob("*")):
        stat = entry.stat() if entry.exists() else entry.lstat()
        line = f"{entry.relative_to(path)}|{stat.st_size}|{stat.st_mtime_ns}\n"
        digest.update(line.encode(errors="surrogateescape"))
        newest = max(newest, stat.st_mtime)
    return digest.hexdigest(), newest
