"""Does it work equally well for everybody: figures by group, the largest gap, and whether chance explains it."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from stages.common.distances import Estimate, bootstrap, difference
from stages.common.seeding import rng

METRICS = {
    "identity": "gap_identity",
    "background_psnr": "gap_background",
    "style_step": "gap_style",
    "face_lost": "gap_face_lost",
    "lightness_shift": "gap_lightness",
}
"""Column of the per-picture table → row of the verdict."""

INVISIBLE = {"background_psnr": 40.0}
"""Above these nobody sees a difference (40 dB: 2.5 grey levels), so groups do not differ there either."""

ITA_GROUPS = ((55, "very light"), (41, "light"), (28, "intermediate"), (10, "tan"), (-30, "brown"))
"""Skin tone by individual typology angle, degrees above which (Chardon et al. 1991); below the last: dark."""


@dataclass(frozen=True)
class Gap:
    """The largest difference between two groups of one grouping.

    Attributes:
        metric, grouping: what was compared by what.
        best, worst: names of the two groups.
        estimate: size of the difference with its bootstrap interval; n is the smaller group.
        chance: share of random regroupings with a gap at least as large; small = not chance.
    """

    metric: str
    grouping: str
    best: str
    worst: str
    estimate: Estimate
    chance: float


def groupings(index: pd.DataFrame) -> dict[str, pd.Series]:
    """Group names per picture for everything the index knows about people and pictures; "" = unknown.

    Skin tone from ``ita``, brightness and pose in thirds or fixed steps, and age (in bands) and gender where somebody
    recorded them.
    """
    found: dict[str, pd.Series] = {}
    if "ita" in index:
        found["skin tone"] = index["ita"].map(_skin_tone)
    if "brightness" in index:
        found["brightness"] = _thirds(index["brightness"], ("dark", "medium", "bright"))
    if "yaw" in index:
        found["pose"] = _steps(index["yaw"].abs(), (10, 25), ("frontal", "turned", "far turned"))
    if "age" in index:
        age = pd.to_numeric(index["age"], errors="coerce")
        found["age"] = _steps(age, (25, 40, 60), ("under 25", "25 to 39", "40 to 59", "60 and over"))
    for column in ("gender", "ethnicity"):
        if column in index:
            found[column] = index[column].fillna("").astype(str)
    return {name: groups for name, groups in found.items() if groups.replace("", np.nan).nunique() > 0}


def by_group(table: pd.DataFrame, groups: Mapping[str, pd.Series]) -> pd.DataFrame:
    """One row per grouping, group and metric: n, value, low, high."""
    rows = []
    for grouping, names in groups.items():
        for name in sorted(set(names) - {""}):
            some = table[(names == name).to_numpy()]
            for metric in METRICS:
                estimate = bootstrap(some[metric], clusters=some["person"].tolist())
                rows.append({"grouping": grouping, "group": name, "metric": metric, **estimate.as_dict()})
    return pd.DataFrame(rows, columns=["grouping", "group", "metric", "value", "low", "high", "n"])


def largest_gaps(table: pd.DataFrame, groups: Mapping[str, pd.Series], least: int, draws: int = 1000) -> list[Gap]:
    """The largest gap of every metric within every grouping, groups below ``least`` pictures left out.

    The largest of several differences is large by chance alone, so each comes with a permutation test: how often a
    random assignment of persons to groups of these sizes gives a gap as large in any grouping (Bonferroni: the test's
    share times the number of groupings).
    """
    gaps = []
    for grouping, names in groups.items():
        for metric in METRICS:
            gap = _largest(table, names.to_numpy(dtype=object), metric, grouping, least, draws)
            if gap is not None:
                gaps.append(gap)
    tests = Counter(gap.metric for gap in gaps)
    return [replace(gap, chance=min(1.0, gap.chance * tests[gap.metric])) for gap in gaps]


def worst_gap(gaps: list[Gap], metric: str) -> Gap | None:
    """The largest gap of ``metric`` that chance does not explain (p < 0.05), else the largest of all."""
    mine = [gap for gap in gaps if gap.metric == metric]
    real = [gap for gap in mine if gap.chance < 0.05]
    return max(real or mine, key=lambda gap: gap.estimate.value, default=None)


def _largest(
    table: pd.DataFrame, names: NDArray[np.object_], metric: str, grouping: str, least: int, draws: int
) -> Gap | None:
    values = np.minimum(table[metric].to_numpy(dtype=np.float64), INVISIBLE.get(metric, np.inf))
    keep = np.isfinite(values) & (names != "")
    values, labels = values[keep], names[keep]
    sizes = pd.Series(labels).value_counts()
    members = {name: values[labels == name] for name in sizes.index if sizes[name] >= least}
    if len(members) < 2:
        return None
    means = {name: float(v.mean()) for name, v in members.items()}
    high, low = max(means, key=means.__getitem__), min(means, key=means.__getitem__)
    estimate = difference(members[high], members[low])
    usable = np.isin(labels, list(members))
    # a person's pictures stay together when groups are drawn anew
    persons, person = np.unique(table["person"].to_numpy()[keep][usable].astype(str), return_inverse=True)
    chance = _chance(values[usable], labels[usable], person, len(persons), estimate.value, draws)
    higher_is_better = metric in ("identity", "background_psnr", "style_step")
    best, worst = (high, low) if higher_is_better else (low, high)
    return Gap(metric, grouping, str(best), str(worst), estimate, chance)


def _chance(
    values: NDArray[np.float64],
    labels: NDArray[np.object_],
    person: NDArray[np.intp],
    persons: int,
    observed: float,
    draws: int,
) -> float:
    codes, label = np.unique(labels.astype(str), return_inverse=True)
    first = np.zeros(persons, dtype=np.intp)
    first[person] = label
    random = rng(0, "fairness", len(values))
    reached = 0
    for _ in range(draws):
        mixed = random.permutation(first)[person]
        counts = np.bincount(mixed, minlength=len(codes))
        means = np.bincount(mixed, weights=values, minlength=len(codes)) / np.maximum(counts, 1)
        reached += bool(np.ptp(means[counts > 0]) >= observed - 1e-12)
    return (reached + 1) / (draws + 1)


def _skin_tone(angle: float) -> str:
    if pd.isna(angle):
        return ""
    return next((name for limit, name in ITA_GROUPS if angle > limit), "dark")


def _steps(values: pd.Series, limits: tuple[float, ...], names: tuple[str, ...]) -> pd.Series:
    return values.map(lambda v: "" if pd.isna(v) else names[sum(v >= limit for limit in limits)])


def _thirds(values: pd.Series, names: tuple[str, str, str]) -> pd.Series:
    known = values.dropna()
    if known.nunique() < 3:
        return values.map(lambda v: "")
    return _steps(values, (float(known.quantile(1 / 3)), float(known.quantile(2 / 3))), names)
