"""The stage runner: exit codes, last.json, work folder, lock, parent death."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from pipeline.settings.render import render
from stages.common.errors import DiskFullError, InputError, StageError
from stages.common.runner import StageContext, execute

REPO = Path(__file__).resolve().parents[2]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DVC_STAGE", raising=False)
    with (tmp_path / "params.yaml").open("w") as file:
        YAML().dump(render(), file)
    return tmp_path


def last(project: Path, stage: str = "fuse", style: str = "avatar") -> dict:
    return json.loads((project / "work" / style / stage / "last.json").read_text())


def run(main: object, style: str = "avatar") -> int:
    return execute("fuse", main, None, style, Path("params.yaml"))  # type: ignore[arg-type]


def test_success_publishes_and_removes_its_work_folder(project: Path) -> None:
    seen: list[Path] = []

    def main(ctx: StageContext) -> None:
        seen.append(ctx.work)
        (ctx.work / "checkpoint").touch()
        assert ctx.style == "avatar" and ctx.settings.item is not None and ctx.report.is_dir()

    assert run(main) == 0
    assert not seen[0].exists() and last(project)["code"] == 0


@pytest.mark.parametrize(
    ("error", "code", "transient"),
    [
        (InputError("x.png: bad"), 3, False),
        (StageError("no"), 1, False),
        (DiskFullError("full"), 1, True),
        (RuntimeError("bug"), 1, False),
        (OSError(28, "No space left on device", "a/b"), 1, True),
    ],
)
def test_errors_become_codes_one_line_and_last_json(
    project: Path, capsys: pytest.CaptureFixture, error: Exception, code: int, transient: bool
) -> None:
    def main(ctx: StageContext) -> None:
        (ctx.work / "checkpoint").touch()
        raise error

    assert run(main) == code
    record = last(project)
    assert record["code"] == code and record["transient"] is transient
    message = capsys.readouterr().err.strip()
    assert message.startswith("fuse@avatar: ") and "\n" not in message
    assert list((project / "work" / "avatar" / "fuse").glob("*/checkpoint")), "work survives a failure"


def test_wrong_settings_and_unknown_style_are_exit_2(project: Path, capsys: pytest.CaptureFixture) -> None:
    assert run(lambda ctx: None, style="nobody") == 2
    assert "style 'nobody' is not in params.yaml" in capsys.readouterr().err
    text = (project / "params.yaml").read_text().replace("resolution: 64", "resolution: 65", 1)
    (project / "params.yaml").write_text(text)
    assert run(lambda ctx: None) == 2
    assert "common.resolution: 65" in capsys.readouterr().err


def test_same_settings_same_work_folder_changed_settings_another(project: Path) -> None:
    seen: list[str] = []

    def main(ctx: StageContext) -> None:
        seen.append(ctx.work.name)

    run(main)
    run(main)
    text = (project / "params.yaml").read_text()
    (project / "params.yaml").write_text(text.replace("seed: 0", "seed: 1", 1))
    run(main)
    assert seen[0] == seen[1] != seen[2]


def test_a_second_run_says_who_holds_the_lock(project: Path, capsys: pytest.CaptureFixture) -> None:
    codes: list[int] = []

    def main(ctx: StageContext) -> None:
        codes.append(run(lambda inner: None))

    assert run(main) == 0
    assert codes == [1]
    assert f"in use by process {os.getpid()}" in capsys.readouterr().err


def test_a_stage_ends_when_its_dvc_died_during_the_imports(project: Path) -> None:
    """Without the wrapper's pid in the environment, as under a bare ``dvc repro``."""
    stage = project / "sleeper.py"
    stage.write_text(
        "import os, time\n"
        "from pathlib import Path\n"
        "import stages\n"
        "Path('started').touch()\n"
        "while os.getppid() == stages.STARTED_BY:\n"
        "    time.sleep(0.01)\n"
        "from stages.common.runner import run_stage\n"
        "run_stage('fuse', lambda ctx: Path('ran').touch())\n"
    )
    env = {k: v for k, v in os.environ.items() if k != "STYLEFACTORY_DVC_PID"}
    env |= {"PYTHONPATH": str(REPO), "DVC_STAGE": "fuse@avatar"}
    command = f"exec {sys.executable} sleeper.py --style avatar"
    parent = subprocess.Popen(
        [
            sys.executable,
            "-c",
            f"import subprocess; p = subprocess.Popen({command!r}, shell=True); print(p.pid); p.wait()",
        ],
        env=env | {"PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    deadline = time.monotonic() + 30
    while not (project / "started").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    parent.kill()
    parent.wait()
    deadline = time.monotonic() + 60
    while Path(f"/proc/{pid}").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not Path(f"/proc/{pid}").exists() and not (project / "ran").exists()


def test_a_stage_dies_with_the_dvc_that_started_it(project: Path) -> None:
    stage = project / "sleeper.py"
    stage.write_text(
        "import os, time\n"
        "from pathlib import Path\n"
        "from stages.common.runner import run_stage\n"
        "def main(ctx):\n"
        "    Path('pid').write_text(str(os.getpid()))\n"
        "    time.sleep(60)\n"
        "run_stage('fuse', main)\n"
    )
    env = os.environ | {"PYTHONPATH": str(REPO), "DVC_STAGE": "fuse@avatar"}
    parent = subprocess.Popen(
        [
            sys.executable,
            "-c",
            f"import subprocess; subprocess.run('exec {sys.executable} sleeper.py --style avatar', shell=True)",
        ],
        env=env,
    )
    deadline = time.monotonic() + 30
    while not (project / "pid").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(0.1)
    pid = int((project / "pid").read_text())
    parent.kill()
    parent.wait()
    deadline = time.monotonic() + 5
    while Path(f"/proc/{pid}").exists() and time.monotonic() < deadline:
        if "Z" in Path(f"/proc/{pid}/stat").read_text().split(")")[1][:3]:
            break
        time.sleep(0.05)
    else:
        assert not Path(f"/proc/{pid}").exists()


def test_a_stage_whose_dvc_died_before_its_first_line_does_not_run(project: Path) -> None:
    stage = project / "late.py"
    stage.write_text(
        "import os\n"
        "from pathlib import Path\n"
        "Path('pid').write_text(f'{os.getpid()} {os.getppid()}')\n"
        "from stages.common.runner import run_stage\n"
        "run_stage('fuse', lambda ctx: Path('ran').write_text('x'))\n"
    )
    env = os.environ | {"PYTHONPATH": str(REPO), "DVC_STAGE": "fuse@avatar"}
    env.pop("STYLEFACTORY_DVC_PID", None)
    late = f"(sleep 0.3; exec {sys.executable} late.py --style avatar) > /dev/null 2>&1 &"
    subprocess.run(["sh", "-c", late], env=env, check=True)  # returns at once: the stage starts without its parent
    deadline = time.monotonic() + 60
    while not (project / "pid").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(0.1)
    pid, parent = map(int, (project / "pid").read_text().split())
    if parent != 1:
        pytest.skip(f"orphans go to process {parent} here, not to init")
    while Path(f"/proc/{pid}").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not Path(f"/proc/{pid}").exists() and not (project / "ran").exists()
