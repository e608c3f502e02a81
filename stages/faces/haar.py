"""Haar cascades (Viola & Jones 2001) from the OpenCV wheel: faces, then eyes inside the face box.

The face box alone already says where the eyes are to about 2 % of its width (measured against YuNet on the 663 photos
of ../shared); the eye cascade refines that and gives the roll, and is believed only near where the box says.
"""

from pathlib import Path

import cv2
import numpy as np

from stages.faces.detect import Face

# medians over the photos of ../shared, as shares of the box of haarcascade_frontalface_default
EYE_X, EYE_Y, MOUTH_Y = 0.31, 0.383, 0.785
EYE_REACH = 0.11  # an eye found further than this share of the box from its usual place is an eyebrow or a nostril
EYE_SCORE = 3.0  # what an eye where it belongs adds to the cascade's weight (a good face has about 8)
CREDIBLE = 0.6  # faces with less than this share of the best score are ties, collars and patterns
EYE_SIDE = 120  # side to which the face box is scaled before the eyes are looked for


def _file(name: str) -> str:
    return str(Path(getattr(getattr(cv2, "data", None), "haarcascades", "")) / f"haarcascade_{name}.xml")


def cascades_available() -> bool:
    """Whether this OpenCV has the cascades (4.x wheels do, 5.x do not)."""
    return Path(_file("frontalface_default")).is_file() and Path(_file("eye")).is_file()


class HaarFinder:
    """Frontal faces by cascade, with eye centres."""

    def __init__(self, neighbours: int = 4) -> None:
        self.faces = cv2.CascadeClassifier(_file("frontalface_default"))
        self.other = cv2.CascadeClassifier(_file("frontalface_alt2"))
        self.eyes = cv2.CascadeClassifier(_file("eye"))
        self.neighbours = neighbours

    def __call__(self, rgb: np.ndarray) -> list[Face]:
        """Faces in uint8 [H, W, 3] RGB, down to 18 % of the shorter side."""
        grey = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)
        least = max(24, round(0.18 * min(grey.shape)))
        for cascade in (self.faces, self.other):
            boxes, _, weights = cascade.detectMultiScale3(
                grey, 1.1, self.neighbours, minSize=(least, least), outputRejectLevels=True
            )
            if len(boxes):
                faces = [
                    self._face(grey, box.astype(float), float(weight))
                    for box, weight in zip(np.asarray(boxes), np.ravel(weights), strict=True)
                ]
                best = max(face.score for face in faces)
                return [face for face in faces if face.score >= CREDIBLE * best]
        return []

    def _face(self, grey: np.ndarray, box: np.ndarray, weight: float) -> Face:
        x, y, side = box[0], box[1], box[2]
        usual = np.array([[x + EYE_X * side, y + EYE_Y * side], [x + (1 - EYE_X) * side, y + EYE_Y * side]])
        found = self._eyes(grey, box)
        near = [bool(np.linalg.norm(found[i] - usual[i]) < EYE_REACH * side) for i in (0, 1)]
        eyes = np.where(np.array(near)[:, None], found, usual)
        if near[0] != near[1]:
            # one eye seen: the other moves with it, half the way, since a roll moves them in opposite directions
            seen, unseen = (0, 1) if near[0] else (1, 0)
            eyes[unseen] += 0.5 * (eyes[seen] - usual[seen])
        else:
            eyes = 0.7 * eyes + 0.3 * usual
        across = eyes[1] - eyes[0]
        down = np.array([-across[1], across[0]])
        mouth = eyes.mean(0) + down / max(np.linalg.norm(down), 1e-6) * (MOUTH_Y - EYE_Y) * side
        return Face(
            box=(x, y, side, box[3]),
            eye_l=(eyes[0, 0], eyes[0, 1]),
            eye_r=(eyes[1, 0], eyes[1, 1]),
            mouth=(mouth[0], mouth[1]),
            score=weight + EYE_SCORE * sum(near),
            method="haar",
        )

    def _eyes(self, grey: np.ndarray, box: np.ndarray) -> np.ndarray:
        """Best eye in each half of the upper face, [2, 2]; NaN where there is none."""
        x, y, side = (round(v) for v in box[:3])
        face = grey[max(y, 0) : y + side, max(x, 0) : x + side]
        scale = EYE_SIDE / side
        face = cv2.equalizeHist(cv2.resize(face, (EYE_SIDE, EYE_SIDE), interpolation=cv2.INTER_LINEAR))
        result = np.full((2, 2), np.nan)
        top, bottom = round(0.15 * EYE_SIDE), round(0.62 * EYE_SIDE)
        for i, (left, right) in enumerate(((0.02, 0.55), (0.45, 0.98))):
            x0, x1 = round(left * EYE_SIDE), round(right * EYE_SIDE)
            boxes, _, weights = self.eyes.detectMultiScale3(
                face[top:bottom, x0:x1], 1.08, 2, minSize=(20, 20), maxSize=(52, 52), outputRejectLevels=True
            )
            if len(boxes):
                centres = np.asarray(boxes)[:, :2] + np.asarray(boxes)[:, 2:] / 2 + [x0, top]
                usual = np.array([EYE_X if i == 0 else 1 - EYE_X, EYE_Y]) * EYE_SIDE
                cost = np.linalg.norm(centres - usual, axis=1) - 2.0 * np.ravel(weights)
                result[i] = centres[np.argmin(cost)] / scale + [x, y]
        return result
