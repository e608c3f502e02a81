"""A little world with known answers: drawn people as photos, the same people as cartoons, instruments to read them.

No picture of anybody. A person is a seed: skin, hair, face width, eye distance. The photo shades and blurs it before a
textured background; the cartoon has flat colours, outlines and large eyes. The good model is the cartoon on the photo's
background.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import torch
from torch import nn

from stages.common.features import FeatureNet
from stages.evaluate.instruments import Instruments, Landmarks
from stages.evaluate.subjects import Faces, Pictures, System

SIDE = 64
BIG = 4  # drawn large and reduced, for smooth edges


@dataclass(frozen=True)
class Person:
    """What stays the same in photo and cartoon."""

    skin: np.ndarray
    hair: np.ndarray
    width: float
    eyes: float
    fringe: float
    tone: float

    @classmethod
    def make(cls, seed: int) -> "Person":
        rng = np.random.default_rng(seed)
        tone = rng.uniform(0.35, 1.0)
        skin = np.array([232, 190, 160]) * tone + rng.uniform(-10, 10, 3)
        hair = np.array([[40, 30, 25], [120, 80, 40], [200, 160, 80], [150, 60, 40], [90, 90, 95]])[rng.integers(5)]
        return cls(
            skin, hair + rng.uniform(-15, 15, 3), rng.uniform(13, 18), rng.uniform(6, 8.5), rng.uniform(2, 9), tone
        )


def draw(person: Person, seed: int, cartoon: bool) -> tuple[Pictures, Pictures, np.ndarray]:
    """Picture [64, 64, 3], head mask [64, 64] and eye and mouth positions [3, 2]."""
    rng = np.random.default_rng(seed)
    s = BIG
    size = SIDE * s
    backdrop = cv2.resize(
        rng.uniform(60, 220, (5, 5, 3)).astype(np.float32), (size, size), interpolation=cv2.INTER_CUBIC
    )
    mask = np.zeros((size, size), np.uint8)
    centre = (32 * s, 35 * s)
    axes = (int(person.width * s), int(20 * s))
    cv2.ellipse(mask, (32 * s, 30 * s), (axes[0] + 3 * s, 22 * s), 0, 0, 360, 255, -1)
    canvas = backdrop.copy()
    colour = lambda c: tuple(float(v) for v in c)  # noqa: E731
    cv2.ellipse(canvas, (32 * s, 30 * s), (axes[0] + 3 * s, 22 * s), 0, 0, 360, colour(person.hair), -1)
    cv2.ellipse(canvas, centre, (axes[0], int((20 - person.fringe / 2) * s)), 0, 0, 360, colour(person.skin), -1)
    turn = rng.uniform(-1.5, 1.5)
    points = np.array([[32 - person.eyes + turn, 33], [32 + person.eyes + turn, 33], [32 + turn, 45]])
    for x, y in points[:2]:
        place = (int(x * s), int(y * s))
        if cartoon:
            cv2.ellipse(canvas, place, (int(4.2 * s), int(5 * s)), 0, 0, 360, (250.0, 250.0, 250.0), -1)
            cv2.circle(canvas, place, int(2.6 * s), (20.0, 20.0, 60.0), -1)
        else:
            cv2.ellipse(canvas, place, (int(2.6 * s), int(1.4 * s)), 0, 0, 360, (215.0, 210.0, 205.0), -1)
            cv2.circle(canvas, place, int(1.4 * s), (45.0, 30.0, 25.0), -1)
    mouth = (int(points[2, 0] * s), int(points[2, 1] * s))
    cv2.ellipse(canvas, mouth, (int(4.5 * s), int(1.6 * s)), 0, 0, 180, colour(person.skin * 0.55 + (40, 0, 0)), -1)
    if cartoon:
        for outline in ((axes[0] + 3 * s, 22 * s),):
            cv2.ellipse(canvas, (32 * s, 30 * s), outline, 0, 0, 360, (25.0, 20.0, 30.0), int(1.2 * s))
        canvas = np.where(mask[..., None] > 0, np.clip((canvas - 128) * 1.25 + 140, 0, 255), canvas)
    else:
        light = np.linspace(1.12, 0.78, size)[None, :, None] * np.linspace(1.08, 0.9, size)[:, None, None]
        canvas = np.where(mask[..., None] > 0, canvas * light, canvas) + rng.normal(0, 10, canvas.shape)
        canvas = cv2.GaussianBlur(canvas, (0, 0), 0.7 * s)
    picture = cv2.resize(np.clip(canvas, 0, 255), (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    return picture.astype(np.uint8), cv2.resize(mask, (SIDE, SIDE), interpolation=cv2.INTER_AREA), points


def photos(persons: int = 24, each: int = 2, seed: int = 1000) -> tuple[Faces, Pictures]:
    """Test photos and, in the same order, what the perfect model makes of them."""
    images, masks, targets, rows = [], [], [], []
    for number in range(persons):
        person = Person.make(seed + number)
        for take in range(each):
            picture, mask, points = draw(person, 7919 * number + take, cartoon=False)
            cartoon, _, _ = draw(person, 7919 * number + take, cartoon=True)
            share = mask[..., None] / 255
            images.append(picture)
            masks.append(mask)
            targets.append(np.round(cartoon * share + picture * (1 - share)).astype(np.uint8))
            place = dict(
                zip(("eye_l_x", "eye_l_y", "eye_r_x", "eye_r_y", "mouth_x", "mouth_y"), points.ravel(), strict=True)
            )
            row = {"id": f"p{number:03d}_{take}", "file": f"p{number:03d}_{take}.jpg", "person": f"p{number:03d}"}
            rows.append(
                row | place | {"split": "test", "ita": 70 * person.tone - 20, "yaw": 0.0, "brightness": picture.mean()}
            )
    return Faces(np.stack(images), np.stack(masks), pd.DataFrame(rows)), np.stack(targets)


def style_pictures(count: int = 60, seed: int = 5000) -> Faces:
    """Real pictures of the cartoon style: other people, other backgrounds."""
    drawn = [draw(Person.make(seed + i), seed + i, cartoon=True) for i in range(count)]
    index = pd.DataFrame({"id": [f"s{i:03d}" for i in range(count)], "split": "test"})
    index[["eye_l_x", "eye_l_y", "eye_r_x", "eye_r_y", "mouth_x", "mouth_y"]] = [d[2].ravel() for d in drawn]
    return Faces(np.stack([d[0] for d in drawn]), np.stack([d[1] for d in drawn]), index)


def product(faces: Faces, images: Pictures, masks: Pictures | None = None) -> System:
    """A system under test."""
    return System("mnn", "Product", "product", faces, images, faces.masks if masks is None else masks)


def features() -> FeatureNet:
    """A fixed random network: enough to tell flat drawings from shaded pictures."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = nn.Sequential(nn.Conv2d(3, 24, 5, 2), nn.ReLU(), nn.Conv2d(24, 48, 3, 2), nn.ReLU()).eval()

    def forward(images: torch.Tensor) -> torch.Tensor:
        # contrast taken out as well: recolouring alone must not look like the style
        spread = images.std((1, 2, 3), keepdim=True).clamp_min(0.05)
        maps = net((images - images.mean((2, 3), keepdim=True)) / spread)
        return 4 * torch.cat([maps.mean((2, 3)), maps.std((2, 3))], dim=1)

    return FeatureNet("enc", "random, pooled", "test", forward)


def embed(pictures: Pictures) -> np.ndarray:
    """Identity from hair and skin colour and the silhouette, read where the drawings have them."""
    x = pictures.astype(np.float64) / 255
    hair = x[:, 11:16, 26:38].mean((1, 2))
    skin = x[:, 40:43, 24:40].mean((1, 2))
    edge = x[:, 30:40, 10:20].mean(1).reshape(len(x), -1)
    code = np.concatenate([3 * hair, 3 * skin, edge], axis=1)
    return code - np.array([0.5] * code.shape[1])


def find_faces(pictures: Pictures) -> list[Landmarks | None]:
    """Eyes are the darkest places of two windows; none where a window has no dark place on a lighter ground."""
    found: list[Landmarks | None] = []
    for picture in pictures:
        luma = cv2.GaussianBlur(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY).astype(np.float32), (0, 0), 1.0)
        points = []
        for left in (21, 35):
            window = luma[30:37, left : left + 8]
            dark = np.clip(np.median(window) - window - 6, 0, None) ** 2
            y, x = np.mgrid[30:37, left : left + 8]
            total = dark.sum()
            points.append(((x * dark).sum() / total, (y * dark).sum() / total) if dark.max() > 40 else None)
        if None in points:
            found.append(None)
        else:
            found.append(Landmarks(np.array([*points, (np.nan, np.nan)], dtype=np.float64)))
    return found


def tools(cache: Path) -> Instruments:
    """Stand-ins for the networks that judge."""
    return Instruments(features(), embed, "colours", find_faces, cache)


def perfect(faces: Faces, targets: Pictures) -> Callable[[Pictures], Pictures]:
    """The perfect model as a function: looks the photo up."""
    known = {photo.tobytes(): target for photo, target in zip(faces.images, targets, strict=True)}
    return lambda picture: known.get(picture.tobytes(), picture)
