"""Who is who: persons by file name, joined by face recognition where its ONNX file is given."""

import re
from pathlib import Path, PurePath

import numpy as np
import pandas as pd

from stages.common.images import to_tensor
from stages.common.weights import find, sha256
from stages.faces.cache import PictureCache, cache_key
from stages.faces.groups import join_groups, person_of

# Cosine above which two faces are one person: on the 663 photos of ../shared at 64 px 98.8 % of the pairs of one person
# lie above, of 218,000 pairs of different persons only those of two badly cropped pictures.
SAME_PERSON = 0.6
BATCH = 64
DIMENSIONS = 128


def persons_by_name(table: pd.DataFrame, pattern: re.Pattern[str] | None) -> list[str]:
    """The person of each row by its file's name.

    A file names one person: further faces in it (``photos.faces: all``) are persons of their own, "anna-03#2".
    """
    return [
        person_of(file, pattern) if face == 0 else _further_face(PurePath(file), face)
        for file, face in zip(table["file"], table["face"], strict=True)
    ]


def _further_face(file: PurePath, face: int) -> str:
    name = f"{file.stem}#{face + 1}"
    return f"{file.parent.name}_{name}" if file.parent.name else name


def join_by_face(table: pd.DataFrame, persons: list[str], cache: PictureCache, root: Path) -> list[str]:
    """``persons`` with those joined whose faces are one person's; unchanged without a face-recognition file.

    A joined person takes the first of its names, so that adding pictures rarely renames (and never splits) anybody.
    """
    path = find("mobilefacenet", root)
    if path is None or len(table) < 2:
        return persons
    vectors = embeddings(table, cache, path, root)
    names = sorted(set(persons))
    place = {name: i for i, name in enumerate(names)}
    pairs = []
    for first in range(0, len(vectors), 1024):
        for i, j in np.argwhere(vectors[first : first + 1024] @ vectors.T > SAME_PERSON):
            a, b = persons[first + int(i)], persons[int(j)]
            if a != b:
                pairs.append((place[a], place[b]))
    joined = join_groups(len(names), pairs)
    return [names[joined[place[person]]] for person in persons]


def embeddings(table: pd.DataFrame, cache: PictureCache, path: Path, root: Path) -> np.ndarray:
    """Unit vectors float32 [N, 128] of the aligned faces, each computed once per picture and file of weights."""
    digest = sha256(path)[:16]
    keys = [
        cache_key(key.encode(), ["embedding", digest, face])
        for key, face in zip(table["key"], table["face"], strict=True)
    ]
    found = [cache.record(key) for key in keys]
    todo = [i for i, record in enumerate(found) if record is None]
    if todo:
        import torch

        from stages.common.embedder import load_embedder

        net = load_embedder(root)
        assert net is not None
        for start in range(0, len(todo), BATCH):
            pictures = {
                i: pixels
                for i in todo[start : start + BATCH]
                if (pixels := cache.pixels(table["key"].iloc[i], f"image_{table['face'].iloc[i]}")) is not None
            }
            if not pictures:
                continue
            with torch.no_grad():
                vectors = net(to_tensor(np.stack(list(pictures.values())))).float().numpy()
            for i, vector in zip(pictures, vectors, strict=True):
                found[i] = {"vector": [round(float(v), 6) for v in vector]}
                cache.write(keys[i], found[i] or {}, [])
    # a picture lost from the cache since it was ingested is like nobody
    return np.array([record["vector"] if record else [0.0] * DIMENSIONS for record in found], np.float32)
