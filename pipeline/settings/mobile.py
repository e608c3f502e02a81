"""Settings of stage 3: mobile, export."""

from typing import Literal

from pydantic import Field

from pipeline.settings.base import Section


class MobileSettings(Section):
    """Training of the phone-sized network. Every loss is off at weight 0."""

    tier: Literal["xs", "s", "m", "l"] = Field(
        "l",
        description="Compute of the network at 256 px: at most 60, 120, 250 or 500 million multiply-accumulates; a "
        "sixteenth of that at 64 px, where l draws cleaner eyes and mouths than m.",
    )
    kimg: float = Field(13.0, gt=0, description="Training length, thousand images; longer is sharper up to hundreds.")
    batch: int = Field(16, ge=2, description="Pairs per step over all processes.")
    lr: float = Field(0.016, gt=0, le=0.1, description="Adam's rate for the network; falls to 0 as a cosine.")
    discriminator_lr: float = Field(5e-4, gt=0, le=0.1, description="Adam's rate for the patch discriminators.")
    ema_kimg: float = Field(0.5, ge=0, description="Half-life of the weights' moving average, thousand images.")
    pixel: float = Field(10.0, ge=0, description="Weight of the pixel loss (Charbonnier) against the target.")
    head_weight: float = Field(
        4.0,
        ge=1,
        description="How much more a pixel of the head counts than one of the background in the pixel loss; "
        "eyes and mouth count up to six times as much as the rest of the head.",
    )
    mask: float = Field(2.0, ge=0, description="Weight of the loss that ties the network's mask to the head mask.")
    perceptual: float = Field(
        8.0,
        ge=0,
        description="Weight of the feature loss: VGG19 when its file is there, else the source's discriminator.",
    )
    adversarial: float = Field(
        2.5, ge=0, description="Weight of the patch discriminators, which compare with styled faces that are no target."
    )
    edge_promoting: float = Field(
        0.5, ge=0, description="Weight of edge-smoothed styled faces as fakes in the discriminator; raises sharpness."
    )
    colour: float = Field(2.0, ge=0, description="Weight of the colour loss (L1 on Y, Huber on UV, blurred).")
    total_variation: float = Field(
        0.0, ge=0, description="Weight of total variation of the drawn face; calms noise, costs sharpness."
    )
    distillation: float = Field(
        0.0, ge=0, description="Weight of matching the stage-2 generator on source samples, beyond the pairs."
    )
    distillation_share: float = Field(
        0.25, gt=0, le=1, description="Extra samples per step for distillation, as a share of the batch."
    )
    face_identity: float = Field(
        1.0,
        ge=0,
        description="Weight of being recognised as the target is (1 − cosine); used when mobilefacenet is found.",
    )
    equivariance: float = Field(
        40.0, ge=0, description="Weight of following small shifts of the input; keeps video from flickering."
    )
    augment: bool = Field(True, description="Augment the pairs: geometry on both sides, light and damage on the input.")
    max_rotation: float = Field(4.0, ge=0, le=45, description="Largest rotation in augmentation, degrees.")
    max_shift: float = Field(0.025, ge=0, le=0.5, description="Largest shift in augmentation, share of the side.")
    max_zoom: float = Field(0.06, ge=0, lt=1, description="Largest zoom in or out in augmentation, share of the size.")
    light: float = Field(0.15, ge=0, le=1, description="Strength of brightness, contrast, colour changes of the input.")
    damage: float = Field(0.08, ge=0, le=1, description="Share of inputs that are blurred, noisy or JPEG-compressed.")
    background: float = Field(0.1, ge=0, le=1, description="Share of pairs whose background is replaced.")
    patch_width: int = Field(32, ge=8, description="First layer's channels of the patch discriminators.")
    scales: int = Field(
        2, ge=1, le=3, description="Patch discriminators, each looking at half the size of the one before."
    )


class ExportSettings(Section):
    """Conversion to ONNX and MNN and the numeric gate."""

    size: int = Field(
        0, ge=0, le=2048, description="Input side written into the sidecar, pixels; 0 takes the training resolution."
    )
    dynamic: bool = Field(True, description="Accept other input sizes (multiples of 16) as well.")
    inputs: int = Field(8, ge=1, description="Held-back photos on which MNN and torch are compared.")
    max_error_fp32: float = Field(1e-4, gt=0, description="Largest difference MNN to torch allowed, scale [-1, 1].")
    max_error_fp16: float = Field(2e-3, gt=0, description="The same for the file with 16-bit weights.")
    max_error_int8: float = Field(2e-2, gt=0, description="The same for the file with 8-bit weights.")
