"""Two small nets, Adam and EMA on the shared loop: what the kill and torchrun tests run as a process.

``python -m tests.common.toy_trainer WORK OUT [--total N] [--batch N] [--sleep S] [--nan-at N]``
"""

import argparse
import time
from pathlib import Path

import torch
from torch import nn

from stages.common.device import average_gradients, setup
from stages.common.ema import EMA
from stages.common.loop import train
from stages.common.modelfile import save_model


def build() -> dict:
    torch.manual_seed(1)
    g = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.LeakyReLU(0.2), nn.Conv2d(8, 3, 3, padding=1)
    )
    d = nn.Sequential(nn.Conv2d(3, 8, 3, 2), nn.LeakyReLU(0.2), nn.Flatten(), nn.LazyLinear(1))
    d(torch.zeros(1, 3, 16, 16))
    return {
        "g": g,
        "d": d,
        "ema": EMA(g),
        "opt_g": torch.optim.Adam(g.parameters(), 1e-3),
        "opt_d": torch.optim.Adam(d.parameters(), 1e-3),
    }


def run(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("work", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--total", type=int, default=800)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--sleep", type=float, default=0.0)
    parser.add_argument("--data-seed-only", action="store_true", help="no random draws inside the step (torchrun test)")
    parser.add_argument("--nan-at", type=int, help="once, the last process's first loss after N images is NaN")
    args = parser.parse_args(argv)
    device = setup("cpu", "fp32", 1)
    state = build()
    data = torch.rand(64, 3, 16, 16, generator=torch.Generator().manual_seed(2))
    local = args.batch // device.world

    def step(nimg: int) -> dict[str, torch.Tensor]:
        first = nimg + device.rank * local
        x = data[torch.arange(first, first + local) % len(data)]
        if not args.data_seed_only:
            x = x + 0.1 * torch.randn_like(x)
        fake = state["g"](x)
        d_loss = (state["d"](fake.detach()) ** 2 + (state["d"](x) - 1) ** 2).mean()
        state["opt_d"].zero_grad()
        d_loss.backward()
        average_gradients(state["d"].parameters())
        state["opt_d"].step()
        g_loss = ((state["d"](fake) - 1) ** 2).mean() + (fake - x).abs().mean()
        state["opt_g"].zero_grad()
        g_loss.backward()
        average_gradients(state["g"].parameters())
        state["opt_g"].step()
        state["ema"].update(0.99)
        time.sleep(args.sleep)
        if nimg == args.nan_at and device.rank == device.world - 1:
            args.nan_at = None
            g_loss = g_loss * float("nan")
        return {"g": g_loss, "d": d_loss}

    if args.data_seed_only:  # batch norm sees half the batch per process: leave it out of this comparison
        state["g"][1] = nn.Identity()
        state["ema"] = EMA(state["g"])
    train(args.work, state, step, args.total, args.batch, 0, checkpoint_nimg=80, stats_nimg=40, rank=device.rank)
    if device.rank == 0:
        tensors = {f"{n}.{k}": v for n in ("g", "d", "ema") for k, v in state[n].state_dict().items()}
        save_model(args.out, "toy", tensors, {}, {})


if __name__ == "__main__":
    run()
