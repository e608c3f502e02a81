"""Commands that need tensors: each runs a stage module as a process of its own and ends with its exit code.

Arguments after the ones named here go to the module unchanged; ``--help`` after a command shows the module's own.
"""

import sys
from pathlib import Path
from typing import Annotated

import typer

from pipeline import processes
from pipeline.project import find_project
from stages.common.errors import SettingsError, StageError

PASS = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}


def register(app: typer.Typer) -> None:
    """Adds this module's commands to ``app``."""
    weights, sweep, bench = (typer.Typer(no_args_is_help=True, rich_markup_mode=None) for _ in range(3))
    weights.command("list")(weights_list)
    _pass(weights, "import", "stages.generate.import_weights", "Import a StyleGAN2 checkpoint: FILE --out X.", "import")
    _pass(sweep, "variants", "stages.pair.variants", "Compare variants of the translator: STYLE.", style=True)
    _pass(sweep, "fuse", "stages.generate.sweep_fuse", "Try fusion points and widths: STYLE.", style=True)
    _pass(sweep, "identity", "stages.pair.sweep_identity", "Try the identity-style knobs: STYLE.", style=True)
    _pass(bench, "ops", "stages.mobile.bench_ops", "Latency of single operations in MNN.")
    _pass(bench, "model", "stages.mobile.bench_model", "Latency of exported models.")
    app.add_typer(weights, name="weights", help="Optional and imported weights.")
    app.add_typer(sweep, name="sweep", help="Try a range of values; the report shows the result.")
    app.add_typer(bench, name="bench", help="Latency on this machine (never a phone's).")
    _pass(app, "generate", "stages.generate.sample", "Sample a model: a file, a style or 'source'.")
    _pass(app, "stylize", "stages.mobile.stylize", "Run a .mnn on a picture, folder or video, see --help.")
    _pass(app, "ablate", "stages.mobile.ablate", "Train the mobile model with parts left out: STYLE.", style=True)
    _pass(app, "review", "stages.generate.review", "Look at and curate generated faces: STYLE [--accept].", style=True)
    _pass(app, "compare", "stages.evaluate.compare", "Compare two evaluations: A B.")
    _pass(app, "report", "stages.evaluate.report", "Write the report of a style anew: STYLE [--open].", style=True)


def run_module(module: str, *args: str) -> None:
    """Runs ``python -m module`` in the checkout with our own input and output; exits with its code if not 0."""
    root = find_project().root
    if Path.cwd() != root:
        raise SettingsError(f"run this in {root}: the paths given to it are read from there")
    code = processes.run([sys.executable, "-m", module, *args], root)
    if code:
        raise typer.Exit(code if code > 0 else 128 - code)


def _pass(app: typer.Typer, name: str, module: str, text: str, *first: str, style: bool = False) -> None:
    """Adds a command that hands its arguments, ``first`` before them, to a module; ``style`` names the first one."""

    def command(context: typer.Context) -> None:
        args = [*first, *context.args]
        if style and args and not args[0].startswith("-"):
            args = ["--style", *args]
        run_module(module, *args)

    app.command(name, help=text, context_settings=PASS)(command)


def weights_list(
    used: Annotated[bool, typer.Option(help="Only those found.")] = False,
) -> None:
    """Optional weight files: where each was found, or what it would improve; then the StyleGAN2 models here."""
    from pipeline import doctor

    found = doctor.weights(find_project())
    if isinstance(found, str):
        raise StageError(found)
    for entry in found:
        if entry["path"]:
            print(f"{entry['name']:<14} {entry['path']}")
        elif not used:
            print(f"{entry['name']:<14} missing: would improve {entry['improves']}; used instead: {entry['fallback']}")
    run_module("stages.generate.import_weights", "list")
