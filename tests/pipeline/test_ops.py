"""The real server, worker and schedule on loopback: runs complete, queue for the slot, survive kills, end cleanly."""

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from typing import Any

import psutil
import pytest

from pipeline import dvc, inputs, opsctl, params
from pipeline.files import read_json, write_text
from pipeline.processes import environment, lives
from pipeline.project import Project
from tests.pipeline.conftest import REPO, make_factory
from tests.pipeline.test_processes import wait_gone

pytestmark = pytest.mark.slow

TRIALS = range(5)
GOOD = ("one", "two", "three")

STEPS = {"FAKE_STEPS": "12"}


class Ops:
    """A factory with ``ops up`` done; talks to its server."""

    def __init__(self, project: Project, port: int) -> None:
        self.project, self.url = project, f"http://127.0.0.1:{port}/api"

    def cli(self, *args: str) -> str:
        env = environment() | {"STYLEFACTORY_ROOT": str(self.project.root)} | STEPS
        result = subprocess.run(["stylefactory", *args], cwd=self.project.root, env=env, capture_output=True, text=True)
        assert result.returncode == 0, result.stdout + result.stderr
        return result.stdout

    def start(self, style: str, upto: str = "evaluate") -> str:
        import httpx

        deployment = httpx.get(f"{self.url}/deployments/name/produce/produce", timeout=30).json()["id"]
        body = {"parameters": {"style": style, "upto": upto}, "state": {"type": "SCHEDULED"}}
        return str(self.post(f"/deployments/{deployment}/create_flow_run", body)["id"])

    def cancel(self, run: str) -> None:
        """What the UI's button does."""
        self.post(f"/flow_runs/{run}/set_state", {"state": {"type": "CANCELLING", "name": "Cancelling"}})

    def pace(self, seconds: float) -> None:
        """Seconds per step of transfer, also of one that runs."""
        write_text(self.project.root / "pace", str(seconds))

    def post(self, path: str, body: dict[str, Any] | None = None) -> Any:
        import httpx

        for _ in range(10):
            answer = httpx.post(f"{self.url}{path}", json=body or {}, timeout=30)
            if answer.status_code != 503:  # SQLite is locked: Prefect's own client tries again, too
                break
            time.sleep(1)
        answer.raise_for_status()
        return answer.json()

    def runs(self) -> list[dict[str, Any]]:
        return self.post("/flow_runs/filter")

    def state(self, run: str) -> str:
        import httpx

        return httpx.get(f"{self.url}/flow_runs/{run}", timeout=30).json()["state"]["type"]

    def until(self, what: Callable[[], Any], seconds: float = 120) -> Any:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if found := what():
                return found
            time.sleep(0.3)
        logs = "".join((self.project.root / ".prefect" / name).read_text()[-3000:] for name in ("worker-0.log",))
        pytest.fail(f"did not happen in {seconds} s; worker log ends:\n{logs}")

    def stage_pid(self, style: str, at_step: int = 2) -> int:
        """Waits until transfer of ``style`` has come to a step; the stage's pid."""

        def there() -> int:
            work = self.project.root / "work" / style / "transfer"
            note = read_json(work / "running.json")
            done = [read_json(path) for path in work.glob("*/checkpoint.json")]
            far = any(record and record["done"] >= at_step for record in done)
            return int(note["pid"]) if note and far and lives(int(note["pid"])) else 0

        return int(self.until(there))

    def pids(self) -> list[int]:
        record = read_json(self.project.root / ".prefect" / "ops.json") or {}
        return [record["server"]["pid"], *(worker["pid"] for worker in record["workers"])]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def ops(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ops]:
    """Server and worker over a factory with four styles, the last of them broken."""
    project = make_factory(tmp_path_factory.mktemp("ops") / "factory", (*GOOD, "bad"))
    (project.root / "pictures/bad/broken.png").write_bytes(b"x")
    text = (REPO / "prefect.yaml").read_text().replace("interval: 300", "interval: 30")
    (project.root / "prefect.yaml").write_text(text)
    targets = [f"evaluate@{style}" for style in GOOD]
    subprocess.run(["dvc", "repro", "-q", *targets], cwd=project.root, env=environment() | STEPS, check=True)
    port = free_port()

    def change(tree: dict) -> None:
        tree["ops"].update(port=port, intake_settle_s=0)

    params.edit(project.params, change)
    os.environ["STYLEFACTORY_ROOT"] = str(project.root)
    started = Ops(project, port)
    started.cli("ops", "up")
    try:
        yield started
    finally:
        pids = started.pids()
        started.cli("ops", "down")
        del os.environ["STYLEFACTORY_ROOT"]
        assert wait_gone(pids), "ops down left processes"
        home = str(project.root / ".prefect")
        assert wait_gone([p.pid for p in psutil.process_iter() if _env_of(p).get("PREFECT_HOME") == home])


def _env_of(process: psutil.Process) -> dict[str, str]:
    try:
        return process.environ()
    except (psutil.Error, OSError):
        return {}


def reset(project: Project, style: str) -> None:
    """Makes transfer of ``style`` due again, with nothing to restore it from."""
    write_text(project.root / "pace", "2")
    inputs.forget(project, f"transfer@{style}", 0)
    shutil.rmtree(project.root / "work" / style / "transfer", ignore_errors=True)


def result(ops: Ops, style: str) -> bytes:
    return (ops.project.root / "models" / style / "transferred.safetensors").read_bytes()


def test_three_styles_queue_for_one_slot_and_a_broken_one_fails_alone(ops):
    for style in GOOD:
        reset(ops.project, style)
    ops.pace(0.3)
    began = time.monotonic()
    runs = {style: ops.start(style) for style in (*GOOD, "bad")}
    overlap = 0
    while any(ops.state(run) not in ("COMPLETED", "FAILED", "CRASHED") for run in runs.values()):
        busy = [
            note
            for style in runs
            if (note := read_json(ops.project.root / "work" / style / "transfer" / "running.json"))
            and lives(int(note["pid"]))
        ]
        overlap = max(overlap, len(busy))
        assert time.monotonic() - began < 300
        time.sleep(0.2)
    assert overlap == 1
    states = {style: ops.state(run) for style, run in runs.items()}
    assert states == dict.fromkeys(GOOD, "COMPLETED") | {"bad": "FAILED"}
    verdicts = ops.post("/artifacts/latest/filter")
    texts = {artifact["key"]: artifact["data"] for artifact in verdicts}
    assert "0 of 1 pictures usable" in texts["verdict-bad"]
    assert {"metrics-one", "verdict-one", "report-one"} <= set(texts)
    logs = [entry["message"] for entry in ops.post("/logs/filter", {"limit": 200})]
    assert any("step 3/12" in line for line in logs), "the stages' output must be in the run's log"


def test_schedule_fires_by_itself_and_intake_starts_production(ops, tmp_path):
    """A folder nobody announces: registered by the scheduled intake, which starts its production."""
    done = ops.until(
        lambda: [run for run in ops.runs() if run["auto_scheduled"] and run["state"]["type"] == "COMPLETED"], 120
    )
    assert done


@pytest.mark.parametrize("trial", TRIALS)
def test_cancel_kills_the_stage_and_the_next_run_finishes(ops, trial):
    wanted = result(ops, "one")
    reset(ops.project, "one")
    run = ops.start("one", "transfer")
    stage = ops.stage_pid("one", 2 + trial)
    ops.cancel(run)
    assert wait_gone([stage], 20), "cancelled, but the stage went on"
    ops.pace(0)
    ops.until(lambda: ops.state(run) == "CANCELLED")
    again = ops.start("one", "transfer")
    ops.until(lambda: ops.state(again) == "COMPLETED")
    assert result(ops, "one") == wanted


@pytest.mark.parametrize("trial", TRIALS)
def test_flow_run_killed_is_crashed_and_resumes(ops, trial):
    wanted = result(ops, "two")
    reset(ops.project, "two")
    run = ops.start("two", "transfer")
    stage = ops.stage_pid("two", 2 + trial)
    for process in opsctl._flow_processes(ops.project):
        process.kill()
    assert wait_gone([stage], 10), "the stage outlived its flow"
    ops.pace(0)
    ops.until(lambda: ops.state(run) == "CRASHED")
    again = ops.start("two", "transfer")
    ops.until(lambda: ops.state(again) == "COMPLETED", 180)
    assert result(ops, "two") == wanted


@pytest.mark.parametrize("trial", TRIALS)
def test_worker_killed(ops, trial):
    """The run goes on without its worker or ends; either way the next one is clean and the result the same."""
    wanted = result(ops, "three")
    reset(ops.project, "three")
    ops.start("three", "transfer")
    ops.stage_pid("three", 2 + trial)
    os.kill(ops.pids()[1], signal.SIGKILL)
    assert wait_gone([ops.pids()[1]])
    assert "NOT RUNNING" in ops.cli("ops", "status")
    ops.cli("ops", "up")
    ops.pace(0)
    again = ops.start("three", "transfer")
    ops.until(lambda: ops.state(again) == "COMPLETED", 180)
    assert result(ops, "three") == wanted
    assert "transfer@three" not in dvc.changed(ops.project)


@pytest.mark.parametrize("trial", TRIALS)
def test_server_killed(ops, trial):
    wanted = result(ops, "one")
    reset(ops.project, "one")
    ops.start("one", "transfer")
    stage = ops.stage_pid("one", 2 + trial)
    os.kill(ops.pids()[0], signal.SIGKILL)
    assert wait_gone([ops.pids()[0]])
    ops.cli("ops", "up")
    ops.pace(0)
    again = ops.start("one", "transfer")
    ops.until(lambda: ops.state(again) == "COMPLETED", 240)
    assert result(ops, "one") == wanted
    assert wait_gone([stage])
    assert psutil.Process(ops.pids()[0]).is_running()
