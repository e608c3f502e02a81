"""Shifts by parts of a pixel that blur nothing, for the steadying loss and its measure."""

import math

import torch
import torch.nn.functional as F

RIM = 8  # pixels mirrored around the picture, so that what wraps around stays outside
REACH = 2.0  # pixels; as a hand-held camera moves between frames


def random_shifts(n: int, reach: float, device: torch.device) -> torch.Tensor:
    """Uniform shifts (right, down) of at most ``reach`` pixels, float32 [n, 2], from torch's global generator."""
    return (torch.rand(n, 2, device=device) * 2 - 1) * reach


def shift(images: torch.Tensor, pixels: torch.Tensor) -> torch.Tensor:
    """Pictures moved right and down by ``pixels``, through the phases of their Fourier transform.

    Every frequency below the highest keeps its strength. Interpolation (bilinear, bicubic) would weaken the high ones,
    and a network that has to agree with weakened pictures learns to draw blurred ones.

    Args:
        images: float32 [N, C, H, W] of any range, sides larger than ``RIM``. pixels: [N, 2], less than ``RIM``.

    Returns:
        float32 [N, C, H, W]; at edges it may overshoot the range.
    """
    padded = F.pad(images, (RIM,) * 4, mode="reflect").contiguous()
    height, width = padded.shape[-2:]
    right = torch.fft.rfftfreq(width, device=images.device) * pixels[:, :1]  # [N, W/2 + 1] cycles
    down = torch.fft.fftfreq(height, device=images.device) * pixels[:, 1:]  # [N, H]
    cycles = down[:, None, :, None] + right[:, None, None, :]
    phases = torch.polar(torch.ones_like(cycles), -2 * math.pi * cycles)
    moved = torch.fft.irfft2(torch.fft.rfft2(padded) * phases, s=(height, width))
    return moved[..., RIM:-RIM, RIM:-RIM]
