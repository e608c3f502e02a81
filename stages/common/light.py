"""Other light on a photo: what networks must not care about."""

import torch


def relight(photo: torch.Tensor, strength: float) -> torch.Tensor:
    """Brightness, contrast, gamma, saturation, white balance and a sideways light gradient.

    photo [N, 3, H, W] in [-1, 1] → the same; strength 0 changes nothing.
    """
    n, _, height, width = photo.shape

    def around_zero(*shape: int) -> torch.Tensor:
        return (torch.rand(n, *shape, device=photo.device) * 2 - 1) * strength

    unit = (photo + 1) / 2
    unit = unit.clamp(1e-4, 1).pow(torch.exp(around_zero(1, 1, 1)))  # gamma
    unit = unit * torch.exp(0.4 * around_zero(3, 1, 1))  # white balance
    y = torch.linspace(-1, 1, height, device=photo.device).view(1, 1, -1, 1)
    x = torch.linspace(-1, 1, width, device=photo.device).view(1, 1, 1, -1)
    unit = unit * (1 + around_zero(1, 1, 1) * x + 0.5 * around_zero(1, 1, 1) * y)
    grey = unit.mean(1, keepdim=True)
    unit = grey + (unit - grey) * torch.exp(2 * around_zero(1, 1, 1))  # saturation
    middle = unit.mean((1, 2, 3), keepdim=True)
    unit = middle + (unit - middle) * torch.exp(around_zero(1, 1, 1)) + 0.4 * around_zero(1, 1, 1)
    return (unit * 2 - 1).clamp(-1, 1)
