"""Settings of stage 2: translate, pair."""

from typing import Literal

from pydantic import Field

from pipeline.settings.base import Section


class TranslateSettings(Section):
    """The unpaired translator photo → style (U-GAT-IT with mask branch and region losses)."""

    kimg: float = Field(2.6, gt=0, le=1e5, description="Length of the training, thousands of photos seen.")
    batch: int = Field(
        4,
        ge=2,
        le=256,
        description="Photos per step, over all processes; half of them, where there are latent pairs, from the pairs.",
    )
    width: int = Field(32, ge=4, le=256, description="Channels of the translator's first layer (64 in the paper).")
    backward_width: int = Field(
        16, ge=4, le=256, description="The same for the way back, style → photo, which only helps training."
    )
    discriminator_width: int = Field(32, ge=4, le=256, description="Channels of the discriminators' first layer.")
    blocks: int = Field(4, ge=1, le=16, description="Residual blocks before and again after the attention.")
    mask: bool = Field(
        True, description="Mask variant: the translator also draws the head's mask and leaves the rest as it was."
    )
    region: bool = Field(
        True,
        description="Region variant: a loss on every change outside the head, cycle weighted there, discriminators "
        "and the attention's classifiers look at the head only.",
    )
    skip: bool = Field(
        True,
        description="Full-resolution skip from the first to the last layer and the photo's coarse colours added to the "
        "result; keeps fine detail and the person's tone.",
    )
    learning_rate: float = Field(4e-4, gt=0, le=0.1, description="Adam's rate; falls linearly over the second half.")
    critic_rate: float = Field(
        1.0,
        gt=0,
        le=100,
        description="Rate of the discriminators relative to the translator's; 2.4e-3 in all blew up at 64 px.",
    )
    ema_kimg: float = Field(0.5, gt=0, le=1000, description="Half-life of the averaged weights that are kept, kimg.")
    warm_kimg: float = Field(
        1.2, ge=0, le=1e5, description="Supervised start on latent pairs before the unpaired losses set in, kimg."
    )
    pairs_start: float = Field(
        20.0,
        ge=0,
        le=1000,
        description="Weight of the latent pairs' L1 inside the head at the start. Unpaired only: this, pairs_end and "
        "warm_kimg 0.",
    )
    pairs_end: float = Field(
        5.0, ge=0, le=1000, description="The same at the end; lower gives the discriminators more say over the style."
    )
    pairs_perceptual: float = Field(
        1.0,
        ge=0,
        le=100,
        description="Feature loss of the latent pairs relative to their L1: VGG19 when its file is there, else the "
        "source's discriminator; higher: crisper.",
    )
    pairs_tolerance: float = Field(
        0.0,
        ge=0,
        le=2,
        description="Colour difference (scale of 2) from which a latent pair shows different things, as a fringe on a "
        "bare forehead, and says nothing there; lower trusts pairs less, 0 trusts them everywhere.",
    )
    gan: float = Field(1.0, ge=0, le=1000, description="Weight of the adversarial losses; higher: more of the style.")
    cycle: float = Field(10.0, ge=0, le=1000, description="Weight of photo → style → photo; higher: more likeness.")
    identity: float = Field(10.0, ge=0, le=1000, description="Weight of leaving pictures of the own domain unchanged.")
    cam: float = Field(1.0, ge=0, le=1e4, description="Weight of the attention's domain classification (paper: 1000).")
    identity_every: int = Field(4, ge=1, le=100, description="Steps between identity, attention and likeness losses.")
    mask_weight: float = Field(10.0, ge=0, le=1000, description="Weight of the mask against the head mask.")
    mask_tv: float = Field(0.5, ge=0, le=100, description="Weight of the mask's total variation; higher: smoother.")
    mask_area: float = Field(
        5.0, ge=0, le=1000, description="Weight of the hinge that keeps the mask's area near the head's (no collapse)."
    )
    region_weight: float = Field(
        20.0, ge=0, le=1000, description="Weight of changes outside the head; higher: cleaner background."
    )
    region_grow: float = Field(
        0.03, ge=0, le=0.5, description="How far the region reaches beyond the head, as a share of the picture's side."
    )
    cycle_outside: float = Field(
        2.0, ge=0, le=100, description="Weight of the cycle outside the head relative to inside, region variant."
    )
    face_identity: float = Field(
        1.0,
        ge=0,
        le=1000,
        description="Weight of the face-recognition likeness (1 − cosine); used when mobilefacenet is found.",
    )
    unseen_top: float = Field(
        0.0,
        ge=0,
        le=0.5,
        description="Share of the picture, from the top, that the discriminators do not see (region variant): there "
        "hair, hats and foreheads stay nearer the person's. Brows are at 0.4.",
    )
    edge_weight: float = Field(
        0.5, ge=0, le=10, description="Weight of edge-smoothed style pictures as fakes; higher: crisper lines."
    )
    augment: float = Field(
        0.5, ge=0, le=1, description="Probability of each differentiable augmentation before the discriminators."
    )
    light: float = Field(
        0.5,
        ge=0,
        le=1,
        description="Strength of brightness, contrast and colour changes of photos; the drawing must not follow.",
    )
    styled_share: float = Field(
        0.75, ge=0, le=1, description="Share of stage 1's styled faces among the discriminators' real pictures."
    )
    grid_kimg: float = Field(1.0, gt=0, le=1e5, description="Photos between two preview grids, kimg.")


class PairSettings(Section):
    """Photos become (photo, styled, mask) and are filtered."""

    origin: Literal["translator", "latents"] = Field(
        "translator",
        description="translator: all photos through stage 2. latents: stage 1's pairs as they are (the two-stage "
        "shortcut, worse on real photos).",
    )
    batch: int = Field(64, ge=1, le=4096, description="Photos translated at once by each process.")
    grow: float = Field(
        0.02, ge=0, le=0.5, description="How far the pasted mask reaches beyond the drawn one, share of the side."
    )
    min_score: float = Field(
        0.3, ge=0, le=1, description="Least face-detector score of a result (when a scoring detector is found)."
    )
    max_landmark_shift: float = Field(
        0.06, gt=0, le=1, description="Largest movement of an eye against the photo, as a share of the side."
    )
    min_mask_iou: float = Field(0.6, ge=0, le=1, description="Least overlap of the drawn mask with the head mask.")
    min_identity: float = Field(
        0.0,
        ge=-1,
        le=1,
        description="Least cosine of face embeddings of photo and result, where there is an embedder; at 0 they are no "
        "more alike than strangers, −1 keeps all.",
    )
    max_seam: float = Field(
        30.0, gt=0, le=255, description="Largest extra gradient along the head's outline, grey levels per pixel."
    )
    max_artefact: float = Field(
        0.12, gt=0, le=1, description="Largest share of head pixels that are clipped or far from their neighbourhood."
    )
