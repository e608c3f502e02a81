import cv2
import numpy as np
import pytest

from stages.common.masks import dilate, feather, head_mask, mask_iou

EYES = {"eye_l": (24.0, 30.0), "eye_r": (40.0, 30.0), "mouth": (32.0, 47.0)}


def head(background: tuple[int, int, int], resolution: int = 64) -> tuple[np.ndarray, np.ndarray]:
    """A face with hair and shoulders on a plain wall; picture and true silhouette."""
    k = resolution / 64
    picture = np.full((resolution, resolution, 3), background, np.uint8)
    shape = np.zeros((resolution, resolution), np.uint8)

    def ellipse(x: float, y: float, a: float, b: float, colour: tuple[int, int, int], part: bool = True) -> None:
        args = ((round(x * k), round(y * k)), (round(a * k), round(b * k)), 0, 0, 360)
        cv2.ellipse(picture, *args, colour, -1)
        if part:
            cv2.ellipse(shape, *args, 255, -1)

    ellipse(32, 70, 30, 14, (60, 90, 60))
    ellipse(32, 28, 22, 24, (60, 35, 20))
    ellipse(32, 36, 17, 22, (225, 180, 150))
    for x in (24, 40):
        ellipse(x, 30, 3, 2, (30, 30, 30))
    ellipse(32, 47, 6, 2, (170, 60, 60))
    noise = np.random.default_rng(0).normal(0, 3, picture.shape)
    return (picture + noise).clip(0, 255).astype(np.uint8), shape


@pytest.mark.parametrize("background", [(90, 120, 200), (235, 235, 230), (120, 160, 110)])
def test_grabcut_finds_face_and_hair(background):
    picture, shape = head(background)
    true = head_mask(picture, **EYES, alpha=shape)
    found = head_mask(picture, **EYES)
    assert found.dtype == np.uint8 and found.shape == (64, 64)
    assert mask_iou(found, true) > 0.9
    assert found[8, 32] > 200 and found[3, 3] == 0 and found[62, 32] == 0  # hair in, corner and clothes out


def test_larger_pictures_use_the_same_frame():
    picture, shape = head((90, 120, 200), 128)
    eyes = {name: (2 * x, 2 * y) for name, (x, y) in EYES.items()}
    assert mask_iou(head_mask(picture, **eyes), head_mask(picture, **eyes, alpha=shape)) > 0.9


def test_same_picture_same_mask():
    picture, _ = head((90, 120, 200))
    assert np.array_equal(head_mask(picture, **EYES), head_mask(picture, **EYES))


def test_alpha_is_cut_at_the_chin_softly():
    picture, shape = head((0, 0, 0))
    mask = head_mask(picture, **EYES, alpha=shape)
    column = mask[:, 32].astype(int)
    assert column[50] == 255 and column[63] == 0
    assert ((column > 10) & (column < 245)).any()
    assert mask[63].max() == 0 and shape[63].max() == 255


def test_unknown_mouth_is_put_where_it_usually_is():
    picture, shape = head((90, 120, 200))
    eyes = {name: EYES[name] for name in ("eye_l", "eye_r")}
    for mouth in (None, (float("nan"), float("nan"))):
        mask = head_mask(picture, **eyes, mouth=mouth, alpha=shape)
        assert mask_iou(mask, head_mask(picture, **EYES, alpha=shape)) > 0.9


def test_dilate_feather_iou():
    mask = np.zeros((32, 32), np.uint8)
    mask[12:20, 12:20] = 255
    assert (dilate(mask, 3) > 0).sum() > (mask > 0).sum() > (dilate(mask, -3) > 0).sum() > 0
    assert np.array_equal(dilate(mask, 0), mask) and np.array_equal(feather(mask, 0), mask)
    assert 0 < feather(mask, 1.0)[11, 16] < 255
    empty = np.zeros_like(mask)
    assert mask_iou(mask, mask) == 1 and mask_iou(mask, empty) == 0 and mask_iou(empty, empty) == 1


def test_face_parser_file_is_used(tmp_path):
    """A parser whose class is 17 (hair) in the brighter half and 16 (cloth) in the darker one."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    weight = np.zeros((19, 3, 1, 1), np.float32)
    weight[17] = 1
    weight[16] = -1
    graph = helper.make_graph(
        [helper.make_node("Conv", ["image", "weight"], ["logits"])],
        "parser",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, 512, 512])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1, 19, 512, 512])],
        [numpy_helper.from_array(weight, "weight")],
    )
    path = tmp_path / "face_parser.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), str(path))
    picture = np.zeros((64, 64, 3), np.uint8)
    picture[:32] = 255
    mask = head_mask(picture, **EYES, parser=path)
    assert mask[:28].min() > 200 and mask[36:].max() < 50
