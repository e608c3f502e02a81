"""Ingest figures: photos per second by part and as a stage, memory. ``python -m tests.bench.bench_faces``.

Needs ../shared/data/photos. CPU time is given beside wall time: it holds on a busy machine too. 40 photos/s on two
cores are 50 ms of CPU per photo.
"""

import argparse
import resource
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from stages.common.images import list_images, read_image, write_png
from stages.common.masks import head_mask
from stages.faces.align import align, ffhq_quad, move_points, to_aligned
from stages.faces.detect import FaceDetector
from stages.faces.ingest import ingest, make_options
from stages.faces.sample import make_sample
from tests.bench.table import row

PHOTOS = Path(__file__).resolve().parents[3] / "shared" / "data" / "photos"


def parts(files: list[Path], resolution: int, detector: str) -> dict[str, float]:
    """CPU milliseconds per photo of reading, detecting, aligning, masking and all of it, one thread."""
    cv2.setNumThreads(1)
    finder = FaceDetector(detector)  # type: ignore[arg-type]
    spent = {"read": 0.0, "detect": 0.0, "align": 0.0, "mask": 0.0, "sample": 0.0}

    def timed(name: str, work: Callable[[], Any]) -> Any:
        began = time.process_time()
        result = work()
        spent[name] += time.process_time() - began
        return result

    for file in files:
        picture = timed("read", lambda file=file: read_image(file))
        face = timed("detect", lambda picture=picture: finder.detect(picture))[0]
        quad = ffhq_quad(face.eye_l, face.eye_r, face.mouth)
        crop = timed("align", lambda picture=picture, quad=quad: align(picture, quad, resolution))
        points = move_points(to_aligned(quad, resolution), np.array([face.eye_l, face.eye_r, face.mouth]))
        timed("mask", lambda crop=crop, points=points: head_mask(crop, *points))
        timed("sample", lambda picture=picture, face=face: make_sample(picture, face, resolution))
    spent = {name: 1000 * seconds / len(files) for name, seconds in spent.items()}
    return spent | {"total": spent["read"] + spent["detect"] + spent["sample"]}


def stage_rate(files: list[Path], folder: Path, resolution: int, root: Path) -> tuple[float, float]:
    """Photos per second of the whole ingest over two processes: wall, and 2 cores over CPU seconds."""
    options = make_options(resolution, False, "detect", "haar", root)
    began, cpu = time.perf_counter(), _children()
    ingest(files, folder, options, root, workers=2)
    wall, used = time.perf_counter() - began, _children() - cpu
    return len(files) / wall, 2 * len(files) / used


def _children() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def memory(counts: tuple[int, ...], root: Path) -> dict[int, float]:
    """Megabytes that the main process holds after ingesting ``count`` small style pictures, peak so far."""
    held = {}
    folder = root / "many"
    folder.mkdir(parents=True)
    draw = np.random.default_rng(0)
    options = make_options(64, True, "center", "haar", root)
    made = 0
    for count in counts:
        while made < count:
            rgba = draw.integers(0, 255, (8, 8, 4)).astype(np.uint8)
            write_png(folder / f"{made:05d}.png", cv2.resize(rgba, (64, 64)))
            made += 1
        ingest(list_images(folder), folder, options, root, workers=2)
        held[count] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return held


def main() -> None:
    """Prints the figures."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--photos", type=int, default=200)
    parser.add_argument("--many", type=int, default=10000)
    args = parser.parse_args()
    if not PHOTOS.is_dir():
        row("ingest", f"not measured, {PHOTOS} is missing")
        return
    every = list_images(PHOTOS)
    files = [every[i] for i in np.linspace(0, len(every) - 1, args.photos).astype(int)]
    for resolution in (64, 256):
        numbers = parts(files[:60], resolution, "haar")
        line = ", ".join(f"{name} {value:.1f}" for name, value in numbers.items())
        row(
            f"ingest {resolution} px, Haar + GrabCut, 2 cores by CPU time",
            f"{2000 / numbers['total']:.0f} photos/s",
            line,
        )
    root = Path(tempfile.mkdtemp())
    try:
        wall, ideal = stage_rate(files, PHOTOS, 64, root)
        row(
            f"ingest as a stage, {len(files)} photos, 64 px, 2 processes",
            f"{wall:.0f} photos/s wall, {ideal:.0f} by CPU time",
            wanted="40 photos/s",
        )
        began = time.perf_counter()
        stage_rate(files, PHOTOS, 64, root)
        row("ingest again, nothing new", f"{time.perf_counter() - began:.1f} s")
        for count, megabytes in memory((100, 1000, args.many), root / "memory").items():
            row(f"ingest, main process after {count} pictures", f"{megabytes:.0f} MB")
    finally:
        shutil.rmtree(root, ignore_errors=True)


if __name__ == "__main__":
    main()
