"""Layers of the translator: normalisations computed in few passes, reflected convolutions, spectral norm.

On a CPU the tails cost as much as the matrix products (64 px, 32 channels, batch 8, bf16 with AMX: convolution
0.43 ms, torch's instance_norm 0.70 ms forward). Instance norm, layer-instance norm and AdaLIN are all
``x * scale[n, c] + shift[n, c]`` with coefficients from the same two moments per sample and channel, so each is one
reduction pass and one multiply-add here.
"""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

EPS = 1e-5


class _Moments(torch.autograd.Function):
    """Mean and mean square over space; the backward is one multiply-add instead of autograd's four passes."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(x)
        return _space_mean(x), _space_mean(x * x)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        count = x.shape[2] * x.shape[3]
        constant = (grads[0] / count).to(x.dtype)[:, :, None, None]
        linear = (grads[1] * (2 / count)).to(x.dtype)[:, :, None, None]
        return torch.addcmul(constant, x, linear)


def _space_mean(x: Tensor) -> Tensor:
    """Mean over H and W as float32 [N, C].

    torch accumulates bf16 sums in float32 but rounds the result to bf16, 7 times faster than asking for float32
    output. Sixteen partial sums keep the speed and make the rounding error small against the spread of x.
    """
    n, c, h, w = x.shape
    rows = x.permute(0, 2, 3, 1)
    if x.dtype != torch.bfloat16 or (h * w) % 16:
        return rows.sum((1, 2), dtype=torch.float32) / (h * w)
    return rows.reshape(n, 16, h * w // 16, c).sum(2).float().sum(1) / (h * w)


def moments(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance over space of [N, C, H, W], each float32 [N, C]."""
    mean, mean_square = _Moments.apply(x)
    return mean, (mean_square - mean * mean).clamp_min(0)


def scale_shift(x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """``x * scale + shift`` with [N, C] coefficients, in x's type."""
    return torch.addcmul(shift.to(x.dtype)[:, :, None, None], x, scale.to(x.dtype)[:, :, None, None])


def instance_norm(x: Tensor) -> Tensor:
    """Zero mean, unit variance per sample and channel of [N, C, H, W] (no learned affine, as in the paper)."""
    mean, var = moments(x)
    scale = torch.rsqrt(var + EPS)
    return scale_shift(x, scale, -mean * scale)


def layer_instance_norm(x: Tensor, rho: Tensor, gamma: Tensor, beta: Tensor) -> Tensor:
    """AdaLIN, U-GAT-IT eq. 1: ``gamma * (rho * IN(x) + (1 - rho) * LN(x)) + beta``.

    Args:
        x: features [N, C, H, W].
        rho: mixing per channel [C], in [0, 1].
        gamma: scale, [N, C] (from the MLP) or [1, C] (learned: plain LIN).
        beta: shift of the same shape.
    """
    mean, var = moments(x)
    layer_mean = mean.mean(1, keepdim=True)
    # the layer's variance from the channels' moments: no second pass over x
    layer_var = (var + mean * mean).mean(1, keepdim=True) - layer_mean * layer_mean
    per_instance, per_layer = torch.rsqrt(var + EPS), torch.rsqrt(layer_var.clamp_min(0) + EPS)
    scale = rho * per_instance + (1 - rho) * per_layer
    shift = -(rho * mean * per_instance + (1 - rho) * layer_mean * per_layer)
    return scale_shift(x, gamma * scale, gamma * shift + beta)


class LIN(nn.Module):
    """Layer-instance norm with learned affine; ``rho`` starts at 0 (layer norm), as in the paper's decoder."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.rho = nn.Parameter(torch.zeros(channels))
        self.gamma = nn.Parameter(torch.ones(1, channels))
        self.beta = nn.Parameter(torch.zeros(1, channels))

    def forward(self, x: Tensor) -> Tensor:
        return layer_instance_norm(x, self.rho, self.gamma, self.beta)


class AdaLIN(nn.Module):
    """Adaptive layer-instance norm; ``rho`` starts at 0.9 (mostly instance norm)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.rho = nn.Parameter(torch.full((channels,), 0.9))

    def forward(self, x: Tensor, gamma: Tensor, beta: Tensor) -> Tensor:
        return layer_instance_norm(x, self.rho, gamma, beta)


def clip_rho(module: nn.Module) -> None:
    """Clips every ``rho`` below ``module`` to [0, 1]; to be called after each optimiser step (paper, sec. 2.1)."""
    with torch.no_grad():
        for part in module.modules():
            if isinstance(part, LIN | AdaLIN):
                part.rho.clamp_(0, 1)


def reflect(x: Tensor, pad: int) -> Tensor:
    """Reflects ``pad`` pixels on every side, in x's type: CPU autocast would take a detour through float32."""
    with torch.autocast(x.device.type, enabled=False):
        return F.pad(x, (pad,) * 4, mode="reflect")


class Conv(nn.Module):
    """k×k convolution with reflected borders. No bias where a normalisation follows, which would remove it."""

    def __init__(self, cin: int, cout: int, k: int, stride: int = 1, bias: bool = False, spectral: bool = False):
        super().__init__()
        self.stride, self.pad = stride, (k - 1) // 2
        self.weight = nn.Parameter(torch.empty(cout, cin, k, k))
        nn.init.kaiming_uniform_(self.weight, a=math.sqrt(5))
        self.bias = nn.Parameter(torch.zeros(cout)) if bias else None
        self.spectral = SpectralNorm(cout, cin * k * k) if spectral else None

    def forward(self, x: Tensor) -> Tensor:
        weight = self.weight if self.spectral is None else self.spectral(self.weight)
        if self.pad:
            x = reflect(x, self.pad)
        return F.conv2d(x, weight, self.bias, self.stride)


class SpectralNorm(nn.Module):
    """Divides a weight by its largest singular value (Miyato et al. 2018), estimated by power iteration.

    One iteration per call in training mode, as the paper does per update; none in eval mode.
    """

    u: Tensor
    v: Tensor

    def __init__(self, rows: int, columns: int) -> None:
        super().__init__()
        self.register_buffer("u", F.normalize(torch.randn(rows), dim=0))
        self.register_buffer("v", F.normalize(torch.randn(columns), dim=0))

    def forward(self, weight: Tensor) -> Tensor:
        with torch.autocast(weight.device.type, enabled=False):
            matrix = weight.flatten(1)
            if self.training:
                with torch.no_grad():
                    self.v.copy_(F.normalize(matrix.t() @ self.u, dim=0))
                    self.u.copy_(F.normalize(matrix @ self.v, dim=0))
            # clones: the buffers change in place at the next step while this graph may still be alive
            sigma = torch.dot(self.u.clone(), matrix @ self.v.clone())
            return weight / sigma
