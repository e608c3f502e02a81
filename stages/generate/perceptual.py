"""Image distance for inversion and encoder training: pixels plus the discriminator's features.

The discriminator comes with every source, knows faces, and costs a tenth of VGG19 at 64 px (0.05 against 1.6
GMACs); what an inversion finds then does not depend on which optional weights a machine has.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from stages.generate.networks import Discriminator

PIXEL_WEIGHT = 4.0  # brings pixel L1 (about 0.1) and feature distance (about 0.3) to one size
BACKGROUND_WEIGHT = 0.25  # "light background": it should fit, but never at the face's cost


def region_weights(masks: Tensor | None, images: Tensor) -> Tensor:
    """Head mask [N, 1, H, W] in [0, 1] -> weights [N, 1, H, W] with mean 1 per picture; without masks all ones.

    images: [N, 3, H, W] of any range; only their shape counts.
    """
    if masks is None:
        return torch.ones_like(images[:, :1])
    weights = BACKGROUND_WEIGHT + (1 - BACKGROUND_WEIGHT) * masks
    return weights / weights.mean((2, 3), keepdim=True)


def face_distance(
    discriminator: Discriminator, images: Tensor, target: Tensor, target_features: dict[int, Tensor], weights: Tensor
) -> Tensor:
    """Weighted L1 of pixels plus squared distance of unit-length features per position: [N].

    The second part is LPIPS (Zhang et al. 2018, eq. 1) in the discriminator's features, without learned weights.

    images, target: [N, 3, R, R] in [-1, 1]; target_features: `normalised_features(discriminator, target)`; weights:
    [N, 1, R, R] >= 0.
    """
    total = PIXEL_WEIGHT * ((images - target).abs() * weights).mean((1, 2, 3))
    for resolution, feature in normalised_features(discriminator, images).items():
        w = F.interpolate(weights, (resolution, resolution), mode="area")
        total = total + ((feature - target_features[resolution]).square() * w).sum(1).mean((1, 2))
    return total


def normalised_features(discriminator: Discriminator, images: Tensor) -> dict[int, Tensor]:
    """Discriminator features {r: [N, C, r, r]} of images [N, 3, R, R] in [-1, 1], of unit length over the channels
    (LPIPS, Zhang et al. 2018), float32, finest first, without the 4x4 ones.
    """
    features = discriminator.features(images)
    return {r: F.normalize(f.float(), dim=1) for r, f in features.items() if r > 4}
