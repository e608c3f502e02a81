"""Avatars: the same seed draws the same head, traits spread as promised, eyes lie where the landmarks say."""

import dataclasses
import typing

import numpy as np
import pytest

from stages.faces.align import CANON_EYE_L, CANON_EYE_R, align, ffhq_quad, move_points, to_aligned
from stages.faces.avatars import Avatar, compose, draw_avatar, framing, landmarks
from stages.faces.avatars_design import Beard, Clothes, Glasses, Hair, sample_design
from stages.faces.avatars_svg import Pen


@pytest.fixture(scope="module")
def avatars() -> list[Avatar]:
    return [draw_avatar(0, number, 128) for number in range(24)]


def test_same_seed_same_picture_other_seed_other_picture() -> None:
    first, again, other = draw_avatar(3, 7, 64), draw_avatar(3, 7, 64), draw_avatar(4, 7, 64)
    assert np.array_equal(first.image, again.image)
    assert first.eye_l == again.eye_l
    assert not np.array_equal(first.image, other.image)


def test_pictures_are_rgba_with_a_transparent_background_and_shoulders_at_the_bottom(avatars: list[Avatar]) -> None:
    for avatar in avatars:
        assert avatar.image.shape == (128, 128, 4)
        assert avatar.image.dtype == np.uint8
        alpha = avatar.image[..., 3]
        assert alpha[0, 0] == alpha[0, -1] == 0
        assert 0.3 < (alpha > 127).mean() < 0.95
        assert alpha[-1, 64] == 255


def test_designs_look_clearly_different(avatars: list[Avatar]) -> None:
    small = np.stack([a.image[::4, ::4].astype(float) for a in avatars])
    distance = np.abs(small[:, None] - small[None]).mean((2, 3, 4))
    assert distance[~np.eye(len(avatars), dtype=bool)].min() > 5


def test_aligned_eyes_and_mouth_lie_where_those_of_photos_do(avatars: list[Avatar]) -> None:
    for avatar in avatars:
        quad = ffhq_quad(avatar.eye_l, avatar.eye_r, avatar.mouth)
        assert quad.min() > -0.5  # the aligned square stays inside the picture: nothing is padded
        assert quad.max() < 128.5
        points = move_points(to_aligned(quad, 1), np.array([avatar.eye_l, avatar.eye_r, avatar.mouth]))
        assert np.abs(points[:2] - np.array([CANON_EYE_L, CANON_EYE_R])).max() < 0.035
        assert abs(points[0, 1] - points[1, 1]) < 0.02
        assert points[2] == pytest.approx((0.5, 0.745), abs=0.06)


def test_pupils_are_dark_and_lie_at_the_landmarks() -> None:
    for number in range(12):
        avatar = draw_avatar(1, number)
        for x, y in (avatar.eye_l, avatar.eye_r):
            patch = avatar.image[round(y) - 8 : round(y) + 9, round(x) - 8 : round(x) + 9, :3].mean(2)
            assert patch.min() < 70
            rows, columns = np.nonzero(patch <= np.percentile(patch, 10))
            assert np.hypot(rows.mean() - 8, columns.mean() - 8) < 5


def test_head_mask_is_the_drawing_without_shoulders(avatars: list[Avatar]) -> None:
    for avatar in avatars:
        head, alpha = avatar.mask > 127, avatar.image[..., 3] > 127
        assert (head & ~alpha).sum() <= 0.002 * head.size
        assert 0.15 < head.mean() < 0.8
        for x, y in (avatar.eye_l, avatar.eye_r, avatar.mouth):
            assert head[round(y), round(x)]
        if avatar.design.hair in ("bald", "crew", "side_part", "buzz"):
            assert not head[int(0.95 * len(head)) :].any()


def test_landmarks_scale_with_the_picture() -> None:
    small, large = draw_avatar(0, 5, 64), draw_avatar(0, 5, 256)
    for name in ("eye_l", "eye_r", "mouth"):
        assert np.array(getattr(large, name)) == pytest.approx(4 * np.array(getattr(small, name)))


def test_traits_cover_their_range() -> None:
    designs = [sample_design(0, number) for number in range(600)]
    tone = np.array([d.skin_dark for d in designs])
    assert np.quantile(tone, 0.1) < 0.06
    assert np.quantile(tone, 0.9) > 0.75
    assert 0.03 < np.mean([d.glasses != "none" for d in designs]) < 0.1
    yaw, pitch = np.array([d.yaw for d in designs]), np.array([d.pitch for d in designs])
    assert 7 < yaw.std() < 11
    assert abs(yaw.mean()) < 1
    assert pitch.std() > 4
    assert np.abs(yaw).max() <= 18
    opened = np.array([d.opened for d in designs])
    assert 0.35 < (opened > 0).mean() < 0.55
    assert opened.max() > 0.8
    smile = np.array([d.smile for d in designs])
    assert smile.min() < -0.4
    assert smile.max() > 0.95
    assert {d.hair for d in designs} == set(typing.get_args(Hair))
    assert 0.05 < np.mean([d.grey for d in designs]) < 0.3


@pytest.mark.parametrize(
    ("field", "values"),
    [
        ("hair", Hair),
        ("beard", Beard),
        ("glasses", Glasses),
        ("clothes", Clothes),
        ("light", (-1, 1)),
        ("part", (-1, 1)),
    ],
)
def test_every_choice_of_a_trait_draws_something_else(field: str, values: object) -> None:
    choices = values if isinstance(values, tuple) else typing.get_args(values)
    base = dataclasses.replace(sample_design(0, 1), hair="side_part", beard="none", opened=0.3)
    pen = Pen(base.yaw, base.pitch, base.roll)
    centre, half = framing(landmarks(pen, base))
    drawings = {compose(dataclasses.replace(base, **{field: c}), pen).svg(64, centre, half) for c in choices}
    assert len(drawings) == len(choices)


def test_turning_the_head_moves_near_points_with_the_nose() -> None:
    straight, turned = Pen(), Pen(yaw=15)
    nose = turned.at(0, 158, 90)[0] - straight.at(0, 158, 90)[0]
    ear = turned.at(72, 136, -8)[0] - straight.at(72, 136, -8)[0]
    assert nose > 15
    assert ear < 0
    assert Pen(pitch=10).at(0, 158, 90)[1] < straight.at(0, 158, 90)[1]  # looking up


def test_aligning_keeps_the_picture() -> None:
    avatar = draw_avatar(0, 2)
    aligned = align(avatar.image, ffhq_quad(avatar.eye_l, avatar.eye_r, avatar.mouth), 64)
    assert aligned.shape == (64, 64, 4)
    assert aligned[30, 32, 3] == 255
