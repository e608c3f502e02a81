"""StyleGAN2 the textbook way, on the parameters of our networks: the reference of the speed figures and of tests.

One modulated weight per sample in a grouped convolution, a separate FIR pass after (up) or before (down) the strided
convolution, float32, no folded gains. The same function as `stages.generate.networks`.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from stages.generate.layers import Conv, StyledConv, fir_filter
from stages.generate.networks import Discriminator, Generator, minibatch_std


def blur(x: Tensor, pads: tuple[int, int], gain: float = 1.0, stride: int = 1) -> Tensor:
    c = x.shape[1]
    kernel = (fir_filter().to(x) * gain).expand(c, 1, 4, 4)
    return F.conv2d(F.pad(x, (*pads, *pads)), kernel, groups=c, stride=stride)


def styled_conv(layer: StyledConv, x: Tensor, w: Tensor, noise: Tensor) -> Tensor:
    n, c = x.shape[:2]
    style = layer.affine(w)
    weight = layer.weight[None] * style[:, None, :, None, None]
    weight = weight * (weight.square().sum((2, 3, 4), keepdim=True) + 1e-8).rsqrt()
    o = weight.shape[1]
    if layer.up:
        kernel = weight.transpose(1, 2).reshape(n * c, o, 3, 3)
        x = F.conv_transpose2d(x.reshape(1, n * c, *x.shape[2:]), kernel, stride=2, groups=n)
        x = blur(x.reshape(n, o, *x.shape[2:]), (1, 1), gain=4)
    else:
        x = F.conv2d(x.reshape(1, n * c, *x.shape[2:]), weight.reshape(n * o, c, 3, 3), padding=1, groups=n)
        x = x.reshape(n, o, *x.shape[2:])
    x = x + noise * layer.noise_strength + layer.bias[:, None, None]
    return F.leaky_relu(x, 0.2) * math.sqrt(2)


def synthesis(G: Generator, ws: Tensor, noises: dict[str, Tensor] | None = None) -> Tensor:
    """ws -> images; random noise, or the given map per layer."""
    n, net = len(ws), G.synthesis
    x: Tensor = torch.empty(0)
    image: Tensor | None = None
    for name, layer, index in net.layers():
        w = ws[:, index]
        if isinstance(layer, StyledConv):
            if name == "b4.conv1":
                x = net.block(4).const.expand(n, -1, -1, -1)
            r = layer.resolution
            noise = torch.randn(n, 1, r, r) if noises is None else noises[name]
            x = styled_conv(layer, x, w, noise)
        else:
            weight = layer.weight[None] * (layer.affine(w) * layer.weight_gain)[:, None, :, None, None]
            c = x.shape[1]
            rgb = F.conv2d(x.reshape(1, n * c, *x.shape[2:]), weight.reshape(n * 3, c, 1, 1), groups=n)
            rgb = rgb.reshape(n, 3, *x.shape[2:]) + layer.bias[:, None, None]
            if image is not None:
                up = torch.zeros(n, 3, *rgb.shape[2:])
                up[:, :, ::2, ::2] = image
                image = blur(up, (2, 1), gain=4)
            image = rgb if image is None else image + rgb
    assert image is not None
    return image


def conv(layer: Conv, x: Tensor) -> Tensor:
    k = layer.weight.shape[-1]
    weight = layer.weight * layer.weight_gain
    if layer.down and k == 1:
        x = F.conv2d(blur(x, (1, 1), stride=2), weight)
    elif layer.down:
        x = F.conv2d(blur(x, (2, 2)), weight, stride=2)
    else:
        x = F.conv2d(x, weight, padding=k // 2)
    if layer.bias is not None:
        x = x + layer.bias[:, None, None]
    return F.leaky_relu(x, 0.2) * math.sqrt(2) if layer.activate else x


def discriminate(D: Discriminator, images: Tensor) -> Tensor:
    x = images
    for resolution in D.arch.resolutions[:0:-1]:
        block = getattr(D, f"b{resolution}")
        if block.fromrgb is not None:
            x = conv(block.fromrgb, x)
        x = (conv(block.skip, x) + conv(block.conv1, conv(block.conv0, x))) * math.sqrt(0.5)
    x = conv(D.b4.conv, torch.cat([x, minibatch_std(x)], 1))
    return D.b4.out(D.b4.fc(x.flatten(1)))
