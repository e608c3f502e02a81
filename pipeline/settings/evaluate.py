"""Settings of evaluation: metrics and the verdict's thresholds."""

from typing import Annotated

from pydantic import AfterValidator, Field

from pipeline.settings.base import Section


def _two(limits: list[float]) -> list[float]:
    if len(limits) != 2:
        raise ValueError("must be two numbers: pass up to the first, fail beyond the second")
    return limits


Limits = Annotated[list[float], AfterValidator(_two)]


def _limits(good: float, bad: float, description: str) -> list[float]:
    """A verdict row: [pass, fail]; warn lies between. Which side is good follows from their order."""
    limits: list[float] = Field([good, bad], description=f"[pass, fail] of {description}")
    return limits


class EvaluateSettings(Section):
    """What is measured, on how many pictures, and the thresholds of the verdict (docs/metrics.md says why)."""

    fid_weights: str = Field(
        "",
        description="Path of pt_inception-2015-12-05-6726825d.pth for genuine FID; empty searches models/external, "
        "then falls back to features of VGG19 (fd_vgg19, kid_vgg19) where its file is found, else of the encoder "
        "(fd_enc, kid_enc).",
    )
    pictures: int = Field(
        400, ge=8, le=100_000, description="Test photos and style pictures used at most; more narrows the intervals."
    )
    max_side: int = Field(
        256,
        ge=32,
        le=1024,
        description="Pictures are measured at the working resolution, but at most at this side, px.",
    )
    neighbours: int = Field(3, ge=1, le=50, description="k of the k-NN precision and recall.")
    latency_runs: int = Field(20, ge=1, le=1000, description="Timed runs of the .mnn file; the median counts.")
    faces: int = Field(16, ge=4, le=64, description="Test faces shown side by side in the report and in compare.")
    group_min: int = Field(
        8, ge=2, description="Smallest fairness group compared, pictures; smaller ones are listed without judgement."
    )

    limit_pictures: Limits = _limits(30, 10, "the number of test photos; fewer cannot carry a decision.")
    limit_style_gap: Limits = _limits(0.6, 0.85, "the style gap: 0 = real pictures of the style, 1 = the photo.")
    limit_over_colour_transfer: Limits = _limits(
        0.1, 0.0, "how much smaller the style gap is than that of plain colour transfer."
    )
    limit_sharpness: Limits = _limits(
        1.6, 2.5, "sharpness against the style's own, the larger of ratio and 1/ratio; blur and noise both fail."
    )
    limit_diversity: Limits = _limits(0.5, 0.3, "diversity of the results over that of the photos.")
    limit_identity: Limits = _limits(
        0.8, 0.65, "identity: share of other persons ranked behind the right one; chance is 0.5."
    )
    limit_recognised: Limits = _limits(
        0.5,
        0.25,
        "how often a person is among the first 5 of 60 found for the result, in another photo, over how often for the"
        " photo; judged only with a face embedder and persons with two test photos.",
    )
    limit_background_psnr: Limits = _limits(30, 24, "PSNR outside the head in dB, before any pasting.")
    limit_background_ssim: Limits = _limits(0.95, 0.85, "SSIM outside the head, before any pasting.")
    limit_mask_iou: Limits = _limits(0.8, 0.6, "overlap of the network's own head mask with the reference mask.")
    limit_seam: Limits = _limits(8, 16, "extra gradient along the head's outline, grey levels per pixel.")
    limit_face_lost: Limits = _limits(0.1, 0.3, "the share of results without a face where the photo has one.")
    limit_pose: Limits = _limits(0.12, 0.25, "movement of eyes and mouth, in eye distances.")
    limit_equivariance: Limits = _limits(28, 20, "PSNR in dB between shifting before and after stylizing.")
    limit_parity: Limits = _limits(1, 4, "mean difference of torch and MNN, grey levels.")
    limit_size_kb: Limits = _limits(2500, 8000, "size of mobile.mnn, kB.")
    limit_latency_ms: Limits = _limits(60, 250, "median time of mobile.mnn on this machine, one thread, ms.")
    limit_gap_identity: Limits = _limits(0.1, 0.2, "the largest difference in identity between groups of people.")
    limit_gap_background: Limits = _limits(4, 8, "the largest difference in background PSNR between groups, dB.")
    limit_gap_style: Limits = _limits(0.3, 0.6, "the largest difference in how far groups move towards the style.")
    limit_gap_face_lost: Limits = _limits(0.15, 0.3, "the largest difference in lost faces between groups.")
    limit_gap_lightness: Limits = _limits(8, 16, "the largest difference in lightening (L*) of heads between groups.")
