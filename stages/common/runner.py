"""What every stage command does around its work: settings, lock, work folder, errors, exit code."""

import argparse
import gc
import json
import os
import shutil
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock, Timeout

from pipeline.settings import Settings, load_settings
from stages import STARTED_BY
from stages.common.atomic import write_json, write_text
from stages.common.errors import BusyError, FactoryError, StageError, from_os_error
from stages.common.hashing import settings_hash, tree_hash
from stages.common.numbers import publish_numbers
from stages.common.parent_death import die_with_parent, is_dvc
from stages.common.progress import duration, log

if TYPE_CHECKING:
    from stages.common.device import Device


@dataclass
class StageContext:
    """What a stage's ``main`` gets.

    Attributes:
        stage: the stage's name in dvc.yaml, without ``@style``.
        style: the style, "" for stages that exist once.
        settings: validated settings with the style's overrides merged in.
        root: the checkout; all data paths are relative to it.
        work: git-ignored folder of this stage, these settings and these inputs; checkpoints live here, a run that was
            interrupted finds them again; removed after success.
        report: ``reports/<style>/<stage>/`` (``reports/<stage>/`` without a style), made.
    """

    stage: str
    style: str
    settings: Settings
    root: Path
    work: Path
    report: Path

    @cached_property
    def device(self) -> "Device":
        """Device and precision; set up on first use, so that stages without torch do not import it."""
        from stages.common.device import setup

        common = self.settings.common
        return setup(common.device, common.precision, common.threads)


def run_stage(
    stage: str,
    main: Callable[[StageContext], None],
    inputs: Callable[[Settings, str], Sequence[Path]] | None = None,
    argv: Sequence[str] | None = None,
    per_style: bool = True,
) -> None:
    """Runs one stage and exits with its code: 0 done, 1 failed, 2 wrong settings, 3 input unusable.

    Args:
        stage: name in dvc.yaml and of its section in params.yaml.
        main: the work.
        inputs: (settings, style) to the paths whose content decides whether a checkpoint may be continued.
        argv: command line; None takes sys.argv.
        per_style: whether ``--style`` is required.
    """
    parser = argparse.ArgumentParser(prog=f"python -m stages…{stage}", description=main.__doc__)
    if per_style:
        parser.add_argument("--style", required=True, help="name of a style in params.yaml")
    parser.add_argument("--params", type=Path, default=Path("params.yaml"), help="settings file")
    args = parser.parse_args(argv)
    sys.exit(execute(stage, main, inputs, getattr(args, "style", ""), args.params))


def execute(
    stage: str,
    main: Callable[[StageContext], None],
    inputs: Callable[[Settings, str], Sequence[Path]] | None,
    style: str,
    params: Path,
) -> int:
    """:func:`run_stage` without the exit: returns the code and leaves ``work/<style>/<stage>/last.json``."""
    if os.environ.get("DVC_STAGE"):  # set by DVC for its commands
        # the wrapper's shim names DVC's pid, a bare dvc does not: one that died while we imported torch is noticed here
        parent = int(os.environ.get("STYLEFACTORY_DVC_PID") or STARTED_BY)
        if parent == 1 and not is_dvc(parent):  # killed even before this process could ask who started it
            os._exit(1)
        die_with_parent(parent)
    root = Path.cwd()
    base = root / "work" / (style or "_") / stage
    follows = int(os.environ.get("RANK", "0")) > 0  # torchrun's first process owns lock, notes and publishing
    began = time.time()
    error: FactoryError | None = None
    try:
        settings = load_settings(params)
        settings = settings.for_style(style) if style else settings
        if follows:
            _run(stage, style, main, inputs, settings, root, base, publish=False)
        else:
            _locked(base, lambda: _run(stage, style, main, inputs, settings, root, base))
    except FactoryError as caught:
        error = caught
    except OSError as caught:
        error = from_os_error(caught, caught.filename or base)
        _save_trace(base)
    except KeyboardInterrupt:
        error = StageError("interrupted; the same command continues from the last checkpoint")
    except Exception as caught:  # a bug: the person gets one line, the trace goes to a file
        _save_trace(base)
        error = StageError(f"unexpected {type(caught).__name__}: {caught}; details in {base / 'error.txt'}")
    code = error.exit_code if error else 0
    name = f"{stage}@{style}" if style else stage
    if error:
        print(f"{name}: {error}", file=sys.stderr, flush=True)
    elif not follows:
        log(f"{name}: done in {duration(time.time() - began)}")
    if not follows:
        _write_last(base, code, error, began)
    return code


def _run(
    stage: str,
    style: str,
    main: Callable[[StageContext], None],
    inputs: Callable[[Settings, str], Sequence[Path]] | None,
    settings: Settings,
    root: Path,
    base: Path,
    publish: bool = True,
) -> None:
    mine = getattr(settings, stage).model_dump(mode="json")
    key = settings_hash(
        {
            "stage": mine,
            "common": settings.common.model_dump(mode="json", exclude={"checkpoint_nimg"}),
            "inputs": tree_hash(path if path.is_absolute() else root / path for path in inputs(settings, style))
            if inputs
            else "",
        }
    )[:16]
    work = base / key
    work.mkdir(parents=True, exist_ok=True)
    report = root / "reports" / style / stage if style else root / "reports" / stage
    report.mkdir(parents=True, exist_ok=True)
    began = time.time()
    main(StageContext(stage, style, settings, root, work, report))
    if publish:
        publish_numbers(root, stage, style, report, time.time() - began)
        shutil.rmtree(work, ignore_errors=True)


def _locked(base: Path, run: Callable[[], None]) -> None:
    base.mkdir(parents=True, exist_ok=True)
    lock = FileLock(base / "lock", timeout=0)
    try:
        with lock:
            write_text(base / "running.json", json.dumps({"pid": os.getpid(), "since": time.time()}))
            try:
                run()
            finally:
                (base / "running.json").unlink(missing_ok=True)
    except Timeout as error:
        holder = _read_holder(base)
        raise BusyError(f"{base} is in use by process {holder}; wait for it or stop it") from error


def _read_holder(base: Path) -> object:
    try:
        return json.loads((base / "running.json").read_text())["pid"]
    except (OSError, ValueError, KeyError):
        return "unknown"


def _save_trace(base: Path) -> None:
    try:
        write_text(base / "error.txt", traceback.format_exc())
    except FactoryError:
        gc.collect()  # the disk is full as well: nothing more to be done, the one-line error still goes out


def _write_last(base: Path, code: int, error: FactoryError | None, began: float) -> None:
    last = {
        "code": code,
        "error": str(error) if error else "",
        "kind": type(error).__name__ if error else "",
        "transient": bool(error and error.transient),
        "began": began,
        "seconds": round(time.time() - began, 3),
    }
    try:
        write_json(base / "last.json", last)
    except FactoryError as failed:
        print(failed, file=sys.stderr, flush=True)
