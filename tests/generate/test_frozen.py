"""The frozen discriminator gives the discriminator's own features, fewer of them, and lets gradients through."""

import torch

from stages.generate.frozen import FrozenFeatures
from tests.generate.conftest import tiny_models


def test_features_and_gradients_equal_the_discriminators() -> None:
    _, discriminator = tiny_models(0)
    images = torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(0)).mul(2).sub(1).requires_grad_()
    frozen = FrozenFeatures(discriminator, coarsest=8)
    ours, theirs = frozen(images), discriminator.features(images)
    assert list(ours) == [16, 8], "blocks below the coarsest side are left out"
    for side, feature in ours.items():
        torch.testing.assert_close(feature, theirs[side], rtol=1e-4, atol=1e-5)
    ours_grad = torch.autograd.grad(sum(f.square().mean() for f in ours.values()), images)[0]
    theirs_grad = torch.autograd.grad(sum(theirs[side].square().mean() for side in ours), images)[0]
    torch.testing.assert_close(ours_grad, theirs_grad, rtol=1e-3, atol=1e-6)


def test_half_precision_stays_near() -> None:
    _, discriminator = tiny_models(0)
    images = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0)).mul(2).sub(1)
    exact, rounded = FrozenFeatures(discriminator)(images), FrozenFeatures(discriminator, dtype=torch.bfloat16)(images)
    for side, feature in exact.items():
        apart = (rounded[side].float() - feature).abs().mean() / feature.abs().mean()
        assert rounded[side].dtype == torch.bfloat16 and apart < 0.03


def test_the_discriminator_may_change_afterwards() -> None:
    _, discriminator = tiny_models(0)
    frozen = FrozenFeatures(discriminator)
    images = torch.zeros(1, 3, 32, 32)
    before = frozen(images)[16].clone()
    discriminator.b32.conv0.weight.add_(1.0)  # type: ignore[union-attr]
    assert torch.equal(frozen(images)[16], before)
