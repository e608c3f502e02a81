"""Peak memory of ingest over the number of pictures. ``python -m tests.bench.bench_faces_memory --many 10000``.

Needs nothing: one drawn head, saved as small JPEGs with one changed pixel and a numbered comment, so that every file is
new to the cache. Each count runs in a fresh process, because a peak never goes down again. What comes after ingest
(duplicates, splits) is not in it: among copies of one picture every pair would count as alike.
"""

import argparse
import multiprocessing
import resource
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from PIL import Image

from stages.common.images import list_images
from stages.faces.ingest import ingest, make_options
from tests.faces.helpers import draw_head, on_colour

FLAT = 1.3  # peak at many pictures over peak at FEW that still counts as flat
FEW = 100


def make_pictures(folder: Path, count: int) -> None:
    """Writes ``count`` photos 240 px wide that show the same head."""
    folder.mkdir(parents=True)
    picture = on_colour(draw_head(0, 240)[0])
    for i in range(count):
        picture[0, 0] = i % 256, i // 256 % 256, i // 65536
        # the comment tells them apart where JPEG smooths the pixel away
        Image.fromarray(picture).save(folder / f"{i:06d}.jpg", quality=90, comment=str(i))


def peak(count: int, workers: int) -> tuple[float, float, int]:
    """Ingests ``count`` new pictures in this process: its peak, its workers' greatest peak (MB), samples made."""
    with tempfile.TemporaryDirectory() as place:
        root, folder = Path(place), Path(place) / "pictures"
        make_pictures(folder, count)
        options = make_options(64, False, "detect", "haar", root)
        rows = ingest(list_images(folder), folder, options, root, workers=workers)
        made = sum(len(row.get("samples", [])) for row in rows)
    own, theirs = (resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return own / 1024, theirs / 1024, made


def main() -> int:
    """Prints the peaks at 100 and at --many pictures; 1 when the second is much larger."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--many", type=int, default=10000)
    parser.add_argument("--workers", type=int, default=2, help="1: all in one process")
    args = parser.parse_args()
    context = multiprocessing.get_context("spawn")
    peaks = []
    for count in (FEW, args.many):
        with ProcessPoolExecutor(1, context) as pool:
            own, theirs, made = pool.submit(peak, count, args.workers).result()
        print(f"{count} pictures: main process {own:.0f} MB, largest worker {theirs:.0f} MB; {made} samples")
        peaks.append(max(own, theirs))
    print(f"ratio {peaks[1] / peaks[0]:.2f} (flat: below {FLAT})")
    return int(peaks[1] > FLAT * peaks[0])


if __name__ == "__main__":
    sys.exit(main())
