"""What the distances accept as a feature matrix."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

Features = Tensor | NDArray[Any]
Matrix = NDArray[np.float64]


def as_matrix(features: Features, what: str = "features") -> Matrix:
    """Feature matrix [N, F] as float64 numpy; ValueError unless it is finite, two-dimensional and N >= 2.

    Half-precision sums lose the small differences these distances live on, hence float64 throughout.
    """
    array = features.detach().cpu().double().numpy() if isinstance(features, Tensor) else features
    matrix = np.asarray(array, dtype=np.float64)
    if matrix.ndim != 2 or len(matrix) < 2:
        raise ValueError(f"{what} must be a matrix [N >= 2, F], got shape {tuple(matrix.shape)}")
    if not np.isfinite(matrix).all():
        raise ValueError(f"{what} contain values that are not finite")
    return matrix


def as_pair(a: Features, b: Features) -> tuple[Matrix, Matrix]:
    """Two feature matrices of the same width; ValueError otherwise."""
    first, second = as_matrix(a, "the first features"), as_matrix(b, "the second features")
    if first.shape[1] != second.shape[1]:
        raise ValueError(f"features differ in width: {first.shape[1]} and {second.shape[1]}")
    return first, second
