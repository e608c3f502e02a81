"""Settings of stage 1: source, transfer, fuse, generate."""

from typing import Literal

from pydantic import Field, field_validator

from pipeline.settings.base import Section


class EncoderSettings(Section):
    """Training of the inversion encoder; used only where no shipped one fits the source."""

    kimg: float = Field(
        120.0, gt=0, description="Training length in thousand images (120 = about 15 minutes on 2 cores)."
    )
    batch: int = Field(32, ge=2, le=1024, description="Images per step.")
    lr: float = Field(1e-3, gt=0, le=0.1, description="Adam rate; falls to nearly 0 over the last quarter.")


class SourceSettings(Section):
    """TODO."""

    placeholder: int = Field(0, ge=0, description="Replaced by the part that owns this section.")


class TransferSettings(Section):
    """TODO."""

    placeholder: int = Field(0, ge=0, description="Replaced by the part that owns this section.")


class FuseSettings(Section):
    """Layer interpolation of the transferred model with the source, or with one other parent."""

    schedule: Literal["smooth", "linear", "swap"] = Field(
        "smooth",
        description=(
            "Curve of the high parent's share over the layers: smooth (logistic), linear or swap (hard switch)."
        ),
    )
    mid: float = Field(
        1.5,
        ge=-2,
        le=10,
        description=(
            "Position where both parents give half: 0 = 4x4 layers, 1 = 8x8, ... Lower takes more style, less source."
        ),
    )
    width: float = Field(
        0.5,
        gt=0,
        le=5,
        description="Softness of the change, in positions; small is nearly a swap. swap ignores it.",
    )
    low: Literal["source", "transferred"] = Field(
        "source",
        description=(
            "Parent of the low resolutions (pose, shape); transferred gives Toonify's direction: style "
            "shapes, photo texture."
        ),
    )
    mapping: Literal["source", "transferred"] = Field(
        "source",
        description=(
            "Parent of the mapping network and w_avg; the other parent's layers are re-based onto its latent space."
        ),
    )
    torgb_mid: float | None = Field(
        None,
        ge=-2,
        le=10,
        description="Own fusion point of the colour (toRGB) layers; empty = as the other layers.",
    )
    per_resolution: dict[int, float] = Field(
        default_factory=dict,
        description=(
            "Fixed shares of the high parent at single resolutions, e.g. {64: 1.0}; only high ones = colour edits only."
        ),
    )
    parent_b: str = Field(
        "",
        description=(
            "The other parent: empty = the source, else a model file, e.g. models/other/transferred.safetensors."
        ),
    )

    @field_validator("per_resolution")
    @classmethod
    def _shares_are_shares(cls, value: dict[int, float]) -> dict[int, float]:
        for resolution, share in value.items():
            if resolution < 4 or resolution & (resolution - 1):
                raise ValueError(f"{resolution} is not a resolution (4, 8, 16, ...)")
            if not 0 <= share <= 1:
                raise ValueError(f"the share at {resolution} px must be within 0..1, not {share}")
        return value


class Direction(Section):
    """A semantic direction: how it is found and how far each sample is moved along it."""

    method: Literal["pca", "sefa", "attribute"] = Field(
        "pca",
        description=(
            "pca over sampled w, sefa (eigenvectors of the affine weights), or attribute (regression on "
            "a measured one)."
        ),
    )
    component: int = Field(0, ge=0, description="Which component (pca, sefa), strongest first.")
    attribute: Literal["", "mouth_open", "brightness", "red", "saturation", "sharpness"] = Field(
        "", description="What attribute regresses on, measured on the source's samples."
    )
    layers: list[int] = Field(default_factory=list, description="Indices of the w layers it acts on; empty = all.")
    low: float = Field(-1.0, description="Smallest move, in standard deviations of w along the direction.")
    high: float = Field(1.0, description="Largest move; each sample draws uniformly between the two.")


class GenerateSettings(Section):
    """Mass production of styled faces from the fused model."""

    sampled: int = Field(1000, ge=0, le=10_000_000, description="Styled faces to make by sampling the latent space.")
    inverted: int = Field(
        100,
        ge=0,
        le=10_000_000,
        description="Styled faces to make by inverting photos (at most as many as there are usable photos).",
    )
    truncation: list[float] = Field(
        default_factory=lambda: [0.75],
        min_length=1,
        max_length=18,
        description=("Truncation psi: one value, or one per w layer (10 at 64 px); lower is cleaner and less varied."),
    )
    attempts: float = Field(
        3.0, ge=1, le=100, description="Candidates drawn per wanted sample before a shard gives up."
    )
    face_filter: bool = Field(
        True,
        description="Drop faces whose eyes, mouth, sharpness or features are not those of a face of the style.",
    )
    filter_loss: float = Field(
        0.06,
        ge=0,
        le=0.5,
        description="Share of real style faces the filter may reject, over all its checks; higher is stricter.",
    )
    duplicate_distance: float = Field(
        0.12,
        ge=0,
        description=(
            "Samples nearer than this in w (1 = two random samples) are duplicates, the later one is dropped."
        ),
    )
    invert_space: Literal["w", "w+"] = Field(
        "w+", description="Latent space of inversion: w is safer, w+ nearer the person."
    )
    invert_steps: int = Field(
        30, ge=0, le=5000, description="Optimisation steps per photo after the encoder; 0 = encoder only."
    )
    invert_lr: float = Field(0.05, gt=0, le=1, description="Adam rate of inversion.")
    invert_prior: float = Field(
        0.02,
        ge=0,
        description="Pull towards likely latents; higher keeps fused faces clean, lower keeps the person.",
    )
    invert_strength: float = Field(
        0.9, gt=0, le=1, description="How far an inverted latent goes from the mean face before styling."
    )
    directions: dict[str, Direction] = Field(
        default_factory=dict, description="Semantic directions by name, applied to every sampled face."
    )
    workers: int = Field(0, ge=0, le=1024, description="Processes; 0 = one per core (one on a GPU).")
    shard_size: int = Field(250, ge=1, le=100_000, description="Samples per tar shard.")
    batch: int = Field(32, ge=1, le=1024, description="Images per network call.")

    @field_validator("truncation")
    @classmethod
    def _psi_in_range(cls, value: list[float]) -> list[float]:
        if any(not 0 <= psi <= 1.5 for psi in value):
            raise ValueError("every truncation must be within 0..1.5")
        return value
