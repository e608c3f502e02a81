"""The networks that judge: features for set distances, a face embedder for identity, a network for landmarks.

None of them is part of what is judged. Tests hand in stand-ins of the same shape.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from pipeline.settings import Settings
from stages.common.dataset import FaceDataset
from stages.common.features import FeatureNet, feature_net
from stages.common.images import to_tensor
from stages.evaluate.subjects import Pictures
from stages.generate.landmark_net import find_landmarks, load_landmark_net

Points = NDArray[np.float64]
LANDMARKS = Path("models/shipped/landmarks.safetensors")


@dataclass(frozen=True)
class Landmarks:
    """Landmarks of one picture in pixels of its own size.

    Attributes:
        points: [3, 2] left eye, right eye, mouth (x, y); NaN where unknown.
    """

    points: Points


@dataclass(frozen=True)
class Instruments:
    """What measures.

    Attributes:
        features: pictures → feature vectors, for distances between sets.
        embed: uint8 [N, H, W, 3] → [N, D] identity vectors, None where no embedder is given.
        embed_name: name of the embedder, or "landmark geometry".
        find_faces: uint8 [N, H, W, 3] → landmarks per picture, None where no face is found.
        cache: folder of cached reference features.
        neighbours: k of precision and recall.
    """

    features: FeatureNet
    embed: Callable[[Pictures], NDArray[Any]] | None
    embed_name: str
    find_faces: Callable[[Pictures], list[Landmarks | None]]
    cache: Path
    neighbours: int = 3


def load_instruments(settings: Settings, style: str, root: Path) -> Instruments:
    """The instruments this machine has, under their names.

    Raises:
        InputError: not even the shipped encoder is there.
    """
    from stages.common.embedder import load_embedder

    network = load_embedder()
    embed = None if network is None else _embedding(network.eval())
    return Instruments(
        features=feature_net(settings, root),
        embed=embed,
        embed_name="mobilefacenet" if embed else "landmark geometry",
        find_faces=face_finder(root, style, settings.common.resolution),
        cache=root / "work" / "cache" / "features",
        neighbours=settings.evaluate.neighbours,
    )


def _embedding(network: nn.Module) -> Callable[[Pictures], NDArray[Any]]:
    @torch.no_grad()
    def embed(pictures: Pictures) -> NDArray[Any]:
        return np.concatenate([network(to_tensor(pictures[i : i + 64])).numpy() for i in range(0, len(pictures), 64)])

    return embed


def face_finder(
    root: Path, style: str, resolution: int, examples: int = 300
) -> Callable[[Pictures], list[Landmarks | None]]:
    """Eyes and mouth in photos and styled faces alike, by the landmark network that ships with the source.

    The function made takes uint8 [N, H, W, 3], RGB, and gives per picture its landmarks, None where no face is found.
    A detector made for photographs misses many drawn faces and would call that a failure of the model. A face counts
    as found when its weaker eye is at least as clear as in all but 2 % of the real style pictures or photos, whichever
    is easier.

    Raises:
        ModelFileError: the network is not in models/shipped.
    """
    network = load_landmark_net(root / LANDMARKS)
    clear = []
    for folder in (root / "data/style_faces" / style, root / "data/photos"):
        data = FaceDataset(folder, resolution, split="train", fields=("image",), cache=root / "work/cache")
        rows = np.linspace(0, len(data) - 1, min(len(data), examples)).astype(int)
        found = find_landmarks(network, data.take(rows, "image").float().div(127.5).sub(1))
        clear.append(float(np.quantile(found.peaks[:, :2].min(axis=1), 0.02)))
    least = min(clear)

    def find(shown: Pictures) -> list[Landmarks | None]:
        found = find_landmarks(network, to_tensor(shown))
        weaker = found.peaks[:, :2].min(axis=1)
        return [
            Landmarks(place.astype(np.float64) * shown.shape[1]) if heat >= least else None
            for place, heat in zip(found.points, weaker, strict=True)
        ]

    return find


def geometry(faces: list[Landmarks | None]) -> NDArray[np.float64]:
    """Identity vectors without an embedder: where eyes and mouth sit, [N, 6], scaled to the eye distance.

    Far weaker than an embedder (aligned crops put eyes in one place); the report names it for that reason.
    """
    rows = []
    for face in faces:
        points = np.full((3, 2), 0.0) if face is None else np.nan_to_num(face.points)
        centred = points - points[:2].mean(axis=0)
        scale = max(float(np.linalg.norm(points[1] - points[0])), 1e-6)
        rows.append((centred / scale).ravel())
    return np.array(rows)
