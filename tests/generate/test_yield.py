"""Landmark network and yield filter: landmarks learned, eyes missed and counted, limits, files."""

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from stages.common.facial import USUAL
from stages.generate.encoder import load_encoder
from stages.generate.landmark_net import (
    CELLS,
    LandmarkNet,
    augment,
    blob,
    find_landmarks,
    load_landmark_net,
    train_landmark_net,
)
from stages.generate.models import load_stylegan
from stages.generate.yield_filter import CHECKS, YieldFilter, realness, usual_spread
from tests.generate.conftest import tiny_encoder, tiny_models

SHIPPED = Path(__file__).parents[2] / "models/shipped/landmarks.safetensors"


class Marked(LandmarkNet):
    """Reads heat from colour: red is eye, green is mouth."""

    def forward(self, images: Tensor) -> Tensor:
        small = torch.nn.functional.interpolate(images, (CELLS, CELLS), mode="area")
        return small[:, :2] * 6


def drawing(eyes: list[tuple[float, float]], mouth: tuple[float, float] = USUAL[2]) -> Tensor:
    red = torch.stack([blob(torch.tensor([p])) for p in eyes]).amax(0)
    green = blob(torch.tensor([mouth]))
    image = torch.stack([red, green, red * 0], 1) * 2 - 1
    return torch.nn.functional.interpolate(image, (64, 64), mode="bilinear")


def test_landmarks_are_found_where_they_are() -> None:
    found = find_landmarks(Marked(), drawing([(0.38, 0.46), (0.63, 0.5)], (0.52, 0.74)))
    np.testing.assert_allclose(found.points[0], [(0.38, 0.46), (0.63, 0.5), (0.52, 0.74)], atol=0.02)
    assert found.peaks.min() > 0.9 and found.stray[0] < 0.1


def test_missing_and_extra_eyes_show() -> None:
    one = find_landmarks(Marked(), drawing([USUAL[0]]))
    assert one.peaks[0, 0] > 0.9 and one.peaks[0, 1] < 0.1
    three = find_landmarks(Marked(), drawing([USUAL[0], USUAL[1], (0.5, 0.25)]))
    assert three.stray[0] > 0.9


def test_augmented_landmarks_follow_the_picture() -> None:
    torch.manual_seed(0)
    picture = drawing([USUAL[0], USUAL[1]]).repeat(32, 1, 1, 1)
    points = torch.tensor(USUAL).expand(32, 3, 2)
    images, heat = augment(picture, points)
    assert images.shape == (32, 3, 64, 64) and heat.shape == (32, 2, CELLS, CELLS)
    green = torch.nn.functional.interpolate(images[:, 1:2] - images[:, 2:3], (CELLS, CELLS), mode="area")[:, 0]
    inside = heat[:, 1].flatten(1).amax(1) > 0.8
    a, b = green.flatten(1).argmax(1)[inside], heat[:, 1].flatten(1).argmax(1)[inside]
    near = ((a % CELLS - b % CELLS).abs() <= 2) & ((a // CELLS - b // CELLS).abs() <= 2)
    assert near.float().mean() > 0.9


def test_unknown_landmarks_teach_nothing() -> None:
    points = torch.tensor(USUAL).repeat(4, 1, 1)
    points[:, 2] = float("nan")
    _, heat = augment(torch.zeros(4, 3, 64, 64), points)
    assert heat[:, 1].isnan().all() and heat[:, 0].isfinite().all()


@pytest.mark.slow
def test_training_runs_and_lowers_the_loss(tmp_path: Path) -> None:
    images = ((drawing([USUAL[0], USUAL[1]]) + 1) * 127.5).byte().repeat(8, 1, 1, 1)
    points = np.tile(np.array(USUAL, np.float32), (8, 1, 1))
    train_landmark_net(images, points, 1.6, tmp_path, 0)
    rows = (tmp_path / "stats.csv").read_text().split()[1:]
    assert float(rows[-1].split(",")[1]) < float(rows[0].split(",")[1])


def test_filter_keeps_style_refuses_noise_and_survives_a_file(tmp_path: Path) -> None:
    torch.manual_seed(0)
    eyes = [[(0.36 + dx, 0.48), (0.64 + dx, 0.48)] for dx in np.linspace(-0.03, 0.03, 40).tolist()]
    style = torch.cat([torch.nn.functional.interpolate(drawing(e), (32, 32), mode="area") for e in eyes])
    style = (style + torch.randn_like(style) * 0.02).clamp(-1, 1)
    _, discriminator = tiny_models(0)
    fitted = YieldFilter.fit(tiny_encoder(), discriminator, Marked(), style, style.flip(3), 0.1)
    assert set(fitted.limits) == set(CHECKS) - {"realness"}
    fitted.save(tmp_path / "f.npz")
    loaded = YieldFilter.load(tmp_path / "f.npz")
    scores = loaded.scores(tiny_encoder(), discriminator, Marked(), style, without_self=True)
    assert np.mean([r == "" for r in loaded.reasons(scores)]) >= 0.85
    blind = loaded.scores(tiny_encoder(), discriminator, Marked(), torch.rand(20, 3, 32, 32) * 2 - 1)
    assert all(loaded.reasons(blind))


def test_realness_does_not_depend_on_neighbours() -> None:
    _, discriminator = tiny_models(0)
    images = torch.rand(8, 3, 32, 32) * 2 - 1
    spread = usual_spread(discriminator, images)
    together, alone = realness(discriminator, images, spread), realness(discriminator, images[3:4], spread)
    torch.testing.assert_close(together[3:4], alone, atol=1e-4, rtol=1e-4)


@pytest.mark.skipif(not SHIPPED.is_file(), reason="no shipped landmark network")
def test_the_shipped_network_sees_eyes_and_misses_covered_ones() -> None:
    """White noise still excites it to about 0.55 (real faces: above 0.63), so absolute emptiness is not asked for."""
    net, source = load_landmark_net(SHIPPED), load_stylegan(SHIPPED.with_name("source.safetensors"))[0]
    z = torch.randn(32, source.arch.z_dim, generator=torch.Generator().manual_seed(0))
    images = source(z, 0.7, "const").clamp(-1, 1)
    seen = find_landmarks(net, images)
    assert np.median(seen.peaks[:, :2].min(1)) > 0.6
    covered = images.clone()
    covered[:, :, 24:36, 14:30] = images[:, :, 37:49, 14:30]  # cheek over the left eye
    left = find_landmarks(net, covered).peaks[:, 0]
    assert np.median(left) < np.median(seen.peaks[:, 0]) - 0.2


@pytest.mark.skipif(not SHIPPED.is_file(), reason="no shipped landmark network")
@pytest.mark.parametrize("layer", ["b8.conv1", "b16.conv1", "b32.conv0"])
@torch.no_grad()
def test_samples_of_a_broken_model_are_rejected(layer: str) -> None:
    """One layer of random weights, as a wrong fusion or a damaged file leaves them; the intact model's samples pass."""
    encoder, net = load_encoder(SHIPPED.with_name("encoder.safetensors")), load_landmark_net(SHIPPED)
    source, discriminator, _ = load_stylegan(SHIPPED.with_name("source.safetensors"))
    draw = torch.Generator().manual_seed(0)
    faces = source(torch.randn(192, source.arch.z_dim, generator=draw), 0.8, "const").clamp(-1, 1)
    fitted = YieldFilter.fit(encoder, discriminator, net, faces[:128], faces[64:128], 0.06)

    def passed(images: Tensor) -> float:
        return float(np.mean([r == "" for r in fitted.reasons(fitted.scores(encoder, discriminator, net, images))]))

    broken = copy.deepcopy(source)
    weight = broken.get_parameter(f"synthesis.{layer}.weight")
    weight.copy_(torch.randn(weight.shape, generator=draw) * weight.std())
    samples = broken(torch.randn(64, source.arch.z_dim, generator=draw), 0.8, "const").clamp(-1, 1)
    assert passed(faces[128:]) >= 0.8
    assert passed(samples) <= 0.1
