"""Dilation against max pooling."""

import pytest
import torch
import torch.nn.functional as F

from stages.common.dilation import dilate


@pytest.mark.parametrize("radius", [0, 1, 2, 3, 4, 7])
def test_dilation_equals_max_pooling(radius: int) -> None:
    x = torch.randn(3, 2, 17, 12, generator=torch.Generator().manual_seed(0))
    assert torch.equal(dilate(x, radius), F.max_pool2d(x, 2 * radius + 1, 1, radius))


def test_bool_masks_do_not_grow_from_the_border() -> None:
    x = torch.zeros(2, 1, 9, 9, dtype=torch.bool)
    x[0, 0, 4, 4] = True
    assert torch.equal(dilate(x, 2), F.max_pool2d(x.float(), 5, 1, 2).bool())
