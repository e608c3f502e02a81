"""Official StyleGAN2-ADA / StyleGAN3-repository pickles, read without executing anything in them.

Their modules reduce to `torch_utils.persistence._reconstruct_persistent_obj(meta)`, whose official implementation
exec()s source code carried in the file. Here that one function makes a plain record, a short list of numpy and torch
rebuilding functions is allowed, and every other global is refused by name before it is looked up.
"""

import collections
import io
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from stages.common.errors import ModelFileError

try:  # numpy 2 moved its private modules
    from numpy._core import multiarray as _multiarray
except ImportError:  # pragma: no cover
    from numpy.core import multiarray as _multiarray  # type: ignore[no-redef]


class PersistentRecord:
    """A module of the file: its class name and its state, as data."""

    def __init__(self, meta: dict[str, Any]) -> None:
        self.class_name = str(meta.get("class_name", "?"))
        self.state: dict[str, Any] = dict(meta.get("state") or {})


class _EasyDict(dict[str, Any]):
    """The official dictionary with attribute access, as a plain dictionary."""


def _load_from_bytes(data: bytes) -> Any:
    """Tensor storages are pickles again; torch reads them with its own restricted reader."""
    return torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)


def _rebuild_parameter(data: Tensor, requires_grad: bool, hooks: object) -> Tensor:
    return data


_NUMPY_CORE = ("numpy.core.multiarray", "numpy._core.multiarray")
_ALLOWED: dict[tuple[str, str], Callable[..., Any]] = {
    ("torch_utils.persistence", "_reconstruct_persistent_obj"): PersistentRecord,
    ("collections", "OrderedDict"): collections.OrderedDict,
    ("dnnlib.util", "EasyDict"): _EasyDict,
    ("torch._utils", "_rebuild_tensor_v2"): torch._utils._rebuild_tensor_v2,
    ("torch._utils", "_rebuild_parameter"): _rebuild_parameter,
    ("torch.storage", "_load_from_bytes"): _load_from_bytes,
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    **{(module, "_reconstruct"): _multiarray._reconstruct for module in _NUMPY_CORE},
    **{(module, "scalar"): _multiarray.scalar for module in _NUMPY_CORE},
}


class _Reader(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        try:
            return _ALLOWED[(module, name)]
        except KeyError:
            raise ModelFileError(
                f"refused: the pickle asks for {module}.{name}, which no StyleGAN2 file needs"
            ) from None


def read_official_pickle(path: Path) -> dict[str, dict[str, Tensor]]:
    """Parameters and buffers of an official network pickle.

    Returns:
        {"G": ..., "D": ...} under official names, G being G_ema; "D" only where the file has one.

    Raises:
        ModelFileError: anything but the modules, tensors and arrays of such a file (the refused name is given), a
            damaged file, or one without a generator.
    """
    try:
        with path.open("rb") as file:
            content = _Reader(file).load()
        return _networks(content, path)
    except ModelFileError as error:
        text = str(error)
        raise ModelFileError(text if text.startswith(str(path)) else f"{path}: {text}") from error
    except Exception as error:  # a damaged pickle, or modules that hold anything, can raise nearly anything
        raise ModelFileError(f"{path}: damaged or not a pickle ({type(error).__name__})") from error


def _networks(content: Any, path: Path) -> dict[str, dict[str, Tensor]]:
    """The parameters of the records a pickle was read to."""
    if not isinstance(content, dict):
        raise ModelFileError(f"{path}: not an official network pickle (no dictionary of networks)")
    out: dict[str, dict[str, Tensor]] = {}
    for part, names in {"G": ("G_ema", "G"), "D": ("D",)}.items():
        record = next((content[n] for n in names if isinstance(content.get(n), PersistentRecord)), None)
        if record is not None:
            _refuse_other_architectures(path, record)
            out[part] = {}
            _collect(record, "", out[part], path)
    if "G" not in out:
        raise ModelFileError(f"{path}: holds no G_ema or G network")
    return out


def _refuse_other_architectures(path: Path, record: PersistentRecord) -> None:
    arguments = record.state.get("_init_kwargs")
    arguments = arguments if isinstance(arguments, dict) else {}
    if arguments.get("c_dim"):
        raise ModelFileError(f"{path}: class-conditional networks (c_dim {arguments['c_dim']}) are not supported")
    if arguments.get("magnitude_ema_beta") is not None:
        raise ModelFileError(f"{path}: a StyleGAN3 generator; only StyleGAN2 networks can be imported")
    wanted = {"Generator": "skip", "Discriminator": "resnet"}.get(record.class_name)
    nested = arguments.get("synthesis_kwargs") if record.class_name == "Generator" else arguments
    found = nested.get("architecture") if isinstance(nested, dict) else None
    if wanted and found not in (None, wanted):
        raise ModelFileError(f"{path}: {record.class_name} of architecture '{found}', expected '{wanted}'")


def _collect(record: PersistentRecord, prefix: str, out: dict[str, Tensor], path: Path) -> None:
    """Walk the module tree as torch keeps it in its state."""
    for kind in ("_parameters", "_buffers"):
        for name, value in (record.state.get(kind) or {}).items():
            if value is None:
                continue
            if not isinstance(value, Tensor):
                raise ModelFileError(f"{path}: {prefix}{name} is {type(value).__name__}, not a tensor")
            out[f"{prefix}{name}"] = value
    for name, child in (record.state.get("_modules") or {}).items():
        if isinstance(child, PersistentRecord):
            _collect(child, f"{prefix}{name}.", out, path)
