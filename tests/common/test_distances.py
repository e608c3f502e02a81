"""Distances against hand-computable cases and the published implementation."""

import time

import numpy as np
import pytest
import torch

from stages.common import distances as d
from stages.common.features import import_torchvision


def gaussian(n: int, mean: float = 0.0, width: int = 4, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(mean, 1.0, (n, width))


def test_frechet_equals_pytorch_fid() -> None:
    import_torchvision()
    from pytorch_fid.fid_score import calculate_frechet_distance

    rng = np.random.default_rng(1)
    a, b = rng.normal(size=(600, 64)) @ rng.normal(size=(64, 64)), rng.normal(0.3, 1.5, (500, 64))
    reference = calculate_frechet_distance(*d.statistics(a), *d.statistics(b))
    assert d.frechet(a, b) == pytest.approx(reference, rel=1e-6)
    assert d.frechet_from_statistics(*d.statistics(a), *d.statistics(b)) == pytest.approx(reference, rel=1e-6)


def test_frechet_of_one_dimension_by_hand() -> None:
    # N(0, 1) and N(3, 4): 9 + 1 + 4 - 2 * 2
    got = d.frechet_from_statistics(np.zeros(1), np.eye(1), np.full(1, 3.0), 4 * np.eye(1))
    assert got == pytest.approx(10.0)


def test_frechet_survives_singular_covariances_and_both_ways_agree() -> None:
    a, b = gaussian(20, width=64, seed=1), gaussian(30, 0.5, width=64, seed=2)
    few = d.frechet(a, b)
    full = d.frechet_from_statistics(*d.statistics(a), *d.statistics(b))
    assert few == pytest.approx(full, rel=1e-6)
    constant = np.ones((10, 64))
    assert d.frechet(constant, constant) == pytest.approx(0.0, abs=1e-9)
    assert d.frechet(a, a) == pytest.approx(0.0, abs=1e-6)


@pytest.mark.slow
def test_frechet_of_2048_features_takes_seconds() -> None:
    rng = np.random.default_rng(0)
    factors = [rng.normal(size=(2048, 2048)) / 45 for _ in range(2)]
    covariances = [f @ f.T for f in factors]
    start = time.perf_counter()
    value = d.frechet_from_statistics(np.zeros(2048), covariances[0], np.zeros(2048), covariances[1])
    assert np.isfinite(value)
    assert time.perf_counter() - start < 30  # aim: 3 s on two idle cores; generous beside other work


def test_frechet_refuses_bad_features() -> None:
    with pytest.raises(ValueError, match="width"):
        d.frechet(gaussian(5), gaussian(5, width=3))
    with pytest.raises(ValueError, match="N >= 2"):
        d.frechet(gaussian(1), gaussian(5))
    with pytest.raises(ValueError, match="not finite"):
        d.frechet(np.full((4, 4), np.nan), gaussian(5))


def test_kid_by_hand_and_unbiased() -> None:
    a, b = np.array([[1.0], [2.0]]), np.array([[0.0], [1.0]])
    # k(x, y) = (xy + 1)^3: within a 27, within b 1, across (1, 8, 1, 27) / 4
    assert d.kid(a, b) == pytest.approx(27 + 1 - 2 * (1 + 8 + 1 + 27) / 4)
    values = [d.kid(gaussian(40, seed=i), gaussian(40, seed=100 + i)) for i in range(200)]
    assert abs(np.mean(values)) < 3 * np.std(values) / np.sqrt(200)
    assert d.kid(torch.from_numpy(gaussian(100)), gaussian(100, 1.0)) > 0.5


def test_precision_and_recall() -> None:
    real = np.arange(10.0)[:, None]
    assert d.precision_recall(real, real + 0.1) == (1.0, 1.0)
    assert d.precision_recall(real, real + 100) == (0.0, 0.0)
    collapsed = np.full((10, 1), 4.0) + np.linspace(0, 0.01, 10)[:, None]
    precision, recall = d.precision_recall(real, collapsed)
    assert precision == 1.0
    assert recall == pytest.approx(0.1)  # only the one real point at 4
    with pytest.raises(ValueError, match="more than 3"):
        d.precision_recall(real[:3], real)


def test_style_gap_ends_and_order() -> None:
    style, photos = gaussian(60, 2.0, seed=1), gaussian(40, 0.0, seed=2)
    good, half = gaussian(40, 2.0, seed=3), gaussian(40, 1.0, seed=4)
    untouched = d.style_gap(photos, style, photos)
    assert untouched.gap.value == pytest.approx(1.0)
    reached = d.style_gap(good, style, photos)
    between = d.style_gap(half, style, photos)
    assert abs(reached.gap.value) < 0.05 < between.gap.value < 0.6
    assert reached.gap.low < 0.0 < reached.gap.high < between.gap.low
    assert reached.gap.n == 40
    assert reached.n_style == 60
    assert 0.2 < d.style_gap(half, style, photos, distance=d.frechet).gap.value < 0.6
    assert np.isnan(d.style_gap(good, style, photos, interval=False).gap.low)
    with pytest.raises(ValueError, match="in pairs"):
        d.style_gap(good[:5], style, photos)
    with pytest.raises(ValueError, match="at least 4"):
        d.style_gap(good, style[:3], photos)


def test_head_only_keeps_the_head() -> None:
    image, mask = torch.ones(1, 3, 4, 4), torch.zeros(1, 1, 4, 4)
    mask[..., :2] = 1
    out = d.head_only(image, mask)
    assert (out[..., :2] == 1).all()
    assert (out[..., 2:] == 0).all()


def test_sharpness_by_hand() -> None:
    image = torch.full((1, 3, 9, 9), -1.0)
    image[..., 4, 4] = 1.0  # one white pixel: |Laplacian| 4*255 there, 255 at its four neighbours
    full = torch.ones(1, 1, 9, 9)
    assert d.sharpness(image, full)[0] == pytest.approx(8 * 255 / 81, rel=1e-4)
    centre = torch.zeros(1, 1, 9, 9)
    centre[..., 4, 4] = 1
    assert d.sharpness(image, centre)[0] == pytest.approx(4 * 255, rel=1e-4)
    assert np.isnan(d.sharpness(image, full * 0)[0])


def test_background_is_outside_the_grown_mask() -> None:
    photo, mask = torch.zeros(1, 3, 32, 32), torch.zeros(1, 1, 32, 32)
    mask[..., 8:24, 8:24] = 1
    inside, outside = photo.clone(), photo.clone()
    inside[..., 6:26, 8:24] = 1.0  # 2 px over the mask: still within the margin
    outside[..., 0:3, :] = 20 / 127.5  # 20 levels on 3 of the background's rows
    assert d.background_psnr(photo, inside, mask)[0] == d.pixels.IDENTICAL_PSNR
    assert d.background_ssim(photo, inside, mask)[0] == pytest.approx(1.0)
    share = 96 / d.background(mask).sum().item()
    assert d.background_psnr(photo, outside, mask)[0] == pytest.approx(10 * np.log10(255**2 / (share * 400)), rel=1e-4)
    assert d.background_ssim(photo, outside, mask)[0] < 0.95
    assert np.isnan(d.background_psnr(photo, outside, torch.ones_like(mask))[0])
    assert np.isnan(d.background_ssim(photo, outside, torch.ones_like(mask))[0])


def test_mask_iou() -> None:
    a, b = torch.zeros(2, 1, 4, 4), torch.zeros(2, 1, 4, 4)
    a[0, :, :2], b[0, :, 1:3] = 1, 1
    iou = d.mask_iou(a, b)
    assert iou[0] == pytest.approx(4 / 12)
    assert np.isnan(iou[1])


def test_seam_sees_a_hard_cut_and_not_the_inside() -> None:
    photo, mask = torch.zeros(1, 3, 32, 32), torch.zeros(1, 1, 32, 32)
    mask[..., 8:24, 8:24] = 1
    cut, middle = photo.clone(), photo.clone()
    cut[..., 8:24, 8:24] = 0.5
    middle[..., 14:18, 14:18] = 0.5
    assert d.seam(photo, photo, mask)[0] == 0
    assert d.seam(photo, cut, mask)[0] > 8
    assert d.seam(photo, middle, mask)[0] == pytest.approx(0, abs=1e-5)


def test_colour_shift_in_lab() -> None:
    grey, mask = torch.zeros(1, 3, 8, 8), torch.ones(1, 1, 8, 8)
    white = torch.ones(1, 3, 8, 8)
    distance, lightness = d.colour_shift(grey, white, mask)
    assert lightness[0] == pytest.approx(100 - 53.39, abs=0.1)
    assert distance[0] == pytest.approx(lightness[0], abs=0.1)
    assert d.colour_shift(white, grey, mask)[1][0] == pytest.approx(-lightness[0])


def test_identity_rank() -> None:
    gallery, persons = np.eye(4), ["a", "b", "c", "d"]
    assert (d.identity_rank(gallery, gallery, persons, persons) == 1).all()
    swapped = d.identity_rank(gallery[[1, 0, 2, 3]], gallery, persons, persons)
    assert swapped.tolist() == [4, 4, 1, 1]  # ties among the others count against the result
    collapsed = d.identity_rank(np.ones((4, 4)), gallery, persons, persons)
    assert (collapsed == 4).all()
    assert np.isnan(d.identity_rank(gallery[:2], gallery, ["x", "b"], persons)[0])


def test_identity_rank_leaves_out_the_same_photo_where_it_can() -> None:
    gallery = np.array([[1.0, 0, 0], [0, 1.0, 0], [0.9, 0.1, 0]])
    persons, photos = ["a", "a", "b"], ["a1", "a2", "b1"]
    ranks = d.identity_rank(gallery[[0, 2]], gallery, ["a", "b"], persons, ["a1", "b1"], photos)
    assert ranks.tolist() == [2, 1]  # a's other photo is unlike a1; b has no other photo, so its own counts


def test_recognised_is_the_expected_share_over_galleries() -> None:
    ranks = np.array([1.0, 5, 6, 20, 136, np.nan])
    exact = d.recognised(ranks, persons=136)
    assert exact[:2].tolist() == [1, 1] and exact[4] == pytest.approx(0) and np.isnan(exact[5])
    draw = np.random.default_rng(0)
    for rank, chance in zip(ranks[2:4], exact[2:4], strict=True):
        before = [(draw.permutation(135)[:59] < rank - 1).sum() < 5 for _ in range(4000)]
        assert chance == pytest.approx(np.mean(before), abs=0.03)
    assert d.recognised(ranks[:4], persons=20).tolist() == [1, 1, 0, 0]  # the whole gallery, nothing to draw


def test_jackknife_covers_and_needs_enough() -> None:
    values = np.random.default_rng(0).normal(5, 1, 200)
    estimate = d.jackknife(lambda chosen: float(values[chosen[0]].mean()), [200])
    assert estimate.low < 5 < estimate.high
    assert estimate.high - estimate.low == pytest.approx(4 / np.sqrt(200), rel=0.6)
    assert np.isnan(d.jackknife(lambda chosen: 1.0, [3]).low)


def test_style_distance_of_single_pictures() -> None:
    style, photos = gaussian(60, 2.0, seed=1), gaussian(40, 0.0, seed=2)
    assert d.style_distance(photos, style, photos).mean() == pytest.approx(1.0)
    assert d.style_distance(style, style, photos).mean() == pytest.approx(0.0, abs=1e-9)
    assert 0.1 < d.style_distance(gaussian(40, 1.0, seed=4), style, photos).mean() < 0.9
    assert np.isnan(d.style_distance(photos, style, style)).all()


def test_outline_gradient_by_hand() -> None:
    mask = torch.zeros(1, 1, 32, 32)
    mask[..., 8:24] = 1  # two vertical borders
    flat = torch.zeros(1, 3, 32, 32)
    assert d.outline_gradient(flat, mask)[0] == 0
    ramp = torch.linspace(-1, 1, 32).expand(1, 3, 32, 32)
    assert d.outline_gradient(ramp, mask)[0] == pytest.approx(255 / 31, rel=1e-3)


def test_diversity() -> None:
    assert d.diversity(np.ones((5, 3))) == 0
    assert d.diversity(np.array([[0.0, 0], [3, 4]])) == pytest.approx(5)


def test_intervals() -> None:
    values = np.random.default_rng(0).normal(5, 1, 400)
    estimate = d.bootstrap(values)
    assert estimate.low < 5 < estimate.high
    assert estimate.high - estimate.low == pytest.approx(4 * 1 / 20, rel=0.15)
    clustered = d.bootstrap(np.repeat(values[:40], 10), clusters=np.repeat(np.arange(40), 10))
    naive = d.bootstrap(np.repeat(values[:40], 10))
    assert clustered.high - clustered.low > 2.5 * (naive.high - naive.low)
    assert d.bootstrap([np.nan, 1.0, 3.0]).n == 2
    assert d.bootstrap([]).as_dict() == {"value": None, "low": None, "high": None, "n": 0}
    apart = d.difference(values + 1, values)
    assert apart.low < 1 < apart.high
    none = d.rate(0, 20)
    assert none.value == 0
    assert none.low == pytest.approx(0, abs=1e-12)
    assert none.high == pytest.approx(0.161, abs=0.002)
