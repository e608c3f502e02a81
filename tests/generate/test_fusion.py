"""Fusion: positions, schedules, which parent gives what, re-based mappings."""

import numpy as np
import pytest
import torch

from stages.common.errors import ModelFileError
from stages.generate.fuse import answering_to
from stages.generate.fusion import Schedule, blend, fuse, layer_position, map_latents, share_table
from stages.generate.networks import Architecture, Generator
from stages.generate.weights import generator_from_official

ARCH = Architecture(resolution=16, z_dim=8, w_dim=8, mapping_layers=2, channel_base=128, channel_max=8)


def net(seed: int) -> Generator:
    torch.manual_seed(seed)
    made = Generator(ARCH)
    for block in (made.synthesis.b4, made.synthesis.b8, made.synthesis.b16):
        block.conv1.noise_strength.data.fill_(0.1 * (seed + 1))
    return made.eval().requires_grad_(False)


def test_positions_count_two_per_resolution_from_the_4x4_layers() -> None:
    names = ["b4.const", "b4.conv1.weight", "b4.torgb.bias", "b8.conv0.weight", "b8.conv1.weight", "b64.conv1.bias"]
    found = [layer_position(f"synthesis.{name}") for name in names]
    assert [f[2] for f in found if f] == [0.0, 0.0, 0.0, 0.5, 1.0, 4.0]
    assert layer_position("mapping.fc0.weight") is None


@pytest.mark.parametrize("kind", ["smooth", "linear", "swap"])
def test_schedules_rise_from_low_to_high_with_half_at_mid(kind: str) -> None:
    schedule = Schedule(kind, mid=2.0, width=0.5)  # type: ignore[arg-type]
    shares = [schedule.share(4, p / 2) for p in range(9)]
    assert shares == sorted(shares)
    assert shares[0] < 0.02 and shares[-1] > 0.98
    assert schedule.share(4, 2.0) == pytest.approx(1.0 if kind == "swap" else 0.5)


def test_smooth_is_pinkneys_logistic() -> None:
    expected = 1 / (1 + np.exp(-(3.0 - 1.5) / 0.7))
    assert Schedule("smooth", 1.5, 0.7).share(32, 3.0) == pytest.approx(expected, abs=1e-9)


def test_per_resolution_shares_replace_the_curve() -> None:
    schedule = Schedule(mid=1.0, per_resolution={16: 0.25})
    assert schedule.share(16, 2.0) == 0.25
    assert schedule.share(8, 1.0) == pytest.approx(0.5)


def test_swap_gives_every_layer_whole_to_one_parent_including_4x4() -> None:
    a, b = net(0).state_dict(), net(1).state_dict()
    b |= {k: a[k] for k in a if k.startswith("mapping")}
    out = fuse(a, b, Schedule("swap", mid=1.0))
    assert torch.equal(out["synthesis.b4.const"], a["synthesis.b4.const"])
    assert torch.equal(out["synthesis.b8.conv0.weight"], a["synthesis.b8.conv0.weight"])
    assert torch.equal(out["synthesis.b8.conv1.weight"], b["synthesis.b8.conv1.weight"])
    assert torch.equal(out["synthesis.b8.torgb.weight"], b["synthesis.b8.torgb.weight"])
    reverse = fuse(a, b, Schedule("swap", mid=1.0), low="transferred")
    assert torch.equal(reverse["synthesis.b4.const"], b["synthesis.b4.const"])
    assert torch.equal(reverse["synthesis.b16.conv1.weight"], a["synthesis.b16.conv1.weight"])


def test_smooth_blends_4x4_and_noise_strength_but_keeps_noise_images() -> None:
    a, b = net(0).state_dict(), net(1).state_dict()
    out = fuse(a, b, Schedule(mid=0.0, width=1.0))
    torch.testing.assert_close(
        out["synthesis.b4.conv1.bias"], (a["synthesis.b4.conv1.bias"] + b["synthesis.b4.conv1.bias"]) / 2
    )
    share = Schedule(mid=0.0, width=1.0).share(8, 1.0)
    assert float(out["synthesis.b8.conv1.noise_strength"]) == pytest.approx(0.1 * (1 - share) + 0.2 * share)
    assert torch.equal(out["synthesis.b8.conv1.noise_const"], a["synthesis.b8.conv1.noise_const"])


@pytest.mark.parametrize("mapping", ["source", "transferred"])
def test_mapping_and_w_avg_come_whole_from_the_parent_named(mapping: str) -> None:
    a, b = net(0).state_dict(), net(1).state_dict()
    out = fuse(a, b, Schedule(), mapping=mapping)  # type: ignore[arg-type]
    parent = a if mapping == "source" else b
    for name in ("mapping.fc0.weight", "mapping.fc1.bias", "mapping.w_avg"):
        assert torch.equal(out[name], parent[name])


def test_torgb_can_have_its_own_schedule() -> None:
    a, b = net(0).state_dict(), net(1).state_dict()
    b |= {k: a[k] for k in a if k.startswith("mapping")}
    out = fuse(a, b, Schedule("swap", mid=9.0), torgb=Schedule("swap", mid=0.0))
    assert torch.equal(out["synthesis.b16.conv1.weight"], a["synthesis.b16.conv1.weight"])
    assert torch.equal(out["synthesis.b4.torgb.weight"], b["synthesis.b4.torgb.weight"])


def test_written_out_mapping_is_the_networks() -> None:
    made = net(3)
    z = torch.randn(5, 8, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(map_latents(made.state_dict(), z.double()).float(), made.mapping.w(z))


def test_fusing_a_model_with_itself_under_a_drifted_mapping_keeps_its_pictures() -> None:
    """Fine-tuning that only scales the mapping's last layer is an affine change of w: re-basing undoes it exactly."""
    source = net(0)
    drifted = {k: v.clone() for k, v in source.state_dict().items()}
    for name in ("mapping.fc1.weight", "mapping.fc1.bias"):
        drifted[name] = drifted[name] * 1.3
    for name in drifted:
        if name.endswith("affine.weight"):
            drifted[name] = drifted[name] / 1.3
    fused = generator_from_official(fuse(source.state_dict(), drifted, Schedule(mid=0.5)))
    z = torch.randn(3, 8, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(fused(z, 1.0, "const"), source(z, 1.0, "const"), atol=2e-3, rtol=1e-3)


def test_a_model_with_another_mapping_answers_to_the_sources_w() -> None:
    source, drifted = net(0), net(0)
    with torch.no_grad():
        for name, weight in drifted.named_parameters():
            if name in ("mapping.fc1.weight", "mapping.fc1.bias"):
                weight.mul_(1.3)
            elif name.endswith("affine.weight"):
                weight.div_(1.3)
    ws = source.mapping(torch.randn(3, 8, generator=torch.Generator().manual_seed(1)))
    wanted = source.synthesis(ws, noise_mode="const")
    assert not torch.allclose(drifted.synthesis(ws, noise_mode="const"), wanted, atol=2e-3)
    torch.testing.assert_close(
        answering_to(drifted, source).synthesis(ws, noise_mode="const"), wanted, atol=2e-3, rtol=1e-3
    )


def test_shares_must_sum_to_one_and_layers_must_match() -> None:
    a, b = net(0).state_dict(), net(1).state_dict()
    with pytest.raises(ValueError, match="sum to 1"):
        blend([a, b], lambda _: [0.5, 0.6])
    wrong = dict(b)
    wrong["synthesis.b4.const"] = torch.zeros(9, 4, 4)
    with pytest.raises(ModelFileError, match=r"synthesis\.b4\.const"):
        fuse(a, wrong, Schedule())
    del wrong["synthesis.b4.const"]
    with pytest.raises(ModelFileError, match="differ in 1 layers"):
        fuse(a, wrong, Schedule())


def test_three_parents_blend_by_weights() -> None:
    states = [net(k).state_dict() for k in range(3)]
    out = blend(states, lambda name: [0.2, 0.3, 0.5])
    name = "synthesis.b8.conv0.weight"
    torch.testing.assert_close(out[name], 0.2 * states[0][name] + 0.3 * states[1][name] + 0.5 * states[2][name])


def test_share_table_lists_layers_low_to_high() -> None:
    table = share_table(net(0).state_dict(), Schedule("swap", mid=1.0), Schedule("swap", mid=0.0))
    assert table["b4.conv1"] == 0.0 and table["b4.torgb"] == 1.0 and table["b16.conv0"] == 1.0
