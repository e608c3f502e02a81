"""Feature networks: VGG19 for perceptual losses; Inception, VGG19 or the shipped encoder for distances between sets.

Which network measured is part of every figure: ``FeatureNet.name`` is part of the metric's (``fid`` and ``kid``
only for genuine Inception features, else ``fd_vgg19``, ``kid_vgg19``, ``fd_enc``, ``kid_enc``) and ``fingerprint``
is compared before two runs are.
"""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from stages.common.atomic import atomic_path
from stages.common.errors import InputError, ModelFileError
from stages.common.images import to_tensor
from stages.common.weights import BY_NAME, find, sha256

if TYPE_CHECKING:
    from pipeline.settings import Settings

VGG_LAYERS = tuple(
    f"block{block}_conv{conv}" for block, convs in enumerate((2, 2, 4, 4, 4), 1) for conv in range(1, convs + 1)
)
VGG_MEASURED = ("block3_conv3", "block4_conv2", "block5_conv2")  # of sets; layers that no loss uses
_VGG_MEAN_BGR = (103.939, 116.779, 123.68)
_KEEP_ALIVE: list[Any] = []


class VGG19(nn.Module):
    """The convolutions of VGG19 (Simonyan & Zisserman 2015), ImageNet weights, frozen.

    Layers carry Keras' names, ``block4_conv4`` is the conv4_4 of the papers.
    """

    mean: Tensor

    def __init__(self, weights: dict[str, NDArray[np.float32]]) -> None:
        super().__init__()
        self.convs = nn.ModuleDict()
        for name in VGG_LAYERS:
            kernel = torch.from_numpy(weights[f"{name}.kernel"]).permute(3, 2, 0, 1)
            conv = nn.Conv2d(kernel.shape[1], kernel.shape[0], 3, padding=1)
            conv.weight.data.copy_(kernel)
            conv.bias.data.copy_(torch.from_numpy(weights[f"{name}.bias"]))  # type: ignore[union-attr]
            self.convs[name] = conv
        self.register_buffer("mean", torch.tensor(_VGG_MEAN_BGR).view(1, 3, 1, 1), persistent=False)
        self.requires_grad_(False).eval()

    def forward(self, images: Tensor, layers: Sequence[str] = VGG_LAYERS) -> dict[str, Tensor]:
        """Responses *before* the ReLU of the named layers; stops after the last one needed.

        Args:
            images: [N, 3, H, W] RGB in [-1, 1], H and W >= 16.
            layers: names from :data:`VGG_LAYERS`; KeyError for another name.
        """
        unknown = set(layers) - set(VGG_LAYERS)
        if unknown:
            raise KeyError(f"VGG19 has no layers {sorted(unknown)}")
        x = (images.flip(1) + 1) * 127.5 - self.mean
        found: dict[str, Tensor] = {}
        for name in VGG_LAYERS:
            if name.endswith("_conv1") and name != "block1_conv1":
                x = functional.max_pool2d(x, 2)
            x = self.convs[name](x)
            if name in layers:
                found[name] = x
                if len(found) == len(set(layers)):
                    break
            x = functional.relu(x)
        return found


def load_vgg19(root: Path | None = None) -> VGG19 | None:
    """VGG19 from ``vgg19_conv_u8.npz`` (8-bit weights with scale and minimum), or None where nobody put the
    file.

    Raises:
        ModelFileError: the file is there but lacks a layer or is damaged.
    """
    path = find("vgg19", root)
    if path is None:
        return None
    weights = {}
    try:
        with np.load(path) as archive:
            for name in (f"{layer}.{part}" for layer in VGG_LAYERS for part in ("kernel", "bias")):
                scale, low = archive[f"{name}.scale_min"]
                weights[name] = archive[name].astype(np.float32) * scale + low
    except (KeyError, ValueError, OSError) as error:
        raise ModelFileError(f"{path}: not the 8-bit VGG19 weights ({error})") from error
    return VGG19(weights)


@dataclass(frozen=True)
class FeatureNet:
    """A fixed network that turns pictures into feature vectors.

    ``name`` is "inception", "vgg19" or "enc", ``layer`` says what is pooled, ``fingerprint`` is the start of the
    file's hash.
    """

    name: str
    layer: str
    fingerprint: str
    forward: Callable[[Tensor], Tensor]

    @property
    def frechet_name(self) -> str:
        """What a Fréchet distance in these features may be called."""
        return "fid" if self.name == "inception" else f"fd_{self.name}"

    @property
    def kid_name(self) -> str:
        """What a kernel distance in these features may be called."""
        return "kid" if self.name == "inception" else f"kid_{self.name}"

    @torch.no_grad()
    def extract(self, images: Tensor, batch: int = 64) -> Tensor:
        """Images [N, 3, H, W] in [-1, 1] → features [N, F] float32 on the CPU, in batches."""
        return torch.cat([self.forward(part).float().cpu() for part in images.split(batch)])

    def extract_cached(self, images: NDArray[np.uint8], cache: Path) -> NDArray[np.float32]:
        """uint8 NHWC → features [N, F]; computed once per content (hash of pixels, network and layer)."""
        key = hashlib.sha256(f"{self.name} {self.layer} {self.fingerprint} {images.shape}".encode())
        key.update(np.ascontiguousarray(images).data)
        path = cache / f"{key.hexdigest()[:32]}.npy"
        if path.is_file():
            return np.load(path, allow_pickle=False)
        features = self.extract(to_tensor(images)).numpy()
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(path) as temporary, temporary.open("wb") as file:
            np.save(file, features)
        return features


def feature_net(settings: "Settings", root: Path | None = None) -> FeatureNet:
    """The network that distances between sets are measured with.

    Genuine FID features where the Inception weights are given (``evaluate.fid_weights`` or found by
    :func:`stages.common.weights.find`), else VGG19's where its file is found, else the shipped encoder's.

    Raises:
        InputError: ``evaluate.fid_weights`` is not that file, or no encoder has been built yet.
    """
    root = root or Path.cwd()
    named = settings.evaluate.fid_weights
    path = root / named if named else find("inception", root)
    if path is not None:
        return inception_net(path)
    vgg_file, vgg = find("vgg19", root), load_vgg19(root)
    if vgg_file is None or vgg is None:
        return encoder_net(root)
    return vgg_net(vgg, sha256(vgg_file))


def inception_net(path: Path) -> FeatureNet:
    """The Inception network of FID (Heusel et al. 2017; pool3, 2048-d) through pytorch-fid, weights from a local file.

    Raises:
        InputError: the file is absent or not the published one (SHA-256 checked: pytorch-fid does not).
    """
    if not path.is_file():
        raise InputError(f"evaluate.fid_weights: {path} does not exist")
    digest, wanted = sha256(path), BY_NAME["inception"].sha256
    if not digest.startswith(wanted):
        raise InputError(
            f"{path}: SHA-256 starts with {digest[:8]}, the FID Inception weights start with {wanted};"
            " figures from other weights must not be called FID"
        )
    import_torchvision()
    from pytorch_fid import inception

    with _local_download(inception, path):
        network = inception.InceptionV3([inception.InceptionV3.BLOCK_INDEX_BY_DIM[2048]]).eval()

    def forward(images: Tensor) -> Tensor:
        return network((images + 1) / 2)[0].flatten(1)

    return FeatureNet("inception", "pool3, 299 px bilinear", digest[:16], forward)


def vgg_net(vgg: VGG19, digest: str) -> FeatureNet:
    """Means over positions of VGG19's activations at three depths, each depth scaled to mean square 1 (1,280 numbers).

    Means, since at 64 px the deep maps are 8×8 and 4×4; one scale per depth, or the kernel of KID would see the depth
    with the largest numbers alone. It sees what the small encoder misses: photos with one drawn eye in them lie at
    0.67 of the way from style to photo, by the encoder at 0.35 (docs/metrics.md).
    """

    def forward(images: Tensor) -> Tensor:
        responses = vgg(images, VGG_MEASURED)
        means = [functional.relu(responses[name]).mean((2, 3)) for name in VGG_MEASURED]
        return torch.cat([m * torch.rsqrt(m.square().mean(1, keepdim=True) + 1e-12) for m in means], 1)

    return FeatureNet("vgg19", "mean activations, " + ", ".join(VGG_MEASURED), digest[:16], forward)


def encoder_net(root: Path) -> FeatureNet:
    """Pooled features of the inversion encoder: the shipped one, so that figures of all styles share one
    ruler.

    Raises:
        InputError: neither models/shipped nor models/source holds an encoder.
    """
    from stages.generate.encoder import load_encoder

    path = encoder_file(root)
    encoder = load_encoder(path).eval()
    return FeatureNet("enc", "encoder, spatial deviation, 4 levels", sha256(path)[:16], encoder.features)


def encoder_file(root: Path) -> Path:
    """The encoder that measures: the shipped one where there is one, else this checkout's own.

    Raises:
        InputError: there is neither.
    """
    candidates = [root / "models" / folder / "encoder.safetensors" for folder in ("shipped", "source")]
    path = next((p for p in candidates if p.is_file()), None)
    if path is None:
        raise InputError(f"no encoder at {candidates[0]} or {candidates[1]}; run the 'source' stage first")
    return path


def import_torchvision() -> None:
    """Imports torchvision even when its wheel is a CUDA build beside a CPU torch.

    Such a wheel cannot load its compiled operators and then fails on registering ``torchvision::nms``;
    declaring the two operators is enough for the networks, which never call them. Declared only when they are
    really missing.
    """
    import importlib
    import sys

    try:
        importlib.import_module("torchvision")
    except RuntimeError as error:
        if "torchvision::nms" not in str(error):
            raise
        library = torch.library.Library("torchvision", "DEF")
        for operator in ("nms", "qnms"):
            library.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        _KEEP_ALIVE.append(library)
        for module in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
            del sys.modules[module]
        importlib.import_module("torchvision")


@contextmanager
def _local_download(module: Any, path: Path) -> Iterator[None]:
    """pytorch-fid always asks for a download; inside this context it gets the local file."""
    original = module.load_state_dict_from_url
    module.load_state_dict_from_url = lambda *_, **__: torch.load(path, map_location="cpu", weights_only=True)
    try:
        yield
    finally:
        module.load_state_dict_from_url = original
