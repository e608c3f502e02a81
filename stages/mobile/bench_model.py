"""``stylefactory bench model X.mnn``: latency by threads, per-operator profile, size, memory, other runtimes."""

import argparse
import sys
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from stages.common.arguments import positive
from stages.common.atomic import write_json
from stages.common.device import usable_cores
from stages.common.errors import FactoryError
from stages.common.progress import log
from stages.mobile.models import load_mobile
from stages.mobile.network import Deployed
from stages.mobile.runtime import mnn, read_sidecar, silent
from stages.mobile.timing import Latency, mnn_latency, onnx_latency, processor, torch_latency


def profile(path: Path, size: int) -> tuple[dict[str, tuple[float, float]], float, float]:
    """Per operator type (milliseconds, MFLOPs), then the session's memory in MB and compute in MFLOPs; one thread."""
    import time

    package = mnn()
    with silent():
        interpreter = package.Interpreter(str(path))
        session = interpreter.createSession({"numThread": 1, "backend": "CPU", "precision": "high"})
        tensor = interpreter.getSessionInput(session)
        interpreter.resizeTensor(tensor, (1, 3, size, size))
        interpreter.resizeSession(session)
        data = np.zeros((1, 3, size, size), np.float32)
        tensor.copyFrom(
            package.Tensor((1, 3, size, size), package.Halide_Type_Float, data, package.Tensor_DimensionType_Caffe)
        )
        interpreter.runSession(session)
    spent: dict[str, float] = defaultdict(float)
    flops: dict[str, float] = defaultdict(float)
    clock = [0.0]

    def before(*_: Any) -> bool:
        clock[0] = time.perf_counter()
        return True

    def after(_: Any, info: Any) -> bool:
        spent[info.getType()] += (time.perf_counter() - clock[0]) * 1e3
        flops[info.getType()] += info.getFlops()
        return True

    runs = 5
    for _ in range(runs):
        interpreter.runSessionWithCallBackInfo(session, before, after)
    rows = {kind: (spent[kind] / runs, flops[kind] / runs) for kind in sorted(spent, key=lambda k: -spent[k])}
    return rows, float(interpreter.getSessionInfo(session, 0)), float(interpreter.getSessionInfo(session, 1))


def bench(path: Path, size: int, repeats: int) -> dict[str, Any]:
    """Everything about one model file as plain numbers.

    Raises:
        ModelFileError: see :func:`stages.mobile.runtime.read_sidecar`.
    """
    sidecar = read_sidecar(path)
    size = size or sidecar.size
    threads = sorted({1, usable_cores()})
    latencies: dict[str, Latency] = {f"MNN {n} threads": mnn_latency(path, size, n, repeats) for n in threads}
    onnx = sidecar.path.with_suffix(".onnx")
    if onnx.is_file():
        latencies |= {f"onnxruntime {n} threads": onnx_latency(onnx, size, n, repeats) for n in threads}
    weights = sidecar.path.with_suffix(".safetensors")
    if weights.is_file():
        net = Deployed(load_mobile(weights)[0])
        latencies |= {f"torch {n} threads": torch_latency(net, size, n, max(5, repeats // 2)) for n in threads}
    operators, memory, mflops = profile(path, size)
    return {
        "model": str(path),
        "processor": processor(),
        "size": size,
        "bytes": path.stat().st_size,
        "parameters": sidecar.content.get("parameters"),
        "macs_256": sidecar.content.get("macs_256"),
        "memory_mb": round(memory, 2),
        "mflops_by_mnn": round(mflops, 1),
        "latency_ms": {
            name: {"median": round(x.median_ms, 3), "min": round(x.min_ms, 3), "cpu": round(x.cpu_ms, 3)}
            for name, x in latencies.items()
        },
        "operators_ms": {kind: round(ms, 3) for kind, (ms, _) in operators.items()},
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; prints the figures and writes reports/bench/model.json."""
    parser = argparse.ArgumentParser(prog="stylefactory bench model", description=__doc__)
    parser.add_argument("model", type=Path, help=".mnn file")
    parser.add_argument("--size", type=int, default=0, help="input side, pixels; 0 takes the model's own")
    parser.add_argument("--repeats", type=positive, default=40, help="timed runs")
    parser.add_argument("--out", type=Path, default=Path("reports/bench/model.json"), help="file to write")
    args = parser.parse_args(argv)
    try:
        figures = bench(args.model, args.size, args.repeats)
        write_json(args.out, figures)
    except FactoryError as error:
        print(f"bench model: {error}", file=sys.stderr)
        return error.exit_code
    log(f"{figures['model']} at {figures['size']} px on {figures['processor']} (not a phone)")
    log(f"{figures['bytes'] / 1e3:.0f} kB, {figures['parameters']} parameters, {figures['memory_mb']} MB at run time")
    for name, row in figures["latency_ms"].items():
        log(f"  {name:22s} median {row['median']:7.2f} ms, fastest {row['min']:7.2f} ms")
    for kind, ms in figures["operators_ms"].items():
        log(f"  {kind:22s} {ms:7.2f} ms")
    return 0


if __name__ == "__main__":
    sys.exit(main())
