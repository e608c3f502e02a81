"""Two evaluations side by side: ``python -m stages.evaluate.compare A B``.

A and B are a style (``avatar``), a style at a git revision (``avatar@v1.2``) or a folder with a metrics.json. Prints a
table and writes ``reports/compare/A_B.html`` with the same faces beside each other. Runs that were measured
differently are refused with the reason: their figures cannot be compared.
"""

import argparse
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from stages.common.errors import FactoryError, InputError
from stages.common.images import read_image
from stages.evaluate.charts import number
from stages.evaluate.page import Album, interval, write_page
from stages.evaluate.sections import read_json

KINDS = {
    "features": "features",
    "layer": "layer and pooling of the features",
    "fingerprint": "file of the feature network",
    "identity": "identity measure",
    "side": "resolution, px",
    "split": "split",
}
DVC_TIMEOUT_S = 300


@dataclass(frozen=True)
class Evaluation:
    """One side of a comparison: its name, its figures and the folder with its faces."""

    name: str
    metrics: dict[str, Any]
    folder: Path


@dataclass(frozen=True)
class Line:
    """One figure of both: better is "A", "B" or "" (no difference beyond the intervals)."""

    title: str
    a: dict[str, Any]
    b: dict[str, Any]
    better: str


def load(name: str, root: Path, scratch: Path) -> Evaluation:
    """Finds the evaluation called ``name``; one of a git revision is fetched from the DVC cache or remote.

    Raises:
        InputError: no such style, revision or evaluation.
    """
    if "@" in name:
        style, _, revision = name.partition("@")
        return _at_revision(name, style, revision, root, scratch)
    folder = root / "reports" / name / "evaluate"
    if not folder.is_dir() and (Path(name) / "metrics.json").is_file():
        folder = Path(name)
    metrics = read_json(folder / "metrics.json")
    if "rows" not in metrics:
        raise InputError(f"{name}: no evaluation in {folder}; run its 'evaluate' stage, or name it STYLE@REVISION")
    return Evaluation(name, metrics, folder)


def _at_revision(name: str, style: str, revision: str, root: Path, scratch: Path) -> Evaluation:
    target = scratch / re.sub(r"[^\w.-]", "_", name)
    dvc = str(Path(sys.executable).parent / "dvc")
    command = [dvc, "get", str(root), f"reports/{style}/evaluate", "--rev", revision, "-o", str(target)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=DVC_TIMEOUT_S, cwd=root)
    except subprocess.TimeoutExpired as error:
        raise InputError(f"{name}: DVC did not answer within {DVC_TIMEOUT_S} s") from error
    metrics = read_json(target / "metrics.json")
    if done.returncode != 0 or "rows" not in metrics:
        words = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
        raise InputError(f"{name}: no evaluation at that revision ({' '.join(words) or 'nothing found'})")
    return Evaluation(name, metrics, target)


def refuse(a: Evaluation, b: Evaluation) -> None:
    """Stops a comparison that would mislead.

    Raises:
        InputError: kind of features, N, resolution, split or identity measure differ; names each difference.
    """
    reasons = []
    for key, title in KINDS.items():
        first, second = a.metrics.get("kinds", {}).get(key), b.metrics.get("kinds", {}).get(key)
        if first != second:
            reasons.append(f"{title}: {first} against {second}")
    for key in ("photos", "persons"):
        first, second = a.metrics.get("n", {}).get(key), b.metrics.get("n", {}).get(key)
        if first != second:
            reasons.append(f"N of test {key}: {first} against {second}")
    first, second = a.metrics.get("n", {}).get("style"), b.metrics.get("n", {}).get("style")
    if a.metrics.get("style") == b.metrics.get("style") and first != second:
        reasons.append(f"N of style pictures: {first} against {second}")
    ids = [set(_face_ids(side)) for side in (a, b)]
    if all(ids) and not ids[0] & ids[1]:
        reasons.append("test photos: not one in common")
    if reasons:
        raise InputError(f"{a.name} and {b.name} cannot be compared: {'; '.join(reasons)}")


def lines(a: Evaluation, b: Evaluation) -> list[Line]:
    """Every verdict row of both; a side is better only where the two intervals do not overlap."""
    found = []
    for metric, first in a.metrics["rows"].items():
        second = b.metrics["rows"].get(metric)
        if second is not None:
            found.append(Line(first["title"], first, second, _better(first, second)))
    return found


def _better(a: dict[str, Any], b: dict[str, Any]) -> str:
    if a["value"] is None or b["value"] is None:
        return ""
    low_is_good = a["fail"] >= a["pass"]
    ends = [(s["low"], s["high"]) if s["low"] is not None else (s["value"], s["value"]) for s in (a, b)]
    (a_low, a_high), (b_low, b_high) = ends
    if a_high < b_low:
        return "A" if low_is_good else "B"
    if b_high < a_low:
        return "B" if low_is_good else "A"
    return ""


def _face_ids(side: Evaluation) -> list[str]:
    return sorted(path.stem for path in (side.folder / "faces").glob("*.png"))


def faces(a: Evaluation, b: Evaluation, album: Album, most: int = 16) -> list[tuple[str, str, str, str]]:
    """The same test faces: (id, photo, A's product, B's product) as data URIs."""
    shared = [name for name in _face_ids(a) if name in set(_face_ids(b))][:most]
    rows = []
    for name in shared:
        first, second = (read_image(side.folder / "faces" / f"{name}.png") for side in (a, b))
        side = first.shape[0]
        tiles: list[np.ndarray] = [first[:, :side], first[:, -side:], second[:, -second.shape[0] :]]
        uris = [album.picture(tile, name, 192) for tile in tiles]
        rows.append((name, uris[0], uris[1], uris[2]))
    return rows


def as_text(a: Evaluation, b: Evaluation, found: list[Line]) -> str:
    """The table for a terminal."""
    width = max(len(line.title) for line in found)
    out = [f"{'':{width}}  {'A: ' + a.name:>26}  {'B: ' + b.name:>26}"]
    for line in found:
        cells = []
        for side in (line.a, line.b):
            spread = interval(side)
            cells.append(f"{number(side['value'])} ({spread})" if spread else number(side["value"]))
        mark = f"  {line.better} is better" if line.better else ""
        out.append(f"{line.title:{width}}  {cells[0]:>26}  {cells[1]:>26}{mark}")
    if a.metrics.get("style") != b.metrics.get("style"):
        out.append("(two styles: style gap and sharpness are each relative to its own style)")
    out.append(f"{'verdict':{width}}  {a.metrics['verdict']:>26}  {b.metrics['verdict']:>26}")
    return "\n".join(out)


def compare(first: str, second: str, root: Path) -> tuple[str, Path]:
    """Compares two evaluations: the table as text, and the page written."""
    with tempfile.TemporaryDirectory() as scratch:
        a, b = (load(name, root, Path(scratch)) for name in (first, second))
        refuse(a, b)
        found = lines(a, b)
        names = [re.sub(r"[^\w.-]", "_", side.name) for side in (a, b)]
        path = root / "reports" / "compare" / f"{names[0]}_{names[1]}.html"
        content = {"a": a, "b": b, "lines": found, "faces": faces(a, b, Album())}
        write_page(path, "compare.html.j2", content)
        return as_text(a, b, found), path


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog="stylefactory compare", description="Compare two evaluations.")
    parser.add_argument("a", help="STYLE, STYLE@REVISION or a folder with metrics.json")
    parser.add_argument("b", help="the other one")
    args = parser.parse_args(argv)
    try:
        text, path = compare(args.a, args.b, Path.cwd())
    except FactoryError as error:
        print(f"compare: {error}", file=sys.stderr)
        return error.exit_code
    print(text)
    print(f"\n{path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
