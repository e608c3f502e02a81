"""What people type: speed, exit codes, one-line errors; and one smoke test of Prefect without a server."""

import contextlib
import json
import re
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from pipeline import cli as cli_module
from pipeline import params
from pipeline.lock import checkout_lock
from pipeline.processes import environment


def cli(*args: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["stylefactory", *args], capture_output=True, text=True, env=environment() | env, stdin=subprocess.DEVNULL
    )


def test_help_imports_nothing_heavy():  # its time is in tests/bench
    code = (
        "import sys, pipeline.cli; print([m for m in ('torch', 'prefect', 'dvc', 'numpy', 'cv2') if m in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_all_commands_are_there():
    text = cli("--help").stdout
    found = set(re.findall(r"^  ([a-z][a-z-]+) ", text, re.MULTILINE))
    assert found >= {
        *("run", "status", "doctor", "list-styles", "new-style", "photos", "remove-style", "gc", "preset", "weights"),
        *("generate", "stylize", "sweep", "ablate", "review", "compare", "report", "bench", "release", "ops"),
    }


@pytest.mark.parametrize(
    ("args", "code", "text"),
    [
        (("run", "nobody"), 2, "style 'nobody' is not in params.yaml"),
        (("run", "--upto", "nothing"), 2, "no stage 'nothing'"),
        (("run", "--nonsense"), 2, "No such option"),
        (("new-style", "two", "--images", "missing"), 3, "missing: no such folder"),
        (("new-style", "two", "--images", "people", "--set", "fuse.width=0"), 2, "styles.two.fuse.width"),
        (("preset", "huge"), 2, "no preset 'huge'"),
        (("release", "one"), 1, "one is not finished"),
        (("sweep", "fuse", "one", "--samples", "3"), 2, "--samples must be at least 32"),
    ],
)
def test_errors_are_one_line_with_their_code(factory, args, code, text):
    result = cli(*args)
    assert result.returncode == code
    assert text in result.stderr and "Traceback" not in result.stderr


def test_what_the_system_refuses_is_one_line_too(monkeypatch, capsys):
    def refused(**_kwargs: object) -> None:
        raise PermissionError(13, "Permission denied", "params.yaml")

    monkeypatch.setattr(cli_module, "app", refused)
    with pytest.raises(SystemExit) as end:
        cli_module.main()
    assert end.value.code == 1
    told = capsys.readouterr().err
    assert told.startswith("error: params.yaml: not allowed to read or write here") and told.count("\n") == 1


def test_no_wait_fails_at_once_naming_the_other_run(built):
    params.edit(built.params, lambda tree: params.set_value(tree, "ops.retry_wait_s", 300))
    with checkout_lock(built, "somebody else's run"):
        result = subprocess.run(
            ["stylefactory", "run", "one", "--no-wait"],
            capture_output=True, text=True, env=environment(), stdin=subprocess.DEVNULL, timeout=240,
        )  # fmt: skip
    assert result.returncode == 1
    assert "is running somebody else's run in this checkout" in result.stderr
    assert "trying again" not in result.stdout


def test_wrong_settings_are_refused_before_anything_runs(factory):
    factory.params.write_text(factory.params.read_text().replace("  mid: 1.5", "  middle: 1.5"))
    result = cli("run")
    assert result.returncode == 2
    assert "fuse.middle: unknown key" in result.stderr and "fuse.mid: missing" in result.stderr
    assert not (factory.root / "dvc.lock").exists()


def test_status_for_programs(built):
    rows = json.loads(cli("status", "--json").stdout)
    assert {row["state"] for row in rows} == {"done"}


def test_run_goes_through_prefect_without_a_server_and_a_bad_style_fails_alone(built):
    (built.root / "pictures/two").mkdir()
    (built.root / "pictures/two/broken.png").write_bytes(b"x")

    def change(tree: dict) -> None:
        params.add_style(tree, "two", "pictures/two", "", {})
        params.set_value(tree, "styles.one.fuse.mid", 0.5)

    params.edit(built.params, change)
    result = cli("run", "two", "one", "--upto", "fuse")
    assert result.returncode == 3
    assert "fuse@one: done" in result.stdout and "transfer@one" not in result.stdout
    assert "one: up to date up to fuse" in result.stdout and "verdict" not in result.stdout
    assert result.stderr.splitlines()[-1].startswith("two: style_faces@two: ")
    assert "0 of 1 pictures usable" in result.stderr and "Traceback" not in result.stdout + result.stderr
    assert (built.root / ".prefect").is_dir()
    assert not _temporary_servers(built.root)


@pytest.mark.slow
def test_the_temporary_server_dies_with_a_killed_run(built):
    run = subprocess.Popen(["stylefactory", "run", "one", "--force"], env=environment(), stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not _temporary_servers(built.root) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert _temporary_servers(built.root)
    run.kill()
    run.wait()
    deadline = time.monotonic() + 10
    while _temporary_servers(built.root) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert not _temporary_servers(built.root)


def _temporary_servers(root: Path) -> list[psutil.Process]:
    """Prefect servers whose home is in this checkout."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        if "prefect.server.api.server:create_app" in (process.info["cmdline"] or []):
            with contextlib.suppress(psutil.Error):
                if process.environ().get("PREFECT_HOME") == str(root / ".prefect"):
                    found.append(process)
    return found
