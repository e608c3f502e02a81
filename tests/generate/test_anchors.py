"""Anchors: codes follow their pictures, mirror images have codes of their own, training pulls towards them."""

import torch

from stages.generate.anchors import EXPOSURES, make_anchors
from stages.generate.encoder import Encoder, EncoderConfig
from stages.generate.losses import anchor_distance


def test_codes_belong_to_their_pictures() -> None:
    torch.manual_seed(0)
    encoder = Encoder(EncoderConfig(resolution=32, num_ws=8, w_dim=16)).eval()
    encoder.w_scale.fill_(1.0)
    images = torch.randint(0, 256, (5, 3, 32, 32), dtype=torch.uint8)
    anchors = make_anchors(images, encoder, seed=0)
    assert anchors.images.shape == (10, 3, 32, 32) and anchors.codes.shape == (len(EXPOSURES), 10, 16)
    codes, drawn = anchors.draw(0, 10)
    torch.testing.assert_close(codes[0], encoder(drawn[:1]).mean(1)[0], rtol=1e-3, atol=1e-3)
    assert torch.equal(anchors.images[5:], images.flip(3))
    again = anchors.draw(4, 6)[0]
    assert torch.equal(again, codes[4:]), "draws depend on the image number alone"


def test_distance_counts_detail_and_place() -> None:
    wanted = torch.zeros(1, 3, 8, 8)
    assert float(anchor_distance(wanted, wanted)) == 0
    assert float(anchor_distance(wanted + 1, wanted)) == 2.0
    checkerboard = (torch.arange(8)[:, None] + torch.arange(8)) % 2 * 2.0 - 1
    assert float(anchor_distance(checkerboard.expand(1, 3, 8, 8), wanted)) == 1.0
