"""Which stages a run has to execute."""

from pipeline import dvc
from pipeline.project import Project


def plan(project: Project, style: str, upto: str = "evaluate", force: bool = False, wait: bool = False) -> list[str]:
    """Targets for ``style`` that are not up to date or come after one that is not, in the order of the diagram.

    Args:
        upto: last stage.
        force: ``upto`` itself is in the plan in any case.
        wait: if another run's stage keeps DVC from looking, wait until it has ended.

    Raises:
        SettingsError: no such stage.
        StageError: DVC cannot read the project.
    """
    changed = dvc.changed(project, patience_s=float("inf")) if wait else dvc.changed(project)
    chosen: list[str] = []
    names: set[str] = set()
    for stage in project.needed_by(upto):
        target = stage.target(style)
        upstream = {other.name for other in project.needed_by(stage.name)} - {stage.name}
        if target in changed or upstream & names or (force and stage.name == upto):
            chosen.append(target)
            names.add(stage.name)
    return chosen
