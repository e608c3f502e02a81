"""``stylefactory ops``: the Prefect server, its worker and deployments on this machine."""

from typing import Annotated

import typer

from pipeline.project import find_project


def register(app: typer.Typer) -> None:
    """Adds the ``ops`` group to ``app``."""
    ops = typer.Typer(no_args_is_help=True, rich_markup_mode=None)
    ops.command("up")(up)
    ops.command("down")(down)
    ops.command("status")(status)
    app.add_typer(ops, name="ops", help="Scheduled production: server, worker, deployments (docs/ops.md).")


def up(
    workers: Annotated[int, typer.Option(min=0, help="Worker processes to start here; 0 for a server only.")] = 1,
) -> None:
    """Start a Prefect server on loopback with work pool, slot, automation and deployments, and a worker."""
    from pipeline import opsctl
    from pipeline.settings import load_settings

    project = find_project()
    for line in opsctl.up(project, load_settings(project.params).ops, workers):
        print(line, flush=True)


def down() -> None:
    """Stop what `ops up` started here; running flows go on from their checkpoints next time."""
    from pipeline import opsctl

    for line in opsctl.down(find_project()):
        print(line, flush=True)


def status() -> None:
    """What `ops up` started and whether it is alive."""
    from pipeline import opsctl

    for line in opsctl.describe(find_project()):
        print(line, flush=True)
