"""Losses against hand-made numbers; each term moves what it is there for."""

import pytest
import torch

from stages.common.facial import facial_weights
from stages.generate.feature_loss import perceptual_loss
from stages.mobile import losses
from stages.mobile.data import drawn_region


def test_pixel_loss_weighs_the_head() -> None:
    target, mask = torch.zeros(1, 3, 8, 8), torch.zeros(1, 1, 8, 8)
    mask[..., :4] = 1
    wrong_head, wrong_back = target.clone(), target.clone()
    wrong_head[..., :4], wrong_back[..., 4:] = 1, 1
    head = losses.pixel_loss(wrong_head, target, mask, 4.0)
    back = losses.pixel_loss(wrong_back, target, mask, 4.0)
    assert head == pytest.approx(0.8, abs=2e-3) and back == pytest.approx(0.2, abs=2e-3)


def test_mask_loss_pulls_saturated_logits() -> None:
    logits = torch.full((1, 1, 4, 4), 9.0, requires_grad=True)
    losses.mask_loss(logits, torch.zeros(1, 1, 4, 4)).backward()
    assert (logits.grad > 0).all()


def test_perceptual_loss_is_zero_for_equal_and_relative() -> None:
    def features(images: torch.Tensor) -> list[torch.Tensor]:
        return [images * 100, images.mean((2, 3), keepdim=True)]

    image = torch.rand(2, 3, 8, 8) + 0.5
    assert perceptual_loss(features, image, image) == 0
    assert perceptual_loss(features, image * 1.5, image) == pytest.approx(0.5, abs=1e-4)


def test_perceptual_gradient_is_the_distances_own_in_the_features_layout() -> None:
    layouts = []

    def features(images: torch.Tensor) -> list[torch.Tensor]:
        found = (images * torch.arange(1.0, 4.0)[:, None, None]).contiguous(memory_format=torch.channels_last)
        if found.requires_grad:
            found.register_hook(lambda g: layouts.append(g.is_contiguous(memory_format=torch.channels_last)))
        return [found]

    output, target = (torch.randn(2, 3, 8, 8, requires_grad=wanted) for wanted in (True, False))
    (found,), (wanted,) = features(output), features(target)
    expected = (found - wanted).abs().mean() / wanted.abs().mean()
    (gradient,) = torch.autograd.grad(expected, output)
    layouts.clear()
    loss = perceptual_loss(features, output, target)
    loss.backward()
    assert layouts == [True]
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(output.grad, gradient)


def test_colour_loss_ignores_detail_but_not_tone() -> None:
    target, mask = torch.zeros(1, 3, 16, 16), torch.ones(1, 1, 16, 16)
    checker = target.clone()
    checker[..., ::2, ::2] = checker[..., 1::2, 1::2] = 0.4
    checker[..., ::2, 1::2] = checker[..., 1::2, ::2] = -0.4
    assert losses.colour_loss(checker, target, mask) < 0.05 * losses.colour_loss(target + 0.4, target, mask)


def test_total_variation_of_a_ramp() -> None:
    ramp = torch.arange(8.0).view(1, 1, 1, 8).expand(1, 3, 8, 8)
    assert losses.total_variation(ramp, torch.ones(1, 1, 8, 8)) == 1


def test_least_squares_targets() -> None:
    one, zero = [torch.ones(1, 1, 2, 2)], [torch.zeros(1, 1, 2, 2)]
    assert losses.discriminator_loss(one, zero, zero, 0.5) == 0
    assert losses.discriminator_loss(zero, one, one, 0.5) == 2.5
    assert losses.generator_loss(one) == 0 and losses.generator_loss(zero) == 1


def test_discriminators_see_every_scale() -> None:
    judge = losses.PatchDiscriminator(8, 3)
    scores = judge(torch.rand(2, 3, 64, 64))
    assert [tuple(score.shape[1:]) for score in scores] == [(1, 16, 16), (1, 8, 8), (1, 4, 4)]


def test_drawn_region_adds_near_changes_only() -> None:
    photo, mask = torch.zeros(1, 3, 32, 32), torch.zeros(1, 1, 32, 32)
    mask[..., 10:20, 10:20] = 1
    styled = photo.clone()
    styled[..., 8:10, 10:20] = 1  # hair standing out beyond the head
    styled[..., 30:, 30:] = 1  # a mistake far away
    region = drawn_region(photo, styled, mask)
    assert region[0, 0, 9, 15] == 1 and region[0, 0, 31, 31] == 0 and region[0, 0, 15, 15] == 1


def test_pixel_loss_weighs_eyes_more_than_foreheads() -> None:
    target, mask = torch.zeros(1, 3, 64, 64), torch.ones(1, 1, 64, 64)
    weight = 4.0 * facial_weights(64)
    eye, forehead = target.clone(), target.clone()
    eye[..., 29:33, 21:25], forehead[..., 9:13, 31:35] = 1, 1
    wrong_eye, wrong_forehead = (losses.pixel_loss(output, target, mask, weight) for output in (eye, forehead))
    assert wrong_eye - wrong_forehead > 3 * (wrong_forehead - losses.pixel_loss(target, target, mask, weight))
