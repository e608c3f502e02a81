"""The translator and its discriminators: shapes, the mask branch, files."""

from pathlib import Path

import pytest
import torch

from stages.common.errors import ModelFileError
from stages.common.modelfile import save_model
from stages.pair.models import load_translator, save_translator
from stages.pair.networks import (
    PLACE,
    DiscriminatorPair,
    TranslatorConfig,
    TranslatorGenerator,
    discriminator_layers,
    with_place,
)


def _net(**options: bool) -> TranslatorGenerator:
    torch.manual_seed(0)
    return TranslatorGenerator(TranslatorConfig(width=4, blocks=1, **options))


@pytest.mark.parametrize("side", [16, 32, 64])
@pytest.mark.parametrize("mask", [True, False])
def test_shapes_and_ranges(side: int, mask: bool) -> None:
    photo = torch.rand(2, 3, side, side) * 2 - 1
    output, drawn, attention, content = _net(mask=mask)(photo)
    assert output.shape == content.shape == (2, 3, side, side) and drawn.shape == (2, 1, side, side)
    assert attention.shape == (2, 1, side // 4, side // 4)
    assert output.abs().max() <= 1 and drawn.min() >= 0 and drawn.max() <= 1
    assert output.dtype == torch.float32


def test_where_the_mask_is_closed_the_photo_comes_through_unrounded() -> None:
    net, photo = _net(), torch.rand(1, 3, 32, 32) * 2 - 1
    with torch.no_grad():
        net.head.weight[3].zero_()
        net.head.bias[3] = -200
    with torch.autocast("cpu", torch.bfloat16):
        output, mask, _, content = net(photo)
    assert torch.equal(output, photo) and mask.max() == 0 and not torch.allclose(content, photo, atol=0.05)


def test_without_a_mask_branch_the_output_is_the_content() -> None:
    output, mask, _, content = _net(mask=False)(torch.rand(1, 3, 32, 32))
    assert torch.equal(output, content) and mask.eq(1).all()


def test_the_skip_is_optional_and_has_no_parameters() -> None:
    with_skip, without = _net(skip=True), _net(skip=False)
    assert set(with_skip.state_dict()) == set(without.state_dict())
    photo = torch.rand(1, 3, 32, 32)
    assert not torch.equal(with_skip(photo).content, without(photo).content)


def test_what_is_drawn_depends_on_the_place() -> None:
    """A uniform photo: with reflected borders and no place every pixel would get the same."""
    content = _net()(torch.zeros(1, 3, 64, 64)).content
    assert content[0].std((1, 2)).min() > 1e-3


@pytest.mark.parametrize("side", [16, 64])
def test_every_place_is_told_apart(side: int) -> None:
    photo = torch.rand(2, 3, side, side)
    both = with_place(photo)
    assert torch.equal(both[:, :3], photo) and both.shape[1] == 3 + PLACE and both.abs().max() <= 1
    places = both[1, 3:].flatten(1).T
    apart = torch.cdist(places, places) + torch.eye(side * side) * 9
    inner = torch.arange(side * side).reshape(side, side)[:, 1:].flatten()  # waves meet again at left and right border
    assert apart[inner][:, inner].min() > 0.05


@pytest.mark.parametrize(("side", "layers"), [(256, (7, 5)), (128, (6, 4)), (64, (5, 3)), (32, (4, 3))])
def test_discriminators_fit_the_resolution(side: int, layers: tuple[int, int]) -> None:
    assert discriminator_layers(side) == layers
    heads = DiscriminatorPair(4, side)(torch.rand(2, 3, side, side))
    assert [head.shape[0] for head in heads] == [2] * 4 and heads[1].shape == heads[3].shape == (2, 2)
    assert heads[0].shape[2] < heads[2].shape[2], "the global one sees larger patches"


def test_file_round_trip_and_refusals(tmp_path: Path) -> None:
    net, path, photo = _net().eval(), tmp_path / "translator.safetensors", torch.rand(1, 3, 32, 32)
    save_translator(path, net, {"style": "toy"})
    again = load_translator(path)
    assert torch.equal(again(photo).output, net(photo).output) and not next(again.parameters()).requires_grad
    save_model(path, "mobile", net.state_dict(), net.config.as_dict(), {})
    with pytest.raises(ModelFileError, match="mobile"):
        load_translator(path)
    save_model(path, "translator", net.state_dict(), {"width": 8, "blocks": 1}, {})
    with pytest.raises(ModelFileError, match="does not fit"):
        load_translator(path)
    save_model(path, "translator", net.state_dict(), {"depth": 8}, {})
    with pytest.raises(ModelFileError, match="does not describe a translator"):
        load_translator(path)


def test_the_persons_tone_comes_past_the_instance_norms() -> None:
    """Two photos that differ in brightness alone are one and the same to a network of instance norms."""
    photo = torch.rand(1, 3, 32, 32) * 0.4
    tones = {}
    for skip in (True, False):
        net = _net(skip=skip, mask=False)
        tones[skip] = (net(photo).content.mean() - net(photo - 0.5).content.mean()).item()
    assert abs(tones[False]) < 0.05 and tones[True] > 0.2


def test_convolutions_start_at_he_scale_and_the_last_one_small() -> None:
    """Smaller weights turn round in Adam's first steps: the demo's translator then stayed at blurs for 2 kimg."""
    net = TranslatorGenerator(TranslatorConfig(width=32, blocks=1))
    for conv in (net.down0, net.down1, net.encoder[0].conv0, net.decoder[0].conv1, net.up1):
        weight = conv.weight
        assert weight.std().item() == pytest.approx((2 / weight[0].numel()) ** 0.5, rel=0.05)
    assert net.head.weight.abs().max().item() <= net.head.weight[0].numel() ** -0.5
