"""Export and runtime: MNN equals torch, gates close, damaged and foreign files are refused."""

import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper

from stages.common.errors import ModelFileError, StageError
from stages.mobile import convert, export
from stages.mobile.convert import export_onnx, onnx_to_mnn
from stages.mobile.network import Deployed
from stages.mobile.runtime import MnnModule, MobileStylizer, read_sidecar

from .conftest import SIDE, lively


def test_every_file_agrees_with_torch_at_two_sizes(exported: Path) -> None:
    figures = json.loads((exported / "mobile.json").read_text())["files"]
    assert figures["mobile.mnn"]["sizes"] == [SIDE, SIDE + 32]
    assert figures["mobile.mnn"]["max_error"] < 1e-4
    assert figures["mobile.fp16.mnn"]["max_error"] < 1e-4
    assert figures["mobile.int8.mnn"]["max_error"] < 2e-2
    assert figures["mobile.int8.mnn"]["bytes"] < figures["mobile.fp16.mnn"]["bytes"] < figures["mobile.mnn"]["bytes"]


@torch.no_grad()
def test_the_map_of_the_place_stretches_in_the_file_as_in_torch(tmp_path: Path) -> None:
    net = lively()
    net.place.normal_()
    export_onnx(Deployed(net), tmp_path / "m.onnx", SIDE, ("styled", "mask"))
    onnx_to_mnn(tmp_path / "m.onnx", tmp_path / "m.mnn")
    module = MnnModule(tmp_path / "m.mnn")
    for height, width in ((SIDE, SIDE), (48, 80), (128, 64)):
        photo = torch.rand(1, 3, height, width) * 2 - 1
        for have, want in zip(module(photo.numpy()), net(photo), strict=True):
            assert np.abs(have - want.numpy()).max() < 1e-4


def test_golden_pair_is_what_the_file_gives(exported: Path) -> None:
    golden = np.load(exported / "mobile.golden.npz")
    styled, mask = MnnModule(exported / "mobile.mnn")(golden["image"])
    assert np.abs(styled - golden["styled"]).max() < 1e-4 and np.abs(mask - golden["mask"]).max() < 1e-4


def test_onnx_file_agrees(exported: Path) -> None:
    import onnxruntime

    golden = np.load(exported / "mobile.golden.npz")
    session = onnxruntime.InferenceSession(str(exported / "mobile.onnx"), providers=["CPUExecutionProvider"])
    assert np.abs(session.run(None, {"image": golden["image"]})[0] - golden["styled"]).max() < 1e-4


def test_missed_gate_is_an_error_with_the_figure(tmp_path: Path) -> None:
    photos = torch.rand(1, 3, SIDE, SIDE) * 2 - 1
    with pytest.raises(StageError, match=r"mobile\.mnn: differs from torch by .* allowed"):
        export.export_files(lively(), tmp_path, photos, {"fp32": 0.0, "fp16": 1, "int8": 1}, dynamic=False)


def test_a_file_that_gives_nan_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """NaN compares as neither larger nor smaller: it must not slip through the maximum over pictures and outputs."""
    calls: list[int] = []

    def spoilt(module: MnnModule, image: np.ndarray) -> list[np.ndarray]:
        calls.append(1)
        styled, mask = sound(module, image)
        return [styled * np.nan if len(calls) == 2 else styled, mask]

    sound = MnnModule.__call__
    monkeypatch.setattr(MnnModule, "__call__", spoilt)
    photos = torch.rand(3, 3, SIDE, SIDE) * 2 - 1
    with pytest.raises(StageError, match=r"mobile\.mnn: differs from torch by nan"):
        export.export_files(lively(), tmp_path, photos, {"fp32": 1, "fp16": 1, "int8": 1}, dynamic=False)


def test_fixed_size_export_refuses_other_sizes(tmp_path: Path) -> None:
    photos, net = torch.rand(1, 3, SIDE, SIDE) * 2 - 1, lively()
    figures = export.export_files(net, tmp_path, photos, {"fp32": 1e-4, "fp16": 1, "int8": 1}, dynamic=False)
    sidecar = export.describe(net, {}, "toy", SIDE, False, tmp_path, figures)
    (tmp_path / "mobile.json").write_text(json.dumps(sidecar))
    stylizer = MobileStylizer(tmp_path / "mobile.mnn")
    assert stylizer(np.zeros((SIDE, SIDE, 3), np.uint8)).shape == (SIDE, SIDE, 3)
    with pytest.raises(ValueError, match="32×32 pictures only"):
        stylizer(np.zeros((64, 64, 3), np.uint8))


def test_converter_failures_leave_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "bad.onnx").write_bytes(b"not an onnx file")
    with pytest.raises(StageError, match="converter failed"):
        onnx_to_mnn(tmp_path / "bad.onnx", tmp_path / "bad.mnn")
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, 8, 8])
    styled = helper.make_tensor_value_info("styled", TensorProto.FLOAT, [1, 3, 8, 8])
    unknown = helper.make_node("NobodyKnowsThis", ["image"], ["styled"], domain="nowhere")
    opsets = [helper.make_opsetid("nowhere", 1), helper.make_opsetid("", 17)]
    graph = helper.make_graph([unknown], "exotic", [image], [styled])
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), tmp_path / "exotic.onnx")
    with pytest.raises(StageError, match="converter failed"):
        onnx_to_mnn(tmp_path / "exotic.onnx", tmp_path / "exotic.mnn")
    monkeypatch.setattr(convert, "TIMEOUT_S", 0.01)
    with pytest.raises(StageError, match="did not finish"):
        onnx_to_mnn(tmp_path / "bad.onnx", tmp_path / "bad.mnn")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["bad.onnx", "exotic.onnx"]


def test_conversion_calls_the_extension(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    seen: list[list[str]] = []

    def fake(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        seen.append(command)
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(convert.subprocess, "run", fake)
    with pytest.raises(StageError):
        onnx_to_mnn(tmp_path / "a.onnx", tmp_path / "a.mnn", "int8")
    assert "_tools.mnnconvert" in seen[0][2] and seen[0][-5:-2] == ["--weightQuantBits", "8", "--hqq"]


def broken(exported: Path, tmp_path: Path, case: str) -> Path:
    folder = tmp_path / "m"
    shutil.copytree(exported, folder)
    model, sidecar = folder / "mobile.mnn", folder / "mobile.json"
    content = json.loads(sidecar.read_text())
    if case == "absent":
        model.unlink()
    elif case == "truncated":
        model.write_bytes(model.read_bytes()[:2000])
    elif case == "empty":
        model.write_bytes(b"")
    elif case == "wrong kind":
        shutil.copy(folder / "mobile.onnx", model)
    elif case == "no sidecar":
        sidecar.unlink()
    elif case == "sidecar not json":
        sidecar.write_text("{")
    elif case == "sidecar of something else":
        sidecar.write_text('{"kind": "other"}')
    elif case == "sidecar cut":
        del content["size"]
        sidecar.write_text(json.dumps(content))
    elif case == "newer version":
        sidecar.write_text(json.dumps(content | {"version": 99}))
    elif case == "onnx given":
        return folder / "mobile.onnx"
    elif case == "folder given":
        return folder
    return model


CASES = (
    "absent",
    "truncated",
    "empty",
    "wrong kind",
    "no sidecar",
    "sidecar not json",
    "sidecar of something else",
    "sidecar cut",
    "newer version",
    "onnx given",
    "folder given",
)


@pytest.mark.parametrize("case", CASES)
def test_bad_model_files_are_refused_in_one_line(exported: Path, tmp_path: Path, case: str) -> None:
    with pytest.raises(ModelFileError) as caught:
        MobileStylizer(broken(exported, tmp_path, case))
    assert "\n" not in str(caught.value) and str(tmp_path) in str(caught.value)


def test_sidecar_serves_all_three_files(exported: Path) -> None:
    for name in export.FILES.values():
        assert read_sidecar(exported / name).size == SIDE


@pytest.mark.parametrize("shape", [(40, 32, 3), (32, 32), (32, 32, 4), (0, 32, 3)])
def test_wrong_input_shapes_are_refused(exported: Path, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError):
        MobileStylizer(exported / "mobile.mnn")(np.zeros(shape, np.uint8))
