"""Damaged params.yaml, CSVs people write and sidecars: the typed error or a value, never a crash."""

import json
from hashlib import sha256
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.releases import _append
from pipeline.settings import load_settings
from pipeline.settings.mobile import ExportSettings
from stages.common.dataset import FaceDataset
from stages.common.errors import FactoryError, InputError, ModelFileError, SettingsError
from stages.faces.locate import read_landmarks
from stages.faces.photos import read_holdout
from stages.generate.curation import dropped, kept
from stages.generate.review import read_styled
from stages.generate.training_photos import _without
from stages.mobile import runtime
from stages.mobile.export import describe
from stages.mobile.frame import FrameStylizer, Options
from stages.mobile.network import STRIDE, MobileNet
from stages.mobile.runtime import LARGEST_SIDE, MobileStylizer, SidecarContent
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
HASH = sha256(MNN).hexdigest()


def whole_sidecar() -> dict[str, Any]:
    """What export writes for MNN, through JSON."""
    figures = {"bytes": len(MNN), "sha256": HASH, "sizes": [64, 96], "max_error": 1e-6, "mean_error": 1e-7}
    with mock.patch("stages.mobile.export.file_hash", return_value=HASH):
        content = describe(MobileNet("xs"), {"licence": "CC0"}, "toy", 64, True, Path(), {"mobile.mnn": figures})
    return json.loads(json.dumps(content))


SIDECAR = whole_sidecar()
REQUIRED = {name for name, field in SidecarContent.model_fields.items() if field.is_required()}
PLACES: list[tuple[str, ...]] = [(key,) for key in SIDECAR] + [
    *(("input", key) for key in SIDECAR["input"]),
    *(("outputs", key) for key in SIDECAR["outputs"]),
    *(("files", "mobile.mnn", key) for key in SIDECAR["files"]["mobile.mnn"]),
    *(("golden", key) for key in SIDECAR["golden"]),
    ("files", "\n"),
    ("unknown",),
]  # fmt: skip
# near what is right: these get further than values of any kind
NEAR: tuple[object, ...] = (-3, 0, 1, 16, 24, 64, 2048, 4096, 64.0, "64", "x", True, None, float("nan"), HASH, {}, [])
near_values = st.sampled_from(NEAR)


def changed(place: tuple[str, ...], value: object) -> dict[str, Any]:
    tree = json.loads(json.dumps(SIDECAR))
    node = tree
    for key in place[:-1]:
        node = node[key]
    node[place[-1]] = value
    return tree


class Untouched:
    """Stands for MNN's module: the photo as it is and an empty mask."""

    def __init__(self, path: Path, threads: int) -> None: ...

    def __call__(self, image: np.ndarray) -> list[np.ndarray]:
        return [image, np.zeros_like(image[:, :1])]


def used(text: bytes) -> None:
    """What stylize does with a model, MNN itself left out: refused in one line, or pictures go through."""
    with file_of(MNN, "mobile.mnn") as path, mock.patch.object(runtime, "MnnModule", Untouched):
        path.with_suffix(".json").write_bytes(text)
        try:
            stylizer = MobileStylizer(path)
        except ModelFileError as error:
            message = str(error)
            assert message.startswith(str(path.parent)) and "\n" not in message
            return
        side = stylizer.size
        if side > 128:
            return  # more pixels, nothing else
        assert stylizer(np.zeros((side, side, 3), np.uint8)).shape == (side, side, 3)
        photo = np.zeros((20, 30, 3), np.uint8)
        assert FrameStylizer(stylizer, Options(whole_frame=True)).whole(photo).shape == photo.shape


@fuzz(60)
@given(damaged(json.dumps(SIDECAR).encode()))
def test_sidecar_text(data: bytes) -> None:
    used(data)


@fuzz(200)
@given(st.sampled_from(PLACES), json_values | near_values)
def test_sidecar_values(place: tuple[str, ...], value: object) -> None:
    used(json.dumps(changed(place, value)).encode())


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        (("size",), "x", "size: 'x': must be a valid integer"),
        (("size",), -3, "size: -3: must be greater than or equal to 1"),
        (("size",), 10**9, "size: 1000000000: must be less than"),
        (("size",), 40, "size: 40 is no multiple of 16"),
        (("multiple",), 0, "multiple: 0: must be greater"),
        (("dynamic",), "no", "dynamic: 'no': must be a valid boolean"),
        (("input",), None, "input: None: must be"),
        (("input", "layout"), "NHWC", "input.layout: 'NHWC': must be 'NCHW'"),
        (("outputs",), {"styled": "it"}, "lacks outputs.mask"),
        (("files", "mobile.mnn"), {}, "lacks files.mobile.mnn.sha256"),
        (("version",), 2, "version 2, this program reads 1"),
    ],
)
def test_wrong_sidecar_values_are_named(place: tuple[str, ...], value: object, message: str) -> None:
    with file_of(MNN, "mobile.mnn") as path:
        path.with_suffix(".json").write_text(json.dumps(changed(place, value)))
        with pytest.raises(ModelFileError) as caught:
            runtime.read_sidecar(path)
    assert f"mobile.json: {message}" in str(caught.value) and "export the model again" in str(caught.value)


def test_sidecars_may_lack_what_nobody_needs_and_have_more() -> None:
    """Each key alone is left out: the file is refused, and the key named, exactly where it is needed."""
    runtime.check_sidecar(changed(("unknown",), [1]), Path("m.json"))
    for key in SIDECAR:
        less = {name: value for name, value in SIDECAR.items() if name != key}
        if key not in REQUIRED:
            runtime.check_sidecar(less, Path("m.json"))
        else:
            with pytest.raises(ModelFileError, match="not the sidecar" if key == "kind" else f"lacks {key}"):
                runtime.check_sidecar(less, Path("m.json"))


def test_largest_exported_side_is_accepted() -> None:
    (limit,) = (rule.le for rule in ExportSettings.model_fields["size"].metadata if hasattr(rule, "le"))
    assert limit == LARGEST_SIDE and LARGEST_SIDE % STRIDE == 0
    tree = changed(("size",), limit)
    runtime.check_sidecar(tree, Path("m.json"))
    tree["files"]["mobile.mnn"]["sizes"] = [limit, limit + 2 * STRIDE]  # a dynamic model is compared at two sides
    runtime.check_sidecar(tree, Path("m.json"))


def test_deep_sidecar() -> None:
    for depth in (200, 900, 100_000):
        used(b"[" * depth + b"]" * depth)
        used(json.dumps(SIDECAR).encode()[:-1] + b', "size": ' + b"[" * depth + b"]" * depth + b"}")
