"""Model files: safetensors with a JSON header that says what is inside. Nothing is ever unpickled."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from stages.common.atomic import atomic_path
from stages.common.errors import ModelFileError

FORMAT_VERSION = 1


@dataclass
class ModelFile:
    """A loaded model file. ``config`` rebuilds the network, ``meta`` says where it comes from."""

    kind: str
    state: dict[str, torch.Tensor]
    config: dict[str, Any]
    meta: dict[str, Any] = field(default_factory=dict)


def save_model(
    path: Path,
    kind: str,
    state: Mapping[str, torch.Tensor],
    config: Mapping[str, Any],
    meta: Mapping[str, Any],
    half: bool = False,
) -> None:
    """Writes ``state`` with its header atomically.

    Args:
        path: the final name, ``*.safetensors``.
        kind: what the file is: "stylegan2", "encoder", "translator", "mobile", ...
        state: tensors by name, any dtype.
        config: the arguments that rebuild the network; JSON.
        meta: parents' hashes, settings, data, licence, figures; JSON.
        half: store floating tensors as float16 (halves the file).
    """
    header = {"kind": kind, "version": FORMAT_VERSION, "config": dict(config), "meta": dict(meta)}
    tensors = {
        name: (tensor.half() if half and tensor.is_floating_point() else tensor).detach().cpu().contiguous().clone()
        for name, tensor in state.items()
    }
    with atomic_path(path) as temporary:
        # serialised in memory first: safetensors' own file writer hides the reason of a failed write
        temporary.write_bytes(save(tensors, {"stylefactory": json.dumps(header, sort_keys=True)}))


def read_header(path: Path) -> dict[str, Any]:
    """The JSON header of a model file: kind, version, config, meta.

    Raises:
        ModelFileError: absent, not safetensors, damaged, or without our header.
    """
    path = Path(path)
    if not path.is_file():
        raise ModelFileError(f"{path}: no such model file")
    try:
        with safe_open(path, "pt") as file:
            text = (file.metadata() or {}).get("stylefactory")
        header = json.loads(text) if text else None
    except (SafetensorError, OSError, ValueError) as error:
        raise ModelFileError(f"{path}: not a readable safetensors model ({error})") from error
    if not isinstance(header, dict) or not isinstance(header.get("kind"), str):
        raise ModelFileError(
            f"{path}: has no Style Factory header; 'stylefactory weights import' converts other models"
        )
    if not isinstance(header.get("config"), dict) or not isinstance(header.get("meta"), dict):
        raise ModelFileError(f"{path}: its header lacks config or meta; the file is damaged")
    if header.get("version") != FORMAT_VERSION:
        raise ModelFileError(f"{path}: format version {header.get('version')}, this program reads {FORMAT_VERSION}")
    return header


def load_model(path: Path, kind: str) -> ModelFile:
    """Reads a model file of the given kind; float16 tensors come back as float32.

    Raises:
        ModelFileError: absent, damaged, or of another kind than ``kind`` (the message says which was found).
    """
    header = read_header(path)
    if header["kind"] != kind:
        raise ModelFileError(f"{path}: holds a model of kind '{header['kind']}', expected '{kind}'")
    try:
        with safe_open(path, "pt") as file:
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no iteration protocol)
    except (SafetensorError, OSError, ValueError) as error:
        raise ModelFileError(f"{path}: damaged ({error})") from error
    state = {name: tensor.float() if tensor.dtype == torch.float16 else tensor for name, tensor in state.items()}
    return ModelFile(kind, state, header["config"], header["meta"])


def load_state(module: torch.nn.Module, state: Mapping[str, torch.Tensor], path: object) -> None:
    """``module.load_state_dict`` that refuses every missing, extra or misshapen tensor by name.

    Raises:
        ModelFileError: names the first differences, with the shape expected.
    """
    wanted = {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}
    found = {name: tuple(tensor.shape) for name, tensor in state.items()}
    wrong = [f"{name} missing, expected {wanted[name]}" for name in wanted if name not in found]
    wrong += [f"{name} not expected" for name in found if name not in wanted]
    wrong += [f"{n} is {found[n]}, expected {wanted[n]}" for n in wanted if n in found and wanted[n] != found[n]]
    if wrong:
        more = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        raise ModelFileError(f"{path}: does not fit this network: {'; '.join(wrong[:3])}{more}")
    module.load_state_dict(dict(state))


def file_hash(path: Path, digits: int = 64) -> str:
    """SHA-256 of a file as hex, shortened to ``digits``."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:digits]
