"""YuNet (Wu et al. 2023) through ``cv2.FaceDetectorYN``."""

from pathlib import Path

import cv2
import numpy as np
import onnx
from onnx import numpy_helper

from stages.common.errors import InputError
from stages.faces.detect import Face

MIN_SCORE = 0.6  # 663 of 663 photos pass; drawn faces are looked for with DRAWN_SCORE
DRAWN_SCORE = 0.3


class YunetFinder:
    """YuNet over a whole picture: five landmarks per face."""

    def __init__(self, path: Path, min_score: float = MIN_SCORE) -> None:
        """Loads the network.

        Raises:
            InputError: not a YuNet ONNX file.
        """
        try:
            model = np.frombuffer(static_onnx(path), np.uint8)
            self.net = cv2.FaceDetectorYN.create("onnx", model, np.zeros(0, np.uint8), (320, 320), min_score, 0.3, 50)
        except Exception as error:
            raise InputError(f"{path}: not a YuNet ONNX file ({error})") from error

    def __call__(self, rgb: np.ndarray) -> list[Face]:
        """Faces in uint8 [H, W, 3] RGB."""
        self.net.setInputSize((rgb.shape[1], rgb.shape[0]))
        _, rows = self.net.detect(np.ascontiguousarray(rgb[..., ::-1]))
        return [] if rows is None else [_face(row) for row in rows.astype(float)]


def _face(row: np.ndarray) -> Face:
    points = row[4:14].reshape(5, 2)
    eye_l, eye_r = sorted(points[:2].tolist())
    mouth = points[3:].mean(0)
    return Face(
        box=(row[0], row[1], row[2], row[3]),
        eye_l=tuple(eye_l),
        eye_r=tuple(eye_r),
        mouth=(mouth[0], mouth[1]),
        nose=(points[2, 0], points[2, 1]),
        score=row[14],
        method="yunet",
    )


def static_onnx(path: Path) -> bytes:
    """The ONNX file with its dynamic ``Shape`` nodes folded away.

    OpenCV's importer refuses the export with free height and width. Its reshapes only flatten [1, h, w, c] to
    [1, h * w, c]: with the target [1, -1, c] as a constant, no shape has to be known and every size still works.
    """
    model = onnx.load(str(path))
    graph = model.graph
    maker = {output: node for node in graph.node for output in node.output}
    constants = {item.name: numpy_helper.to_array(item) for item in graph.initializer}
    for node in graph.node:
        shape = maker.get(node.input[1]) if node.op_type == "Reshape" else None
        if shape is not None and shape.op_type == "Concat":
            channels = int(np.ravel(constants[shape.input[-1]])[0])
            name = f"{shape.output[0]}_static"
            graph.initializer.append(numpy_helper.from_array(np.array([1, -1, channels], np.int64), name))
            node.input[1] = name
    needed = {output.name for output in graph.output}
    kept = []
    for node in reversed(list(graph.node)):
        if needed & set(node.output):
            kept.append(node)
            needed |= set(node.input)
    del graph.node[:]
    graph.node.extend(reversed(kept))
    for dimension, value in zip(graph.input[0].type.tensor_type.shape.dim, (1, 3, 320, 320), strict=True):
        dimension.dim_value = value
    return model.SerializeToString()
