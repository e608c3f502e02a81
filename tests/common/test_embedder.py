"""The face embedder: same numbers as onnxruntime, differentiable, right person first."""

from pathlib import Path

import numpy as np
import pytest
import torch

from stages.common.embedder import FaceEmbedder, face_crop, load_embedder
from stages.common.errors import ModelFileError


@pytest.fixture
def embedder(shared: Path, monkeypatch: pytest.MonkeyPatch) -> FaceEmbedder:
    monkeypatch.setenv("STYLEFACTORY_WEIGHTS", str(shared / "weights"))
    found = load_embedder()
    assert found is not None
    return found


def test_equals_onnxruntime(embedder: FaceEmbedder, shared: Path) -> None:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(shared / "weights/mobilefacenet_112.onnx"))
    x = torch.rand(2, 3, 112, 112, generator=torch.Generator().manual_seed(0)) * 2 - 1
    wanted = np.concatenate([session.run(None, {"input": x[i : i + 1].numpy()})[0] for i in range(2)])
    np.testing.assert_allclose(embedder.net(x).numpy(), wanted, atol=5e-5)


def test_unit_vectors_and_gradient_to_the_picture(embedder: FaceEmbedder) -> None:
    x = (torch.rand(2, 3, 64, 64) * 2 - 1).requires_grad_()
    codes = embedder(x)
    assert codes.shape == (2, 128)
    torch.testing.assert_close(codes.norm(dim=1), torch.ones(2))
    codes[0].sum().backward()
    assert x.grad is not None and x.grad[0].abs().sum() > 0 and x.grad[1].abs().sum() == 0
    assert all(not parameter.requires_grad for parameter in embedder.parameters())


@pytest.mark.parametrize("side", [64, 256, 700])
def test_crop_looks_at_the_same_part_at_every_size(side: int) -> None:
    ramp = torch.linspace(-1, 1, side)[None, None, None].expand(1, 3, side, side)
    crop = face_crop(ramp, side=0.5, centre=(0.5, 0.5))
    assert crop.shape == (1, 3, 112, 112)
    torch.testing.assert_close(crop[0, 0, 50, [0, -1]], torch.tensor([-0.5, 0.5]), atol=0.03, rtol=0)


def test_none_without_the_file_and_clear_error_for_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STYLEFACTORY_WEIGHTS", str(tmp_path))
    assert load_embedder(tmp_path) is None
    (tmp_path / "mobilefacenet_112.onnx").write_bytes(b"not a model")
    with pytest.raises(ModelFileError, match="mobilefacenet_112"):
        load_embedder(tmp_path)
