"""``stylefactory doctor``: is this machine ready, and what would make results better. Starts nothing, sends nothing."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from typing import Any, Literal

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from pipeline import processes
from pipeline.files import human_size
from pipeline.project import Project
from stages.common.errors import FactoryError

Mark = Literal["ok", "note", "bad"]
DEMO_BYTES = 6e9


@dataclass(frozen=True)
class Finding:
    """One line of the doctor: ``bad`` stops work, ``note`` is worth knowing."""

    mark: Mark
    topic: str
    text: str


def examine(project: Project) -> list[Finding]:
    """All findings, in the order a person should read them."""
    return [
        *_python(),
        *_versions(project),
        *_settings(project),
        *_machine(project),
        *_weights(project),
        *_telemetry(project),
    ]


def _python() -> Iterator[Finding]:
    version = ".".join(map(str, sys.version_info[:3]))
    fine = sys.version_info[:2] == (3, 11)
    yield Finding("ok" if fine else "bad", "python", f"{version} ({sys.executable})" + ("" if fine else "; needs 3.11"))
    if sys.prefix == sys.base_prefix:
        yield Finding("note", "python", "not in a virtual environment; 'make setup' makes .venv")


def _versions(project: Project) -> Iterator[Finding]:
    """Installed versions against constraints.txt, for what the project needs directly."""
    path = project.root / "constraints.txt"
    if not path.is_file():
        yield Finding("note", "versions", "no constraints.txt here, so versions are not compared")
        return
    pinned: dict[str, str] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        match = re.match(r"^([A-Za-z0-9._-]+)==(\S+)$", line.strip())
        if match:
            pinned[canonicalize_name(match.group(1))] = match.group(2)
    different, missing = [], []
    for name in _direct_requirements():
        try:
            installed = metadata.version(name).split("+")[0]  # 2.13.0+cpu is 2.13.0
        except metadata.PackageNotFoundError:
            missing.append(name)
            continue
        if name in pinned and installed != pinned[name]:
            different.append(f"{name} {installed} (tested: {pinned[name]})")
    if missing:
        yield Finding("bad", "versions", f"missing: {', '.join(missing)}; 'make setup' installs them")
    if different:
        yield Finding("note", "versions", "not the tested ones: " + ", ".join(different))
    if not missing and not different:
        yield Finding("ok", "versions", "all direct requirements as tested (constraints.txt)")


def _direct_requirements() -> list[str]:
    try:
        lines = metadata.requires("face-style-factory") or []
    except metadata.PackageNotFoundError:
        return []
    needed = [Requirement(line) for line in lines]
    return [canonicalize_name(req.name) for req in needed if req.marker is None or req.marker.evaluate({"extra": ""})]


def _settings(project: Project) -> Iterator[Finding]:
    from pipeline.settings import load_settings

    try:
        settings = load_settings(project.params)
    except FactoryError as error:
        yield Finding("bad", "settings", str(error))
        return
    yield Finding("ok", "settings", f"params.yaml is valid; styles: {', '.join(settings.styles) or 'none'}")
    missing = [item.pictures for item in settings.styles.values() if not (project.root / item.pictures).exists()]
    missing = [path for path in missing if not path.startswith("data/demo")]  # made by a stage
    if missing:
        yield Finding(
            "bad", "settings", f"pictures missing: {', '.join(missing)}; 'dvc pull' or 'dvc checkout' brings them"
        )


PROBE = """
import json, torch
from stages.common.device import cpu_has_bf16, usable_cores
gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())] if torch.cuda.is_available() else []
print(json.dumps({"torch": torch.__version__, "gpus": gpus, "bf16": cpu_has_bf16(), "cores": usable_cores()}))
"""


def _machine(project: Project) -> Iterator[Finding]:
    found = _ask(project, "-c", PROBE)
    if isinstance(found, str):
        yield Finding("bad", "torch", f"cannot be used: {found}")
    else:
        gpus = ", ".join(found["gpus"]) or "no GPU"
        bf16 = "multiplies bf16 in hardware" if found["bf16"] else "no bf16 in hardware: fp32, about half the speed"
        yield Finding("ok", "torch", f"{found['torch']}, {gpus}")
        yield Finding("ok", "processor", f"{found['cores']} usable cores, {bf16}")
    free = shutil.disk_usage(project.root).free
    enough = free > DEMO_BYTES
    yield Finding(
        "ok" if enough else "note", "disk", f"{human_size(free)} free" + ("" if enough else "; the demo needs 6 GB")
    )
    if not os.access(project.root, os.W_OK):
        yield Finding("bad", "disk", f"{project.root} is not writable")
    elif shutil.which("git") is None:
        yield Finding("bad", "git", "not found; DVC and releases need it")


def _weights(project: Project) -> Iterator[Finding]:
    found = weights(project)
    if isinstance(found, str):
        yield Finding("bad", "weights", found)
        return
    for entry in found:
        if entry["path"]:
            yield Finding("ok", "weights", f"{entry['name']}: {entry['path']}")
        else:
            yield Finding(
                "note",
                "weights",
                f"{entry['name']}: not found; would improve {entry['improves']}; used instead: {entry['fallback']}",
            )


def weights(project: Project) -> list[dict[str, str]] | str:
    """Every optional weight file: name, path ("" if missing), improves, fallback; a string says what went wrong."""
    return _ask(project, "-m", "stages.common.weights", "--json")


def _telemetry(project: Project) -> Iterator[Finding]:
    config = (
        (project.root / ".dvc" / "config").read_text(encoding="utf-8")
        if (project.root / ".dvc" / "config").is_file()
        else ""
    )
    quiet = "analytics = false" in config and "check_update = false" in config
    yield Finding(
        "ok" if quiet else "note",
        "telemetry",
        "off (DVC by .dvc/config, Prefect by our settings)" if quiet else "DVC's is not switched off in .dvc/config",
    )


def _ask(project: Project, *args: str) -> Any:
    """JSON from a Python process of its own (torch stays out of ours); its last error line on failure."""
    result = subprocess.run(
        [sys.executable, *args],
        cwd=project.root,
        env=processes.environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    try:
        return json.loads(result.stdout.splitlines()[-1]) if result.returncode == 0 else _last_line(result.stderr)
    except (IndexError, ValueError):
        return _last_line(result.stderr or result.stdout)


def _last_line(text: str) -> str:
    return (text.strip().splitlines() or ["no output"])[-1]


def as_text(findings: list[Finding]) -> str:
    """One line per finding."""
    signs = {"ok": "ok  ", "note": "note", "bad": "BAD "}
    return "\n".join(f"{signs[item.mark]}  {item.topic:<10} {item.text}" for item in findings)
