"""DVC stage demo_inputs: the embedded default's pictures, made from nothing but the source model and drawing code.

data/demo/photos/photo_0000.png         samples of the source, one made-up person each
data/demo/styles/avatar/avatar_0000.png RGBA drawings, one design each
data/demo/styles/avatar/landmarks.csv   where their eyes and mouths are, for `align: landmarks.csv`
data/demo/masks/avatar/avatar_0000.png  their true head masks
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.settings import Settings
from stages.common.atomic import publish_dir, write_text
from stages.common.errors import InputError
from stages.common.images import encode_png
from stages.common.mapshards import map_shards
from stages.common.progress import track
from stages.common.runner import StageContext, run_stage
from stages.common.seeding import generator
from stages.faces.avatars import draw_avatar

if TYPE_CHECKING:
    from torch import Tensor

    from stages.generate.networks import Discriminator, Generator

SOURCE = Path("models/source/source.safetensors")
OUTPUT = Path("data/demo")
STYLE = "avatar"
COLUMNS = "file,eye_l_x,eye_l_y,eye_r_x,eye_r_y,mouth_x,mouth_y"
PER_SHARD = 50
BATCH = 50


def main(ctx: StageContext) -> None:
    """Sample the demo's photos and draw its avatars."""
    settings, seed = ctx.settings.demo_inputs, ctx.settings.common.seed
    folder = ctx.work / "demo"
    draw_avatars(folder, settings.avatars, settings.avatar_size, seed)
    sample_photos(ctx.root / SOURCE, folder / "photos", settings.photos, settings.truncation, settings.rejected, seed)
    publish_dir(folder, ctx.root / OUTPUT)


def draw_avatars(folder: Path, count: int, size: int, seed: int) -> None:
    """Draw `count` avatars of size x size pixels with landmarks.csv and head masks below `folder`."""
    shards = [
        {"folder": str(folder), "first": first, "last": min(first + PER_SHARD, count), "size": size, "seed": seed}
        for first in range(0, count, PER_SHARD)
    ]
    rows = [row for part in map_shards(_draw_shard, shards, label="avatars") for row in part]
    write_text(folder / "styles" / STYLE / "landmarks.csv", "\n".join([COLUMNS, *rows]) + "\n")


def _draw_shard(shard: dict[str, Any]) -> list[str]:
    """Draw avatars first..last-1; returns their rows of landmarks.csv."""
    # the whole folder is published at the end, so single files need no atomic (and slow) writes
    pictures, masks = (Path(shard["folder"]) / kind / STYLE for kind in ("styles", "masks"))
    for made in (pictures, masks):
        made.mkdir(parents=True, exist_ok=True)
    rows = []
    for number in range(shard["first"], shard["last"]):
        avatar = draw_avatar(shard["seed"], number, shard["size"])
        name = f"avatar_{number:04d}.png"
        (pictures / name).write_bytes(encode_png(avatar.image))
        (masks / name).write_bytes(encode_png(avatar.mask))
        points = [*avatar.eye_l, *avatar.eye_r, *avatar.mouth]
        rows.append(",".join([name, *(f"{value:.2f}" for value in points)]))
    return rows


def sample_photos(source: Path, folder: Path, count: int, truncation: float, rejected: float, seed: int) -> None:
    """Write `count` samples of the source as photo_NNNN.png (its own resolution, RGB).

    Args:
        truncation: psi; lower is cleaner and less varied.
        rejected: share of the candidates left out, those that the source's discriminator finds least real; before
            them those too close to a photo the source was trained on.

    Raises:
        InputError: the source has no discriminator although samples are to be rejected.
        ModelFileError: the source is missing or damaged.
    """
    from stages.generate.models import load_stylegan
    from stages.generate.near_copies import load_hashes, near_copies

    g, d, _ = load_stylegan(source)
    if d is None and rejected > 0:
        raise InputError(f"{source} has no discriminator; set demo_inputs.rejected to 0")
    candidates = round(count / (1.0 - rejected))
    known = load_hashes(source.parent)
    images, scores = [], []
    for first in track(range(0, candidates, BATCH), -(-candidates // BATCH), "photos"):
        image, score = _sample(g, d, first, min(BATCH, candidates - first), truncation, seed)
        images.append(image)
        scores.append(np.where(near_copies(image, known), -np.inf, score))
    every = np.concatenate(scores)
    kept = np.sort(np.argsort(-every, kind="stable")[:count])
    kept = kept[np.isfinite(every[kept])]
    folder.mkdir(parents=True, exist_ok=True)
    for number, picture in enumerate(np.concatenate(images)[kept]):
        (folder / f"photo_{number:04d}.png").write_bytes(encode_png(picture))


def _sample(
    g: "Generator", d: "Discriminator | None", first: int, n: int, truncation: float, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Samples first..first+n-1: pictures uint8 [n, R, R, 3] and the discriminator's scores [n] (0 without one)."""
    import torch

    from stages.common.images import to_uint8

    z: Tensor = torch.stack(
        [torch.randn(g.arch.z_dim, generator=generator(seed, "demo photo", first + i)) for i in range(n)]
    )
    with torch.no_grad():
        images = g(z, truncation, noise_mode="const").clamp(-1, 1)
        scores = d(images).flatten() if d is not None else torch.zeros(n)
    return to_uint8(images), scores.numpy()


def inputs(settings: Settings, style: str) -> list[Path]:
    """Files whose content decides about the result."""
    return [SOURCE]


if __name__ == "__main__":
    run_stage("demo_inputs", main, inputs, per_style=False)
