"""What people see of a run: artifacts in Prefect, a message to a webhook."""

import json
import logging
import urllib.error
import urllib.request
from typing import TYPE_CHECKING, Any

from pipeline.files import human_time, read_json
from pipeline.project import Project

if TYPE_CHECKING:
    from pipeline.intake import Outcome

WEBHOOK_TIMEOUT_S = 10
log = logging.getLogger(__name__)


def verdict_line(project: Project, style: str) -> str:
    """The verdict of the style's last evaluation: "pass", "warn", "fail", "unknown" or "not evaluated"."""
    metrics = read_json(project.root / "reports" / style / "evaluate" / "metrics.json") or {}
    return str(metrics.get("verdict", "not evaluated"))


def numbers(project: Project, style: str) -> list[dict[str, Any]]:
    """Every plain number of the style's stages as rows {stage, metric, value}."""
    rows: list[dict[str, Any]] = []
    for path in sorted((project.root / "reports" / "metrics" / style).glob("*.json")):
        rows += [{"stage": path.stem, "metric": key, "value": value} for key, value in _flat(read_json(path) or {})]
    return rows


def _flat(values: dict[str, Any], prefix: str = "") -> list[tuple[str, float]]:
    flat: list[tuple[str, float]] = []
    for key, value in values.items():
        if isinstance(value, dict):
            flat += _flat(value, f"{prefix}{key}.")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            flat.append((f"{prefix}{key}", round(float(value), 4)))
    return flat


def publish_artifacts(project: Project, style: str, ok: bool, text: str) -> None:
    """Metric table, verdict and link to the report as Prefect artifacts. A lost server must not fail a finished run."""
    from prefect.artifacts import create_link_artifact, create_markdown_artifact, create_table_artifact

    key = style.replace("_", "-")
    try:
        create_markdown_artifact(
            f"## {style}: {'done' if ok else 'FAILED'}\n\n{text}\n", key=f"verdict-{key}", description=text[:200]
        )
        if rows := numbers(project, style):
            create_table_artifact(rows, key=f"metrics-{key}", description=f"Numbers of all stages of {style}")
        report = project.root / "reports" / style / "report.html"
        if report.is_file():
            create_link_artifact(
                report.as_uri(), link_text=f"Report of {style}", key=f"report-{key}", description=str(report)
            )
    except Exception as error:
        log.warning("artifacts of %s could not be published: %s", style, error)


def intake_artifact(outcome: "list[Outcome]") -> None:
    """A table of what became of each new folder; nothing when there was none."""
    if not outcome:
        return
    from prefect.artifacts import create_table_artifact

    rows = [{"folder": item.name, "registered": item.registered, "what": item.text} for item in outcome]
    try:
        create_table_artifact(rows, key="intake", description="New style folders and what became of them")
    except Exception as error:
        log.warning("the intake artifact could not be published: %s", error)


def notify(url: str, style: str, ok: bool, text: str, seconds: float, run: str) -> bool:
    """POSTs {text, style, ok, run} to the webhook; False if there is none or it did not take it (never an error)."""
    if not url:
        return False
    line = f"{style}: {'done' if ok else 'FAILED'} after {human_time(seconds)}: {text}"
    body = json.dumps({"text": line, "style": style, "ok": ok, "run": run}).encode()
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=WEBHOOK_TIMEOUT_S):
            return True
    except (urllib.error.URLError, OSError, ValueError) as error:
        log.warning("the webhook did not take the message about %s: %s", style, error)
        return False
