"""Mobile model files: safetensors of kind "mobile"."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from stages.common.errors import ModelFileError
from stages.common.modelfile import ModelFile, load_model, load_state, save_model
from stages.mobile.network import PLACE_SIDE, TIERS, MobileNet

KIND = "mobile"


def save_mobile(path: Path, net: MobileNet, resolution: int, meta: Mapping[str, Any]) -> None:
    """Writes the trained network; ``resolution`` is the side it was trained at, ``meta`` parents, losses, figures."""
    save_model(path, KIND, net.state_dict(), {**net.config(), "resolution": resolution}, meta)


def load_mobile(path: Path) -> tuple[MobileNet, ModelFile]:
    """Reads a mobile model; float32, eval mode, frozen.

    Raises:
        ModelFileError: absent, damaged, of another kind, or of a tier this program builds differently.
    """
    file = load_model(path, KIND)
    tier = file.config.get("tier")
    if not isinstance(tier, str) or tier not in TIERS or not isinstance(file.config.get("resolution"), int):
        raise ModelFileError(f"{path}: its header names no known tier ({', '.join(TIERS)}) or no resolution")
    net = MobileNet(tier)
    if file.config.get("shape") != _as_json(asdict(TIERS[tier])) or file.config.get("place") != PLACE_SIDE:
        raise ModelFileError(f"{path}: made by a version whose tier '{tier}' had another shape; train it again")
    load_state(net, file.state, path)
    net.eval().requires_grad_(False)
    return net, file


def _as_json(shape: dict[str, Any]) -> dict[str, Any]:
    return {key: list(value) if isinstance(value, tuple) else value for key, value in shape.items()}
