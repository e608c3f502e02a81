"""Augmentations against the reference, their derivatives, and the control of p."""

from pathlib import Path

import numpy as np
import pytest
import torch

from stages.generate.ada import BGC, FACE, SETS, AdaptiveAugment, AugmentSet, augment, warp

SINGLE = {
    "xflip": AugmentSet(xflip=True),
    "xint": AugmentSet(xint=0.125),
    "scale": AugmentSet(scale=0.2),
    "rotate": AugmentSet(rotate=1.0),
    "aniso": AugmentSet(aniso=0.2),
    "brightness": AugmentSet(brightness=0.2),
    "contrast": AugmentSet(contrast=0.5),
    "hue": AugmentSet(hue=1.0),
    "saturation": AugmentSet(saturation=1.0),
}


@pytest.mark.parametrize("percentile", [0.35, 0.8])
@pytest.mark.parametrize("name", SINGLE)
def test_matches_the_reference(shared: Path, name: str, percentile: float) -> None:
    with np.load(shared / "vectors" / "ada_augment_32.npz") as file:
        x, wanted = torch.from_numpy(file["x"]), file[f"{name}@{percentile}"]
    found = augment(x, SINGLE[name], 1.0, percentile).numpy()
    assert np.abs(found - wanted).max() < 2e-3


def test_identity_is_exact() -> None:
    x = torch.randn(3, 3, 32, 32)
    torch.testing.assert_close(warp(x, torch.eye(3, dtype=torch.float64).repeat(3, 1, 1)), x, atol=1e-4, rtol=0)


def test_zero_probability_changes_nothing() -> None:
    x = torch.randn(4, 3, 32, 32)
    assert augment(x, BGC, 0.0) is x or torch.equal(augment(x, BGC, 0.0), x)
    assert torch.equal(augment(x, SETS["none"], 1.0), x)


def test_untouched_samples_stay_untouched() -> None:
    torch.manual_seed(0)
    x = torch.randn(64, 3, 16, 16)
    same = [torch.equal(a, b) for a, b in zip(x, augment(x, FACE, 0.05), strict=True)]
    assert 0.3 < np.mean(same) < 0.95


def test_every_set_keeps_shape_and_is_finite() -> None:
    x = torch.rand(8, 3, 32, 32) * 2 - 1
    for operations in SETS.values():
        y = augment(x, operations, 1.0)
        assert y.shape == x.shape and torch.isfinite(y).all()


def test_warp_is_twice_differentiable_and_linear() -> None:
    torch.manual_seed(1)
    x = torch.randn(2, 1, 8, 8, dtype=torch.float64, requires_grad=True)
    angle = torch.tensor([0.3, -1.0], dtype=torch.float64)
    m = torch.eye(3, dtype=torch.float64).repeat(2, 1, 1)
    m[:, 0, 0], m[:, 0, 1], m[:, 1, 0], m[:, 1, 1] = angle.cos(), -angle.sin(), angle.sin(), angle.cos()
    assert torch.autograd.gradcheck(lambda v: warp(v, m), x)
    assert torch.autograd.gradgradcheck(lambda v: warp(v, m), x)


def test_r1_through_all_augmentations() -> None:
    torch.manual_seed(2)
    x = torch.randn(4, 3, 16, 16, requires_grad=True)
    weight = torch.randn(3, 16, 16, requires_grad=True)
    (gradient,) = torch.autograd.grad((augment(x, BGC, 0.9).square() * weight).sum(), x, create_graph=True)
    gradient.square().sum().backward()
    assert weight.grad is not None and torch.isfinite(weight.grad).all() and weight.grad.abs().sum() > 0


def test_probability_follows_overfitting_and_stays_in_range() -> None:
    ada = AdaptiveAugment(FACE, p=0.0, target=0.6, kimg=1.0)
    ada.observe(torch.ones(8, 1))
    ada.adjust(64)
    assert ada.p == pytest.approx(0.064) and ada.rt == 1.0
    for _ in range(100):
        ada.observe(torch.ones(8, 1))
        ada.adjust(64)
    assert ada.p == 1.0
    for _ in range(100):
        ada.observe(-torch.ones(8, 1))
        ada.adjust(64)
    assert ada.p == 0.0


def test_control_state_survives_a_checkpoint() -> None:
    ada = AdaptiveAugment(FACE, 0.3, 0.6, 10.0)
    ada.observe(torch.tensor([[1.0], [-1.0]]))
    other = AdaptiveAugment(FACE, 0.0, 0.6, 10.0)
    other.load_state_dict(ada.state_dict())
    ada.adjust(64), other.adjust(64)
    assert (ada.p, ada.rt) == (other.p, other.rt) == (pytest.approx(0.3 - 0.0064), 0.0)


def test_autocast_does_not_touch_augmentation() -> None:
    ada = AdaptiveAugment(BGC, 1.0, 0.0, 1.0)
    x = torch.randn(2, 3, 32, 32)
    torch.manual_seed(5)
    wanted = ada(x)
    torch.manual_seed(5)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(ada(x), wanted)
