"""Adam on channels_last weights."""

import pytest
import torch
from torch import nn

from stages.common.adam import ChannelsLastAdam


def _net(memory_format: torch.memory_format) -> nn.Module:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 4, 1), nn.Flatten(), nn.Linear(4 * 36, 2))
    return nn.Module.to(net, memory_format=memory_format)  # type: ignore[call-overload,no-any-return]


def _train(net: nn.Module, optimiser: torch.optim.Optimizer, steps: range) -> None:
    for i in steps:
        x = torch.randn(5, 3, 8, 8, generator=torch.Generator().manual_seed(i))
        optimiser.zero_grad()
        net(x).square().mean().backward()
        optimiser.step()


@pytest.mark.parametrize("memory_format", [torch.channels_last, torch.contiguous_format])
def test_updates_equal_those_of_torchs_adam(memory_format: torch.memory_format) -> None:
    mine, reference = _net(memory_format), _net(memory_format)
    options = {"betas": (0.5, 0.999), "weight_decay": 1e-2}
    _train(mine, ChannelsLastAdam(mine.parameters(), 1e-2, **options), range(5))
    _train(reference, torch.optim.Adam(reference.parameters(), 1e-2, **options), range(5))  # type: ignore[arg-type]
    for own, other in zip(mine.parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(own, other, atol=1e-6, rtol=1e-5)


def test_a_saved_state_goes_on_identically() -> None:
    whole = _net(torch.channels_last)
    _train(whole, ChannelsLastAdam(whole.parameters(), 1e-2), range(6))
    first = _net(torch.channels_last)
    optimiser = ChannelsLastAdam(first.parameters(), 1e-2)
    _train(first, optimiser, range(3))
    weights, state = first.state_dict(), optimiser.state_dict()
    second = _net(torch.channels_last)
    resumed = ChannelsLastAdam(second.parameters(), 1e-2)
    second.load_state_dict(weights)
    resumed.load_state_dict(state)
    _train(second, resumed, range(3, 6))
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), second.parameters(), strict=True))


def test_weights_without_a_gradient_stay() -> None:
    net = _net(torch.channels_last)
    optimiser = ChannelsLastAdam(net.parameters(), 1e-2)
    before = net[0].weight.detach().clone()  # type: ignore[index]
    net[0].requires_grad_(False)  # type: ignore[index]
    _train(net, optimiser, range(2))
    assert torch.equal(net[0].weight, before)  # type: ignore[index]
    assert len(optimiser.weights) == len(list(net.parameters()))
