"""Edge-smoothed pictures for the edge-promoting adversarial loss (CartoonGAN, Chen et al. 2018), on whole batches.

Cartoons live from crisp outlines, which cover few pixels, so an ordinary discriminator hardly notices when they
are missing. It is therefore also shown styled pictures whose outlines alone were blurred, as fakes.
"""

import math

import torch
import torch.nn.functional as F

from stages.common.dilation import dilate

LOW, HIGH = 100.0, 200.0  # Canny's thresholds of CartoonGAN, on the 8-bit scale
SIGMA = 1.1  # Gaussian of a 5×5 window as OpenCV derives it
_GREY = (0.299, 0.587, 0.114)


def canny(images: torch.Tensor, low: float = LOW, high: float = HIGH) -> torch.Tensor:
    """Edges (Canny 1986) of RGB pictures, all at once; the same as cv2.Canny (3×3 Sobel, |gx| + |gy|) on their grey.

    Args:
        images: float [N, 3, H, W] in [-1, 1].

    Returns:
        bool [N, 1, H, W].
    """
    weights = images.new_tensor(_GREY).view(1, 3, 1, 1)
    grey = (((images.float() + 1) * 127.5) * weights).sum(1, keepdim=True).round()
    padded = F.pad(grey, (1, 1, 1, 1), mode="replicate")
    smooth = images.new_tensor([1.0, 2.0, 1.0])
    slope = images.new_tensor([-1.0, 0.0, 1.0])
    gx = F.conv2d(padded, torch.outer(smooth, slope)[None, None])
    gy = F.conv2d(padded, torch.outer(slope, smooth)[None, None])
    magnitude = gx.abs() + gy.abs()
    thin = magnitude.gt(low) & _is_ridge(magnitude, gx, gy)
    return _grow(thin & magnitude.gt(high), thin)


def _is_ridge(magnitude: torch.Tensor, gx: torch.Tensor, gy: torch.Tensor) -> torch.Tensor:
    """Non-maximum suppression along the gradient in four directions; ties as in OpenCV: > before, >= after."""
    m = F.pad(magnitude, (1, 1, 1, 1))
    height, width = magnitude.shape[2:]

    def at(dy: int, dx: int) -> torch.Tensor:
        return m[:, :, 1 + dy : 1 + dy + height, 1 + dx : 1 + dx + width]

    ax, ay = gx.abs(), gy.abs()
    flat = ay < ax * math.tan(math.pi / 8)
    steep = ay > ax * math.tan(3 * math.pi / 8)
    horizontal = (magnitude > at(0, -1)) & (magnitude >= at(0, 1))
    vertical = (magnitude > at(-1, 0)) & (magnitude >= at(1, 0))
    falling = (magnitude > at(-1, -1)) & (magnitude > at(1, 1))
    rising = (magnitude > at(-1, 1)) & (magnitude > at(1, -1))
    diagonal = torch.where((gx < 0) != (gy < 0), rising, falling)
    return torch.where(flat, horizontal, torch.where(steep, vertical, diagonal))


def _grow(strong: torch.Tensor, weak: torch.Tensor) -> torch.Tensor:
    """Hysteresis: weak pixels connected to strong ones (8 neighbours), until nothing changes."""
    edges = strong
    while True:
        # eight steps per look at the result: asking whether it changed waits for the device
        grown = edges
        for _ in range(8):
            grown = dilate(grown, 1) & weak
        if torch.equal(grown, edges):
            return edges
        edges = grown


def gaussian_blur(images: torch.Tensor, size: int = 5, sigma: float = SIGMA) -> torch.Tensor:
    """Gaussian blur of float [N, C, H, W] of any range, window ``size`` (odd), edges mirrored.

    Rows and columns by one banded matrix each: the gradient of a grouped convolution with so few channels took 20
    times as long on CPUs.
    """
    rows, columns = (_blur_matrix(side, size, sigma).to(images) for side in images.shape[2:])
    return rows @ images @ columns.t()


def _blur_matrix(side: int, size: int, sigma: float) -> torch.Tensor:
    """[side, side]: row i holds the weights with which positions, mirrored at the ends, enter position i."""
    offset = torch.arange(size) - size // 2
    kernel = torch.exp(-offset.square() / (2 * sigma**2))
    at = torch.arange(side)[:, None] + offset
    at = (side - 1) - ((side - 1) - at.abs()).abs()
    return torch.zeros(side, side).scatter_add_(1, at, (kernel / kernel.sum()).expand(side, size))


def smooth_edges(images: torch.Tensor, size: int = 5, sigma: float = SIGMA) -> torch.Tensor:
    """Pictures with blurred outlines: Canny → dilate ``size`` × ``size`` → Gaussian blur on just those pixels.

    Args:
        images: float [N, 3, H, W] in [-1, 1].

    Returns:
        float [N, 3, H, W] in [-1, 1]; untouched away from edges.
    """
    near = dilate(canny(images), size // 2)
    return torch.where(near, gaussian_blur(images, size, sigma), images)
