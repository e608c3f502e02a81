"""Content hashes of files, folders and settings."""

import hashlib
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any


def tree_hash(paths: Iterable[Path]) -> str:
    """A hash over the names and contents of files and folders, hex; absent ones count as absent.

    Contents are hashed, not times: a checkout by DVC changes times only. About 1 GB/s.
    """
    digest = hashlib.blake2b(digest_size=20)
    for path in paths:
        path = Path(path)
        digest.update(f"<{path}>".encode())
        if path.is_file():
            _add_file(digest, path)
        elif path.is_dir():
            for folder, names, files in os.walk(path):
                names.sort()
                for name in sorted(files):
                    file = Path(folder) / name
                    digest.update(f"/{file.relative_to(path)}".encode())
                    _add_file(digest, file)
    return digest.hexdigest()


def _add_file(digest: "hashlib.blake2b", path: Path) -> None:
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)


def settings_hash(value: Any) -> str:
    """A hash of JSON-like settings, independent of key order, hex."""
    text = json.dumps(value, sort_keys=True, default=str)
    return hashlib.blake2b(text.encode(), digest_size=20).hexdigest()
