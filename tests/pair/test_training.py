"""The step: learns, keeps backgrounds, resumes identically, survives NaN, works without pairs."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from pipeline.settings import TranslateSettings
from stages.common.device import Device
from stages.common.errors import DivergedError
from stages.common.loop import train
from stages.common.seeding import seed_all
from stages.generate.feature_loss import Features
from stages.pair.training import Batch, Trainer

SIDE = 16
TINY = {"width": 4, "backward_width": 4, "discriminator_width": 4, "blocks": 1, "batch": 4, "face_identity": 0.0}


def _settings(**changes: Any) -> TranslateSettings:
    return TranslateSettings(**({**TINY, "kimg": 0.04, "warm_kimg": 0.012, "identity_every": 2} | changes))


def _trainer(settings: TranslateSettings, features: Features | None = None) -> Trainer:
    seed_all("test weights")
    return Trainer(settings, 32, Device(torch.device("cpu"), torch.float32), None, features)


def _batch(nimg: int, pairs: bool = True) -> Batch:
    """Photos are noise, their style is their negative, the head is a centred square of more contrast."""
    torch.manual_seed(nimg)
    mask = torch.zeros(2, 1, 32, 32)
    mask[..., 8:24, 8:24] = 1
    photo, style, paired = ((torch.rand(2, 3, 32, 32) * 1.6 - 0.8) * (0.3 + 0.7 * mask) for _ in range(3))
    if not pairs:
        paired, empty = paired[:0], mask[:0]
        return Batch(photo, mask, style, mask, style[:1], mask[:1], paired, paired, empty, empty)
    return Batch(photo, mask, style, mask, style[:1], mask[:1], paired, -paired, mask, mask)


def _run(work: Path, settings: TranslateSettings, total: int, spoil: Callable[[int], float] | None = None) -> Trainer:
    trainer = _trainer(settings)

    def step(nimg: int) -> dict[str, Any]:
        parts: dict[str, Any] = dict(trainer.step(_batch(nimg), nimg))
        return parts | ({"spoiled": spoil(nimg)} if spoil else {})

    train(work, trainer.state, step, total, settings.batch, 0, checkpoint_nimg=8, stats_nimg=4)
    return trainer


def _weights(trainer: Trainer) -> list[torch.Tensor]:
    """Every tensor of every network, the average and both optimisers."""
    left, found = [part.state_dict() for part in trainer.state.values()], []
    while left:
        value = left.pop()
        found += [value] if isinstance(value, torch.Tensor) else []
        left += list(value.values()) if isinstance(value, Mapping) else value if isinstance(value, list) else []
    return found


def _parameters(trainer: Trainer, side: str) -> list[torch.Tensor]:
    nets = {
        "critics": (trainer.style_critic, trainer.photo_critic),
        "generators": (trainer.forward_net, trainer.backward_net),
    }
    return [weight for net in nets[side] for weight in net.parameters()]


def test_resumed_run_equals_an_uninterrupted_one(tmp_path: Path) -> None:
    settings = _settings()
    straight = _run(tmp_path / "a", settings, 40)
    _run(tmp_path / "b", settings, 24)  # ends after the warm start, in the unpaired phase
    resumed = _run(tmp_path / "b", settings, 40)
    assert len(_weights(straight)) > 200
    for mine, other in zip(_weights(straight), _weights(resumed), strict=True):
        assert torch.equal(mine, other)
    assert (tmp_path / "a/stats.csv").read_text() == (tmp_path / "b/stats.csv").read_text()


def test_one_nan_is_survived_and_a_second_named(tmp_path: Path) -> None:
    calls = {"count": 0}

    def once(nimg: int) -> float:
        calls["count"] += 1
        return float("nan") if calls["count"] == 6 else 0.0

    trainer = _run(tmp_path / "a", _settings(), 40, once)
    rate = trainer.g_optimiser.param_groups[0]["base_lr"]
    assert rate == pytest.approx(_settings().learning_rate / 2)
    assert all(torch.isfinite(weight).all() for weight in _weights(trainer))
    with pytest.raises(DivergedError, match="spoiled"):
        _run(tmp_path / "b", _settings(), 40, lambda nimg: float("nan") if nimg >= 20 else 0.0)


def test_warm_start_then_all_losses_of_the_paper() -> None:
    settings, trainer = _settings(), _trainer(_settings())
    warm = trainer.step(_batch(0), 0)
    branch = {f"{name}{way}" for name in ("mask", "mask_tv", "mask_area", "background") for way in ("", "_back")}
    assert set(warm) == {"pairs", "pairs_back"} | branch
    later = trainer.step(_batch(16), 16)
    both = {f"{name}{way}" for name in ("gan", "cycle", "identity", "cam") for way in ("", "_back")}
    assert set(later) == both | branch | {"pairs", "d_style", "d_photo"}
    assert "identity" not in trainer.step(_batch(20), 20), "identity comes every second step here"
    assert settings.identity_every == 2


def test_plain_variant_has_neither_mask_nor_region_losses() -> None:
    trainer = _trainer(_settings(mask=False, region=False))
    parts = trainer.step(_batch(16), 16)
    assert not {"mask", "mask_tv", "mask_area", "background"} & set(parts)


def test_without_pairs_it_trains_unpaired_from_the_start() -> None:
    trainer = _trainer(_settings())
    parts = trainer.step(_batch(0, pairs=False), 0)
    assert "gan" in parts and "pairs" not in parts


def test_pairs_count_only_where_both_are_head() -> None:
    trainer = _trainer(_settings())
    batch = _batch(0)
    full = trainer.step(batch, 0)["pairs"]
    batch.pair_drawn = batch.pair_mask.clone()
    batch.pair_drawn[..., :16] = 0
    batch.pair_styled[..., :16] = 1.0  # what stands there must not matter
    halved = _trainer(_settings()).step(batch, 0)["pairs"]
    assert halved == pytest.approx(float(full), rel=0.3)


def test_feature_loss_joins_the_pairs() -> None:
    def features(images: torch.Tensor) -> list[torch.Tensor]:
        return [images[..., 1:] - images[..., :-1]]

    trainer = _trainer(_settings(pairs_perceptual=1.0, kimg=0.2, warm_kimg=0.1), features)
    first = trainer.step(_batch(0), 0)
    for nimg in range(4, 100, 4):
        last = trainer.step(_batch(nimg), nimg)
    later = trainer.step(_batch(100), 100)
    assert 0 < last["pairs_perceptual"] < first["pairs_perceptual"]
    assert {"pairs", "pairs_perceptual", "gan"} <= set(later)


def test_supervision_fades_geometrically() -> None:
    trainer = _trainer(_settings(pairs_start=16.0, pairs_end=1.0))
    weights = [trainer._pairs_weight(nimg) for nimg in (0, 12, 26, 40, 99)]
    assert weights == pytest.approx([16.0, 16.0, 4.0, 1.0, 1.0])


def test_discriminators_weigh_in_gradually_and_the_rate_falls_in_the_second_half() -> None:
    settings = _settings()
    trainer = _trainer(settings)
    shares = [trainer._adversarial_share(nimg) for nimg in (12, 15, 19, 40)]
    assert shares == pytest.approx([0.0, 3 / 7, 1.0, 1.0])
    trainer.step(_batch(0), 0)
    assert trainer.g_optimiser.param_groups[0]["lr"] == pytest.approx(settings.learning_rate)
    trainer.step(_batch(16), 16)
    assert trainer.g_optimiser.param_groups[0]["lr"] == pytest.approx(settings.learning_rate)
    trainer.step(_batch(36), 36)
    assert trainer.g_optimiser.param_groups[0]["lr"] < 0.3 * settings.learning_rate


def test_each_side_moves_in_its_own_update_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """The generators' loss runs through the discriminators, and the discriminators' through the generators' results."""
    for still, moving in (("critics", "learning_rate"), ("generators", "critic_rate")):
        trainer = _trainer(_settings())
        optimiser = trainer.d_optimiser if still == "critics" else trainer.g_optimiser
        monkeypatch.setattr(optimiser, "step", lambda: None)
        before = {name: [p.detach().clone() for p in _parameters(trainer, name)] for name in ("critics", "generators")}
        trainer.step(_batch(16), 16)
        for name, weights in before.items():
            moved = [not torch.equal(a, b) for a, b in zip(weights, _parameters(trainer, name), strict=True)]
            assert any(moved) == (name != still), (name, moving)
    assert all(p.requires_grad for p in trainer.style_critic.parameters()) and trainer.style_critic.training


def test_a_nan_weight_in_the_unpaired_phase_is_survived(tmp_path: Path) -> None:
    """Damage to the weights themselves, between two reports, just before a checkpoint."""
    trainer, spoilt = _trainer(_settings(kimg=0.08)), list[int]()

    def step(nimg: int) -> dict[str, torch.Tensor]:
        parts = trainer.step(_batch(nimg), nimg)
        if nimg == 28 and not spoilt:
            spoilt.append(nimg)
            with torch.no_grad():
                next(trainer.style_critic.parameters()).fill_(float("nan"))
        return parts

    result = train(tmp_path, trainer.state, step, 80, 4, 0, checkpoint_nimg=16, stats_nimg=40)
    assert result.rolled_back and result.nimg == 80
    assert all(torch.isfinite(weight).all() for weight in _weights(trainer))


def test_discriminators_do_not_see_the_top_where_told() -> None:
    """The adversarial loss pulls at the rows below only; with 0 it pulls everywhere."""
    for top in (0.0, 0.5):
        trainer = _trainer(_settings(unseen_top=top, augment=0.0))
        images = torch.rand(2, 3, 32, 32, requires_grad=True)
        logits = trainer.style_critic(trainer._seen(images, torch.ones(2, 1, 32, 32)))
        sum(head.sum() for head in logits).backward()
        assert images.grad is not None
        pulled = images.grad.abs().sum((0, 1, 3)) > 0
        assert pulled[18:].all() and pulled[:14].any() == (top == 0)


@pytest.mark.parametrize("variant", [True, False])
def test_region_variant_tells_the_domains_apart_by_the_head_alone(variant: bool) -> None:
    """The attention's classifiers are given the head, both ways and for either domain; without region everything."""
    trainer = _trainer(_settings(region=variant))
    judged: list[torch.Tensor | None] = []
    for net in (trainer.forward_net, trainer.backward_net):
        net.cam.register_forward_pre_hook(lambda _, args: judged.append(args[1]))
    trainer.step(_batch(12), 16)
    areas = [where for where in judged if where is not None]
    assert len(areas) == (4 if variant else 0)
    assert all(where[..., 2:6, 2:6].min() == 1 and where[..., :1, :].max() == 0 for where in areas)


def test_learns_the_pairs_inside_and_leaves_the_outside() -> None:
    """A minute's idea in a second: negatives inside the head after a few hundred images, the rest untouched."""
    settings = _settings(kimg=2.0, warm_kimg=2.0, learning_rate=3e-3, width=8)
    trainer = _trainer(settings)
    first = trainer.step(_batch(0), 0)
    for nimg in range(4, 240, 4):
        last = trainer.step(_batch(nimg), nimg)
    assert last["pairs"] < 0.6 * first["pairs"]
    assert last["background"] < 0.4 * first["background"]
    assert last["mask"] < 0.6 * first["mask"]
