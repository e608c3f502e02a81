"""StyleGAN2 model files: safetensors of kind "stylegan2" with keys G.* and, optionally, D.*."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stages.common.errors import ModelFileError
from stages.common.modelfile import ModelFile, load_model, save_model
from stages.generate.networks import Architecture, Discriminator, Generator
from stages.generate.weights import discriminator_from_official, generator_from_official

KIND = "stylegan2"


def save_stylegan(
    path: Path,
    generator: Generator,
    discriminator: Discriminator | None,
    meta: Mapping[str, Any],
    half: bool = False,
) -> None:
    """Write a generator and, when given, its discriminator under official names.

    Args:
        meta: where it comes from: parents' hashes, settings, data, licence, figures.
        half: store float16 (halves the file; differences stay below 1e-3 of the weights).
    """
    state = {f"G.{name}": value for name, value in generator.state_dict().items()}
    if discriminator is not None:
        state |= {f"D.{name}": value for name, value in discriminator.state_dict().items()}
    save_model(path, KIND, state, generator.arch.as_dict(), meta, half=half)


def load_stylegan(path: Path) -> tuple[Generator, Discriminator | None, ModelFile]:
    """Read a model file; networks are float32, in eval mode and frozen.

    Raises:
        ModelFileError: another kind, damaged, or parts that do not fit each other.
    """
    file = load_model(path, KIND)
    parts: dict[str, dict[str, Any]] = {"G": {}, "D": {}}
    for name, value in file.state.items():
        part, _, rest = name.partition(".")
        if part not in parts:
            raise ModelFileError(f"{path}: unexpected parameter {name}")
        parts[part][rest] = value
    try:
        generator = generator_from_official(parts["G"])
        discriminator = discriminator_from_official(parts["D"]) if parts["D"] else None
    except ModelFileError as error:
        raise ModelFileError(f"{path}: {error}") from error
    try:
        described = Architecture.from_dict(file.config)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise ModelFileError(f"{path}: its header does not describe a StyleGAN2 ({error!r})") from error
    if generator.arch != described:
        raise ModelFileError(f"{path}: header says {file.config}, the weights are {generator.arch.as_dict()}")
    if discriminator is not None:
        g, d = generator.arch, discriminator.arch
        if (g.resolution, g.channel_base, g.channel_max) != (d.resolution, d.channel_base, d.channel_max):
            raise ModelFileError(f"{path}: generator and discriminator differ in size")
    return generator, discriminator, file
