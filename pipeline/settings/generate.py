"""Settings of stage 1: source, transfer, fuse, generate."""

from typing import Literal

from pydantic import Field, field_validator, model_validator

from pipeline.settings.base import Section


class EncoderSettings(Section):
    """Training of the inversion encoder; used only where no shipped one fits the source."""

    kimg: float = Field(
        120.0, gt=0, description="Training length in thousand images (120 = about 15 minutes on 2 cores)."
    )
    batch: int = Field(32, ge=2, le=1024, description="Images per step.")
    lr: float = Field(1e-3, gt=0, le=0.1, description="Adam rate; falls to nearly 0 over the last quarter.")


class GanSettings(Section):
    """What every StyleGAN2-ADA training has; `source` and `transfer` choose their own defaults."""

    kimg: float = Field(25.0, gt=0, description="Training length in thousand images.")
    batch: int = Field(16, ge=4, le=4096, description="Images per step, over all processes; a multiple of 4.")
    lr: float = Field(0.0025, gt=0, le=0.1, description="Adam rate of generator and discriminator.")
    lr_mapping: float = Field(
        1.0,
        ge=0,
        le=10,
        description="Multiplies lr for the mapping network; 0 freezes it (latents keep their meaning).",
    )
    lr_conv: float = Field(
        1.0,
        gt=0,
        le=100,
        description="Multiplies lr for the generator's 3x3 convolutions; demodulated, they bear more than the rest.",
    )
    lr_noise: float = Field(0.1, ge=0, le=10, description="Multiplies lr for the noise strengths; 0 freezes them.")
    decay_from: float = Field(
        0.7, ge=0, le=1, description="Share of the run after which rates fall linearly to a tenth; 1 = constant."
    )
    gamma: float = Field(
        0.0, ge=0, description="R1 weight; higher is steadier and blurrier. 0 = 0.0002 * resolution^2 / batch."
    )
    mixing: float = Field(0.0, ge=0, le=1, description="Style mixing probability; the paper uses 0.9 on large sets.")
    path_weight: float = Field(
        0.0, ge=0, description="Path-length weight, paper 2; smoother latents for about 15 % more time. 0 = off."
    )
    ema_kimg: float = Field(5.0, gt=0, description="Half-life of the averaged generator, in thousand images.")
    augment: Literal["none", "face", "blit", "geom", "color", "bg", "bgc"] = Field(
        "face", description="Augmentations of ADA; bgc is the paper's, face leaves out what never occurs in faces."
    )
    augment_p: float = Field(0.0, ge=0, le=1, description="Augmentation probability at the start.")
    ada_target: float = Field(
        0.6, ge=0, lt=1, description="Overfitting measure ADA holds by moving p; 0 keeps augment_p."
    )
    ada_kimg: float = Field(100.0, gt=0, description="Thousand images in which p can move by 1.")
    mirror: bool = Field(True, description="Show real pictures mirrored half of the time.")

    @field_validator("batch")
    @classmethod
    def _whole_groups(cls, value: int) -> int:
        if value % 4:
            raise ValueError("must be a multiple of 4 (the discriminator compares groups of 4)")
        return value


class SourceSettings(GanSettings):
    """The face model everything starts from."""

    input: str = Field(
        "models/shipped",
        description=(
            "Where it comes from: a folder with source.safetensors, one model file (.safetensors, .pkl, .pt, .npz), "
            "or a folder of photos to train on."
        ),
    )
    start: str = Field("", description="Model file training continues from; empty = from scratch. Photos only.")
    exclude: str = Field(
        "", description="CSV with a column 'file': photos never trained on (held out for tests). Photos only."
    )
    licence: str = Field("", description="Licence or consent of the photos; goes into the model file. Photos only.")
    z_dim: int = Field(128, ge=4, le=2048, description="Size of z; 512 in published models. From scratch only.")
    w_dim: int = Field(128, ge=4, le=2048, description="Size of w; 512 in published models. From scratch only.")
    mapping_layers: int = Field(2, ge=1, le=16, description="Mapping layers; 8 in FFHQ models. From scratch only.")
    channel_base: int = Field(
        2048, ge=64, le=65536, description="Channels times resolution; 16384 or 32768 on GPUs. From scratch only."
    )
    channel_max: int = Field(
        128, ge=4, le=1024, description="Most channels of a layer; 512 on GPUs. From scratch only."
    )
    kimg: float = Field(300.0, gt=0, description="Training length in thousand images (300 = 75 idle minutes at 64 px).")
    lr: float = Field(0.002, gt=0, le=0.1, description="Adam rate of generator and discriminator.")
    ema_kimg: float = Field(8.0, gt=0, description="Half-life of the averaged generator, in thousand images.")
    augment_p: float = Field(0.05, ge=0, le=1, description="Augmentation probability at the start.")
    ada_kimg: float = Field(250.0, gt=0, description="Thousand images in which p can move by 1.")
    grid_kimg: float = Field(10.0, gt=0, description="Thousand images between preview grids.")
    encoder: EncoderSettings = Field(
        default_factory=EncoderSettings, description="The inversion encoder that goes with the source."
    )


class TransferSettings(GanSettings):
    """The source learns a style from a few hundred pictures."""

    kimg: float = Field(
        7.0, gt=0, description="Training length in thousand images; longer costs diversity and breaks fusion."
    )
    lr: float = Field(0.006, gt=0, le=0.1, description="Adam rate of the generator.")
    lr_d: float = Field(0.003, gt=0, le=0.1, description="Adam rate of the discriminator.")
    lr_mapping: float = Field(
        0.0,
        ge=0,
        le=10,
        description="Multiplies lr for the mapping network; 0 freezes it (latents keep their meaning).",
    )
    lr_by_resolution: dict[int, float] = Field(
        default_factory=dict,
        description="Multiplies lr for the generator's layers of a resolution, e.g. {4: 0, 8: 0.5}; 0 freezes them.",
    )
    lr_conv: float = Field(
        1.5,
        gt=0,
        le=100,
        description="Multiplies lr for the generator's 3x3 convolutions: how fast shapes follow the style.",
    )
    lr_noise: float = Field(
        0.0,
        ge=0,
        le=10,
        description="Multiplies lr for the noise strengths; 0 keeps the source's (drawn styles: no grain).",
    )
    freeze_d: int = Field(
        0, ge=0, le=60, description="Discriminator layers frozen, counted from the input; 10-13 for very small sets."
    )
    ema_kimg: float = Field(0.5, gt=0, description="Half-life of the averaged generator, in thousand images.")
    augment_p: float = Field(0.1, ge=0, le=1, description="Augmentation probability at the start.")
    ada_kimg: float = Field(30.0, gt=0, description="Thousand images in which p can move by 1.")
    anchor_weight: float = Field(
        20.0,
        ge=0,
        le=1000,
        description="Pull of style pictures on the faces of their encoder codes: keeps identities; 0 = off.",
    )
    activation_weight: float = Field(
        0.0, ge=0, description="Keeps activations near the source's (same latents); ghosts of the source when too high."
    )
    consistency_weight: float = Field(
        0.0,
        ge=0,
        description="Keeps distances between samples as in the source (diversity); the paper's range is 1000.",
    )
    constraint_resolutions: list[int] = Field(
        default_factory=lambda: [8, 16, 32], min_length=1, description="Resolutions the two constraints act on."
    )
    use_weights: bool = Field(
        True, description="Draw style pictures by the sampling weights of the distribution report."
    )
    match_tone: float = Field(
        1.0,
        ge=0,
        le=1,
        description="Draws skin tones as often as the source's people have them; 0: as often as the style has them.",
    )
    match_heads: float = Field(
        1.0,
        ge=0,
        le=1,
        description="Draws pictures less often the less the source has heads like them (hats, helmets); 0: all alike.",
    )
    snapshots: int = Field(
        4, ge=1, le=50, description="Candidates kept over the run's second half; the best one is published."
    )
    min_diversity: float = Field(
        0.5, ge=0, le=2, description="Least diversity of a candidate, relative to the style's own pictures."
    )

    @field_validator("lr_by_resolution")
    @classmethod
    def _rates_fit(cls, value: dict[int, float]) -> dict[int, float]:
        for resolution, factor in value.items():
            if resolution < 4 or resolution & (resolution - 1):
                raise ValueError(f"{resolution} is not a resolution (4, 8, 16, ...)")
            if not 0 <= factor <= 100:
                raise ValueError(f"the factor at {resolution} px must be within 0..100, not {factor}")
        return value


class FuseSettings(Section):
    """Layer interpolation of the transferred model with the source, or with one other parent."""

    schedule: Literal["smooth", "linear", "swap"] = Field(
        "smooth",
        description=(
            "Curve of the high parent's share over the layers: smooth (logistic), linear or swap (hard switch)."
        ),
    )
    mid: float = Field(
        0.6,
        ge=-2,
        le=10,
        description=(
            "Position where both parents give half: 0 = 4x4 layers, 1 = 8x8, ... Lower takes more style, less source."
        ),
    )
    width: float = Field(
        0.15,
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

    @model_validator(mode="after")
    def _ordered(self) -> "Direction":
        if self.low > self.high:
            raise ValueError(f"low {self.low:g} is above high {self.high:g}")
        return self


class GenerateSettings(Section):
    """Mass production of styled faces from the fused model."""

    sampled: int = Field(1000, ge=0, le=10_000_000, description="Styled faces to make by sampling the latent space.")
    inverted: int = Field(
        100,
        ge=0,
        le=10_000_000,
        description="Styled faces to make by inverting photos (at most the photos outside the test split).",
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
