"""All methods by name, those of other people's packages included; nothing that registers a method imports this."""

from __future__ import annotations

from collections.abc import Mapping

from promptgraft.errors import RunError, unknown
from promptgraft.method import (
    frozen_source,
    graft,
    linear_probe,
    model_tuning,
    panda,
    pot,
    prompt_tuning,
    setfit,
    zero_shot,
)
from promptgraft.method.job import Job
from promptgraft.method.method import METHODS, Method
from promptgraft.plugins import load

__all__ = [
    "check",
    "find",
    "frozen_source",
    "graft",
    "linear_probe",
    "methods",
    "model_tuning",
    "panda",
    "pot",
    "prompt_tuning",
    "setfit",
    "zero_shot",
]


def methods() -> Mapping[str, Method]:
    """All of them by name."""
    load("promptgraft.methods")
    return METHODS


def find(name: str) -> Method:
    """The method of that name, or an error with the nearest name."""
    if name not in methods():
        raise unknown("method", name, METHODS)
    return METHODS[name]


def check(job: Job) -> None:
    """Whether the job brings what its method needs, with options the method knows.

    Raises:
        UsageError: an unknown option or value.
        RunError: something the method needs is missing.
    """
    method = find(job.method)
    method.options.read(job.method, job.options)
    if "source" in method.needs and job.source is None:
        raise RunError(f"{job.method} needs a source prompt", do="pass --source NAME or --source auto with a bank")
    if "gradients" in method.needs and job.recipe.arithmetic == "int8":
        raise RunError(f"{job.method} needs gradients, and int8 has none", do="use --arithmetic auto, fp32 or bf16")
    if "labels" in method.needs and job.shots == 0:
        raise RunError(
            f"{job.method} needs labelled rows", do="use --shots 1 or more, or --readout label-text with pot"
        )
