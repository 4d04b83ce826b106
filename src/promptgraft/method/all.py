"""The registry of methods is looked up here, plugins included; no module that registers a method imports this one."""

from __future__ import annotations

from collections.abc import Mapping

from promptgraft.errors import RunError, unknown
from promptgraft.method import (
    distil,
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
    "check_needs",
    "distil",
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
    """All methods by name."""
    load("promptgraft.methods")
    return METHODS


def find(name: str) -> Method:
    """Look up a method by name; an unknown name raises an error with the nearest one."""
    if name not in methods():
        raise unknown("method", name, METHODS)
    return METHODS[name]


def check(job: Job, *, learns: bool = True) -> None:
    """Check that a job brings what its method needs, with options that the method knows.

    Args:
        learns: whether what its backbone gives has gradients.
    Raises:
        UsageError: an unknown option or value.
        RunError: something the method needs is missing.
    """
    method = find(job.method)
    method.options.read(job.method, job.options)
    check_needs(job.method, job.shots, has_source=job.source is not None)
    if "gradients" in method.needs and not learns:
        raise RunError(f"{job.method} needs gradients, and int8 has none", do="use --arithmetic auto, fp32 or bf16")
    if "labels" in method.needs and not job.task.train:
        do = "label some rows, or use transfer, whose graft reads descriptions of the labels"
        raise RunError(f"{job.method} needs labelled rows", where=job.task.name, do=do)


def check_needs(name: str, shots: int | None, *, has_source: bool) -> None:
    """Check what a method needs, as far as it is known before a task or a model is opened.

    Args:
        shots: labelled rows a class; None: all.
        has_source: whether it gets a source, or may choose one.
    Raises:
        RunError: something is missing.
    """
    needs = find(name).needs
    if "source" in needs and not has_source:
        raise RunError(f"{name} needs a source prompt", do="pass --source NAME or --source auto with a bank")
    if "labels" in needs and shots == 0:
        raise RunError(f"{name} needs labelled rows", do="use --shots 1 or more, or --readout label-text with pot")
