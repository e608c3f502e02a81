"""Public functions say what goes in, what comes out and what can go wrong.

Read from the source, nothing is imported. The rule, made to be useful rather than complete:

- every public function, class and method has a docstring. Not asked of ``forward``, ``state_dict`` and
  ``load_state_dict``, whose meaning is torch's: their class describes them;
- whoever takes or returns a Tensor or an array names a shape or a dtype, in its own docstring, its class's or its
  module's. Tables of tensors by name (``dict[str, Tensor]``) have no one shape and are not asked;
- whoever raises one of the project's errors in its own body says "Raises" or names the error. Not asked of a ``main``,
  of ``command`` (pair's trials, another main) and of ``pipeline/cli*.py``: there it ends as a line and an exit code.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parents[2]
FILES = sorted(path for part in ("stages", "pipeline") for path in (REPO / part).rglob("*.py"))
ERRORS = re.findall(r"^class (\w+)\(", (REPO / "stages/common/errors.py").read_text(), re.M)
ENTRIES = {"main", "command"}
OF_TORCH = {"forward", "state_dict", "load_state_dict"}
SHAPE = re.compile(
    r"\[[A-Z\d.][^\]]*\]|\[\w+(, [^\]]+)?\]|N[13]?C?HW|\b(u?int\d+|float\d+|bool|scalars?|dtype)\b|[Bb]oolean|[Ss]calar"
)
TABLE = re.compile(r"\b(dict|Mapping)\[str, (?:dict\[str, )?(Tensor|torch\.Tensor|np\.ndarray|NDArray\[[\w.]+\])\]+")

Function = tuple[str, ast.FunctionDef | ast.ClassDef, str]


def public(tree: ast.Module) -> Iterator[Function]:
    """(name, node, docstrings that speak for it) of what a module shows to others."""
    about = ast.get_docstring(tree) or ""
    for node in tree.body:
        if not isinstance(node, ast.FunctionDef | ast.ClassDef) or node.name.startswith("_"):
            continue
        text = ast.get_docstring(node) or ""
        yield node.name, node, f"{text}\n{about}"
        for method in node.body if isinstance(node, ast.ClassDef) else []:
            if isinstance(method, ast.FunctionDef) and not method.name.startswith("_"):
                own = ast.get_docstring(method) or ""
                yield f"{node.name}.{method.name}", method, f"{own}\n{text}\n{about}"


def without_docstring(tree: ast.Module) -> list[str]:
    return [name for name, node, _ in public(tree) if node.name not in OF_TORCH and not ast.get_docstring(node)]


def without_shape(tree: ast.Module) -> list[str]:
    found = []
    for name, node, text in public(tree):
        if isinstance(node, ast.FunctionDef) and node.name not in OF_TORCH:
            arguments = [*node.args.args, *node.args.kwonlyargs]
            types = " ".join(ast.unparse(t) for t in [*(a.annotation for a in arguments), node.returns] if t)
            if re.search(r"\b(Tensor|ndarray|NDArray)\b", TABLE.sub("", types)) and not SHAPE.search(text):
                found.append(name)
    return found


def raised(function: ast.FunctionDef) -> set[str]:
    """The project's errors that the body raises by name, functions inside it included."""
    calls = [node.exc for node in ast.walk(function) if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call)]
    return {call.func.id for call in calls if isinstance(call.func, ast.Name) and call.func.id in ERRORS}


def without_errors(tree: ast.Module) -> list[str]:
    found = []
    for name, node, text in public(tree):
        if isinstance(node, ast.FunctionDef) and node.name not in ENTRIES:
            errors = raised(node)
            if errors and not any(word in text for word in ("Raises", "raises", *errors)):
                found.append(name)
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(REPO)))
def test_public_docstrings(path: Path) -> None:
    name = str(path.relative_to(REPO))
    tree = ast.parse(path.read_text())
    assert not without_docstring(tree), f"{name}: no docstring"
    assert not without_shape(tree), f"{name}: neither shape nor dtype"
    if not name.startswith("pipeline/cli"):
        assert not without_errors(tree), f"{name}: raises what its docstring does not say"


def test_the_rule_can_fail() -> None:
    tree = ast.parse(
        "def bare(x): ...\n"
        "def shapeless(x: Tensor) -> Tensor:\n    'Doubles it.'\n"
        "def silent():\n    'Reads it.'\n    raise InputError('no')\n"
        "def good(x: Tensor) -> Tensor:\n    'Doubles [N, C]; Raises InputError.'\n    raise InputError('no')\n"
    )
    assert (without_docstring(tree), without_shape(tree), without_errors(tree)) == (["bare"], ["shapeless"], ["silent"])
