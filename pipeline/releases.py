"""Releases: a tag ``style/NAME/vN``, a bundle people can ship, an entry in releases.csv.

The tag holds settings, dvc.lock and releases.csv of that moment, so going back is ``git checkout TAG`` and
``dvc checkout`` (``dvc pull`` on another machine).
"""

import csv
import hashlib
import io
import re
import subprocess
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from pipeline import dvc, reporting
from pipeline.card import model_card
from pipeline.files import write_text
from pipeline.lock import checkout_lock
from pipeline.plan import plan
from pipeline.project import Project
from pipeline.settings import load_settings
from stages.common.errors import InputError, StageError

LIST = Path("releases.csv")
FOLDER = Path("releases")
COLUMNS = ("style", "version", "tag", "date", "verdict", "bundle_sha256", "bundle_bytes", "models", "licence", "commit")
COMMITTED = ("params.yaml", "dvc.lock", "releases.csv", "data/curation", "data/raw")
ZIP_TIME = (1980, 1, 1, 0, 0, 0)  # fixed: the same files give the same bundle, byte for byte


@dataclass(frozen=True)
class Release:
    """A finished release. ``size`` in bytes."""

    tag: str
    bundle: Path
    size: int


def versions(project: Project, style: str) -> list[int]:
    """Version numbers of a style's releases according to git's tags, ascending."""
    tags = _git(project, "tag", "--list", f"style/{style}/v*").split()
    return sorted(
        int(match.group(1)) for tag in tags if (match := re.fullmatch(rf"style/{re.escape(style)}/v(\d+)", tag))
    )


def release(project: Project, style: str, *, force: bool, push: bool) -> Release:
    """Freezes a finished style.

    Args:
        force: release although the verdict is a fail or missing; card and list say so.
        push: ``dvc push`` before the tag is made, so that no tag names data nobody can fetch.

    Raises:
        SettingsError: no such style.
        StageError: not up to date, verdict not good enough, tracked files changed that a release does not commit, or
            git's own message, with releases.csv and the branch as they were.
    """
    item = load_settings(project.params).for_style(style).styles[style]
    waiting = [target for target in plan(project, style) if target != "weights"]
    if waiting:
        raise StageError(f"{style} is not finished ({waiting[0]} has to run); 'stylefactory run {style}' first")
    verdict = reporting.verdict_line(project, style)
    if not re.match(r"(pass|warn)", verdict) and not force:
        raise StageError(f"{style}: the verdict is '{verdict}'; --force releases it all the same, marked as such")
    _refuse_other_changes(project)
    with checkout_lock(project, f"release {style}"):
        version = max(versions(project, style), default=0) + 1
        tag, name = f"style/{style}/v{version}", f"{style}-v{version}"
        files = _model_files(project, style)
        commit = _git(project, "rev-parse", "HEAD").strip()
        card = model_card(project, style, version, item, verdict, files, commit)
        bundle = _bundle(project, name, files, card)
        if push:
            dvc.query(project, "push", "--quiet")
        digest = _sha256(bundle)
        row = (
            style,
            version,
            tag,
            time.strftime("%Y-%m-%d"),
            verdict,
            digest,
            bundle.stat().st_size,
            len(files),
            item.licence,
            commit,
        )
        subject = f"Release style {style} v{version}"
        with _all_or_nothing(project, commit, subject):
            _append(project.root / LIST, row)
            _git(project, "add", "--", *_committed(project))
            _git(project, "commit", "--quiet", "-m", f"{subject}\n\nVerdict: {verdict}")
            _git(project, "tag", "-a", tag, "-m", f"{style} v{version}: {verdict}\nbundle sha256 {digest}")
    return Release(tag, bundle, bundle.stat().st_size)


def _model_files(project: Project, style: str) -> list[Path]:
    """What the export stage made for shipping, absolute."""
    outs = [project.root / out for out in project.stage("export").outputs(style) if out.startswith("models/")]
    missing = [path.name for path in outs if not path.is_file()]
    if missing:
        raise StageError(f"{style}: {', '.join(missing)} missing; 'dvc checkout' or 'dvc pull' brings them back")
    return outs


def _bundle(project: Project, name: str, files: list[Path], card: str) -> Path:
    """One zip with everything; the same content gives the same bytes."""
    content = {path.name: path.read_bytes() for path in files}
    content["MODEL_CARD.md"] = card.encode()
    for legal in ("LICENSE", "NOTICE"):
        if (project.root / legal).is_file():
            content[f"licences/{legal}"] = (project.root / legal).read_bytes()
    sums = "".join(f"{hashlib.sha256(data).hexdigest()}  {key}\n" for key, data in sorted(content.items()))
    content["SHA256SUMS"] = sums.encode()
    final = project.root / FOLDER / f"{name}.zip"
    final.parent.mkdir(exist_ok=True)
    temporary = final.with_suffix(".zip.tmp")
    with zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive:
        for key, data in sorted(content.items()):
            entry = zipfile.ZipInfo(f"{name}/{key}", ZIP_TIME)
            entry.external_attr = 0o644 << 16
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, data)
    temporary.replace(final)
    return final


@contextmanager
def _all_or_nothing(project: Project, head: str, subject: str) -> Iterator[None]:
    """Takes the list's new row, what was staged and the commit ``subject`` after ``head`` back if anything fails.

    Git may have no identity or a hook may refuse; the retry would write the row a second time.
    """
    path = project.root / LIST
    before = _read_list(path)
    try:
        yield
    except BaseException:  # an interrupt as well
        with suppress(StageError):  # git's first message is the one to show
            if _git(project, "log", "-1", "--format=%P %s").strip() == f"{head} {subject}":
                _git(project, "reset", "--quiet", "--soft", head)
            _git(project, "reset", "--quiet", "--", *_committed(project))
        if before:
            write_text(path, before)
        else:
            path.unlink(missing_ok=True)
        raise


def _committed(project: Project) -> list[str]:
    return [path for path in COMMITTED if (project.root / path).exists()]


def _read_list(path: Path) -> str:
    """The list as it stands; "" when there is none."""
    if not path.is_file():
        return ""
    try:
        with path.open(encoding="utf-8", newline="") as file:  # "": what is there stays as it is, byte for byte
            return file.read()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read ({error}); 'git checkout {path.name}' brings it back") from error


def _append(path: Path, row: tuple[object, ...]) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    there = _read_list(path)
    if there:
        text.write(there if there.endswith("\n") else there + "\n")
    else:
        writer.writerow(COLUMNS)
    writer.writerow(row)
    write_text(path, text.getvalue())


def _refuse_other_changes(project: Project) -> None:
    changed = [line[3:] for line in _git(project, "status", "--porcelain", "--untracked-files=no").splitlines()]
    other = [path for path in changed if not path.startswith(COMMITTED)]
    if other:
        shown = ", ".join(other[:3]) + (f" and {len(other) - 3} more" if len(other) > 3 else "")
        raise StageError(
            f"{shown}: changed but not committed; a release must name the code it came from, so commit first"
        )


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _git(project: Project, *args: str) -> str:
    try:
        result = subprocess.run(["git", *args], cwd=project.root, capture_output=True, text=True, check=False)
    except OSError as error:
        raise StageError(f"git cannot be run: {error}") from error
    if result.returncode:
        raise StageError(f"git {args[0]}: {' '.join((result.stderr or result.stdout).split())[:300]}")
    return result.stdout
