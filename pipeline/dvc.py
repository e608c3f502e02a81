"""The one wrapper around DVC: runs one stage, says why it failed, leaves nothing behind."""

import json
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline import inputs, processes
from pipeline.files import human_size, human_time, read_json
from pipeline.lock import checkout_lock
from pipeline.project import Project, split_target
from stages.common.errors import DiskFullError, FactoryError, StageError

DYING_S = 10.0
DVC = [str(Path(sys.executable).parent / "dvc"), "--wait-for-lock"]
NOISE = re.compile(
    r"^(To track the changes|To enable auto staging|\s*git add|\s*dvc config|Use `dvc push`|Having any troubles|"
    r"Updating lock file|Generating lock file|If DVC froze|> exec|Running stage)"
)


class StageFailed(StageError):
    """A stage ended badly. ``exit_code`` and ``transient`` are the stage's own, which ``dvc repro`` hides."""

    def __init__(self, target: str, message: str, code: int = 1, transient: bool = False) -> None:
        super().__init__(f"{target}: {message}")
        self.target, self.exit_code, self.transient = target, code, transient


@dataclass(frozen=True)
class StageRun:
    """What happened to one stage."""

    target: str
    ran: bool
    seconds: float

    def __str__(self) -> str:
        return f"{self.target}: {'done in ' + human_time(self.seconds) if self.ran else 'up to date'}"


def reproduce(
    project: Project,
    target: str,
    *,
    timeout_s: float = 0,
    min_free_gb: float = 0,
    wait: bool = True,
    force: bool = False,
    on_line: Callable[[str], None] | None = None,
) -> StageRun:
    """``dvc repro -s TARGET`` under the checkout's lock: runs the one stage if it is not up to date.

    Args:
        target: "photos" or "transfer@avatar".
        timeout_s: kill the stage with all its children after this long; 0 for no limit.
        min_free_gb: refuse to start with less free disk.
        wait: wait for another run in this checkout or fail naming it.
        force: run even if up to date.
        on_line: gets the output line by line; None writes to our own output.

    Raises:
        StageFailed: with the exit code and the transient mark the stage gave.
        BusyError: see :func:`pipeline.lock.checkout_lock`.
        DiskFullError: too little free disk to start.
    """
    say = on_line or (lambda line: print(line, flush=True))
    command = [*DVC, "repro", "--single-item", *(["--force"] if force else []), target]
    errors: list[str] = []

    def keep(line: str) -> None:
        if line.startswith("ERROR:"):
            errors.append(line.removeprefix("ERROR:").strip())
        if on_line is not None and line and not NOISE.match(line):
            on_line(line)

    with checkout_lock(project, target, wait=wait, say=say):
        _check_disk(project, min_free_gb)
        _wait_for_the_dying(project)
        taken = inputs.note_before(project, target)
        began = time.time()
        inputs.write_note(project, target, taken, began)
        try:
            code = processes.run(
                command, project.root, timeout_s=timeout_s, on_line=keep if on_line is not None else None
            )
        except processes.TimedOut:
            raise StageFailed(
                target,
                f"killed after {human_time(timeout_s)} (ops.stage_timeout_min); the next run resumes",
            ) from None
        last = _last(project, target, began)
        if code != 0:
            killed = _last(project, target, began, "running.json", "since") is not None
            raise _explain(target, code, last, errors, killed)
        if not inputs.still_true(project, target, taken, began):
            raise StageFailed(
                target,
                "its settings or pictures changed while it ran, so the result belongs to neither; run it again",
                transient=True,
            )
    return StageRun(target, last is not None, time.time() - began)


def _check_disk(project: Project, min_free_gb: float) -> None:
    free = shutil.disk_usage(project.root).free
    if free < min_free_gb * 1e9:
        raise DiskFullError(
            f"only {human_size(free)} free on the disk of {project.root}, ops.min_free_gb asks for {min_free_gb:g} GB; "
            "'stylefactory gc' shows what can go"
        )


def _wait_for_the_dying(project: Project) -> None:
    """Lets a DVC that was killed moments ago finish dying, and clears its marks.

    DVC notes readers and writers with their pid in ``.dvc/tmp/rwlock`` and calls a path busy while the pid exists,
    which a zombie nobody has reaped does for good. We hold the checkout's lock, so no run of ours is among them; a
    ``dvc`` somebody started by hand stays alive past the wait and is left alone.
    """
    path = project.root / ".dvc" / "tmp" / "rwlock"
    if path.is_file() and read_json(path) is None:
        time.sleep(1)  # somebody may be writing it this moment
        if path.is_file() and read_json(path) is None:
            path.unlink()  # torn by a kill: DVC would refuse to run until it is gone
    deadline = time.monotonic() + DYING_S
    while (pids := _pids(read_json(path))) and any(processes.lives(pid) for pid in pids):
        if time.monotonic() > deadline:
            return
        time.sleep(processes.POLL_S)
    if pids:
        path.unlink(missing_ok=True)


def _pids(marks: Any) -> set[int]:
    """Every pid in the nested maps and lists of a rwlock file."""
    if isinstance(marks, dict):
        own = {marks["pid"]} if isinstance(marks.get("pid"), int) else set()
        return own.union(*(_pids(value) for value in marks.values()))
    return set().union(*(_pids(value) for value in marks)) if isinstance(marks, list) else set()


def _last(
    project: Project, target: str, began: float, name: str = "last.json", key: str = "began"
) -> dict[str, Any] | None:
    """A note of the stage runner if this run wrote it. ``running.json`` stays behind only when the stage was killed."""
    record = read_json(project.work_of(*split_target(target)) / name)
    return record if record is not None and float(record.get(key, 0)) >= began else None


def _explain(target: str, code: int, last: dict[str, Any] | None, errors: Sequence[str], killed: bool) -> FactoryError:
    if last is not None and last.get("code"):
        return StageFailed(target, str(last["error"]).strip(), int(last["code"]), bool(last.get("transient")))
    if last is not None:
        return StageFailed(target, f"the stage finished but DVC could not record it: {_line(errors, code)}")
    if killed or code < 0:
        return StageFailed(
            target,
            "killed from outside before it could say why (out of memory, or somebody ended it); "
            "the next run goes on from its checkpoint",
            transient=True,
        )
    line = _line(errors, code)
    return StageFailed(target, line, transient="is busy" in line)  # a dvc started by hand works on the same files


def _line(errors: Sequence[str], code: int) -> str:
    return " ".join(errors) if errors else f"dvc ended with code {code}; its message is above"


def query(project: Project, *args: str, patience_s: float = 0.0) -> str:
    """Standard output of a DVC command that only looks or moves files (status, push, add, gc …).

    Args:
        patience_s: how long to try again while another DVC works on the same files.

    Raises:
        StageError: DVC's own message in one line.
    """
    deadline = time.monotonic() + patience_s
    while True:
        try:
            return _query_once(project, *args)
        except StageError as error:
            if "is busy" not in str(error) or time.monotonic() > deadline:
                raise
        time.sleep(1)


def _query_once(project: Project, *args: str) -> str:
    result = subprocess.run(
        [*DVC, *args],
        cwd=project.root,
        env=processes.environment(),
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    if result.returncode != 0:
        lines = [line.removeprefix("ERROR: ") for line in result.stderr.splitlines() if line.startswith("ERROR")]
        detail = " ".join(lines) or result.stderr.strip()[-300:] or f"exit code {result.returncode}"
        raise StageError(f"dvc {args[0]}: {detail}")
    return result.stdout


def changed(project: Project, patience_s: float = 5.0) -> dict[str, list[str]]:
    """Targets that are not up to date with their direct inputs, each with the reasons in words.

    Works on a chain that was never built. A stage that is only downstream of a changed one is not listed.

    Args:
        patience_s: how long to wait while a stage is being run; DVC cannot look at its files meanwhile.
    """
    report = json.loads(query(project, "status", "--json", patience_s=patience_s) or "{}")
    result: dict[str, list[str]] = {}
    for target, entries in report.items():
        reasons = []
        for entry in entries:
            if isinstance(entry, str):  # "always changed": decided by its output, which others depend on
                continue
            for kind, items in entry.items():
                reasons += _reasons(kind, items)
        if reasons:
            result[target] = reasons
    return result


def _reasons(kind: str, items: Any) -> list[str]:
    if kind == "changed command":
        return ["command changed"]
    what = "input" if kind == "changed deps" else "output"
    words = []
    for path, state in items.items():
        if isinstance(state, dict):  # params.yaml: {key: state}
            words += [f"setting {key} {value}" for key, value in state.items()]
        else:
            words.append(f"{what} {path} {state}")
    return words
