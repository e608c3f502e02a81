"""Every figure of one system: a table with one row per picture, and estimates for the set."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from stages.common import distances
from stages.common.distances import Estimate
from stages.common.seeding import rng
from stages.evaluate.instruments import Instruments, Landmarks, geometry
from stages.evaluate.subjects import Chunk, Faces, Pictures, System, chunks, masked
from stages.faces.quality import mouth_open

PER_PICTURE = (
    "style_distance",
    "style_step",
    "sharpness",
    "background_psnr",
    "background_ssim",
    "mask_iou",
    "seam",
    "identity",
    "identity_rank",
    "recognised",
    "face_lost",
    "pose",
    "colour_shift",
    "lightness_shift",
)


@dataclass(frozen=True)
class Ruler:
    """The fixed side of every comparison, computed once: features of the real style pictures and their sharpness.

    Attributes:
        style: [M, F] features of held-out real style pictures, heads on grey.
        sharpness: their mean sharpness.
        outline: their mean gradient along the head's outline.
        n_style: M.
    """

    style: NDArray[Any]
    sharpness: float
    outline: float
    n_style: int


def ruler(style: Faces, tools: Instruments) -> Ruler:
    """Measures the held-out real style pictures."""
    features = tools.features.extract_cached(masked(style.images, style.masks), tools.cache)
    own = System("style", "", "baseline", style, style.images)
    sharp = np.concatenate([distances.sharpness(c.results, c.masks) for c in chunks(own)])
    outline = np.concatenate([distances.outline_gradient(c.results, c.masks) for c in chunks(own)])
    return Ruler(features, float(np.nanmean(sharp)), float(np.nanmean(outline)), len(style))


def measure(system: System, against: Ruler, tools: Instruments) -> tuple[pd.DataFrame, dict[str, Estimate]]:
    """All figures of one system on its inputs.

    Returns:
        One row per picture (id, person and :data:`PER_PICTURE`, NaN = nothing to measure), and the estimates by name.
    """
    photo_features = _features(system.inputs.images, system, tools)
    result_features = _features(system.images, system, tools)
    table = pd.DataFrame({"id": system.inputs.ids, "person": system.inputs.persons})
    table["style_distance"] = distances.style_distance(result_features, against.style, photo_features)
    # how far each picture moved from photo to style: what a group has in common (dark, bright) cancels out
    before = distances.style_distance(photo_features, against.style, photo_features)
    table["style_step"] = before - table["style_distance"]
    for name, values in _pixel_scores(system, against).items():
        table[name] = values
    faces = tools.find_faces(system.images)
    photo_faces = tools.find_faces(system.inputs.images)
    table["face_lost"] = [
        np.nan if photo is None else float(face is None) for photo, face in zip(photo_faces, faces, strict=True)
    ]
    table["pose"] = [_moved(photo, face) for photo, face in zip(photo_faces, faces, strict=True)]
    table["mouth_photo"] = [_mouth(i, face) for i, face in zip(system.inputs.images, photo_faces, strict=True)]
    table["mouth_result"] = [_mouth(i, face) for i, face in zip(system.images, faces, strict=True)]
    ranks, persons = _identity(system, faces, photo_faces, tools)
    table["identity_rank"] = ranks
    # only in another photo: to find the very one a picture was made from says little
    other = table.groupby("person")["id"].transform("size") > 1 if tools.embed is not None else False
    table["recognised"] = np.where(other, distances.recognised(ranks, persons), np.nan)
    table["identity"] = 1 - (ranks - 1) / max(persons - 1, 1) if persons > 1 else np.nan
    figures = _of_pictures(table, against)
    figures |= _of_set(system, result_features, photo_features, against, tools)
    return table, figures


def of_style(against: Ruler, tools: Instruments) -> dict[str, Estimate]:
    """The real style pictures' own figures: sharpness, and the floors, distances of one half to the other."""
    half = against.n_style // 2
    order = rng(0, "floor").permutation(against.n_style)
    one, other = against.style[order[:half]], against.style[order[half : 2 * half]]
    net = tools.features
    nan = float("nan")
    return {
        "sharpness": Estimate(against.sharpness, nan, nan, against.n_style),
        "sharpness_ratio": Estimate(1.0, nan, nan, against.n_style),
        net.kid_name: _pair_estimate(distances.kid, one, other),
        net.frechet_name: _pair_estimate(distances.frechet, one, other),
    }


def common_mask(masks: Pictures) -> Pictures:
    """One mask for all of masks uint8 [N, H, W]: uint8 [1, H, W], 255 where at least half of them are head, else 0.

    It takes silhouettes out of diversity.
    """
    return np.where(masks.mean(axis=0, keepdims=True) >= 127.5, 255, 0).astype(np.uint8)


def _features(pictures: Pictures, system: System, tools: Instruments) -> NDArray[Any]:
    return tools.features.extract_cached(masked(pictures, system.inputs.masks), tools.cache)


def _pixel_scores(system: System, against: Ruler) -> dict[str, NDArray[np.float64]]:
    parts: dict[str, list[NDArray[np.float64]]] = {}
    for chunk in chunks(system):
        photos, results, masks = chunk.photos, chunk.results, chunk.masks
        shift, lightness = distances.colour_shift(photos, results, masks)
        own = chunk.own_masks
        scores = {
            "sharpness": distances.sharpness(results, masks),
            "background_psnr": distances.background_psnr(photos, results, masks),
            "background_ssim": distances.background_ssim(photos, results, masks),
            "mask_iou": np.full(len(photos), np.nan) if own is None else distances.mask_iou(own, masks),
            "seam": _seam(chunk, against),
            "colour_shift": shift,
            "lightness_shift": lightness,
        }
        for name, values in scores.items():
            parts.setdefault(name, []).append(values)
    return {name: np.concatenate(values) for name, values in parts.items()}


def _seam(chunk: Chunk, against: Ruler) -> NDArray[np.float64]:
    """Outline gradient beyond the photo's and beyond the style's own outlines, whichever is stronger; 0 at least."""
    own = distances.outline_gradient(chunk.photos, chunk.masks)
    return np.maximum(distances.outline_gradient(chunk.results, chunk.masks) - np.maximum(own, against.outline), 0)


def _moved(photo: Landmarks | None, result: Landmarks | None) -> float:
    """Mean movement of eyes (and mouth, where both have one) in the photo's eye distance."""
    if photo is None or result is None:
        return float("nan")
    eye_distance = float(np.linalg.norm(photo.points[1] - photo.points[0]))
    moved = np.linalg.norm(photo.points - result.points, axis=1)
    return float(np.nanmean(moved) / max(eye_distance, 1e-6))


def _mouth(picture: Pictures, face: Landmarks | None) -> float:
    """How open the mouth is, 0 to 1; NaN where it was not found."""
    if face is None or not np.isfinite(face.points).all():
        return float("nan")
    eye_l, eye_r, mouth = ((float(x), float(y)) for x, y in face.points)
    return mouth_open(picture, eye_l, eye_r, mouth)


def _expression(table: pd.DataFrame) -> Estimate:
    """Correlation of mouth opening in photo and result: 1 = smiles stay smiles; NaN where all photos look alike."""
    known = table[["mouth_photo", "mouth_result"]].dropna().to_numpy()

    def correlation(chosen: tuple[NDArray[np.intp], ...]) -> float:
        photo, result = known[chosen[0]].T
        if photo.std() < 1e-6 or result.std() < 1e-6:
            return float("nan")
        return float(np.corrcoef(photo, result)[0, 1])

    if len(known) < 8:
        return Estimate(float("nan"), float("nan"), float("nan"), len(known))
    return distances.jackknife(correlation, [len(known)])


def _identity(
    system: System, faces: list[Landmarks | None], photo_faces: list[Landmarks | None], tools: Instruments
) -> tuple[NDArray[np.float64], int]:
    """Rank of the right person per picture, and how many persons there are to choose from."""
    persons, ids = system.inputs.persons, system.inputs.ids
    count = len(set(persons))
    if count < 2:
        return np.full(len(ids), np.nan), count
    if tools.embed is not None:
        queries, gallery = tools.embed(system.images), tools.embed(system.inputs.images)
        return distances.identity_rank(queries, gallery, persons, persons, ids, ids), count
    queries, gallery = geometry(faces), geometry(photo_faces)
    found = np.array([a is not None and b is not None for a, b in zip(faces, photo_faces, strict=True)])
    # geometry changes between two photos of a person, so here the very photo counts
    return np.where(found, distances.identity_rank(queries, gallery, persons, persons), np.nan), count


def _of_pictures(table: pd.DataFrame, against: Ruler) -> dict[str, Estimate]:
    """Means over pictures; persons are the unit that is resampled."""
    persons = table["person"].tolist()
    figures = {name: distances.bootstrap(table[name], clusters=persons) for name in PER_PICTURE}
    sharp = figures["sharpness"]
    if against.sharpness > 0:
        low, high = sharp.low / against.sharpness, sharp.high / against.sharpness
        figures["sharpness_ratio"] = Estimate(sharp.value / against.sharpness, low, high, sharp.n)
    figures["expression"] = _expression(table)
    ranks = table["identity_rank"].dropna()
    figures["identity_top1"] = distances.rate(int((ranks == 1).sum()), len(ranks))
    lost = table["face_lost"].dropna()
    figures["face_lost"] = distances.rate(int(lost.sum()), len(lost))
    return figures


def _of_set(
    system: System, results: NDArray[Any], photos: NDArray[Any], against: Ruler, tools: Instruments
) -> dict[str, Estimate]:
    """Distances between sets of pictures, named by the network they were measured in."""
    net, style = tools.features, against.style
    gap = distances.style_gap(results, style, photos)
    gap_frechet = distances.style_gap(results, style, photos, distance=distances.frechet, splits=4)
    figures = {
        "style_gap": gap.gap,
        f"style_gap_{net.frechet_name}": gap_frechet.gap,
        net.kid_name: _pair_estimate(distances.kid, results, style),
        net.frechet_name: _pair_estimate(distances.frechet, results, style),
    }
    k = tools.neighbours
    if min(len(results), len(style)) > k:
        precision, recall = distances.precision_recall(style, results, k)
        figures["precision"] = distances.rate(round(precision * len(results)), len(results))
        figures["recall"] = distances.rate(round(recall * len(style)), len(style))
    figures["diversity"] = _diversity(system, tools)
    return figures


def _diversity(system: System, tools: Instruments) -> Estimate:
    mask = common_mask(system.inputs.masks)
    results, photos = (
        tools.features.extract_cached(masked(pictures, mask), tools.cache)
        for pictures in (system.images, system.inputs.images)
    )

    def ratio(chosen: tuple[NDArray[np.intp], ...]) -> float:
        rows = chosen[0]
        return distances.diversity(results[rows]) / max(distances.diversity(photos[rows]), 1e-12)

    return distances.jackknife(ratio, [len(results)])


def _pair_estimate(
    distance: Callable[[NDArray[Any], NDArray[Any]], float], a: NDArray[Any], b: NDArray[Any]
) -> Estimate:
    return distances.jackknife(lambda chosen: distance(a[chosen[0]], b[chosen[1]]), [len(a), len(b)])


def worst(table: pd.DataFrame, metric: str, count: int = 20) -> pd.DataFrame:
    """The rows where ``metric`` is worst, worst first; rows without a figure are left out."""
    ascending = metric in ("background_psnr", "background_ssim", "mask_iou", "identity", "sharpness")
    return table.dropna(subset=[metric]).sort_values([metric, "id"], ascending=[ascending, True]).head(count)


def names(figures: Sequence[dict[str, Estimate]]) -> list[str]:
    """Every figure's name in the order first met."""
    return list(dict.fromkeys(name for some in figures for name in some))
