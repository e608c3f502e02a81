"""Edge-smoothed pictures for the edge-promoting adversarial loss (CartoonGAN, Chen et al. 2018), on whole batches.

Cartoons live from crisp outlines, which cover few pixels, so an ordinary discriminator hardly notices when they
are missing. It is therefore also shown styled pictures whose outlines alone were blurred, as fakes.
"""

import math

import torch
import torch.nn.functional as F

LOW, HIGH = 100.0, 200.0  # Canny's thresholds of CartoonGAN, on the 8-bit scale
SIGMA = 1.1  # Gaussian of a 5×5 window as OpenCV derives it
_GREY = (0.299, 0.587, 0.114)


def canny(images: torch.Tensor, low: float = LOW, high: float = HIGH) -> torch.Tensor:
    """Canny's edges of RGB pictures, all at once; the same as cv2.Canny (3×3 Sobel, |gx| + |gy|) on their grey.

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
            grown = F.max_pool2d(grown.float(), 3, 1, 1).bool() & weak
        if torch.equal(grown, edges):
            return edges
        edges = grown


def gaussian_blur(images: torch.Tensor, size: int = 5, sigma: float = SIGMA) -> torch.Tensor:
    """Gaussian blur of float [N, C, H, W], window ``size`` (odd), edges mirrored."""
    x = torch.arange(size, dtype=torch.float32, device=images.device) - size // 2
    kernel = torch.exp(-x.square() / (2 * sigma**2))
    kernel = (kernel / kernel.sum()).to(images.dtype)
    channels, half = images.shape[1], size // 2
    padded = F.pad(images, (half, half, half, half), mode="reflect")
    rows = F.conv2d(padded, kernel.view(1, 1, 1, -1).expand(channels, 1, 1, -1), groups=channels)
    return F.conv2d(rows, kernel.view(1, 1, -1, 1).expand(channels, 1, -1, 1), groups=channels)


def smooth_edges(images: torch.Tensor, size: int = 5, sigma: float = SIGMA) -> torch.Tensor:
    """Pictures with blurred outlines: Canny → dilate ``size`` × ``size`` → Gaussian blur on just those pixels.

    Args:
        images: float [N, 3, H, W] in [-1, 1].

    Returns:
        float [N, 3, H, W] in [-1, 1]; untouched away from edges.
    """
    near = F.max_pool2d(canny(images).float(), size, 1, size // 2).bool()
    return torch.where(near, gaussian_blur(images, size, sigma), images)
