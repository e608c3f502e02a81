"""The mobile network: an encoder-decoder of separable convolutions whose mask head leaves backgrounds untouched.

Built from what runs fast in MNN (``stylefactory bench ops``): 3×3 depthwise + 1×1 convolutions, batch norm that is
folded at export, ReLU6, bilinear up-sampling of few channels, additive skips (no concatenation), and one 4×4
stride-2 transposed convolution straight to the four output channels, so that no feature map with more than four
channels ever exists at full resolution. That last step is where the time goes: up-sampling 16 channels and
convolving them there cost twice as much. A learned map of the place, added once at a quarter of the side, tells the
convolutions where in the aligned face they are.
"""

import copy
import itertools
import math
from dataclasses import asdict, dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

TierName = Literal["xs", "s", "m", "l"]

STRIDE = 16  # sides must be multiples of it: four halvings
LOW_PASS_NOISE = 0.02  # standard deviation; the channels of one layer must not start alike
PLACE_SIDE = 16  # cells of the map of the place along each side: a quarter of 64 px
PLACE_NOISE = 0.02  # standard deviation of its start
MASK_SLOPE = 6.0  # logits that take the mask from 0 to 1, as in the hard sigmoid of MobileNetV3 (Howard et al. 2019)


@dataclass(frozen=True)
class Tier:
    """Widths and depths at 1/2, 1/4, 1/8, 1/16 of the side.

    Attributes:
        limit: multiply-accumulates allowed at 256², millions.
        widths: channels per level.
        encoder: residual blocks per level on the way down (the last is the bottleneck).
        decoder: residual blocks at 1/2, 1/4, 1/8 on the way up.
    """

    limit: float
    widths: tuple[int, int, int, int]
    encoder: tuple[int, int, int, int]
    decoder: tuple[int, int, int]


TIERS: dict[TierName, Tier] = {
    "xs": Tier(60, (8, 24, 64, 96), (0, 1, 1, 2), (1, 1, 2)),
    "s": Tier(120, (16, 32, 80, 128), (0, 1, 2, 3), (1, 2, 2)),
    "m": Tier(250, (16, 48, 96, 160), (0, 1, 3, 4), (2, 2, 3)),  # three more fine blocks: 221 M, 9.0 instead of 7.3 ms
    "l": Tier(500, (24, 64, 144, 224), (1, 3, 4, 4), (3, 3, 4)),
}


def conv_bn(inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> list[nn.Module]:
    """Convolution without bias + batch norm; zero padding keeps the side (divided by ``stride``)."""
    conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
    return [conv, nn.BatchNorm2d(outputs)]


class Separable(nn.Sequential):
    """3×3 depthwise → BN → ReLU6 → 1×1 → BN → ReLU6 (MobileNet, Howard et al. 2017); [N, C, H, W] to [N, C', h, w]."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        depthwise = conv_bn(inputs, inputs, 3, stride, groups=inputs)
        super().__init__(*depthwise, nn.ReLU6(), *conv_bn(inputs, outputs, 1), nn.ReLU6())


class Residual(nn.Module):
    """x + separable convolution of x, last activation left out so that the sum may also fall; [N, C, H, W] to the same.

    A residual block that ends without an activation: MobileNetV2 (Sandler et al. 2018).
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.branch = nn.Sequential(
            *conv_bn(channels, channels, 3, groups=channels), nn.ReLU6(), *conv_bn(channels, channels, 1)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.branch(x)


class Rise(nn.Module):
    """To the next finer level: 1×1 to its width first (cheaper at the small side), bilinear ×2, plus the skip.

    Features [N, C, h, w] and skip [N, C', 2h, 2w] to the skip's shape.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.project = nn.Sequential(*conv_bn(inputs, outputs, 1))

    def forward(self, x: torch.Tensor, skip: torch.Tensor) -> torch.Tensor:
        up = F.interpolate(self.project(x), scale_factor=2.0, mode="bilinear", align_corners=False)
        return up + skip


@dataclass
class Stylized:
    """What training looks at.

    Attributes:
        styled: image and content blended by the mask, float [N, 3, H, W]; in [-1, 1] in eval mode.
        mask: [N, 1, H, W] in [0, 1], exactly 0 on what passes untouched.
        logits: [N, 1, H, W], the mask before the hard sigmoid.
        content: [N, 3, H, W], the drawn face before blending.
    """

    styled: torch.Tensor
    mask: torch.Tensor
    logits: torch.Tensor
    content: torch.Tensor


class MobileNet(nn.Module):
    """Photo → styled picture of the same size; the background is the photo's own pixels.

    Args:
        tier: one of :data:`TIERS`.

    ``forward`` takes float [N, 3, H, W] in [-1, 1] with H and W multiples of 16 and returns (styled [N, 3, H, W]
    in [-1, 1], mask [N, 1, H, W] in [0, 1]). The mask comes from the hard sigmoid of MobileNetV3 (Howard et al. 2019).
    """

    def __init__(self, tier: TierName = "m") -> None:
        super().__init__()
        self.tier = tier
        shape = TIERS[tier]
        widths = shape.widths
        self.stem = nn.Sequential(*conv_bn(3, widths[0], 3, stride=2), nn.ReLU6())
        self.place = nn.Parameter(PLACE_NOISE * torch.randn(1, widths[1], PLACE_SIDE, PLACE_SIDE))
        self.downs = nn.ModuleList(Separable(widths[i], widths[i + 1], stride=2) for i in range(3))
        self.encoder = nn.ModuleList(_blocks(widths[i], shape.encoder[i]) for i in range(4))
        self.rises = nn.ModuleList(Rise(widths[i + 1], widths[i]) for i in range(3))
        self.decoder = nn.ModuleList(_blocks(widths[i], shape.decoder[i]) for i in range(3))
        self.head = nn.ConvTranspose2d(widths[0], 4, 4, 2, 1)
        with torch.no_grad():
            # starts as a 1×1 convolution followed by bilinear up-sampling: a random start leaves a checkerboard that
            # short training does not get rid of
            ramp = torch.tensor([1.0, 3.0, 3.0, 1.0]) / 4
            self.head.weight.copy_(self.head.weight.mean((2, 3), keepdim=True) * 4 * torch.outer(ramp, ramp))
            nn.init.zeros_(self.head.bias)  # type: ignore[arg-type]
            for module in self.downs.modules():
                if isinstance(module, nn.Conv2d) and module.stride == (2, 2):
                    _low_pass(module)

    def config(self) -> dict[str, Any]:
        """Arguments that rebuild the network, for the model file."""
        return {"tier": self.tier, "shape": asdict(TIERS[self.tier]), "place": PLACE_SIDE}

    def features(self, image: torch.Tensor) -> torch.Tensor:
        """Decoder features [N, widths[0], H/2, W/2] of image [N, 3, H, W] in [-1, 1]."""
        x = self.encoder[0](self.stem(image))
        skips = [x]
        for level, (down, blocks) in enumerate(zip(self.downs, list(self.encoder)[1:], strict=True)):
            x = down(x)
            x = blocks(x if level else self.with_place(x))
            skips.append(x)
        for level in (2, 1, 0):
            x = self.decoder[level](self.rises[level](x, skips[level]))
        return x

    def with_place(self, x: torch.Tensor) -> torch.Tensor:
        """Adds the map of the place, stretched to the size of the features ``x`` [N, widths[1], h, w].

        As in stage 2 place says most about what to draw, and strided convolutions with zero borders hardly know it. On
        the demo's pairs it took the error on held-out ones from 0.0505 to 0.0467 and the checkered pupils away.
        """
        place = F.interpolate(self.place, size=x.shape[2:], mode="bilinear", align_corners=False)
        return x + place.to(x.dtype)

    def stylize(self, image: torch.Tensor) -> Stylized:
        """All parts for image [N, 3, H, W] in [-1, 1], for training; content is not clipped in training mode so that
        its gradient never dies.
        """
        out = self.head(self.features(image)).float()
        content, logits = out[:, :3], out[:, 3:]
        mask = (logits * (1 / MASK_SLOPE) + 0.5).clamp(0, 1)
        content = content if self.training else content.clamp(-1, 1)
        return Stylized(image + mask * (content - image), mask, logits, content)

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        parts = self.stylize(image)
        return parts.styled, parts.mask


def _low_pass(depthwise: nn.Conv2d) -> None:
    """Starts a halving as the binomial filter plus a little noise.

    What random kernels take from every second pixel depends on where the grid falls, and the drawing trembles with it
    (Zhang 2019, "Making convolutional networks shift-invariant again"); training keeps most of the filter.
    """
    ramp = torch.tensor([1.0, 2.0, 1.0]) / 4
    depthwise.weight.copy_(torch.outer(ramp, ramp) + LOW_PASS_NOISE * torch.randn_like(depthwise.weight))


def _blocks(channels: int, count: int) -> nn.Sequential:
    return nn.Sequential(*(Residual(channels) for _ in range(count)))


class Deployed(nn.Module):
    """The network as exported: batch norm folded, the mask's scale folded into the head, few elementwise steps.

    One clip to [-1, 1] serves content and mask: at full resolution every pass over the picture costs 0.1 to 0.4 ms.
    ``forward`` takes and returns what the network's does in eval mode.
    """

    def __init__(self, net: MobileNet) -> None:
        super().__init__()
        self.net = fold_batch_norm(net)
        head = self.net.head
        with torch.no_grad():
            head.weight[:, 3] *= 2 / MASK_SLOPE
            assert head.bias is not None
            head.bias[3] *= 2 / MASK_SLOPE

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        out = self.net.head(self.net.features(image)).clamp(-1, 1)
        mask = out[:, 3:] * 0.5 + 0.5
        return image + mask * (out[:, :3] - image), mask


def fold_batch_norm(net: nn.Module) -> Any:
    """An eval-mode float32 copy of ``net`` with every convolution + batch norm pair as one convolution."""
    net = copy.deepcopy(net).float().eval().requires_grad_(False)
    for module in list(net.modules()):
        if isinstance(module, nn.Sequential):
            layers: list[nn.Module] = []
            for layer in module:
                if isinstance(layer, nn.BatchNorm2d) and layers and isinstance(layers[-1], nn.Conv2d):
                    layers[-1] = fuse_conv_bn_eval(layers[-1], layer)
                else:
                    layers.append(layer)
            for name in list(module._modules):
                del module._modules[name]
            for i, layer in enumerate(layers):
                module.add_module(str(i), layer)
    return net


@torch.no_grad()
def settle_to_half(net: MobileNet) -> MobileNet:
    """An eval-mode float32 copy whose *folded* weights are float16 numbers, so that the fp16 file loses nothing.

    Every batch norm goes into its convolution, the result is rounded to float16, and the batch norm that stays is the
    identity plus the bias. Rounding moves single pixels by some thousandths once, here, where it is still measured,
    instead of between the network that was measured and the file on the phone.
    """
    net = copy.deepcopy(net).float().eval().requires_grad_(False)
    for module in list(net.modules()):
        if not isinstance(module, nn.Sequential):
            continue
        for conv, norm in itertools.pairwise(module):
            if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                folded = fuse_conv_bn_eval(conv, norm)
                assert folded.bias is not None and norm.running_mean is not None and norm.running_var is not None
                conv.weight.copy_(folded.weight.half())
                norm.bias.copy_(folded.bias.half())
                norm.running_mean.zero_()
                norm.running_var.fill_(1.0)
                norm.weight.fill_(math.sqrt(1.0 + norm.eps))
    net.place.copy_(net.place.half())
    assert net.head.bias is not None
    for parameter, channel in ((net.head.weight, 1), (net.head.bias, 0)):
        # the exported mask channel is scaled (see Deployed): what is rounded is the exported number
        scale = torch.tensor([1.0, 1.0, 1.0, 2 / MASK_SLOPE]).view(
            [-1 if i == channel else 1 for i in range(parameter.ndim)]
        )
        parameter.copy_((parameter * scale).half().float() / scale)
    return net


def parameter_count(net: nn.Module) -> int:
    """Trainable numbers."""
    return sum(parameter.numel() for parameter in net.parameters())


@torch.no_grad()
def count_macs(net: nn.Module, size: int = 256) -> int:
    """Multiply-accumulates of all convolutions for one [1, 3, size, size] input.

    A transposed convolution spends one kernel per input pixel, a convolution one per output pixel. Bilinear
    up-sampling, batch norm (folded) and elementwise steps are not counted, as is usual.
    """
    total = 0

    def count(module: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        nonlocal total
        if isinstance(module, nn.ConvTranspose2d):
            total += inputs[0][0, 0].numel() * module.weight.numel()
        elif isinstance(module, nn.Conv2d):
            total += output[0, 0].numel() * module.weight.numel()

    hooks = [m.register_forward_hook(count) for m in net.modules() if isinstance(m, nn.Conv2d | nn.ConvTranspose2d)]
    training = net.training
    try:
        net.eval()(torch.zeros(1, 3, size, size, device=next(net.parameters()).device))
    finally:
        net.train(training)
        for hook in hooks:
            hook.remove()
    return total
