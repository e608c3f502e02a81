"""Adding, listing and removing styles, and choosing the photos: pictures judged first, then put under DVC."""

import io
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap

from pipeline import dvc, inputs, params, processes, status
from pipeline.files import read_json, remove, size_of, write_text
from pipeline.lock import checkout_lock
from pipeline.project import Project
from pipeline.settings import load_settings
from pipeline.settings.tree import RESERVED, STYLE_NAME
from stages.common.errors import FactoryError, InputError, SettingsError, StageError, from_os_error

RAW_STYLES = Path("data/raw/styles")
RAW_PHOTOS = Path("data/raw/photos")
CURATION_HEADER = "id,decision,reason\n"


class Rejected(InputError):
    """The pictures of a new style (or the photos) cannot be used; the message is the checker's verdict."""


@dataclass(frozen=True)
class Added:
    """A registered style and what its check said."""

    name: str
    pictures: int
    verdict: str
    expected_s: float | None


def check(
    project: Project,
    kind: str,
    folders: Sequence[Path],
    licence: str = "",
    on_line: Callable[[str], None] | None = None,
) -> dict[str, Any]:
    """Runs ``stages.faces.check`` over folders: the verdict before anything is changed.

    Args:
        kind: "photos" or "style".

    Returns:
        The checker's JSON.

    Raises:
        Rejected: the checker calls them unusable.
        StageError: the checker itself failed.
    """
    for folder in folders:
        if not folder.is_dir():
            raise Rejected(f"{folder}: no such folder")
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch) / "check.json"
        paths = [str(folder.resolve()) for folder in folders]
        command = [sys.executable, "-m", "stages.faces.check", "--kind", kind, *paths, "--json", str(out)]
        command += ["--licence", licence] if licence else []
        lines: list[str] = []

        def keep(line: str) -> None:
            lines.append(line)
            if on_line is not None:
                on_line(line)

        code = processes.run(command, project.root, on_line=keep)
        verdict = read_json(out) or {}
    if code == InputError.exit_code:
        raise Rejected(next((line for line in reversed(lines) if line), "unusable"))
    if code != 0:
        raise StageError(
            f"the check of {', '.join(map(str, folders))} failed: {lines[-1] if lines else f'code {code}'}"
        )
    return verdict


def add(
    project: Project,
    name: str,
    images: Path,
    licence: str = "",
    overrides: dict[str, Any] | None = None,
    on_line: Callable[[str], None] | None = None,
) -> Added:
    """Registers a style: verdict, copy under ``data/raw/styles/NAME``, ``dvc add``, params.yaml, curation file.

    Either everything is done or nothing is left behind.

    Raises:
        SettingsError: bad name, taken name or bad override.
        Rejected: the pictures cannot be used.
        InputError: a file of the folder cannot be read.
        StageError: the check could not run, or the disk refuses.
    """
    settings = load_settings(project.params)
    if not STYLE_NAME.fullmatch(name) or name in RESERVED:
        raise SettingsError(
            f"'{name}' is no style name: at most 40 lower-case letters, digits, - and _, a letter first, and none of "
            f"{', '.join(sorted(RESERVED))}"
        )
    if name in settings.styles:
        raise SettingsError(f"style '{name}' exists; 'stylefactory remove-style {name}' first, or choose another name")
    target = RAW_STYLES / name
    if (project.root / target).exists():
        raise SettingsError(f"{target} exists but no style '{name}' does; move it away or choose another name")
    # a wrong --set is refused before minutes of checking
    trial = YAML(typ="safe", pure=True).load(project.params.read_text(encoding="utf-8"))
    _validate_overrides(trial, name, str(target), licence, overrides or {})
    verdict = check(project, "style", [images], licence, on_line)
    undone = _undone_on_failure(target, lambda: _forget_pictures(project, target))
    with checkout_lock(project, f"new-style {name}"), undone:
        copy_pictures(images, project.root / target)
        dvc.query(project, "add", "--quiet", str(target))
        curation = project.root / "data" / "curation" / f"{name}.csv"
        if not curation.exists():
            write_text(curation, CURATION_HEADER)
        params.edit(project.params, lambda tree: params.add_style(tree, name, str(target), licence, overrides or {}))
    return Added(
        name,
        int(verdict.get("usable", 0)),
        str(verdict.get("verdict", "usable")),
        status.expected_seconds(project, load_settings(project.params), name),
    )


def _validate_overrides(tree: Any, name: str, pictures: str, licence: str, overrides: dict[str, Any]) -> None:
    from pipeline.settings import parse_settings

    params.add_style(tree, name, pictures, licence, overrides)
    text = io.StringIO()
    YAML().dump(tree, text)
    parse_settings(YAML(typ="safe", pure=True).load(text.getvalue()))


def copy_pictures(source: Path, target: Path) -> None:
    """Copies the folder ``source`` to ``target``; stops at the first failure and leaves cleaning up to the caller.

    Raises:
        InputError: a file or folder of it cannot be read; names it.
        StageError: ``target`` cannot be written (DiskFullError: no space left).
    """

    def copy(path: str, place: str) -> None:
        try:
            shutil.copy2(path, place)
        except OSError as error:  # left as it is copytree would collect it and go on, on a full disk too
            if error.filename == path and error.filename2 is None:
                raise InputError(f"{path}: cannot be read ({error.strerror}); check its rights or remove it") from error
            raise from_os_error(error, place) from error

    try:
        shutil.copytree(source, target, copy_function=copy)
    except shutil.Error as error:  # what it collected of sub-folders: (from, to, why) each
        path, _, why = error.args[0][0]
        raise InputError(f"{path}: cannot be copied ({why}); check its rights or remove it") from error
    except OSError as error:
        raise from_os_error(error, target) from error


@contextmanager
def _undone_on_failure(where: Path, undo: Callable[[], None]) -> Iterator[None]:
    """Calls ``undo`` when the block fails or is interrupted; what the system refused becomes a typed error."""
    try:
        yield
    except OSError as error:
        undo()
        raise from_os_error(error, where) from error
    except (FactoryError, KeyboardInterrupt):
        undo()
        raise


def _forget_pictures(project: Project, target: Path) -> None:
    remove(project.root / target)
    remove(project.root / f"{target}.dvc")


def use_photos(
    project: Project, folders: Sequence[Path], licence: str = "", on_line: Callable[[str], None] | None = None
) -> int:
    """Makes ``folders`` the photos: verdict, copies under ``data/raw/photos/<folder name>``, ``dvc add``, params.yaml.

    Returns:
        Number of usable photos according to the check.

    Raises:
        SettingsError: two of the folders have the same name.
        StageError, InputError: the check could not run, or found too few usable photos; a file cannot be read, or the
            disk refuses. The photos stay those before.
    """
    names = [folder.resolve().name for folder in folders]
    if len(set(names)) != len(names):
        raise SettingsError("two of these folders have the same name; photos are kept by folder name, so rename one")
    verdict = check(project, "photos", folders, licence, on_line)
    final = project.root / RAW_PHOTOS

    def change(tree: CommentedMap) -> None:
        params.set_value(tree, "photos.path", str(RAW_PHOTOS))
        params.set_value(tree, "photos.licence", licence)

    fresh, old = final.with_name(".photos.new.tmp"), final.with_name(".photos.old.tmp")

    def forget() -> None:
        shutil.rmtree(fresh, ignore_errors=True)

    def restore() -> None:
        forget()
        remove(final)
        if old.exists():
            old.replace(final)

    with checkout_lock(project, "photos"):
        with _undone_on_failure(RAW_PHOTOS, forget):
            remove(fresh)
            for folder, name in zip(folders, names, strict=True):
                copy_pictures(folder, fresh / name)
            remove(old)
            if final.exists():
                final.replace(old)
        with _undone_on_failure(RAW_PHOTOS, restore):
            fresh.replace(final)
            dvc.query(project, "add", "--quiet", str(RAW_PHOTOS))
            params.edit(project.params, change)
        remove(old)
    return int(verdict.get("usable", 0))


def leftovers(project: Project, name: str) -> list[Path]:
    """Everything of style ``name`` on disk outside git: pictures, data, models, reports, work."""
    candidates = [
        RAW_STYLES / name,
        RAW_STYLES / f"{name}.dvc",
        Path("models") / name,
        Path("reports") / name,
        Path("reports/metrics") / name,
        Path("reports/curves") / name,
        Path("work") / name,
        *(Path(out) for stage in project.stages if stage.per_style for out in stage.outputs(name)),
    ]
    found = [path for path in dict.fromkeys(candidates) if (project.root / path).exists()]
    return [path for path in found if not any(parent in found for parent in path.parents)]


def delete(project: Project, name: str) -> int:
    """Removes style ``name`` from params.yaml, dvc.lock and the disk. Releases, people's curation, DVC's cache stay.

    Returns:
        Bytes removed from the working folders.

    Raises:
        SettingsError: no such style, or it is the only one.
    """
    settings = load_settings(project.params)
    settings.for_style(name)
    if len(settings.styles) == 1:
        raise SettingsError(f"'{name}' is the only style; add another one first")
    with checkout_lock(project, f"remove-style {name}"):
        paths = leftovers(project, name)
        freed = sum(size_of(project.root / path) for path in paths)
        params.edit(project.params, lambda tree: tree["styles"].pop(name))
        inputs.drop_lock_entries(project, {stage.target(name) for stage in project.stages if stage.per_style})
        for path in paths:
            remove(project.root / path)
        curation = project.root / "data" / "curation" / f"{name}.csv"
        if curation.is_file() and curation.read_text(encoding="utf-8") == CURATION_HEADER:
            curation.unlink()
    return freed


def describe(project: Project) -> list[dict[str, Any]]:
    """One row per style: name, pictures, licence, stages with overrides, verdict of the last evaluation, releases."""
    from pipeline.releases import versions
    from pipeline.reporting import verdict_line

    rows = []
    for name, item in load_settings(project.params).styles.items():
        changed = [key for key in type(item).model_fields if key not in ("pictures", "licence") and getattr(item, key)]
        rows.append(
            {
                "style": name,
                "pictures": item.pictures,
                "licence": item.licence,
                "overrides": changed,
                "verdict": verdict_line(project, name),
                "releases": len(versions(project, name)),
            }
        )
    return rows
