"""Figures with their uncertainty: value, interval and N always travel together."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Groups = tuple[NDArray[np.intp], ...]


@dataclass(frozen=True)
class Estimate:
    """A figure with its 95 % interval and the number of pictures behind it; NaN where N is too small."""

    value: float
    low: float
    high: float
    n: int

    def as_dict(self) -> dict[str, float | int | None]:
        """Plain numbers for JSON; NaN becomes None, which JSON can say and NaN it cannot."""
        return {key: None if isinstance(v, float) and not np.isfinite(v) else v for key, v in asdict(self).items()}


def bootstrap(values: ArrayLike, clusters: Sequence[Any] | None = None, seed: int = 0, draws: int = 2000) -> Estimate:
    """Mean of per-picture values with a percentile bootstrap interval (Efron 1979).

    ``clusters`` (one label per value, for instance the person) makes whole clusters the unit that is drawn:
    several pictures of one person are not independent, and treating them so makes intervals too narrow.
    Values that are not finite (nothing to measure on that picture) are left out, N counts what remains.
    """
    array = np.asarray(values, dtype=np.float64)
    keep = np.isfinite(array)
    array = array[keep]
    if len(array) == 0:
        return Estimate(np.nan, np.nan, np.nan, 0)
    labels = np.arange(len(array)) if clusters is None else np.asarray(clusters)[keep]
    _, member = np.unique(labels, return_inverse=True)
    sums = np.bincount(member, weights=array)
    counts = np.bincount(member)
    if len(sums) < 2:
        return Estimate(float(array.mean()), np.nan, np.nan, len(array))
    chosen = np.random.default_rng(seed).integers(0, len(sums), (draws, len(sums)))
    means = sums[chosen].sum(axis=1) / counts[chosen].sum(axis=1)
    low, high = np.percentile(means, [2.5, 97.5])
    return Estimate(float(array.mean()), float(low), float(high), len(array))


def difference(a: ArrayLike, b: ArrayLike, seed: int = 0, draws: int = 2000) -> Estimate:
    """mean(a) - mean(b) of two independent groups, with a bootstrap interval (Efron 1979); n is the smaller group."""
    first, second = (np.asarray(v, dtype=np.float64) for v in (a, b))
    first, second = first[np.isfinite(first)], second[np.isfinite(second)]
    n = min(len(first), len(second))
    if n == 0:
        return Estimate(np.nan, np.nan, np.nan, 0)
    value = float(first.mean() - second.mean())
    if n < 2:
        return Estimate(value, np.nan, np.nan, n)
    rng = np.random.default_rng(seed)
    drawn = [v[rng.integers(0, len(v), (draws, len(v)))].mean(axis=1) for v in (first, second)]
    low, high = np.percentile(drawn[0] - drawn[1], [2.5, 97.5])
    return Estimate(value, float(low), float(high), n)


def rate(successes: int, n: int) -> Estimate:
    """Share of successes in [0, 1] with the 95 % interval of Wilson 1927, which stays honest at 0 of n where the
    bootstrap says [0, 0]."""
    if n == 0:
        return Estimate(np.nan, np.nan, np.nan, 0)
    z = 1.96
    p = successes / n
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * np.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return Estimate(p, float(max(0.0, centre - half)), float(min(1.0, centre + half)), n)


def jackknife(statistic: Callable[[Groups], float], sizes: Sequence[int], seed: int = 0, groups: int = 10) -> Estimate:
    """A statistic of several independent sets with a delete-a-group jackknife interval (Kott 2001).

    ``statistic`` gets one index array per set; the interval comes from leaving out one tenth of one set at a
    time. Used for distances between sets: a bootstrap draws pictures twice, and a picture beside its own copy
    shifts both Fréchet and kernel distances, so its interval would not even contain the figure. n is the
    smallest set.
    """
    rng = np.random.default_rng(seed)
    everything = tuple(np.arange(size) for size in sizes)
    value = statistic(everything)
    variance = 0.0
    for position, size in enumerate(sizes):
        parts = np.array_split(rng.permutation(size), min(groups, size))
        if len(parts) < 3 or size - len(parts[0]) < 4:
            return Estimate(value, np.nan, np.nan, min(sizes))
        left_out = []
        for part in parts:
            kept = np.setdiff1d(everything[position], part)
            left_out.append(statistic((*everything[:position], kept, *everything[position + 1 :])))
        variance += (len(parts) - 1) * float(np.var(left_out))
    half = 1.96 * float(np.sqrt(variance))
    return Estimate(value, value - half, value + half, min(sizes))
