"""Losses and what the discriminators see, on numbers worked out by hand."""

import cv2
import numpy as np
import pytest
import torch

from stages.common.facial import facial_weights
from stages.pair import losses
from stages.pair.augment import augment, below, flip_some, inside, look_at, region, smooth_edges
from stages.pair.training import faded, shared_regions


def _disc(side: int = 32, radius: int = 8) -> torch.Tensor:
    y, x = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    return (((y - side // 2) ** 2 + (x - side // 2) ** 2) <= radius**2).float()[None, None]


def test_discriminator_loss_judges_each_part_of_the_batch() -> None:
    logits = [torch.tensor([[1.0], [0.0], [0.5]])]  # real right, fake right, edge-smoothed at 0.5
    assert losses.discriminator_loss(logits, 1, 1, 2.0).item() == pytest.approx(2.0 * 0.25)
    assert losses.discriminator_loss(logits, 1, 1, 0.0).item() == 0
    assert losses.lsgan(logits * 2, 1.0, slice(1, 2)).item() == pytest.approx(2.0)


def test_masked_l1_is_the_mean_over_the_weighted_area() -> None:
    a, b = torch.zeros(1, 3, 4, 4), torch.zeros(1, 3, 4, 4)
    b[..., :2] = 0.5
    weight = torch.zeros(1, 1, 4, 4)
    weight[..., :1] = 1
    assert losses.masked_l1(a, b, weight).item() == pytest.approx(0.5)
    assert losses.masked_l1(a, b, torch.zeros_like(weight)).item() == 0


def test_background_loss_sees_only_the_outside() -> None:
    photo, mask = torch.zeros(1, 3, 32, 32), _disc()
    assert losses.background_loss(photo + mask, photo, mask).item() == 0
    assert losses.background_loss(photo + 0.1, photo, mask).item() == pytest.approx(0.1, rel=1e-4)


def test_cycle_weights_the_outside() -> None:
    start, mask = torch.zeros(1, 3, 32, 32), _disc()
    inside, outside = start + mask, start + (1 - mask)
    assert losses.cycle_loss(inside, start, mask, 3.0) == losses.cycle_loss(inside, start, None, 3.0)
    weighted, plain = losses.cycle_loss(outside, start, mask, 3.0), losses.cycle_loss(outside, start, None, 3.0)
    torch.testing.assert_close(weighted, 3 * plain)


def test_area_hinge_pushes_back_from_both_collapses() -> None:
    head = _disc()
    for start, direction in ((0.02, 1), (0.98, -1)):
        mask = torch.full_like(head, start).requires_grad_()
        losses.area_hinge(mask, head).backward()
        assert mask.grad is not None and (mask.grad * direction).max() < 0, "descent must move towards the head's area"
    assert losses.area_hinge(head * 0.95, head).item() == 0, "within the slack nothing pushes"


def test_cam_and_mask_losses_prefer_the_truth() -> None:
    right, wrong = torch.full((2, 2), 4.0), torch.full((2, 2), -4.0)
    assert losses.cam_loss(right, wrong) < 0.1 < losses.cam_loss(wrong, right)
    head = _disc()
    assert losses.mask_loss(head * 20 - 10, head) < 0.01 < losses.mask_loss(10 - head * 20, head)
    assert losses.total_variation(torch.ones(1, 1, 4, 4)) == 0 and losses.total_variation(head) > 0


def test_region_contains_the_head_and_fades() -> None:
    head = _disc()
    grown = region(head, 0.06)
    assert (grown[head > 0] > 0.999).all() and grown.max() <= 1.0 + 1e-6
    assert grown[0, 0, 0, 0] == 0 and head.sum() < grown.sum() < 3 * head.sum()
    assert ((grown > 0) & (grown < 0.999)).any()
    edge = torch.zeros(1, 1, 32, 32)
    edge[..., :10] = 1
    assert (region(edge, 0.06)[..., 0] > 0.999).all(), "a head cut by the picture's edge must not fade there"


def test_shared_regions_have_the_same_silhouettes() -> None:
    torch.manual_seed(0)
    photos = torch.cat([_disc(32, 8)] * 3)
    styles = torch.cat([_disc(32, 12)] * 2)
    mine, theirs = shared_regions(photos, styles)
    assert mine.shape[0] == 3 and theirs.shape[0] == 2
    assert torch.equal(mine[0], theirs[0])


def test_augment_keeps_shape_is_off_at_zero_and_lets_gradients_through() -> None:
    torch.manual_seed(0)
    x = (torch.rand(4, 3, 16, 16) - 0.5).requires_grad_()
    assert augment(x, 0.0) is x
    out = augment(x, 1.0)
    assert out.shape == x.shape and not torch.equal(out, x)
    out.sum().backward()
    assert x.grad is not None and x.grad.abs().sum() > 0
    torch.manual_seed(3)
    first = augment(x, 0.7)
    torch.manual_seed(3)
    assert torch.equal(first, augment(x, 0.7))


def test_flip_and_look() -> None:
    ramp = torch.linspace(-1, 1, 8).expand(2, 3, 8, 8)
    kept, flipped = flip_some(torch.tensor([False, True]), ramp)[0]
    assert torch.equal(kept, ramp[0]) and torch.equal(flipped, ramp[1].flip(2))
    assert look_at(ramp, torch.zeros(2, 1, 8, 8)).eq(0).all()


def test_rows_below_a_height() -> None:
    rows = below(0.25, 64)
    assert rows.shape == (1, 1, 64, 1)
    assert (rows[:, :, :14] == 0).all() and (rows[:, :, 18:] == 1).all()
    assert (below(0.0, 8) == 1).all()


def test_smooth_edges_changes_edges_only() -> None:
    image = np.full((64, 64, 3), 40, np.uint8)
    cv2.rectangle(image, (20, 20), (44, 44), (220, 120, 60), -1)
    smooth = smooth_edges(image)
    changed = (smooth != image).any(2)
    assert changed.any() and not changed[:12].any() and not changed[28:36, 28:36].any()
    assert np.abs(cv2.Laplacian(smooth, cv2.CV_32F)).sum() < 0.9 * np.abs(cv2.Laplacian(image, cv2.CV_32F)).sum()


def test_the_soft_edge_is_no_head_and_a_pairs_target_fades_into_the_photo_there() -> None:
    mask = torch.tensor([0.0, 0.3, 0.5, 0.75, 1.0]).view(1, 1, 1, 5)
    assert inside(mask).flatten().tolist() == pytest.approx([0, 0, 0, 0.5, 1])
    photo, styled = torch.zeros(1, 3, 1, 5), torch.ones(1, 3, 1, 5)
    assert faded(photo, styled, mask)[0, 0, 0].tolist() == pytest.approx([0, 0, 0, 0.5, 1])


def test_eyes_and_mouth_count_more() -> None:
    weights = facial_weights(64)
    assert weights.shape == (1, 1, 64, 64)
    assert weights[0, 0, 30, 23] > 5 and weights[0, 0, 30, 40] > 5 and weights[0, 0, 46, 32] > 5
    assert weights[0, 0, 10, 32] == pytest.approx(1, abs=1e-3)
    ones, dark = torch.ones(1, 3, 64, 64), torch.ones(1, 3, 64, 64)
    dark[..., 29:33, 21:25] = -1  # an eye
    elsewhere = torch.ones(1, 3, 64, 64)
    elsewhere[..., 9:13, 31:35] = -1  # as much of the forehead
    eye, forehead = (losses.pair_loss(ones, target, weights) for target in (dark, elsewhere))
    assert eye > 4 * forehead
