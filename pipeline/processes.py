"""Child processes that never outlive us: death signal, whole-tree kill, time-outs, live output."""

import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import psutil

DEATHSIG = Path(__file__).with_name("deathsig.py")
GRACE_S = 5.0
POLL_S = 0.1


class TimedOut(Exception):
    """The command ran past its limit and was killed with everything it had started."""


class Terminated(BaseException):
    """We were asked to end (SIGTERM). Like KeyboardInterrupt it passes ordinary ``except`` clauses."""


def environment() -> dict[str, str]:
    """Our environment with this Python's bin folder first in PATH, unbuffered output and no telemetry."""
    env = dict(os.environ)
    bin_dir = str(Path(sys.executable).parent)
    parts = [part for part in env.get("PATH", os.defpath).split(os.pathsep) if part and part != bin_dir]
    env["PATH"] = os.pathsep.join([bin_dir, *parts])
    env.update(PYTHONUNBUFFERED="1", DO_NOT_TRACK="1", DVC_NO_ANALYTICS="1")
    return env


def kill_tree(pid: int, grace_s: float = GRACE_S) -> None:
    """Ends a process and all its descendants: SIGTERM, then SIGKILL for whoever is left after ``grace_s``."""
    try:
        root = psutil.Process(pid)
        family = [*root.children(recursive=True), root]
    except psutil.NoSuchProcess:
        return
    for ask in (psutil.Process.terminate, psutil.Process.kill):
        for process in family:
            try:
                ask(process)
            except psutil.NoSuchProcess:
                continue
        _, family = psutil.wait_procs(family, timeout=grace_s)
        if not family:
            return


def lives(pid: int) -> bool:
    """Whether a process runs; one that is dead but not yet reaped does not."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@contextmanager
def terminate_as_exception() -> Iterator[None]:
    """Inside, SIGTERM raises Terminated, so that ``finally`` clauses kill children and give locks back.

    Does nothing off the main thread, where Python allows no handlers (Prefect installs its own).
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def handler(_signal: int, _frame: FrameType | None) -> None:
        raise Terminated

    previous = signal.signal(signal.SIGTERM, handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)


def run(
    command: Sequence[str],
    cwd: Path,
    *,
    timeout_s: float = 0,
    on_line: Callable[[str], None] | None = None,
    env: dict[str, str] | None = None,
) -> int:
    """Runs ``command`` in ``cwd`` and waits. However this function ends, nothing the command started lives on.

    Args:
        timeout_s: kill after this many seconds; 0 for no limit.
        on_line: gets every line of standard output and error, without its end, as it appears. Without it the
            command writes to our own output, so that progress bars work on a terminal.

    Returns:
        Exit code; negative for the signal that ended it.

    Raises:
        TimedOut: the limit passed.
    """
    piped = on_line is not None
    process = subprocess.Popen(
        [sys.executable, "-IS", str(DEATHSIG), str(os.getpid()), *command],
        cwd=cwd,
        env=env or environment(),
        stdin=subprocess.DEVNULL if piped else None,
        stdout=subprocess.PIPE if piped else None,
        stderr=subprocess.STDOUT if piped else None,
        text=True,
        errors="replace",
    )
    lines: queue.SimpleQueue[str] = queue.SimpleQueue()
    reader = None
    if piped:
        reader = threading.Thread(target=_read, args=(process, lines), daemon=True)
        reader.start()
    deadline = time.monotonic() + timeout_s if timeout_s else float("inf")
    try:
        while process.poll() is None:
            _hand_on(lines, on_line, wait_s=POLL_S)
            if time.monotonic() > deadline:
                raise TimedOut
        if reader is not None:
            reader.join(timeout=1)
        _hand_on(lines, on_line, wait_s=0)
        return process.returncode
    finally:
        if process.poll() is None:
            kill_tree(process.pid)
            process.wait()


def _read(process: subprocess.Popen[str], lines: "queue.SimpleQueue[str]") -> None:
    assert process.stdout is not None
    for line in process.stdout:
        lines.put(line.rstrip())


def _hand_on(lines: "queue.SimpleQueue[str]", on_line: Callable[[str], None] | None, wait_s: float) -> None:
    """Hands on what has been read; waits up to ``wait_s`` for the first line."""
    if on_line is None:
        time.sleep(wait_s)
        return
    try:
        on_line(lines.get(timeout=wait_s) if wait_s else lines.get_nowait())
        while True:
            on_line(lines.get_nowait())
    except queue.Empty:
        return
