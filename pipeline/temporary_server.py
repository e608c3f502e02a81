"""Prefect's temporary server for runs without one, made quiet and mortal.

Prefect starts it by itself on first use, but lets it write to our standard error, where a busy machine shows its
trace-backs at shutdown (uvicorn's cancelled lifespan) after the message that matters, and leaves it running when we
are killed.
"""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import prefect
from prefect.server.api.server import SubprocessASGIServer
from prefect.settings import get_current_settings

from pipeline.processes import DEATHSIG
from stages.common.errors import StageError


class TemporaryServer(SubprocessASGIServer):
    """Prefect keeps one instance for everybody: once this one has started, its clients use it."""

    log: Path

    def _run_uvicorn_command(self) -> subprocess.Popen[Any]:
        options = f"--host 127.0.0.1 --port {self.port} --log-level error --lifespan on".split()
        app = ["--app-dir", str(Path(prefect.__file__).parent), "--factory", "prefect.server.api.server:create_app"]
        settings = get_current_settings().to_environment_variables(exclude_unset=True)
        ours = {"PREFECT_UI_ENABLED": "0", "PREFECT__SERVER_EPHEMERAL": "1", "PREFECT__SERVER_FINAL": "1"}
        python = [sys.executable, "-IS", str(DEATHSIG), str(os.getpid()), sys.executable]
        with self.log.open("ab") as log:
            return subprocess.Popen(
                [*python, "-m", "uvicorn", *options, *app],
                env={**os.environ, **ours, **settings},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )


def start_temporary_server(home: Path) -> None:
    """Starts it and waits until it answers. It ends with this process, however that ends.

    Args:
        home: Prefect's home of this checkout; ``temporary-server.log`` in it gets what the server writes.

    Raises:
        StageError: it did not answer in time or ended.
    """
    home.mkdir(exist_ok=True)
    server = TemporaryServer()
    server.log = home / "temporary-server.log"
    server.log.unlink(missing_ok=True)
    try:
        server.start()
    except Exception as error:
        server.stop()
        raise StageError(
            f"Prefect's temporary server did not start (see {server.log}): is the machine overloaded? "
            "Run again, or use `dvc repro`, which needs no server"
        ) from error
