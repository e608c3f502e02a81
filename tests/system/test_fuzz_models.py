"""Damaged and hostile model files, ours and other projects': the typed error or a value, and nothing is executed."""

import io
import json
import pickle
import struct
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from stages.common.errors import ModelFileError
from stages.common.modelfile import load_model, read_header, save_model
from stages.generate.encoder import load_encoder
from stages.generate.import_weights import read_weights
from stages.generate.models import load_stylegan, save_stylegan
from stages.generate.networks import Discriminator, Generator
from stages.mobile.models import load_mobile
from stages.pair.models import load_translator
from tests.generate.test_weights import official_pickle, rosinality
from tests.system.damage import ARCH, damaged, file_of, fuzz, json_values, refused_or_read

# --- model files ------------------------------------------------------------------------------------------------


@cache
def nets() -> tuple[Generator, Discriminator]:
    torch.manual_seed(0)
    return Generator(ARCH).eval(), Discriminator(ARCH).eval()


@cache
def model_file() -> bytes:
    with file_of(b"", "m.safetensors") as path:
        save_model(path, "toy", {"w": torch.zeros(3)}, {"width": 3}, {"licence": "none"})
        return path.read_bytes()


def safetensors(metadata: object) -> bytes:
    """A file without tensors whose header is ours, made by hand so that any text can stand in it."""
    text = metadata if isinstance(metadata, str) else json.dumps(metadata)
    header = json.dumps({"__metadata__": {"stylefactory": text}}).encode()
    return struct.pack("<Q", len(header)) + header


@fuzz(80)
@given(st.deferred(lambda: damaged(model_file())))
def test_model_file_bytes(data: bytes) -> None:
    with file_of(data, "m.safetensors") as path:
        refused_or_read(lambda: load_model(path, "toy"), ModelFileError)


@fuzz(80)
@given(st.sampled_from(("kind", "version", "config", "meta", "")), json_values)
def test_model_headers(key: str, value: object) -> None:
    header = {"kind": "toy", "version": 1, "config": {}, "meta": {}} | {key: value}
    with file_of(safetensors(header if key else value), "m.safetensors") as path:
        refused_or_read(lambda: read_header(path), ModelFileError)


LOADERS = {"stylegan2": load_stylegan, "encoder": load_encoder, "translator": load_translator, "mobile": load_mobile}
KEYS = ("resolution", "num_ws", "w_dim", "z_dim", "tier", "shape", "width", "channels", "blocks", "style", "mask")
small = st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=3) | st.lists(st.integers(-9, 9), max_size=2)


@pytest.mark.parametrize("kind", LOADERS)
@fuzz(25)
@given(config=st.dictionaries(st.sampled_from(KEYS), small, max_size=4))
def test_networks_of_odd_headers(kind: str, config: dict[str, object]) -> None:
    """Valid files of the right kind whose header describes no network, or another one."""
    header = {"kind": kind, "version": 1, "config": config, "meta": {}}
    with file_of(safetensors(header), "m.safetensors") as path, pytest.raises(ModelFileError):
        LOADERS[kind](path)


# --- weights of other projects ----------------------------------------------------------------------------------

# what code in a pickle would need, seen by Python's audit hooks whoever calls it
FORBIDDEN = ("os.system", "os.exec", "os.posix_spawn", "os.fork", "subprocess.Popen", "socket.", "ctypes.",
             "os.remove", "os.rename", "shutil.", "pickle.find_class", "webbrowser.")  # fmt: skip
_seen: list[str] | None = None


def _listen(event: str, _arguments: object) -> None:
    if _seen is not None and event.startswith(FORBIDDEN):
        _seen.append(event)


@contextmanager
def nothing_executed() -> Iterator[None]:
    global _seen
    if not getattr(sys, "_fuzzing_listens", False):  # a hook can never be taken away again: one is enough
        sys.addaudithook(_listen)
        sys._fuzzing_listens = True  # type: ignore[attr-defined]
    _seen = []
    try:
        yield
        assert _seen == []
    finally:
        _seen = None


@cache
def foreign(suffix: str) -> bytes:
    """A valid file of another project."""
    G, D = nets()
    if suffix == ".pkl":
        return official_pickle({"G_ema": (G, "Generator", {"c_dim": 0}), "D": (D, "Discriminator", {})})
    if suffix == ".pt":
        out = io.BytesIO()
        torch.save(rosinality(G, D), out)
        return out.getvalue()
    with file_of(b"", "m.safetensors") as path:
        save_stylegan(path, G, D, {})
        return path.read_bytes()


GLOBALS = tuple(
    f"c{name}\n".encode()
    for name in ("os\nsystem", "builtins\neval", "builtins\ngetattr", "subprocess\nPopen", "numpy\nndarray",
                 "collections\nOrderedDict", "torch._utils\n_rebuild_tensor_v2", "torch.storage\n_load_from_bytes",
                 "torch_utils.persistence\n_reconstruct_persistent_obj", "numpy\ndtype")
)  # fmt: skip
OPCODES = (
    *GLOBALS,
    b"R",
    b"(",
    b"t",
    b"}",
    b"]",
    b"N",
    b"0",
    b"b",
    b"u",
    b"\x81",
    b"\x93",
    b"S'touch x'\n",
    b"K\x05",
    b".",
)


def read_foreign(data: bytes, suffix: str) -> None:
    with file_of(data, f"m{suffix}") as path, nothing_executed():
        refused_or_read(lambda: read_weights(path), ModelFileError)


@pytest.mark.parametrize("suffix", [".pkl", ".pt", ".safetensors"])
def test_undamaged_files_are_read(suffix: str) -> None:
    """The mutations below start from files that are valid."""
    with file_of(foreign(suffix), f"m{suffix}") as path, nothing_executed():
        assert read_weights(path).discriminator is not None


@pytest.mark.parametrize("suffix", [".pkl", ".pt", ".safetensors"])
@fuzz(40)
@given(data=st.data())
def test_damaged_weights(suffix: str, data: st.DataObject) -> None:
    read_foreign(data.draw(damaged(foreign(suffix), OPCODES)), suffix)


@fuzz(150)
@given(st.lists(st.sampled_from(OPCODES), max_size=12))
def test_pickle_programs(program: list[bytes]) -> None:
    read_foreign(b"\x80\x04" + b"".join(program) + b".", ".pkl")


@fuzz(60)
@given(st.sampled_from(("_parameters", "_buffers", "_modules", "_init_kwargs", "")), json_values)
def test_modules_of_odd_content(key: str, value: object) -> None:
    """Well-formed pickles whose modules hold anything."""
    meta = {"class_name": "Generator", "state": {key: value} if key else value}
    program = b"ctorch_utils.persistence\n_reconstruct_persistent_obj\n" + _embedded((meta,)) + b"R"
    read_foreign(b"\x80\x04}" + _embedded("G_ema") + program + b"s.", ".pkl")


def _embedded(value: object) -> bytes:
    """The opcodes that put a value on the stack (protocol 2 has no frames)."""
    return pickle.dumps(value, 2)[2:-1]


def test_module_that_holds_itself() -> None:
    """A cycle through a shared dictionary, as pickle's memo allows."""
    modules: dict[str, Any] = {}
    meta = {"class_name": "Generator", "state": {"_modules": modules}}
    body = _embedded((meta, modules))[:-1]  # without TUPLE2: meta and modules stay on the stack
    make = b"q\x70" + b"0" + b"q\x71" + b"0" + b"ctorch_utils.persistence\n_reconstruct_persistent_obj\n"
    program = body + make + b"h\x71\x85Rq\x72" + b"0" + b"h\x70" + _embedded("self") + b"h\x72s0"
    with (
        file_of(b"\x80\x04" + program + b"}" + _embedded("G_ema") + b"h\x72s.", "m.pkl") as path,
        pytest.raises(ModelFileError),
    ):
        read_weights(path)


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
@fuzz(50)
@given(data=st.data())
def test_tensors_of_odd_shapes(suffix: str, data: st.DataObject) -> None:
    """Valid files with one tensor of another shape: refused by name, never an IndexError of the conversion."""
    shape = data.draw(st.lists(st.integers(0, 4), max_size=3))
    G, D = nets()
    with file_of(b"", f"m{suffix}") as path:
        if suffix == ".pt":
            content = rosinality(G, D)
            parts = {part: dict(content[part]) for part in ("g_ema", "d")} | {"latent_avg": content["latent_avg"]}
            part = data.draw(st.sampled_from(("g_ema", "d")))
            parts[part][data.draw(st.sampled_from(sorted(parts[part])))] = torch.zeros(shape)
            torch.save(parts, path)
        else:
            state = {f"G.{k}": v for k, v in G.state_dict().items()} | {f"D.{k}": v for k, v in D.state_dict().items()}
            state[data.draw(st.sampled_from(sorted(state)))] = torch.zeros(shape)
            save_model(path, "stylegan2", state, ARCH.as_dict(), {})
        refused_or_read(lambda: read_weights(path), ModelFileError)
