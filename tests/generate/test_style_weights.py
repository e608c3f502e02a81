"""How often style pictures are drawn: tones as in the source, heads that the source knows, drawings in dim light."""

import numpy as np
import torch

from stages.generate.anchors import EXPOSURES, make_anchors
from stages.generate.style_weights import TONE_LIMITS, likeness_weights, source_tones, tone_weights
from tests.generate.conftest import tiny_encoder, tiny_models


def test_tones_become_as_frequent_as_in_the_source() -> None:
    style = np.array([60.0] * 40 + [20.0] * 40 + [-60.0] * 20)
    source = np.array([60.0] * 50 + [20.0] * 30 + [-60.0] * 20)
    weights = tone_weights(style, source)
    drawn = [weights[style == tone].sum() / weights.sum() for tone in (60.0, 20.0, -60.0)]
    np.testing.assert_allclose(drawn, [0.5, 0.3, 0.2], rtol=1e-6)
    half = tone_weights(style, source, 0.5)
    np.testing.assert_allclose(half, np.sqrt(weights), rtol=1e-6)
    assert (tone_weights(style, source, 0.0) == 1).all()


def test_a_tone_without_partner_keeps_a_small_weight_and_unknown_ones_are_left_alone() -> None:
    style = np.array([60.0, -60.0, np.nan])
    weights = tone_weights(style, np.array([60.0, 60.0]))
    assert weights[1] == TONE_LIMITS[0] and weights[2] == 1 and weights[0] == 2


def test_source_tones_are_degrees_and_repeatable() -> None:
    source, _ = tiny_models(0)
    tones = source_tones(source, 3)
    assert np.array_equal(tones, source_tones(source, 3), equal_nan=True)
    assert (np.abs(tones[np.isfinite(tones)]) <= 90).all()


def test_a_head_unlike_the_sources_counts_less() -> None:
    source, _ = tiny_models(0)
    encoder = tiny_encoder()
    # the untrained encoder gives every picture the same code: what the source draws for it is what it "knows"
    known = source.synthesis(encoder(torch.zeros(1, 3, 32, 32)), "const").clamp(-1, 1)
    pictures = ((known + 1) * 127.5).round().clamp(0, 255).to(torch.uint8).repeat(8, 1, 1, 1)
    noise = torch.randint(-8, 9, pictures.shape, generator=torch.Generator().manual_seed(0))
    pictures = (pictures.int() + noise).clamp(0, 255).to(torch.uint8)
    pictures[0, :, :10] = 255 - pictures[0, :, :10]  # a hat
    masks = torch.full((8, 1, 32, 32), 255, dtype=torch.uint8)
    weights = likeness_weights(pictures, masks, source, encoder)
    assert weights[0] < 0.05 < 0.3 < weights[1:].min() and weights.max() <= 1
    assert (likeness_weights(pictures, masks, source, encoder, 0.0) == 1).all()


def test_only_the_head_above_the_eyes_is_compared() -> None:
    source, _ = tiny_models(0)
    encoder = tiny_encoder()
    pictures = torch.randint(0, 256, (6, 3, 32, 32), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    masks = torch.full((6, 1, 32, 32), 255, dtype=torch.uint8)
    weights = likeness_weights(pictures, masks, source, encoder)
    below = pictures.clone()
    below[:, :, 20:] = 255 - below[:, :, 20:]
    np.testing.assert_allclose(likeness_weights(below, masks, source, encoder), weights, rtol=1e-4)


def test_anchors_take_turns_between_exposures_and_follow_weights() -> None:
    encoder = tiny_encoder()
    encoder.w_scale.fill_(1.0)
    images = torch.randint(0, 256, (4, 3, 32, 32), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    anchors = make_anchors(images, encoder, 0, np.array([0.0, 0.0, 1.0, 0.0]))
    codes, drawn = anchors.draw(0, 9)
    expected = {0: images[2], 1: images[2].flip(2)}
    for k, picture in enumerate(drawn):
        pixels = ((picture + 1) * 127.5).round().to(torch.uint8)
        assert any(torch.equal(pixels, wanted) for wanted in expected.values()), "weight 0 is never drawn"
        dimmed = pixels.float().mul(EXPOSURES[k % len(EXPOSURES)]).div(127.5).sub(1)[None]
        torch.testing.assert_close(codes[k], encoder(dimmed).mean(1)[0], rtol=1e-3, atol=1e-3)
