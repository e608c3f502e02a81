"""The encoder: budget, shapes, independence of neighbours, learning, files."""

from pathlib import Path

import pytest
import torch

from pipeline.settings.generate import EncoderSettings
from stages.common.device import setup
from stages.common.errors import ModelFileError
from stages.generate.encoder import (
    Encoder,
    EncoderConfig,
    load_encoder,
    multiply_accumulates,
    parameter_count,
    save_encoder,
)
from stages.generate.encoder_training import encoder_figures, train_encoder
from tests.generate.conftest import ARCH, tiny_encoder, tiny_models


def test_budget_at_64_pixels() -> None:
    encoder = Encoder(EncoderConfig(resolution=64, num_ws=10, w_dim=128))
    assert parameter_count(encoder) <= 1_440_000
    assert multiply_accumulates(encoder) <= 100_000_000


@pytest.mark.parametrize("resolution", [32, 64, 128, 256])
def test_shapes_and_features_at_every_resolution(resolution: int) -> None:
    encoder = Encoder(EncoderConfig(resolution, 8, 16)).eval()
    images = torch.rand(3, 3, resolution, resolution) * 2 - 1
    with torch.no_grad():
        assert encoder(images).shape == (3, 8, 16)
        together, alone = encoder.features(images), encoder.features(images[1:2])
    assert together.shape == (3, 416)
    torch.testing.assert_close(together[1:2], alone, atol=1e-5, rtol=1e-4)


def test_an_untrained_encoder_has_no_layer_offsets() -> None:
    ws = tiny_encoder()(torch.rand(2, 3, 32, 32))
    torch.testing.assert_close(ws, ws[:, :1].expand_as(ws))


def test_training_learns_resumes_and_stays_finite(tmp_path: Path) -> None:
    generator, discriminator = tiny_models(0)
    device = setup("cpu", "fp32", 1)
    photos = ((generator(torch.randn(8, ARCH.z_dim), 0.7, "const").clamp(-1, 1) + 1) * 127.5).byte()
    settings = EncoderSettings(kimg=0.96, batch=32, lr=3e-3)
    before = encoder_figures(generator, tiny_encoder(), photos, None, device)
    encoder = train_encoder(generator, discriminator, photos, None, settings, tmp_path, 0, device)
    after = encoder_figures(generator, encoder, photos, None, device)
    assert after.head_ratio > before.head_ratio
    again = train_encoder(generator, discriminator, photos, None, settings, tmp_path, 0, device)
    for a, b in zip(encoder.parameters(), again.parameters(), strict=True):
        assert torch.equal(a, b)  # finished: resumed at the end, nothing retrained


def test_files_round_trip_and_refuse_others(tmp_path: Path) -> None:
    encoder = tiny_encoder()
    save_encoder(tmp_path / "e.safetensors", encoder, {})
    images = torch.rand(2, 3, 32, 32)
    torch.testing.assert_close(load_encoder(tmp_path / "e.safetensors")(images), encoder(images), atol=5e-3, rtol=1e-2)
    from stages.generate.models import save_stylegan

    save_stylegan(tmp_path / "g.safetensors", tiny_models(0)[0], None, {})
    with pytest.raises(ModelFileError, match="kind 'stylegan2', expected 'encoder'"):
        load_encoder(tmp_path / "g.safetensors")
