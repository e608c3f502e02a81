"""Stage 3 figures: latency of every tier, training speed at 64 px. ``python -m tests.bench.bench_mobile``.

Training needs shards like data/pairs and data/styled; noise stands in for them, it costs the same.
"""

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from pipeline.settings.mobile import MobileSettings
from stages.common.device import setup
from stages.common.shards import write_shard
from stages.generate.feature_loss import discriminator_features
from stages.generate.models import load_stylegan
from stages.mobile.convert import export_onnx, onnx_to_mnn
from stages.mobile.data import load_training_data
from stages.mobile.network import TIERS, Deployed, MobileNet, count_macs, parameter_count
from stages.mobile.timing import mnn_latency, onnx_latency, torch_latency
from stages.mobile.trainer import Teachers, Trainer
from tests.bench.table import row

SHIPPED = Path("models/shipped/source.safetensors")


def latencies(repeats: int) -> pd.DataFrame:
    """One row per tier at 256 px, random weights: milliseconds, median of ``repeats``."""
    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for tier in TIERS:
            net = Deployed(MobileNet(tier).eval())
            export_onnx(net, folder / "m.onnx", 256, ("styled", "mask"))
            onnx_to_mnn(folder / "m.onnx", folder / "m.mnn")
            one, two = (mnn_latency(folder / "m.mnn", 256, n, repeats) for n in (1, 2))
            small = mnn_latency(folder / "m.mnn", 64, 1, repeats)
            rows.append(
                {
                    "tier": tier,
                    "MMACs": round(count_macs(net) / 1e6, 1),
                    "params": parameter_count(MobileNet(tier)),
                    "MNN 1t": one.median_ms,
                    "MNN 1t min": one.min_ms,
                    "MNN 1t cpu": one.cpu_ms,
                    "MNN 2t": two.median_ms,
                    "MNN 2t min": two.min_ms,
                    "fps 2t": 1e3 / two.min_ms,
                    "64 px 1t": small.median_ms,
                    "ORT 1t": onnx_latency(folder / "m.onnx", 256, 1, repeats).median_ms,
                    "torch 1t": torch_latency(net, 256, 1, max(5, repeats // 4)).median_ms,
                }
            )
    return pd.DataFrame(rows)


def training_rate(steps: int, **changes: object) -> float:
    """Images per second of whole training steps at 64 px with the demo's losses, after three warm-up steps."""
    rng = np.random.default_rng(0)
    device = setup()
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        for part in ("pairs", "styled"):
            fields = {"photo": (64, 64, 3), "styled": (64, 64, 3), "mask": (64, 64)}
            fields |= {"photo_mask": (64, 64), "styled_mask": (64, 64)}
            samples = [
                (f"{i:06d}", {f: rng.integers(0, 255, s, np.uint8) for f, s in fields.items()}) for i in range(64)
            ]
            (root / part).mkdir()
            write_shard(root / part / "shards/000000.tar", iter(samples))
            pd.DataFrame({"id": [s[0] for s in samples], "split": "train"}).to_csv(
                root / part / "index.csv", index=False
            )
        data = load_training_data(root / "pairs", root / "styled", 64, root / "cache")
        discriminator = load_stylegan(SHIPPED)[1] if SHIPPED.is_file() else None
        features = discriminator_features(discriminator, device.device, device.dtype) if discriminator else None
        translator = _translator()
        settings = MobileSettings(**changes)  # type: ignore[arg-type]
        trainer = Trainer(settings, data, Teachers(features, "D", translator), device, 0)
        for i in range(3):
            trainer.step(i * settings.batch)
        began = time.perf_counter()
        for i in range(steps):
            trainer.step((i + 3) * settings.batch)
        return steps * settings.batch / (time.perf_counter() - began)


def _translator() -> torch.nn.Module:
    from stages.pair.networks import TranslatorConfig, TranslatorGenerator

    return TranslatorGenerator(TranslatorConfig()).eval().requires_grad_(False)


def main() -> None:
    """Prints both tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=30)
    parser.add_argument("--steps", type=int, default=12)
    args = parser.parse_args()
    for tier in latencies(args.repeats).to_dict("records"):
        size = f"{tier['MMACs']:.0f} MMACs, {tier['params'] / 1e3:.0f} k parameters"
        row(
            f"mobile {tier['tier']}, 256 px, 1 thread ({size})",
            f"MNN {tier['MNN 1t']:.1f} ms (fastest {tier['MNN 1t min']:.1f}); 2 threads {tier['MNN 2t']:.1f} ms",
            f"onnxruntime {tier['ORT 1t']:.1f} ms, torch {tier['torch 1t']:.1f} ms",
            tier["torch 1t"] / tier["MNN 1t"],
            {"m": "8 ms", "xs": "250 frames/s"}.get(tier["tier"], ""),
        )
    everything = training_rate(args.steps)
    row("mobile training, 64 px, all losses", f"{everything:.0f} img/s", wanted="120 img/s")
    for what, changes in {
        "batch 32": {"batch": 32},
        "no discriminators": {"adversarial": 0.0},
        "no distillation": {"distillation": 0.0},
    }.items():
        changed = training_rate(args.steps, **changes)
        row(f"mobile training, {what}", f"{changed:.0f} img/s", "all losses", changed / everything)


if __name__ == "__main__":
    main()
