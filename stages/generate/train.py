"""The GAN update of stage 1, used by `source` and `transfer` inside the shared training loop.

StyleGAN2-ADA's (Karras et al. 2020b): lazy regularisation and path lengths (Karras et al. 2020a), style mixing (Karras
et al. 2019), frozen layers of the discriminator (Mo et al. 2020).
"""

import copy
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, cast

import torch
from torch import Tensor, nn

from pipeline.settings.generate import GanSettings
from stages.common.device import Device, average, average_gradients
from stages.common.ema import EMA, half_life_beta
from stages.common.loop import Stateful
from stages.generate import losses
from stages.generate.ada import FACE, SETS, AdaptiveAugment, AugmentSet
from stages.generate.anchors import Anchors
from stages.generate.layers import StyledConv
from stages.generate.networks import Discriminator, Generator

ADA_INTERVAL = 4  # iterations between moves of p (Karras et al. 2020b)
GRADIENT_LIMIT = 1e5

RealBatch = Callable[[int, int], Tensor]
"""(images seen, number) -> uint8 [number, 3, R, R]; deterministic in its arguments."""


@dataclass(frozen=True)
class GanOptions:
    """Everything that steers one training run; the settings sections document each field."""

    batch: int = 16
    kimg: float = 25.0
    lr_g: float = 0.0025
    lr_d: float = 0.0025
    lr_mapping: float = 1.0  # multiplies lr_g for the mapping network; 0 freezes it
    lr_by_resolution: Mapping[int, float] = field(default_factory=dict)  # multiplies lr_g; 0 freezes; absent = 1
    lr_conv: float = 1.0  # multiplies it once more for the demodulated convolutions, whose scale does not matter
    lr_noise: float = 1.0  # the same for the noise strengths; 0 freezes
    warmup_kimg: float = 0.0  # linear ramp of both rates at the start: Adam's moments are empty then
    decay_from: float = 1.0  # fraction of the run after which the rates fall linearly to `decay_to`
    decay_to: float = 0.1
    freeze_d: int = 0  # layers of D frozen, counted from the input
    gamma: float = 0.0  # R1 weight; 0 takes the heuristic 0.0002 R^2 / batch
    r1_interval: int = 16
    path_weight: float = 0.0  # paper: 2; 0 is off
    path_interval: int = 4
    mixing: float = 0.0  # style mixing probability; paper: 0.9
    ema_kimg: float = 5.0  # half-life; heuristic: batch * 10 / 32
    ema_rampup: float = 0.05  # half-life at most this share of the images seen; 0 is off
    mirror: bool = True  # real images mirrored at random
    operations: AugmentSet = FACE
    augment_p: float = 0.0
    ada_target: float = 0.6
    ada_kimg: float = 500.0
    activation_weight: float = 0.0  # feature constraints to the source
    consistency_weight: float = 0.0
    constraint_resolutions: tuple[int, ...] = (8, 16, 32)
    constraint_batch: int = 4
    anchor_weight: float = 0.0  # pull of style pictures on the images of their codes
    anchor_share: float = 0.5  # of the generator's batch

    def gamma_for(self, resolution: int) -> float:
        """R1 weight: given, or the heuristic of StyleGAN2-ADA."""
        return self.gamma or 0.0002 * resolution**2 / self.batch

    def lr_scale(self, nimg: int) -> float:
        """Factor of the learning rates after `nimg` images."""
        ramp = min(1.0, (nimg + self.batch) / (self.warmup_kimg * 1000)) if self.warmup_kimg else 1.0
        done = nimg / max(self.kimg * 1000, 1)
        if done <= self.decay_from or self.decay_from >= 1:
            return ramp
        progress = min(1.0, (done - self.decay_from) / (1 - self.decay_from))
        return ramp * (1 + progress * (self.decay_to - 1))


def options_from(settings: GanSettings, **own: Any) -> GanOptions:
    """Options of one run: what settings and options have under the same name, the rest and exceptions from `own`."""
    values = settings.model_dump()
    same = {option.name: values[option.name] for option in fields(GanOptions) if option.name in values}
    return GanOptions(**{**same, "lr_g": values["lr"], "operations": SETS[settings.augment], **own})


class _PathMean:
    """Running mean of the path length."""

    def __init__(self) -> None:
        self.value = torch.zeros([])

    def state_dict(self) -> dict[str, Tensor]:
        return {"value": self.value}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        self.value = state["value"]


class GanTrainer:
    """Generator, discriminator, their optimisers, EMA and augmentation, with one update as `step`.

    `state` goes to the loop's checkpoints; `averaged` is the result.
    """

    def __init__(
        self,
        generator: Generator,
        discriminator: Discriminator,
        reals: RealBatch,
        options: GanOptions,
        device: Device,
        anchors: Anchors | None = None,
    ) -> None:
        if generator.arch.resolution != discriminator.arch.resolution:
            raise ValueError("generator and discriminator differ in resolution")
        self.options, self.device, self.reals = options, device, reals
        self.anchors = anchors if options.anchor_weight > 0 else None
        # The parent stays as it is: a later comparison or constraint needs it unchanged.
        self.G = copy.deepcopy(generator).to(device.device).train()
        self.D = copy.deepcopy(discriminator).to(device.device).train()
        self.constrained = options.activation_weight > 0 or options.consistency_weight > 0
        self.parent = generator.to(device.device) if self.constrained else None
        self.batch = options.batch // device.world
        if self.batch * device.world != options.batch:
            raise ValueError(f"batch {options.batch} does not divide among {device.world} processes")
        if all(self.batch % group for group in (2, 3, 4)):  # the minibatch standard deviation would be constant
            raise ValueError(f"batch {options.batch}: {self.batch} for each process, no multiple of 2 or 3")
        self.gamma = options.gamma_for(generator.arch.resolution)
        self.g_groups = _generator_groups(self.G, options)
        self.d_params = _discriminator_parameters(self.D, options.freeze_d)
        self.g_params = [p for group in self.g_groups for p in group["params"]]
        path_interval = options.path_interval if options.path_weight else 0
        self.opt_g = _adam(self.g_groups, options.lr_g, path_interval)
        self.opt_d = _adam([{"params": self.d_params, "scale": 1.0}], options.lr_d, options.r1_interval)
        self.ema = EMA(self.G)
        self.ada = AdaptiveAugment(options.operations, options.augment_p, options.ada_target, options.ada_kimg)
        self.path_mean = _PathMean()

    @property
    def averaged(self) -> Generator:
        """The EMA generator: the result."""
        return cast(Generator, self.ema.net)

    @property
    def state(self) -> dict[str, Stateful]:
        """Everything mutable, by name."""
        return {
            "G": self.G,
            "D": self.D,
            "ema": self.ema,
            "opt_g": self.opt_g,
            "opt_d": self.opt_d,
            "ada": self.ada,
            "path_mean": self.path_mean,
        }

    def step(self, nimg: int) -> dict[str, float | Tensor]:
        """One update of G and D after `nimg` images; the caller seeds torch. Returns scalar losses by name."""
        o, index = self.options, nimg // self.options.batch
        self._set_rates(o.lr_scale(nimg))
        parts, fake_logits = self._generator_step(nimg)
        if o.path_weight and index % o.path_interval == 0:
            parts |= self._path_step()
        if self.constrained:
            parts |= self._constraint_step()
        real = self._real(nimg)
        parts |= self._discriminator_step(fake_logits, real)
        if index % o.r1_interval == 0:
            parts |= self._r1_step(real)
        if index % ADA_INTERVAL == 0:
            self.ada.adjust(o.batch * ADA_INTERVAL)
        half_life = o.ema_kimg * 1000
        if o.ema_rampup:
            half_life = min(half_life, max(nimg, o.batch) * o.ema_rampup)
        self.ema.update(half_life_beta(o.batch, half_life))
        return parts | {"p": self.ada.p, "rt": self.ada.rt}

    def _set_rates(self, scale: float) -> None:
        for optimiser in (self.opt_g, self.opt_d):
            for group in optimiser.param_groups:
                group["lr"] = group["base_lr"] * scale

    def _real(self, nimg: int) -> Tensor:
        images = self.reals(nimg + self.device.rank * self.batch, self.batch).to(self.device.device)
        real = images.float().div_(127.5).sub_(1)
        if self.options.mirror:
            flip = torch.rand(len(real), device=real.device) < 0.5
            real = torch.where(flip[:, None, None, None], real.flip(3), real)
        return real

    def _latents(self, n: int) -> Tensor:
        """ws [n, num_ws, w_dim] of random z, some with a second style from a random layer on."""
        G, device = self.G, self.device.device
        w = G.mapping.w(torch.randn(n, G.arch.z_dim).to(device))
        if self.options.lr_mapping:  # a frozen mapping keeps its mean
            G.mapping.track(w)
        ws = G.mapping.broadcast(w)
        if self.options.mixing > 0:
            other = G.mapping(torch.randn(n, G.arch.z_dim).to(device))
            mixed = torch.rand(n, 1, 1) < self.options.mixing
            cut = torch.where(mixed, torch.randint(1, G.arch.num_ws, (n, 1, 1)), G.arch.num_ws)
            first = (torch.arange(G.arch.num_ws)[None, :, None] < cut).to(device)
            ws = torch.where(first, ws, other)
        return ws

    def _generator_step(self, nimg: int) -> tuple[dict[str, float | Tensor], Tensor]:
        """Random latents and, where there are anchors, a share of theirs: D judges both alike.

        Returns losses and the fakes' logits, whose graph down to D's parameters lives on for D's own step: one pass
        of D over the fakes serves both, as D does not change in between.
        """
        self.D.requires_grad_(False)
        for p in self.d_params:
            p.requires_grad_(True)
        anchored = int(self.batch * self.options.anchor_share) if self.anchors else 0
        ws, wanted = self._latents(self.batch - anchored), None
        if self.anchors and anchored:
            codes, wanted = self.anchors.draw(nimg // 2 + self.device.rank * anchored, anchored)
            wanted = wanted.to(self.device.device)
            ws = torch.cat([ws, self.G.mapping.broadcast(codes.to(self.device.device))])
        with self.device.autocast():
            fake = self.G.synthesis(ws)
            shown = fake.detach().requires_grad_()
            logits = self.D(self.ada(shown))
        adversarial = losses.generator_loss(logits)
        parts: dict[str, float | Tensor] = {"G": adversarial.detach(), "fake": logits.detach().mean()}
        loss = adversarial
        if wanted is not None:
            distance = losses.anchor_distance(shown[-anchored:], wanted)
            loss = loss + self.options.anchor_weight * distance
            parts["anchor"] = distance.detach()
        loss.backward(inputs=[shown], retain_graph=True)
        fake.backward(shown.grad)
        self._apply(self.opt_g, self.g_params)
        return parts, logits

    def _path_step(self) -> dict[str, float | Tensor]:
        with self.device.autocast():
            ws = self._latents(max(1, self.batch // 2))
            if not ws.requires_grad:  # the mapping is frozen
                ws = ws.detach().requires_grad_()
            lengths = losses.path_lengths(self.G.synthesis(ws), ws)
        mean = self.path_mean.value.to(lengths.device).lerp(average(lengths.detach().mean()), 0.01)
        self.path_mean.value = mean
        penalty = (lengths - mean).square().mean()
        (penalty * self.options.path_weight * self.options.path_interval).backward()
        self._apply(self.opt_g, self.g_params)
        return {"path": penalty.detach()}

    def _constraint_step(self) -> dict[str, float | Tensor]:
        """Feature constraints to the parent, for the same latents and noise."""
        assert self.parent is not None
        o = self.options
        z = torch.randn(o.constraint_batch, self.G.arch.z_dim).to(self.device.device)
        with self.device.autocast():
            with torch.no_grad():
                wanted = self.parent.synthesis(self.parent.mapping(z), "const", return_features=True)[1]
            found = self.G.synthesis(self.G.mapping(z), "const", return_features=True)[1]
        wanted = {r: wanted[r] for r in o.constraint_resolutions if r in wanted}
        parts: dict[str, float | Tensor] = {}
        total: Tensor | float = 0.0
        if o.activation_weight:
            activation = losses.activation_distance(found, wanted)
            parts["activation"], total = activation.detach(), total + o.activation_weight * activation
        if o.consistency_weight:
            consistency = losses.distance_consistency(found, wanted)
            parts["consistency"], total = consistency.detach(), total + o.consistency_weight * consistency
        assert isinstance(total, Tensor)
        total.backward()
        self._apply(self.opt_g, self.g_params)
        return parts

    def _discriminator_step(self, fake_logits: Tensor, real: Tensor) -> dict[str, float | Tensor]:
        """D learns from the images the generator step has just made and from its pass over them."""
        with self.device.autocast():
            real_logits = self.D(self.ada(real))
        loss = losses.discriminator_loss(fake_logits, real_logits)
        loss.backward(inputs=self.d_params)
        self.ada.observe(real_logits)
        self._apply(self.opt_d, self.d_params)
        return {"D": loss.detach(), "real": real_logits.detach().mean()}

    def _r1_step(self, real: Tensor) -> dict[str, float | Tensor]:
        real = real.detach().requires_grad_()
        with self.device.autocast():
            logits = self.D(self.ada(real))
        penalty = losses.r1_penalty(logits, real)
        (penalty * (self.gamma / 2 * self.options.r1_interval)).backward()
        self._apply(self.opt_d, self.d_params)
        return {"r1": penalty.detach()}

    def _apply(self, optimiser: torch.optim.Optimizer, parameters: list[nn.Parameter]) -> None:
        for p in parameters:
            if p.grad is not None:
                torch.nan_to_num_(p.grad, nan=0.0, posinf=GRADIENT_LIMIT, neginf=-GRADIENT_LIMIT)
        average_gradients(parameters)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)


def _adam(groups: Iterable[Mapping[str, Any]], lr: float, interval: int) -> torch.optim.Adam:
    """Adam (0, 0.99), corrected for lazy regularisation every `interval` steps (0: none)."""
    c = interval / (interval + 1) if interval else 1.0
    out = [
        {"params": g["params"], "lr": lr * c * g["scale"], "base_lr": lr * c * g["scale"]}
        for g in groups
        if g["params"]
    ]
    return torch.optim.Adam(out, lr=lr * c, betas=(0.0, 0.99**c), eps=1e-8, fused=True)


def _generator_groups(generator: Generator, options: GanOptions) -> list[dict[str, Any]]:
    """Parameter groups with their rate factors; what has factor 0 is frozen."""
    groups = [{"params": list(generator.mapping.parameters()), "scale": options.lr_mapping}]
    for resolution in generator.arch.resolutions:
        block = generator.synthesis.block(resolution)
        scale = options.lr_by_resolution.get(resolution, 1.0)
        layers = [layer for layer in block.modules() if isinstance(layer, StyledConv)]
        convolutions = [layer.weight for layer in layers]
        noise = [layer.noise_strength for layer in layers]
        special = {id(p) for p in [*convolutions, *noise]}
        others = [p for p in block.parameters() if id(p) not in special]
        groups += [
            {"params": convolutions, "scale": scale * options.lr_conv},
            {"params": noise, "scale": scale * options.lr_noise},
            {"params": others, "scale": scale},
        ]
    for group in groups:
        for p in group["params"]:  # type: ignore[attr-defined]
            p.requires_grad_(group["scale"] > 0)  # type: ignore[operator]
    groups = [group for group in groups if group["scale"] > 0]  # type: ignore[operator]
    if not groups:
        raise ValueError("every part of the generator is frozen")
    return groups


def _discriminator_parameters(discriminator: Discriminator, freeze: int) -> list[nn.Parameter]:
    """Parameters left to train when the first `freeze` layers are frozen (Mo et al. 2020)."""
    layers = discriminator.layers()
    if freeze >= len(layers):
        raise ValueError(f"freeze_d {freeze} freezes all {len(layers)} layers of the discriminator")
    return [p for layer in layers[freeze:] for p in layer.parameters()]
