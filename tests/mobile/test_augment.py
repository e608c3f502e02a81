"""Augmentation: geometry moves all parts together, light stays on the input, backgrounds pass."""

import cv2
import numpy as np
import torch

from pipeline.settings.mobile import MobileSettings
from stages.common.light import relight
from stages.mobile.augment import (
    Pairs,
    augment_pairs,
    compose_target,
    damage,
    jpeg,
    move,
    replace_background,
)


def some_pairs(n: int = 4, side: int = 32) -> Pairs:
    torch.manual_seed(1)
    photo = torch.nn.functional.interpolate(torch.rand(n, 3, 8, 8) * 2 - 1, (side, side), mode="bilinear")
    mask = torch.zeros(n, 1, side, side)
    mask[..., 8:24, 10:22] = 1
    return Pairs(photo, photo, mask)


def test_geometry_moves_photo_styled_and_mask_alike() -> None:
    pairs = some_pairs()
    moved = move(Pairs(pairs.photo, -pairs.photo, (pairs.photo[:, :1] + 1) / 2), MobileSettings())
    assert torch.allclose(moved.photo, -moved.styled, atol=1e-6)
    assert torch.allclose((moved.photo[:, :1] + 1) / 2, moved.mask, atol=1e-5)
    assert not torch.allclose(moved.photo, pairs.photo, atol=0.05)


def test_no_geometry_is_identity_or_mirror() -> None:
    pairs = some_pairs()
    still = move(pairs, MobileSettings(max_rotation=0, max_shift=0, max_zoom=0))
    for before, after in zip(pairs.photo, still.photo, strict=True):
        assert torch.allclose(after, before, atol=1e-5) or torch.allclose(after, before.flip(2), atol=1e-5)


def test_light_and_damage_touch_the_input_only() -> None:
    pairs = some_pairs()
    styled = torch.full_like(pairs.photo, 0.3)
    out = augment_pairs(Pairs(pairs.photo, styled, pairs.mask), MobileSettings(damage=1.0))
    inside, outside = out.mask > 0.999, out.mask < 0.001
    assert torch.allclose(out.styled[inside.expand(-1, 3, -1, -1)], torch.tensor(0.3), atol=1e-3)
    where = outside.expand(-1, 3, -1, -1)
    assert torch.allclose(out.styled[where], out.photo[where], atol=2e-3)
    assert out.photo.abs().max() <= 1


def test_strength_zero_changes_nothing() -> None:
    photo = some_pairs().photo
    assert torch.allclose(relight(photo, 0.0), photo, atol=2e-4)
    assert torch.equal(damage(photo, 0.0), photo)
    assert torch.equal(replace_background(photo, torch.zeros_like(photo[:, :1]), 0.0), photo)


def test_background_replacement_keeps_the_head() -> None:
    pairs = some_pairs(8)
    replaced = replace_background(pairs.photo, pairs.mask, 1.0)
    head = (pairs.mask == 1).expand(-1, 3, -1, -1)
    assert torch.allclose(replaced[head], pairs.photo[head], atol=1e-6)
    assert (replaced[~head] - pairs.photo[~head]).abs().mean() > 0.1


def test_jpeg_is_near_libjpeg() -> None:
    rng = np.random.default_rng(0)
    image = cv2.resize(rng.integers(0, 255, (8, 8, 3), np.uint8), (32, 32), interpolation=cv2.INTER_CUBIC)
    options = [cv2.IMWRITE_JPEG_QUALITY, 40, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]
    theirs = cv2.imdecode(cv2.imencode(".jpg", image, options)[1], cv2.IMREAD_COLOR).astype(float)
    tensor = torch.from_numpy(image[..., ::-1].copy()).permute(2, 0, 1)[None].float() / 127.5 - 1
    ours = (jpeg(tensor, torch.full((1, 1, 1, 1), 40.0))[0].permute(1, 2, 0).numpy()[..., ::-1] + 1) * 127.5
    error, theirs_error = np.abs(ours - image).mean(), np.abs(theirs - image).mean()
    assert 0.3 * theirs_error < error < 1.5 * theirs_error


def test_composed_target_is_styled_inside_photo_outside() -> None:
    pairs = some_pairs(1)
    target = compose_target(pairs.photo, torch.ones_like(pairs.photo), pairs.mask)
    assert target[0, 0, 16, 16] == 1 and target[0, 0, 0, 0] == pairs.photo[0, 0, 0, 0]


def test_damage_spares_the_others_and_does_not_depend_on_them() -> None:
    photo = torch.rand(16, 3, 64, 64) * 1.8 - 0.9
    torch.manual_seed(3)
    some = damage(photo, 0.4)
    torch.manual_seed(3)
    everything = damage(photo, 1.0)
    torch.manual_seed(3)
    assert torch.equal(damage(photo, 0.0), photo)
    touched = (some != photo).flatten(1).any(1)
    assert 0 < touched.sum() < 16
    assert torch.equal(some[touched], everything[touched])
    assert (everything != photo).flatten(1).any(1).all()
