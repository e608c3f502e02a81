"""``stylefactory``: what people type. Every command is a thin call into a module; heavy imports happen inside."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from pipeline import cli_ops, cli_styles, cli_tools
from pipeline.processes import Terminated, terminate_as_exception
from pipeline.project import find_project
from stages.common.errors import FactoryError, SettingsError, StageError, from_os_error

app = typer.Typer(
    name="stylefactory",
    help="Face Style Factory: a folder of style pictures becomes a phone-sized face stylization model.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    rich_markup_mode=None,
)

Styles = Annotated[list[str] | None, typer.Argument(help="Styles of params.yaml; none means all.", show_default=False)]


@app.command()
def run(
    styles: Styles = None,
    upto: Annotated[str, typer.Option(help="Stop after this stage (a name of dvc.yaml).")] = "evaluate",
    force: Annotated[bool, typer.Option(help="Run the --upto stage even if it is up to date.")] = False,
    wait: Annotated[bool, typer.Option(help="Wait while another run uses this checkout, or fail naming it.")] = True,
    verbose: Annotated[bool, typer.Option(help="Show Prefect's own messages as well.")] = False,
) -> None:
    """Build styles: every stage that is not up to date, up to the report. The Prefect flow, without a server."""
    from pipeline.local import run_local
    from pipeline.reporting import verdict_line

    project = find_project()
    chosen = _known_styles(styles)
    project.stage(upto)
    failures = run_local(project, chosen, upto=upto, force=force, wait=wait, verbose=verbose)
    for style, error in failures.items():
        print(f"{style or 'shared stages'}: {error}", file=sys.stderr)
    for style in chosen:
        report = project.root / "reports" / style / "report.html"
        if style in failures:
            continue
        if upto != "evaluate":  # the report there is of an earlier build
            print(f"{style}: up to date up to {upto}")
        elif report.is_file():
            print(f"{style}: verdict {verdict_line(project, style)}, report {report.relative_to(project.root)}")
    if failures:
        raise typer.Exit(max(getattr(error, "exit_code", 1) for error in failures.values()))


@app.command()
def status(
    styles: Styles = None,
    json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
    contains: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Instead: which datasets and models this picture went into.")
    ] = None,
) -> None:
    """Per style and stage: done, stale, missing, running or failed; last time taken, size, and why."""
    if contains is not None:
        from pipeline.cli_tools import run_module

        run_module("stages.evaluate.lineage", "--contains", str(contains.resolve()))
        return
    from pipeline import status as module
    from pipeline.lock import holder, holder_line

    project = find_project()
    rows = module.survey(project, _known_styles(styles))
    print(module.as_json(rows) if json else module.as_text(rows))
    if not json and holder(project):
        print(holder_line(project))


@app.command()
def doctor() -> None:
    """Check this machine: versions, device, disk, optional weights and what each would improve. Exit 1 if not ready."""
    from pipeline import doctor as module

    findings = module.examine(find_project())
    print(module.as_text(findings))
    if any(finding.mark == "bad" for finding in findings):
        raise StageError("not ready: see the lines marked BAD")


@app.command()
def gc(
    older: Annotated[float, typer.Option(min=0, help="Days without use before scratch and caches can go.")] = 7,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    dry: Annotated[bool, typer.Option("--dry", help="Only show what could go.")] = False,
) -> None:
    """Free disk: old scratch, dataset caches, and data no lock file, branch or release names. Shows it first."""
    from pipeline import gc as module
    from pipeline.files import human_size
    from pipeline.settings import load_settings

    project = find_project()
    garbage = module.find(project, list(load_settings(project.params).styles), older)
    objects = module.unused_objects(project)
    for item in [*garbage, *([objects] if objects else [])]:
        print(f"{human_size(item.size) if item.size >= 0 else '':>9}  {item.path}  ({item.why})")
    if not garbage and not objects:
        print("nothing to remove")
    elif not dry and (yes or typer.confirm("Remove all of this?")):
        print(f"freed {human_size(module.collect(project, garbage, objects is not None))}")


@app.command()
def preset(
    name: Annotated[str, typer.Argument(help="Name of a preset; none lists them.")] = "",
) -> None:
    """Write a named set of values into params.yaml. Comments, styles, paths and ops settings stay."""
    from pipeline import presets

    if not name:
        for key, entry in presets.PRESETS.items():
            print(f"{key:<10} {entry.meant_for}; {entry.verified}")
        return
    changes = presets.apply(find_project(), name)
    print("\n".join(changes) or "params.yaml has these values already")
    print(f"preset {name}: {presets.PRESETS[name].meant_for}; {presets.PRESETS[name].verified}")


def _known_styles(styles: list[str] | None) -> list[str]:
    """The given styles, or all; settings are validated on the way."""
    from pipeline.settings import load_settings

    settings = load_settings(find_project().params)
    for name in styles or []:
        settings.for_style(name)
    chosen = list(dict.fromkeys(styles or settings.styles))
    if not chosen:
        raise SettingsError("no style in params.yaml; 'stylefactory new-style NAME --images DIR' adds one")
    return chosen


cli_styles.register(app)
cli_tools.register(app)
cli_ops.register(app)


def main() -> None:
    """Entry point of the console script: typed errors become one line and their exit code."""
    try:
        with terminate_as_exception():
            code = app(standalone_mode=False)
        sys.exit(code if isinstance(code, int) else 0)
    except FactoryError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except OSError as error:
        fault = from_os_error(error, error.filename or "stylefactory")
        print(f"error: {fault}", file=sys.stderr)
        sys.exit(fault.exit_code)
    except typer.Abort:
        print("stopped", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        print("interrupted; the same command goes on from the last checkpoint", file=sys.stderr)
        sys.exit(130)
    except Terminated:
        print("terminated; the same command goes on from the last checkpoint", file=sys.stderr)
        sys.exit(143)
    except Exception as error:
        show = getattr(error, "show", None)  # click's usage errors print themselves
        if show is None:
            raise
        show()
        sys.exit(SettingsError.exit_code)


if __name__ == "__main__":
    main()
