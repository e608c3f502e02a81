"""Semantic directions in w: found from the generator alone (PCA, SeFa) or from an attribute measured on
samples.
"""

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.settings.generate import Direction
from stages.common.errors import SettingsError
from stages.common.seeding import generator as seeded
from stages.generate.latents import LatentSpace
from stages.generate.networks import Generator

ATTRIBUTE_SAMPLES = 1024


def pca(space: LatentSpace, component: int) -> Tensor:
    """Principal axis of w (GANSpace, Härkönen et al. 2020), scaled to one standard deviation: [w_dim]."""
    _check(component, len(space.axes), "pca")
    return space.axes[component] * space.scales[component]


def sefa(generator: Generator, space: LatentSpace, component: int, layers: list[int]) -> Tensor:
    """Eigenvector of the affine weights of the chosen layers (SeFa, Shen & Zhou 2021), one standard
    deviation: [w_dim].
    """
    _check(component, generator.arch.w_dim, "sefa")
    rows = [
        layer.affine.weight.detach().cpu()  # type: ignore[union-attr, operator]
        for _, layer, i in generator.synthesis.layers()
        if not layers or i in layers
    ]
    stacked = torch.cat([r / r.norm(dim=1, keepdim=True).clamp_min(1e-8) for r in rows]).double()
    axis = torch.linalg.eigh(stacked.T @ stacked).eigenvectors.flip(1)[:, component].float()
    along = (space.axes @ axis) * space.scales
    return axis * along.norm()


def attribute(generator: Generator, space: LatentSpace, values: NDArray[np.float64], ws: Tensor) -> Tensor:
    """Direction of w along which a measured value rises, one standard deviation of w long: [w_dim].

    values [N]: measured on the pictures of ws [N, w_dim]. Ridge regression on whitened w.
    """
    white = (ws - space.mean) @ space.axes.T / space.scales.clamp_min(space.scales.max() * 0.03)
    x = white.double()
    y = torch.from_numpy((values - values.mean()) / max(values.std(), 1e-9)).double()
    known = ~y.isnan()
    x, y = x[known], y[known]
    slope = torch.linalg.solve(x.T @ x + 0.05 * len(x) * torch.eye(x.shape[1], dtype=torch.float64), x.T @ y)
    slope = (slope / slope.norm().clamp_min(1e-9)).float()
    return (slope * space.scales) @ space.axes


def measure(name: str, images: NDArray[np.uint8]) -> NDArray[np.float64]:
    """An attribute of aligned faces uint8 [N, H, W, 3]: [N].

    brightness, red (red against green and blue), saturation of the skin area; sharpness: mean |Laplacian|;
    mouth_open: contrast of the mouth area's rows, which teeth and a dark gap raise.
    """
    _, h, w, _ = images.shape
    face = images[:, int(0.4 * h) : int(0.75 * h), int(0.3 * w) : int(0.7 * w)].astype(np.float64)
    if name == "brightness":
        return face.mean((1, 2, 3))
    if name == "red":
        return face[..., 0].mean((1, 2)) - face[..., 1:].mean((1, 2, 3))
    if name == "saturation":
        return (face.max(3) - face.min(3)).mean((1, 2))
    grey = images.astype(np.float64).mean(3)
    if name == "sharpness":
        inner = grey[:, 1:-1, 1:-1]
        around = grey[:, :-2, 1:-1] + grey[:, 2:, 1:-1] + grey[:, 1:-1, :-2] + grey[:, 1:-1, 2:]
        return np.abs(4 * inner - around).mean((1, 2))
    mouth = grey[:, int(0.64 * h) : int(0.82 * h), int(0.38 * w) : int(0.62 * w)]
    return mouth.max(1).mean(1) - mouth.min(1).mean(1)


@torch.no_grad()
def build(generator: Generator, space: LatentSpace, wanted: Mapping[str, Direction]) -> Tensor:
    """Every named direction as offsets [K, num_ws, w_dim], one standard deviation each, zero in layers it
    leaves alone.

    Raises:
        SettingsError: a component or layer that does not exist, or method attribute without an attribute.
    """
    from stages.common.images import to_uint8

    out = torch.zeros(len(wanted), generator.arch.num_ws, generator.arch.w_dim)
    for k, (name, direction) in enumerate(wanted.items()):
        wrong = [i for i in direction.layers if not 0 <= i < generator.arch.num_ws]
        if wrong:
            raise SettingsError(
                f"generate.directions.{name}.layers: {wrong[0]} is not one of 0..{generator.arch.num_ws - 1}"
            )
        if direction.method == "pca":
            axis = pca(space, direction.component)
        elif direction.method == "sefa":
            axis = sefa(generator, space, direction.component, direction.layers)
        else:
            if not direction.attribute:
                raise SettingsError(f"generate.directions.{name}.attribute: method attribute needs one")
            z = torch.randn(ATTRIBUTE_SAMPLES, generator.arch.z_dim, generator=seeded("attribute"))
            ws = generator.mapping(z.to(generator.mapping.w_avg.device), 0.9)
            images = np.concatenate([to_uint8(generator.synthesis(part, "const")) for part in ws.split(64)])
            axis = attribute(generator, space, measure(direction.attribute, images), ws[:, 0].cpu())
        layers = direction.layers or list(range(generator.arch.num_ws))
        out[k, layers] = axis
    return out


def _check(component: int, available: int, method: str) -> None:
    if component >= available:
        raise SettingsError(f"generate.directions: {method} has {available} components, not {component + 1}")
