"""Prefect flows over the wrapper: when things run, what is retried, what people see. No business logic here.

Every DVC stage is one task that calls :func:`pipeline.dvc.reproduce`. DVC is the only cache. The same functions run in
``stylefactory run`` (no server) and as deployments of prefect.yaml (docs/ops.md).
"""

import contextlib
import os
import sys
import time
from pathlib import Path

from prefect import flow, get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun
from prefect.concurrency.sync import concurrency
from prefect.runtime import flow_run
from prefect.tasks import Task

from pipeline import dvc, reporting
from pipeline.plan import plan
from pipeline.project import Project, find_project
from pipeline.settings import OpsSettings, load_settings
from stages.common.errors import BusyError, FactoryError

SLOT_STAGES = frozenset({"source", "transfer", "generate", "translate", "pair", "mobile", "evaluate"})


def _may_pass(_task: Task, _run: TaskRun, state: State) -> bool:
    """Retry only faults marked transient (killed, disk full, settings changed during the run).

    Not a busy checkout: the lock says so only to who asked not to wait.
    """
    try:
        state.result()
    except Exception as error:
        if getattr(error, "transient", False) and not isinstance(error, BusyError):
            print(f"{error}\nthis may pass: trying again if ops.retries allows", flush=True)
            return True
    return False


@task(task_run_name="{target}", cache_policy=NO_CACHE, persist_result=False, retry_condition_fn=_may_pass)
def run_stage(target: str, ops: OpsSettings, force: bool, wait: bool) -> dvc.StageRun:
    """One DVC stage: output live to the terminal or, under a server, to the run's log."""
    logger = get_run_logger()
    on_server = bool(os.environ.get("PREFECT_API_URL"))
    live = None if sys.stdout.isatty() and not on_server else _forward(logger.info if on_server else print)
    with _slot(target, ops) if on_server else contextlib.nullcontext():
        return dvc.reproduce(
            find_project(),
            target,
            timeout_s=ops.stage_timeout_min * 60,
            min_free_gb=ops.min_free_gb,
            force=force,
            wait=wait,
            on_line=live,
        )


def _forward(write):  # type: ignore[no-untyped-def]
    def line(text: str) -> None:
        write(text)
        if write is print:
            sys.stdout.flush()

    return line


def _slot(target: str, ops: OpsSettings) -> contextlib.AbstractContextManager[None]:
    """The device's slot for stages that use it. Strict: without the slot's limit on the server nothing runs."""
    if target.partition("@")[0] not in SLOT_STAGES:
        return contextlib.nullcontext()
    return concurrency(ops.slot, strict=True, lease_duration=ops.slot_lease_s)


def _produce(project: Project, style: str, upto: str, force: bool, wait: bool) -> None:
    """Runs what is not up to date for one style, in the order of the diagram."""
    ops = load_settings(project.params).ops
    step = run_stage.with_options(
        retries=ops.retries, retry_delay_seconds=[ops.retry_wait_s * 2**i for i in range(ops.retries)]
    )
    step("weights", ops, False, wait)
    for target in plan(project, style, upto, force, wait):
        step(target, ops, force and target.partition("@")[0] == upto, wait)


@flow(name="produce", flow_run_name="produce-{style}", persist_result=False, validate_parameters=False)
def produce_style(
    style: str,
    upto: str = "evaluate",
    push: bool | None = None,
    release: bool = False,
    force: bool = False,
    wait: bool = True,
) -> str:
    """Builds one style up to a stage, then publishes its artifacts.

    Args:
        style: name in params.yaml.
        upto: last stage.
        push: push data and models to the DVC remote afterwards; None takes ops.push.
        release: make a release unless the verdict is fail.
        force: run ``upto`` even if up to date.
        wait: wait for another run in this checkout, or fail.

    Returns:
        The verdict in one line.

    Raises:
        FactoryError: of the stage that failed, with its exit code.
    """
    project = find_project()
    settings = load_settings(project.params).for_style(style)
    began, ok, text = time.time(), False, "ended before it finished"
    try:
        _produce(project, style, upto, force, wait)
        text = reporting.verdict_line(project, style)
        if settings.ops.push if push is None else push:
            dvc.query(project, "push", "--quiet")
        if release:
            from pipeline import releases

            text += f"; released as {releases.release(project, style, force=False, push=False).tag}"
        ok = True
        return text
    except FactoryError as error:
        text = str(error)
        raise
    finally:
        reporting.publish_artifacts(project, style, ok, text)
        reporting.notify(settings.ops.webhook, style, ok, text, time.time() - began, str(flow_run.get_name() or ""))


@flow(name="produce-styles", persist_result=False, validate_parameters=False)
def produce_styles(
    styles: list[str], upto: str = "evaluate", force: bool = False, wait: bool = True
) -> dict[str, FactoryError]:
    """Builds several styles one after the other. One that fails does not stop the others.

    Args:
        styles: names in params.yaml; none means all of them.
        upto, force, wait: as for :func:`produce_style`.

    Returns:
        The errors by style; empty when all are built.
    """
    failures: dict[str, FactoryError] = {}
    for style in styles or list(load_settings(find_project().params).styles):
        try:
            produce_style(style, upto=upto, force=force, wait=wait)
        except FactoryError as error:
            failures[style] = error
    return failures


@flow(name="intake", persist_result=False, validate_parameters=False)
def intake(folder: str = "", produce: bool = True) -> dict[str, str]:
    """Looks through the intake folder: every complete new sub-folder becomes a style and a production run.

    Args:
        folder: watched folder; "" takes ops.intake_dir.
        produce: also start the production of what was registered (as deployment runs when there is a server).

    Returns:
        Sub-folder to what became of it, only for those looked at in this round.
    """
    from pipeline import intake as module

    project = find_project()
    ops = load_settings(project.params).ops
    logger = get_run_logger()
    outcome = module.look(project, Path(folder or ops.intake_dir), ops.intake_settle_s, logger.info)
    for result in outcome:
        (logger.info if result.registered else logger.warning)(f"{result.name}: {result.text}")
    reporting.intake_artifact(outcome)
    names = [result.name for result in outcome if result.registered]
    if produce and names:
        _start(names)
    return {result.name: result.text for result in outcome}


def _start(styles: list[str]) -> None:
    """Queues a production run per style on the server, or builds them here when there is none."""
    if not os.environ.get("PREFECT_API_URL"):
        produce_styles(styles)
        return
    from prefect.deployments import run_deployment

    for style in styles:
        run_deployment("produce/produce", parameters={"style": style}, timeout=0, as_subflow=False)
