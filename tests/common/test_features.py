"""Feature networks: VGG19 against a hand-made convolution, hash check and names, cache."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional

from stages.common import features
from stages.common.errors import InputError, ModelFileError
from stages.common.weights import ExternalWeight
from stages.generate import feature_loss


def tiny_net() -> features.FeatureNet:
    return features.FeatureNet("enc", "mean colour", "00", lambda images: images.mean(dim=(2, 3)))


def test_vgg19_first_layer_and_early_stop(shared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STYLEFACTORY_WEIGHTS", str(shared / "weights"))
    network = features.load_vgg19()
    assert network is not None
    images = torch.rand(2, 3, 32, 32) * 2 - 1
    found = network(images, ["block2_conv1"])
    assert list(found) == ["block2_conv1"]
    assert found["block2_conv1"].shape == (2, 128, 16, 16)
    with np.load(shared / "weights" / "vgg19_conv_u8.npz") as archive:
        scale, low = archive["block1_conv1.kernel.scale_min"]
        kernel = torch.from_numpy(archive["block1_conv1.kernel"].astype(np.float32) * scale + low)
        scale, low = archive["block1_conv1.bias.scale_min"]
        bias = torch.from_numpy(archive["block1_conv1.bias"].astype(np.float32) * scale + low)
    bgr = (images[:, [2, 1, 0]] + 1) * 127.5 - torch.tensor([103.939, 116.779, 123.68]).view(1, 3, 1, 1)
    want = functional.conv2d(bgr, kernel.permute(3, 2, 0, 1), bias, padding=1)
    torch.testing.assert_close(network(images, ["block1_conv1"])["block1_conv1"], want, rtol=1e-4, atol=1e-2)
    with pytest.raises(KeyError, match="block9"):
        network(images, ["block9_conv1"])
    assert not any(p.requires_grad for p in network.parameters())


def test_vgg19_absent_or_damaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STYLEFACTORY_WEIGHTS", str(tmp_path))
    assert features.load_vgg19(tmp_path) is None
    np.savez(tmp_path / "vgg19_conv_u8.npz", other=np.zeros(1))
    with pytest.raises(ModelFileError, match="VGG19"):
        features.load_vgg19(tmp_path)


def test_inception_file_must_be_the_published_one(tmp_path: Path) -> None:
    path = tmp_path / "pt_inception.pth"
    settings: Any = SimpleNamespace(evaluate=SimpleNamespace(fid_weights=str(path)))
    with pytest.raises(InputError, match="does not exist"):
        features.feature_net(settings, tmp_path)
    path.write_bytes(b"not weights")
    with pytest.raises(InputError, match="must not be called FID"):
        features.feature_net(settings, tmp_path)


@pytest.mark.slow
def test_inception_runs_through_pytorch_fid(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    features.import_torchvision()
    from pytorch_fid import inception

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(inception, "load_state_dict_from_url", lambda *_, **__: {})
        patch.setattr(torch.nn.Module, "load_state_dict", lambda *_, **__: None)
        network = inception.fid_inception_v3()
    path = tmp_path / "random.pth"
    torch.save(network.state_dict(), path)
    stand_in = ExternalWeight("inception", (path.name,), "", "", sha256="")
    monkeypatch.setitem(features.BY_NAME, "inception", stand_in)
    net = features.inception_net(path)
    assert net.frechet_name == "fid"
    assert net.kid_name == "kid"
    assert net.extract(torch.zeros(2, 3, 64, 64)).shape == (2, 2048)


def test_vgg19_measures_sets_where_inception_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings: Any = SimpleNamespace(evaluate=SimpleNamespace(fid_weights=""))
    (tmp_path / "vgg19_conv_u8.npz").write_bytes(b"stands for the file")
    monkeypatch.setenv("STYLEFACTORY_WEIGHTS", str(tmp_path))
    torch.manual_seed(0)
    weights: dict[str, np.ndarray] = {}
    channels = 3
    for name in features.VGG_LAYERS:
        wider = {"1": 64, "2": 128, "3": 256}.get(name[5], 512)
        weights[f"{name}.kernel"] = torch.randn(3, 3, channels, wider).numpy() * (2 / 9 / channels) ** 0.5
        weights[f"{name}.bias"] = np.zeros(wider, np.float32)
        channels = wider
    monkeypatch.setattr(features, "load_vgg19", lambda root: features.VGG19(weights))
    net = features.feature_net(settings, tmp_path)
    assert (net.frechet_name, net.kid_name) == ("fd_vgg19", "kid_vgg19")
    pictures = torch.rand(3, 3, 32, 32) * 2 - 1
    measured = net.extract(pictures)
    assert measured.shape == (3, 256 + 512 + 512)
    depths = torch.split(measured, [256, 512, 512], dim=1)
    for depth in depths:  # each counts the same
        assert torch.allclose(depth.square().mean(1), torch.ones(3), atol=1e-4)
    assert not set(features.VGG_MEASURED) & set(feature_loss.VGG_LAYERS), "layers of a loss must not judge it"


def test_encoder_features_are_never_called_fid(tmp_path: Path) -> None:
    net = tiny_net()
    assert (net.frechet_name, net.kid_name) == ("fd_enc", "kid_enc")
    with pytest.raises(InputError, match="source"):
        features.encoder_net(tmp_path)


def test_extract_batches_and_caches_by_content(tmp_path: Path) -> None:
    calls = []

    def forward(images: torch.Tensor) -> torch.Tensor:
        calls.append(len(images))
        return images.mean(dim=(2, 3))

    net = features.FeatureNet("enc", "mean colour", "00", forward)
    images = np.random.default_rng(0).integers(0, 256, (70, 8, 8, 3), dtype=np.uint8)
    first = net.extract_cached(images, tmp_path)
    assert first.shape == (70, 3)
    assert calls == [64, 6]
    assert (net.extract_cached(images, tmp_path) == first).all()
    assert calls == [64, 6]
    net.extract_cached(images[:10], tmp_path)
    assert calls == [64, 6, 10]
