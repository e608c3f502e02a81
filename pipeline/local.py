"""``stylefactory run``: the production flow in this process, with no server.

Prefect reads its settings when it is imported, so they are put into the environment first.
"""

import os

from pipeline.project import Project
from stages.common.errors import FactoryError


def prefect_environment(project: Project) -> dict[str, str]:
    """Prefect's settings for this checkout: its own home, no telemetry, quiet, patient with a busy machine."""
    return {
        "PREFECT_HOME": str(project.root / ".prefect"),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
        "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",
        "PREFECT_CLI_PROMPT": "false",
        "PREFECT_RESULTS_PERSIST_BY_DEFAULT": "false",
        "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30",
        # in memory, the default, a killed server forgets who holds the slot, and the slot stays taken for ever
        "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": "prefect.server.concurrency.lease_storage.filesystem",
    }


def run_local(
    project: Project, styles: list[str], *, upto: str, force: bool, wait: bool, verbose: bool
) -> dict[str, FactoryError]:
    """Runs ``produce_styles`` here.

    Returns:
        The error of every style that failed; the others are finished.
    """
    os.environ.update(prefect_environment(project))
    os.environ.setdefault("PREFECT_LOGGING_LEVEL", "INFO" if verbose else "CRITICAL")  # errors are ours to show
    os.chdir(project.root)
    if not os.environ.get("PREFECT_API_URL"):
        os.environ["PREFECT_SERVER_ALLOW_EPHEMERAL_MODE"] = "true"
        from pipeline.temporary_server import start_temporary_server

        start_temporary_server(project.root / ".prefect")
    from pipeline import flows

    return flows.produce_styles(styles=styles, upto=upto, force=force, wait=wait)
