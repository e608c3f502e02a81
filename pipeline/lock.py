"""One run of DVC at a time per checkout, and everybody knows whose.

DVC's own lock is not enough: it is given back while a stage's command runs, and a killed ``dvc`` would let a second
one start the same stage beside the first.
"""

import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from filelock import FileLock, Timeout

from pipeline.files import human_time, read_json, write_text
from pipeline.processes import lives
from pipeline.project import Project
from stages.common.errors import BusyError

POLL_S = 0.2


@contextmanager
def checkout_lock(
    project: Project, what: str, *, wait: bool = True, say: Callable[[str], None] = lambda _line: None
) -> Iterator[None]:
    """Holds the checkout's lock. The kernel frees it when this process dies, however it dies.

    Args:
        what: shown to whoever waits, e.g. "transfer@avatar".
        wait: wait for the holder (it is named once through ``say``) or fail at once.

    Raises:
        BusyError: somebody else holds it and ``wait`` is false.
    """
    project.work.mkdir(parents=True, exist_ok=True)
    lock = FileLock(project.work / "checkout.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        if not wait:
            raise BusyError(f"{holder_line(project)}; wait for it or stop it") from None
        say(f"waiting: {holder_line(project)}")
        lock.acquire(poll_interval=POLL_S)
    try:
        record = {"pid": os.getpid(), "what": what, "since": time.time()}
        write_text(project.work / "checkout.json", json.dumps(record))
        yield
    finally:
        (project.work / "checkout.json").unlink(missing_ok=True)
        lock.release()


def holder(project: Project) -> dict[str, object] | None:
    """Who holds the lock: pid, what, since; None when nobody alive does."""
    record = read_json(project.work / "checkout.json")
    if record is None or not lives(int(record.get("pid", -1))):
        return None
    return record


def holder_line(project: Project) -> str:
    """The holder in words."""
    record = holder(project)
    if record is None:
        return "another run is using this checkout"
    ago = human_time(max(0.0, time.time() - float(str(record["since"]))))
    return f"process {record['pid']} is running {record['what']} in this checkout (for {ago})"
