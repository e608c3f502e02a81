"""Style gap: where a result stands between the untouched photo (1) and real pictures of the style (0)."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from stages.common.distances.arrays import Features, Matrix, as_matrix
from stages.common.distances.intervals import Estimate, Groups, jackknife
from stages.common.distances.neighbours import kid

Distance = Callable[[Matrix, Matrix], float]


@dataclass(frozen=True)
class StyleGap:
    """The gap with its interval, and the three distances it is made of."""

    gap: Estimate
    result: float
    floor: float
    photos: float
    n_style: int


def head_only(images: Tensor, masks: Tensor, grey: float = 0.0) -> Tensor:
    """Pictures NCHW in [-1, 1] with everything outside the head mask N1HW [0, 1] replaced by one grey.

    Style is judged on the head alone: photos and style pictures never share backgrounds, and a kept
    background must not count as lack of style.
    """
    return images * masks + grey * (1 - masks)


def style_gap(
    results: Features,
    style: Features,
    photos: Features,
    distance: Distance = kid,
    seed: int = 0,
    splits: int = 8,
    interval: bool = True,
) -> StyleGap:
    """(d - floor) / (d_photos - floor) on features [N, F] of :func:`head_only` pictures.

    ``style`` are held-out *real* style pictures, ``photos`` the untouched inputs of ``results`` (same order).
    The style pictures are split in two halves, several times: the floor is the distance of one half to the
    other, and results and photos are measured against the same half in equal numbers, so that the
    small-sample bias of the Fréchet distance is the same in all three. With results = photos the gap is
    exactly 1 by construction. NaN when the photos are no further from the style than its own pictures
    (nothing to measure). ``interval=False`` saves the 20 re-computations where only the figure is needed, as
    in a search.
    """
    result, real, photo = (as_matrix(f) for f in (results, style, photos))
    if len(result) != len(photo):
        raise ValueError(f"{len(result)} results but {len(photo)} photos: the style gap needs them in pairs")
    if len(real) < 4:
        raise ValueError(f"the style gap needs at least 4 held-out style pictures, got {len(real)}")

    def parts(chosen: Groups) -> NDArray[np.float64]:
        pairs, references = chosen
        rng = np.random.default_rng(seed)
        rows = []
        for _ in range(splits):
            order = references[rng.permutation(len(references))]
            half = len(order) // 2
            reference, other = real[order[:half]], real[order[half:]]
            count = min(len(other), len(pairs))
            drawn = pairs[rng.permutation(len(pairs))[:count]]
            rows.append(
                (
                    distance(result[drawn], reference),
                    distance(other[:count], reference),
                    distance(photo[drawn], reference),
                )
            )
        return np.mean(rows, axis=0)

    def gap(chosen: Groups) -> float:
        d, floor, d_photos = parts(chosen)
        return float((d - floor) / (d_photos - floor)) if d_photos > floor else float("nan")

    sizes = (len(result), len(real))
    everything = tuple(np.arange(size) for size in sizes)
    if interval:
        estimate = jackknife(gap, sizes, seed)
    else:
        estimate = Estimate(gap(everything), float("nan"), float("nan"), min(sizes))
    d, floor, d_photos = (float(v) for v in parts(everything))
    return StyleGap(estimate, result=d, floor=floor, photos=d_photos, n_style=len(real))


def style_distance(pictures: Features, style: Features, photos: Features) -> NDArray[np.float64]:
    """Where each single picture stands between style (0) and photo (1): the kernel witness, scaled. [N] float64.

    The witness (Gretton et al. 2012) of the KID kernel is the mean similarity to photos minus the mean similarity to
    style pictures. It is scaled so that the style pictures average 0 and the photos 1, which makes groups and single
    pictures comparable; pictures may lie beyond both ends. A picture that is itself in ``style`` or ``photos`` is not
    compared with itself.
    """
    rows, real, untouched = (as_matrix(f) for f in (pictures, style, photos))

    def witness(points: Matrix) -> NDArray[np.float64]:
        return _similarity(points, untouched) - _similarity(points, real)

    zero, one = float(witness(real).mean()), float(witness(untouched).mean())
    if one <= zero:
        return np.full(len(rows), np.nan)
    return (witness(rows) - zero) / (one - zero)


def _similarity(points: Matrix, others: Matrix) -> NDArray[np.float64]:
    kernel = (points @ others.T / points.shape[1] + 1) ** 3
    same = (points[:, None, :1] == others[None, :, :1])[..., 0]
    for i, j in zip(*np.nonzero(same), strict=True):  # a first equal number is rare, so this loop is short
        same[i, j] = np.array_equal(points[i], others[j])
    count = (~same).sum(axis=1)
    return np.where(same, 0, kernel).sum(axis=1) / np.maximum(count, 1)
