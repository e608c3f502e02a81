"""Edge smoothing: OpenCV's Canny pixel by pixel, blur only near outlines."""

import cv2
import numpy as np
import torch
from skimage import data

from stages.common.images import to_tensor
from stages.mobile.edge import canny, gaussian_blur, smooth_edges


def pictures() -> np.ndarray:
    astronaut = data.astronaut()
    crops = [astronaut[:256, 100:356], astronaut[200:456, :256], astronaut[100:228, 150:278]]
    return np.stack([cv2.resize(crop, (64, 64), interpolation=cv2.INTER_AREA) for crop in crops])


def test_canny_equals_opencv() -> None:
    images = pictures()
    ours = canny(to_tensor(images))[:, 0].numpy()
    for image, edges in zip(images, ours, strict=True):
        theirs = cv2.Canny(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), 100, 200) > 0
        assert theirs.sum() > 100 and np.array_equal(edges, theirs)


def test_blur_equals_opencv() -> None:
    image = pictures()[:1]
    ours = gaussian_blur(to_tensor(image), 5, 1.1)
    theirs = cv2.GaussianBlur(image[0].astype(np.float32), (5, 5), 1.1, borderType=cv2.BORDER_REFLECT_101)
    assert np.abs((ours[0].permute(1, 2, 0).numpy() + 1) * 127.5 - theirs).max() < 0.01


def test_only_outlines_are_blurred() -> None:
    image = torch.full((1, 3, 32, 32), -0.8)
    image[..., 16:] = 0.8
    smooth = smooth_edges(image)
    changed = (smooth != image).any(1)[0]
    assert changed[:, 14:18].all() and not changed[:, :12].any() and not changed[:, 21:].any()
    assert torch.equal(smooth_edges(torch.zeros(1, 3, 32, 32)), torch.zeros(1, 3, 32, 32))
