"""Pass, warn or fail, row by row, against the thresholds of params.yaml (docs/metrics.md says why each)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from pipeline.settings import EvaluateSettings
from stages.common.distances import Estimate

State = Literal["pass", "warn", "fail", "unknown"]
ORDER: tuple[State, ...] = ("pass", "unknown", "warn", "fail")


@dataclass(frozen=True)
class Row:
    """One line of the verdict.

    Attributes:
        metric: figure it judges; its setting is ``evaluate.limit_<metric>``.
        title: what people read.
        estimate: figure, interval, N.
        limits: (pass, fail).
        state: unknown when there was nothing to measure with.
        reason: one sentence that says what the state means here.
    """

    metric: str
    title: str
    estimate: Estimate
    limits: tuple[float, float]
    state: State
    reason: str


TITLES = {
    "pictures": "Test photos",
    "style_gap": "Style gap",
    "over_colour_transfer": "Better than colour transfer by",
    "sharpness": "Sharpness off the style's by a factor of",
    "diversity": "Diversity kept",
    "identity": "Identity kept",
    "recognised": "Recognised, of what photos reach",
    "background_psnr": "Background PSNR, dB",
    "background_ssim": "Background SSIM",
    "mask_iou": "Head mask overlap",
    "seam": "Seam, grey levels/px",
    "face_lost": "Faces lost",
    "pose": "Eyes and mouth moved, eye distances",
    "equivariance": "Shift equivariance, dB",
    "parity": "Torch to MNN, grey levels",
    "size_kb": "Size of mobile.mnn, kB",
    "latency_ms": "Time on this machine, ms",
    "gap_identity": "Largest group gap: identity",
    "gap_background": "Largest group gap: background, dB",
    "gap_style": "Largest group gap: styling",
    "gap_face_lost": "Largest group gap: faces lost",
    "gap_lightness": "Largest group gap: lightening, L*",
}
GOOD = {
    "style_gap": "looks like the style",
    "background_psnr": "the background stays",
    "identity": "people stay themselves",
}
BAD = {
    "pictures": "too few test photos to decide; add photos",
    "style_gap": "looks too much like the photo; train transfer longer or raise fuse's share of style",
    "over_colour_transfer": "hardly more than recolouring; the style's shapes are missing",
    "sharpness": "blurred or noisy against the style's own pictures",
    "diversity": "results look alike (collapse); shorten transfer, raise truncation",
    "identity": "people are mixed up; raise mid of fuse or the identity weights of translate",
    "recognised": "strangers come before the person; raise mid of fuse or face_identity of translate and mobile",
    "background_psnr": "the background changes; raise mask and background weights of translate and mobile",
    "background_ssim": "the background changes; raise mask and background weights of translate and mobile",
    "mask_iou": "the network masks another region than the head",
    "seam": "a visible cut along the head's outline",
    "face_lost": "results stop looking like faces to the detector",
    "pose": "eyes or mouth move; expression and pose are not kept",
    "equivariance": "the result jumps when the photo shifts; video will flicker",
    "parity": "the exported file computes something else than the trained model; export again",
    "size_kb": "too large to ship; choose a smaller mobile.tier",
    "latency_ms": "too slow on this machine; choose a smaller mobile.tier",
    "gap_identity": "groups of people are kept unequally well; see Fairness",
    "gap_background": "backgrounds suffer unequally between groups; see Fairness",
    "gap_style": "groups are styled unequally; see Fairness",
    "gap_face_lost": "faces of some groups are lost more often; see Fairness",
    "gap_lightness": "heads of some groups are lightened or darkened more; see Fairness",
}


def judge(
    metric: str,
    estimate: Estimate,
    settings: EvaluateSettings,
    unknown: str = "nothing to measure",
    limits: tuple[float, float] | None = None,
) -> Row:
    """One row of the verdict.

    Which side is good follows from the limits' order. Where the interval reaches over a limit, the row says so, and a
    pass becomes a warning when its interval reaches into failing: a lucky draw must not ship a style.
    ``unknown`` explains a figure that is NaN; ``limits`` (pass, fail) replace the settings'.
    """
    good, bad = limits or getattr(settings, f"limit_{metric}")
    title = TITLES[metric]
    if not np.isfinite(estimate.value):
        return Row(metric, title, estimate, (good, bad), "unknown", unknown)
    sign = 1 if bad >= good else -1  # afterwards larger is worse
    value, limit, stop = sign * estimate.value, sign * good, sign * bad
    best, worst = (estimate.low, estimate.high) if sign == 1 else (-estimate.high, -estimate.low)
    state: State = "pass" if value <= limit else "fail" if value > stop else "warn"
    reason = GOOD.get(metric, "within limits") if state == "pass" else BAD[metric]
    if state == "pass" and np.isfinite(worst) and worst > stop:
        state, reason = "warn", "good on average, but the interval reaches into failing; test on more photos"
    elif state == "fail" and np.isfinite(best) and best <= limit:
        reason += " (too few pictures to be sure: the interval reaches into passing)"
    return Row(metric, title, estimate, (good, bad), state, reason)


def fold(ratio: Estimate) -> Estimate:
    """Ratio → factor off in either direction (the larger of ratio and 1/ratio), interval mapped along."""
    if not np.isfinite(ratio.value) or ratio.value <= 0:
        return ratio
    ends = [max(v, 1 / v) for v in (ratio.low, ratio.high) if np.isfinite(v) and v > 0]
    value = max(ratio.value, 1 / ratio.value)
    if not ends:
        return Estimate(value, float("nan"), float("nan"), ratio.n)
    crosses = ratio.low <= 1 <= ratio.high
    return Estimate(value, 1.0 if crosses else min(ends), max(ends), ratio.n)


def overall(rows: Mapping[str, Row] | list[Row]) -> State:
    """The worst state of all rows; unknown rows make at most a warning of the whole."""
    states = {row.state for row in (rows.values() if isinstance(rows, Mapping) else rows)}
    worst: State = max(states, key=ORDER.index, default="unknown")
    return "warn" if worst == "unknown" and len(states) > 1 else worst
