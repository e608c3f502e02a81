"""Runs an exported model: MNN with a checked file, or a batch of pictures through :class:`MobileStylizer`."""

import contextlib
import json
import os
import reprlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from stages.common.device import usable_cores
from stages.common.errors import ModelFileError
from stages.common.modelfile import file_hash

SIDECAR_VERSION = 1
LARGEST_SIDE = 2048  # pixels; the most that export.size allows
EXPORT = "export the model again: 'stylefactory run STYLE --upto export'"


@contextlib.contextmanager
def silent() -> Iterator[None]:
    """Keeps what C++ libraries print (MNN does on import and on every model) off standard output and error."""
    import sys

    sys.stdout.flush()
    saved = [os.dup(1), os.dup(2)]
    with Path(os.devnull).open("w") as nothing:
        os.dup2(nothing.fileno(), 1)
        os.dup2(nothing.fileno(), 2)
        try:
            yield
        finally:
            for number, copy in enumerate(saved, 1):
                os.dup2(copy, number)
                os.close(copy)


@cache
def mnn() -> Any:
    """The MNN package, imported without its greeting."""
    with silent():
        import MNN
        import MNN.expr
        import MNN.nn
    return MNN


class MnnModule:
    """A bare .mnn file: float32 arrays in, float32 arrays out. Knows nothing of sizes or sidecars.

    Args:
        path: the model. threads: CPU threads. outputs: names in the order wanted.

    Raises:
        ModelFileError: MNN cannot load it.
    """

    def __init__(self, path: Path, threads: int = 1, outputs: tuple[str, ...] = ("styled", "mask")) -> None:
        package = mnn()
        settings = ({"backend": "CPU", "numThread": threads, "precision": "high"},)
        with silent():
            self._manager = package.nn.create_runtime_manager(settings)
            try:
                self._module = package.nn.load_module_from_file(
                    str(path), ["image"], list(outputs), runtime_manager=self._manager
                )
            except (RuntimeError, ValueError, TypeError) as error:
                raise ModelFileError(f"{path}: MNN cannot load this model ({error})") from error
        if self._module is None:
            raise ModelFileError(f"{path}: MNN cannot load this model")

    def __call__(self, image: np.ndarray) -> list[np.ndarray]:
        """float32 [1, 3, H, W] → one float32 array per output; for models of this project in [-1, 1]."""
        expr = mnn().expr
        value = expr.const(np.ascontiguousarray(image, np.float32), list(image.shape), expr.NCHW)
        results = self._module.forward([value])
        return [np.array(expr.convert(result, expr.NCHW).read()) for result in results]


Count = Annotated[int, Field(ge=0)]
Side = Annotated[int, Field(ge=1, le=LARGEST_SIDE)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Words = Annotated[str, Field(min_length=1)]


class _Part(BaseModel):
    """Types are taken as they stand ("64" is no number); keys that are not described here may be there, too."""

    model_config = ConfigDict(strict=True, frozen=True, extra="ignore")


class InputContent(_Part):
    """``input`` of the sidecar: the one tensor the model takes. This program feeds no other kind."""

    name: Literal["image"]
    layout: Literal["NCHW"]
    channels: Literal["RGB"]
    type: Literal["float32"]
    from_uint8: Words = Field("value / 127.5 - 1", description="How a byte becomes what the model takes.")
    alignment: Words | None = Field(None, description="Which crop of a photo it is.")


class OutputsContent(_Part):
    """``outputs`` of the sidecar: what each of the two tensors means, in words."""

    styled: Words
    mask: Words


class FileContent(_Part):
    """One model file: an entry of ``files`` of the sidecar, or ``golden``."""

    sha256: Sha256
    file: Words | None = Field(None, description="Its name; in files the entry's key is the name.")
    bytes: Count | None = Field(None, description="Its size.")
    sizes: list[Count] | None = Field(None, description="Input sides at which it was compared with torch, pixels.")
    max_error: float | None = Field(None, ge=0, description="Largest difference to torch, scale [-1, 1].")
    mean_error: float | None = Field(None, ge=0, description="Mean difference to torch; null where not measured.")


class SidecarContent(_Part):
    """``mobile.json`` as :func:`stages.mobile.export.describe` writes it. What has a default may be missing."""

    kind: Literal["stylefactory-mobile"]
    version: Literal[1] = Field(description="SIDECAR_VERSION; another one may mean other keys.")
    style: Words
    tier: Words = Field(description="Compute of the network: xs, s, m or l.")
    size: Side = Field(description="Side of the input the model was trained for, pixels; a multiple of `multiple`.")
    multiple: Side = Field(description="Sides of inputs must be multiples of it, pixels.")
    dynamic: bool = Field(description="Whether it takes other sides than `size`.")
    input: InputContent
    outputs: OutputsContent
    files: dict[str, FileContent] = Field(description="The .mnn and .onnx files by name.")
    licence: str = ""
    parameters: Count | None = Field(None, description="Trainable numbers.")
    macs_256: Count | None = Field(None, description="Multiply-accumulates at 256 × 256 pixels.")
    golden: FileContent | None = Field(None, description="An input with the outputs it must give, npz.")
    training: dict[str, Any] = Field({}, description="Seed, parents, figures and settings; read by people only.")


@dataclass(frozen=True)
class Sidecar:
    """What ``mobile.json`` says about the model files beside it; ``content`` fits :class:`SidecarContent`."""

    path: Path
    content: dict[str, Any]

    @property
    def size(self) -> int:
        """Side of the input the model was trained for, pixels."""
        return int(self.content["size"])


def check_sidecar(content: Any, path: Path) -> SidecarContent:
    """The parsed JSON of the sidecar ``path``, every value looked at.

    Raises:
        ModelFileError: another kind or version, a missing key or a value that cannot be; one line for all of it.
    """
    if not isinstance(content, dict) or content.get("kind") != "stylefactory-mobile":
        raise ModelFileError(f"{path}: not the sidecar of a mobile model; {EXPORT}")
    version = content.get("version", SIDECAR_VERSION)
    # before the rest: another version may have other keys
    if type(version) is int and version != SIDECAR_VERSION:
        raise ModelFileError(f"{path}: version {reprlib.repr(version)}, this program reads {SIDECAR_VERSION}; {EXPORT}")
    try:
        checked = SidecarContent.model_validate(content)
    except ValidationError as error:
        mistakes = [_mistake(part) for part in error.errors(include_url=False)]
        more = f" and {len(mistakes) - 3} more" if len(mistakes) > 3 else ""
        raise ModelFileError(f"{path}: {'; '.join(mistakes[:3])}{more}; {EXPORT}") from error
    if checked.size % checked.multiple:
        raise ModelFileError(f"{path}: size: {checked.size} is no multiple of {checked.multiple}; {EXPORT}")
    return checked


def _mistake(part: Any) -> str:
    """One mistake as pydantic tells it: its key, the value, what is allowed; on one line whatever the key is."""
    key = " ".join(".".join(map(str, part["loc"])).split())
    if part["type"] == "missing":
        return f"lacks {key}"
    return f"{key}: {reprlib.repr(part['input'])}: {part['msg'].replace('Input should', 'must')}"


def read_sidecar(model: Path) -> Sidecar:
    """The checked sidecar of ``X.mnn``, ``X.fp16.mnn`` or ``X.int8.mnn``: ``X.json`` in the same folder.

    Raises:
        ModelFileError: model or sidecar absent, damaged, of another kind or version, or not belonging together; or a
            value of the sidecar that cannot be (:class:`SidecarContent` says what can).
    """
    model = Path(model)
    if not model.is_file():
        raise ModelFileError(f"{model}: no such model file")
    if model.suffix != ".mnn":
        raise ModelFileError(f"{model}: not a .mnn file; 'stylefactory run' exports one to models/STYLE/mobile.mnn")
    path = model.with_name(model.name.split(".")[0] + ".json")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ModelFileError(f"{path}: missing; it belongs beside {model.name} and says how to feed it") from error
    except (OSError, ValueError, RecursionError) as error:  # the last: thousands of open brackets
        raise ModelFileError(f"{path}: not a readable sidecar ({error}); {EXPORT}") from error
    known = check_sidecar(content, path).files.get(model.name)
    # MNN may crash the process on a damaged file, so the hash comes first
    if known is None or known.sha256 != file_hash(model):
        raise ModelFileError(f"{model}: is not the file its sidecar {path.name} describes (cut short or replaced)")
    return Sidecar(path, content)


class MobileStylizer:
    """Stylises aligned face pictures with an exported model.

    >>> stylizer = MobileStylizer(Path("models/avatar/mobile.mnn"))
    >>> styled = stylizer(aligned_rgb)  # uint8 [H, W, 3] in and out

    Args:
        path: the .mnn file, its sidecar beside it.
        threads: CPU threads; 0 takes all cores.

    Attributes:
        size: side the model was trained for; align faces to it.

    Raises:
        ModelFileError: anything wrong with model or sidecar, before MNN touches the file.
    """

    def __init__(self, path: Path, threads: int = 0) -> None:
        self.sidecar = read_sidecar(path)
        self.size = self.sidecar.size
        self._module = MnnModule(Path(path), threads or usable_cores())

    def __call__(self, rgb: np.ndarray) -> np.ndarray:
        """uint8 [H, W, 3] aligned face → uint8 [H, W, 3] styled, background untouched."""
        return self.run(rgb)[0]

    def run(self, rgb: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """As :meth:`__call__`, with the mask: uint8 [H, W, 3] and float32 [H, W] in [0, 1].

        Raises:
            ValueError: not uint8 [H, W, 3], or a size the model does not take.
        """
        self._check(rgb)
        image = rgb.astype(np.float32).transpose(2, 0, 1)[None] / 127.5 - 1
        styled, mask = self._module(image)
        pixels = np.clip(styled[0].transpose(1, 2, 0) * 127.5 + 128, 0, 255).astype(np.uint8)
        return pixels, np.clip(mask[0, 0], 0, 1)

    def _check(self, rgb: np.ndarray) -> None:
        if rgb.dtype != np.uint8 or rgb.ndim != 3 or rgb.shape[2] != 3:
            raise ValueError(f"expected uint8 [H, W, 3], got {rgb.dtype} {list(rgb.shape)}")
        height, width = rgb.shape[:2]
        if not self.sidecar.content["dynamic"] and (height, width) != (self.size, self.size):
            raise ValueError(f"this model takes {self.size}×{self.size} pictures only, got {height}×{width}")
        multiple = int(self.sidecar.content["multiple"])
        if height % multiple or width % multiple or not height or not width:
            raise ValueError(f"sides must be multiples of {multiple}, got {height}×{width}")
