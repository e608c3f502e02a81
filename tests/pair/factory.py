"""A small factory on disk: drawn faces as photos, style pictures and latent pairs, and a context to run stages in."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd

from pipeline.settings import Settings
from stages.common.images import write_png
from stages.common.runner import StageContext
from stages.common.shards import write_shard

SIDE = 32
STYLE = "toy"
CHIN = 26  # row where drawn heads end; photos' go on to 29
TINY = {
    "kimg": 0.024, "warm_kimg": 0.008, "batch": 4, "width": 4, "backward_width": 4, "discriminator_width": 4,
    "blocks": 1, "identity_every": 2, "grid_kimg": 0.012, "pairs_perceptual": 0.0,
}  # fmt: skip


def face(seed: int, styled: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """A face of ellipses on a gradient, uint8 [32, 32, 3], and its head mask [32, 32]."""
    rng = np.random.default_rng(seed)
    top, bottom, skin = rng.integers(60, 220, 3), rng.integers(60, 220, 3), rng.integers(120, 230, 3)
    share = np.linspace(0, 1, SIDE)[:, None, None]
    image = np.broadcast_to(top * (1 - share) + bottom * share, (SIDE, SIDE, 3)).astype(np.uint8).copy()
    mask = np.zeros((SIDE, SIDE), np.uint8)
    colour = tuple(int(v) for v in (255 - skin if styled else skin))
    cv2.ellipse(image, (16, 17), (9, 12), 0, 0, 360, colour, -1, cv2.LINE_AA)
    cv2.ellipse(mask, (16, 17), (9, 12), 0, 0, 360, 255, -1, cv2.LINE_AA)
    for x in (12, 20):
        cv2.circle(image, (x, 15), 2, (20, 20, 20), -1, cv2.LINE_AA)
    return image, mask


def write_folder(folder: Path, count: int, styled: bool, first: int = 0) -> None:
    """An ingested dataset of ``count`` faces."""
    rows = []
    for i in range(count):
        image, mask = face(first + i, styled)
        write_png(folder / "images" / f"{i:04d}.png", image)
        write_png(folder / "masks" / f"{i:04d}.png", mask)
        eyes = {"eye_l_x": 12.0, "eye_l_y": 15.0, "eye_r_x": 20.0, "eye_r_y": 15.0}
        split = "test" if i % 5 == 0 else "train"
        rows.append({"id": f"{i:04d}", "person": f"p{i // 2}", "split": split, "weight": 1.0, **eyes})
    pd.DataFrame(rows).to_csv(folder / "index.csv", index=False)


def write_pairs(folder: Path, count: int) -> None:
    """A generated dataset of ``count`` latent pairs; the drawn heads end higher than the photos', as short chins do."""
    samples = []
    for i in range(count):
        (photo, mask), (styled, drawn) = face(500 + i), face(500 + i, True)
        drawn[CHIN:] = 0
        masks = {"mask": np.maximum(mask, drawn), "photo_mask": mask, "styled_mask": drawn}
        samples.append((f"s{i:06d}", {"photo": photo, "styled": styled, **masks}))
    (folder / "shards").mkdir(parents=True)
    write_shard(folder / "shards" / "000000.tar", iter(samples))
    pd.DataFrame([{"id": key, "kind": "sampled", "split": "train"} for key, _ in samples]).to_csv(
        folder / "index.csv", index=False
    )


def build(root: Path) -> Path:
    """Photos, style faces and latent pairs under ``root``; returns it."""
    write_folder(root / "data/photos", 20, styled=False)
    write_folder(root / "data/style_faces" / STYLE, 16, styled=True, first=100)
    write_pairs(root / "data/styled" / STYLE, 12)
    return root


def context(root: Path, stage: str, **sections: dict[str, Any]) -> StageContext:
    """A context as the stage runner makes it; ``sections`` override settings."""
    raw: dict[str, Any] = {name: {} for name in Settings.model_fields if name not in ("styles", "item")}
    raw |= {"common": {"resolution": SIDE, "threads": 1}, "translate": TINY, "styles": {STYLE: {"pictures": "x"}}}
    for name, values in sections.items():
        raw[name] = {**raw[name], **values}
    settings = Settings.model_validate(raw).for_style(STYLE)
    work, report = root / "work" / STYLE / stage / "key", root / "reports" / STYLE / stage
    for folder in (work, report):
        folder.mkdir(parents=True, exist_ok=True)
    return StageContext(stage, STYLE, settings, root, work, report)
