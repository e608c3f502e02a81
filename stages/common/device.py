"""Device, precision, threads and torchrun ranks: decided here and nowhere else."""

import contextlib
import functools
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import distributed

from stages.common.errors import SettingsError
from stages.common.heap import keep_freed_memory


@dataclass(frozen=True)
class Device:
    """Where and how to compute.

    Attributes:
        device: torch device of this process.
        dtype: autocast type, bfloat16 or float32.
        rank, world: this process among torchrun's (0 of 1 without torchrun).
    """

    device: torch.device
    dtype: torch.dtype
    rank: int = 0
    world: int = 1

    def autocast(self, enabled: bool = True) -> contextlib.AbstractContextManager[object]:
        """bf16 autocast where it pays, else nothing. Weights stay float32."""
        active = enabled and self.dtype == torch.bfloat16
        return torch.autocast(self.device.type, torch.bfloat16) if active else contextlib.nullcontext()

    @property
    def memory_format(self) -> torch.memory_format:
        """channels_last: oneDNN and cuDNN convolve it without reordering."""
        return torch.channels_last


@functools.cache
def cpu_flags() -> frozenset[str]:
    """Instruction-set flags of this CPU as Linux names them; empty elsewhere."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith(("flags", "Features")):
                return frozenset(line.split(":", 1)[1].split())
    return frozenset()


def cpu_has_bf16() -> bool:
    """Whether the CPU multiplies bf16 in hardware.

    Measured on 2 cores with AMX, 2048² matrices: 1442 GFLOP/s bf16 against 170 fp32; without such instructions
    bf16 is emulated and slower than fp32.
    """
    return bool(cpu_flags() & {"amx_bf16", "avx512_bf16", "bf16"})


def usable_cores() -> int:
    """Cores this process may run on (respects taskset and containers' CPU sets)."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def setup(device: str = "auto", precision: str = "auto", threads: int = 0) -> Device:
    """Chooses the device and precision, sets torch's threads and joins torchrun's process group if there is one.

    Args:
        device: "auto", "cpu" or "cuda".
        precision: "auto", "fp32" or "bf16".
        threads: CPU threads of this process; 0 takes all cores (divided among torchrun's local processes).

    Raises:
        SettingsError: "cuda" without a usable GPU.
    """
    world, rank = int(os.environ.get("WORLD_SIZE", 1)), int(os.environ.get("RANK", 0))
    local = int(os.environ.get("LOCAL_RANK", 0))
    keep_freed_memory()
    has_cuda = torch.cuda.is_available()
    if device == "cuda" and not has_cuda:
        raise SettingsError("common.device: 'cuda', but torch finds no usable GPU here; set it to auto or cpu")
    use_cuda = has_cuda and device != "cpu"
    local_world = int(os.environ.get("LOCAL_WORLD_SIZE", 1))
    torch.set_num_threads(threads or max(1, usable_cores() // local_world))
    if world > 1 and not distributed.is_initialized():
        distributed.init_process_group("nccl" if use_cuda else "gloo")
    where = torch.device("cuda", local) if use_cuda else torch.device("cpu")
    if use_cuda:
        torch.cuda.set_device(where)
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    fast_bf16 = torch.cuda.is_bf16_supported() if use_cuda else cpu_has_bf16()
    bf16 = precision == "bf16" or (precision == "auto" and fast_bf16)
    return Device(where, torch.bfloat16 if bf16 else torch.float32, rank, world)


def average_gradients(parameters: Iterable[torch.nn.Parameter]) -> None:
    """All-reduces gradients to their mean over torchrun's processes; does nothing with one process.

    An explicit call instead of DistributedDataParallel: R1 and path length differentiate twice, which DDP's hooks
    do not support. Gradients travel as one flat tensor.
    """
    if not (distributed.is_available() and distributed.is_initialized()) or distributed.get_world_size() == 1:
        return
    grads = [parameter.grad for parameter in parameters if parameter.grad is not None]
    if not grads:
        return
    flat = torch.cat([grad.reshape(-1) for grad in grads])
    distributed.all_reduce(flat)
    flat /= distributed.get_world_size()
    for grad, part in zip(grads, flat.split([grad.numel() for grad in grads]), strict=True):
        grad.copy_(part.view_as(grad))


def average(value: torch.Tensor) -> torch.Tensor:
    """Mean over torchrun's processes, which must all ask, of a float32 tensor [...]; the tensor itself with one."""
    if not (distributed.is_available() and distributed.is_initialized()) or distributed.get_world_size() == 1:
        return value
    total = value.clone()
    distributed.all_reduce(total)
    return total / distributed.get_world_size()


def any_process(flag: bool) -> bool:
    """Whether ``flag`` is set in any of torchrun's processes; all must ask, and wait here for each other."""
    if not (distributed.is_available() and distributed.is_initialized()):
        return flag
    tensor = torch.tensor([float(flag)])
    if distributed.get_backend() == "nccl":
        tensor = tensor.cuda()
    distributed.all_reduce(tensor, distributed.ReduceOp.MAX)
    return bool(tensor.item())
