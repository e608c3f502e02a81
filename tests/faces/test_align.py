import numpy as np
import pytest

from stages.faces.align import align, ffhq_quad, move_points, paste_back, quad_roll, quad_side, to_aligned


def smooth(size: int = 120) -> np.ndarray:
    y, x = np.mgrid[0:size, 0:size] / size
    return np.stack([200 * x, 200 * y, 100 + 80 * np.sin(4 * x) * np.cos(3 * y)], axis=2).astype(np.uint8)


def test_quad_follows_the_recipe():
    quad = ffhq_quad((40, 50), (60, 50), (50, 70))
    # eye distance 20, eyes to mouth 20: half-side max(40, 36), centre 2 below the eyes
    assert np.allclose(quad.mean(0), [50, 52])
    assert quad_side(quad) == pytest.approx(80)
    assert np.allclose(quad, [[10, 12], [10, 92], [90, 92], [90, 12]])


def test_quad_without_mouth_takes_its_usual_distance():
    assert np.allclose(ffhq_quad((40, 50), (60, 50)), ffhq_quad((40, 50), (60, 50), (50, 72)))


def test_long_face_widens_the_crop():
    assert quad_side(ffhq_quad((40, 50), (60, 50), (50, 80))) == pytest.approx(2 * 1.8 * 30)


def test_rolled_face_comes_out_upright():
    angle = np.radians(25)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    points = np.array([[-10, 0], [10, 0], [0, 21]]) @ turn.T + 60
    quad = ffhq_quad(*map(tuple, points))
    assert quad_roll(quad) == pytest.approx(25)
    left, right, mouth = move_points(to_aligned(quad, 64), points)
    assert left[1] == pytest.approx(right[1]) and mouth[0] == pytest.approx(32)
    assert left[0] == pytest.approx(24) and right[0] == pytest.approx(40)


def test_coinciding_eyes_are_refused():
    with pytest.raises(ValueError, match="same point"):
        ffhq_quad((5, 5), (5, 5))


@pytest.mark.parametrize("resolution", [16, 64, 200])
def test_align_puts_colours_where_the_points_go(resolution):
    picture = smooth()
    quad = ffhq_quad((50, 55), (68, 60), (56, 78))
    crop = align(picture, quad, resolution)
    assert crop.shape == (resolution, resolution, 3) and crop.dtype == np.uint8
    matrix = to_aligned(quad, resolution)
    for point in ([50, 55], [68, 60], [56, 78]):
        x, y = move_points(matrix, np.array([point]))[0]
        expected = picture[point[1] - 1 : point[1] + 1, point[0] - 1 : point[0] + 1].mean((0, 1))
        assert np.abs(crop[int(y), int(x)] - expected).max() < 9


def test_shrinking_is_antialiased():
    checker = (np.indices((400, 400)).sum(0) % 2 * 255).astype(np.uint8)[..., None].repeat(3, 2)
    crop = align(checker, np.array([[0, 0], [0, 400], [400, 400], [400, 0]], float), 32)
    assert np.abs(crop.astype(int) - 127).max() < 12


def test_outside_is_reflected_and_blurred():
    picture = smooth()
    crop = align(picture, np.array([[-60, -60], [-60, 180], [180, 180], [180, -60]], float), 64)
    assert crop.min() >= 0 and crop[32, 32] == pytest.approx(picture[60, 60], abs=6)
    assert crop[:8].astype(int).max() > 0  # no black frame


def test_transparent_picture_keeps_colour_without_dark_fringe():
    rgba = np.zeros((80, 80, 4), np.uint8)
    rgba[20:60, 20:60] = (200, 100, 50, 255)
    crop = align(rgba, np.array([[0, 0], [0, 80], [80, 80], [80, 0]], float), 30)
    edge = (crop[..., 3] > 20) & (crop[..., 3] < 235)
    assert edge.any() and np.abs(crop[edge][:, :3].astype(int) - [200, 100, 50]).max() < 12


def test_paste_back_is_the_inverse_of_align():
    picture = smooth(160)
    quad = ffhq_quad((70, 75), (92, 70), (83, 100))
    crop = align(picture, quad, 128)
    mask = np.zeros((128, 128), np.uint8)
    mask[30:100, 30:100] = 255
    back = paste_back(picture, crop, mask, quad)
    assert back.shape == picture.shape and np.abs(back.astype(int) - picture).max() <= 8


def test_paste_back_changes_only_what_the_mask_covers():
    picture = smooth()
    quad = ffhq_quad((50, 55), (70, 55), (60, 77))
    mask = np.zeros((32, 32), np.float32)
    mask[10:20, 10:20] = 1
    back = paste_back(picture, np.full((64, 64, 3), 255, np.uint8), mask, quad)
    x, y = quad[0] + quad_side(quad) * np.array([15, 15]) / 32
    assert (back[int(y), int(x)] == 255).all()
    changed = (back != picture).any(axis=2)
    assert 0.05 < changed.mean() < 0.2 and not changed[:20].any()


def test_paste_back_beyond_the_picture_leaves_it_alone():
    picture = smooth()
    far = ffhq_quad((500, 500), (520, 500), (510, 520))
    mask = np.ones((8, 8), np.float32)
    assert np.array_equal(paste_back(picture, np.zeros((8, 8, 3), np.uint8), mask, far), picture)
