"""Step time of the translator against a plain fp32 implementation of its width, same machine, same run.

The plain one: NCHW, float32, torch's instance norm, AdaLIN as written in the paper, torch's spectral norm, one pass
per loss (separate fakes for the discriminators), no shared batches, the way back at full width. Ours runs as it is
trained (the way back at half width, identity now and then, latent pairs on top), then at the plain one's widths
everywhere on its photos and style pictures alone, then with identity at every step too. Run by ``make bench`` or
``python -m tests.bench.bench_translator``.
"""

import argparse
import resource
import time
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from pipeline.presets import PRESETS
from pipeline.settings import TranslateSettings
from stages.common.device import setup
from stages.generate.feature_loss import Features, discriminator_features
from stages.generate.models import load_stylegan
from stages.pair.networks import discriminator_layers
from stages.pair.training import Batch, Trainer
from tests.bench.table import row

SHIPPED = Path("models/shipped/source.safetensors")
SAME_WIDTHS = {"backward_width": TranslateSettings().width}


def _pad_conv(cin: int, cout: int, k: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(nn.ReflectionPad2d((k - 1) // 2), nn.Conv2d(cin, cout, k, stride))


class PlainLIN(nn.Module):
    """LIN and AdaLIN as the paper writes them."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.rho = nn.Parameter(torch.full((1, channels, 1, 1), 0.9))

    def forward(self, x: Tensor, gamma: Tensor, beta: Tensor) -> Tensor:
        instance = (x - x.mean((2, 3), keepdim=True)) / torch.sqrt(x.var((2, 3), keepdim=True) + 1e-5)
        layer = (x - x.mean((1, 2, 3), keepdim=True)) / torch.sqrt(x.var((1, 2, 3), keepdim=True) + 1e-5)
        return gamma[..., None, None] * (self.rho * instance + (1 - self.rho) * layer) + beta[..., None, None]


class PlainGenerator(nn.Module):
    """U-GAT-IT light with the same layers (no place), straight."""

    def __init__(self, w: int, blocks: int) -> None:
        super().__init__()
        deep, norm = 4 * w, nn.InstanceNorm2d
        self.down = nn.Sequential(
            *(_pad_conv(3, w, 7), norm(w), nn.ReLU()),
            *(_pad_conv(w, 2 * w, 3, 2), norm(2 * w), nn.ReLU(), _pad_conv(2 * w, deep, 3, 2), norm(deep), nn.ReLU()),
        )
        self.encoder = nn.ModuleList(
            nn.Sequential(_pad_conv(deep, deep, 3), norm(deep), nn.ReLU(), _pad_conv(deep, deep, 3), norm(deep))
            for _ in range(blocks)
        )
        self.gap, self.gmp = nn.Linear(deep, 1, bias=False), nn.Linear(deep, 1, bias=False)
        self.mix = nn.Conv2d(2 * deep, deep, 1)
        self.mlp = nn.Sequential(nn.Linear(deep, deep), nn.ReLU(), nn.Linear(deep, deep), nn.ReLU())
        self.gamma, self.beta = nn.Linear(deep, deep), nn.Linear(deep, deep)
        self.convs = nn.ModuleList(_pad_conv(deep, deep, 3) for _ in range(2 * blocks))
        self.norms = nn.ModuleList(PlainLIN(deep) for _ in range(2 * blocks))
        self.ups = nn.ModuleList([_pad_conv(deep, 2 * w, 3), _pad_conv(2 * w, w, 3)])
        self.up_norms = nn.ModuleList([PlainLIN(2 * w), PlainLIN(w)])
        self.head = _pad_conv(w, 4, 7)

    def forward(self, photo: Tensor) -> tuple[Tensor, Tensor]:
        x = self.down(photo)
        for block in self.encoder:
            x = x + block(x)
        logits = torch.cat([self.gap(x.mean((2, 3))), self.gmp(x.amax((2, 3)))], 1)
        maps = [x * head.weight[..., None, None] for head in (self.gap, self.gmp)]
        x = F.relu(self.mix(torch.cat(maps, 1)))
        code = self.mlp(x.mean((2, 3)))
        gamma, beta = self.gamma(code), self.beta(code)
        for i in range(0, len(self.convs), 2):
            y = F.relu(self.norms[i](self.convs[i](x), gamma, beta))
            x = x + self.norms[i + 1](self.convs[i + 1](y), gamma, beta)
        for conv, norm in zip(self.ups, self.up_norms, strict=True):
            y = conv(F.interpolate(x, scale_factor=2))
            one = torch.ones(1, y.shape[1])
            x = F.relu(norm(y, one, torch.zeros_like(one)))
        raw = self.head(x)
        mask = torch.sigmoid(raw[:, 3:])
        return mask * torch.tanh(raw[:, :3]) + (1 - mask) * photo, logits


class PlainDiscriminator(nn.Module):
    """Spectral-norm PatchGAN with CAM."""

    def __init__(self, w: int, layers: int) -> None:
        super().__init__()
        downs = layers - 2
        sizes = [3] + [min(w * 2**i, 8 * w) for i in range(downs + 1)]
        body: list[nn.Module] = []
        for i, (cin, cout) in enumerate(pairwise(sizes)):
            conv = spectral_norm(nn.Conv2d(cin, cout, 4, 2 if i < downs else 1))
            body += [nn.ReflectionPad2d(1), conv, nn.LeakyReLU(0.2)]
        self.body, top = nn.Sequential(*body), sizes[-1]
        self.gap, self.gmp = nn.Linear(top, 1, bias=False), nn.Linear(top, 1, bias=False)
        self.mix = nn.Conv2d(2 * top, top, 1)
        self.out = nn.Sequential(nn.ReflectionPad2d(1), spectral_norm(nn.Conv2d(top, 1, 4)))

    def forward(self, x: Tensor) -> list[Tensor]:
        x = self.body(x)
        logits = torch.cat([self.gap(x.mean((2, 3))), self.gmp(x.amax((2, 3)))], 1)
        x = self.mix(torch.cat([x * head.weight[..., None, None] for head in (self.gap, self.gmp)], 1))
        return [self.out(F.leaky_relu(x, 0.2)), logits]


def plain_step(width: int, resolution: int, n: int, blocks: int) -> Callable[[], None]:
    """U-GAT-IT's step as in the public implementation: fakes made twice, 8 generator passes, identity every step."""
    a2b, b2a = PlainGenerator(width, blocks), PlainGenerator(width, blocks)
    critics = [[PlainDiscriminator(width, k) for k in discriminator_layers(resolution)] for _ in "ab"]
    g = torch.optim.Adam([*a2b.parameters(), *b2a.parameters()], 1e-4, (0.5, 0.999))
    d = torch.optim.Adam([p for side in critics for c in side for p in c.parameters()], 1e-4, (0.5, 0.999))
    photo, style = (torch.rand(n, 3, resolution, resolution) * 2 - 1 for _ in "ab")

    def judge(side: list[PlainDiscriminator], x: Tensor, target: float) -> Tensor:
        return torch.stack([(head - target).square().mean() for critic in side for head in critic(x)]).sum()

    def step() -> None:
        fakes = a2b(photo)[0].detach(), b2a(style)[0].detach()
        d.zero_grad()
        loss = sum(
            judge(side, real, 1.0) + judge(side, fake, 0.0)
            for side, real, fake in zip(critics, (style, photo), fakes, strict=True)
        )
        loss.backward()  # type: ignore[union-attr]
        d.step()
        g.zero_grad()
        (there, cam_there), (back, cam_back) = a2b(photo), b2a(style)
        (same, cam_same), (same_back, cam_same_back) = a2b(style), b2a(photo)
        total = judge(critics[0], there, 1.0) + judge(critics[1], back, 1.0)
        total = total + 10 * ((b2a(there)[0] - photo).abs().mean() + (a2b(back)[0] - style).abs().mean())
        total = total + 10 * ((same - style).abs().mean() + (same_back - photo).abs().mean())
        bce = F.binary_cross_entropy_with_logits
        for own, other in ((cam_there, cam_same), (cam_back, cam_same_back)):
            total = total + 1000 * (bce(own, torch.ones_like(own)) + bce(other, torch.zeros_like(other)))
        total.backward()
        g.step()

    return step


def our_step(
    settings: TranslateSettings, resolution: int, features: Features | None = None, pairs: bool = True
) -> Callable[[], None]:
    """The stage's own step in its unpaired phase, all losses (without face recognition, which is optional).

    ``features``: with the pairs' feature loss, which the plain implementation has not. ``pairs``: with as many latent
    pairs as photos, which the plain one has not either.
    """
    device = setup()
    trainer = Trainer(settings, resolution, device, None, features)
    half = settings.batch // 2

    def pictures(n: int, channels: int = 3) -> Tensor:
        x = torch.rand(n, channels, resolution, resolution)
        return (x * 2 - 1 if channels == 3 else x).contiguous(memory_format=torch.channels_last)

    counts = [half, half, half // 2, half]  # photos, style, edge-smoothed, pairs
    parts = [part for n in counts[:3] for part in (pictures(n), pictures(n, 1))]
    paired = half if pairs else 0
    batch = Batch(*parts, pictures(paired), pictures(paired), pictures(paired, 1), pictures(paired, 1))
    seen = [round(settings.warm_kimg * 1000)]

    def step() -> None:
        trainer.step(batch, seen[0])
        seen[0] += settings.batch

    return step


def measure(steps: Sequence[Callable[[], None]], rounds: int) -> list[float]:
    """Median seconds of each step, taken in turns, so that a slow minute of the machine hits all of them.

    Four to warm up: until then the heap grows, and every new page is a fault.
    """
    times: list[list[float]] = [[] for _ in steps]
    for i in range(4 + rounds):
        for step, own in zip(steps, times, strict=True):
            began = time.perf_counter()
            step()
            if i >= 4:
                own.append(time.perf_counter() - began)
    return [sorted(own)[len(own) // 2] for own in times]


def main() -> None:
    """Prints pairs per second of both and their ratio, at the demo's batch and at the preset real-64's."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--resolution", type=int, default=64)
    args = parser.parse_args()
    torch.manual_seed(0)
    discriminator = load_stylegan(SHIPPED)[1] if SHIPPED.is_file() else None
    for batch in (TranslateSettings().batch, int(PRESETS["real-64"].values["translate.batch"])):
        settings = TranslateSettings(batch=batch)
        n = batch // 2
        same = settings.model_copy(update=SAME_WIDTHS)
        all_steps = [
            our_step(settings, args.resolution),
            plain_step(settings.width, args.resolution, n, settings.blocks),
            our_step(same, args.resolution, pairs=False),
            our_step(same.model_copy(update={"identity_every": 1}), args.resolution, pairs=False),
        ]
        if discriminator is not None and discriminator.arch.resolution == args.resolution:
            device = setup()
            features = discriminator_features(discriminator, device.device, device.dtype)
            all_steps.append(our_step(settings, args.resolution, features))
        # a pair = one photo and one style picture through all losses
        mine, theirs, wide, every, *full = (n / seconds for seconds in measure(all_steps, args.rounds))
        plain = f"plain fp32 {theirs:.1f} pairs/s"
        row(
            f"U-GAT-IT step as trained, {args.resolution} px, batch {batch}, {torch.get_num_threads()} threads, width "
            f"{settings.width}, way back {settings.backward_width}, identity every {settings.identity_every}th step",
            f"{mine:.1f} photo + style pairs/s, and as many latent pairs",
            plain,
            mine / theirs,
            "ratio 2.5",
        )
        row(
            f"width {settings.width} everywhere as the plain one, without latent pairs as the plain one",
            f"{wide:.1f} pairs/s",
            plain,
            wide / theirs,
            "ratio 2.5",
        )
        row("the same with identity at every step", f"{every:.1f} pairs/s", plain, every / theirs)
        for rate in full:
            row(
                "as trained with the latent pairs' feature loss",
                f"{rate:.1f} pairs/s",
                f"without {mine:.1f}",
                rate / mine,
            )
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    row("peak memory of these steps together", f"{peak / 1024:.2f} GB", wanted="3 GB at most")


if __name__ == "__main__":
    main()
