"""Relighting stays in range, differs by sample, and is off at strength 0."""

import torch

from stages.common.light import relight


def test_relight_changes_light_and_nothing_else() -> None:
    torch.manual_seed(0)
    photo = torch.rand(4, 3, 16, 16) * 1.6 - 0.8
    lit = relight(photo, 0.3)
    assert lit.shape == photo.shape and lit.abs().max() <= 1
    change = (lit - photo).mean((1, 2, 3))
    assert change.abs().max() > 0.02 and change.std() > 0.01, "every picture has its own light"
    # what is where stays: shapes correlate
    flat, other = photo.flatten(1), lit.flatten(1)
    correlation = torch.stack([torch.corrcoef(torch.stack([a, b]))[0, 1] for a, b in zip(flat, other, strict=True)])
    assert correlation.min() > 0.8


def test_strength_zero_changes_nothing() -> None:
    photo = torch.rand(2, 3, 8, 8) * 2 - 1
    assert torch.allclose(relight(photo, 0.0), photo, atol=2e-4)
