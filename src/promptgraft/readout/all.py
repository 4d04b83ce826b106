"""Importing this module makes the registry of readouts complete, those of other people's packages included."""

from importlib.metadata import entry_points

from promptgraft.readout import choice, label_text, linear, regression, span, tagging

__all__ = ["choice", "label_text", "linear", "regression", "span", "tagging"]

for entry in entry_points(group="promptgraft.readouts"):
    entry.load()
