"""What runs on a CUDA device: the reference numbers, training steps, stages 1 to 3, and results as on the CPU."""

import itertools
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline.settings import TranslateSettings
from pipeline.settings.generate import EncoderSettings
from pipeline.settings.mobile import MobileSettings
from stages.common.device import Device
from stages.common.embedder import FaceEmbedder
from stages.generate import fuse, generate
from stages.generate.ada import AdaptiveAugment, AugmentSet
from stages.generate.encoder_training import train_encoder
from stages.generate.feature_loss import load_features
from stages.generate.networks import Discriminator, Generator
from stages.generate.train import GanOptions, GanTrainer
from stages.generate.weights import discriminator_from_official, generator_from_official
from stages.mobile.data import load_training_data
from stages.mobile.trainer import Teachers, averaged
from stages.mobile.trainer import Trainer as MobileTrainer
from stages.pair import pair, translate
from stages.pair.models import load_translator
from stages.pair.training import Batch
from stages.pair.training import Trainer as PairTrainer
from tests.generate.conftest import ARCH, tiny_models
from tests.generate.conftest import context as generate_context
from tests.generate.conftest import project as project
from tests.mobile.conftest import SIDE, write_pairs
from tests.pair.factory import STYLE, TINY, build
from tests.pair.factory import context as pair_context

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]
REPO = Path(__file__).resolve().parents[2]
BOTH = [torch.float32, torch.bfloat16]


def allow_tf32(allowed: bool) -> None:
    """TF32 keeps 10 bits of mantissa: stages use it, comparisons with the CPU cannot."""
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = allowed


@pytest.fixture(autouse=True)
def exact() -> Iterator[None]:
    """TF32 off, and afterwards as it was."""
    before = torch.backends.cudnn.allow_tf32
    allow_tf32(False)
    yield
    allow_tf32(before)


def cuda(dtype: torch.dtype = torch.float32) -> Device:
    return Device(torch.device("cuda", 0), dtype)


def test_networks_give_the_reference_numbers(shared: Path) -> None:
    with np.load(shared / "vectors" / "stylegan2_r32.npz") as file:
        vectors = {name: torch.from_numpy(file[name]) for name in file.files}
    G = generator_from_official({k[2:]: v for k, v in vectors.items() if k.startswith("G.")}).cuda()
    D = discriminator_from_official({k[2:]: v for k, v in vectors.items() if k.startswith("D.")}).cuda()
    with torch.no_grad():
        images = G(vectors["z"].cuda(), 1.0, "const").cpu()
        logits = D(vectors["d_in"].cuda()).cpu()
    torch.testing.assert_close(images, vectors["img_noise_const"], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(logits, vectors["d_out"], atol=1e-4, rtol=1e-4)


def test_augmentation_control_goes_on_after_a_checkpoint() -> None:
    """What a checkpoint held is on the CPU, what is observed afterwards on the GPU."""
    ada = AdaptiveAugment(AugmentSet(), 0.3, 0.6, 10.0)
    ada.observe(torch.ones(4, 1, device="cuda"))
    again = AdaptiveAugment(AugmentSet(), 0.0, 0.6, 10.0)
    again.load_state_dict(ada.state_dict())
    for control in (ada, again):
        control.observe(-torch.ones(4, 1, device="cuda"))
        control.adjust(64)
    assert (ada.p, ada.rt) == (again.p, again.rt) and ada.rt == 0.0


@pytest.mark.parametrize("dtype", BOTH)
def test_gan_step_with_every_lever(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    generator, discriminator = Generator(ARCH), Discriminator(ARCH)
    options = GanOptions(
        batch=8,
        r1_interval=2,
        path_weight=2.0,
        mixing=0.9,
        augment_p=0.5,
        activation_weight=1.0,
        consistency_weight=1.0,
    )
    images = torch.randint(0, 256, (8, 3, 32, 32), dtype=torch.uint8)
    trainer = GanTrainer(generator, discriminator, lambda nimg, n: images[:n], options, cuda(dtype))
    before = {name: value.clone() for name, value in trainer.G.state_dict().items()}
    parts: dict[str, float] = {}
    for step in range(4):
        torch.manual_seed(step)
        parts |= {name: float(value) for name, value in trainer.step(step * 8).items()}
    assert {"r1", "path", "activation", "consistency", "G", "D"} <= set(parts)
    assert all(np.isfinite(value) for value in parts.values()), parts
    assert any(not torch.equal(value, before[name]) for name, value in trainer.G.state_dict().items())


def test_encoder_trains(tmp_path: Path) -> None:
    generator, discriminator = tiny_models(0)
    photos = torch.randint(0, 256, (8, 3, 32, 32), dtype=torch.uint8)
    encoder = train_encoder(
        generator, discriminator, photos, None, EncoderSettings(kimg=0.32, batch=32), tmp_path, 0, cuda()
    )
    assert all(torch.isfinite(p).all() for p in encoder.parameters())


def test_fuse_and_generate(project: Path) -> None:
    small = {"sampled": 6, "inverted": 2, "shard_size": 4, "batch": 4, "invert_steps": 2, "workers": 1}
    fuse.main(generate_context(project, "fuse"))
    context = generate_context(project, "generate", generate=small | {"face_filter": False, "duplicate_distance": 0.0})
    generate.main(context)
    assert len(list((project / "data/styled/toon/shards").glob("*.tar"))) == 3


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_translate_and_pair(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, precision: str) -> None:
    monkeypatch.setenv("STYLEFACTORY_WEIGHTS", str(tmp_path))
    root = build(tmp_path)
    common = {"resolution": 32, "threads": 1, "device": "cuda", "precision": precision}
    translate.main(pair_context(root, "translate", common=common))
    net = load_translator(root / "models" / STYLE / "translator.safetensors")
    allow_tf32(False)  # the stage has allowed it
    photo = torch.rand(4, 3, 32, 32) * 2 - 1
    there = net.cuda()(photo.cuda()).output.cpu()
    torch.testing.assert_close(there, net.cpu()(photo).output, atol=1e-3, rtol=1e-3)
    limits = {"min_mask_iou": 0.0, "max_seam": 255.0, "max_artefact": 1.0, "max_landmark_shift": 1.0, "min_score": 0.0}
    pair.main(pair_context(root, "pair", common=common, pair=limits))
    assert (root / "data/pairs" / STYLE / "index.csv").is_file()


def test_interrupted_translate_continues(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a GPU sums of atomics differ in the last bits from run to run, so the results are close, not equal."""
    monkeypatch.setenv("STYLEFACTORY_WEIGHTS", str(tmp_path))
    root = build(tmp_path)
    common = {"resolution": 32, "threads": 1, "device": "cuda", "precision": "fp32", "checkpoint_nimg": 8}
    settings = TranslateSettings(**pair_context(root, "translate").settings.translate.model_dump())
    whole = translate.train_translator(pair_context(root, "translate", common=common), settings, tmp_path / "whole")[0]
    steps = itertools.count()
    original = translate.Trainer.step

    def stop(self: translate.Trainer, *args: object) -> object:
        if next(steps) == 4:
            raise KeyboardInterrupt
        return original(self, *args)  # type: ignore[arg-type]

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(translate.Trainer, "step", stop)
        translate.train_translator(pair_context(root, "translate", common=common), settings, tmp_path / "part")
    made = next(steps) - 1  # the one that raised is not counted
    continued = translate.train_translator(pair_context(root, "translate", common=common), settings, tmp_path / "part")
    again, result = continued[:2]
    assert made == 4 and result.nimg == 24 and result.rate * result.seconds == pytest.approx(8, abs=0.5), (
        "two steps left"
    )
    for a, b in zip(whole.parameters(), again.parameters(), strict=True):
        torch.testing.assert_close(a, b, atol=2e-3, rtol=0)


@pytest.mark.parametrize("dtype", BOTH)
def test_likeness_network_is_where_the_pictures_are(dtype: torch.dtype) -> None:
    likeness = FaceEmbedder(torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3, 4), torch.nn.Flatten()))
    settings = TranslateSettings(**(TINY | {"warm_kimg": 0.0, "face_identity": 1.0, "identity_every": 1}))
    trainer = PairTrainer(settings, 32, cuda(dtype), likeness)
    photo, mask = torch.rand(2, 3, 32, 32, device="cuda") * 2 - 1, torch.ones(2, 1, 32, 32, device="cuda")
    parts = trainer.step(Batch(photo, mask, -photo, mask, -photo[:1], mask[:1], photo, -photo, mask, mask), 8)
    assert torch.isfinite(parts["likeness"])


@pytest.mark.parametrize("dtype", BOTH)
def test_mobile_trains(tmp_path: Path, dtype: torch.dtype) -> None:
    write_pairs(tmp_path / "pairs", 20)
    write_pairs(tmp_path / "styled", 12)
    data = load_training_data(tmp_path / "pairs", tmp_path / "styled", SIDE, tmp_path / "cache")
    settings = MobileSettings(tier="xs", batch=8, patch_width=8, distillation=0.0, kimg=0.1)
    features = load_features(REPO / "models/shipped/source.safetensors", tmp_path, cuda(dtype))[0]
    trainer = MobileTrainer(settings, data, Teachers(features=features), cuda(dtype), seed=3)
    result = trainer.run(tmp_path / "work", checkpoint_nimg=10_000)
    assert result.nimg == 104
    assert all(torch.isfinite(p).all() for p in averaged(trainer).parameters())
