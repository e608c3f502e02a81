"""One training run of the mobile network: nets, optimisers, one step, preview. The loop is stages.common.loop."""

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from pipeline.settings.mobile import MobileSettings
from stages.common.checkpoint import Stateful
from stages.common.device import Device, average_gradients
from stages.common.ema import EMA, half_life_beta
from stages.common.embedder import FaceEmbedder
from stages.common.facial import facial_weights
from stages.common.images import grid, to_uint8
from stages.common.light import relight
from stages.common.loop import LoopResult, train
from stages.generate.feature_loss import Features, perceptual_loss
from stages.mobile import losses
from stages.mobile.augment import Pairs, augment_pairs, compose_target, damage, moved_together
from stages.mobile.data import TrainingData, as_float, to_pairs
from stages.mobile.edge import smooth_edges
from stages.mobile.network import MobileNet
from stages.mobile.shift import REACH, random_shifts, shift
from stages.pair.networks import TranslatorGenerator

EQUIVARIANCE_SHARE = 0.25  # of the batch; a shifted copy costs as much as another pair
PERCEPTUAL_SHARE = 0.375  # with half judged: 13 % more img/s, 2.6 % more pixel error an image than 1/2 and all
PREVIEW = 8  # pairs in the preview grid


@dataclass
class Teachers:
    """Frozen helpers; None where a loss is off or nothing is there. ``features_name`` says which features are used."""

    features: Features | None = None
    features_name: str = "none"
    translator: TranslatorGenerator | None = None
    likeness: FaceEmbedder | None = None


class Trainer:
    """Holds everything that changes during training (``state``) and makes one update per :meth:`step`."""

    def __init__(
        self, settings: MobileSettings, data: TrainingData, teachers: Teachers, device: Device, seed: int
    ) -> None:
        torch.manual_seed(seed)
        self.settings, self.data, self.teachers, self.device, self.seed = settings, data, teachers, device, seed
        self.batch = max(2, settings.batch // device.world)
        self.total = max(int(settings.kimg * 1000), settings.batch)
        # at the default limits augmentation moves faces by less than an eye
        self.head_weight = settings.head_weight * facial_weights(data.pairs.resolution).to(device.device)
        self.net = MobileNet(settings.tier)
        self.judge = losses.PatchDiscriminator(settings.patch_width, settings.scales)
        for module in (self.net, self.judge):
            module.to(device.device)
            nn.Module.to(module, memory_format=device.memory_format)  # type: ignore[call-overload]
        self.ema = EMA(self.net)
        self.optimiser = torch.optim.Adam(self.net.parameters(), settings.lr, betas=(0.5, 0.99), fused=True)
        self.judge_optimiser = torch.optim.Adam(
            self.judge.parameters(), settings.discriminator_lr, betas=(0.5, 0.99), fused=True
        )
        for optimiser in (self.optimiser, self.judge_optimiser):
            for group in optimiser.param_groups:
                group["base_lr"] = group["lr"]
        self.state: dict[str, Stateful] = {
            "net": self.net,
            "ema": self.ema,
            "judge": self.judge,
            "optimiser": self.optimiser,
            "judge_optimiser": self.judge_optimiser,
        }

    def run(self, work: Path, checkpoint_nimg: int, grid_nimg: int | None = None, label: str = "mobile") -> LoopResult:
        """Trains to the end (resuming if ``work`` has a checkpoint), then settles the averaged net's statistics."""
        result = train(
            work,
            self.state,
            self.step,
            self.total,
            self.batch * self.device.world,
            self.seed,
            checkpoint_nimg,
            stats_nimg=max(16 * self.settings.batch, 256),
            grid=self.preview,
            grid_nimg=grid_nimg,
            label=label,
            rank=self.device.rank,
        )
        self.settle_statistics()
        return result

    def step(self, nimg: int) -> dict[str, torch.Tensor]:
        """One update of network and discriminators on the pairs after image ``nimg``; returns the losses."""
        s, where = self.settings, self.device.device
        _cosine(self.optimiser, nimg / self.total)
        _cosine(self.judge_optimiser, nimg / self.total)
        start = nimg + self.device.rank * self.batch
        pairs = self.data.pair_batch(start, self.batch, self.seed, where)
        if s.augment:
            pairs = augment_pairs(pairs, s)
        else:
            pairs = Pairs(pairs.photo, compose_target(pairs.photo, pairs.styled, pairs.mask), pairs.mask)
        distilled = self._distillation_batch(start)
        moves = random_shifts(max(1, int(self.batch * EQUIVARIANCE_SHARE)), REACH, where)
        inputs = [pairs.photo]
        if distilled is not None:
            inputs.append(distilled.photo)
        if s.equivariance:
            inputs.append(shift(pairs.photo[: len(moves)], moves))

        # one pass for all kinds of input: they share batch statistics and the cost of small layers
        self.net.train()
        with self.device.autocast(where.type == "cuda"):  # on CPUs depthwise convolutions gain nothing from bf16
            out = self.net.stylize(torch.cat(inputs).contiguous(memory_format=self.device.memory_format))
        n = self.batch
        drawn = out.styled[:n]
        parts: dict[str, torch.Tensor] = {}
        weights: dict[str, float] = {}

        def add(name: str, weight: float, loss: Callable[[], torch.Tensor]) -> None:
            if weight:
                parts[name], weights[name] = loss(), weight

        add("pixel", s.pixel, lambda: losses.pixel_loss(drawn, pairs.styled, pairs.mask, self.head_weight))
        add("mask", s.mask, lambda: losses.mask_loss(out.logits[:n], pairs.mask))
        if self.teachers.features is not None:
            add("perceptual", s.perceptual, lambda: self._perceptual(drawn, pairs))
        if self.teachers.likeness is not None:
            add("likeness", s.face_identity, lambda: self._likeness(drawn, pairs))
        add("colour", s.colour, lambda: losses.colour_loss(drawn, pairs.styled, pairs.mask))
        add("total_variation", s.total_variation, lambda: losses.total_variation(drawn, pairs.mask))
        if distilled is not None:
            k = len(distilled.photo)
            add(
                "distillation",
                s.distillation,
                lambda: losses.pixel_loss(out.styled[n : n + k], distilled.styled, distilled.mask, self.head_weight),
            )
        if s.equivariance:
            m = len(moves)
            add("equivariance", s.equivariance, lambda: F.l1_loss(out.styled[-m:], shift(drawn[:m], moves)))
        if s.adversarial:
            parts["judge"] = self._judge_step(drawn.detach(), pairs.mask, start)
            self.judge.requires_grad_(False)
            # the half that the discriminators have not just learnt from
            judged, judged_mask = drawn[n // 2 :], pairs.mask[n // 2 :]
            add("adversarial", s.adversarial, lambda: losses.generator_loss(self._judged(judged, judged_mask)))
        total = torch.stack([weights[name] * parts[name] for name in weights]).sum()
        self.optimiser.zero_grad(set_to_none=True)
        total.backward()
        self.judge.requires_grad_(True)
        average_gradients(self.net.parameters())
        self.optimiser.step()
        # a young average follows at once, or the random start would stay in it for long
        half_life = min(s.ema_kimg * 1000, 0.1 * nimg)
        self.ema.update(half_life_beta(self.batch * self.device.world, half_life) if half_life else 0.0)
        return {name: value.detach() for name, value in parts.items()}

    def _perceptual(self, drawn: torch.Tensor, pairs: Pairs) -> torch.Tensor:
        """On a part of the batch: the feature network costs as much as all else, and pairs come in random order."""
        assert self.teachers.features is not None
        some = max(1, int(self.batch * PERCEPTUAL_SHARE))
        with self.device.autocast():
            return perceptual_loss(self.teachers.features, drawn[:some], pairs.styled[:some])

    def _likeness(self, drawn: torch.Tensor, pairs: Pairs) -> torch.Tensor:
        """1 − cosine of face embeddings of drawn faces and their *targets*, on a quarter of the batch.

        Not the photos': stage 2 has decided how much of the person stays, here it must only not get lost.
        """
        assert self.teachers.likeness is not None
        some = max(1, self.batch // 4)
        with torch.no_grad():
            wanted = self.teachers.likeness(pairs.styled[:some])
        return 1 - (self.teachers.likeness(drawn[:some]) * wanted).sum(1).mean()

    def _judged(self, images: torch.Tensor, mask: torch.Tensor) -> list[torch.Tensor]:
        """Scores of the heads alone: the styled set's backgrounds are its generator's, the pairs' are photos'."""
        with self.device.autocast():
            return self.judge(images * mask)

    def _judge_step(self, drawn: torch.Tensor, mask: torch.Tensor, start: int) -> torch.Tensor:
        """One update of the discriminators on half the batch: the other half would buy little and cost a fifth."""
        s, n = self.settings, max(1, self.batch // 2)
        real, real_mask = (
            self.data.styled_batch(field, start, n, self.seed, self.device.device)
            for field in ("styled", "styled_mask")
        )
        if s.augment:
            real, real_mask = moved_together((real, real_mask), s)
            real, real_mask = real.clamp(-1, 1), real_mask.clamp(0, 1)
        sets, masks = [real, drawn[:n]], [real_mask, mask[:n]]
        if s.edge_promoting:
            some = max(1, n // 2)
            sets.append(smooth_edges(real[:some], edge_window(real.shape[-1])))
            masks.append(real_mask[:some])
        scores = self._judged(torch.cat(sets), torch.cat(masks))
        smooth = [score[2 * n :] for score in scores] if s.edge_promoting else None
        loss = losses.discriminator_loss(
            [score[:n] for score in scores], [score[n : 2 * n] for score in scores], smooth, s.edge_promoting
        )
        self.judge_optimiser.zero_grad(set_to_none=True)
        loss.backward()
        average_gradients(self.judge.parameters())
        self.judge_optimiser.step()
        return loss

    @torch.no_grad()
    def _distillation_batch(self, start: int) -> Pairs | None:
        """Source samples with the translator's answer; the translator sees them before light and damage change."""
        s = self.settings
        if not s.distillation or self.teachers.translator is None:
            return None
        n = max(1, int(self.batch * s.distillation_share))
        photo, head = (
            self.data.styled_batch(field, start, n, self.seed + 2, self.device.device)
            for field in ("photo", "photo_mask")
        )
        if s.augment:
            photo, head = moved_together((photo, head), s)
            photo, head = photo.clamp(-1, 1), head.clamp(0, 1)
        with self.device.autocast():
            answer = self.teachers.translator(photo)
        # without a mask branch the answer's own mask is all ones, and backgrounds would be repainted
        mask = answer.mask.float() if self.teachers.translator.config.mask else head
        seen = damage(relight(photo, s.light), s.damage) if s.augment else photo
        return Pairs(seen, compose_target(seen, answer.content.float(), mask), mask)

    @torch.no_grad()
    def settle_statistics(self, batches: int = 24) -> None:
        """Recomputes batch-norm statistics for the averaged weights; the copied ones belong to the live weights."""
        norms = [module for module in self.ema.net.modules() if isinstance(module, nn.BatchNorm2d)]
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None  # cumulative mean
        self.ema.net.train()
        for i in range(batches):
            torch.manual_seed(self.seed + i)
            pairs = self.data.pair_batch(i * self.batch, self.batch, self.seed, self.device.device)
            if self.settings.augment:
                pairs = augment_pairs(pairs, self.settings)
            self.ema.net(pairs.photo.contiguous(memory_format=self.device.memory_format))
        self.ema.net.eval()

    @torch.no_grad()
    def preview(self) -> np.ndarray:
        """Rows photo, target, drawn for the same pairs each time, held-out ones if there are any; uint8 [H, W, 3]."""
        dataset = self.data.validation or self.data.pairs
        chosen = np.linspace(0, len(dataset) - 1, min(PREVIEW, len(dataset))).astype(int)
        pairs = to_pairs(dataset, chosen, self.device.device)
        drawn, _ = self.ema.net(pairs.photo)
        rows = [pairs.photo, as_float(dataset.take(chosen, "styled"), "styled"), drawn]
        return grid([image for row in rows for image in to_uint8(row)], columns=len(chosen))


def edge_window(resolution: int) -> int:
    """Side of the blur around outlines: CartoonGAN's 5 at 256 px, 3 below 128 px, where 5 would blur all of a face."""
    return 5 if resolution >= 128 else 3


def _cosine(optimiser: torch.optim.Optimizer, progress: float) -> None:
    for group in optimiser.param_groups:
        group["lr"] = group["base_lr"] * 0.5 * (1 + math.cos(math.pi * min(progress, 1.0)))


def averaged(trainer: Trainer) -> MobileNet:
    """The trained network: averaged weights, eval mode, float32, on the CPU."""
    net = copy.deepcopy(trainer.ema.net)
    assert isinstance(net, MobileNet)
    return net.float().cpu().eval()
