"""Fréchet distance between Gaussians fitted to two feature sets (Heusel et al. 2017, the distance inside
FID)."""

import numpy as np
import torch

from stages.common.distances.arrays import Features, Matrix, as_matrix, as_pair


def statistics(features: Features) -> tuple[Matrix, Matrix]:
    """Mean [F] and unbiased covariance [F, F] of features [N, F], float64."""
    matrix = as_matrix(features)
    return matrix.mean(axis=0), np.atleast_2d(np.cov(matrix, rowvar=False))


def frechet_from_statistics(mean_a: Matrix, cov_a: Matrix, mean_b: Matrix, cov_b: Matrix) -> float:
    """|mean_a - mean_b|^2 + tr(cov_a + cov_b - 2 (cov_a cov_b)^1/2), never negative.

    The trace of the root is the sum of the square roots of the eigenvalues of ``cov_a^1/2 cov_b cov_a^1/2``: two
    symmetric eigen-decompositions. That stays real for singular covariances (always the case when there are fewer
    pictures than features) and takes a fraction of the general matrix square root's time.
    """
    # torch's LAPACK: on two busy cores numpy's OpenBLAS spent 85 s waiting for its own threads, this 7 to 12 s
    first, second = (torch.from_numpy(np.ascontiguousarray(cov, dtype=np.float64)) for cov in (cov_a, cov_b))
    values, vectors = torch.linalg.eigh((first + first.T) / 2)
    root = vectors * values.clamp_min(0).sqrt()  # root rootᵀ = cov_a; as good as the symmetric root here
    overlap = torch.linalg.eigvalsh(root.T @ second @ root).clamp_min(0).sqrt().sum()
    return _combine(mean_a - mean_b, float(np.trace(cov_a) + np.trace(cov_b)), float(overlap))


def frechet(a: Features, b: Features) -> float:
    """Fréchet distance between features [Na, F] and [Nb, F].

    With fewer pictures than features it works on the Na x Nb matrix of inner products of the centred
    features, whose singular values are the same: 2048 features of 500 pictures take 50 ms instead of 2 s.
    The distance is biased upwards for small N: compare only figures of equal N, next to the floor of real
    pictures.
    """
    first, second = as_pair(a, b)
    if min(len(first), len(second)) >= first.shape[1]:
        return frechet_from_statistics(*statistics(first), *statistics(second))
    mean_a, mean_b = first.mean(axis=0), second.mean(axis=0)
    centred_a = (first - mean_a) / np.sqrt(len(first) - 1)
    centred_b = (second - mean_b) / np.sqrt(len(second) - 1)
    overlap = np.linalg.svd(centred_a @ centred_b.T, compute_uv=False).sum()
    return _combine(mean_a - mean_b, float((centred_a**2).sum() + (centred_b**2).sum()), float(overlap))


def _combine(shift: Matrix, traces: float, overlap: float) -> float:
    return max(0.0, float(shift @ shift) + traces - 2 * overlap)
