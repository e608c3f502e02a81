"""Children never outlive us."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from pipeline import processes

SLEEPER = "import subprocess, sys, time; subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)']); {}"


def wait_gone(pids: list[int], seconds: float = 10) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if not any(processes.lives(pid) for pid in pids):
            return True
        time.sleep(0.05)
    return False


def test_lines_arrive_live_and_the_code_is_passed_on(tmp_path):
    seen: list[tuple[float, str]] = []
    code = "import sys, time; print('one'); time.sleep(0.6); print('two', file=sys.stderr); sys.exit(3)"
    result = processes.run(
        [sys.executable, "-c", code], tmp_path, on_line=lambda line: seen.append((time.monotonic(), line))
    )
    assert result == 3
    assert [line for _, line in seen] == ["one", "two"]
    assert seen[1][0] - seen[0][0] > 0.3


def test_time_out_kills_grandchildren(tmp_path):
    before = set(psutil.Process().children(recursive=True))
    with pytest.raises(processes.TimedOut):
        processes.run([sys.executable, "-c", SLEEPER.format("time.sleep(60)")], tmp_path, timeout_s=1.5)
    assert set(psutil.Process().children(recursive=True)) <= before


def test_child_dies_with_a_killed_parent(tmp_path):
    note = tmp_path / "pid"
    child = f"import os, time; open({str(note)!r}, 'w').write(str(os.getpid())); time.sleep(60)"
    wrapper = (
        "import sys; from pathlib import Path; from pipeline import processes;"
        f"processes.run([sys.executable, '-c', {child!r}], Path('.'))"
    )
    parent = subprocess.Popen([sys.executable, "-c", wrapper], cwd=Path(__file__).resolve().parents[2])
    while not (note.exists() and note.read_text()):
        time.sleep(0.05)
        assert parent.poll() is None
    os.kill(parent.pid, signal.SIGKILL)
    parent.wait()
    assert wait_gone([int(note.read_text())])


def test_our_python_comes_first_in_path_and_telemetry_is_off(monkeypatch):
    monkeypatch.setenv("PATH", f"/usr/bin:{Path(sys.executable).parent}")
    env = processes.environment()
    assert env["PATH"].split(os.pathsep) == [str(Path(sys.executable).parent), "/usr/bin"]
    assert env["DVC_NO_ANALYTICS"] == env["DO_NOT_TRACK"] == "1"
