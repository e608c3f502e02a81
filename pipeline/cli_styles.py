"""Commands about styles, photos and releases."""

from pathlib import Path
from typing import Annotated

import typer

from pipeline.files import human_size, human_time
from pipeline.project import find_project

Style = Annotated[str, typer.Argument(help="A style of params.yaml.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]


def register(app: typer.Typer) -> None:
    """Adds this module's commands to ``app``."""
    app.command("new-style")(new_style)
    app.command("photos")(photos)
    app.command("list-styles")(list_styles)
    app.command("remove-style")(remove_style)
    app.command("release")(release)


def new_style(
    name: Annotated[str, typer.Argument(help="Lower-case letters, digits, - and _.")],
    images: Annotated[Path, typer.Option(help="Folder with the style's pictures.")],
    licence: Annotated[str, typer.Option(help="Licence or consent; goes into model cards.")] = "",
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="Override for this style, e.g. transfer.kimg=12; repeatable.")
    ] = None,
) -> None:
    """Add a style: check its pictures first, then register and version them. Nothing changes if they are unusable."""
    from pipeline import params, styles

    overrides = dict(params.parse_assignment(text) for text in set_ or [])
    added = styles.add(find_project(), name, images, licence, overrides, on_line=print)
    print(f"style '{added.name}' registered with {added.pictures} usable pictures: {added.verdict}")
    if not licence:
        print("no --licence given: the model card will say 'unknown'")
    if added.expected_s is not None:
        print(f"expected time of a whole run: about {human_time(added.expected_s)} (from styles built here)")
    print(f"next: stylefactory run {added.name}")


def photos(
    folders: Annotated[list[Path], typer.Argument(help="Folders of photos of people, best with several per person.")],
    licence: Annotated[str, typer.Option(help="Licence or consent; goes into model cards.")] = "",
) -> None:
    """Use these photos instead of the embedded default: check first, then copy and version them."""
    from pipeline import styles

    usable = styles.use_photos(find_project(), folders, licence, on_line=print)
    print(f"photos.path is now {styles.RAW_PHOTOS}, {usable} usable photos; next: stylefactory run")


def list_styles() -> None:
    """Styles with their pictures, licence, overrides, last verdict and number of releases."""
    from pipeline import styles

    for row in styles.describe(find_project()):
        parts = [
            row["pictures"],
            row["licence"] or "licence unknown",
            row["verdict"],
            f"overrides: {', '.join(row['overrides'])}" if row["overrides"] else "",
            f"{row['releases']} releases" if row["releases"] else "",
        ]
        print(f"{row['style']:<16} " + " | ".join(part for part in parts if part))


def remove_style(name: Style, yes: Yes = False) -> None:
    """Remove a style with its data, models and reports from this checkout. Releases and git history stay."""
    from pipeline import styles
    from pipeline.settings import load_settings

    project = find_project()
    load_settings(project.params).for_style(name)
    paths = styles.leftovers(project, name)
    print("\n".join(f"  {path}" for path in paths))
    if yes or typer.confirm(f"Remove style '{name}' and these?"):
        print(f"removed, {human_size(styles.delete(project, name))}; decisions in data/curation/ are kept")


def release(
    style: Style,
    force: Annotated[bool, typer.Option(help="Release also with verdict fail or none; the card says so.")] = False,
    push: Annotated[bool, typer.Option(help="Push data and models to the default DVC remote as well.")] = False,
) -> None:
    """Freeze a finished style: tag style/NAME/vN, bundle with model card and checksums, an entry in releases.csv."""
    from pipeline import releases

    made = releases.release(find_project(), style, force=force, push=push)
    print(f"{made.tag}: {made.bundle} ({human_size(made.size)})")
    print(f"share it with: git push origin {made.tag}" + ("" if push else " && dvc push"))
