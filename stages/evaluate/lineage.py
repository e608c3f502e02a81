"""Where a model comes from, and which models contain a given photo."""

import hashlib
from pathlib import Path
from typing import Any

from stages.common.modelfile import file_hash

MODELS = ("transferred", "fused", "translator", "mobile")


def hashes(root: Path, style: str) -> dict[str, Any]:
    """Short content hashes of a style's models and datasets, for reports and history."""
    files = [root / "models/source/source.safetensors"]
    files += [root / "models" / style / f"{name}.safetensors" for name in MODELS]
    files += [root / "models" / style / "mobile.mnn"]
    found = {str(path.relative_to(root)): file_hash(path, 12) for path in files if path.is_file()}
    for folder in ("data/photos", f"data/style_faces/{style}", f"data/styled/{style}", f"data/pairs/{style}"):
        index = root / folder / "index.csv"
        if index.is_file():
            found[f"{folder}/index.csv"] = hashlib.sha256(index.read_bytes()).hexdigest()[:12]
    return found
