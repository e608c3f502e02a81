"""Layers against plain references: values and gradients."""

import pytest
import torch
import torch.nn.functional as F

from stages.pair import layers
from stages.pair.networks import CAM


def _features(dtype: torch.dtype = torch.float32, offset: float = 1.0) -> torch.Tensor:
    x = torch.randn(3, 8, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 + offset
    return x.to(dtype).contiguous(memory_format=torch.channels_last)


def _adalin_plain(x: torch.Tensor, rho: torch.Tensor, gamma: torch.Tensor, beta: torch.Tensor) -> torch.Tensor:
    """U-GAT-IT eq. 1 as written."""
    instance = (x - x.mean((2, 3), keepdim=True)) / (x.var((2, 3), keepdim=True, unbiased=False) + 1e-5).sqrt()
    layer = (x - x.mean((1, 2, 3), keepdim=True)) / (x.var((1, 2, 3), keepdim=True, unbiased=False) + 1e-5).sqrt()
    rho = rho.view(1, -1, 1, 1)
    return gamma[:, :, None, None] * (rho * instance + (1 - rho) * layer) + beta[:, :, None, None]


def test_instance_norm_equals_torch() -> None:
    x, y = _features().requires_grad_(), _features().requires_grad_()
    weight = torch.randn(3, 8, 16, 16)
    mine, reference = layers.instance_norm(x), F.instance_norm(y)
    torch.testing.assert_close(mine, reference, atol=1e-5, rtol=1e-5)
    (mine * weight).sum().backward()
    (reference * weight).sum().backward()
    torch.testing.assert_close(x.grad, y.grad, atol=1e-5, rtol=1e-4)


def test_adalin_equals_the_formula_with_gradients() -> None:
    generator = torch.Generator().manual_seed(1)
    rho = torch.rand(8, generator=generator)
    gamma, beta = torch.randn(3, 8, generator=generator), torch.randn(3, 8, generator=generator)
    weight = torch.randn(3, 8, 16, 16, generator=generator)
    grads = []
    for form in (layers.layer_instance_norm, _adalin_plain):
        leaves = [part.clone().requires_grad_() for part in (_features(), rho, gamma, beta)]
        out = form(*leaves)
        (out * weight).sum().backward()
        grads.append([out.detach(), *(leaf.grad for leaf in leaves)])
    for mine, reference in zip(*grads, strict=True):
        torch.testing.assert_close(mine, reference, atol=2e-4, rtol=1e-3)


@pytest.mark.parametrize("offset", [0.0, 4.0])
def test_bf16_norm_is_as_good_as_bf16_can_be(offset: float) -> None:
    """Also where the mean is twice the spread, which would eat a careless mean square."""
    x = _features(torch.bfloat16, offset)
    error = (layers.instance_norm(x).float() - F.instance_norm(x.float())).abs()
    assert error.max() < 0.06 and error.mean() < 0.008


def test_shared_coefficients_get_the_sum_of_the_samples_gradients() -> None:
    """LIN's gamma and beta are [1, C]."""
    weight = torch.randn(3, 8, 16, 16, generator=torch.Generator().manual_seed(2))
    grads = []
    for form in (layers.layer_instance_norm, _adalin_plain):
        leaves = [part.requires_grad_() for part in (torch.full((8,), 0.3), torch.ones(1, 8), torch.zeros(1, 8))]
        (form(_features(), *leaves) * weight).sum().backward()
        grads.append([leaf.grad for leaf in leaves])
    for mine, reference in zip(*grads, strict=True):
        assert mine.shape == reference.shape
        torch.testing.assert_close(mine, reference, atol=2e-4, rtol=1e-3)


def test_spectral_norms_gradient_equals_autograds() -> None:
    torch.manual_seed(0)
    conv = layers.Conv(4, 6, 3, spectral=True).eval()
    assert conv.spectral is not None
    direction = torch.randn(6, 4, 3, 3)
    (conv.spectral(conv.weight) * direction).sum().backward()
    weight = conv.weight.detach().clone().requires_grad_()
    rows = weight.permute(0, 2, 3, 1).flatten(1)  # the columns' order of the buffer v
    sigma = torch.dot(conv.spectral.u, rows @ conv.spectral.v)
    (weight / sigma * direction).sum().backward()
    torch.testing.assert_close(conv.weight.grad, weight.grad)


def test_lin_starts_as_layer_norm_and_rho_is_clipped() -> None:
    lin, x = layers.LIN(8), _features()
    torch.testing.assert_close(lin(x), F.layer_norm(x, x.shape[1:]), atol=1e-4, rtol=1e-3)
    module = torch.nn.ModuleList([lin, layers.AdaLIN(8)])
    with torch.no_grad():
        module[0].rho.fill_(-0.5)
        module[1].rho.fill_(1.5)
    layers.clip_rho(module)
    assert module[0].rho.eq(0).all() and module[1].rho.eq(1).all()


def test_spectral_norm_converges_to_the_largest_singular_value() -> None:
    torch.manual_seed(0)
    conv = layers.Conv(4, 6, 3, spectral=True)
    for _ in range(60):
        conv(_features()[:, :4])
    assert conv.spectral is not None
    normalised = conv.spectral(conv.weight).flatten(1)
    assert torch.linalg.matrix_norm(normalised, 2).item() == pytest.approx(1.0, abs=1e-3)
    before = conv.spectral.u.clone()
    conv.eval()(_features()[:, :4])
    assert torch.equal(before, conv.spectral.u), "eval mode must not iterate"


def test_cam_equals_scaled_features_through_the_mixing_convolution() -> None:
    torch.manual_seed(0)
    cam, x = CAM(8), _features()
    mixed, logits, heat = cam(x)
    scaled = torch.cat([x * cam.average.view(1, -1, 1, 1), x * cam.maximum.view(1, -1, 1, 1)], 1)
    torch.testing.assert_close(mixed, cam.mix(scaled), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(logits[:, 0], (x.mean((2, 3)) * cam.average).sum(1))
    torch.testing.assert_close(logits[:, 1], (x.amax((2, 3)) * cam.maximum).sum(1))
    assert heat.shape == (3, 1, 16, 16)


def test_cam_classifies_by_the_area_alone_and_attends_alike() -> None:
    torch.manual_seed(0)
    cam, x = CAM(8), _features()
    where = torch.zeros(3, 1, 16, 16)
    where[..., 4:12, 4:12] = 1
    mixed, logits, _ = cam(x, where)
    torch.testing.assert_close(mixed, cam(x)[0], atol=0, rtol=0)
    torch.testing.assert_close(logits[:, 0], (x[..., 4:12, 4:12].mean((2, 3)) * cam.average).sum(1))
    elsewhere = torch.where(where > 0, x, torch.randn_like(x) * 5)
    torch.testing.assert_close(cam(elsewhere, where)[1], logits)
    torch.testing.assert_close(cam(x, torch.ones_like(where))[1], cam(x)[1])
    assert torch.isfinite(cam(x, torch.zeros_like(where))[1]).all(), "a picture without a head"
