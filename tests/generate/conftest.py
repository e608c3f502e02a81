"""A small project with tiny models, enough to run fuse and generate in seconds."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from pipeline.settings.common import CommonSettings
from pipeline.settings.generate import FuseSettings, GenerateSettings
from stages.common.images import to_uint8, write_png
from stages.common.modelfile import save_model
from stages.common.runner import StageContext
from stages.generate import production
from stages.generate.encoder import Encoder, EncoderConfig, save_encoder
from stages.generate.landmark_net import KIND, LandmarkNet
from stages.generate.models import save_stylegan
from stages.generate.networks import Architecture, Discriminator, Generator

ARCH = Architecture(resolution=32, z_dim=16, w_dim=16, mapping_layers=2, channel_base=512, channel_max=16)


def tiny_models(seed: int) -> tuple[Generator, Discriminator]:
    """A frozen random generator and discriminator."""
    torch.manual_seed(seed)
    nets = Generator(ARCH), Discriminator(ARCH)
    return nets[0].eval().requires_grad_(False), nets[1].eval().requires_grad_(False)


def tiny_encoder(seed: int = 0) -> Encoder:
    """An untrained encoder of the tiny generator."""
    torch.manual_seed(seed)
    return Encoder(EncoderConfig(ARCH.resolution, ARCH.num_ws, ARCH.w_dim)).eval().requires_grad_(False)


def write_faces(folder: Path, images: np.ndarray, splits: list[str]) -> None:
    """An ingested folder with elliptic masks."""
    mask = ellipse(images[0])
    rows = []
    for k, (image, split) in enumerate(zip(images, splits, strict=True)):
        write_png(folder / "images" / f"p{k:03d}.png", image)
        write_png(folder / "masks" / f"p{k:03d}.png", mask)
        rows.append({"id": f"p{k:03d}", "file": f"p{k:03d}.png", "person": f"n{k}", "split": split, "weight": 1.0})
    pd.DataFrame(rows).to_csv(folder / "index.csv", index=False)


def ellipse(image: np.ndarray, *_: object) -> np.ndarray:
    """Stands in for `head_mask`, which needs faces."""
    side = image.shape[0]
    ys, xs = np.mgrid[-1 : 1 : side * 1j, -1 : 1 : side * 1j]
    return (((xs / 0.6) ** 2 + (ys / 0.8) ** 2 < 1) * 255).astype(np.uint8)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """models/source, models/toon, data/photos, data/style_faces/toon and the shipped landmark net."""
    monkeypatch.setattr(production, "head_mask", ellipse)
    source, discriminator = tiny_models(0)
    styled, style_d = tiny_models(1)
    styled.mapping.load_state_dict(source.mapping.state_dict())
    save_stylegan(tmp_path / "models/source/source.safetensors", source, discriminator, {})
    save_stylegan(tmp_path / "models/toon/transferred.safetensors", styled, style_d, {"licence": "test"})
    save_encoder(tmp_path / "models/source/encoder.safetensors", tiny_encoder(), {})
    torch.manual_seed(0)
    save_model(tmp_path / "models/shipped/landmarks.safetensors", KIND, LandmarkNet().state_dict(), {}, {})
    for folder, net, seed in (("photos", source, 2), ("style_faces/toon", styled, 3)):
        z = torch.randn(12, ARCH.z_dim, generator=torch.Generator().manual_seed(seed))
        images = to_uint8(net(z, 0.7, "const"))
        write_faces(tmp_path / "data" / folder, images, ["train"] * 8 + ["val"] * 2 + ["test"] * 2)
    return tmp_path


def context(root: Path, stage: str, fuse: dict | None = None, generate: dict | None = None) -> StageContext:
    """A stage context of style toon with some settings."""
    settings = SimpleNamespace(
        fuse=FuseSettings(**(fuse or {})),
        generate=GenerateSettings(**(generate or {})),
        common=CommonSettings(resolution=32, threads=1, precision="fp32"),
        item=None,
    )
    work, report = root / "work/toon" / stage, root / "reports/toon" / stage
    for folder in (work, report):
        folder.mkdir(parents=True, exist_ok=True)
    return StageContext(stage, "toon", settings, root, work, report)  # type: ignore[arg-type]
