"""The translator's networks and one training step: supervised start on latent pairs, then unpaired beside them.

Networks and unpaired losses are U-GAT-IT's (Kim et al. 2020); the mask, the region and the pairs are this project's.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeVar, cast

import torch
from torch import Tensor, nn

from pipeline.settings import TranslateSettings
from stages.common.adam import ChannelsLastAdam
from stages.common.checkpoint import Stateful
from stages.common.device import Device, average_gradients
from stages.common.ema import EMA, half_life_beta
from stages.common.embedder import FaceEmbedder
from stages.common.facial import facial_weights
from stages.generate.feature_loss import Features, perceptual_loss
from stages.pair import losses
from stages.pair.augment import augment, below, inside, look_at, region
from stages.pair.layers import clip_rho
from stages.pair.networks import Details, DiscriminatorPair, Translation, TranslatorConfig, TranslatorGenerator

BETAS = (0.5, 0.999)  # Adam's in the paper
WEIGHT_DECAY = 1e-4  # the paper's

Net = TypeVar("Net", bound=nn.Module)


@dataclass
class Batch:
    """What one step sees; pictures float32 [N, 3, H, W] in [-1, 1], masks [N, 1, H, W] in [0, 1].

    Attributes:
        photo, photo_mask: real photos [A]. style, style_mask: pictures of the style [B], real ones first,
            then stage 1's.
        edges: edge-smoothed copies of some style pictures, with their masks in ``edges_mask``; may be empty.
        pair_photo, pair_styled, pair_mask: latent pairs [P]; may be empty. Inverted ones start from the photo itself.
        pair_drawn: where both of a pair are head, and show the same thing where ``pairs_tolerance`` asks for it.
    """

    photo: Tensor
    photo_mask: Tensor
    style: Tensor
    style_mask: Tensor
    edges: Tensor
    edges_mask: Tensor
    pair_photo: Tensor
    pair_styled: Tensor
    pair_mask: Tensor
    pair_drawn: Tensor


class Trainer:
    """Networks, optimisers and the step; everything that changes is in :attr:`state`.

    The way back (style → photo) and the photos' discriminators run at half width by default: they only serve the
    cycle, and they would cost as much as the translator itself.
    """

    def __init__(
        self,
        settings: TranslateSettings,
        resolution: int,
        device: Device,
        likeness: FaceEmbedder | None,
        features: Features | None = None,
        features_name: str = "none",
    ) -> None:
        """Builds the networks.

        Args:
            likeness: embedder of the likeness loss. features: network of the pairs' feature loss, called
                ``features_name`` in reports. None leaves them out.
        """
        s, self.settings, self.device = settings, settings, device
        self.likeness = None if likeness is None else likeness.to(device.device)
        self.facial_weights = facial_weights(resolution).to(device.device)
        self.features, self.features_name = features, features_name
        self.seen_rows = below(s.unseen_top, resolution).to(device.device)
        config = TranslatorConfig(s.width, s.blocks, s.mask, s.skip)
        back = TranslatorConfig(s.backward_width, s.blocks, s.mask, s.skip)
        half = max(4, s.discriminator_width * s.backward_width // s.width)
        self.forward_net = self._place(TranslatorGenerator(config))
        self.backward_net = self._place(TranslatorGenerator(back))
        self.style_critic = self._place(DiscriminatorPair(s.discriminator_width, resolution))
        self.photo_critic = self._place(DiscriminatorPair(half, resolution))
        self.ema = EMA(self.forward_net)
        self.g_optimiser = self._adam(s.learning_rate, self.forward_net, self.backward_net)
        self.d_optimiser = self._adam(s.learning_rate * s.critic_rate, self.style_critic, self.photo_critic)

    @property
    def averaged(self) -> TranslatorGenerator:
        """The translator to keep: float32, eval mode, frozen."""
        return cast(TranslatorGenerator, self.ema.net)

    @property
    def state(self) -> Mapping[str, Stateful]:
        """Everything a checkpoint must hold."""
        return {
            "forward": self.forward_net,
            "backward": self.backward_net,
            "style_critic": self.style_critic,
            "photo_critic": self.photo_critic,
            "ema": self.ema,
            "g_optimiser": self.g_optimiser,
            "d_optimiser": self.d_optimiser,
        }

    def step(self, batch: Batch, nimg: int) -> dict[str, Tensor]:
        """One update of all networks after ``nimg`` photos; returns the scalar losses by name, unweighted."""
        s = self.settings
        total = s.kimg * 1000
        scale = min(1.0, 2 * (1 - nimg / total) + 0.02)
        for optimiser in (self.g_optimiser, self.d_optimiser):
            for group in optimiser.param_groups:
                group["lr"] = group["base_lr"] * scale
        with self.device.autocast():
            if len(batch.pair_photo) and nimg < s.warm_kimg * 1000:
                parts = self._supervised(batch)
            else:
                parts = self._unpaired(batch, nimg)
        # the half-life grows with the run: an average over the first steps would carry the random start for long
        half_life = min(s.ema_kimg * 1000, 0.1 * nimg + s.batch)
        self.ema.update(half_life_beta(s.batch, half_life))
        return {name: part.detach() for name, part in parts.items()}

    # ---- warm start --------------------------------------------------------------------------------------------------

    def _supervised(self, batch: Batch) -> dict[str, Tensor]:
        """Both ways on latent pairs: source(w) → fused(w) inside the head, background as it was."""
        s = self.settings
        photo, styled, mask, drawn = batch.pair_photo, batch.pair_styled, batch.pair_mask, batch.pair_drawn
        pasted = photo + drawn * (styled - photo)
        there, details = self.forward_net.detailed(photo)
        back, back_details = self.backward_net.detailed(pasted)
        parts: dict[str, Tensor] = {}
        total = s.pairs_start * self._paired(parts, there.content, photo, styled, drawn)
        parts["pairs_back"] = losses.pair_loss(back.content, photo, drawn)
        total = total + s.pairs_start * parts["pairs_back"]
        total = total + self._keep_background(parts, there, details, photo, mask)
        total = total + self._keep_background(parts, back, back_details, pasted, mask, "_back")
        self._update_generators(total)
        return parts

    def _paired(
        self, parts: dict[str, Tensor], content: Tensor, photo: Tensor, styled: Tensor, drawn: Tensor
    ) -> Tensor:
        """What a latent pair says about ``content``: L1 and, in features, what L1 would average away."""
        wanted = faded(photo, styled, drawn)
        parts["pairs"] = losses.pair_loss(content, wanted, drawn * self.facial_weights)
        if self.features is None:
            return parts["pairs"]
        parts["pairs_perceptual"] = perceptual_loss(self.features, faded(photo, content, drawn), wanted)
        return parts["pairs"] + self.settings.pairs_perceptual * parts["pairs_perceptual"]

    # ---- unpaired ----------------------------------------------------------------------------------------------------

    def _unpaired(self, batch: Batch, nimg: int) -> dict[str, Tensor]:
        s = self.settings
        photo = torch.cat([batch.photo, batch.pair_photo])
        photo_mask = torch.cat([batch.photo_mask, batch.pair_mask])
        style, style_mask = batch.style, batch.style_mask
        photo_region, style_region = region(photo_mask, s.region_grow), region(style_mask, s.region_grow)
        heads = inside(photo_mask)
        photo_seen, style_seen = shared_regions(heads, inside(style_mask))

        # the attention learns to tell the domains apart, which backgrounds would do for it
        photo_judged, style_judged = self._judged(photo_seen), self._judged(style_seen)
        there, there_details = self.forward_net.detailed(photo, photo_judged)
        back, back_details = self.backward_net.detailed(style, style_judged)
        parts = self._update_discriminators(batch, photo, heads, photo_seen, style_seen, there.output, back.output)

        # the discriminators are only looked through here: no gradient of theirs is needed
        for critic in (self.style_critic, self.photo_critic):
            critic.requires_grad_(False).eval()
        total = self._adversarial_share(nimg) * self._adversarial(parts, there, photo_seen, back, style_seen)
        total = total + self._cycle(parts, there, photo, photo_region, back, style, style_region)
        total = total + self._keep_background(parts, there, there_details, photo, photo_mask)
        total = total + self._keep_background(parts, back, back_details, style, style_mask, "_back")
        if len(batch.pair_photo):
            own = there.content[len(batch.photo) :]
            paired = self._paired(parts, own, batch.pair_photo, batch.pair_styled, batch.pair_drawn)
            total = total + self._pairs_weight(nimg) * paired
        if nimg // s.batch % s.identity_every == 0:  # lazily, × the interval (as StyleGAN2's regularisers)
            occasional = self._occasional(
                parts, batch, photo, there, there_details, back_details, photo_judged, style_judged
            )
            total = total + s.identity_every * occasional
        self._update_generators(total)
        for critic in (self.style_critic, self.photo_critic):
            critic.requires_grad_(True).train()
        return parts

    def _adversarial_share(self, nimg: int) -> float:
        """From 0 to 1 over the first quarter of the unpaired phase.

        Fresh discriminators know nothing yet: at full weight their first gradients undid the warm start (pair loss 0.25
        to 1.2 within 0.2 kimg).
        """
        start, end = self.settings.warm_kimg * 1000, self.settings.kimg * 1000
        return min(1.0, max(0.0, (nimg - start) / max(0.25 * (end - start), 1)))

    def _pairs_weight(self, nimg: int) -> float:
        """From ``pairs_start`` after the warm start to ``pairs_end`` at the end, geometrically where both are > 0."""
        s = self.settings
        start, end = s.warm_kimg * 1000, s.kimg * 1000
        t = min(1.0, max(0.0, (nimg - start) / max(end - start, 1)))
        if min(s.pairs_start, s.pairs_end) <= 0:
            return s.pairs_start + t * (s.pairs_end - s.pairs_start)
        return float(s.pairs_start ** (1 - t) * s.pairs_end**t)

    def _adversarial(
        self, parts: dict[str, Tensor], there: Translation, photo_seen: Tensor, back: Translation, style_seen: Tensor
    ) -> Tensor:
        s = self.settings
        parts["gan"] = losses.lsgan(self.style_critic(self._seen(there.output, photo_seen)), 1.0)
        parts["gan_back"] = losses.lsgan(self.photo_critic(self._seen(back.output, style_seen)), 1.0)
        return s.gan * (parts["gan"] + parts["gan_back"])

    def _cycle(
        self,
        parts: dict[str, Tensor],
        there: Translation,
        photo: Tensor,
        photo_region: Tensor,
        back: Translation,
        style: Tensor,
        style_region: Tensor,
    ) -> Tensor:
        s = self.settings
        if s.cycle <= 0:
            return torch.zeros((), device=photo.device)
        outside = s.cycle_outside
        home, away = (photo_region, style_region) if s.region else (None, None)
        parts["cycle"] = losses.cycle_loss(self.backward_net(there.output).output, photo, home, outside)
        parts["cycle_back"] = losses.cycle_loss(self.forward_net(back.output).output, style, away, outside)
        return s.cycle * (parts["cycle"] + parts["cycle_back"])

    def _keep_background(
        self,
        parts: dict[str, Tensor],
        result: Translation,
        details: Details,
        start: Tensor,
        mask: Tensor,
        way: str = "",
    ) -> Tensor:
        """Mask branch and region loss; ``parts`` receives the figures, their names ending in ``way``."""
        s = self.settings
        total = torch.zeros((), device=start.device)
        if details.mask_logits is not None:
            bce = losses.mask_loss(details.mask_logits, mask)
            tv = losses.total_variation(result.mask)
            area = losses.area_hinge(result.mask, mask)
            parts |= {f"mask{way}": bce, f"mask_tv{way}": tv, f"mask_area{way}": area}
            total = s.mask_weight * bce + s.mask_tv * tv + s.mask_area * area
        if s.region:
            background = losses.background_loss(result.output, start, region(mask, s.region_grow))
            parts[f"background{way}"] = background
            total = total + s.region_weight * background
        return total

    def _occasional(
        self,
        parts: dict[str, Tensor],
        batch: Batch,
        photo: Tensor,
        there: Translation,
        there_details: Details,
        back_details: Details,
        photo_judged: Tensor | None,
        style_judged: Tensor | None,
    ) -> Tensor:
        """Identity, attention and likeness: slow or weak signals that need not come at every step."""
        s = self.settings
        total = torch.zeros((), device=photo.device)
        if s.identity > 0 or s.cam > 0:
            few = photo[: len(batch.style)]
            same, same_details = self.forward_net.detailed(batch.style, style_judged)
            few_judged = None if photo_judged is None else photo_judged[: len(few)]
            same_back, same_back_details = self.backward_net.detailed(few, few_judged)
            # content, not output: the mask branch would make the output equal for nothing
            parts["identity"] = losses.masked_l1(same.content, batch.style, batch.style_mask)
            few_mask = torch.cat([batch.photo_mask, batch.pair_mask])[: len(few)]
            parts["identity_back"] = losses.masked_l1(same_back.content, few, few_mask)
            parts["cam"] = losses.cam_loss(there_details.cam_logits, same_details.cam_logits)
            parts["cam_back"] = losses.cam_loss(back_details.cam_logits, same_back_details.cam_logits)
            total = s.identity * (parts["identity"] + parts["identity_back"])
            total = total + s.cam * (parts["cam"] + parts["cam_back"])
        if self.likeness is not None and s.face_identity > 0:
            with torch.no_grad():
                wanted = self.likeness(photo)
            parts["likeness"] = losses.likeness_loss(self.likeness(there.output), wanted)
            total = total + s.face_identity * parts["likeness"]
        return total

    # ---- discriminators ----------------------------------------------------------------------------------------------

    def _judged(self, where: Tensor) -> Tensor | None:
        """What the domains are told apart by: ``where`` [N, 1, H, W] in [0, 1] below ``unseen_top``, or all."""
        return where * self.seen_rows if self.settings.region else None

    def _seen(self, images: Tensor, where: Tensor) -> Tensor:
        """What a discriminator gets: the region, augmented."""
        judged = self._judged(where)
        return augment(images if judged is None else look_at(images, judged), self.settings.augment)

    def _update_discriminators(
        self,
        batch: Batch,
        photo: Tensor,
        heads: Tensor,
        photo_seen: Tensor,
        style_seen: Tensor,
        there: Tensor,
        back: Tensor,
    ) -> dict[str, Tensor]:
        s = self.settings
        images, where = torch.cat([batch.style, there.detach()]), torch.cat([style_seen, photo_seen])
        if len(batch.edges):  # cut by a photo's head, too, as the style pictures are
            images = torch.cat([images, batch.edges])
            where = torch.cat([where, shared_regions(inside(batch.edges_mask), heads)[0]])
        logits = self.style_critic(self._seen(images, where))
        style = losses.discriminator_loss(logits, len(batch.style), len(there), s.edge_weight)
        images, where = torch.cat([photo, back.detach()]), torch.cat([photo_seen, style_seen])
        logits = self.photo_critic(self._seen(images, where))
        photos = losses.discriminator_loss(logits, len(photo), len(back), 0.0)
        self._update(self.d_optimiser, s.gan * (style + photos))
        return {"d_style": style, "d_photo": photos}

    # ---- optimisation ------------------------------------------------------------------------------------------------

    def _update_generators(self, loss: Tensor) -> None:
        self._update(self.g_optimiser, loss)
        clip_rho(self.forward_net)
        clip_rho(self.backward_net)

    def _update(self, optimiser: ChannelsLastAdam, loss: Tensor) -> None:
        optimiser.zero_grad()
        loss.backward()
        average_gradients(optimiser.weights)
        optimiser.step()

    def _place(self, net: Net) -> Net:
        net.to(self.device.device)
        for parameter in net.parameters():
            if parameter.ndim == 4:
                parameter.data = parameter.data.contiguous(memory_format=self.device.memory_format)
        return net.train()

    def _adam(self, rate: float, *nets: nn.Module) -> ChannelsLastAdam:
        weights = [p for net in nets for p in net.parameters()]
        optimiser = ChannelsLastAdam(weights, rate, betas=BETAS, weight_decay=WEIGHT_DECAY)
        for group in optimiser.param_groups:
            group["base_lr"] = rate
        return optimiser


def faded(photo: Tensor, styled: Tensor, mask: Tensor) -> Tensor:
    """The styled head that turns into the photo within the mask's soft edge: the target of a pair.

    Pictures [N, 3, H, W] in [-1, 1], mask [N, 1, H, W] in [0, 1].
    """
    return photo + inside(mask) * (styled - photo)


def shared_regions(photo_region: Tensor, style_region: Tensor) -> tuple[Tensor, Tensor]:
    """Each region cut by a random one of the other domain, so that both have silhouettes of the same distribution.

    Regions [N, 1, H, W] in [0, 1] to the same. Photos' heads and a style's heads differ in outline. Seen through their
    own regions the discriminators would judge by the outline alone, about which the translator can do nothing.
    """
    photo_partner = torch.randint(len(style_region), (len(photo_region),), device=photo_region.device)
    style_partner = torch.randint(len(photo_region), (len(style_region),), device=photo_region.device)
    return photo_region * style_region[photo_partner], style_region * photo_region[style_partner]
