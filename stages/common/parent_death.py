"""A stage must not outlive the DVC or worker process that started it (docs/ops.md)."""

import ctypes
import os
import signal
import sys
from pathlib import Path

PR_SET_PDEATHSIG = 1


def die_with_parent(parent: int | None = None) -> None:
    """Asks Linux to SIGKILL this process when its parent dies; elsewhere does nothing.

    Args:
        parent: pid the parent should have; None takes the present one. If it is gone already, this process ends.
    """
    if not sys.platform.startswith("linux"):
        return
    expected = os.getppid() if parent is None else parent
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != expected:  # it died before the request was in place
        os._exit(1)


def is_dvc(pid: int) -> bool:
    """Whether the command line of process ``pid`` names DVC (it can be pid 1 of a container); True where unknown."""
    try:
        return b"dvc" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return True
