"""Architecture from names and shapes, strictness, and the safe readers of other projects' files."""

import io
import os
import pickle
import struct
import sys
import types
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from stages.common.errors import ModelFileError
from stages.generate.import_weights import import_weights, list_weights, main, read_weights
from stages.generate.models import load_stylegan, save_stylegan
from stages.generate.networks import Architecture, Discriminator, Generator
from stages.generate.weights import balance_demodulated, discriminator_from_official, generator_from_official

ARCH = Architecture(16, 12, 8, 3, channel_base=64, channel_max=8)


@pytest.fixture()
def nets() -> tuple[Generator, Discriminator]:
    torch.manual_seed(0)
    G, D = Generator(ARCH), Discriminator(ARCH)
    G.mapping.w_avg.normal_()
    return G.eval(), D.eval()


def same(a: torch.nn.Module, b: torch.nn.Module) -> bool:
    left, right = a.state_dict(), b.state_dict()
    return left.keys() == right.keys() and all(torch.equal(left[k], right[k]) for k in left)


@pytest.mark.parametrize(
    "arch",
    [
        ARCH,
        Architecture(32, 8, 8, 8, 512, 64),
        Architecture(64, 16, 16, 1, 256, 64),
        Architecture(32, 4, 4, 2, 128, 512),
    ],
)
def test_architecture_is_inferred(arch: Architecture) -> None:
    G, D = Generator(arch), Discriminator(arch)
    found = generator_from_official({k: v.numpy() for k, v in G.state_dict().items()})
    assert same(found, G)
    assert [found.arch.channels(r) for r in arch.resolutions] == [arch.channels(r) for r in arch.resolutions]
    assert (found.arch.z_dim, found.arch.w_dim, found.arch.mapping_layers) == (
        arch.z_dim,
        arch.w_dim,
        arch.mapping_layers,
    )
    assert same(discriminator_from_official(D.state_dict()), D)


@pytest.mark.parametrize(
    "change,message",
    [
        (lambda s: s.pop("synthesis.b8.conv0.bias"), "synthesis.b8.conv0.bias is missing"),
        (lambda s: s.update({"synthesis.b8.extra": torch.zeros(1)}), "unexpected parameter synthesis.b8.extra"),
        (lambda s: s.update({"mapping.fc1.weight": torch.zeros(8, 9)}), r"mapping.fc1.weight has shape \[8, 9\]"),
        (lambda s: s.update({"mapping.fc3.weight": torch.zeros(8, 8)}), "mapping.fc3.bias is missing"),
        (lambda s: s.update({"synthesis.b4.resample_filter": torch.ones(4, 4)}), "is not the \\[1,3,3,1\\] filter"),
        (lambda s: s["mapping.w_avg"].fill_(float("nan")), "mapping.w_avg holds values that are not finite"),
        (lambda s: s.update({"mapping.embed.weight": torch.zeros(1)}), "class-conditional"),
        (lambda s: s.clear(), "not a StyleGAN2 generator"),
    ],
)
def test_mismatches_are_refused(nets: tuple[Generator, Discriminator], change: Any, message: str) -> None:
    state = {k: v.clone() for k, v in nets[0].state_dict().items()}
    change(state)
    with pytest.raises(ModelFileError, match=message):
        generator_from_official(state)


def test_odd_channels_are_refused(nets: tuple[Generator, Discriminator]) -> None:
    state = dict(nets[1].state_dict())
    state["b8.conv0.weight"] = torch.zeros(7, 8, 3, 3)
    with pytest.raises(ModelFileError, match="channels do not follow"):
        discriminator_from_official(state)


def test_model_file_round_trip(nets: tuple[Generator, Discriminator], tmp_path: Path) -> None:
    save_stylegan(tmp_path / "m.safetensors", *nets, {"licence": "X"})
    G, D, file = load_stylegan(tmp_path / "m.safetensors")
    assert same(G, nets[0]) and D is not None and same(D, nets[1]) and file.meta["licence"] == "X"
    save_stylegan(tmp_path / "h.safetensors", nets[0], None, {}, half=True)
    half, none, _ = load_stylegan(tmp_path / "h.safetensors")
    assert none is None
    torch.testing.assert_close(half.synthesis.b4.const, nets[0].synthesis.b4.const, atol=1e-2, rtol=1e-2)
    assert (tmp_path / "h.safetensors").stat().st_size < (tmp_path / "m.safetensors").stat().st_size


@torch.no_grad()
def test_balancing_keeps_the_function(nets: tuple[Generator, Discriminator]) -> None:
    G = nets[0]
    ws = G.mapping(torch.randn(4, 12))
    before = G.synthesis(ws, "const")
    G.synthesis.b8.conv0.weight.mul_(0.05)
    balance_demodulated(G)
    torch.testing.assert_close(G.synthesis(ws, "const"), before, atol=1e-4, rtol=1e-3)
    assert float(G.synthesis.b8.conv0.weight.square().mean()) == pytest.approx(1, abs=1e-4)
    near = G.synthesis.b8.conv1.weight.mul_(1.3).clone()
    balance_demodulated(G)
    assert torch.equal(G.synthesis.b8.conv1.weight, near), "published weights stay bit for bit"


# --- official pickles -------------------------------------------------------------------------------------------


def official_pickle(networks: dict[str, Any], extra: dict[str, Any] | None = None) -> bytes:
    """A pickle as the official code writes it: modules reduce to one function of a module we do not have."""
    persistence = types.ModuleType("torch_utils.persistence")

    def _reconstruct_persistent_obj(meta: Any) -> None:
        raise AssertionError("never called while writing")

    _reconstruct_persistent_obj.__module__ = "torch_utils.persistence"
    _reconstruct_persistent_obj.__qualname__ = "_reconstruct_persistent_obj"
    persistence._reconstruct_persistent_obj = _reconstruct_persistent_obj  # type: ignore[attr-defined]

    class Module:
        def __init__(self, net: torch.nn.Module, class_name: str, arguments: dict[str, Any]) -> None:
            self.net, self.class_name, self.arguments = net, class_name, arguments

        def __reduce__(self) -> Any:
            children = OrderedDict((n, Module(c, type(c).__name__, {})) for n, c in self.net.named_children())
            state = {
                "_init_args": (),
                "_init_kwargs": self.arguments,
                "_parameters": OrderedDict(self.net.named_parameters(recurse=False)),
                "_buffers": OrderedDict(self.net.named_buffers(recurse=False)),
                "_modules": children,
                "training": False,
            }
            source = "raise SystemExit('executed')"
            meta = {"type": "class", "version": 6, "module_src": source, "class_name": self.class_name, "state": state}
            return _reconstruct_persistent_obj, (meta,)

    parent = types.ModuleType("torch_utils")
    sys.modules |= {"torch_utils": parent, "torch_utils.persistence": persistence}
    try:
        content = {k: v and Module(*v) for k, v in networks.items()} | (extra or {})
        return pickle.dumps(content)
    finally:
        del sys.modules["torch_utils"], sys.modules["torch_utils.persistence"]


def test_official_pickle(nets: tuple[Generator, Discriminator], tmp_path: Path) -> None:
    G, D = nets
    other = Generator(ARCH)
    data = official_pickle(
        {"G": (other, "Generator", {"c_dim": 0}), "D": (D, "Discriminator", {}), "G_ema": (G, "Generator", {})},
        {"training_set_kwargs": {"path": "x"}, "augment_pipe": None, "scalar": np.float32(1), "a": np.arange(3)},
    )
    (tmp_path / "n.pkl").write_bytes(data)
    found = read_weights(tmp_path / "n.pkl")
    assert same(found.generator, G) and found.discriminator is not None and same(found.discriminator, D)


@pytest.mark.parametrize(
    "arguments,message",
    [
        ({"c_dim": 10}, "class-conditional"),
        ({"synthesis_kwargs": {"architecture": "resnet"}}, "architecture 'resnet'"),
        ({"magnitude_ema_beta": 0.9}, "StyleGAN3"),
    ],
)
def test_other_architectures_are_refused(
    nets: tuple[Generator, Discriminator], tmp_path: Path, arguments: dict[str, Any], message: str
) -> None:
    (tmp_path / "n.pkl").write_bytes(official_pickle({"G_ema": (nets[0], "Generator", arguments)}))
    with pytest.raises(ModelFileError, match=message):
        read_weights(tmp_path / "n.pkl")


class Evil:
    def __init__(self, function: Any, *args: Any) -> None:
        self.call = (function, args)

    def __reduce__(self) -> Any:
        return self.call


@pytest.mark.parametrize("suffix", [".pkl", ".pt"])
def test_code_in_a_pickle_is_refused_by_name(tmp_path: Path, suffix: str, capsys: pytest.CaptureFixture[str]) -> None:
    marker = tmp_path / "executed"
    content = {"G_ema": Evil(os.system, f"touch {marker}"), "g_ema": Evil(os.system, f"touch {marker}")}
    path = tmp_path / f"evil{suffix}"
    if suffix == ".pkl":
        path.write_bytes(pickle.dumps(content))
    else:
        torch.save(content, path)
    assert main(["import", str(path), "--out", str(tmp_path / "o.safetensors")]) == 3
    text = capsys.readouterr().err
    assert "system" in text and text.count("\n") == 1 and "Traceback" not in text
    assert not marker.exists() and not (tmp_path / "o.safetensors").exists()


@pytest.mark.parametrize("name", ["getattr", "eval", "__import__"])
def test_builtins_are_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / "b.pkl"
    path.write_bytes(b"\x80\x04c" + f"builtins\n{name}\n".encode() + b".")
    with pytest.raises(ModelFileError, match=f"builtins.{name}"):
        read_weights(path)


def test_nested_torch_pickle_is_refused(tmp_path: Path) -> None:
    """The bytes given to _load_from_bytes are a pickle of their own."""
    inner = io.BytesIO()
    torch.save(Evil(os.system, "true"), inner)
    data = inner.getvalue()
    body = b"ctorch.storage\n_load_from_bytes\n(B" + struct.pack("<I", len(data)) + data + b"tR."
    (tmp_path / "n.pkl").write_bytes(b"\x80\x04" + body)
    with pytest.raises(ModelFileError):
        read_weights(tmp_path / "n.pkl")


@pytest.mark.parametrize("data", [b"", b"\x80\x04", b"not a pickle", pickle.dumps([1]), pickle.dumps({"G": 1})])
@pytest.mark.parametrize("suffix", [".pkl", ".pt", ".npz", ".safetensors", ".bin"])
def test_damaged_files_are_one_clear_line(tmp_path: Path, data: bytes, suffix: str) -> None:
    path = tmp_path / f"x{suffix}"
    path.write_bytes(data)
    with pytest.raises(ModelFileError, match=r"x\.") as caught:
        read_weights(path)
    assert "\n" not in str(caught.value)


# --- other formats ----------------------------------------------------------------------------------------------


def rosinality(G: Generator, D: Discriminator) -> dict[str, Any]:
    """The same networks under rosinality's names."""
    g: dict[str, torch.Tensor] = {}
    o = {k: v.detach() for k, v in G.state_dict().items()}
    for i in range(ARCH.mapping_layers):
        g[f"style.{i + 1}.weight"], g[f"style.{i + 1}.bias"] = o[f"mapping.fc{i}.weight"], o[f"mapping.fc{i}.bias"]
    g["input.input"] = o["synthesis.b4.const"][None]
    blur = torch.outer(torch.tensor([1.0, 3, 3, 1]), torch.tensor([1.0, 3, 3, 1])) / 16

    def conv(theirs: str, ours: str, noise: int) -> None:
        g[f"{theirs}.conv.weight"] = o[f"{ours}.weight"][None]
        g[f"{theirs}.conv.modulation.weight"] = o[f"{ours}.affine.weight"]
        g[f"{theirs}.conv.modulation.bias"] = o[f"{ours}.affine.bias"]
        g[f"{theirs}.noise.weight"] = o[f"{ours}.noise_strength"].reshape(1)
        g[f"{theirs}.activate.bias"] = o[f"{ours}.bias"]
        g[f"noises.noise_{noise}"] = o[f"{ours}.noise_const"][None, None]

    def rgb(theirs: str, ours: str) -> None:
        g[f"{theirs}.conv.weight"] = o[f"{ours}.weight"][None]
        g[f"{theirs}.conv.modulation.weight"] = o[f"{ours}.affine.weight"]
        g[f"{theirs}.conv.modulation.bias"] = o[f"{ours}.affine.bias"]
        g[f"{theirs}.bias"] = o[f"{ours}.bias"].reshape(1, 3, 1, 1)

    conv("conv1", "synthesis.b4.conv1", 0)
    rgb("to_rgb1", "synthesis.b4.torgb")
    for k, r in enumerate(ARCH.resolutions[1:]):
        conv(f"convs.{2 * k}", f"synthesis.b{r}.conv0", 2 * k + 1)
        conv(f"convs.{2 * k + 1}", f"synthesis.b{r}.conv1", 2 * k + 2)
        rgb(f"to_rgbs.{k}", f"synthesis.b{r}.torgb")
        g[f"convs.{2 * k}.conv.blur.kernel"] = blur
        g[f"to_rgbs.{k}.upsample.kernel"] = blur
    s = D.state_dict()
    d = {"convs.0.0.weight": s["b16.fromrgb.weight"], "convs.0.1.bias": s["b16.fromrgb.bias"]}
    for i, r in enumerate([16, 8]):
        d |= {
            f"convs.{i + 1}.conv1.0.weight": s[f"b{r}.conv0.weight"],
            f"convs.{i + 1}.conv1.1.bias": s[f"b{r}.conv0.bias"],
            f"convs.{i + 1}.conv2.0.kernel": blur / 4,
            f"convs.{i + 1}.conv2.1.weight": s[f"b{r}.conv1.weight"],
            f"convs.{i + 1}.conv2.2.bias": s[f"b{r}.conv1.bias"],
            f"convs.{i + 1}.skip.0.kernel": blur / 4,
            f"convs.{i + 1}.skip.1.weight": s[f"b{r}.skip.weight"],
        }
    d |= {"final_conv.0.weight": s["b4.conv.weight"], "final_conv.1.bias": s["b4.conv.bias"]}
    for i, name in enumerate(["fc", "out"]):
        d |= {f"final_linear.{i}.weight": s[f"b4.{name}.weight"], f"final_linear.{i}.bias": s[f"b4.{name}.bias"]}
    return {"g": g, "g_ema": g, "d": d, "latent_avg": o["mapping.w_avg"]}


def test_rosinality(nets: tuple[Generator, Discriminator], tmp_path: Path) -> None:
    torch.save(rosinality(*nets), tmp_path / "r.pt")
    found = read_weights(tmp_path / "r.pt")
    assert same(found.generator, nets[0]) and found.discriminator is not None and same(found.discriminator, nets[1])


def test_rosinality_leftovers_are_refused(nets: tuple[Generator, Discriminator], tmp_path: Path) -> None:
    content = rosinality(*nets)
    content["g_ema"]["convs.9.conv.weight"] = torch.zeros(1)
    torch.save(content, tmp_path / "r.pt")
    with pytest.raises(ModelFileError, match=r"convs\.9\.conv\.weight"):
        read_weights(tmp_path / "r.pt")


def test_npz_with_official_names(nets: tuple[Generator, Discriminator], tmp_path: Path) -> None:
    arrays = {f"G.{k}": v.numpy() for k, v in nets[0].state_dict().items()}
    arrays |= {f"D.{k}": v.numpy() for k, v in nets[1].state_dict().items()}
    np.savez(tmp_path / "a.npz", **arrays)
    line = import_weights(tmp_path / "a.npz", tmp_path / "out" / "a.safetensors", "CC0")
    assert "16 px" in line and "with discriminator" in line
    G, D, file = load_stylegan(tmp_path / "out" / "a.safetensors")
    assert same(G, nets[0]) and D is not None and file.meta["licence"] == "CC0"


def test_npz_with_objects_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "o.npz", **{"G.x": np.array([Evil(os.system, "true")], dtype=object)})
    with pytest.raises(ModelFileError, match="not plain arrays"):
        read_weights(tmp_path / "o.npz")


def test_list(nets: tuple[Generator, Discriminator], tmp_path: Path) -> None:
    save_stylegan(tmp_path / "models" / "shipped" / "source.safetensors", *nets, {"licence": "CC BY 4.0"})
    (tmp_path / "models" / "external").mkdir()
    (tmp_path / "models" / "external" / "ffhq.pkl").write_bytes(b"")
    lines = list_weights(tmp_path)
    assert any("source.safetensors" in line and "16 px" in line and "CC BY 4.0" in line for line in lines)
    assert any("ffhq.pkl" in line and "not imported" in line for line in lines)
