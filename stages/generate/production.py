"""One shard of styled faces: draw or invert, render photo and styled face, filter, mask, write. Runs in a worker.

A job is a JSON dictionary, its result too, so that a finished shard is remembered and never made twice.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.settings.generate import GenerateSettings
from stages.common.atomic import atomic_path
from stages.common.dataset import FaceDataset
from stages.common.device import Device, setup
from stages.common.facial import USUAL
from stages.common.images import to_uint8
from stages.common.masks import head_mask
from stages.common.seeding import derive, rng
from stages.common.seeding import generator as seeded
from stages.common.shards import write_shard
from stages.generate.encoder import Encoder, load_encoder
from stages.generate.fuse import answering_to
from stages.generate.inversion import invert
from stages.generate.landmark_net import POINTS, LandmarkNet, find_landmarks, load_landmark_net
from stages.generate.latents import LatentSpace
from stages.generate.models import load_stylegan
from stages.generate.near_copies import Hashes, load_hashes, near_copies
from stages.generate.networks import Discriminator, Generator
from stages.generate.yield_filter import YieldFilter

Row = dict[str, Any]
LANDMARKS = Path("models/shipped/landmarks.safetensors")
LANDMARK_TOLERANCE = 0.14  # of the side: how far from its usual place an aligned face's landmark may be


@dataclass(frozen=True)
class Models:
    """Everything a worker needs, loaded once per process."""

    source: Generator
    source_d: Discriminator
    fused: Generator
    style_d: Discriminator | None
    encoder: Encoder
    space: LatentSpace
    directions: Tensor
    landmarks: LandmarkNet
    filter: YieldFilter
    known: Hashes  # of the photos the source was trained on
    device: Device


@dataclass(frozen=True)
class Faces:
    """Rendered candidates: latents [N, num_ws, w_dim] on the CPU and images [N, 3, R, R] in [-1, 1]."""

    ids: list[str]
    ws: Tensor
    photos: Tensor
    styled: Tensor


def make_shard(job: Mapping[str, Any]) -> dict[str, Any]:
    """Make one shard.

    job: root, style, work (folder), number, kind ("sampled" | "inverted"), wanted, settings (of generate), seed, device
    (arguments of `setup`), drops ({id: reason}); sampled: first, attempts; inverted: parts (how many the photos are
    split into), rows (of data/photos), photo_ids, splits.

    Returns:
        {"rows": [...], "rejected": [...]}: index rows of the accepted and of the refused samples. The shard is
        `work/shards/<name>.tar`, its latents `work/latents/<name>.npz` with the name of :func:`shard_name`.
    """
    settings = GenerateSettings(**job["settings"])
    models = load_models(job["root"], job["style"], job["work"], repr(sorted(job["settings"].items())), *job["device"])
    work = Path(job["work"])
    accepted: list[tuple[Row, dict[str, NDArray[np.uint8]], Tensor]] = []
    rejected: list[Row] = []
    candidates = _sampled(job, settings, models) if job["kind"] == "sampled" else _inverted(job, settings, models)
    for faces, rows in candidates:
        for k, (row, reason, pictures) in enumerate(_judge(faces, rows, models, settings, job["drops"])):
            if len(accepted) >= job["wanted"]:
                break
            if reason:
                rejected.append(row | {"reason": reason})
            else:
                accepted.append((row, pictures, faces.ws[k]))
        if len(accepted) >= job["wanted"]:
            break
    name = shard_name(job)
    write_shard(work / "shards" / f"{name}.tar", ((row["id"], pictures) for row, pictures, _ in accepted))
    with atomic_path(work / "latents" / f"{name}.npz") as temporary, temporary.open("wb") as file:
        latents = {row["id"]: ws.half().numpy() for row, _, ws in accepted}
        np.savez(file, allow_pickle=False, **latents)  # type: ignore[arg-type]
    return {"rows": [row for row, _, _ in accepted], "rejected": rejected}


def shard_name(job: Mapping[str, Any]) -> str:
    """Of the files of one job; for inverted photos with the number of parts, which follows the cores."""
    return f"{job['number']:06d}" + (f"of{job['parts']}" if job["kind"] == "inverted" else "")


def load_fused(path: Path, source: Generator) -> Generator:
    """The fused generator, answering to the source's w: production draws both from the same.

    Where fusion kept another parent's mapping network, its affine layers are re-based onto the source's w.
    """
    return answering_to(load_stylegan(path)[0], source)


@lru_cache(maxsize=1)
def load_models(root: str, style: str, work: str, settings_key: str, *device: Any) -> Models:
    """Load a style's models (cached per process). settings_key only tells runs apart."""
    place = setup(*device)
    base = Path(root) / "models"
    source, source_d, _ = load_stylegan(base / "source/source.safetensors")
    fused = load_fused(base / style / "fused.safetensors", source)
    _, style_d, _ = load_stylegan(base / style / "transferred.safetensors")
    if source_d is None:
        raise ValueError("a source without a discriminator passed the source stage")
    for net in (source, source_d, fused):
        net.to(place.device)
    with np.load(Path(work) / "directions.npz") as file:
        directions = torch.from_numpy(file["offsets"])
    return Models(
        source,
        source_d,
        fused,
        style_d,
        load_encoder(base / "source/encoder.safetensors"),
        LatentSpace.of(source),
        directions,
        load_landmark_net(Path(root) / LANDMARKS),
        YieldFilter.load(Path(work) / "filter.npz"),
        load_hashes(base / "source"),
        place,
    )


def split_of(name: str) -> str:
    """The split of a sampled face: 90 % train, 5 % val, 5 % test, by its id alone."""
    place = derive("split", name) % 20
    return "val" if place == 0 else "test" if place == 1 else "train"


def sampled_ws(job: Mapping[str, Any], settings: GenerateSettings, models: Models, numbers: list[int]) -> Tensor:
    """Latents of candidates: each depends on the seed and its own number only. [N, num_ws, w_dim]."""
    arch = models.source.arch
    z = torch.cat([torch.randn(1, arch.z_dim, generator=seeded(job["seed"], "sample", n)) for n in numbers])
    ws = models.source.mapping(z.to(models.device.device), truncation(settings, arch.num_ws)).cpu()
    ranges = [(d.low, d.high) for d in settings.directions.values()]
    if ranges:
        moves = np.stack([rng(job["seed"], "direction", n).uniform(*np.array(ranges).T) for n in numbers])
        ws = ws + torch.einsum("nk,kld->nld", torch.from_numpy(moves).float(), models.directions)
    return ws


def truncation(settings: GenerateSettings, num_ws: int) -> Tensor:
    """Psi per layer [num_ws]; a short list's last value holds for the remaining layers."""
    values = settings.truncation[:num_ws]
    return torch.tensor(values + [values[-1]] * (num_ws - len(values)))


def render(models: Models, ids: list[str], ws: Tensor) -> Faces:
    """Both pictures, [N, 3, R, R] in [-1, 1], of every latent; ws [N, num_ws, w_dim]."""
    ws = ws.to(models.device.device)
    with torch.no_grad(), models.device.autocast():
        photos = models.source.synthesis(ws, "const").float().clamp(-1, 1)
        styled = models.fused.synthesis(ws, "const").float().clamp(-1, 1)
    return Faces(ids, ws.cpu(), photos.cpu(), styled.cpu())


def _sampled(job: Mapping[str, Any], settings: GenerateSettings, models: Models) -> Iterator[tuple[Faces, list[Row]]]:
    numbers = list(range(job["first"], job["first"] + job["attempts"]))
    for start in range(0, len(numbers), settings.batch):
        part = numbers[start : start + settings.batch]
        ids = [f"s{n:07d}" for n in part]
        faces = render(models, ids, sampled_ws(job, settings, models, part))
        yield (
            faces,
            [
                {"id": i, "kind": "sampled", "seed": n, "photo_id": "", "split": split_of(i)}
                for i, n in zip(ids, part, strict=True)
            ],
        )


def _inverted(job: Mapping[str, Any], settings: GenerateSettings, models: Models) -> Iterator[tuple[Faces, list[Row]]]:
    root = Path(job["root"])
    side, cache = models.source.arch.resolution, root / "work/cache"
    data = FaceDataset(root / "data/photos", side, cache=cache, key=job["photos_key"])
    for start in range(0, len(job["rows"]), settings.batch):
        part = slice(start, start + settings.batch)
        rows = job["rows"][part]
        images = data.take(rows, "image").float().div(127.5).sub(1)
        found = invert(
            models.source,
            models.source_d,
            images,
            data.take(rows, "mask").float().div(255),
            models.space,
            models.device,
            encoder=models.encoder.to(models.device.device),
            latent=settings.invert_space,
            steps=settings.invert_steps,
            lr=settings.invert_lr,
            prior=settings.invert_prior,
            seed=job["seed"],
        )
        models.encoder.cpu()  # the filter's features are computed where its small matrices are
        average = models.source.mapping.w_avg
        ids = [f"i-{name}" for name in job["photo_ids"][part]]
        faces = render(models, ids, torch.lerp(average.expand_as(found.ws), found.ws, settings.invert_strength))
        yield (
            faces,
            [
                {"id": i, "kind": "inverted", "seed": -1, "photo_id": p, "split": s, "distance": round(d, 4)}
                for i, p, s, d in zip(
                    ids, job["photo_ids"][part], job["splits"][part], found.distance.tolist(), strict=True
                )
            ],
        )


def _judge(
    faces: Faces, rows: list[Row], models: Models, settings: GenerateSettings, drops: Mapping[str, str]
) -> Iterator[tuple[Row, str, dict[str, NDArray[np.uint8]]]]:
    """Each candidate with its scores and, when refused, the reason; pictures and mask only of the accepted."""
    judge = models.filter
    scores = judge.scores(models.encoder, models.style_d, models.landmarks, faces.styled)
    reasons = judge.reasons(scores) if settings.face_filter else [""] * len(scores)
    landmarks = find_landmarks(models.landmarks, faces.styled).points
    on_photo = find_landmarks(models.landmarks, faces.photos).points
    side = faces.photos.shape[-1]
    photos, styled = to_uint8(faces.photos), to_uint8(faces.styled)
    copies = near_copies(photos, models.known)
    for k, row in enumerate(rows):
        full = row | {name: round(float(value), 5) for name, value in scores.iloc[k].items()}
        for point, place in zip(POINTS, landmarks[k] * side, strict=True):
            full |= {f"{point}_x": round(float(place[0]), 2), f"{point}_y": round(float(place[1]), 2)}
        for point, place in zip(POINTS[:2], on_photo[k] * side, strict=False):
            full |= {f"photo_{point}_x": round(float(place[0]), 2), f"photo_{point}_y": round(float(place[1]), 2)}
        reason = "curation" if row["id"] in drops else reasons[k]
        if not reason and copies[k] and row["kind"] == "sampled":
            reason = "near_a_training_photo"
        pictures = {} if reason else {"photo": photos[k], "styled": styled[k]}
        if not reason:
            try:
                heads = face_mask(photos[k], on_photo[k] * side), face_mask(styled[k], landmarks[k] * side)
                pictures |= {"mask": np.maximum(*heads), "photo_mask": heads[0], "styled_mask": heads[1]}
            except cv2.error:  # GrabCut refuses pictures without both head and background
                reason = "no_head"
        yield full, reason, pictures


def face_mask(image: NDArray[np.uint8], points: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Head mask uint8 [R, R] of an aligned face uint8 [R, R, 3] with eye_l, eye_r, mouth [3, 2] in pixels.

    A point far from where alignment puts it is not believed, and all are taken to be in their usual places.
    """
    usual = np.array(USUAL, np.float32) * image.shape[0]
    if np.abs(points - usual).max() > LANDMARK_TOLERANCE * image.shape[0]:
        points = usual
    eye_l, eye_r, mouth = ((float(x), float(y)) for x, y in points)
    return head_mask(image, eye_l, eye_r, mouth)
