"""Writes that either happen completely or not at all: temporary name beside the target, fsync, rename."""

import json
import math
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from stages.common.errors import from_os_error


@contextmanager
def atomic_path(final: Path) -> Iterator[Path]:
    """Yields a temporary path beside ``final``; on success it is synced and renamed to ``final``, else removed.

    The temporary name keeps the suffix, since writers such as cv2 choose the format by it.

    Raises:
        DiskFullError: no space left; nothing stays behind.
        StageError: the folder cannot be written.
    """
    final = Path(final)
    temporary: Path | None = None
    try:
        final.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{final.stem}.", suffix=f".tmp{final.suffix}", dir=final.parent)
        os.close(handle)
        temporary = Path(name)
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.chmod(0o644)
        temporary.replace(final)
    except OSError as error:
        raise from_os_error(error, final) from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def write_bytes(path: Path, data: bytes) -> None:
    """Writes ``data`` to ``path`` atomically."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)


def write_text(path: Path, text: str) -> None:
    """Writes UTF-8 ``text`` to ``path`` atomically."""
    write_bytes(path, text.encode())


def write_json(path: Path, value: Any) -> None:
    """Writes ``value`` as indented JSON to ``path`` atomically; NaN and infinity, which JSON lacks, become null."""
    write_text(path, json.dumps(_finite(value), indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def _finite(value: Any) -> Any:
    """``value`` with every float that is no number replaced by None: not measured, rather than a made-up figure."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def publish_dir(finished: Path, final: Path) -> None:
    """Puts the folder ``finished`` in the place of ``final`` (same file system), the old one aside and then away.

    A kill between the two renames leaves ``final`` missing, never half-filled: the stage then runs again.

    Raises:
        DiskFullError: no space left. StageError: the folder cannot be written.
    """
    final = Path(final)
    try:
        final.parent.mkdir(parents=True, exist_ok=True)
        old = final.with_name(f".{final.name}.old.tmp")
        shutil.rmtree(old, ignore_errors=True)
        if final.exists():
            final.replace(old)
        Path(finished).replace(final)
        shutil.rmtree(old, ignore_errors=True)
    except OSError as error:
        raise from_os_error(error, final) from error
