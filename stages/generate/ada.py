"""Adaptive discriminator augmentation (Karras et al. 2020b), differentiable twice.

Geometry composes inverse matrices, pads by reflection to the margin that is needed, doubles the resolution with the
sym6 wavelet, samples bilinearly and halves again. For the identity this whole chain *is* the identity (the wavelet
is orthogonal), so only the samples that drew a transformation go through it. Flips do: the wavelet is not quite
symmetric, and the reference's flipped images carry that.
"""

import functools
import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from stages.common.device import average

# Decomposition low-pass of the symlet with 6 vanishing moments (Daubechies 1992), normalised to sum 1 below.
SYM6 = (
    0.015404109327027373,
    0.0034907120842174702,
    -0.11799011114819057,
    -0.048311742585633,
    0.4910559419267466,
    0.787641141030194,
    0.3379294217276218,
    -0.07263752278646252,
    -0.021060292512300564,
    0.04472490177066578,
    0.0017677118642428036,
    -0.007800708325034148,
)
TAPS = len(SYM6)
PAD = TAPS // 4  # what the wavelet reaches at the original resolution


@dataclass(frozen=True)
class AugmentSet:
    """Which operations are on and how wide they are; 0 switches one off. Each happens with probability p."""

    xflip: bool = False
    rotate90: bool = False
    xint: float = 0.0  # integer translation, largest, of the image size
    scale: float = 0.0  # standard deviation of log2
    rotate: float = 0.0  # largest angle, of pi
    aniso: float = 0.0  # standard deviation of log2
    xfrac: float = 0.0  # fractional translation, standard deviation, of the image size
    brightness: float = 0.0  # standard deviation; images span 2
    contrast: float = 0.0  # standard deviation of log2
    lumaflip: bool = False
    hue: float = 0.0  # largest angle, of pi
    saturation: float = 0.0  # standard deviation of log2


BLIT = AugmentSet(xflip=True, rotate90=True, xint=0.125)
GEOM = AugmentSet(scale=0.2, rotate=1.0, aniso=0.2, xfrac=0.125)
COLOR = AugmentSet(brightness=0.2, contrast=0.5, lumaflip=True, hue=1.0, saturation=1.0)
BG = replace(GEOM, xflip=True, rotate90=True, xint=0.125)
BGC = replace(BG, brightness=0.2, contrast=0.5, lumaflip=True, hue=1.0, saturation=1.0)
# Faces are upright and skin is not green: what a generator could copy without looking odd.
FACE = AugmentSet(
    xflip=True, xint=0.125, scale=0.2, rotate=0.1, aniso=0.1, xfrac=0.03, brightness=0.2, contrast=0.5, saturation=0.5
)
SETS: dict[str, AugmentSet] = {
    "none": AugmentSet(),
    "blit": BLIT,
    "geom": GEOM,
    "color": COLOR,
    "bg": BG,
    "bgc": BGC,
    "face": FACE,
}


class _Draws:
    """Random numbers of one batch on the CPU, or their value at a fixed percentile (for tests)."""

    def __init__(self, n: int, p: float, percentile: float | None) -> None:
        self.n, self.p, self.q = n, p, percentile

    def uniform(self, *shape: int) -> Tensor:
        return torch.rand(self.n, *shape) if self.q is None else torch.full((self.n, *shape), self.q)

    def symmetric(self, *shape: int) -> Tensor:
        return self.uniform(*shape) * 2 - 1

    def normal(self, *shape: int) -> Tensor:
        # The reference implementation's percentile of a normal lacks the factor sqrt 2.
        return torch.randn(self.n, *shape) if self.q is None else torch.erfinv(self.symmetric(*shape))

    def choice(self, options: int) -> Tensor:
        return (self.uniform() * options).floor().long()

    def happens(self, p: float | None = None) -> Tensor:
        return torch.rand(self.n) < (self.p if p is None else p)

    def when(self, value: Tensor, otherwise: float, p: float | None = None) -> Tensor:
        """The drawn value where the operation happens, else its neutral one."""
        happens = self.happens(p).reshape(-1, *[1] * (value.ndim - 1))
        return torch.where(happens, value, torch.full_like(value, otherwise))


def _matrix(n: int, size: int) -> Tensor:
    return torch.eye(size, dtype=torch.float64).repeat(n, 1, 1)


def _translate(x: Tensor, y: Tensor) -> Tensor:
    m = _matrix(len(x), 3)
    m[:, 0, 2], m[:, 1, 2] = x.double(), y.double()
    return m


def _scale(x: Tensor, y: Tensor) -> Tensor:
    m = _matrix(len(x), 3)
    m[:, 0, 0], m[:, 1, 1] = x.double(), y.double()
    return m


def _rotate(angle: Tensor) -> Tensor:
    m = _matrix(len(angle), 3)
    c, s = angle.double().cos(), angle.double().sin()
    m[:, 0, 0], m[:, 0, 1], m[:, 1, 0], m[:, 1, 1] = c, -s, s, c
    return m


def _draw_geometry(a: AugmentSet, d: _Draws, size: int) -> Tensor:
    """Inverse transformations in pixels around the centre: float64 [N, 3, 3], output point -> input point."""
    inverse = _matrix(d.n, 3)
    if a.xflip:
        sign = 1 - 2 * d.when(d.choice(2), 0)
        inverse = inverse @ _scale(sign, torch.ones_like(sign))
    if a.rotate90:
        # Rounded, so that whole turns are exact and untouched samples stay recognisable as such.
        inverse = inverse @ _rotate(d.when(d.choice(4), 0) * (math.pi / 2)).round()
    if a.xint:
        t = torch.round(d.when(d.symmetric(2) * a.xint, 0.0) * size)
        inverse = inverse @ _translate(-t[:, 0], -t[:, 1])
    if a.scale:
        s = d.when(torch.exp2(d.normal() * a.scale), 1.0)
        inverse = inverse @ _scale(1 / s, 1 / s)
    # Rotation before and after the stretch: together they happen with probability p.
    half = 1 - math.sqrt(max(1 - d.p, 0.0))
    if a.rotate:
        inverse = inverse @ _rotate(d.when(d.symmetric() * math.pi * a.rotate, 0.0, half))
    if a.aniso:
        s = d.when(torch.exp2(d.normal() * a.aniso), 1.0)
        inverse = inverse @ _scale(1 / s, s)
    if a.rotate and d.q is None:
        inverse = inverse @ _rotate(d.when(d.symmetric() * math.pi * a.rotate, 0.0, half))
    if a.xfrac:
        t = d.when(d.normal(2) * a.xfrac, 0.0) * size
        inverse = inverse @ _translate(-t[:, 0], -t[:, 1])
    return inverse


def _draw_colour(a: AugmentSet, d: _Draws) -> Tensor:
    """Colour transformations: float64 [N, 4, 4] on (r, g, b, 1)."""
    m = _matrix(d.n, 4)
    grey = torch.tensor([1.0, 1.0, 1.0, 0.0], dtype=torch.float64) / math.sqrt(3)
    luma = torch.outer(grey, grey)
    chroma = torch.eye(4, dtype=torch.float64) - luma
    if a.brightness:
        shift = _matrix(d.n, 4)
        shift[:, :3, 3] = d.when(d.normal() * a.brightness, 0.0).double()[:, None]
        m = shift @ m
    if a.contrast:
        stretch = _matrix(d.n, 4)
        stretch[:, [0, 1, 2], [0, 1, 2]] = d.when(torch.exp2(d.normal() * a.contrast), 1.0).double()[:, None]
        m = stretch @ m
    if a.lumaflip:
        flip = d.when(d.choice(2).double(), 0.0)
        m = (torch.eye(4, dtype=torch.float64) - 2 * luma * flip[:, None, None]) @ m
    if a.hue:
        m = _rotate_hue(d.when(d.symmetric() * math.pi * a.hue, 0.0).double()) @ m
    if a.saturation:
        s = d.when(torch.exp2(d.normal() * a.saturation), 1.0).double()[:, None, None]
        keep = luma.clone()
        keep[3, 3] = 1
        m = (keep + (chroma - torch.diag(torch.tensor([0.0, 0, 0, 1])).double()) * s) @ m
    return m


def _rotate_hue(angle: Tensor) -> Tensor:
    """Rotation around the grey axis (Rodrigues): float64 [N, 4, 4]."""
    v = 1 / math.sqrt(3)
    cross = torch.tensor([[0, -v, v], [v, 0, -v], [-v, v, 0]], dtype=torch.float64)
    c, s = angle.cos()[:, None, None], angle.sin()[:, None, None]
    m = _matrix(len(angle), 4)
    m[:, :3, :3] = c * torch.eye(3, dtype=torch.float64) + s * cross + (1 - c) * torch.full((3, 3), v * v).double()
    return m


class _Sample(torch.autograd.Function):
    """Bilinear sampling with zeros outside; linear in the images, so its adjoint's gradient is sampling again.

    torch's own grid_sample cannot be differentiated twice.
    """

    @staticmethod
    def forward(ctx: Any, images: Tensor, grid: Tensor) -> Tensor:
        ctx.save_for_backward(grid)
        ctx.shape = images.shape
        return F.grid_sample(images, grid, mode="bilinear", padding_mode="zeros", align_corners=False)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:  # type: ignore[override]
        (grid,) = ctx.saved_tensors
        return _SampleAdjoint.apply(grad, grid, ctx.shape), None


class _SampleAdjoint(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, grad: Tensor, grid: Tensor, shape: torch.Size) -> Tensor:
        ctx.save_for_backward(grid)
        empty = grad.new_zeros(()).expand(shape)  # only its shape is read
        return torch.ops.aten.grid_sampler_2d_backward(grad, empty, grid, 0, 0, False, [True, False])[0]

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:  # type: ignore[override]
        (grid,) = ctx.saved_tensors
        return _Sample.apply(grad, grid), None, None


@functools.lru_cache(maxsize=64)
def _upsampling(size: int) -> Tensor:
    """Wavelet upsampling of `size` points as a matrix [2 size, size]."""
    taps = torch.tensor(SYM6) / sum(SYM6) * 2
    out, source = torch.arange(2 * size)[:, None], torch.arange(size)[None, :]
    tap = out + TAPS // 2 - 1 - 2 * source
    return torch.where((tap >= 0) & (tap < TAPS), taps[tap.clamp(0, TAPS - 1)], torch.zeros(()))


@functools.lru_cache(maxsize=64)
def _downsampling(size: int) -> Tensor:
    """Wavelet downsampling of 2 (size + 2 PAD) points to `size` as a matrix [size, 2 size + 4 PAD]."""
    taps = torch.tensor(SYM6) / sum(SYM6)
    out, source = torch.arange(size)[:, None], torch.arange(2 * size + 4 * PAD)[None, :]
    tap = source - 1 - 2 * out
    return torch.where((tap >= 0) & (tap < TAPS), taps[tap.clamp(0, TAPS - 1)], torch.zeros(()))


def _upsample(x: Tensor) -> Tensor:
    """Doubles H and W of [N, C, H, W]; as matrix products several times faster on a CPU than 12-tap convolutions."""
    rows, columns = _upsampling(x.shape[2]).to(x), _upsampling(x.shape[3]).to(x)
    return rows @ (x @ columns.t())


def _downsample(x: Tensor, size: int) -> Tensor:
    """Halves [N, C, 2 size + 4 PAD, ...] to [N, C, size, size]."""
    matrix = _downsampling(size).to(x)
    return matrix @ (x @ matrix.t())


def warp(images: Tensor, inverse: Tensor) -> Tensor:
    """Apply inverse transformations (float64 [N, 3, 3], pixels around the centre) to square images [N, C, R, R].

    Images of any range; the wavelet may overshoot it at edges.
    """
    size = images.shape[-1]
    centre = (size - 1) / 2
    x = torch.tensor([-centre, centre, centre, -centre], dtype=torch.float64)
    y = torch.tensor([-centre, -centre, centre, centre], dtype=torch.float64)
    corners = (inverse @ torch.stack([x, y, torch.ones(4, dtype=torch.float64)]))[:, :2]
    reach = torch.cat([-corners.amin((0, 2)), corners.amax((0, 2))]) + (PAD * 2 - centre)
    left, top, right, bottom = (int(v) for v in reach.clamp(0, size - 1).ceil())
    padded = _upsample(F.pad(images, (left, right, top, bottom), mode="reflect"))

    def constant(make: Any, x: float, y: float) -> Tensor:
        return make(torch.tensor([x]), torch.tensor([y]))

    m = constant(_translate, (left - right) / 2, (top - bottom) / 2) @ inverse
    m = constant(_scale, 2, 2) @ m @ constant(_scale, 0.5, 0.5)
    m = constant(_translate, -0.5, -0.5) @ m @ constant(_translate, 0.5, 0.5)
    out = (size + PAD * 2) * 2
    m = constant(_scale, 2 / padded.shape[3], 2 / padded.shape[2]) @ m @ constant(_scale, out / 2, out / 2)
    shape = [len(images), images.shape[1], out, out]
    grid = F.affine_grid(m[:, :2].to(images), shape, align_corners=False)
    return _downsample(_Sample.apply(padded, grid), size)


def augment(images: Tensor, operations: AugmentSet, p: float, percentile: float | None = None) -> Tensor:
    """Augment images [N, 3, R, R] in [-1, 1], each operation with probability p; values may leave [-1, 1].

    Args:
        percentile: use this percentile of every distribution instead of drawing (tests).
    """
    n = len(images)
    draws = _Draws(n, p, percentile)
    device = images.device
    inverse = _draw_geometry(operations, draws, images.shape[-1])
    chosen = _changed(inverse)
    if len(chosen):
        warped = warp(images[chosen.to(device)], inverse[chosen])
        images = images.index_copy(0, chosen.to(device), warped)
    colour = _draw_colour(operations, draws)
    chosen = _changed(colour)
    if len(chosen):
        m = colour[chosen].to(images)
        pixels = images[chosen.to(device)].flatten(2)
        mixed = torch.baddbmm(m[:, :3, 3:], m[:, :3, :3], pixels)
        images = images.index_copy(0, chosen.to(device), mixed.reshape(-1, *images.shape[1:]))
    return images


def _changed(matrices: Tensor) -> Tensor:
    eye = torch.eye(matrices.shape[-1], dtype=matrices.dtype)
    return (matrices != eye).flatten(1).any(1).nonzero()[:, 0]


class AdaptiveAugment:
    """`augment` with a probability that follows the discriminator's overfitting r_t = E[sign D(real)].

    p is clamped to [0, 1]: the reference does not, and has been seen at 21.8, leaking augmentations.

    Args:
        target: r_t to hold; 0 keeps p fixed.
        kimg: thousands of images in which p can move by 1.
    """

    def __init__(self, operations: AugmentSet, p: float, target: float, kimg: float) -> None:
        self.operations, self.p, self.target, self.kimg = operations, p, target, kimg
        self.rt = 0.0
        self._signs: list[Tensor] = []

    def __call__(self, images: Tensor) -> Tensor:
        """Augmented images [N, 3, R, R] in [-1, 1], float32 whatever autocast says: its small matrices need it."""
        if self.p <= 0:
            return images
        with torch.autocast(images.device.type, enabled=False):
            return augment(images.float(), self.operations, self.p)

    def observe(self, real_logits: Tensor) -> None:
        """Note D's logits of augmented real images: over all processes, or each would have a p of its own."""
        self._signs.append(average(real_logits.detach().sign().mean()))

    def adjust(self, nimg: int) -> None:
        """Move p after `nimg` images, by the logits observed since the last call."""
        if not self._signs:
            return
        self.rt = float(torch.stack([sign.cpu() for sign in self._signs]).mean())  # a checkpoint's are on the CPU
        self._signs = []
        if self.target > 0:
            step = np.sign(self.rt - self.target) * nimg / (self.kimg * 1000)
            self.p = float(np.clip(self.p + step, 0.0, 1.0))

    def state_dict(self) -> dict[str, Any]:
        return {"p": self.p, "rt": self.rt, "signs": [float(s) for s in self._signs]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.p, self.rt = state["p"], state["rt"]
        self._signs = [torch.tensor(s) for s in state["signs"]]
