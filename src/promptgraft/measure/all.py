"""Importing this module makes the registry of measures complete, those of other people's packages included."""

from importlib.metadata import entry_points

from promptgraft.measure import label_text, probe, task_embedding

__all__ = ["label_text", "probe", "task_embedding"]

for entry in entry_points(group="promptgraft.measures"):
    entry.load()
