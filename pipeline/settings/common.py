"""Settings every stage shares."""

from typing import Literal

from pydantic import Field

from pipeline.settings.base import Section


class CommonSettings(Section):
    """Resolution, seed, device and training-loop settings."""

    resolution: Literal[32, 64, 128, 256, 512, 1024] = Field(
        64, description="Working resolution of aligned faces and of the models of stages 1 and 2, in pixels."
    )
    seed: int = Field(0, ge=0, lt=2**31, description="Seed of everything random; same seed, same machine, same result.")
    device: Literal["auto", "cpu", "cuda"] = Field(
        "auto", description="Where to compute; auto takes CUDA when there is a GPU, else the CPU."
    )
    precision: Literal["auto", "fp32", "bf16"] = Field(
        "auto", description="auto uses bf16 where the device multiplies it in hardware, else fp32."
    )
    threads: int = Field(
        0, ge=0, le=1024, description="CPU threads per process; 0 takes every core the process may use."
    )
    checkpoint_nimg: int = Field(
        2000, ge=1, description="Images between two checkpoints of a training stage (what a kill can cost)."
    )
