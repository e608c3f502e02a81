"""Translator model files: safetensors of kind "translator"."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stages.common.errors import ModelFileError
from stages.common.modelfile import load_model, load_state, save_model
from stages.pair.networks import TranslatorConfig, TranslatorGenerator

KIND = "translator"


def save_translator(path: Path, generator: TranslatorGenerator, meta: Mapping[str, Any]) -> None:
    """Writes the (EMA) generator; ``meta``: parents' hashes, settings, resolution, figures."""
    save_model(path, KIND, generator.state_dict(), generator.config.as_dict(), meta)


def load_translator(path: Path) -> TranslatorGenerator:
    """Reads a translator; float32, in eval mode, frozen. Call it as ``output, mask, attention, content = net(photo)``.

    Raises:
        ModelFileError: absent, damaged, of another kind, or with weights that do not fit its header.
    """
    file = load_model(path, KIND)
    try:
        generator = TranslatorGenerator(TranslatorConfig(**file.config))
    except (TypeError, ValueError, RuntimeError) as error:  # of Python, of a check, of torch for sizes
        raise ModelFileError(f"{path}: its header does not describe a translator ({error})") from error
    try:
        load_state(generator, file.state, path)
    except ModelFileError as error:
        raise ModelFileError(f"{error}; if an older version made it, train it again") from error
    return generator.eval().requires_grad_(False)
