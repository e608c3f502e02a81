"""Kernel and nearest-neighbour comparisons of two feature sets."""

import numpy as np
from scipy.spatial.distance import cdist

from stages.common.distances.arrays import Features, Matrix, as_pair


def kid(a: Features, b: Features) -> float:
    """Kernel Inception Distance (Binkowski et al. 2018) of features [Na, F] and [Nb, F]: unbiased squared
    MMD.

    Kernel (x·y / F + 1)^3. All pairs are used, no random subsets, so the figure is exact for the pictures
    given. Unbiased: two samples of one distribution give 0 on average at any N, and may come out slightly
    negative.
    """
    first, second = as_pair(a, b)
    return (
        _pairs_mean(_kernel(first, first))
        + _pairs_mean(_kernel(second, second))
        - 2 * float(_kernel(first, second).mean())
    )


def precision_recall(real: Features, fake: Features, k: int = 3) -> tuple[float, float]:
    """Improved precision and recall (Kynkäänniemi et al. 2019), both in [0, 1].

    A set's manifold is the union of balls around its points that reach their k-th nearest neighbour.
    Precision: share of ``fake`` [Nf, F] inside the real manifold (do they look like the style); recall: share
    of ``real`` [Nr, F] inside the fake one (is all of the style reached). ValueError when a set has no k-th
    neighbour.
    """
    first, second = as_pair(real, fake)
    if min(len(first), len(second)) <= k:
        raise ValueError(f"precision and recall with k={k} need more than {k} pictures in each set")
    between = cdist(first, second)
    precision = (between <= _radii(first, k)[:, None]).any(axis=0).mean()
    recall = (between <= _radii(second, k)[None, :]).any(axis=1).mean()
    return float(precision), float(recall)


def _kernel(a: Matrix, b: Matrix) -> Matrix:
    return (a @ b.T / a.shape[1] + 1) ** 3


def _pairs_mean(kernel: Matrix) -> float:
    n = len(kernel)
    return float((kernel.sum() - np.trace(kernel)) / (n * (n - 1)))


def _radii(points: Matrix, k: int) -> Matrix:
    # column 0 after sorting is the distance of a point to itself
    return np.partition(cdist(points, points), k, axis=1)[:, k]
