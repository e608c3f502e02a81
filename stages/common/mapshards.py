"""``map_shards``: independent pieces of work over processes, restartable per piece, the same result for any number."""

import json
import multiprocessing
import os
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

from stages.common.atomic import write_json
from stages.common.hashing import settings_hash
from stages.common.parent_death import die_with_parent
from stages.common.progress import Progress


def map_shards(
    fn: Callable[[Any], Any],
    shards: Sequence[Any],
    workers: int | None = None,
    done_dir: Path | None = None,
    label: str = "shards",
) -> list[Any]:
    """``[fn(shard) for shard in shards]`` over processes.

    Args:
        fn: a module-level function of one shard. It must not depend on other shards or on global state, and should
            publish its files atomically. Torch and OpenCV get one thread in a worker.
        shards: descriptions of the pieces; small, picklable, JSON where ``done_dir`` is given.
        workers: processes; None takes one per usable core (also the resource hint for a cluster engine).
        done_dir: remembers each finished shard's (JSON) result by the shard's content; a restart skips those.
        label: name shown in progress.

    Returns:
        Results in the order of ``shards``, whatever the number of workers.

    Raises:
        The first exception a shard raised; the other finished shards stay done.
    """
    results: dict[int, Any] = {}
    for i, shard in enumerate(shards):
        if (path := _done_file(done_dir, shard)) and path.is_file():
            results[i] = json.loads(path.read_text())["result"]
    todo = [i for i in range(len(shards)) if i not in results]
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    workers = min(workers or cores, max(len(todo), 1))
    with Progress(label, len(shards), "shards", start=len(results)) as progress:

        def finish(i: int, result: Any) -> None:
            results[i] = result
            if path := _done_file(done_dir, shards[i]):
                write_json(path, {"result": result})
            progress.update(len(results))

        if workers == 1:
            for i in todo:
                finish(i, fn(shards[i]))
        elif todo:
            # spawn: a fork of a process with running OpenMP threads may hang
            context = multiprocessing.get_context("spawn")
            with ProcessPoolExecutor(workers, context, initializer=_start_worker, initargs=(os.getpid(),)) as pool:
                futures: dict[Future[Any], int] = {pool.submit(fn, shards[i]): i for i in todo}
                try:
                    for future in as_completed(futures):
                        finish(futures[future], future.result())
                except BaseException:
                    pool.shutdown(wait=False, cancel_futures=True)
                    raise
    return [results[i] for i in range(len(shards))]


def _done_file(done_dir: Path | None, shard: Any) -> Path | None:
    return done_dir / f"{settings_hash(shard)}.json" if done_dir else None


def _start_worker(parent: int) -> None:
    die_with_parent(parent)
    # torch reads these when a shard's work imports it; importing it here would cost workers seconds that never need it.
    # Where the command itself imports torch, the worker has done so, too, before it came here.
    os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = "1"
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)
    import cv2

    cv2.setNumThreads(1)
