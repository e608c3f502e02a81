"""Exponential moving average of a network's weights."""

import copy

import torch
from torch import nn


class EMA:
    """Keeps ``net``, a frozen copy of a network that follows it with an exponential moving average.

    Parameters are averaged; buffers (w_avg, noise constants, batch-norm statistics) are copied, as in
    StyleGAN2-ADA (Karras et al. 2020b, training loop).
    """

    def __init__(self, source: nn.Module) -> None:
        self.source = source
        self.net = copy.deepcopy(source).eval().requires_grad_(False)
        self._pairs = list(zip(self.net.parameters(), source.parameters(), strict=True))

    @torch.no_grad()
    def update(self, beta: float) -> None:
        """``ema = beta * ema + (1 - beta) * source`` in one fused pass; ``beta`` in [0, 1]."""
        mine: list[torch.Tensor] = [pair[0] for pair in self._pairs]
        theirs: list[torch.Tensor] = [pair[1].detach() for pair in self._pairs]
        torch._foreach_lerp_(mine, theirs, 1 - beta)
        for buffer, original in zip(self.net.buffers(), self.source.buffers(), strict=True):
            buffer.copy_(original)

    def state_dict(self) -> dict[str, torch.Tensor]:
        return self.net.state_dict()

    def load_state_dict(self, state: dict[str, torch.Tensor]) -> None:
        self.net.load_state_dict(state)


def half_life_beta(batch: int, half_life_nimg: float) -> float:
    """Beta whose weight halves every ``half_life_nimg`` images at ``batch`` images per update (Karras et al. 2020b)."""
    return 0.5 ** (batch / max(half_life_nimg, 1e-8))
