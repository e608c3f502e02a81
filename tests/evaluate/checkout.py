"""A checkout as it looks after a run, made from the synthetic world in a temporary folder."""

from pathlib import Path

import cv2
import numpy as np
import pandas as pd

from pipeline.settings import Settings
from pipeline.settings.render import render
from stages.common.atomic import write_json, write_text
from stages.common.distances import Estimate
from stages.common.images import grid, write_png
from stages.evaluate import baselines, hard, history
from stages.evaluate.assess import assess
from stages.evaluate.evaluate import write_csv, write_results
from stages.evaluate.measure import ruler
from stages.evaluate.subjects import Pictures, System
from tests.evaluate import synthetic

STYLE = "avatar"


def settings() -> Settings:
    """Default settings, seen by the style."""
    return Settings.model_validate(render()).for_style(STYLE)


def make(root: Path, quality: float = 1.0, style: str = STYLE, seed: int = 0) -> Path:
    """Evaluates a model that reaches ``quality`` of the way (1 = perfect) and leaves its reports below ``root``."""
    faces, targets = synthetic.photos(persons=16, seed=1000)
    real = synthetic.style_pictures(40)
    blurred = np.stack([cv2.GaussianBlur(t, (0, 0), 0.6 + 2 * (1 - quality)) if quality < 1 else t for t in targets])
    images = np.round(quality * blurred + (1 - quality) * faces.images).astype(np.uint8)
    softer = np.stack([cv2.GaussianBlur(t, (0, 0), 0.8) for t in images])
    systems = [
        baselines.photo(faces),
        baselines.colour_transfer(faces, real),
        System("translator", "Stage 2: translator", "stage", faces, softer, faces.masks),
        System("torch", "Stage 3: mobile, torch", "stage", faces, images, faces.masks),
        synthetic.product(faces, images),
    ]
    shipped = {"equivariance": 33.0, "parity": 0.004, "size_kb": 1443.0, "latency_ms": 7.7}
    estimates = {name: Estimate(value, value * 0.97, value * 1.03, 20) for name, value in shipped.items()}
    tools = synthetic.tools(root / "work/cache")
    result = assess(systems, real, estimates, tools, settings().evaluate)
    out = root / "reports" / style / "evaluate"

    metrics = write_results(out, root, style, settings(), systems, real, tools, result) | {"seconds": 41.0}
    conditions = hard.hard_faces(faces.some(np.arange(6)), seed)
    spoiled = hard.together(conditions)
    ran = synthetic.product(spoiled, np.stack([cv2.bilateralFilter(picture, 5, 60, 5) for picture in spoiled.images]))
    write_csv(out / "stress.csv", hard.hard_table(conditions, [ran], ruler(real, tools), tools))
    write_png(out / "stress.png", hard.hard_sheet(conditions, ran))
    metrics["hashes"] |= {f"models/{style}/mobile.mnn": f"{seed:012x}"}
    write_json(out / "metrics.json", metrics)
    history.append(root, style, metrics)
    _stages(root / "reports", style, targets, seed)
    return root


def _stages(reports: Path, style: str, pictures: Pictures, seed: int) -> None:
    rng = np.random.default_rng(seed)
    nimg = np.arange(0, 9000, 60)
    decay = np.exp(-nimg / 2500)
    for stage, columns in {
        "transfer": ("loss_g", "loss_d", "ada_p", "r1"),
        "translate": ("cycle", "identity", "adversarial", "background"),
        "mobile": ("pixel", "perceptual", "adversarial", "edge"),
    }.items():
        folder = reports / style / stage
        table = pd.DataFrame({"nimg": nimg})
        for i, name in enumerate(columns):
            table[name] = (0.3 + 0.2 * i) + decay + rng.normal(0, 0.08, len(nimg))
        write_text(folder / "stats.csv", table.to_csv(index=False))
        for step in (0, 3000, 6000, 9000):
            blend = min(1.0, 0.2 + step / 9000)
            tiles = [np.uint8(blend * p + (1 - blend) * 128) for p in pictures[:16]]
            write_png(folder / f"grid_{step:06d}.png", grid(tiles, 4))
        write_json(folder / "summary.json", {"seconds": 60 + 100 * rng.random(), "kimg": 9.0, "final": {"loss": 0.31}})
    sheet = grid(list(pictures[:24]), 8)
    write_png(reports / style / "fuse" / "fusion.png", sheet)
    write_json(reports / style / "fuse" / "summary.json", {"seconds": 4.2, "mid": 1.5})
    write_png(reports / style / "pair" / "best.png", sheet)
    write_json(reports / style / "pair" / "summary.json", {"seconds": 12.0, "kept": 231, "rejected": 17})
    write_json(reports / style / "export" / "summary.json", {"seconds": 9.0, "size": 64, "max_error": 3e-5})
    ablation = "step,sharpness,kid,style gap\npixel,3.4,0.031,0.7\n+ perceptual,6.0,0.009,0.4\n+ edge,6.2,0.008,0.4\n"
    write_text(reports / style / "ablate" / "ablation.csv", ablation)
    write_json(reports / "photos" / "summary.json", {"seconds": 22.0, "faces": 577, "persons": 540})
    data = reports.parent / "data/photos"
    write_text(data / "rejected.csv", "file,reason,detail\n" + "a.jpg,too_dark,\n" * 5 + "b.jpg,no_face,\n" * 3)
