"""Losses by hand, every lever of the trainer, resuming."""

import math
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from stages.common.device import Device
from stages.common.loop import train
from stages.generate import losses
from stages.generate.ada import BGC
from stages.generate.networks import Architecture, Discriminator, Generator
from stages.generate.snapshots import Candidate, choose
from stages.generate.train import GanOptions, GanTrainer
from tests.bench import plain_stylegan as plain

ARCH = Architecture(16, 8, 8, 2, channel_base=64, channel_max=8)
CPU = Device(torch.device("cpu"), torch.float32)


def reals(nimg: int, n: int) -> torch.Tensor:
    return torch.randint(0, 256, (n, 3, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(nimg))


def trainer(seed: int = 0, **options: object) -> GanTrainer:
    torch.manual_seed(seed)
    settings = GanOptions(**{"batch": 4, "r1_interval": 2, "ema_rampup": 0.0, **options})  # type: ignore[arg-type]
    return GanTrainer(Generator(ARCH), Discriminator(ARCH), reals, settings, CPU)


def changed(before: dict[str, torch.Tensor], net: torch.nn.Module) -> set[str]:
    return {name for name, value in net.state_dict().items() if not torch.equal(value, before[name])}


def copy_of(net: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in net.state_dict().items()}


def run(t: GanTrainer, steps: int = 2) -> dict[str, float]:
    parts: dict[str, float] = {}
    for i in range(steps):
        torch.manual_seed(i)
        parts |= {name: float(value) for name, value in t.step(i * 4).items()}
    return parts


def test_losses_by_hand() -> None:
    fake, real = torch.tensor([[0.0], [2.0]]), torch.tensor([[1.0], [-1.0]])
    softplus = lambda v: math.log1p(math.exp(v))  # noqa: E731
    assert float(losses.generator_loss(fake)) == pytest.approx((softplus(0) + softplus(-2)) / 2)
    wanted = (softplus(0) + softplus(2)) / 2 + (softplus(-1) + softplus(1)) / 2
    assert float(losses.discriminator_loss(fake, real)) == pytest.approx(wanted)


def test_one_pass_over_the_fakes_gives_both_networks_their_own_gradients(monkeypatch: pytest.MonkeyPatch) -> None:
    """Against separate passes of the plain implementation: D's part does not leak into G, nor G's into D."""
    t = trainer(ada_target=0.0, mirror=False)
    seen: dict[str, list[torch.Tensor]] = {}
    fakes: list[torch.Tensor] = []
    synthesis = t.G.synthesis.forward

    def remembered(ws: torch.Tensor) -> torch.Tensor:
        image = synthesis(ws, "none")
        fakes.append(image)
        return image

    def collect(optimiser: torch.optim.Optimizer, parameters: list[torch.nn.Parameter]) -> None:
        name = "G" if optimiser is t.opt_g else "D"
        seen[name] = [torch.zeros_like(p) if p.grad is None else p.grad.clone() for p in parameters]
        optimiser.zero_grad(set_to_none=True)

    monkeypatch.setattr(t.G.synthesis, "forward", remembered)
    monkeypatch.setattr(t, "_apply", collect)
    torch.manual_seed(1)
    t.step(4)  # no R1 in this one
    torch.manual_seed(1)
    fake = synthesis(t.G.mapping(torch.randn(4, 8)), "none")
    torch.testing.assert_close(fake, fakes[0])
    g_loss = F.softplus(-plain.discriminate(t.D, fake)).mean()
    for found, wanted in zip(seen["G"], torch.autograd.grad(g_loss, t.g_params, allow_unused=True), strict=True):
        torch.testing.assert_close(found, torch.zeros_like(found) if wanted is None else wanted, rtol=1e-3, atol=1e-6)
    real = reals(4, 4).float() / 127.5 - 1
    d_loss = F.softplus(plain.discriminate(t.D, fake.detach())).mean()
    d_loss = d_loss + F.softplus(-plain.discriminate(t.D, real)).mean()
    for found, wanted in zip(seen["D"], torch.autograd.grad(d_loss, t.d_params), strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-6)


def test_r1_of_a_linear_critic_is_its_weight() -> None:
    weight = torch.randn(3, 4, 4)
    images = torch.randn(5, 3, 4, 4, requires_grad=True)
    logits = (images * weight).sum((1, 2, 3))[:, None]
    assert float(losses.r1_penalty(logits, images)) == pytest.approx(float(weight.square().sum()), rel=1e-5)


def test_path_length_of_a_linear_generator() -> None:
    """images = A w: the length is |A^T noise| / sqrt(HW) per w vector, root mean square over them."""
    torch.manual_seed(0)
    A = torch.randn(3 * 4 * 4, 2 * 5)
    ws = torch.randn(6, 2, 5, requires_grad=True)
    images = (ws.flatten(1) @ A.t()).reshape(6, 3, 4, 4)
    torch.manual_seed(1)
    found = losses.path_lengths(images, ws)
    torch.manual_seed(1)
    noise = torch.randn(6, 48) / 4
    wanted = (noise @ A).reshape(6, 2, 5).square().sum(2).mean(1).sqrt()
    torch.testing.assert_close(found, wanted)


def test_distance_consistency_sees_lost_diversity() -> None:
    torch.manual_seed(0)
    wanted = {8: torch.randn(4, 3, 8, 8)}
    assert float(losses.distance_consistency(wanted, wanted)) == pytest.approx(0, abs=1e-6)
    # Cosine similarities do not change with scale, but collapse does change them.
    assert float(losses.distance_consistency({8: wanted[8] * 3}, wanted)) == pytest.approx(0, abs=1e-6)
    collapsed = wanted[8].clone()
    collapsed[1] = collapsed[0]
    assert float(losses.distance_consistency({8: collapsed}, wanted)) > 1e-3


def test_activation_distance_is_relative() -> None:
    wanted = {8: torch.randn(2, 3, 8, 8) * 100}
    assert float(losses.activation_distance({8: wanted[8] * 1.1}, wanted)) == pytest.approx(0.01, rel=1e-3)


def test_our_gradients_equal_the_plain_networks() -> None:
    """Folded filters, modulated activations and own autograd functions against the textbook form."""
    torch.manual_seed(0)
    G, D = Generator(ARCH), Discriminator(ARCH)
    z = torch.randn(4, 8)
    noises = {}
    for name, layer, _ in G.synthesis.layers():
        if hasattr(layer, "noise_const"):
            torch.nn.init.constant_(layer.noise_strength, 0.2)
            noises[name] = layer.noise_const[None, None]
    F.softplus(-D(G(z, noise_mode="const"))).mean().backward()
    ours = {n: p.grad.clone() for net in (G, D) for n, p in net.named_parameters() if p.grad is not None}
    for net in (G, D):
        net.zero_grad()
    F.softplus(-plain.discriminate(D, plain.synthesis(G, G.mapping(z), noises))).mean().backward()
    for net in (G, D):
        for name, p in net.named_parameters():
            torch.testing.assert_close(ours[name], p.grad, atol=1e-5, rtol=1e-3, msg=name)


def test_a_step_trains_everything_and_reports_by_name() -> None:
    t = trainer(path_weight=2.0, mixing=1.0, augment_p=0.5, operations=BGC, ada_kimg=0.1)
    g, d, ema = copy_of(t.G), copy_of(t.D), copy_of(t.averaged)
    parts = run(t)
    assert set(parts) == {"G", "fake", "D", "real", "r1", "path", "p", "rt"}
    assert all(math.isfinite(v) for v in parts.values())
    fixed = ("noise_const", "resample_filter")
    assert {n for n in g if not n.endswith(fixed)} == changed(g, t.G)
    assert {n for n in d if not n.endswith(fixed)} == changed(d, t.D)
    assert changed(ema, t.averaged)


def test_the_parent_is_left_alone() -> None:
    torch.manual_seed(0)
    G, D = Generator(ARCH), Discriminator(ARCH)
    before = copy_of(G) | copy_of(D)
    t = GanTrainer(G, D, reals, GanOptions(batch=4, activation_weight=1.0), CPU)
    run(t)
    assert all(torch.equal(before[n], v) for n, v in (G.state_dict() | D.state_dict()).items())


def test_frozen_parts_stay() -> None:
    t = trainer(lr_by_resolution={4: 0.0, 16: 2.0}, lr_mapping=0.0, lr_noise=0.0, freeze_d=3)
    g, d = copy_of(t.G), copy_of(t.D)
    run(t)
    moved = changed(g, t.G)
    assert not any(n.startswith(("mapping", "synthesis.b4")) or n.endswith("noise_strength") for n in moved)
    assert any(n.startswith("synthesis.b8") for n in moved)
    frozen = {"b16.fromrgb", "b16.conv0", "b16.conv1"}
    moved_layers = {n.rsplit(".", 1)[0] for n in changed(d, t.D)}
    assert not moved_layers & frozen and "b16.skip" in moved_layers


def test_rates_per_part() -> None:
    t = trainer(lr_g=0.01, lr_conv=5.0, lr_mapping=0.5, lr_by_resolution={8: 2.0})
    rate = {id(p): g["base_lr"] for g in t.opt_g.param_groups for p in g["params"]}
    block = t.G.synthesis.block(8)
    assert rate[id(block.conv0.weight)] == pytest.approx(0.1)
    assert rate[id(block.torgb.weight)] == pytest.approx(0.02)
    assert rate[id(t.G.mapping.fc0.weight)] == pytest.approx(0.005)


def test_lazy_regularisation_corrects_adam() -> None:
    t = trainer(lr_d=0.01, r1_interval=16)
    group = t.opt_d.param_groups[0]
    assert group["base_lr"] == pytest.approx(0.01 * 16 / 17)
    assert group["betas"] == (0.0, pytest.approx(0.99 ** (16 / 17)))


def test_constraints_hold_the_generator_back() -> None:
    def drift(weight: float) -> float:
        t = trainer(lr_g=0.01, activation_weight=weight, constraint_resolutions=(8, 16))
        z = torch.randn(8, 8, generator=torch.Generator().manual_seed(9))
        features = lambda: t.G.synthesis(t.G.mapping(z), "const", return_features=True)[1]  # noqa: E731
        before = features()
        run(t, 12)
        return float(losses.activation_distance(features(), before).detach())

    assert drift(100.0) < 0.7 * drift(0.0)


@pytest.mark.parametrize(
    "options,message",
    [
        ({"freeze_d": 50}, "freezes all"),
        ({"lr_mapping": 0.0, "lr_by_resolution": {4: 0, 8: 0, 16: 0}}, "every part of the generator is frozen"),
        ({"batch": 5}, "5 for each process, no multiple of 2 or 3"),
    ],
)
def test_senseless_options_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        trainer(**options)


def test_rate_schedule() -> None:
    o = GanOptions(batch=10, kimg=10, warmup_kimg=1, decay_from=0.5, decay_to=0.1)
    assert o.lr_scale(0) == pytest.approx(0.01) and o.lr_scale(990) == pytest.approx(1)
    assert o.lr_scale(5000) == 1 and o.lr_scale(7500) == pytest.approx(0.55) and o.lr_scale(10000) == pytest.approx(0.1)


def test_resumed_run_equals_an_uninterrupted_one(tmp_path: Path) -> None:
    def go(work: Path, total: int) -> GanTrainer:
        t = trainer(augment_p=0.3, ada_kimg=0.05, path_weight=1.0, path_interval=3)
        train(work, t.state, t.step, total, 4, 0, checkpoint_nimg=24, stats_nimg=8)
        return t

    whole = go(tmp_path / "a", 48)
    go(tmp_path / "b", 24)
    resumed = go(tmp_path / "b", 48)
    for one, other in ((whole.G, resumed.G), (whole.D, resumed.D), (whole.averaged, resumed.averaged)):
        assert not changed(copy_of(one), other)
    assert whole.ada.p == resumed.ada.p
    assert (tmp_path / "a" / "stats.csv").read_text() == (tmp_path / "b" / "stats.csv").read_text()


def test_it_learns() -> None:
    """A uniform dark set: after some steps the samples are dark."""
    torch.manual_seed(0)
    dark = lambda nimg, n: torch.full((n, 3, 16, 16), 20, dtype=torch.uint8)  # noqa: E731
    t = GanTrainer(
        Generator(ARCH),
        Discriminator(ARCH),
        dark,
        GanOptions(batch=8, lr_g=0.01, lr_d=0.01, ema_rampup=0, ema_kimg=0.1),
        CPU,
    )
    z = torch.randn(16, 8)
    error = lambda: float((t.averaged(z) - (20 / 127.5 - 1)).abs().mean())  # noqa: E731
    before = error()
    for i in range(60):
        t.step(i * 8)
    assert error() < 0.6 * before


def test_choice_of_the_snapshot() -> None:
    c = [Candidate(1, 0.5, 0.9), Candidate(2, 0.3, 0.7), Candidate(3, 0.1, 0.4), Candidate(4, float("nan"), 0.8)]
    assert choose(c, 0.5).nimg == 2
    assert choose(c, 0.3).nimg == 3
    assert choose(c, 0.95).nimg == 1  # none is diverse enough: the most diverse one
    with pytest.raises(ValueError, match="no candidates"):
        choose([], 0.5)
