"""Inversion: finds known latents, independent of the batch, spaces, noise."""

import pytest
import torch

from stages.common.device import setup
from stages.generate.inversion import invert, noise_penalty
from stages.generate.latents import LatentSpace, to_p
from tests.generate.conftest import ARCH, tiny_models

DEVICE = setup("cpu", "fp32", 1)


@pytest.fixture(scope="module")
def setting() -> tuple:
    generator, discriminator = tiny_models(0)
    space = LatentSpace.of(generator, samples=2000)
    images = generator(torch.randn(4, ARCH.z_dim, generator=torch.Generator().manual_seed(1)), 0.8, "const")
    return generator, discriminator, space, images.clamp(-1, 1)


@pytest.mark.parametrize("latent", ["w", "w+"])
def test_optimisation_comes_near(setting: tuple, latent: str) -> None:
    generator, discriminator, space, images = setting
    start = invert(generator, discriminator, images, None, space, DEVICE, steps=0)
    found = invert(generator, discriminator, images, None, space, DEVICE, steps=60, lr=0.1, latent=latent)  # type: ignore[arg-type]
    assert (found.distance < 0.6 * start.distance).all()
    if latent == "w":
        torch.testing.assert_close(found.ws, found.ws[:, :1].expand_as(found.ws))


def test_a_photo_does_not_depend_on_its_batch(setting: tuple) -> None:
    generator, discriminator, space, images = setting
    together = invert(generator, discriminator, images, None, space, DEVICE, steps=8)
    alone = invert(generator, discriminator, images[2:3], None, space, DEVICE, steps=8)
    torch.testing.assert_close(together.ws[2:3], alone.ws, atol=2e-3, rtol=1e-2)


def test_the_prior_keeps_latents_likely(setting: tuple) -> None:
    generator, discriminator, space, _ = setting
    noise = torch.rand(2, 3, 32, 32) * 2 - 1
    free = invert(generator, discriminator, noise, None, space, DEVICE, steps=40, lr=0.2, prior=0.0)
    held = invert(generator, discriminator, noise, None, space, DEVICE, steps=40, lr=0.2, prior=1.0)
    assert space.improbability(held.ws).mean() < 0.5 * space.improbability(free.ws).mean()


def test_noise_maps_are_fitted_and_stay_white(setting: tuple) -> None:
    generator, discriminator, space, images = setting
    found = invert(generator, discriminator, images, None, space, DEVICE, steps=3, optimise_noise=True)
    assert set(found.noise) == {
        name for name, layer, _ in generator.synthesis.layers() if hasattr(layer, "noise_const")
    }
    for maps in found.noise.values():
        assert maps.shape[0] == 4
        torch.testing.assert_close(maps.square().mean((1, 2, 3)), torch.ones(4), atol=1e-3, rtol=1e-3)


def test_noise_penalty_sees_structure() -> None:
    white = torch.randn(1, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    smooth = torch.linspace(-1, 1, 32).expand(1, 1, 32, 32) * 3**0.5
    assert noise_penalty({"a": smooth}) > 50 * noise_penalty({"a": white})


def test_latent_space_statistics(setting: tuple) -> None:
    generator, _, space, _ = setting
    w = generator.mapping.w(torch.randn(500, ARCH.z_dim, generator=torch.Generator().manual_seed(9)))
    assert float(space.improbability(w).mean()) == pytest.approx(1.0, abs=0.25)
    apart = space.distances(w[:250], w[250:]).diagonal().mean()
    assert float(apart) == pytest.approx(1.0, abs=0.1)
    x = torch.randn(10)
    torch.testing.assert_close(torch.nn.functional.leaky_relu(to_p(x) * 2**0.5, 0.2), x)
    assert (space.scales[:-1] >= space.scales[1:]).all()
