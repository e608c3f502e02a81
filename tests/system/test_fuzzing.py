"""Damaged and hostile input: whatever a file holds, its reader gives the typed error or a value, and runs nothing.

Settings given as values are fuzzed in tests/pipeline/test_settings.py; here it is the text of params.yaml, every CSV
that people write, the phone model's sidecar, the headers of model files, and weights of other projects.
"""

import io
import json
import pickle
import struct
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from pipeline.releases import _append
from pipeline.settings import load_settings
from stages.common.dataset import FaceDataset
from stages.common.errors import FactoryError, InputError, ModelFileError, SettingsError
from stages.common.modelfile import load_model, read_header, save_model
from stages.faces.locate import read_landmarks
from stages.faces.photos import read_holdout
from stages.generate.curation import dropped, kept
from stages.generate.encoder import load_encoder
from stages.generate.import_weights import read_weights
from stages.generate.models import load_stylegan, save_stylegan
from stages.generate.networks import Architecture, Discriminator, Generator
from stages.generate.review import read_styled
from stages.generate.training_photos import _without
from stages.mobile.models import load_mobile
from stages.mobile.runtime import NEEDED, SIDECAR_VERSION, read_sidecar
from stages.pair.models import load_translator
from tests.generate.test_weights import official_pickle, rosinality

REPO = Path(__file__).resolve().parents[2]
ARCH = Architecture(16, 12, 8, 3, channel_base=64, channel_max=8)


def fuzz(examples: int) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Always the same examples: a failure here is a failure for everybody."""
    silenced = [HealthCheck.too_slow, HealthCheck.data_too_large]
    return hypothesis_settings(
        max_examples=examples, deadline=None, derandomize=True, database=None, suppress_health_check=silenced
    )


@contextmanager
def file_of(data: bytes, name: str) -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        yield path


def refused_or_read(read: Callable[[], object], kind: type[FactoryError]) -> None:
    """The reader returns, or raises ``kind`` with one line; anything else fails the test."""
    try:
        read()
    except kind as error:
        text = str(error)
        assert text and "Traceback" not in text and "\n" not in text


@st.composite
def damaged(draw: st.DrawFn, valid: bytes, splices: tuple[bytes, ...] = ()) -> bytes:
    """Random bytes, or ``valid`` with bytes flipped, cut out, doubled, replaced by ``splices``, or cut short."""
    if draw(st.integers(0, 7)) == 0:
        return draw(st.binary(max_size=200))
    data = bytearray(valid)
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, max(0, len(data) - 1)))
        way = draw(st.sampled_from(("flip", "cut", "double", "splice", "end")))
        if way == "flip" and data:
            data[at] = draw(st.integers(0, 255))
        elif way == "cut":
            del data[at : at + draw(st.integers(1, 20))]
        elif way == "double":
            data[at:at] = data[at : at + draw(st.integers(1, 20))]
        elif way == "splice":
            data[at : at + draw(st.integers(0, 8))] = draw(
                st.sampled_from(splices) if splices else st.binary(max_size=8)
            )
        else:
            del data[at:]
    return bytes(data)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


# --- settings ---------------------------------------------------------------------------------------------------

# the reader is a pure Python one, so the fuzzed text is a part of params.yaml and the rest is missing
HEAD = (REPO / "params.yaml").read_bytes()[:900]
YAML = (b"!!timestamp x", b"!!int _", b"0x", b"{[]: 1}", b"&a [*a]", b"*b", b"!!python/object:os.system x", b"? [1]",
        b"!!float .", b"<<: 3", b"2001-99-99", b"!!binary =", b"\t", b"%YAML 9.9\n", b"!!set {1}", b"!!omap [1]",
        b"190:20:30", b"\xff", b"\x00", b"- ", b": ", b"\n---\n")  # fmt: skip


@fuzz(60)
@given(damaged(HEAD, YAML))
def test_params_text(data: bytes) -> None:
    with file_of(data, "params.yaml") as path, pytest.raises(SettingsError) as caught:
        load_settings(path)
    assert str(caught.value).startswith(str(path))


@pytest.mark.parametrize("scalar", YAML)
def test_odd_yaml_values(scalar: bytes) -> None:
    with file_of(b"common:\n  seed: " + scalar + b"\n", "params.yaml") as path, pytest.raises(SettingsError):
        load_settings(path)


def test_deep_yaml() -> None:
    with file_of(b"[" * 3000, "params.yaml") as path, pytest.raises(SettingsError):
        load_settings(path)


# --- CSVs -------------------------------------------------------------------------------------------------------

CELLS = (
    b",",
    b"\n",
    b'"',
    b"\r",
    b"nan",
    b"1e999",
    b"-",
    b"\x00",
    b"\xff\xfe",
    b"\xef\xbb\xbf",
    b",,,,,,,",
    b"inf",
    b"x",
)
LANDMARKS = (
    b"file,eye_l_x,eye_l_y,eye_r_x,eye_r_y,mouth_x,mouth_y\n"
    b"a.png,10,20.5,30,20,20,40\nb.png,10,20,30,20,,\nc.png,,,,,,\n"
)  # fmt: skip
CURATION = b"id,decision,reason\n000001,keep,\n000002,drop,blurred\n000003,,\n"
HOLDOUT = b"file,person\na.png,anna\n,bert\n"
INDEX = b"id,split,photo_id,person\n000,train,1,anna\n001,val,2,bert\n"


@fuzz(60)
@given(damaged(LANDMARKS, CELLS))
def test_landmarks(data: bytes) -> None:
    with file_of(data, "landmarks.csv") as path:
        refused_or_read(lambda: read_landmarks(path.parent), InputError)


@fuzz(60)
@given(damaged(CURATION, CELLS))
def test_curation(data: bytes) -> None:
    with file_of(data, "s.csv") as path:
        refused_or_read(lambda: (dropped(path), kept(path)), InputError)


@fuzz(60)
@given(damaged(HOLDOUT, CELLS))
def test_holdout_and_exclusion(data: bytes) -> None:
    with file_of(data, "holdout.csv") as path:
        refused_or_read(lambda: read_holdout(path), InputError)
        refused_or_read(lambda: _without([path.parent / "a.png"], path.parent, path), InputError)


@fuzz(40)
@given(damaged(INDEX, CELLS))
def test_index_of_styled_faces(data: bytes) -> None:
    with file_of(data, "data/styled/s/index.csv") as path:
        refused_or_read(lambda: read_styled(path.parents[3], "s"), InputError)


@fuzz(40)
@given(damaged(INDEX, CELLS))
def test_index_of_a_dataset(data: bytes) -> None:
    """No pictures lie beside the index, so that every index ends in an error; it must be the typed one."""
    with file_of(data, "d/index.csv") as path, pytest.raises(InputError):
        FaceDataset(path.parent, 16, "train", cache=path.parents[1] / "cache")


@fuzz(40)
@given(damaged(b"style,version,tag\none,1,style/one/v1\n", CELLS))
def test_releases_list_keeps_what_it_holds(data: bytes) -> None:
    """releases.csv is only ever added to: the old lines stay and the new one is a line of its own."""

    def append_and_look() -> None:
        _append(path, ("two", 1))
        text = path.read_bytes()
        assert text.endswith(b"\ntwo,1\n") and text.startswith(data)

    with file_of(data, "releases.csv") as path:
        refused_or_read(append_and_look, FactoryError)


# --- the phone model's sidecar ----------------------------------------------------------------------------------

MNN = b"no model"
SIDECAR = dict.fromkeys(NEEDED, 1) | {
    "kind": "stylefactory-mobile", "version": SIDECAR_VERSION, "size": 64,
    "files": {"mobile.mnn": {"sha256": "29d3ab8a4bd4b0b0b8cd3a1c7d4b2a21a0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0"}},
}  # fmt: skip


def read_beside(text: bytes) -> None:
    with file_of(MNN, "mobile.mnn") as path:
        path.with_suffix(".json").write_bytes(text)
        with pytest.raises(ModelFileError):
            read_sidecar(path)


@fuzz(60)
@given(damaged(json.dumps(SIDECAR).encode()))
def test_sidecar_text(data: bytes) -> None:
    read_beside(data)


@fuzz(60)
@given(st.sampled_from(sorted(SIDECAR)), json_values)
def test_sidecar_values(key: str, value: object) -> None:
    read_beside(json.dumps(SIDECAR | {key: value}).encode())


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
