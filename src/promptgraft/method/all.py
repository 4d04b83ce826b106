"""Imports every method, so that the registry is complete."""

from promptgraft.method import (  # noqa: F401
    frozen_source,
    linear_probe,
    model_tuning,
    panda,
    pot,
    prompt_tuning,
    setfit,
    zero_shot,
)
