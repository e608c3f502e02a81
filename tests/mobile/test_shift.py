"""Fourier shifts: exact for whole pixels, exact for what a fraction of a pixel does to a wave, and no blur."""

import math

import torch

from stages.common.distances import sharpness
from stages.mobile.shift import REACH, random_shifts, shift


def test_whole_pixels_move_every_pixel_unchanged() -> None:
    image = torch.rand(1, 3, 32, 32)
    moved = shift(image, torch.tensor([[2.0, -1.0]]))
    assert torch.allclose(moved[..., 4:-4, 4:-4], image.roll((-1, 2), (2, 3))[..., 4:-4, 4:-4], atol=1e-5)


def test_fractions_move_waves_by_that_much_at_full_strength() -> None:
    # period 8: the wave fits the 32 + 2 * 8 padded pixels, and mirrored about its crests it continues itself
    x = torch.arange(32).float()
    wave = torch.cos(2 * math.pi * x / 8).expand(1, 1, 32, 32)
    moved = shift(wave.contiguous(), torch.tensor([[0.3, 0.4]]))
    wanted = torch.cos(2 * math.pi * (x - 0.3) / 8)
    assert torch.allclose(moved[0, 0, 16, 6:-6], wanted[6:-6], atol=0.02)


def test_half_a_pixel_there_and_back_is_the_picture_again() -> None:
    torch.manual_seed(0)
    image = torch.rand(2, 3, 33, 32)  # odd sides have no highest frequency to lose
    there = shift(image, torch.full((2, 2), 0.5))
    assert there.shape == image.shape
    inner = (slice(None), slice(None), slice(12, -12), slice(12, -12))
    assert (shift(there, torch.full((2, 2), -0.5)) - image)[inner].abs().mean() < 0.06
    ones = torch.ones(2, 1, 33, 32)
    kept = sharpness(there * 2 - 1, ones) / sharpness(image * 2 - 1, ones)
    assert (abs(kept - 1) < 0.1).all()  # bilinear keeps a quarter of the Laplacian of noise here


def test_shifts_are_drawn_within_reach_on_both_sides() -> None:
    torch.manual_seed(0)
    moves = random_shifts(1000, REACH, torch.device("cpu"))
    assert moves.shape == (1000, 2) and moves.abs().max() <= REACH
    assert (moves.amin(0) < -0.9 * REACH).all() and (moves.amax(0) > 0.9 * REACH).all()


def test_gradients_flow_through_a_shift() -> None:
    image = torch.rand(1, 1, 16, 16, requires_grad=True)
    shift(image, torch.tensor([[0.5, 0.5]])).square().sum().backward()
    assert image.grad is not None and image.grad.abs().sum() > 0
