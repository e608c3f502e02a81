"""StyleGAN2 generator and residual discriminator (Karras et al. 2020a), 32-1024 px.

Parameter and buffer names are those of the official checkpoints, see `stages.generate.weights`.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from stages.generate.layers import Conv, Linear, StyledConv, ToRGB, fir_filter, upsample_rgb

NoiseMode = Literal["const", "random", "none"]
MAPPING_LR = 0.01  # learning-rate multiplier of the mapping network (paper)


@dataclass(frozen=True)
class Architecture:
    """Everything that fixes the shapes of a generator and its discriminator."""

    resolution: int
    z_dim: int
    w_dim: int
    mapping_layers: int
    channel_base: int
    channel_max: int

    def __post_init__(self) -> None:
        if self.resolution < 8 or self.resolution & (self.resolution - 1):
            raise ValueError(f"resolution must be a power of two of at least 8, got {self.resolution}")

    @property
    def resolutions(self) -> list[int]:
        """4, 8, ... resolution."""
        return [2**i for i in range(2, int(math.log2(self.resolution)) + 1)]

    @property
    def num_ws(self) -> int:
        """Number of w vectors: 2 log2(resolution) - 2."""
        return 2 * int(math.log2(self.resolution)) - 2

    def channels(self, resolution: int) -> int:
        """Feature channels at a resolution."""
        return min(self.channel_base // resolution, self.channel_max)

    def as_dict(self) -> dict[str, int]:
        """For the header of a model file."""
        return asdict(self)

    @classmethod
    def from_dict(cls, config: Mapping[str, Any]) -> "Architecture":
        """From the header of a model file."""
        return cls(**{name: int(config[name]) for name in cls.__dataclass_fields__})


class MappingNetwork(nn.Module):
    """z -> w: normalisation and fully connected layers with a hundredth of the learning rate."""

    def __init__(self, arch: Architecture) -> None:
        super().__init__()
        self.arch = arch
        for i in range(arch.mapping_layers):
            inputs = arch.z_dim if i == 0 else arch.w_dim
            setattr(self, f"fc{i}", Linear(inputs, arch.w_dim, activate=True, lr_multiplier=MAPPING_LR))
        self.register_buffer("w_avg", torch.zeros(arch.w_dim))
        self.w_avg: Tensor

    def w(self, z: Tensor) -> Tensor:
        """z [N, z_dim] -> w [N, w_dim], without truncation."""
        with torch.autocast(z.device.type, enabled=False):
            x = z.float()
            x = x * torch.rsqrt(x.square().mean(1, keepdim=True) + 1e-8)
            for i in range(self.arch.mapping_layers):
                x = getattr(self, f"fc{i}")(x)
        return x

    def broadcast(self, w: Tensor, truncation_psi: float | Tensor = 1.0) -> Tensor:
        """w [N, w_dim] -> ws [N, num_ws, w_dim], pulled towards w_avg by psi (a number, or one per layer
        [num_ws]).
        """
        ws = w.unsqueeze(1).expand(-1, self.arch.num_ws, -1)
        if isinstance(truncation_psi, Tensor):
            return torch.lerp(self.w_avg.expand_as(ws), ws, truncation_psi.to(ws)[None, :, None])
        return ws if truncation_psi == 1 else torch.lerp(self.w_avg.expand_as(ws), ws, truncation_psi)

    def forward(self, z: Tensor, truncation_psi: float | Tensor = 1.0) -> Tensor:
        """z [N, z_dim] ~ N(0, 1) -> ws [N, num_ws, w_dim] float32."""
        return self.broadcast(self.w(z), truncation_psi)

    @torch.no_grad()
    def track(self, w: Tensor, beta: float = 0.995) -> None:
        """Move w_avg towards the batch mean of w [N, w_dim]; training calls this once per generator step."""
        self.w_avg.lerp_(w.detach().float().mean(0), 1 - beta)


class SynthesisBlock(nn.Module):
    """The layers of one resolution; the 4x4 block starts from a learned constant and has one convolution."""

    def __init__(self, arch: Architecture, resolution: int) -> None:
        super().__init__()
        outputs = arch.channels(resolution)
        self.register_buffer("resample_filter", fir_filter())
        if resolution == 4:
            self.const = nn.Parameter(torch.randn(outputs, 4, 4))
        else:
            inputs = arch.channels(resolution // 2)
            self.conv0 = StyledConv(inputs, outputs, arch.w_dim, resolution, up=True)
        self.conv1 = StyledConv(outputs, outputs, arch.w_dim, resolution)
        self.torgb = ToRGB(outputs, arch.w_dim)


class Synthesis(nn.Module):
    """ws -> image, with skip connections in RGB."""

    def __init__(self, arch: Architecture) -> None:
        super().__init__()
        self.arch = arch
        for resolution in arch.resolutions:
            setattr(self, f"b{resolution}", SynthesisBlock(arch, resolution))

    def block(self, resolution: int) -> SynthesisBlock:
        """The block of a resolution."""
        return getattr(self, f"b{resolution}")

    def layers(self) -> list[tuple[str, nn.Module, int]]:
        """(name, layer, index of its w) of every modulated layer in order; a toRGB shares its w with the
        next conv0.
        """
        out: list[tuple[str, nn.Module, int]] = []
        index = 0
        for resolution in self.arch.resolutions:
            block = self.block(resolution)
            if resolution > 4:
                out.append((f"b{resolution}.conv0", block.conv0, index))
                index += 1
            out.append((f"b{resolution}.conv1", block.conv1, index))
            index += 1
            out.append((f"b{resolution}.torgb", block.torgb, index))
        return out

    def styles(self, ws: Tensor) -> dict[str, Tensor]:
        """ws [N, num_ws, w_dim] -> {"b4.conv1": [N, C], "b4.torgb": [N, C], "b8.conv0": ...} in float32."""
        if ws.ndim != 3 or ws.shape[1:] != (self.arch.num_ws, self.arch.w_dim):
            raise ValueError(f"ws must be [N, {self.arch.num_ws}, {self.arch.w_dim}], got {list(ws.shape)}")
        with torch.autocast(ws.device.type, enabled=False):
            return {name: layer.affine(ws[:, i].float()) for name, layer, i in self.layers()}  # type: ignore[operator]

    def forward(
        self,
        ws: Tensor | None,
        noise_mode: NoiseMode = "random",
        styles: Mapping[str, Tensor] | None = None,
        return_features: bool = False,
        noise: Mapping[str, Tensor] | None = None,
    ) -> Any:
        """ws [N, num_ws, w_dim] -> image [N, 3, R, R] float32, about [-1, 1].

        Args:
            ws: per-layer w; may be None when `styles` is given.
            noise_mode: "const" uses the stored noise maps, "random" the global generator, "none" no noise.
            styles: replaces the style parameters computed from ws (see `styles`).
            return_features: also return {resolution: activations [N, C, r, r]}.
            noise: maps [N, 1, r, r] by layer name that replace the mode's (inversion optimises them).
        """
        if styles is None:
            if ws is None:
                raise ValueError("synthesis needs ws or styles")
            styles = self.styles(ws)
        n = styles["b4.conv1"].shape[0]
        x = self.block(4).const.expand(n, -1, -1, -1).contiguous(memory_format=torch.channels_last)
        image: Tensor | None = None
        features: dict[int, Tensor] = {}
        for resolution in self.arch.resolutions:
            block, name = self.block(resolution), f"b{resolution}"
            if resolution > 4:
                x = block.conv0(
                    x, styles[f"{name}.conv0"], self._noise(f"{name}.conv0", block.conv0, n, noise_mode, noise)
                )
            x = block.conv1(x, styles[f"{name}.conv1"], self._noise(f"{name}.conv1", block.conv1, n, noise_mode, noise))
            rgb = block.torgb(x, styles[f"{name}.torgb"])
            image = rgb if image is None else upsample_rgb(image) + rgb
            features[resolution] = x
        return (image, features) if return_features else image

    @staticmethod
    def _noise(
        name: str, layer: StyledConv, n: int, mode: NoiseMode, given: Mapping[str, Tensor] | None
    ) -> Tensor | None:
        if given is not None:
            return given[name]
        if mode == "none":
            return None
        if mode == "const":
            return layer.noise_const[None, None]
        return torch.randn(n, 1, layer.resolution, layer.resolution, device=layer.noise_const.device)


class Generator(nn.Module):
    """z -> image. `mapping` and `synthesis` are called separately where w matters."""

    def __init__(self, arch: Architecture) -> None:
        super().__init__()
        self.arch = arch
        self.mapping = MappingNetwork(arch)
        self.synthesis = Synthesis(arch)

    def styles(self, ws: Tensor) -> dict[str, Tensor]:
        """Per-layer style parameters of ws [N, num_ws, w_dim], see `Synthesis.styles`."""
        return self.synthesis.styles(ws)

    def forward(self, z: Tensor, truncation_psi: float | Tensor = 1.0, noise_mode: NoiseMode = "random") -> Tensor:
        """z [N, z_dim] -> image [N, 3, R, R] float32, about [-1, 1]."""
        return self.synthesis(self.mapping(z, truncation_psi), noise_mode)


class DiscriminatorBlock(nn.Module):
    """Residual block that halves the resolution; the first one also turns RGB into features."""

    def __init__(self, arch: Architecture, resolution: int) -> None:
        super().__init__()
        inputs, outputs = arch.channels(resolution), arch.channels(resolution // 2)
        self.register_buffer("resample_filter", fir_filter())
        self.fromrgb = Conv(3, inputs, 1) if resolution == arch.resolution else None
        self.conv0 = Conv(inputs, inputs, 3)
        self.conv1 = Conv(inputs, outputs, 3, down=True, gain=math.sqrt(0.5))
        self.skip = Conv(inputs, outputs, 1, down=True, bias=False, activate=False, gain=math.sqrt(0.5))

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, r, r] -> [N, C', r/2, r/2]."""
        if self.fromrgb is not None:
            device = x.device.type
            dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else x.dtype
            # In float32: the images' gradient, summed over all pixels for the toRGB biases, drowned in bf16 rounding
            # (cosine 0.2 to the exact one).
            with torch.autocast(x.device.type, enabled=False):
                x = self.fromrgb(x, dtype)
        return self.skip(x) + self.conv1(self.conv0(x))


class DiscriminatorEpilogue(nn.Module):
    """Minibatch standard deviation (groups of 4, one channel), convolution and two linear layers at 4x4."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = Conv(channels + 1, channels, 3)
        self.fc = Linear(channels * 16, channels, activate=True)
        self.out = Linear(channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, 4, 4] -> logits [N, 1] float32."""
        with torch.autocast(x.device.type, enabled=False):
            x = x.float()
            x = self.conv(torch.cat([x, minibatch_std(x)], dim=1))
            return self.out(self.fc(x.flatten(1)))


def minibatch_std(x: Tensor, group: int = 4) -> Tensor:
    """Mean standard deviation within groups of samples, one plane per sample: [N, C, H, W] -> [N, 1, H, W].

    The minibatch statistic of Karras et al. 2018, in groups as in StyleGAN2. The group is the largest divisor of N up
    to `group`.
    """
    n, c, h, w = x.shape
    size = next(g for g in range(min(group, n), 0, -1) if n % g == 0)
    y = x.reshape(size, n // size, c, h, w)
    y = (y - y.mean(0)).square().mean(0)
    y = (y + 1e-8).sqrt().mean((1, 2, 3))
    return y.reshape(-1, 1, 1, 1).repeat(size, 1, h, w)


class Discriminator(nn.Module):
    """image -> realness logit."""

    def __init__(self, arch: Architecture) -> None:
        super().__init__()
        self.arch = arch
        for resolution in arch.resolutions[:0:-1]:
            setattr(self, f"b{resolution}", DiscriminatorBlock(arch, resolution))
        self.b4 = DiscriminatorEpilogue(arch.channels(4))

    def features(self, images: Tensor) -> dict[int, Tensor]:
        """Outputs of the residual blocks for images [N, 3, R, R] in [-1, 1]: {r: [N, C, r, r]} from R/2 down to 4;
        usable as a perceptual distance.
        """
        r = self.arch.resolution
        if images.ndim != 4 or images.shape[1:] != (3, r, r):
            raise ValueError(f"images must be [N, 3, {r}, {r}], got {list(images.shape)}")
        x = images.contiguous(memory_format=torch.channels_last)
        out: dict[int, Tensor] = {}
        for resolution in self.arch.resolutions[:0:-1]:
            x = getattr(self, f"b{resolution}")(x)
            out[resolution // 2] = x
        return out

    def layers(self) -> list[nn.Module]:
        """Layers counted from the input (fromrgb, then conv0, conv1, skip per block, conv, fc, out):
        freeze-D's order.
        """
        out: list[nn.Module] = []
        for resolution in self.arch.resolutions[:0:-1]:
            block = getattr(self, f"b{resolution}")
            out += [layer for layer in (block.fromrgb, block.conv0, block.conv1, block.skip) if layer is not None]
        return [*out, self.b4.conv, self.b4.fc, self.b4.out]

    def forward(self, images: Tensor) -> Tensor:
        """images [N, 3, R, R] in [-1, 1] -> logits [N, 1] float32; positive means real."""
        return self.b4(self.features(images)[4])
