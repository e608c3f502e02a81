"""Hard photos: what roll, yaw, bad light, blur, covers, busy backgrounds and compression do to each system."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from stages.common import distances
from stages.common.images import grid, to_tensor
from stages.evaluate.instruments import Instruments
from stages.evaluate.measure import Ruler
from stages.evaluate.subjects import Faces, Pictures, System, mask_tensor, masked
from stages.faces.stress import stress

AS_IS = "as is"
# where the FFHQ crop puts the eyes, shares of the side (stages/faces/align.py: side = 4 eye distances)
EYES = np.array([[0.375, 0.475], [0.625, 0.475]])
SHOWN = 4


def hard_faces(faces: Faces, seed: int) -> dict[str, Faces]:
    """Every photo as it is and in each harder version, masks moved along. Deterministic in (seed, ids).

    Returns:
        Condition → as many faces as given, in their order.
    """
    eyes = EYES * faces.images.shape[1]
    versions = [
        stress(image, tuple(eyes[0]), tuple(eyes[1]), mask, seed, name)
        for image, mask, name in zip(faces.images, faces.masks, faces.ids, strict=True)
    ]
    found = {AS_IS: faces}
    for kind in zip(*versions, strict=True):
        moved = np.stack([version.mask(mask) for version, mask in zip(kind, faces.masks, strict=True)])
        found[kind[0].name] = replace(faces, images=np.stack([version.image for version in kind]), masks=moved)
    return found


def together(conditions: dict[str, Faces]) -> Faces:
    """All conditions as one set, so that a system runs once."""
    parts = list(conditions.values())
    index = pd.concat([part.index for part in parts], ignore_index=True)
    return Faces(np.concatenate([p.images for p in parts]), np.concatenate([p.masks for p in parts]), index)


def hard_table(
    conditions: dict[str, Faces], systems: Sequence[System], against: Ruler, tools: Instruments
) -> pd.DataFrame:
    """Per condition and system: style gap, background and faces found.

    The style gap's photos are the untouched ones in every condition: one ruler for all, and a photo that is darker
    than any style picture does not make its result look good.

    Args:
        systems: run on :func:`together`.

    Returns:
        Columns condition, system, title, n, style_gap, background_psnr (dB, mean over pictures, outside the moved
        reference mask), face_found and photo_found (shares of pictures; the landmark network must find both eyes).
    """
    count = len(conditions[AS_IS])
    plain = _features(conditions[AS_IS].images, conditions[AS_IS].masks, tools)
    rows = []
    for place, (name, faces) in enumerate(conditions.items()):
        part = slice(place * count, (place + 1) * count)
        photos, masks = to_tensor(faces.images), mask_tensor(faces.masks)
        photo_found = _found(faces.images, tools)
        for system in systems:
            images = system.images[part]
            gap = distances.style_gap(_features(images, faces.masks, tools), against.style, plain, interval=False).gap
            background = distances.background_psnr(photos, to_tensor(images), masks)
            rows.append(
                {"condition": name, "system": system.name, "title": system.title, "n": count}
                | {"style_gap": gap.value, "background_psnr": float(np.nanmean(background))}
                | {"face_found": _found(images, tools), "photo_found": photo_found}
            )
    return pd.DataFrame(rows)


def hard_sheet(conditions: dict[str, Faces], system: System) -> Pictures:
    """One column per condition; the first photos, each above its result; uint8 [H, W, 3]."""
    count = len(conditions[AS_IS])
    tiles = []
    for row in range(min(SHOWN, count)):
        tiles += [faces.images[row] for faces in conditions.values()]
        tiles += [system.images[place * count + row] for place in range(len(conditions))]
    return grid(tiles, len(conditions))


def _features(pictures: Pictures, masks: Pictures, tools: Instruments) -> np.ndarray:
    return tools.features.extract_cached(masked(pictures, masks), tools.cache)


def _found(pictures: Pictures, tools: Instruments) -> float:
    return float(np.mean([face is not None for face in tools.find_faces(pictures)]))
