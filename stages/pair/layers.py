"""Layers of the translator: normalisations computed in few passes, reflected convolutions, spectral norm.

On a CPU the tails cost as much as the matrix products (64 px, 32 channels, batch 8, bf16 with AMX: convolution
0.43 ms, torch's instance_norm 0.70 ms forward). Instance norm, layer-instance norm and AdaLIN are all
``x * scale[n, c] + shift[n, c]`` with coefficients from the same two moments per sample and channel, so each is one
reduction pass and one multiply-add here.
"""

import math
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

EPS = 1e-5


class _Normalise(torch.autograd.Function):
    """Instance norm (``rho`` None) or AdaLIN with a backward by hand.

    Autograd's graph of the coefficients costs more than the pictures at four pictures a step: some 60 operations on
    [N, C] per norm, and one more pass to add the two gradients of x. By hand everything is again one multiply-add,
    ``scale * dy + linear * x + constant``.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, rho: Tensor | None, gamma: Tensor | None, beta: Tensor | None) -> Tensor:
        mean, square = _space_mean(x), _space_mean(x * x)
        instance = torch.rsqrt((square - mean * mean).clamp_min_(0) + EPS)
        if rho is None or gamma is None or beta is None:
            scale, shift = instance, -mean * instance
            ctx.save_for_backward(x, mean, instance, scale)
        else:
            layer_mean = mean.mean(1, keepdim=True)
            # the layer's variance from the channels' moments: no second pass over x
            layer_var = square.mean(1, keepdim=True) - layer_mean * layer_mean
            layer = torch.rsqrt(layer_var.clamp_min_(0) + EPS)
            mixed = torch.lerp(layer.expand_as(instance), instance, rho)
            mixed_mean = torch.lerp((layer_mean * layer).expand_as(instance), mean * instance, rho)
            scale, shift = gamma * mixed, beta - gamma * mixed_mean
            ctx.save_for_backward(x, mean, instance, scale, rho, gamma, layer_mean, layer, mixed, mixed_mean)
        return scale_shift(x, scale, shift)

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor, Tensor | None, Tensor | None, Tensor | None]:
        x, mean, instance, scale, *rest = ctx.saved_tensors
        # Means over space instead of sums: the gradient of each coefficient, divided by H * W.
        d_scale, d_shift = _space_mean(dy * x), _space_mean(dy)
        if not rest:
            d_instance = d_scale - mean * d_shift
            d_mean = -d_shift * instance
            d_rho = d_gamma = d_beta = d_layer = None
        else:
            rho, gamma, layer_mean, layer, mixed, mixed_mean = rest
            count = x.shape[2] * x.shape[3]
            d_gamma = _summed(d_scale * mixed - d_shift * mixed_mean, gamma) * count
            d_beta = _summed(d_shift, gamma) * count
            d_scale, d_shift = gamma * d_scale, gamma * d_shift
            from_instance, from_layer = d_scale - mean * d_shift, d_scale - layer_mean * d_shift
            d_rho = (instance * from_instance - layer * from_layer).sum(0) * count
            d_instance = rho * from_instance
            d_mean = -rho * d_shift * instance
            others = 1 - rho
            d_layer = (others * from_layer).mean(1, keepdim=True) * layer * layer * layer
            d_mean = d_mean + d_layer * layer_mean - (others * d_shift).mean(1, keepdim=True) * layer
        half = d_instance * instance * instance * instance
        constant, linear = torch.addcmul(d_mean, half, mean), -half
        if d_layer is not None:
            linear = linear - d_layer
        dx = scale_shift(x, linear, constant)
        return dx.addcmul_(dy, scale.to(x.dtype)[:, :, None, None]), d_rho, d_gamma, d_beta


def _summed(grad: Tensor, like: Tensor) -> Tensor:
    """Gradient [N, C] for a coefficient that may be shared by the samples, [1, C]."""
    return grad.sum(0, keepdim=True) if like.shape[0] == 1 else grad


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


def scale_shift(x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """``x * scale + shift``, x [N, C, H, W] with [N, C] coefficients, in x's type."""
    return torch.addcmul(shift.to(x.dtype)[:, :, None, None], x, scale.to(x.dtype)[:, :, None, None])


def instance_norm(x: Tensor) -> Tensor:
    """Zero mean, unit variance per sample and channel of [N, C, H, W] (Ulyanov et al. 2016), no learned affine."""
    return cast(Tensor, _Normalise.apply(x, None, None, None))


def layer_instance_norm(x: Tensor, rho: Tensor, gamma: Tensor, beta: Tensor) -> Tensor:
    """AdaLIN, U-GAT-IT (Kim et al. 2020) eq. 1: ``gamma * (rho * IN(x) + (1 - rho) * LN(x)) + beta``.

    Args:
        x: features [N, C, H, W].
        rho: mixing per channel [C], in [0, 1].
        gamma: scale, [N, C] (from the MLP) or [1, C] (learned: plain LIN).
        beta: shift of the same shape.
    """
    return cast(Tensor, _Normalise.apply(x, rho, gamma, beta))


class LIN(nn.Module):
    """Layer-instance norm with learned affine; ``rho`` starts at 0 (layer norm), as in the decoder of Kim et al. 2020.

    [N, C, H, W] to the same.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.rho = nn.Parameter(torch.zeros(channels))
        self.gamma = nn.Parameter(torch.ones(1, channels))
        self.beta = nn.Parameter(torch.zeros(1, channels))

    def forward(self, x: Tensor) -> Tensor:
        return layer_instance_norm(x, self.rho, self.gamma, self.beta)


class AdaLIN(nn.Module):
    """Adaptive layer-instance norm (Kim et al. 2020); ``rho`` starts at 0.9 (mostly instance norm).

    Features [N, C, H, W] with gamma and beta [N, C] to the same.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.rho = nn.Parameter(torch.full((channels,), 0.9))

    def forward(self, x: Tensor, gamma: Tensor, beta: Tensor) -> Tensor:
        return layer_instance_norm(x, self.rho, gamma, beta)


def clip_rho(module: nn.Module) -> None:
    """Clips every ``rho`` below ``module`` to [0, 1]; called after each optimiser step (Kim et al. 2020, sec. 2.1)."""
    with torch.no_grad():
        for part in module.modules():
            if isinstance(part, LIN | AdaLIN):
                part.rho.clamp_(0, 1)


def reflect(x: Tensor, pad: int) -> Tensor:
    """Reflects ``pad`` pixels on every side of [N, C, H, W], in x's type.

    CPU autocast would take a detour through float32.
    """
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
            matrix = _rows(weight.detach())
            if self.training:
                with torch.no_grad():
                    self.v.copy_(F.normalize(matrix.t() @ self.u, dim=0))
                    self.u.copy_(F.normalize(matrix @ self.v, dim=0))
            # clones: the buffers change in place at the next step while this graph may still be alive
            u, v = self.u.clone(), self.v.clone()
            return cast(Tensor, _Spectral.apply(weight, torch.dot(u, matrix @ v), u, v))


class _Spectral(torch.autograd.Function):
    """weight / sigma with sigma = u · W v; the backward reads the weight once instead of five times."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, sigma: Tensor, u: Tensor, v: Tensor) -> Tensor:
        normalised = weight / sigma
        ctx.save_for_backward(normalised, sigma, u, v)
        return normalised

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:
        normalised, sigma, u, v = ctx.saved_tensors
        # d sigma / d W = u vᵀ (Miyato et al. 2018, eq. 12); u and v are constants
        rows = _rows(grad)
        along = torch.dot(rows.flatten(), _rows(normalised).flatten())
        own = torch.addr(rows, along * u, v, alpha=-1).div_(sigma)
        n, c, h, w = grad.shape
        return own.view(n, h, w, c).permute(0, 3, 1, 2), None, None, None


def _rows(weight: Tensor) -> Tensor:
    """[O, I, h, w] as a matrix [O, h·w·I]: for weights in channels_last that is a view, flatten(1) would copy."""
    return weight.permute(0, 2, 3, 1).flatten(1)
