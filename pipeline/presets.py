"""Named sets of values for params.yaml."""

from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel
from ruamel.yaml.comments import CommentedMap

from pipeline import params
from pipeline.project import Project
from stages.common.errors import SettingsError


@dataclass(frozen=True)
class Preset:
    """Values by dotted key; every setting not named goes back to its default (the demo's)."""

    meant_for: str
    verified: str
    values: dict[str, Any]


SHIPPED_64, SHIPPED_128 = "models/shipped", "models/shipped/128"
UNVERIFIED = "NOT VERIFIED: nobody has run it on such hardware yet; the values follow docs/scale.md"
REAL_64 = {
    "transfer.kimg": 20.0,
    # the demo's calmer 1.5 has not been tried on real styles
    "transfer.lr_conv": 2.5,
    # the person's hair and face shape, the style's features and shading: below 0.5 sets with hats put hats on people,
    # above 1.5 the drawing fades
    "fuse.mid": 0.5,
    "fuse.width": 0.5,
    "generate.inverted": 500,
    "translate.kimg": 12.0,
    "translate.batch": 8,
    "translate.warm_kimg": 2.0,
    # towards the end the discriminators' pull drew red and yellow bands under hairlines at 5, and with all of the head
    # to see: a style's hair begins lower than people's
    "translate.pairs_end": 10.0,
    "translate.unseen_top": 0.34,
    # the style's hair on other people's heads came out as blotches; the short demo draws clearer eyes at 0
    "translate.pairs_tolerance": 0.5,
    # between 1 (everybody alike) and 4 (the photo with an eye drawn into it)
    "translate.face_identity": 2.0,
    # real style pictures as the discriminators' ideal draw hats and hands into photos
    "translate.styled_share": 0.8,
    # measured at 0.3; the demo's 0.5 draws skin tones more alike (0.29 apart instead of 0.32) and costs style gap
    "translate.light": 0.3,
    # at 64 px the largest network still has a sixteenth of its multiply-accumulates at 256 px
    "mobile.tier": "l",
    "mobile.kimg": 24.0,
    # the demo's 40 and 2.5 keep fewer people recognisable (noto: 57 % among five of 60 instead of 62 %)
    "mobile.equivariance": 20.0,
    "mobile.adversarial": 1.6,
}
GPU_128 = REAL_64 | {
    "common.resolution": 128,
    "common.checkpoint_nimg": 20_000,
    "source.input": SHIPPED_128,
    # four times the pixels and a finer drawing
    "transfer.kimg": 30.0,
    "translate.kimg": 40.0,
    "translate.warm_kimg": 5.0,
    "translate.width": 48,
    "translate.backward_width": 24,
    "translate.discriminator_width": 48,
    "mobile.kimg": 60.0,
}
GPU_256 = {
    "common.resolution": 256,
    "common.checkpoint_nimg": 50_000,
    # the 256 px configuration of Karras et al. 2020b (StyleGAN2-ADA)
    "source.kimg": 10_000.0,
    "source.batch": 32,
    "source.lr": 0.0025,
    "source.mixing": 0.9,
    "source.path_weight": 2.0,
    "source.ema_kimg": 20.0,
    "source.ada_kimg": 500.0,
    "source.z_dim": 512,
    "source.w_dim": 512,
    "source.mapping_layers": 8,
    "source.channel_base": 16384,
    "source.channel_max": 512,
    "source.grid_kimg": 200.0,
    "source.encoder.kimg": 2_000.0,
    "transfer.kimg": 200.0,
    "transfer.lr_conv": 2.5,
    "transfer.batch": 32,
    "transfer.ema_kimg": 10.0,
    "transfer.ada_kimg": 100.0,
    "transfer.snapshots": 8,
    # the demo's narrow border has not been tried at this size
    "fuse.mid": 0.8,
    "fuse.width": 0.5,
    "generate.sampled": 20_000,
    "generate.inverted": 5_000,
    "generate.invert_steps": 200,
    "generate.shard_size": 1_000,
    "translate.kimg": 500.0,
    "translate.batch": 8,
    "translate.width": 64,
    "translate.backward_width": 32,
    "translate.discriminator_width": 64,
    "translate.learning_rate": 0.0002,
    "translate.ema_kimg": 10.0,
    "translate.warm_kimg": 60.0,
    "translate.grid_kimg": 20.0,
    "mobile.tier": "m",
    "mobile.kimg": 1_000.0,
    "mobile.batch": 32,
    "mobile.ema_kimg": 10.0,
    "evaluate.pictures": 2_000,
}
PRESETS = {
    "demo": Preset(
        meant_for="64 px on 2 CPU cores, minutes",
        verified="the project's own demo and tests run it",
        values={},
    ),
    "real-64": Preset(
        meant_for="64 px on 2 CPU cores, people's photos and a real style; about an hour a style on one core",
        verified="run on ../shared: 663 photos, styles fluent3d and noto; README.md says what differed",
        values=REAL_64,
    ),
    "gpu-128": Preset(
        meant_for="128 px on one GPU, people's photos and a real style, from the shipped 128 px source",
        verified="NOT VERIFIED as a whole: on an H200 its source, and stage 1 with half its images; docs/scale.md",
        values=GPU_128,
    ),
    "gpu-256": Preset(
        meant_for="256 px on one GPU with 24 GB, about a day per style; source.input must name a 256 px model "
        "(stylefactory weights import) or a folder of photos to train one",
        verified=UNVERIFIED,
        values=GPU_256,
    ),
    "gpu-1024": Preset(
        meant_for="1024 px on GPUs with 80 GB, days per style; source.input must name a 1024 px model",
        verified=UNVERIFIED,
        values=GPU_256
        | {
            "common.resolution": 1024,
            "source.kimg": 25_000.0,
            "source.batch": 16,
            "source.lr": 0.002,
            "source.channel_base": 32768,
            "transfer.kimg": 120.0,
            "transfer.batch": 16,
            "generate.batch": 8,
            "translate.batch": 4,
            "translate.kimg": 300.0,
            "mobile.batch": 16,
            "pair.batch": 16,
            "evaluate.max_side": 512,
        },
    ),
}


def apply(project: Project, name: str) -> list[str]:
    """Writes a preset's values into params.yaml; comments, styles and their overrides, paths and ops settings stay.

    ``source.input`` follows the preset while it names one of the shipped sources; people's own source stays.

    Returns:
        The changed keys as "key: old -> new".

    Raises:
        SettingsError: no such preset.
    """
    if name not in PRESETS:
        raise SettingsError(f"no preset '{name}' (presets: {', '.join(PRESETS)})")
    wanted = _defaults() | {"source.input": SHIPPED_64} | PRESETS[name].values
    changes: list[str] = []

    def change(tree: CommentedMap) -> None:
        for key, value in wanted.items():
            *path, field = key.split(".")
            node = tree
            for step in path:
                node = node[step]
            own = key == "source.input" and node[field] not in (SHIPPED_64, SHIPPED_128)
            if node[field] != value and not own:
                changes.append(f"{key}: {node[field]} -> {value}")
                node[field] = value

    params.edit(project.params, change)
    return changes


KEPT = frozenset(  # where people's data is and what they say about it: not a matter of size
    {"photos.path", "photos.licence", "photos.holdout", "photos.person_pattern", "style_faces.design_pattern"}
    | {"source.input", "source.start", "source.exclude", "source.licence", "evaluate.fid_weights", "fuse.parent_b"}
)


def _defaults() -> dict[str, Any]:
    """Every default by dotted key, nested sections flattened so that their comments survive."""
    from pipeline.settings import STAGE_SECTIONS, Settings

    values: dict[str, Any] = {}

    def collect(model: BaseModel, prefix: str) -> None:
        for field, plain in model.model_dump(mode="json").items():
            nested = getattr(model, field)
            if isinstance(nested, BaseModel):
                collect(nested, f"{prefix}.{field}")
            elif f"{prefix}.{field}" not in KEPT:
                values[f"{prefix}.{field}"] = plain

    for section in ("common", *STAGE_SECTIONS):
        model = Settings.model_fields[section].annotation
        assert model is not None
        collect(model(), section)
    return values
