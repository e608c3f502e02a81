"""What is wrong with a pair: scores per picture, and the first check each failing pair did not pass."""

from dataclasses import dataclass

import cv2
import numpy as np
import pandas as pd
import torch
from torch import Tensor

from pipeline.settings import PairSettings
from stages.common.distances import mask_iou, seam, sharpness
from stages.common.embedder import FaceEmbedder
from stages.faces.detect import FaceDetector

KNOWN = 0.1  # median cosine below which face recognition says nothing about a style; strangers are at 0
TRUSTED_RATE = 0.6
"""A detector that finds fewer of the results than this does not know the style (Haar on flat drawings): its verdict on
single pictures, faces and eye positions, would be chance, so it is left out and the report says so."""


@dataclass(frozen=True)
class Check:
    """One filter: the score it reads, the setting that limits it, which side fails, and the reason given."""

    score: str
    setting: str
    low_fails: bool
    reason: str


CHECKS = (
    Check("mask_iou", "min_mask_iou", True, "mask_off"),
    Check("face_score", "min_score", True, "no_face_found"),
    Check("landmark_shift", "max_landmark_shift", False, "face_moved"),
    Check("identity", "min_identity", True, "identity_lost"),
    Check("seam", "max_seam", False, "seam"),
    Check("artefact", "max_artefact", False, "artefacts"),
)


def score_pairs(
    photos: Tensor,
    styled: Tensor,
    drawn: Tensor,
    heads: Tensor,
    eyes: np.ndarray,
    detector: FaceDetector | None,
    embedder: FaceEmbedder | None,
) -> dict[str, np.ndarray]:
    """Scores of N pasted pairs, NaN where something is not measurable.

    Args:
        photos, styled: [N, 3, H, W] in [-1, 1].
        drawn, heads: the translator's and the reference mask [N, 1, H, W] in [0, 1].
        eyes: the photos' eye centres [N, 4] (left x, y, right x, y) as shares of the side; NaN = unknown.
        detector: finds the face in the result; None skips those scores.
        embedder: face recognition; None skips identity.

    Returns:
        mask_iou; face_score (0 = none found); landmark_shift (share of the side); identity (cosine); seam (grey
        levels per pixel); artefact (share of the head); sharpness; quality (what sheets are sorted by, 0 to 1).
    """
    n, side = len(photos), photos.shape[-1]
    scores = {
        "mask_iou": mask_iou(drawn, heads),
        "face_score": np.full(n, np.nan),
        "landmark_shift": np.full(n, np.nan),
        "identity": np.full(n, np.nan),
        "seam": seam(photos, styled, heads),
        "artefact": artefacts(photos, styled, drawn),
        "sharpness": sharpness(styled, heads),
    }
    if detector is not None:
        pictures = (styled.permute(0, 2, 3, 1).cpu().numpy() * 127.5 + 128).clip(0, 255).astype(np.uint8)
        for i, picture in enumerate(pictures):
            faces = detector.detect(picture)
            scores["face_score"][i] = faces[0].score if faces else 0.0
            if faces:
                found = np.array([*faces[0].eye_l, *faces[0].eye_r]) / side
                scores["landmark_shift"][i] = np.abs((found - eyes[i]).reshape(2, 2)).max()
    if embedder is not None:
        with torch.no_grad():
            scores["identity"] = (embedder(photos) * embedder(styled)).sum(1).cpu().numpy().astype(np.float64)
    scores["quality"] = quality(scores)
    return scores


def quality(scores: dict[str, np.ndarray]) -> np.ndarray:
    """One figure per pair, [N], to sort sheets by: mean of mask, position, likeness and cleanness where known."""
    parts = [
        scores["mask_iou"],
        1 - np.clip(scores["landmark_shift"] / 0.06, 0, 1),
        np.clip(scores["identity"], 0, 1),
        1 - np.clip(scores["artefact"] / 0.1, 0, 1),
        1 - np.clip(np.abs(scores["seam"]) / 30, 0, 1),
    ]
    return np.nanmean(np.stack(parts), axis=0)


def artefacts(photos: Tensor, styled: Tensor, mask: Tensor) -> np.ndarray:
    """Share [N] of head pixels that are specks, or clipped where the photo is not.

    Pictures [N, 3, H, W] in [-1, 1], ``mask`` [N, 1, H, W] in [0, 1]; NaN where the mask is empty.
    A speck differs by more than 60 of 255 levels from the median of its 5×5 neighbourhood in some channel, in the
    result but not in the photo (glints and pupils are in both).
    """
    shares = []
    for before, after, where in zip(_pixels(photos), _pixels(styled), mask[:, 0].cpu().numpy() >= 0.5, strict=True):
        bad = _specks(after) & ~_specks(before)
        extreme = ((after >= 254) | (after <= 1)).all(2) & ~((before >= 250) | (before <= 5)).any(2)
        shares.append(float((bad | extreme)[where].mean()) if where.any() else np.nan)
    return np.array(shares)


def _pixels(images: Tensor) -> np.ndarray:
    return (images.float().permute(0, 2, 3, 1).cpu().numpy() * 127.5 + 128).clip(0, 255).astype(np.uint8)


def _specks(image: np.ndarray) -> np.ndarray:
    return cv2.absdiff(image, cv2.medianBlur(image, 5)).max(axis=2) > 60


def judge(scores: pd.DataFrame, settings: PairSettings) -> tuple[pd.DataFrame, list[str]]:
    """Decides by the limits in ``settings``.

    Args:
        scores: one row per pair with the columns of :func:`score_pairs`.

    Returns:
        (table with columns reason and detail, empty for pairs that pass, rows as in ``scores``; notes on checks that
        were left out).
    """
    reason = pd.Series("", index=scores.index)
    detail = pd.Series("", index=scores.index)
    notes = []
    rate = float((scores["face_score"] > 0).mean())
    for check in CHECKS:
        values = scores[check.score]
        if values.isna().all():
            notes.append(f"{check.reason}: not checked, nothing measures {check.score} here")
            continue
        if check.score in ("face_score", "landmark_shift") and rate < TRUSTED_RATE:
            notes.append(f"{check.reason}: not checked, the detector finds only {rate:.0%} of the results")
            continue
        if check.score == "identity" and values.median() < KNOWN:
            notes.append(f"{check.reason}: not checked, the recogniser hardly knows anybody in this style")
            continue
        limit = getattr(settings, check.setting)
        failed = (values < limit if check.low_fails else values > limit) & (reason == "")
        reason[failed] = check.reason
        detail[failed] = [f"{check.score} {value:.3g}, limit {limit:g}" for value in values[failed]]
    return pd.DataFrame({"reason": reason, "detail": detail}), notes
