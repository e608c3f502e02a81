"""What was already done for a picture, by its content and the settings that matter: adding ten costs ten."""

import hashlib
import io
import json
from pathlib import Path
from typing import Any

import numpy as np

from stages.common.atomic import atomic_path
from stages.common.images import decode_image, encode_png
from stages.faces.sample import Sample

VERSION = 6  # raise when the code of detection, alignment, masks or measures changes its results


def cache_key(content: bytes, options: Any) -> str:
    """Key of a picture's result: 40 hex digits over its bytes and everything else the result depends on."""
    digest = hashlib.blake2b(content, digest_size=20)
    digest.update(json.dumps([VERSION, options], sort_keys=True).encode())
    return digest.hexdigest()


class PictureCache:
    """One small file per picture below ``folder``; a damaged one counts as absent."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, key: str) -> Path:
        """Where the result ``key`` lies or would lie."""
        return self.folder / key[:2] / f"{key[2:]}.npz"

    def record(self, key: str) -> dict[str, Any] | None:
        """The JSON part of a result, None when there is none."""
        return self._load(key, "record", lambda data: json.loads(data))

    def picture(self, key: str, name: str) -> bytes | None:
        """PNG bytes stored under ``name``."""
        return self._load(key, name, lambda data: data)

    def pixels(self, key: str, name: str) -> np.ndarray | None:
        """:meth:`picture`, decoded to uint8 [H, W, 3]."""
        data = self.picture(key, name)
        return decode_image(data, name) if data is not None else None

    def write(self, key: str, record: dict[str, Any], samples: list[Sample]) -> None:
        """Stores a result; sample i as "image_i" and "mask_i"."""
        arrays = {"record": json.dumps(record).encode()}
        for i, sample in enumerate(samples):
            arrays[f"image_{i}"] = encode_png(sample.image)
            arrays[f"mask_{i}"] = encode_png(sample.mask)
        buffer = io.BytesIO()
        np.savez(buffer, **{name: np.frombuffer(data, np.uint8) for name, data in arrays.items()})  # type: ignore[arg-type]
        with atomic_path(self.path(key)) as temporary:
            temporary.write_bytes(buffer.getvalue())

    def _load(self, key: str, name: str, decode: Any) -> Any:
        try:
            with np.load(self.path(key)) as stored:
                return decode(stored[name].tobytes())
        except (OSError, ValueError, KeyError, EOFError, json.JSONDecodeError):
            return None
        except Exception as error:  # zipfile.BadZipFile of a file cut short
            if type(error).__name__ == "BadZipFile":
                return None
            raise
