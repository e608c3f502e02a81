"""Training checkpoints: two generations with checksums, written atomically, read without unpickling objects."""

import hashlib
import io
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import torch

from stages.common.atomic import write_bytes
from stages.common.progress import log

KEEP = 2  # the newest may be damaged by a dying disk or a kill of the machine; the one before it then serves


class Stateful(Protocol):
    """Anything with torch's pair of state methods: modules, optimisers, EMA, own small classes."""

    def state_dict(self) -> Any: ...

    def load_state_dict(self, state: Any) -> Any: ...


def checkpoint_files(folder: Path) -> list[Path]:
    """Checkpoints in ``folder``, oldest first."""
    return sorted(path for path in folder.glob("checkpoint_*.pt") if re.fullmatch(r"checkpoint_\d{9}\.pt", path.name))


def save_checkpoint(folder: Path, state: Mapping[str, Stateful], nimg: int, extra: Mapping[str, Any]) -> Path:
    """Writes everything in ``state`` plus ``extra`` at ``nimg`` images; keeps the newest two files.

    The file is a 64-digit SHA-256 line followed by a ``torch.save`` archive. Memory formats travel with the
    tensors' strides.
    """
    buffer = io.BytesIO()
    torch.save({"nimg": nimg, "state": {k: v.state_dict() for k, v in state.items()}, "extra": dict(extra)}, buffer)
    data = buffer.getbuffer()
    path = folder / f"checkpoint_{nimg:09d}.pt"
    write_bytes(path, hashlib.sha256(data).hexdigest().encode() + b"\n" + data)
    for old in checkpoint_files(folder)[:-KEEP]:
        old.unlink()
    return path


def read_checkpoint(path: Path) -> dict[str, Any]:
    """The contents of one checkpoint.

    Raises:
        ValueError: the checksum does not match or the file is cut short.
    """
    data = path.read_bytes()
    digest, body = data[:64], memoryview(data)[65:]
    if hashlib.sha256(body).hexdigest().encode() != digest:
        raise ValueError("checksum does not match")
    return torch.load(io.BytesIO(body), map_location="cpu", weights_only=True)


def load_newest(folder: Path, state: Mapping[str, Stateful]) -> tuple[int, dict[str, Any]] | None:
    """Restores ``state`` from the newest intact checkpoint.

    Returns:
        (nimg, extra), or None when there is none. A damaged file is named, set aside as ``*.damaged`` and the one
        before it used.
    """
    for path in reversed(checkpoint_files(folder)):
        try:
            content = read_checkpoint(path)
        except Exception as error:  # damage shows as many things: ValueError, RuntimeError, EOFError, ...
            log(f"{path}: damaged checkpoint ({error}), the one before it is used")
            path.replace(path.with_suffix(".damaged"))
            continue
        missing = set(state) ^ set(content["state"])
        if missing:
            log(f"{path}: from another version of this stage ({', '.join(sorted(missing))}), not used")
            continue
        for name, part in state.items():
            part.load_state_dict(content["state"][name])
        return content["nimg"], content["extra"]
    return None
