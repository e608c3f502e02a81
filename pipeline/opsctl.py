"""``stylefactory ops up|down|status``: a Prefect server on loopback, its worker and what they need, as plain processes.

What was started is noted in ``.prefect/ops.json`` with pid and start time, and only that is ever stopped.
"""

import asyncio
import contextlib
import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil

from pipeline import processes
from pipeline.files import human_time, read_json, write_text
from pipeline.local import prefect_environment
from pipeline.project import Project
from pipeline.settings import OpsSettings
from stages.common.errors import StageError

POOL = "factory"
AUTOMATION = "factory: runs without heartbeat have crashed"
HEARTBEAT_S = 30
RUNS_PER_WORKER = 4  # runs wait for the slot and the checkout's lock, so several may be waiting in one worker
SERVER_START_S = 120


def up(project: Project, ops: OpsSettings, workers: int) -> Iterator[str]:
    """Starts what is not running yet and registers pool, slot, automation and deployments. Yields progress lines.

    Raises:
        StageError: the port is taken by something else, or a part does not start.
    """
    home = project.root / ".prefect"
    home.mkdir(exist_ok=True)
    url = f"http://127.0.0.1:{ops.port}/api"
    env = _environment(project, url)
    state = _state(project)
    if not _alive(state.get("server")):
        if _port_taken(ops.port):
            raise StageError(
                f"port {ops.port} is taken by another program; change ops.port, or stop that program and try again"
            )
        server = [_prefect(), "server", "start", "--host", "127.0.0.1", "--port", str(ops.port)]
        kept = state.get("workers", [])  # workers outlive a killed server and find the new one
        state = {"url": url, "server": _start(server, env, home / "server.log"), "workers": kept}
        _save(project, state)
        yield f"server starting (log: {home / 'server.log'})"
        _wait_healthy(url, state["server"], home / "server.log")
    yield f"server: {url.removesuffix('/api')}"
    os.environ.update(env)  # before Prefect is imported
    asyncio.run(_register(ops))
    yield f"work pool '{POOL}', slot '{ops.slot}' (limit 1), automation for dead runs"
    _deploy(project, env)
    yield "deployments: produce, produce-all, intake (prefect.yaml)"
    state["workers"] = [worker for worker in state["workers"] if _alive(worker)]
    for i in range(len(state["workers"]), workers):
        command = [_prefect(), "worker", "start", "--pool", POOL, "--limit", str(RUNS_PER_WORKER), "--name", f"w{i}"]
        state["workers"].append(_start(command, env, home / f"worker-{i}.log"))
        _save(project, state)
    yield f"workers: {len(state['workers'])} (logs: {home}/worker-*.log)"
    yield f"to use the prefect command here: export PREFECT_HOME={home} PREFECT_API_URL={url}"


def down(project: Project) -> Iterator[str]:
    """Ends workers, flow runs and the server that belong to this checkout, in this order. Yields progress lines.

    Workers first, so that no run starts meanwhile; the server last, so that it hears how the runs ended.
    """
    state = _state(project)
    nothing = True
    for worker in filter(_alive, state.get("workers", [])):
        processes.kill_tree(int(worker["pid"]))
        nothing = False
        yield f"stopped worker {worker['pid']}, its runs with it; they go on from their checkpoints next time"
    while orphans := list(_flow_processes(project)):  # of workers that were killed, or started a moment ago
        for process in orphans:
            processes.kill_tree(process.pid)
        nothing = False
        yield f"ended {len(orphans)} flow run(s) without a worker"
    if _alive(state.get("server")):
        processes.kill_tree(int(state["server"]["pid"]))
        nothing = False
        yield f"stopped server {state['server']['pid']}"
    (project.root / ".prefect" / "ops.json").unlink(missing_ok=True)
    if nothing:
        yield "nothing was running"


def describe(project: Project) -> Iterator[str]:
    """One line per part: alive or not, since when."""
    state = _state(project)
    if not state:
        yield "not started; 'stylefactory ops up' starts it"
        return
    for name, record in [("server", state.get("server")), *(("worker", worker) for worker in state["workers"])]:
        if _alive(record):
            yield f"{name}: running as process {record['pid']} for {human_time(time.time() - record['created'])}"
        else:
            yield f"{name}: NOT RUNNING; 'stylefactory ops up' starts it again"
    yield f"flow runs in progress: {len(list(_flow_processes(project)))}"
    yield f"address: {state['url'].removesuffix('/api')}"


def server_url(project: Project) -> str | None:
    """API address of this checkout's server if it is alive."""
    state = _state(project)
    return str(state["url"]) if _alive(state.get("server")) else None


def _environment(project: Project, url: str) -> dict[str, str]:
    return {
        **processes.environment(),
        **prefect_environment(project),
        "PREFECT_API_URL": url,
        "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": str(HEARTBEAT_S),
        "STYLEFACTORY_ROOT": str(project.root),
    }


def _prefect() -> str:
    return str(Path(sys.executable).parent / "prefect")


def _start(command: list[str], env: dict[str, str], log: Path) -> dict[str, Any]:
    """Starts a process that outlives us, in a session of its own, writing to ``log``."""
    with log.open("ab") as out:
        process = subprocess.Popen(
            command,
            env=env,
            cwd=log.parent.parent,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            start_new_session=True,
        )
    return {"pid": process.pid, "created": psutil.Process(process.pid).create_time()}


def _alive(record: dict[str, Any] | None) -> bool:
    """Whether the noted process still runs (a later one with the same number does not count)."""
    try:
        process = psutil.Process(int(record["pid"])) if record else None
        return (
            process is not None
            and record is not None
            and abs(process.create_time() - float(record["created"])) < 1
            and process.status() != psutil.STATUS_ZOMBIE
        )
    except psutil.NoSuchProcess:
        return False


def _state(project: Project) -> dict[str, Any]:
    return read_json(project.root / ".prefect" / "ops.json") or {}


def _save(project: Project, state: dict[str, Any]) -> None:
    write_text(project.root / ".prefect" / "ops.json", json.dumps(state, indent=2))


def _port_taken(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _wait_healthy(url: str, record: dict[str, Any], log: Path) -> None:
    deadline = time.monotonic() + SERVER_START_S
    while time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(f"{url}/health", timeout=5):
                return
        except (urllib.error.URLError, OSError):
            if not _alive(record):
                break
            time.sleep(0.5)
    raise StageError(f"the Prefect server did not start; see {log}")


async def _register(ops: OpsSettings) -> None:
    """Work pool, slot and automation; what exists already is left as it is."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.actions import GlobalConcurrencyLimitCreate, WorkPoolCreate
    from prefect.exceptions import ObjectAlreadyExists, ObjectNotFound

    async with get_client() as client:
        with contextlib.suppress(ObjectAlreadyExists):
            await client.create_work_pool(WorkPoolCreate(name=POOL, type="process"))
        try:
            await client.read_global_concurrency_limit_by_name(ops.slot)
        except ObjectNotFound:
            await client.create_global_concurrency_limit(GlobalConcurrencyLimitCreate(name=ops.slot, limit=1))
        if not await client.read_automations_by_name(AUTOMATION):
            await client.create_automation(_dead_run_automation())


def _dead_run_automation():  # type: ignore[no-untyped-def]
    """A run that has sent a heartbeat and then neither another nor its end is crashed after three of them."""
    from datetime import timedelta

    from prefect.client.schemas.objects import StateType
    from prefect.events.actions import ChangeFlowRunState
    from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture
    from prefect.events.schemas.events import ResourceSpecification

    ends = ("Completed", "Failed", "Cancelled", "Crashed")
    return AutomationCore(
        name=AUTOMATION,
        trigger=EventTrigger(
            after={"prefect.flow-run.heartbeat"},
            expect={"prefect.flow-run.heartbeat", *(f"prefect.flow-run.{end}" for end in ends)},
            match=ResourceSpecification({"prefect.resource.id": ["prefect.flow-run.*"]}),
            for_each={"prefect.resource.id"},
            posture=Posture.Proactive,
            threshold=1,
            within=timedelta(seconds=3 * HEARTBEAT_S),
        ),
        actions=[ChangeFlowRunState(state=StateType.CRASHED, message="no heartbeat: its process or machine died")],
    )


def _deploy(project: Project, env: dict[str, str]) -> None:
    result = subprocess.run(
        [_prefect(), "--no-prompt", "deploy", "--all"],
        cwd=project.root,
        env=env,
        capture_output=True,
        text=True,
        check=False,
    )
    if result.returncode:
        raise StageError(f"deploying prefect.yaml failed: {(result.stderr or result.stdout).strip()[-500:]}")


def _flow_processes(project: Project) -> Iterator[psutil.Process]:
    """Processes of flow runs of this checkout, also those whose worker was killed."""
    home = str(project.root / ".prefect")
    for process in psutil.process_iter():
        try:
            env = process.environ()
        except (psutil.AccessDenied, psutil.NoSuchProcess, OSError):
            continue
        if env.get("PREFECT_HOME") == home and "PREFECT__FLOW_RUN_ID" in env and _is_engine(process):
            yield process


def _is_engine(process: psutil.Process) -> bool:
    try:
        return any("prefect" in part for part in process.cmdline())
    except (psutil.AccessDenied, psutil.NoSuchProcess):
        return False
