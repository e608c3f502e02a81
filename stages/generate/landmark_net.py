"""Eyes and mouth in aligned faces of any style: a small network of heat maps, shipped with the source.

Detectors know photos, not drawings or what is half of each. This one is trained on photos and on pictures of several
drawn styles whose landmarks are known, with eyes painted over (then there is none to find) and with extra eyes pasted
in (then there is one too many), so that it answers to eyes and not to the place where eyes usually are.

`python -m stages.generate.landmark_net FOLDER... --out FILE` trains it on ingested folders (images/, index.csv).
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from stages.common.facial import USUAL
from stages.common.images import read_image, to_tensor
from stages.common.loop import train
from stages.common.modelfile import load_model, load_state, save_model

KIND = "landmarks"
POINTS = ("eye_l", "eye_r", "mouth")
INPUT = 64  # pixels: pictures are scaled to this side
CELLS = 32  # side of the heat maps
SIGMA = 1.2  # of a landmark's blob, in cells
SEARCH = 5.5  # cells around the usual place
EYE_SIZE = 4.5  # cells around an eye's peak that belong to it


class LandmarkNet(nn.Module):
    """Picture -> heat maps of eyes and mouth, a Gaussian at each (Tompson et al. 2014).

    75 k parameters, 31 M multiply-accumulates.
    """

    def __init__(self) -> None:
        super().__init__()
        self.fine = nn.Sequential(
            nn.Conv2d(3, 16, 3, stride=2, padding=1), nn.ReLU(), nn.Conv2d(16, 32, 3, padding=1), nn.ReLU()
        )
        self.coarse = nn.Sequential(
            nn.Conv2d(32, 48, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(48, 48, 3, padding=2, dilation=2),
            nn.ReLU(),
            nn.Conv2d(48, 48, 3, padding=1),
            nn.ReLU(),
        )
        self.merge = nn.Sequential(nn.Conv2d(80, 24, 1), nn.ReLU(), nn.Conv2d(24, 24, 3, padding=1), nn.ReLU())
        self.heat = nn.Conv2d(24, 2, 1)
        nn.init.constant_(self.heat.bias, -3.0)  # type: ignore[arg-type]

    def forward(self, images: Tensor) -> Tensor:
        """images [N, 3, H, W] in [-1, 1], aligned -> logits [N, 2, 32, 32]: eye, mouth."""
        if images.shape[-1] != INPUT:
            images = F.interpolate(images, (INPUT, INPUT), mode="bilinear", antialias=True, align_corners=False)
        fine = self.fine(images)
        coarse = F.interpolate(self.coarse(fine), scale_factor=2, mode="bilinear", align_corners=False)
        return self.heat(self.merge(torch.cat([fine, coarse], 1))).float()


@dataclass(frozen=True)
class Landmarks:
    """points [N, 3, 2]: eye_l, eye_r, mouth as x, y in [0, 1] of the side; peaks [N, 3]: confidence in [0, 1];
    stray [N]: confidence of the surest eye that is neither of the two."""

    points: NDArray[np.float32]
    peaks: NDArray[np.float32]
    stray: NDArray[np.float32]


@torch.no_grad()
def find_landmarks(net: LandmarkNet, images: Tensor) -> Landmarks:
    """Eyes and mouth of aligned images [N, 3, H, W] in [-1, 1]."""
    heat = torch.cat([net(part).sigmoid() for part in images.split(128)])
    maps = heat[:, [0, 0, 1]]
    ys, xs = torch.meshgrid(torch.arange(CELLS) + 0.5, torch.arange(CELLS) + 0.5, indexing="ij")
    usual = torch.tensor(USUAL) * CELLS
    near = (xs - usual[:, 0, None, None]) ** 2 + (ys - usual[:, 1, None, None]) ** 2 <= SEARCH**2
    peaks, cell = maps.masked_fill(~near, 0.0).flatten(2).max(2)
    cx, cy = cell % CELLS + 0.5, cell // CELLS + 0.5
    # The blob's centre of mass around the peak: sub-cell positions.
    blob = maps * ((xs - cx[..., None, None]) ** 2 + (ys - cy[..., None, None]) ** 2 <= (2 * SIGMA) ** 2)
    mass = blob.sum((2, 3)).clamp_min(1e-6)
    points = torch.stack([(blob * xs).sum((2, 3)) / mass, (blob * ys).sum((2, 3)) / mass], 2) / CELLS
    away = torch.ones(len(images), CELLS, CELLS, dtype=torch.bool)
    for k in range(2):
        away &= (xs - cx[:, k, None, None]) ** 2 + (ys - cy[:, k, None, None]) ** 2 > EYE_SIZE**2
    stray = heat[:, 0].masked_fill(~away, 0.0).flatten(1).amax(1)
    return Landmarks(points.numpy(), peaks.numpy(), stray.numpy())


def load_landmark_net(path: Path) -> LandmarkNet:
    """Read a landmark network, frozen. Raises ModelFileError when it is none."""
    file = load_model(path, KIND)
    net = LandmarkNet()
    load_state(net, file.state, path)
    return net.eval().requires_grad_(False)


def train_landmark_net(
    images: Tensor, points: NDArray[np.float32], kimg: float, work: Path, seed: int, batch: int = 32, lr: float = 2e-3
) -> LandmarkNet:
    """Train on images uint8 [N, 3, 64, 64] with points [N, 3, 2] in [0, 1], NaN = unknown (teaches nothing there)."""
    net = LandmarkNet().train()
    optimiser = torch.optim.Adam(net.parameters(), lr=lr)
    optimiser.param_groups[0]["base_lr"] = lr  # what the loop's guard halves
    total = int(kimg * 1000)
    known = torch.from_numpy(points).float()

    def step(nimg: int) -> dict[str, Tensor]:
        group = optimiser.param_groups[0]
        group["lr"] = group["base_lr"] * min(1.0, 3.0 * (1.02 - nimg / total))
        chosen = torch.randint(0, len(images), (batch,))
        x, target = augment(images[chosen].float().div(127.5).sub(1), known[chosen])
        weight = torch.where(target.isnan(), 0.0, 1.0 + 12.0 * target.nan_to_num(0))
        loss = F.binary_cross_entropy_with_logits(net(x), target.nan_to_num(0), weight)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        return {"heat": loss.detach()}

    train(
        work, {"net": net, "optimiser": optimiser}, step, total, batch, seed, max(batch, total // 5), label="landmarks"
    )
    return net.eval().requires_grad_(False)


def augment(images: Tensor, points: Tensor) -> tuple[Tensor, Tensor]:
    """Randomly moved, recoloured and blurred faces with some eyes painted over and some pasted in.

    Args:
        images: [N, 3, R, R] in [-1, 1]. points: [N, 3, 2] in [0, 1], NaN = unknown.

    Returns:
        Images [N, 3, R, R] in [-1, 1]; heat maps [N, 2, 32, 32] in [0, 1], NaN maps where a landmark is unknown.
    """
    n, side = len(images), images.shape[-1]
    angle = (torch.rand(n) - 0.5) * 0.7
    zoom = torch.empty(n).uniform_(0.8, 1.25)
    flip = torch.where(torch.rand(n) < 0.5, -1.0, 1.0)
    c, s = angle.cos() * zoom, angle.sin() * zoom
    matrix = torch.stack([torch.stack([c * flip, -s], 1), torch.stack([s * flip, c], 1)], 1)
    shift = (torch.rand(n, 2, 1) - 0.5) * 0.35
    where = F.affine_grid(torch.cat([matrix, shift], 2), [n, 3, side, side], align_corners=False)
    x = F.grid_sample(images, where, padding_mode="reflection", align_corners=False)
    moved = torch.linalg.solve(matrix, (points * 2 - 1).transpose(1, 2) - shift).transpose(1, 2) / 2 + 0.5

    eyes = list(moved[:, :2].unbind(1))
    x, extra = _tamper(x, eyes)
    gain = torch.empty(n, 3, 1, 1).uniform_(0.6, 1.4)
    light = torch.empty(n, 3, 1, 1).uniform_(-0.25, 0.25)
    x = x * gain + light
    soft = F.avg_pool2d(F.pad(x, (1, 1, 1, 1), mode="replicate"), 3, 1)
    x = torch.lerp(x, soft, torch.rand(n, 1, 1, 1)) + torch.randn_like(x) * torch.empty(n, 1, 1, 1).uniform_(0, 0.1)
    eye_heat = torch.stack([blob(p) for p in [*eyes, *extra]]).nan_to_num(0).amax(0)
    unknown = moved[:, :2].isnan().any(2).any(1)  # an eye somewhere unknown: nothing can be said about the whole map
    eye_heat[unknown] = float("nan")
    return x.clamp(-1, 1), torch.stack([eye_heat, blob(moved[:, 2])], 1)


def _tamper(x: Tensor, eyes: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
    """Paint over one or both eyes of a third of the faces and paste an eye elsewhere in a fifth; edits `eyes` in place.

    Returns the pictures and the positions of pasted eyes ([N, 2], far outside where there is none).
    """
    n, _, side, _ = x.shape
    ys, xs = torch.meshgrid((torch.arange(side) + 0.5) / side, (torch.arange(side) + 0.5) / side, indexing="ij")
    nowhere = torch.full((n, 2), -9.0)

    def patch(centre: Tensor, radius: float) -> Tensor:
        d = ((xs - centre[:, 0, None, None]) ** 2 + (ys - centre[:, 1, None, None]) ** 2).sqrt()
        return ((radius - d) / 0.04 + 0.5).clamp(0, 1)[:, None].nan_to_num(0)

    def taken(centre: Tensor, source: Tensor) -> Tensor:
        offset = (source - centre).nan_to_num(0) * 2
        base = F.affine_grid(torch.eye(2, 3).expand(n, 2, 3), list(x.shape), align_corners=False)
        return F.grid_sample(x, base + offset[:, None, None, :], padding_mode="reflection", align_corners=False)

    across = (eyes[1] - eyes[0]).nan_to_num(0)
    down = torch.stack([-across[:, 1], across[:, 0]], 1)
    pasted = eyes[0] + across * torch.empty(n, 1).uniform_(-0.4, 1.4) + down * torch.empty(n, 1).uniform_(0.5, 1.1)
    paste = torch.rand(n, 1) < 0.2
    spot = torch.where(paste, pasted, nowhere)
    x = torch.lerp(x, taken(spot, eyes[0]), patch(spot, 0.11))
    covered = torch.rand(n) < 0.33
    which = torch.rand(n)
    for k in range(2):
        gone = covered & ((which < 0.4) if k == 0 else (which > 0.3))
        cheek = eyes[k] + down * 0.45
        centre = torch.where(gone[:, None], eyes[k], nowhere)
        x = torch.lerp(x, taken(centre, cheek), patch(centre, 0.12))
        eyes[k] = torch.where(gone[:, None], nowhere, eyes[k])
    return x, [spot]


def blob(points: Tensor) -> Tensor:
    """Gaussian heat maps [N, 32, 32] at points [N, 2] in [0, 1]."""
    ys, xs = torch.meshgrid(torch.arange(CELLS) + 0.5, torch.arange(CELLS) + 0.5, indexing="ij")
    d = (xs - points[:, 0, None, None] * CELLS) ** 2 + (ys - points[:, 1, None, None] * CELLS) ** 2
    return torch.exp(-d / (2 * SIGMA**2))


def read_folder(folder: Path) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Pictures uint8 [N, R, R, 3] and landmarks [N, 3, 2] in [0, 1] of an ingested folder's training split."""
    index = pd.read_csv(folder / "index.csv", dtype={"id": str})
    index = index[index["split"] == "train"]
    images = np.stack([read_image(folder / "images" / f"{i}.png") for i in index["id"]])
    columns = [f"{p}_{axis}" for p in POINTS for axis in "xy"]
    points = index.reindex(columns=columns).to_numpy(np.float32).reshape(-1, 3, 2) / images.shape[1]
    return images, points


def main(argv: Sequence[str] | None = None) -> None:
    """Train and write a landmark network."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--kimg", type=float, default=40.0)
    parser.add_argument("--work", type=Path, default=Path("work/landmarks"))
    args = parser.parse_args(argv)
    parts = [read_folder(folder) for folder in args.folders]
    images = torch.cat([F.interpolate(to_tensor(i), (INPUT, INPUT), mode="area") for i, _ in parts])
    net = train_landmark_net(
        images.add(1).mul(127.5).round().byte(), np.concatenate([p for _, p in parts]), args.kimg, args.work, 0
    )
    data = [f"{folder.name}: {len(p)}" for folder, (_, p) in zip(args.folders, parts, strict=True)]
    save_model(args.out, KIND, net.state_dict(), {}, {"data": data, "kimg": args.kimg}, half=True)


if __name__ == "__main__":
    main()
