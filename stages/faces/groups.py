"""Who belongs together: persons and designs by file name, pictures by likeness; and the splits that follow."""

import hashlib
import re
from collections.abc import Iterable, Sequence
from pathlib import PurePath

import numpy as np

from stages.common.errors import SettingsError

# "neutral_front_012_03": the person's number stands before the take
_FRONT_NUMBER = re.compile(r"^[a-z]+_front_(\d+)_\d+$")
# "anna-03", "anna_smiling_2", "anna (4)": a name, then a take; three digits and more count pictures, not takes
_NAME_TAKE = re.compile(r"^([^\W\d_][^\d]*?)(?:[ _-]+|\s*\()\d{1,2}\)?$")
# words that cameras and downloads begin file names with: the number after them is the picture, not the take
_CAMERA = frozenset(
    {
        "img",
        "dsc",
        "dscn",
        "dscf",
        "pict",
        "picture",
        "photo",
        "image",
        "face",
        "seed",
        "sample",
        "p",
        "head",
        "portrait",
        "headshot",
        "selfie",
        "person",
        "user",
        "id",
        "model",
    }
)
_SKIN_TONE = re.compile(r"[_-]1f3f[b-f](?=$|[_-])", re.IGNORECASE)
_VARIANT = re.compile(r"(?:[ _-]v?\d{1,2}|\s*\(\d{1,2}\))$")


def compile_pattern(pattern: str, setting: str) -> re.Pattern[str] | None:
    """A pattern from the settings; None for an empty one.

    Raises:
        SettingsError: no regular expression, or one without a group.
    """
    if not pattern:
        return None
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise SettingsError(f"{setting}: '{pattern}' is no regular expression ({error})") from error
    if compiled.groups < 1:
        raise SettingsError(f"{setting}: '{pattern}' needs a group (…) around the part that names who or what it is")
    return compiled


def person_of(file: str, pattern: re.Pattern[str] | None = None) -> str:
    """The person of a photo by its path relative to the photos' folder, as "folder_name"."""
    path = PurePath(file)
    folder, stem = path.parent.name, path.stem
    if pattern is not None:
        found = pattern.search(path.as_posix())
        name = found.group(1) if found and found.group(1) else stem
    elif found := _FRONT_NUMBER.match(stem):
        name = found.group(1)
    elif (found := _NAME_TAKE.match(stem)) and found.group(1).strip(" _-").lower() not in _CAMERA:
        name = found.group(1).strip(" _-")
    else:
        name = stem
    return f"{folder}_{name}" if folder else name


def design_of(file: str, pattern: re.Pattern[str] | None = None) -> str:
    """The design of a style picture: its name without skin tones and without a trailing variant number."""
    stem = PurePath(file).stem
    if pattern is not None:
        found = pattern.search(PurePath(file).as_posix())
        return found.group(1) if found and found.group(1) else stem
    bare = _SKIN_TONE.sub("", stem)
    if bare == stem and not re.search(r"(?:^|_)1f[0-9a-f]{3}", stem):  # emoji names are all code points, no variants
        bare = _VARIANT.sub("", stem) if not _all_numbered(stem) else stem
    return bare or stem


def _all_numbered(stem: str) -> bool:
    """Whether the name is a plain counter ("avatar_0012", "img-3"): then every picture is its own design."""
    found = re.match(r"^([^\W\d_]*)[ _-]*\d+$", stem)
    return found is not None


def split_of(group: str, val_share: float, test_share: float) -> str:
    """The split of a person or design by a hash of its name alone: adding pictures never moves anybody."""
    share = int.from_bytes(hashlib.blake2b(group.encode(), digest_size=8).digest(), "big") / 2**64
    if share < test_share:
        return "test"
    return "val" if share < test_share + val_share else "train"


def near_pairs(hashes: Sequence[str], distance: int) -> list[tuple[int, int]]:
    """Pairs (i < j) of 64-bit hashes (hex) that differ by at most ``distance`` bits; 10,000 take about a second."""
    codes = np.array([int(h, 16) for h in hashes], np.uint64)
    pairs = []
    for i in range(len(codes)):
        near = np.flatnonzero(np.bitwise_count(codes[i + 1 :] ^ codes[i]) <= distance) + i + 1
        pairs += [(i, int(j)) for j in near]
    return pairs


def join_groups(size: int, pairs: Iterable[tuple[int, int]]) -> list[int]:
    """Connected components of ``pairs`` over ``size`` items; the smallest index of each."""
    parent = list(range(size))
    for i, j in pairs:
        _join(parent, i, j)
    return [_root(parent, i) for i in range(size)]


def _root(parent: list[int], i: int) -> int:
    while parent[i] != i:
        parent[i] = parent[parent[i]]
        i = parent[i]
    return i


def _join(parent: list[int], i: int, j: int) -> None:
    a, b = _root(parent, i), _root(parent, j)
    parent[max(a, b)] = min(a, b)
