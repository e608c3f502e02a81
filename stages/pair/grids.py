"""Pictures of a translator at work."""

import cv2
import numpy as np
import torch
from torch import Tensor

from stages.common.images import grid, to_uint8
from stages.pair.networks import TranslatorGenerator


@torch.no_grad()
def translation_grid(
    forward_net: TranslatorGenerator, backward_net: TranslatorGenerator | None, photos: Tensor
) -> np.ndarray:
    """One column per photo; rows: photo, mask, attention, content, result, and the way back where there is one.

    Args:
        photos: [N, 3, H, W] in [-1, 1].

    Returns:
        uint8 [H', W', 3].
    """
    output, mask, attention, content = forward_net(photos)
    rows = [to_uint8(photos), _grey(mask), _heat(attention, photos), to_uint8(content), to_uint8(output)]
    if backward_net is not None:
        rows.append(to_uint8(backward_net(output).output))
    return grid([tile for row in rows for tile in row], columns=len(photos))


def _grey(mask: Tensor) -> np.ndarray:
    return to_uint8((mask * 2 - 1).expand(-1, 3, -1, -1))


def _heat(attention: Tensor, photos: Tensor) -> np.ndarray:
    """Attention over the photo, blue (least of this picture) to red (most)."""
    tiles = []
    for heat, photo in zip(attention.float().cpu().numpy()[:, 0], to_uint8(photos), strict=True):
        spread = float(np.ptp(heat)) or 1.0
        level = ((heat - heat.min()) / spread * 255).astype(np.uint8)
        level = cv2.resize(level, photo.shape[1::-1], interpolation=cv2.INTER_LINEAR)
        colour = cv2.cvtColor(cv2.applyColorMap(level, cv2.COLORMAP_JET), cv2.COLOR_BGR2RGB)
        tiles.append(cv2.addWeighted(photo, 0.4, colour, 0.6, 0))
    return np.stack(tiles)
