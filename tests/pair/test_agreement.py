"""What latent pairs are trusted for."""

import torch

from stages.common.facial import USUAL
from stages.pair.agreement import agreement

SIDE = 64


def _pair() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """A photo with a little texture, the same as styled face, a head that fills the middle."""
    photo = torch.rand(1, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0)) * 0.1
    mask = torch.zeros(1, 1, SIDE, SIDE)
    mask[..., 8:56, 12:52] = 1
    return photo, photo.clone(), mask


def test_another_tone_of_everything_is_agreement() -> None:
    photo, styled, mask = _pair()
    shift = torch.tensor([0.6, 0.3, -0.5]).view(1, 3, 1, 1)
    assert agreement(photo, styled + shift, mask, 0.3)[mask > 0].min() > 0.99


def test_a_fringe_on_a_bare_forehead_is_not() -> None:
    photo, styled, mask = _pair()
    styled[..., 10:20, 12:52] -= 0.8
    same = agreement(photo, styled, mask, 0.3)
    assert same[..., 12:18, 16:48].max() < 0.05
    assert same[..., 26:54, 14:50].min() > 0.99
    assert (agreement(photo, styled, mask, 0.6) >= same).all()


def test_eyes_and_mouth_may_differ() -> None:
    photo, styled, mask = _pair()
    places = [(round(x * SIDE), round(y * SIDE)) for x, y in USUAL]
    for x, y in places:
        styled[..., y - 4 : y + 4, x - 5 : x + 5] += 1.5
    same = agreement(photo, styled, mask, 0.3)
    for x, y in places:
        assert same[0, 0, y - 1 : y + 1, x - 1 : x + 1].min() > 0.95


def test_an_empty_mask_gives_numbers() -> None:
    photo, styled, mask = _pair()
    assert torch.isfinite(agreement(photo, styled + 1, torch.zeros_like(mask), 0.3)).all()
