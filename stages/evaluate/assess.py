"""From pictures to judgement: figures of every system, fairness of the product, rows of the verdict."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from pipeline.settings import EvaluateSettings
from stages.common.distances import Estimate
from stages.evaluate import fairness
from stages.evaluate.fairness import Gap
from stages.evaluate.instruments import Instruments
from stages.evaluate.measure import measure, of_style, ruler
from stages.evaluate.subjects import Faces, System
from stages.evaluate.verdict import Row, State, fold, judge, overall

NOTHING = Estimate(float("nan"), float("nan"), float("nan"), 0)
UNKNOWN = {
    "mask_iou": "no mask to compare: this network has none of its own",
    "identity": "fewer than two persons among the test photos",
    "parity": "mobile.safetensors is missing, nothing to compare the export with",
    "pose": "eyes and mouth were not found in the photos",
    "face_lost": "eyes and mouth were not found in the photos",
    "over_colour_transfer": "colour transfer was not measured",
}
FROM_PRODUCT = (
    "style_gap",
    "diversity",
    "identity",
    "background_psnr",
    "background_ssim",
    "mask_iou",
    "seam",
    "face_lost",
    "pose",
)

BY_IDENTITY = ("identity", "gap_identity")
CHANCE_EXPLAINS = 0.05  # share of random groupings with as large a gap from which a gap proves nothing
CHANCE = 0.5  # identity of results that have nothing to do with their photos


@dataclass(frozen=True)
class Assessment:
    """Everything evaluation found out.

    Attributes:
        tables: per system, one row per picture.
        figures: per system, estimates by name; "style" holds the real style pictures' own.
        rows: the verdict, in the order of the report.
        groups: figures of the product by fairness group.
        gaps: largest gaps, every metric within every grouping.
    """

    tables: dict[str, pd.DataFrame]
    figures: dict[str, dict[str, Estimate]]
    rows: list[Row]
    groups: pd.DataFrame
    gaps: list[Gap]

    @property
    def verdict(self) -> State:
        """The worst row."""
        return overall(self.rows)


def assess(
    systems: Sequence[System],
    real: Faces,
    shipped: Mapping[str, Estimate],
    tools: Instruments,
    settings: EvaluateSettings,
) -> Assessment:
    """Measures all systems and judges the one whose role is "product".

    Args:
        systems: baselines, stages and exactly one product, on the same photos (except pairs from latents).
        real: held-out real pictures of the style.
        shipped: figures of the file itself: equivariance, parity, size_kb, latency_ms.
    """
    against = ruler(real, tools)
    tables, figures = {}, {}
    for system in systems:
        tables[system.name], figures[system.name] = measure(system, against, tools)
    figures["style"] = of_style(against, tools)
    ours = next(system for system in systems if system.role == "product")
    figures[ours.name] |= shipped
    table = tables[ours.name]
    groups = fairness.groupings(ours.inputs.index)
    gaps = fairness.largest_gaps(table, groups, settings.group_min)
    rows = _rows(ours, figures, gaps, settings)
    if tools.embed is None:
        rows = [_by_landmarks(row, figures, settings) if row.metric == "identity" else row for row in rows]
        rows = [_softened(row, gaps) if row.metric in BY_IDENTITY else row for row in rows]
    return Assessment(tables, figures, rows, fairness.by_group(table, groups), gaps)


def _rows(
    ours: System, figures: Mapping[str, Mapping[str, Estimate]], gaps: list[Gap], settings: EvaluateSettings
) -> list[Row]:
    mine = figures[ours.name]
    n = len(ours.images)
    found = {"pictures": Estimate(n, n, n, n)} | {name: mine.get(name, NOTHING) for name in FROM_PRODUCT}
    found["over_colour_transfer"] = _lead(mine.get("style_gap", NOTHING), figures.get("colour", {}).get("style_gap"))
    found["sharpness"] = fold(mine.get("sharpness_ratio", NOTHING))
    found |= {name: mine.get(name, NOTHING) for name in ("equivariance", "parity", "size_kb", "latency_ms")}
    order = ["pictures", "style_gap", "over_colour_transfer", "sharpness", *FROM_PRODUCT[1:]]
    found["recognised"] = _relative(
        mine.get("recognised", NOTHING), figures.get("photo", {}).get("recognised", NOTHING)
    )
    if np.isfinite(found["recognised"].value):  # needs an embedder and persons with two photos, which few have
        order.insert(order.index("identity") + 1, "recognised")
    order += ["equivariance", "parity", "size_kb", "latency_ms"]
    rows = [judge(name, found[name], settings, UNKNOWN.get(name, "nothing to measure")) for name in order]
    return rows + [_gap_row(metric, name, gaps, settings) for metric, name in fairness.METRICS.items()]


def _by_landmarks(row: Row, figures: Mapping[str, Mapping[str, Estimate]], settings: EvaluateSettings) -> Row:
    """Identity judged on the scale landmark geometry has: recoloured photos, the same faces, are its best case.

    Finding three points again on a merely recoloured photo already costs it (0.87 on the demo's photos); an embedder
    gives those 1.0.
    """
    best = figures.get("colour", {}).get("identity", NOTHING).value
    if not np.isfinite(best) or not np.isfinite(row.estimate.value) or best <= CHANCE:
        return row
    scale = (best - CHANCE) / (1 - CHANCE)
    good, bad = (round(CHANCE + scale * (limit - CHANCE), 4) for limit in settings.limit_identity)
    return judge("identity", row.estimate, settings, limits=(good, bad))


def _softened(row: Row, gaps: list[Gap]) -> Row:
    """Geometry of three landmarks is no measure of who somebody is: it may warn, not stop a style.

    A difference between groups that chance explains as well is not even a warning then.
    """
    gap = fairness.worst_gap(gaps, "identity")
    if row.metric == "gap_identity" and row.state == "warn" and gap is not None and gap.chance >= CHANCE_EXPLAINS:
        return replace(row, state="pass", reason=f"{row.reason}; by landmark geometry alone that says nothing")
    if row.state != "fail":
        return row
    reason = f"{row.reason}; judged by landmark geometry alone, give mobilefacenet_112.onnx for a decision"
    return Row(row.metric, row.title, row.estimate, row.limits, "warn", reason)


def _lead(mine: Estimate, colour: Estimate | None) -> Estimate:
    """How much smaller the style gap is than colour transfer's; the two intervals are combined as independent."""
    if colour is None:
        return NOTHING
    value = colour.value - mine.value
    half = float(np.hypot(mine.high - mine.low, colour.high - colour.low)) / 2
    return Estimate(value, value - half, value + half, mine.n)


def _relative(mine: Estimate, photo: Estimate) -> Estimate:
    """A figure over the untouched photos' own, which is taken as exact."""
    if not photo.value > 0:
        return NOTHING
    return Estimate(mine.value / photo.value, mine.low / photo.value, mine.high / photo.value, mine.n)


def _gap_row(metric: str, name: str, gaps: list[Gap], settings: EvaluateSettings) -> Row:
    gap = fairness.worst_gap(gaps, metric)
    if gap is None:
        reason = f"no two groups of {settings.group_min} or more pictures to compare"
        return judge(name, NOTHING, settings, reason)
    # The interval's upper end must not fail a row by itself: with small groups it nearly always reaches far.
    row = judge(name, Estimate(gap.estimate.value, float("nan"), float("nan"), gap.estimate.n), settings)
    where = f"{gap.grouping}: {gap.worst} against {gap.best}"
    state, reason = row.state, where
    if row.state != "pass" and gap.chance >= CHANCE_EXPLAINS:
        state = "warn" if row.state == "fail" else "pass"
        reason = f"{where}; chance alone gives as much in {100 * gap.chance:.0f} % of random groupings"
    return Row(row.metric, row.title, gap.estimate, row.limits, state, reason)


def as_json(assessment: Assessment) -> dict[str, Any]:
    """Verdict, rows, figures and gaps as plain data for metrics.json."""
    rows = {
        row.metric: {**row.estimate.as_dict(), "pass": row.limits[0], "fail": row.limits[1], "state": row.state}
        | {"title": row.title, "reason": row.reason}
        for row in assessment.rows
    }
    systems = {
        name: {metric: estimate.as_dict() for metric, estimate in figures.items()}
        for name, figures in assessment.figures.items()
    }
    gaps = [
        {"metric": g.metric, "grouping": g.grouping, "best": g.best, "worst": g.worst, "chance": round(g.chance, 4)}
        | g.estimate.as_dict()
        for g in assessment.gaps
    ]
    return {"verdict": assessment.verdict, "rows": rows, "systems": systems, "gaps": gaps}
