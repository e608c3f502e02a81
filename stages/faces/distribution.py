"""What the faces of a set are like: pose, light, skin tone, mouth; numbers for summary.json."""

from typing import Any

import numpy as np
import pandas as pd

# Individual typology angle, lower edges in degrees (Chardon et al. 1991, Del Bino & Bernerd 2013)
TONES = (
    ("very_light", 55.0),
    ("light", 41.0),
    ("intermediate", 28.0),
    ("tan", 10.0),
    ("brown", -30.0),
    ("dark", -90.1),
)
MEASURES = ("roll", "yaw", "sharpness", "brightness", "ita", "mouth_open", "mask_area", "side")


def distribution(table: pd.DataFrame) -> dict[str, Any]:
    """Percentiles 5, 50, 95 of every measure, and the shares of skin tones, turned heads and open mouths.

    n says in how many faces a measure was taken; "not_measured" names those that no face has (NaN in every row: yaw
    with a detector that gives no nose).
    """
    result: dict[str, Any] = {"not_measured": [name for name in MEASURES if not table[name].notna().any()]}
    for name in MEASURES:
        values = table[name].dropna().to_numpy(float)
        if len(values):
            low, middle, high = np.percentile(values, [5, 50, 95])
            result[name] = {"p5": _round(low), "p50": _round(middle), "p95": _round(high), "n": len(values)}
    angles = table["ita"].dropna()
    if len(angles):
        result["tones"] = tone_shares(angles)
    turned, mouths = table["yaw"].dropna(), table["mouth_open"].dropna()
    if len(turned):
        result["turned_15_degrees"] = _round((turned.abs() > 15).mean())
    if len(mouths):
        result["mouth_open_share"] = _round((mouths > 0.15).mean())
    return result


def tone_shares(angles: pd.Series) -> dict[str, float]:
    """Share of each skin-tone class among typology angles in degrees."""
    shares, above = {}, np.inf
    for name, edge in TONES:
        shares[name] = _round(((angles > edge) & (angles <= above)).mean())
        above = edge
    return shares


def _round(value: float) -> float:
    return round(float(value), 4)
