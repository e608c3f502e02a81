"""Networks against the reference vectors and against plain formulas."""

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from stages.generate.layers import StyledConv, fir_filter, upsample_rgb
from stages.generate.networks import Architecture, Discriminator, Generator, minibatch_std
from stages.generate.weights import discriminator_from_official, generator_from_official

SMALL = Architecture(resolution=32, z_dim=16, w_dim=16, mapping_layers=2, channel_base=256, channel_max=16)


@pytest.fixture(scope="module")
def vectors(shared: Path) -> dict[str, np.ndarray]:
    with np.load(shared / "vectors" / "stylegan2_r32.npz") as file:
        return dict(file)


def part(vectors: dict[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    return {name[2:]: value for name, value in vectors.items() if name.startswith(prefix)}


def error(tensor: torch.Tensor, wanted: np.ndarray) -> float:
    return float(np.abs(tensor.numpy() - wanted).max())


@torch.no_grad()
def test_generator_gives_the_reference_images(vectors: dict[str, np.ndarray]) -> None:
    G = generator_from_official(part(vectors, "G."))
    z = torch.from_numpy(vectors["z"])
    assert error(G.mapping(z), vectors["ws"]) < 1e-4
    assert error(G.mapping(z, truncation_psi=0.7), vectors["ws_psi07"]) < 1e-4
    assert error(G(z, 1.0, "const"), vectors["img_noise_const"]) < 1e-4
    assert error(G(z, 0.7, "none"), vectors["img_psi07_noise_none"]) < 1e-4


@torch.no_grad()
def test_discriminator_gives_the_reference_logits(vectors: dict[str, np.ndarray]) -> None:
    D = discriminator_from_official(part(vectors, "D."))
    assert error(D(torch.from_numpy(vectors["d_in"])), vectors["d_out"]) < 1e-4


def test_names_are_the_official_ones(vectors: dict[str, np.ndarray]) -> None:
    G, D = generator_from_official(part(vectors, "G.")), discriminator_from_official(part(vectors, "D."))
    assert set(G.state_dict()) == set(part(vectors, "G."))
    assert set(D.state_dict()) == set(part(vectors, "D."))


@torch.no_grad()
def test_styles_replace_ws(vectors: dict[str, np.ndarray]) -> None:
    G = generator_from_official(part(vectors, "G."))
    ws = torch.from_numpy(vectors["ws"])
    image, features = G.synthesis(None, "const", styles=G.styles(ws), return_features=True)
    assert error(image, vectors["img_noise_const"]) < 1e-4
    assert {r: tuple(f.shape[2:]) for r, f in features.items()} == {r: (r, r) for r in (4, 8, 16, 32)}


@torch.no_grad()
@pytest.mark.parametrize("up", [False, True])
def test_styled_conv_equals_weight_modulation(up: bool) -> None:
    """Against the textbook form: one modulated, demodulated weight per sample, separate FIR."""
    torch.manual_seed(0)
    layer = StyledConv(6, 5, 4, 16 if up else 8, up=up)
    torch.nn.init.normal_(layer.bias)
    layer.noise_strength.fill_(0.3)
    x, style, noise = (
        torch.randn(3, 6, 8, 8),
        torch.randn(3, 6),
        torch.randn(3, 1, layer.resolution, layer.resolution),
    )
    weight = layer.weight[None] * style[:, None, :, None, None]
    weight = weight * (weight.square().sum((2, 3, 4), keepdim=True) + 1e-8).rsqrt()
    wanted = []
    for i in range(3):
        if up:
            y = F.conv_transpose2d(x[i : i + 1], weight[i].transpose(0, 1), stride=2)
            fir = (fir_filter() * 4).expand(5, 1, 4, 4)
            wanted.append(F.conv2d(F.pad(y, (1, 1, 1, 1)), fir, groups=5))
        else:
            wanted.append(F.conv2d(x[i : i + 1], weight[i], padding=1))
    y = torch.cat(wanted) + noise * 0.3 + layer.bias[:, None, None]
    torch.testing.assert_close(layer(x, style, noise), F.leaky_relu(y, 0.2) * 2**0.5, atol=1e-5, rtol=1e-4)


def test_rgb_upsampling_is_the_fir() -> None:
    x = torch.randn(2, 3, 5, 7, dtype=torch.float64)
    fir = (fir_filter().double() * 4).expand(3, 1, 4, 4)
    torch.testing.assert_close(upsample_rgb(x), F.conv_transpose2d(x, fir, stride=2, padding=1, groups=3))


@pytest.mark.parametrize("n,size", [(8, 4), (6, 3), (5, 1), (2, 2)])
def test_minibatch_std_groups(n: int, size: int) -> None:
    x = torch.randn(n, 3, 4, 4)
    groups = x.reshape(size, n // size, 3, 4, 4)
    wanted = (groups.var(0, unbiased=False) + 1e-8).sqrt().mean((1, 2, 3)).repeat(size)
    torch.testing.assert_close(minibatch_std(x)[:, 0, 0, 0], wanted)


def test_second_derivatives() -> None:
    """R1's and path length's gradients of gradients against finite differences."""
    torch.manual_seed(1)
    arch = Architecture(resolution=8, z_dim=4, w_dim=4, mapping_layers=1, channel_base=32, channel_max=4)
    D, G = Discriminator(arch).double(), Generator(arch).double()
    image = torch.randn(2, 3, 8, 8, dtype=torch.float64, requires_grad=True)
    features = lambda x: D.b8(x)  # noqa: E731  (the epilogue is float32 by design)
    assert torch.autograd.gradgradcheck(features, image, atol=1e-4)
    block = G.synthesis.b8.conv0
    x = torch.randn(2, 4, 4, 4, dtype=torch.float64, requires_grad=True)
    style = torch.randn(2, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradgradcheck(lambda a, b: block(a, b, None), (x, style), atol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize("resolution", [64, 1024])
def test_sizes(resolution: int) -> None:
    arch = Architecture(resolution, 16, 16, 1, channel_base=1024, channel_max=8)
    G, D = Generator(arch), Discriminator(arch)
    assert arch.num_ws == {64: 10, 1024: 18}[resolution]
    assert len(G.synthesis.layers()) == {64: 14, 1024: 26}[resolution]
    image = G(torch.randn(1, 16))
    assert image.shape == (1, 3, resolution, resolution) and D(image).shape == (1, 1)


@torch.no_grad()
def test_truncation_per_layer() -> None:
    G = Generator(SMALL)
    G.mapping.w_avg.normal_()
    z = torch.randn(3, 16)
    psi = torch.linspace(0, 1, SMALL.num_ws)
    ws = G.mapping(z, psi)
    torch.testing.assert_close(ws[:, 0], G.mapping.w_avg.expand(3, -1))
    torch.testing.assert_close(ws[:, -1], G.mapping.w(z))


def test_wrong_shapes_are_named() -> None:
    G, D = Generator(SMALL), Discriminator(SMALL)
    with pytest.raises(ValueError, match=r"\[N, 8, 16\]"):
        G.synthesis(torch.zeros(1, 7, 16))
    with pytest.raises(ValueError, match=r"\[N, 3, 32, 32\]"):
        D(torch.zeros(1, 3, 16, 16))
    with pytest.raises(ValueError, match="power of two"):
        Architecture(48, 16, 16, 1, 256, 16)
