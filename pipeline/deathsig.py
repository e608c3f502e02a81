"""Runs a command that dies with its parent: ``python deathsig.py PARENT_PID COMMAND…`` (Linux).

The kernel's parent-death signal survives exec, so this sets it and becomes the command. A wrapper script rather
than ``preexec_fn`` because flows start processes from threads, where ``preexec_fn`` can deadlock.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def main() -> None:
    """Sets the signal, checks that the parent has not died in between, execs."""
    parent, command = int(sys.argv[1]), sys.argv[2:]
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:
            sys.exit(1)
    os.environ["STYLEFACTORY_DVC_PID"] = str(os.getpid())  # exec keeps it; stages check it as their parent
    os.execvp(command[0], command)


if __name__ == "__main__":
    main()
