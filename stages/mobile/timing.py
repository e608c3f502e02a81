"""Latency of networks in MNN, onnxruntime and torch, measured the same way."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from stages.mobile.runtime import MnnModule


@dataclass(frozen=True)
class Latency:
    """Milliseconds per call: median, fastest, and least processor time (which other programs disturb least)."""

    median_ms: float
    min_ms: float
    cpu_ms: float


def measure(call: Callable[[], object], repeats: int = 40, warm_up: int = 5) -> Latency:
    """Times ``call`` after ``warm_up`` untimed runs."""
    wall, cpu = [], []
    for i in range(warm_up + repeats):
        cpu_start, start = time.process_time(), time.perf_counter()
        call()
        elapsed, spent = time.perf_counter() - start, time.process_time() - cpu_start
        if i >= warm_up:
            wall.append(elapsed)
            cpu.append(spent)
    return Latency(float(np.median(wall)) * 1e3, min(wall) * 1e3, min(cpu) * 1e3)


def mnn_latency(path: Path, size: int, threads: int = 1, repeats: int = 40, outputs: int = 2) -> Latency:
    """An .mnn file on noise of [1, 3, size, size]."""
    module = MnnModule(path, threads, ("styled", "mask")[:outputs])
    image = _noise(size)
    return measure(lambda: module(image), repeats)


def onnx_latency(path: Path, size: int, threads: int = 1, repeats: int = 40) -> Latency:
    """An .onnx file in onnxruntime."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    image = _noise(size)
    return measure(lambda: session.run(None, {"image": image}), repeats)


def torch_latency(net: nn.Module, size: int, threads: int = 1, repeats: int = 20) -> Latency:
    """A torch module in eval mode."""
    before, image = torch.get_num_threads(), torch.from_numpy(_noise(size))
    torch.set_num_threads(threads)
    try:
        with torch.inference_mode():
            return measure(lambda: net.eval()(image), repeats)
    finally:
        torch.set_num_threads(before)


def processor() -> str:
    """Name of the CPU: the place that a figure belongs to."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return "unknown processor"


def _noise(size: int) -> np.ndarray:
    return np.random.default_rng(0).uniform(-1, 1, (1, 3, size, size)).astype(np.float32)
