"""Importing this module makes the registry of methods complete, those of other people's packages included."""

from importlib.metadata import entry_points

from promptgraft.method import (
    frozen_source,
    linear_probe,
    model_tuning,
    panda,
    pot,
    prompt_tuning,
    setfit,
    zero_shot,
)

__all__ = [
    "frozen_source",
    "linear_probe",
    "model_tuning",
    "panda",
    "pot",
    "prompt_tuning",
    "setfit",
    "zero_shot",
]

for entry in entry_points(group="promptgraft.methods"):
    entry.load()
