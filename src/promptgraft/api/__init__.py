"""The commands of the command line as Python functions: tune, rank, transfer, compare, extend and the others."""

from __future__ import annotations

from promptgraft.api.artefacts import artefact_folder, export_to_peft, import_from_peft, load
from promptgraft.api.comparing import Compared, compare, rank
from promptgraft.api.distilling import Distilled, distil, texts_of
from promptgraft.api.estimating import estimate, estimate_memory
from promptgraft.api.explaining import Explanation, explain
from promptgraft.api.extending import Extension, extend
from promptgraft.api.generating import TextWriter, generate, text_writer
from promptgraft.api.opening import as_bank, free_text, load_backbone, open_model, open_task
from promptgraft.api.recording import record
from promptgraft.api.searching import SearchCost, estimate_search, search
from promptgraft.api.suggesting import Suggestion, suggest
from promptgraft.api.trying import Tried, try_template
from promptgraft.api.tuning import Outcome, transfer, tune

__all__ = [
    "Compared",
    "Distilled",
    "Explanation",
    "Extension",
    "Outcome",
    "SearchCost",
    "Suggestion",
    "TextWriter",
    "Tried",
    "artefact_folder",
    "as_bank",
    "compare",
    "distil",
    "estimate",
    "estimate_memory",
    "estimate_search",
    "explain",
    "export_to_peft",
    "extend",
    "free_text",
    "generate",
    "import_from_peft",
    "load",
    "load_backbone",
    "open_model",
    "open_task",
    "rank",
    "record",
    "search",
    "suggest",
    "text_writer",
    "texts_of",
    "transfer",
    "try_template",
    "tune",
]
