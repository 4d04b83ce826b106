"""The public names: those that are promised are there, and loading the package loads nothing heavy."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import promptgraft


@pytest.mark.parametrize("name", promptgraft.__all__)
def test_every_promised_name_is_there(name: str) -> None:
    assert getattr(promptgraft, name) is not None
    assert name in dir(promptgraft)


def test_type_checkers_see_the_same_names() -> None:
    """What is imported for type checkers only is what `__getattr__` finds, from the same modules."""
    tree = ast.parse(Path(promptgraft.__file__).read_text(encoding="utf-8"))
    [block] = [node for node in tree.body if isinstance(node, ast.If)]
    seen = {name.name: node.module for node in block.body if isinstance(node, ast.ImportFrom) for name in node.names}
    assert seen == promptgraft._HOMES
    assert sorted([*seen, "__version__"]) == sorted(promptgraft.__all__)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="tunes"):
        _ = promptgraft.tunes  # type: ignore[attr-defined]


def test_import_loads_the_package_and_nothing_else() -> None:
    """So it takes no time, on whichever machine."""
    code = (
        "import sys; before = set(sys.modules); import promptgraft;"
        "print(*(name for name in sys.modules if name not in before and name not in sys.stdlib_module_names))"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    loaded = {name for name in done.stdout.split() if name.partition(".")[0] not in sys.stdlib_module_names}
    assert loaded == {"promptgraft"}


def test_the_verbs_load_without_what_few_of_them_need() -> None:
    """Each of these would be a tenth of the start of every command, or more."""
    code = "import sys; import promptgraft.api; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert not {"scipy", "sklearn", "transformers", "pandas", "pyarrow", "peft"} & set(done.stdout.split())
