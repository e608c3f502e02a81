"""The network: tiers keep their limits, masks leave pixels alone, folding changes nothing."""

from pathlib import Path

import pytest
import torch
from torch import nn

from stages.common.errors import ModelFileError
from stages.common.modelfile import save_model
from stages.mobile.models import load_mobile, save_mobile
from stages.mobile.network import TIERS, Deployed, MobileNet, count_macs, parameter_count, settle_to_half

from .conftest import lively


@pytest.mark.parametrize("tier", TIERS)
def test_tiers_keep_their_compute_limit(tier: str) -> None:
    net = MobileNet(tier)
    macs = count_macs(net) / 1e6
    assert 0.7 * TIERS[tier].limit < macs <= TIERS[tier].limit
    assert parameter_count(net) < 1e6


def test_macs_of_known_layers() -> None:
    net = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.Conv2d(8, 8, 3, 1, 1, groups=8), nn.ConvTranspose2d(8, 4, 4, 2, 1))
    assert count_macs(net, 16) == 8 * 8 * 27 * 8 + 8 * 8 * 9 * 8 + 8 * 8 * 16 * 8 * 4


@pytest.mark.parametrize("size", [(32, 32), (48, 80)])
def test_any_multiple_of_sixteen(size: tuple[int, int]) -> None:
    styled, mask = lively()(torch.rand(2, 3, *size) * 2 - 1)
    assert styled.shape == (2, 3, *size) and mask.shape == (2, 1, *size)
    assert styled.abs().max() <= 1 and mask.min() >= 0 and mask.max() <= 1


def test_the_place_is_known_at_every_size() -> None:
    net = lively()
    with torch.no_grad():
        net.place.zero_()[..., :8, :] = 1.0  # the upper half
    for height, width in ((4, 4), (16, 16), (64, 40)):
        seen = net.with_place(torch.zeros(2, net.place.shape[1], height, width))
        assert seen.shape[2:] == (height, width)
        assert (seen[..., : height // 4, :] > 0.999).all() and (seen[..., -(height // 4) :, :] < 0.001).all()
    flat = torch.zeros(1, 3, 128, 128)
    away_from_borders = (slice(None), slice(None), slice(16, 112), slice(16, 112))
    drawn = net.stylize(flat).content[away_from_borders]
    assert (drawn[..., :40, :].mean((2, 3)) - drawn[..., -40:, :].mean((2, 3))).abs().max() > 1e-3


def test_closed_mask_leaves_every_pixel_exactly() -> None:
    net = lively()
    with torch.no_grad():
        net.head.weight[:, 3] = 0
        net.head.bias[3] = -4.0
    photo = torch.rand(2, 3, 32, 32) * 2 - 1
    styled, mask = net(photo)
    assert mask.max() == 0 and torch.equal(styled, photo)


def test_deployed_equals_trained() -> None:
    net, photo = lively("m"), torch.rand(2, 3, 64, 64) * 2 - 1
    with torch.no_grad():
        for want, have in zip(net(photo), Deployed(net)(photo), strict=True):
            assert torch.allclose(want, have, atol=2e-5)
    assert not any(isinstance(m, nn.BatchNorm2d) for m in Deployed(net).modules())
    assert any(isinstance(m, nn.BatchNorm2d) for m in net.modules())  # the original stays as it was


def test_settled_weights_are_half_precision_numbers_once_folded() -> None:
    net, photo = lively("m"), torch.rand(2, 3, 64, 64) * 2 - 1
    settled = settle_to_half(net)
    with torch.no_grad():
        for want, have in zip(net(photo), settled(photo), strict=True):
            assert torch.allclose(want, have, atol=2e-2)
    for parameter in Deployed(settled).parameters():
        assert torch.allclose(parameter, parameter.half().float(), rtol=1e-6, atol=0)


def test_model_file_round_trip_and_refusals(tmp_path: Path) -> None:
    net, photo = lively(), torch.rand(1, 3, 32, 32)
    save_mobile(tmp_path / "a.safetensors", net, 32, {"style": "toy"})
    loaded, file = load_mobile(tmp_path / "a.safetensors")
    assert file.meta["style"] == "toy" and file.config["resolution"] == 32
    assert torch.equal(loaded(photo)[0], net(photo)[0])
    save_model(tmp_path / "b.safetensors", "translator", net.state_dict(), net.config(), {})
    with pytest.raises(ModelFileError, match="translator"):
        load_mobile(tmp_path / "b.safetensors")
    older = {key: value for key, value in file.config.items() if key != "place"}
    save_model(tmp_path / "o.safetensors", "mobile", net.state_dict(), older, {})
    with pytest.raises(ModelFileError, match="train it again"):
        load_mobile(tmp_path / "o.safetensors")
    save_model(tmp_path / "c.safetensors", "mobile", net.state_dict(), {"tier": "xxl", "resolution": 32}, {})
    with pytest.raises(ModelFileError, match="tier"):
        load_mobile(tmp_path / "c.safetensors")
