"""promptgraft: tune prompts for frozen language models, keep them in a bank, and reuse them on new tasks."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from promptgraft.api import (
        compare,
        distil,
        estimate,
        estimate_memory,
        explain,
        extend,
        generate,
        load,
        load_backbone,
        rank,
        record,
        search,
        suggest,
        transfer,
        try_template,
        tune,
    )
    from promptgraft.bank.bank import open_bank
    from promptgraft.errors import PromptgraftError
    from promptgraft.sklearn import PromptClassifier, PromptRegressor
    from promptgraft.task.load import load_task
    from promptgraft.task.task import Example, Task
    from promptgraft.template.known import find_template, templates
    from promptgraft.template.template import Template
    from promptgraft.train.recipe import Recipe

__version__ = "0.1.0"

__all__ = [
    "Example",
    "PromptClassifier",
    "PromptRegressor",
    "PromptgraftError",
    "Recipe",
    "Task",
    "Template",
    "__version__",
    "compare",
    "distil",
    "estimate",
    "estimate_memory",
    "explain",
    "extend",
    "find_template",
    "generate",
    "load",
    "load_backbone",
    "load_task",
    "open_bank",
    "rank",
    "record",
    "search",
    "suggest",
    "templates",
    "transfer",
    "try_template",
    "tune",
]

_HOMES = {
    "Example": "promptgraft.task.task",
    "PromptClassifier": "promptgraft.sklearn",
    "PromptRegressor": "promptgraft.sklearn",
    "PromptgraftError": "promptgraft.errors",
    "Recipe": "promptgraft.train.recipe",
    "Task": "promptgraft.task.task",
    "Template": "promptgraft.template.template",
    "compare": "promptgraft.api",
    "distil": "promptgraft.api",
    "estimate": "promptgraft.api",
    "estimate_memory": "promptgraft.api",
    "explain": "promptgraft.api",
    "extend": "promptgraft.api",
    "find_template": "promptgraft.template.known",
    "generate": "promptgraft.api",
    "load": "promptgraft.api",
    "load_backbone": "promptgraft.api",
    "load_task": "promptgraft.task.load",
    "open_bank": "promptgraft.bank.bank",
    "rank": "promptgraft.api",
    "record": "promptgraft.api",
    "search": "promptgraft.api",
    "suggest": "promptgraft.api",
    "templates": "promptgraft.template.known",
    "transfer": "promptgraft.api",
    "try_template": "promptgraft.api",
    "tune": "promptgraft.api",
}


def __getattr__(name: str) -> object:
    """A public name, imported when it is first asked for: `import promptgraft` itself loads nothing heavy."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
