"""Damaged params.yaml, CSVs people write and sidecars: the typed error or a value, never a crash."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.releases import _append
from pipeline.settings import load_settings
from stages.common.dataset import FaceDataset
from stages.common.errors import FactoryError, InputError, ModelFileError, SettingsError
from stages.faces.locate import read_landmarks
from stages.faces.photos import read_holdout
from stages.generate.curation import dropped, kept
from stages.generate.review import read_styled
from stages.generate.training_photos import _without
from stages.mobile.runtime import NEEDED, SIDECAR_VERSION, read_sidecar
from tests.system.damage import REPO, damaged, file_of, fuzz, json_values, refused_or_read

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
