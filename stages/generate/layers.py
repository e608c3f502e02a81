"""The layers of StyleGAN2 (Karras et al. 2020a), arranged so that they are fast without compiled extensions.

Three rearrangements, none of which changes the function:

* Modulation scales *activations* (input by the style, output by the demodulation) instead of building one weight
  per sample, so that every layer is one plain convolution.
* The FIR filter of the resampling layers is a depthwise convolution in channels_last. Folded into the strided kernel
  (3x3 -> 6x6) it would save that pass and multiply four times as much: twice as slow on the CPU.
* Constant gains (sqrt 2 of the activations, sqrt 1/2 of the residual sum) are folded into weights and biases, which
  is exact because a leaky ReLU commutes with positive factors.

Everything is differentiable twice (R1, path length). Under autocast the convolutions run in its type; styles and
demodulation are computed in float32.
"""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SLOPE = 0.2  # leaky ReLU of every layer (paper)
GAIN = math.sqrt(2)  # its variance-preserving gain
DEMOD_EPS = 1e-8
FIR_TAPS = (1.0, 3.0, 3.0, 1.0)


def fir_filter() -> Tensor:
    """The resampling filter [1,3,3,1] x [1,3,3,1], normalised to sum 1: float32 [4, 4]."""
    taps = torch.tensor(FIR_TAPS)
    kernel = torch.outer(taps, taps)
    return kernel / kernel.sum()


class _Blur(torch.autograd.Function):
    """Depthwise convolution with a symmetric 4x4 kernel, whose gradient is the same operation with the other padding.

    torch's own second derivative (R1) convolves channel by channel and asks for the kernel's gradient, too.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, kernel: Tensor, padding: int) -> Tensor:
        ctx.save_for_backward(kernel)
        ctx.padding = padding
        channels = x.shape[1]
        return F.conv2d(x, kernel.to(x.dtype).expand(channels, 1, 4, 4), padding=padding, groups=channels)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:  # type: ignore[override]
        (kernel,) = ctx.saved_tensors
        return _Blur.apply(grad, kernel, 3 - ctx.padding), None, None


def blur(x: Tensor, fir: Tensor, padding: int, gain: float = 1.0) -> Tensor:
    """FIR filter of every channel, at stride 1: [N, C, H, W] -> [N, C, H + 2 padding - 3, W + 2 padding - 3].

    fir: float32 [4, 4], symmetric.
    """
    return _Blur.apply(x, fir * gain, padding)


class _Halve(torch.autograd.Function):
    """FIR and every second pixel of it. torch's own gradient of a strided depthwise convolution takes 10 times as long
    in bf16 as its adjoint written out.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, kernel: Tensor) -> Tensor:
        ctx.save_for_backward(kernel)
        channels = x.shape[1]
        return F.conv2d(x, kernel.to(x.dtype).expand(channels, 1, 4, 4), stride=2, padding=1, groups=channels)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:  # type: ignore[override]
        (kernel,) = ctx.saved_tensors
        return _Double.apply(grad, kernel), None


class _Double(torch.autograd.Function):
    """The adjoint of `_Halve`: zeros between the pixels, then the FIR."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, kernel: Tensor) -> Tensor:
        ctx.save_for_backward(kernel)
        n, c, h, w = x.shape
        spread = x.new_zeros(n, 2 * h - 1, 2 * w - 1, c).permute(0, 3, 1, 2)
        spread[:, :, ::2, ::2] = x
        return F.conv2d(spread, kernel.to(x.dtype).expand(c, 1, 4, 4), padding=2, groups=c)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:  # type: ignore[override]
        (kernel,) = ctx.saved_tensors
        return _Halve.apply(grad, kernel), None


def halve(x: Tensor, fir: Tensor) -> Tensor:
    """FIR downsampling by two: [N, C, H, W] with even sides -> [N, C, H / 2, W / 2]. fir: float32 [4, 4], symmetric."""
    return _Halve.apply(x, fir)


class _ScaleBias(torch.autograd.Function):
    """x * scale + bias with reductions that read the activations once; autograd's own took three times as long."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
        ctx.save_for_backward(x, scale)
        return torch.addcmul(bias, x, scale)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:  # type: ignore[override]
        x, scale = ctx.saved_tensors
        needs = ctx.needs_input_grad
        return (
            grad * scale if needs[0] else None,
            (grad * x).sum((2, 3), keepdim=True) if needs[1] else None,
            grad.sum((0, 2, 3), keepdim=True) if needs[2] else None,
        )


class _Scale(torch.autograd.Function):
    """x * scale, see `_ScaleBias`."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: Tensor) -> Tensor:
        ctx.save_for_backward(x, scale)
        return x * scale

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None]:  # type: ignore[override]
        x, scale = ctx.saved_tensors
        needs = ctx.needs_input_grad
        return (
            grad * scale if needs[0] else None,
            (grad * x).sum((2, 3), keepdim=True) if needs[1] else None,
        )


class _PixelsTimesWeight(torch.autograd.Function):
    """pixels [N, P, C] times weight [N, K, C] transposed, in the weight's type, for a handful of outputs K.

    The weight's gradient is summed as [K, P] x [P, C]; autograd's own [C, P] x [P, K] takes ten times as long.
    """

    @staticmethod
    def forward(ctx: Any, pixels: Tensor, weight: Tensor) -> Tensor:
        ctx.dtype = pixels.dtype
        pixels = pixels.to(weight.dtype)
        ctx.save_for_backward(pixels, weight)
        return torch.bmm(pixels, weight.transpose(1, 2))

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None]:  # type: ignore[override]
        pixels, weight = ctx.saved_tensors
        needs = ctx.needs_input_grad
        return (
            torch.bmm(grad, weight).to(ctx.dtype) if needs[0] else None,
            torch.bmm(grad.transpose(1, 2), pixels) if needs[1] else None,
        )


class _AddNoise(torch.autograd.Function):
    """x + noise * strength, in place; the sum over channels in its gradient is a matrix product."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, noise: Tensor, strength: Tensor) -> Tensor:
        ctx.save_for_backward(noise)
        ctx.mark_dirty(x)
        return x.add_((noise * strength).to(x.dtype))

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, Tensor | None]:  # type: ignore[override]
        (noise,) = ctx.saved_tensors
        strength = None
        if ctx.needs_input_grad[2]:
            n, c = grad.shape[:2]
            rows = noise.expand(n, -1, -1, -1).reshape(n, 1, -1).to(grad.dtype)
            pixels = grad.permute(0, 2, 3, 1).reshape(n, -1, c)
            strength = torch.bmm(rows, pixels).sum(dtype=noise.dtype)
        return grad, None, strength


def channel_scale(x: Tensor, scale: Tensor) -> Tensor:
    """x [N, C, H, W] times scale [N, C], in the type of x."""
    return _Scale.apply(x, scale.to(x.dtype)[:, :, None, None])


def channel_scale_bias(x: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    """x [N, C, H, W] times scale [N, C] plus bias [C], in the type of x."""
    return _ScaleBias.apply(x, scale.to(x.dtype)[:, :, None, None], bias.to(x.dtype)[None, :, None, None])


def upsample_rgb(x: Tensor) -> Tensor:
    """FIR upsampling by two of an image [N, C, H, W] of any range -> [N, C, 2H, 2W].

    The FIR with gain 4 is bilinear interpolation with zeros outside, hence the pad and the crop.
    """
    h, w = x.shape[-2:]
    grown = F.interpolate(F.pad(x, (1, 1, 1, 1)), scale_factor=2, mode="bilinear", align_corners=False)
    return grown[:, :, 2 : 2 + 2 * h, 2 : 2 + 2 * w]


class Linear(nn.Module):
    """Fully connected layer with equalised learning rate (Karras et al. 2018): stored randn / lr, used at
    weight * lr / sqrt(fan_in).
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        activate: bool = False,
        lr_multiplier: float = 1.0,
        bias_init: float = 0.0,
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs) / lr_multiplier)
        self.bias = nn.Parameter(torch.full((outputs,), bias_init / lr_multiplier))
        self.activate = activate
        self.weight_gain = lr_multiplier / math.sqrt(inputs)
        self.bias_gain = lr_multiplier

    def forward(self, x: Tensor) -> Tensor:
        """[N, inputs] -> [N, outputs]."""
        gain = GAIN if self.activate else 1.0
        x = torch.addmm(self.bias, x, self.weight.t(), beta=self.bias_gain * gain, alpha=self.weight_gain * gain)
        return F.leaky_relu_(x, SLOPE) if self.activate else x


class Conv(nn.Module):
    """Discriminator convolution with equalised learning rate (Karras et al. 2018), optional FIR downsampling and leaky
    ReLU.

    `gain` is an extra constant factor of the output (the residual sum's sqrt 1/2).
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int,
        down: bool = False,
        bias: bool = True,
        activate: bool = True,
        gain: float = 1.0,
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs, kernel, kernel))
        self.bias = nn.Parameter(torch.zeros(outputs)) if bias else None
        self.register_buffer("resample_filter", fir_filter())
        self.resample_filter: Tensor
        self.down = down
        self.activate = activate
        self.gain = gain * (GAIN if activate else 1.0)
        self.weight_gain = 1 / math.sqrt(inputs * kernel * kernel)

    def forward(self, x: Tensor, dtype: torch.dtype | None = None) -> Tensor:
        """[N, inputs, H, W] -> [N, outputs, H, W], or half of H and W with `down`; in `dtype` where given."""
        gain = self.weight_gain * self.gain
        bias = None if self.bias is None else self.bias * self.gain
        pad = self.weight.shape[-1] // 2
        if self.down:
            # Before a 1x1 kernel only every second pixel of the FIR counts; else it takes the pads of both.
            x = halve(x, self.resample_filter) if pad == 0 else blur(x, self.resample_filter, pad + 1)
            x = F.conv2d(x, self.weight * gain, bias, stride=1 if pad == 0 else 2)
        else:
            x = F.conv2d(x, self.weight * gain, bias, padding=pad)
        x = x if dtype is None else x.to(dtype)
        return F.leaky_relu_(x, SLOPE) if self.activate else x


class StyledConv(nn.Module):
    """Modulated 3x3 convolution, noise, bias and leaky ReLU: one layer of the synthesis network."""

    def __init__(self, inputs: int, outputs: int, w_dim: int, resolution: int, up: bool = False) -> None:
        super().__init__()
        self.affine = Linear(w_dim, inputs, bias_init=1.0)
        self.weight = nn.Parameter(torch.randn(outputs, inputs, 3, 3))
        self.bias = nn.Parameter(torch.zeros(outputs))
        self.noise_strength = nn.Parameter(torch.zeros([]))
        self.register_buffer("noise_const", torch.randn(resolution, resolution))
        self.register_buffer("resample_filter", fir_filter())
        self.noise_const: Tensor
        self.resample_filter: Tensor
        self.up = up
        self.resolution = resolution

    def forward(self, x: Tensor, style: Tensor, noise: Tensor | None) -> Tensor:
        """x [N, inputs, H, W], style [N, inputs], noise [N or 1, 1, R, R] or None -> [N, outputs, R, R]."""
        energy = self.weight.square().sum((2, 3))
        demodulation = torch.rsqrt(style.square() @ energy.t() + DEMOD_EPS)
        x = channel_scale(x, style)
        if self.up:
            # The official layers up-sample by a transposed convolution with the kernel as stored; gain 4 makes up
            # for the inserted zeros.
            x = F.conv_transpose2d(x, self.weight.transpose(0, 1), stride=2)
            x = blur(x, self.resample_filter, 1, gain=4.0)
        else:
            x = F.conv2d(x, self.weight, padding=1)
        x = channel_scale_bias(x, demodulation * GAIN, self.bias * GAIN)
        if noise is not None:
            x = _AddNoise.apply(x, noise, self.noise_strength * GAIN)
        return F.leaky_relu_(x, SLOPE)


class ToRGB(nn.Module):
    """Modulated 1x1 convolution to RGB without demodulation."""

    def __init__(self, inputs: int, w_dim: int) -> None:
        super().__init__()
        self.affine = Linear(w_dim, inputs, bias_init=1.0)
        self.weight = nn.Parameter(torch.randn(3, inputs, 1, 1))
        self.bias = nn.Parameter(torch.zeros(3))
        self.weight_gain = 1 / math.sqrt(inputs)

    def forward(self, x: Tensor, style: Tensor) -> Tensor:
        """x [N, inputs, H, W], style [N, inputs] -> RGB [N, 3, H, W].

        With three outputs one weight per sample is cheaper than another pass over the activations. In float32 even
        under autocast: bf16 steps of 1/256 would show as banding, which D can tell from photos.
        """
        n, _, h, w = x.shape
        weight = (style * self.weight_gain)[:, None, :] * self.weight[:, :, 0, 0]
        with torch.autocast(x.device.type, enabled=False):
            rgb = _PixelsTimesWeight.apply(x.permute(0, 2, 3, 1).reshape(n, h * w, -1), weight)
        return rgb.transpose(1, 2).reshape(n, 3, h, w) + self.bias[:, None, None]
