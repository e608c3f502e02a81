"""torch → ONNX → MNN. Conversion runs in a subprocess and calls MNN's extension, not its console scripts.

``mnnconvert`` and ``mnnquant`` as installed by pip add packages at run time and upload usage; the extension
``_tools`` does neither. Its exit status means nothing, so success is read from its output and from the file.
"""

import json
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Literal

import torch
from torch import nn

from stages.common.atomic import atomic_path
from stages.common.errors import StageError

Precision = Literal["fp32", "fp16", "int8"]

OPSET = 17
TIMEOUT_S = 300
# hqq fits scale and offset to each channel: largest error 0.025 instead of 0.031 (tier m of the demo), at the same size
FLAGS: dict[Precision, list[str]] = {"fp32": [], "fp16": ["--fp16"], "int8": ["--weightQuantBits", "8", "--hqq"]}
FEW_WEIGHTS = 1000  # of a layer: 8 bits would save less than 3 kB there
CALL = "import sys, _tools; _tools.mnnconvert(['mnnconvert', *sys.argv[1:]])"


def export_onnx(
    net: nn.Module, path: Path, size: int, outputs: tuple[str, ...] = ("styled",), dynamic: bool = True
) -> None:
    """Writes ``net`` as ONNX with input ``image`` float32 [1, 3, H, W]; height and width are free with ``dynamic``.

    The legacy exporter is used: the dynamo one needs onnxscript at run time and gives the same graph here.

    Args:
        net: eval-mode network, image → one tensor per name in ``outputs``.
        path: final name; written atomically.
        size: side of the example input, pixels.
    """
    example = torch.zeros(1, 3, size, size)
    axes = {name: {2: "height", 3: "width"} for name in ("image", *outputs)} if dynamic else None
    with atomic_path(path) as temporary, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter announces its own retirement on every call
        torch.onnx.export(
            net.eval(),
            (example,),
            str(temporary),
            input_names=["image"],
            output_names=list(outputs),
            dynamic_axes=axes,
            opset_version=OPSET,
            dynamo=False,
        )


def onnx_to_mnn(onnx: Path, mnn: Path, precision: Precision = "fp32") -> None:
    """Converts an ONNX file to MNN, atomically.

    Args:
        precision: "fp32"; "fp16" stores weights as float16; "int8" stores weights with 8 bits (the arithmetic
            stays in floating point).

    Raises:
        StageError: an operator is unknown to MNN, the converter crashed, hung or wrote nothing; its words follow.
    """
    with tempfile.TemporaryDirectory(dir=mnn.parent, prefix=".convert.") as name, atomic_path(mnn) as temporary:
        folder = Path(name)
        flags = FLAGS[precision]
        if precision == "int8":
            flags = [*flags, "--compressionParamsFile", str((folder / "layers.json").resolve())]
            _convert(onnx, temporary, flags, folder, precision)  # the first run writes the list of layers
            spare_small_layers(folder / "layers.json")
        _convert(onnx, temporary, flags, folder, precision)


def spare_small_layers(path: Path) -> None:
    """Leaves all but the 1×1 convolutions with many weights in floating point in MNN's list of layers.

    Depthwise, first and last layers hold a tenth of the weights and two thirds of the error: without them the largest
    error falls from 0.025 to 0.015 (tier m of the demo), and the file grows by 9 %. The 1×1 layers at full width of the
    finest level have a few hundred weights each; they take 0.022 to 0.009 (a model of noto) for 1.4 % more.
    """
    plan = json.loads(path.read_text())
    for layer in plan["algo"][0]["quantParams"]["layer"]:
        conv = layer["conv"]
        if conv["kernelSize"] != [1, 1] or conv["inputChannel"] * conv["outputChannel"] < FEW_WEIGHTS:
            layer["weight"][0]["bits"] = 0
    path.write_text(json.dumps(plan))


def _convert(onnx: Path, target: Path, flags: list[str], folder: Path, precision: Precision) -> None:
    arguments = ["-f", "ONNX", "--modelFile", str(onnx.resolve()), "--MNNModel", str(target.resolve())]
    command = [sys.executable, "-c", CALL, *arguments, "--bizCode", "stylefactory", *flags]
    try:
        # its own folder: the converter drops helper files into the current one
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, cwd=folder)
    except subprocess.TimeoutExpired as error:
        raise StageError(f"{onnx}: MNN's converter did not finish within {TIMEOUT_S} s") from error
    text = done.stdout + done.stderr
    unsupported = "Not Support" in text
    if "Converted Success!" not in text or unsupported or target.stat().st_size == 0:
        words = " | ".join(line.strip() for line in text.splitlines()[-4:] if line.strip())
        raise StageError(f"{onnx}: MNN's converter failed ({precision}): {words or 'no output'}")
