"""The docs name settings, commands and messages: each of them has to exist."""

import ast
import re
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import typer.main
from pydantic import BaseModel

from pipeline.cli import app
from pipeline.settings import Settings

REPO = Path(__file__).resolve().parents[2]
PAGES = [REPO / "README.md", REPO / "CONTRIBUTING.md", *sorted((REPO / "docs").glob("*.md"))]
SECTIONS = [name for name, info in Settings.model_fields.items() if name != "styles" and not info.exclude]
FILES = ("mnn", "fp16", "int8", "onnx", "json", "golden", "safetensors", "csv", "png", "py")  # mobile.json, pair.png


def code(text: str) -> list[str]:
    """What stands in backticks, fenced or in the line."""
    fenced = re.findall(r"^```\w*\n(.*?)^```", text, re.M | re.S)
    return fenced + re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```", "", text, flags=re.M | re.S))


def exists(section: str, key: str) -> bool:
    model = Settings.model_fields[section].annotation
    for step in key.split("."):
        if not (isinstance(model, type) and issubclass(model, BaseModel)):
            return True  # below a map with keys of its own, such as generate.directions.smile
        if step not in model.model_fields:
            return False
        model = model.model_fields[step].annotation
    return True


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_settings_exist(page: Path) -> None:
    pattern = re.compile(rf"(?<![\w./*{{-])(?:styles\.\w+\.)?({'|'.join(SECTIONS)})\.([a-z]\w*(?:\.[a-z]\w*)*)")
    named = [(section, key) for text in code(page.read_text()) for section, key in pattern.findall(text)]
    named = [(s, k) for s, k in named if k.split(".")[0] not in FILES and not k.endswith("_")]  # limit_<row>
    wrong = [f"{section}.{key}" for section, key in named if not exists(section, key)]
    assert not wrong, f"{page.name} names settings that do not exist: {wrong}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_exist(page: Path) -> None:
    commands: dict[str, Any] = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    wrong = []
    for text in code(page.read_text()):
        for verb, below in re.findall(r"\bstylefactory +([a-z][a-z-]*)(?: +([a-z]+))?", text):
            if verb not in commands or (below and below not in getattr(commands[verb], "commands", {below})):
                wrong.append(f"{verb} {below}".strip())
    assert not wrong, f"{page.name} names commands that do not exist: {wrong}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_and_modules_exist(page: Path) -> None:
    text = page.read_text()
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", text) if "://" not in link]
    modules = {m for m in re.findall(r"python -m ((?:stages|pipeline|tests)[\w.]+)", text) if "denoise" not in m}
    missing = [link for link in links if not (page.parent / link).exists()]
    missing += [name for name in modules if not (REPO / f"{name.replace('.', '/')}.py").is_file()]
    assert not missing, f"{page.name}: {missing}"


@cache
def texts() -> str:
    """All text constants of the program, f-strings with … for what is filled in."""
    found = []
    for path in [*(REPO / "stages").rglob("*.py"), *(REPO / "pipeline").rglob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.JoinedStr):
                found.append("".join(str(v.value) if isinstance(v, ast.Constant) else "…" for v in node.values))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append(node.value)
    return "\n".join(found)


def messages() -> list[str]:
    """Quoted messages of the first column of troubleshooting.md: those of several words."""
    rows = re.findall(r"^\| ([^|]+) \|", (REPO / "docs/troubleshooting.md").read_text(), re.M)
    return [text for row in rows for text in re.findall(r"`([^`]+)`", row) if " " in text]


@pytest.mark.parametrize("message", messages())
def test_quoted_messages_are_real(message: str) -> None:
    assert message in texts() or re.search(re.escape(message).replace("…", "[^\n]+"), texts()), message
