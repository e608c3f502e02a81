"""The translator: U-GAT-IT's light generator (Kim et al. 2020) that knows the place, with mask branch and skip."""

import math
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stages.pair.layers import LIN, AdaLIN, Conv, instance_norm


@dataclass(frozen=True)
class TranslatorConfig:
    """What rebuilds a translator.

    Attributes:
        width: channels after the first convolution (ngf; 64 in the paper, 32 in photo2cartoon).
        blocks: residual blocks before and again after the attention (4 in the paper's light version).
        mask: with the mask branch, output = m · content + (1 − m) · input.
        skip: adds the stem's full-resolution features before the last convolution and the photo's coarse colours to
            its result (not in the paper).
    """

    width: int = 32
    blocks: int = 4
    mask: bool = True
    skip: bool = True

    def as_dict(self) -> dict[str, Any]:
        """For the header of a model file."""
        return asdict(self)


WAVES = (1, 2, 4)  # over the picture's side; 4: an eye is about half a wave wide
PLACE = 1 + 4 * len(WAVES)  # channels that tell the place
TONE_CELLS = 16  # the coarse colours are means over 1/16 of the side: skin and hair tone, no features
TONE_GAIN = 1.2  # tanh(1.2 x) is within 0.1 of x up to |x| = 0.9


class Translation(NamedTuple):
    """Result of a translation of N pictures.

    Attributes:
        output: [N, 3, H, W] in [-1, 1], what to use.
        mask: [N, 1, H, W] in [0, 1]; ones without a mask branch.
        attention: CAM heat map [N, 1, H/4, W/4], larger = more decisive; no fixed range.
        content: [N, 3, H, W] in [-1, 1], what the mask lets through.
    """

    output: Tensor
    mask: Tensor
    attention: Tensor
    content: Tensor


class Details(NamedTuple):
    """What training needs beside the translation.

    Attributes:
        cam_logits: [N, 2] domain logits from average- and max-pooled features.
        mask_logits: [N, 1, H, W] before the sigmoid, or None without a mask branch.
    """

    cam_logits: Tensor
    mask_logits: Tensor | None


def tone(photo: Tensor) -> Tensor:
    """The photo's coarse colours, [N, 3, H, W] in [-1, 1] to the same.

    Instance norm takes every picture's own brightness and colour away; without this path the translator gives all
    people one mean complexion (seen at 0.6 kimg on real photos).
    """
    cell = max(1, photo.shape[-1] // TONE_CELLS)
    return F.interpolate(F.avg_pool2d(photo, cell), scale_factor=float(cell), mode="bilinear", align_corners=False)


def with_place(photo: Tensor) -> Tensor:
    """Appends where each pixel lies: [N, 3, H, W] to [N, 3 + PLACE, H, W], the height and waves of both coordinates.

    Coordinates as inputs: CoordConv (Liu et al. 2018); waves of them, all in [-1, 1], for detail: Fourier features
    (Tancik et al. 2020). Faces are aligned, so place says most about what to draw, and the paper's network cannot know
    it: its borders are reflected, its norms see all places alike. The demo's held-out pairs after 1.2 kimg of warm
    start: loss 0.430 without place, 0.412 with plain coordinates, 0.402 with waves. Waves repeat at opposite edges: the
    plain height tells top from bottom, left and right edge stay alike.
    """
    n, _, height, width = photo.shape
    y, x = (torch.linspace(-1, 1, side, device=photo.device, dtype=photo.dtype) for side in (height, width))
    rows, columns = torch.meshgrid(y, x, indexing="ij")
    angles = [math.pi * waves * c for waves in WAVES for c in (columns, rows)]
    place = torch.stack([rows, *(wave(angle) for angle in angles for wave in (torch.sin, torch.cos))])
    return torch.cat([photo, place.expand(n, -1, -1, -1)], 1).contiguous(memory_format=torch.channels_last)


class CAM(nn.Module):
    """Class activation maps (Zhou et al. 2016) as attention: pooled features are classified, the classifiers' weights
    scale them (Kim et al. 2020).
    """

    def __init__(self, channels: int, spectral: bool = False) -> None:
        super().__init__()
        self.average = nn.Parameter(torch.randn(channels) / channels**0.5)
        self.maximum = nn.Parameter(torch.randn(channels) / channels**0.5)
        self.mix = Conv(2 * channels, channels, 1, bias=True)
        self.spectral = spectral
        self.channels = channels

    def forward(self, x: Tensor, where: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """Features [N, C, H, W] to (attended features, logits [N, 2], heat map [N, 1, H, W]).

        ``where`` [N, 1, H, W] in [0, 1]: the area whose features are classified; None for all. The attended features
        do not depend on it, so a photo without a mask is translated alike.
        """
        average: Tensor = self.average
        maximum: Tensor = self.maximum
        if self.spectral:  # a vector's largest singular value is its norm: no iteration needed
            average, maximum = F.normalize(average, dim=0), F.normalize(maximum, dim=0)
        # pools, not mean and amax, whose gradients are dense and lose channels_last (maximum at 31×31: 0.2, not 2.1 ms)
        seen = x if where is None else x * where.to(x.dtype)
        pooled_average, pooled_maximum = (
            pool(seen, x.shape[2:]).flatten(1).float() for pool in (F.avg_pool2d, F.max_pool2d)
        )
        if where is not None:  # the mean over the area, not over the picture
            pooled_average = pooled_average / where.mean((2, 3)).clamp_min(1 / x[0, 0].numel())
        logits = torch.stack([pooled_average @ average, pooled_maximum @ maximum], 1)
        # (x·wa, x·wm) through a 1×1 convolution = one 1×1 convolution whose kernel is scaled instead of x
        kernel = self.mix.weight[:, :, 0, 0]
        kernel = kernel[:, : self.channels] * average + kernel[:, self.channels :] * maximum
        mixed = F.conv2d(x, kernel[:, :, None, None], self.mix.bias)
        return mixed, logits, mixed.float().mean(1, keepdim=True)


class ResBlock(nn.Module):
    """Two 3×3 convolutions with instance norm around a skip."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv0, self.conv1 = Conv(channels, channels, 3), Conv(channels, channels, 3)

    def forward(self, x: Tensor) -> Tensor:
        h = F.relu(instance_norm(self.conv0(x)), inplace=True)
        return x + instance_norm(self.conv1(h))


class AdaLINBlock(nn.Module):
    """Two 3×3 convolutions with AdaLIN around a skip."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv0, self.conv1 = Conv(channels, channels, 3), Conv(channels, channels, 3)
        self.norm0, self.norm1 = AdaLIN(channels), AdaLIN(channels)

    def forward(self, x: Tensor, gamma: Tensor, beta: Tensor) -> Tensor:
        h = F.relu(self.norm0(self.conv0(x), gamma, beta), inplace=True)
        return x + self.norm1(self.conv1(h), gamma, beta)


class TranslatorGenerator(nn.Module):
    """Photo to style (or back): encoder, CAM attention, AdaLIN decoder, mask branch.

    The side of the pictures must be a multiple of 4 and at least 16.
    """

    def __init__(self, config: TranslatorConfig) -> None:
        super().__init__()
        self.config = config
        w, deep = config.width, config.width * 4
        self.stem = Conv(3 + PLACE, w, 7)
        self.down0, self.down1 = Conv(w, 2 * w, 3, 2), Conv(2 * w, deep, 3, 2)
        self.encoder = nn.ModuleList(ResBlock(deep) for _ in range(config.blocks))
        self.cam = CAM(deep)
        self.mlp = nn.Sequential(nn.Linear(deep, deep), nn.ReLU(), nn.Linear(deep, deep), nn.ReLU())
        self.to_gamma, self.to_beta = nn.Linear(deep, deep), nn.Linear(deep, deep)
        self.decoder = nn.ModuleList(AdaLINBlock(deep) for _ in range(config.blocks))
        self.up0, self.up1 = Conv(deep, 2 * w, 3), Conv(2 * w, w, 3)
        self.up_norm0, self.up_norm1 = LIN(2 * w), LIN(w)
        # one convolution makes colours and mask: a branch of its own would cost a pass over full resolution
        self.head = Conv(w, 4 if config.mask else 3, 7, bias=True)
        with torch.no_grad():
            nn.init.ones_(self.to_gamma.bias)
        for part in self.modules():
            if isinstance(part, Conv) and part is not self.head:
                # He et al. 2015. Weights as small as torch's default turn round in Adam's first steps: at rate 8e-4
                # most runs of the demo then stayed at blurs and stripes for 2 kimg, with these none did
                nn.init.kaiming_normal_(part.weight, nonlinearity="relu")

    def detailed(self, photo: Tensor, where: Tensor | None = None) -> tuple[Translation, Details]:
        """``photo`` float32 [N, 3, H, W] in [-1, 1] to the translation and what the losses need.

        ``where`` [N, 1, H, W] in [0, 1]: what the attention's classifiers judge by (see :class:`CAM`); None for all.
        """
        stem = F.relu(instance_norm(self.stem(with_place(photo))), inplace=True)
        h = F.relu(instance_norm(self.down0(stem)), inplace=True)
        h = F.relu(instance_norm(self.down1(h)), inplace=True)
        for block in self.encoder:
            h = block(h)
        h, cam_logits, attention = self.cam(h, None if where is None else F.avg_pool2d(where, 4))
        h = F.relu(h)
        code = self.mlp(h.mean((2, 3)))
        gamma, beta = self.to_gamma(code).float(), self.to_beta(code).float()
        for block in self.decoder:
            h = block(h, gamma, beta)
        h = F.interpolate(h, scale_factor=2.0, mode="nearest")
        h = F.relu(self.up_norm0(self.up0(h)), inplace=True)
        h = F.interpolate(h, scale_factor=2.0, mode="nearest")
        h = F.relu(self.up_norm1(self.up1(h)), inplace=True)
        if self.config.skip:
            h = h + stem
        raw = self.head(h).float()  # float32 from here on: the background must come through unrounded
        colours = raw[:, :3].contiguous()
        content = torch.tanh(colours + TONE_GAIN * tone(photo) if self.config.skip else colours)
        if not self.config.mask:
            return Translation(content, torch.ones_like(raw[:, :1]), attention, content), Details(cam_logits, None)
        mask_logits = raw[:, 3:].contiguous()
        mask = torch.sigmoid(mask_logits)
        output = photo + mask * (content - photo)
        return Translation(output, mask, attention, content), Details(cam_logits, mask_logits)

    def forward(self, photo: Tensor) -> Translation:
        """``photo`` float32 [N, 3, H, W] in [-1, 1] to its translation."""
        return self.detailed(photo)[0]


class Discriminator(nn.Module):
    """PatchGAN (Isola et al. 2017) with CAM attention and spectral norm (U-GAT-IT's global or local discriminator).

    ``layers`` as in the paper's count: ``layers`` − 2 stride-2 convolutions, one of stride 1, one to the logits.
    """

    def __init__(self, width: int, layers: int) -> None:
        super().__init__()
        downs = max(1, layers - 2)
        channels = [3] + [min(width * 2**i, width * 8) for i in range(downs + 1)]
        strides = [2] * downs + [1]
        self.convs = nn.ModuleList(
            Conv(cin, cout, 4, stride, bias=True, spectral=True)
            for cin, cout, stride in zip(channels, channels[1:], strides, strict=False)
        )
        self.cam = CAM(channels[-1], spectral=True)
        self.out = Conv(channels[-1], 1, 4, spectral=True)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Pictures [N, 3, H, W] in [-1, 1] to (patch logits [N, 1, h, w], CAM logits [N, 2]), float32."""
        for conv in self.convs:
            x = F.leaky_relu(conv(x), 0.2, inplace=True)
        h, cam_logits, _ = self.cam(x)
        return self.out(F.leaky_relu(h, 0.2, inplace=True)).float(), cam_logits


def discriminator_layers(resolution: int) -> tuple[int, int]:
    """(global, local) layer counts for a resolution: 7 and 5 at 256 px as in the paper, 5 and 3 at 64 px.

    Seven layers at 64 px would leave 1×1 features that a reflected border cannot pad.
    """
    deepest = resolution.bit_length() - 2
    return deepest, max(3, deepest - 2)


class DiscriminatorPair(nn.Module):
    """The global and the local discriminator of one domain."""

    def __init__(self, width: int, resolution: int) -> None:
        super().__init__()
        layers = discriminator_layers(resolution)
        self.parts = nn.ModuleList(Discriminator(width, count) for count in layers)

    def forward(self, x: Tensor) -> list[Tensor]:
        """All logits of ``x`` [N, 3, H, W] in [-1, 1]: patches and CAM of each discriminator, to be judged alike."""
        return [logits for part in self.parts for logits in part(x)]
