"""One word a thing: no two types of the package share a name, and what is named inside a function is a noun."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2] / "src" / "promptgraft"
DONE = (
    "task",
    "kernels",
    "prompt",
    "bank",
    "template",
    "model",
    "readout",
    "measure",
    "train",
    "method",
    "engine",
    "searches",
    "study",
    "report",
    "api",
    "cli",
    "errors",
    "untrusted",
    "sheet",
    "sklearn",
    "plugins",
)
"""Rooms, and modules beside them, whose locals are held to be nouns."""
NO_NOUNS = {"one", "some", "made", "said", "told", "whole"}
"""Words that a local never is: they do not say what it holds."""


def types(tree: ast.Module) -> Iterator[str]:
    """Public classes and aliases of types that a module defines."""
    for node in tree.body:
        names = [node.name] if isinstance(node, ast.ClassDef) else []
        if isinstance(node, ast.Assign):
            names = [target.id for target in node.targets if isinstance(target, ast.Name)]
        yield from (name for name in names if name[0].isupper() and not name.isupper() and "_" not in name)


def test_a_type_has_a_name_of_its_own() -> None:
    places = defaultdict(list)
    for path in sorted(ROOT.rglob("*.py")):
        for name in types(ast.parse(path.read_text(encoding="utf-8"))):
            places[name].append(str(path.relative_to(ROOT)))
    assert len(places) > 100
    assert {name: files for name, files in places.items() if len(files) > 1} == {}


def local_names(tree: ast.Module) -> Iterator[tuple[str, int]]:
    """Names of variables, targets of comprehensions and arguments of private functions, each with its line."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id, node.lineno
        if isinstance(node, ast.Lambda) or (isinstance(node, ast.FunctionDef) and node.name.startswith("_")):
            for argument in ast.walk(node.args):
                if isinstance(argument, ast.arg):
                    yield argument.arg, argument.lineno


def test_locals_are_nouns() -> None:
    files = [file for name in DONE for file in sorted(ROOT.glob(f"{name}.py")) or sorted((ROOT / name).rglob("*.py"))]
    assert {file.relative_to(ROOT).parts[0].removesuffix(".py") for file in files} == set(DONE)
    places = [
        f"{file.relative_to(ROOT)}:{line} {name}"
        for file in files
        for name, line in local_names(ast.parse(file.read_text(encoding="utf-8")))
        if name in NO_NOUNS
    ]
    assert places == []
