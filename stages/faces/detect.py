"""Finds faces and their eyes: YuNet when its ONNX file is there, else the Haar cascades of the OpenCV wheel."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, Protocol

import cv2
import numpy as np

from stages.common.errors import InputError
from stages.common.weights import find

DETECT_SIDE = 320  # YuNet was trained around this size; larger only costs time on portraits


@dataclass(frozen=True)
class Face:
    """One face, all positions in pixels (x, y) of the picture it was found in; left and right as seen in the picture.

    Attributes:
        box: x, y, width, height.
        eye_l, eye_r: eye centres.
        mouth: middle of the mouth, None where the detector gives none.
        score: confidence; comparable only within one detector.
        nose: tip of the nose, None where unknown.
        method: "yunet", "haar", "landmarks", "center", "alpha" or "set".
    """

    box: tuple[float, float, float, float]
    eye_l: tuple[float, float]
    eye_r: tuple[float, float]
    mouth: tuple[float, float] | None
    score: float
    nose: tuple[float, float] | None = None
    method: str = ""

    def moved(self, scale: float, dx: float, dy: float) -> "Face":
        """The same face in a picture whose pixel p is ``scale * p + (dx, dy)``."""

        def move(point: tuple[float, float]) -> tuple[float, float]:
            return point[0] * scale + dx, point[1] * scale + dy

        x, y, w, h = self.box
        return replace(
            self,
            box=(*move((x, y)), w * scale, h * scale),
            eye_l=move(self.eye_l),
            eye_r=move(self.eye_r),
            mouth=move(self.mouth) if self.mouth else None,
            nose=move(self.nose) if self.nose else None,
        )


class Finder(Protocol):
    """A detector that looks at one RGB picture, uint8 [H, W, 3], as it is, without rescaling it."""

    def __call__(self, rgb: np.ndarray) -> list[Face]: ...


class FaceDetector:
    """Faces of a picture, largest first.

    Attributes:
        name: "yunet" or "haar".
    """

    def __init__(self, prefer: Literal["auto", "yunet", "haar"] = "auto", root: Path | None = None) -> None:
        """Loads the best detector there is.

        Args:
            prefer: "auto", or one detector by name.
            root: the checkout, for models/external; None takes the working directory.

        Raises:
            InputError: the wanted detector's file is missing; says what to add.
        """
        from stages.faces.haar import HaarFinder, cascades_available
        from stages.faces.yunet import YunetFinder

        self.find: Finder
        path = find("yunet", root) if prefer != "haar" else None
        if path is not None:
            self.name, self.find = "yunet", YunetFinder(path)
        elif prefer != "yunet" and cascades_available():
            self.name, self.find = "haar", HaarFinder()
        elif prefer == "yunet":
            raise InputError("photos.detector is yunet, but face_detection_yunet.onnx is not in models/external")
        else:
            raise InputError(
                "no face detector: put face_detection_yunet.onnx into models/external, or install "
                "opencv-python-headless 4.x, whose wheel has the Haar cascades"
            )

    def detect(self, rgb: np.ndarray) -> list[Face]:
        """Faces in uint8 [H, W, 3] RGB, largest first, in its pixels. Rolled and small faces get a second try."""
        for side, angle, pad in self._passes(max(rgb.shape[:2])):
            faces = self._look(rgb, side, angle, pad)
            if faces:
                return sorted(faces, key=lambda face: -face.box[2] * face.box[3])
        return []

    def _passes(self, longest: int) -> list[tuple[int, float, float]]:
        # (longest side searched, degrees turned first, padding as a share of the side); the next only if none was found
        if self.name == "yunet":
            return [(DETECT_SIDE, 0, 0), (DETECT_SIDE, 0, 0.35), (2 * DETECT_SIDE, 0, 0)]
        return [(200, 0, 0), (320, 0, 0.3), (200, 20, 0), (200, -20, 0)]

    def _look(self, rgb: np.ndarray, side: int, angle: float, pad: float) -> list[Face]:
        small, scale = shrink(rgb, side)
        margin = round(pad * side)
        if margin:
            small = cv2.copyMakeBorder(small, margin, margin, margin, margin, cv2.BORDER_REPLICATE)
        if not angle:
            return [face.moved(1 / scale, -margin / scale, -margin / scale) for face in self.find(small)]
        h, w = small.shape[:2]
        turn = cv2.getRotationMatrix2D((w / 2, h / 2), angle, 1)
        turned = cv2.warpAffine(small, turn, (w, h), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        back = cv2.invertAffineTransform(turn)
        return [_turned(face, back).moved(1 / scale, -margin / scale, -margin / scale) for face in self.find(turned)]


def shrink(rgb: np.ndarray, side: int) -> tuple[np.ndarray, float]:
    """The picture, uint8 [H, W, 3], scaled (by area down, cubic up, at most 4x) to the side ``side``; the factor."""
    scale = min(side / max(rgb.shape[:2]), 4.0)
    if scale == 1:
        return rgb, 1.0
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    size = max(1, round(rgb.shape[1] * scale)), max(1, round(rgb.shape[0] * scale))
    return cv2.resize(rgb, size, interpolation=how), scale


def _turned(face: Face, matrix: np.ndarray) -> Face:
    def move(point: tuple[float, float]) -> tuple[float, float]:
        x, y = matrix[:, :2] @ point + matrix[:, 2]
        return float(x), float(y)

    x, y, w, h = face.box
    cx, cy = move((x + w / 2, y + h / 2))
    return replace(
        face,
        box=(cx - w / 2, cy - h / 2, w, h),
        eye_l=move(face.eye_l),
        eye_r=move(face.eye_r),
        mouth=move(face.mouth) if face.mouth else None,
        nose=move(face.nose) if face.nose else None,
    )
