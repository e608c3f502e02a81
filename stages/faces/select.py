"""Which samples are kept: measures against thresholds, duplicates, groups, splits, weights. Numbers only, no pixels."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

import numpy as np
import pandas as pd

from stages.faces.groups import join_groups, near_pairs, split_of

NEAR_BITS = 8  # of 64: crops of one picture at different JPEG quality differ in 0-4, neighbouring frames in up to 8
SAME_DIFFERENCE = 2.5  # mean absolute difference of two aligned pictures (0-255) up to which they are the same one


@dataclass(frozen=True)
class Limits:
    """Thresholds of settings.photos and settings.style_faces; units as described there."""

    resolution: int
    min_source: float
    min_sharpness: float
    max_roll: float
    max_yaw: float
    min_brightness: float = 0.0
    max_brightness: float = 255.0


def table_of(rows: list[dict[str, Any]], drawn: bool, source: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Ingest rows as (candidates, rejected).

    Args:
        source: name of the folder, for pictures that lie directly in it.
    """
    accepted, rejected = [], []
    for row in rows:
        if "samples" not in row:
            rejected.append({"file": row["file"], "reason": row["reason"], "detail": row["detail"]})
            continue
        for i, sample in enumerate(row["samples"]):
            folder = PurePath(row["file"]).parts[0] if len(PurePath(row["file"]).parts) > 1 else source
            accepted.append(
                {"id": _identifier(row["file"], row["content"], i), "file": row["file"], "source": folder}
                | sample
                | {"key": row["key"], "content": row["content"], "face": i}
            )
    return pd.DataFrame(accepted), pd.DataFrame(rejected, columns=["file", "reason", "detail"])


def _identifier(file: str, content: str, face: int) -> str:
    stem = re.sub(r"[^A-Za-z0-9]+", "-", PurePath(file).stem).strip("-").lower()[:40] or "picture"
    return f"{stem}-{content[:6]}" + (f"-{face + 1}" if face else "")


def measure_reasons(table: pd.DataFrame, limits: Limits) -> pd.DataFrame:
    """The first limit each candidate breaks, as columns reason and detail ("" where it breaks none).

    What was not measured (NaN) breaks no limit; the distribution names it.
    """
    least = limits.min_source * limits.resolution
    checks: list[tuple[str, pd.Series, str]] = [
        ("face_too_small", table["side"] < least, f"crop of {{side:.0f}} px, needs {least:.0f}"),
        ("too_dark", table["brightness"] < limits.min_brightness, "mean luma {brightness:.0f}"),
        ("too_bright", table["brightness"] > limits.max_brightness, "mean luma {brightness:.0f}"),
        ("blurred", table["sharpness"] < limits.min_sharpness, "sharpness {sharpness:.2f}"),
        ("rolled", table["roll"].abs() > limits.max_roll, "roll {roll:.0f} degrees"),
        ("profile", table["yaw"].abs().fillna(0.0) > limits.max_yaw, "yaw about {yaw:.0f} degrees"),
    ]
    reason = pd.Series("", index=table.index)
    detail = pd.Series("", index=table.index)
    for name, broken, text in checks:
        for i in table.index[broken & (reason == "")]:
            reason[i], detail[i] = name, text.format(**table.loc[i, ["side", "brightness", "sharpness", "roll", "yaw"]])
    return pd.DataFrame({"reason": reason, "detail": detail})


def mark_duplicates(table: pd.DataFrame, pixels: Callable[[int], np.ndarray]) -> pd.DataFrame:
    """Groups look-alikes and finds those that are the same picture.

    Args:
        table: candidates with content, phash, side, file; a clean 0.. index.
        pixels: position to aligned picture, uint8 [R, R, 3], called for look-alikes only.

    Returns:
        Columns near (position of the group's first member; pictures with few differing hash bits) and same_as
        (position of the picture kept instead, -1 where this one is kept).
    """
    hashes = table["phash"].tolist()
    pairs = near_pairs(hashes, NEAR_BITS)
    near = join_groups(len(table), pairs)
    same = [
        (i, j)
        for i, j in pairs
        if (table["content"][i] == table["content"][j] and table["face"][i] == table["face"][j])
        or (
            table["file"][i] != table["file"][j]
            and np.abs(pixels(i).astype(np.int16) - pixels(j)).mean() < SAME_DIFFERENCE
        )
    ]
    groups = join_groups(len(table), same)
    same_as = np.full(len(table), -1)
    for first, members in pd.Series(range(len(table))).groupby(groups):
        if len(members) > 1:
            # the largest original stays; among equals the first name
            best = max(members, key=lambda i: (round(table["side"][i]), -i))
            for i in members:
                same_as[i] = best if i != best else -1
        del first
    return pd.DataFrame({"near": near, "same_as": same_as}, index=table.index)


def assign_splits(
    groups: pd.Series, tied: list[int], val_share: float, test_share: float, held: np.ndarray | None = None
) -> list[str]:
    """Splits by group name.

    Args:
        groups: person or design of each row.
        tied: for each row the first row it looks like (:func:`mark_duplicates`); persons tied that way share a split.
        held: bool per row: its person, and all tied to it, are in the test split whatever the shares.
    """
    names = sorted(groups.unique())
    place = {name: i for i, name in enumerate(names)}
    rows = groups.tolist()
    joined = join_groups(len(names), [(place[rows[i]], place[rows[j]]) for i, j in enumerate(tied) if i != j])
    testing = {joined[place[rows[i]]] for i in (np.flatnonzero(held) if held is not None else [])}
    split = ["test" if root in testing else split_of(names[root], val_share, test_share) for root in joined]
    return [split[place[name]] for name in rows]


def balance_weights(table: pd.DataFrame, strength: float, columns: tuple[str, ...]) -> np.ndarray:
    """Sampling weights, float [N] of mean 1, that even out the joint histogram of ``columns`` (thirds of each range).

    Args:
        strength: 0 gives ones, 1 the inverse frequency of the bin; limited to 1/4 .. 4 of the mean either way.
    """
    bins = np.zeros(len(table), int)
    for column in columns:
        values = table[column].abs() if column == "yaw" else table[column]
        known = values[values.notna()]
        if len(known) < 2 or known.quantile(0.95) - known.quantile(0.05) < 1e-6:
            continue
        edges = np.linspace(known.quantile(0.05), known.quantile(0.95), 4)[1:-1]
        bins = bins * 4 + np.where(values.isna(), 3, np.searchsorted(edges, values.fillna(0)))
    _, inverse, counts = np.unique(bins, return_inverse=True, return_counts=True)
    weights = (len(table) / (len(counts) * counts[inverse])) ** strength
    weights = (weights / weights.mean()).clip(0.25, 4)
    return weights / weights.mean()
