"""Writes an artefact's README.md: its card for people, with the front matter that model hubs read."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping

from promptgraft.prompt.card import Card
from promptgraft.task.kinds import KINDS
from promptgraft.untrusted import visible

# Licence names the hub knows; any other becomes `other` with its name beside it.
HUB_LICENCES = frozenset(
    {"apache-2.0", "mit", "bsd-3-clause", "cc0-1.0", "cc-by-3.0", "cc-by-4.0", "cc-by-sa-3.0", "cc-by-sa-4.0"}
    | {"cc-by-nc-4.0", "cc-by-nc-sa-4.0", "gpl-3.0", "odc-by", "odbl", "unlicense"}
)

MARKUP = re.compile(r"[\\`*\[\]<|]|(?<![^\W_])_|_(?![^\W_])")
SHOWN_WORDS = 5
"""Signs that may begin something in Markdown; an underscore within a word begins nothing."""


def readme(card: Card) -> str:
    """The text of README.md: front matter and page."""
    return f"---\n{_yaml(front_matter(card))}---\n\n{_page(card)}"


def front_matter(card: Card) -> dict[str, object]:
    """The fields that hubs index: library, base model, licence of the data, tags, results."""
    licence = (card.task.licence or "unknown").strip()
    is_listed = licence.lower() in HUB_LICENCES
    matter: dict[str, object] = {
        "library_name": "promptgraft",
        "base_model": card.backbone.hub or card.backbone.name,
        "license": licence.lower() if is_listed else "other",
    }
    if not is_listed:
        matter["license_name"] = licence
    if card.task.language:
        matter["language"] = [card.task.language]
    matter["tags"] = ["promptgraft", "prompt-tuning", f"task:{card.task.kind}", f"method:{card.method}"]
    matter["model-index"] = [{"name": card.task.name, "results": _results(card)}]
    return matter


def _results(card: Card) -> list[dict[str, object]]:
    return [
        {
            "task": {"type": KINDS[card.task.kind].hub_task},
            "dataset": {"name": card.task.name, "type": card.task.source or card.task.name, "split": split},
            "metrics": [{"type": card.task.metric, "value": round(score.value, 4)}],
        }
        for split, score in card.scores.items()
    ]


def _page(card: Card) -> str:
    title = f"# {_text(card.task.name)} on {_text(card.backbone.name)}"
    facts = {
        "Task": ", ".join(filter(None, [card.task.name, card.task.kind, card.task.family, card.task.language])),
        "Backbone": f"{card.backbone.name} (weights {card.backbone.fingerprint[:12]}), frozen",
        "Prompt": _prompt_line(card),
        "Read by": f"{card.readout} on {card.pooling}; pairs encoded {card.encoding}",
        "Tuned by": f"{card.method}, seed {card.seed}, "
        + (f"{card.shots} rows a class" if card.shots is not None else "all training rows"),
        "Trained parameters": f"{card.trainable:,}",
        "Data": f"{card.task.source or 'source not stated'}; licence: {card.task.licence or 'not stated'}",
        "Made": f"{card.created:%Y-%m-%d} in {card.seconds:.0f} s",
    }
    rows = [f"| {name} | {_text(value)} |" for name, value in facts.items()]
    parts = [title, "\n".join(["| | |", "| --- | --- |", *rows]), *_sections(card)]
    return "\n\n".join(parts) + "\n"


def _prompt_line(card: Card) -> str:
    if card.prompt is None:
        return "none"
    layers = f" in each of {card.prompt.layers} layers" if card.prompt.layers else ""
    return f"{card.prompt.depth}, {card.prompt.length} vectors{layers}, at {card.prompt.placement}"


def _sections(card: Card) -> list[str]:
    sections = []
    if card.scores:
        rows = [
            f"| {_text(split)} | {_text(card.task.metric)} | {score.value:.4f} | {_interval(score.low, score.high)} "
            f"| {score.rows} |"
            for split, score in card.scores.items()
        ]
        head = ["## Scores", "", "| split | metric | value | 95 % interval | rows |", "| --- | --- | --- | --- | --- |"]
        sections.append("\n".join([*head, *rows]))
    if card.task.labels:
        rows = [
            f"- **{_text(label)}**: {_text(text)}{_read_as(card, label)}" for label, text in card.task.labels.items()
        ]
        sections.append("\n".join(["## Labels", "", *rows]))
    rows = [f"- {origin.role}: {_text(origin.name)} ({_text(origin.hash[:12])})" for origin in card.lineage]
    if card.search is not None:
        found = card.search
        by = f"{_text(found.algorithm)} with {_text(found.model)}, {found.passes:,} passes"
        rows.append(f"- words found by {by}: {found.report.value:.1f} on rows that nothing had seen")
    if rows:
        sections.append("\n".join(["## Came from", "", *rows]))
    return sections


def _read_as(card: Card, label: str) -> str:
    """The words that a label is read by, the first few; nothing where it is not read by words."""
    words = card.words.get(label, ())
    more = ", ..." if len(words) > SHOWN_WORDS else ""
    return f" (read as {', '.join(map(_text, words[:SHOWN_WORDS]))}{more})" if words else ""


def _interval(low: float | None, high: float | None) -> str:
    return "" if low is None or high is None else f"{low:.4f} to {high:.4f}"


def _text(text: str) -> str:
    """Untrusted text on one line, with nothing hidden and nothing that is read as Markdown or HTML."""
    return MARKUP.sub(r"\\\g<0>", visible(" ".join(text.split())))


def _yaml(matter: Mapping[str, object]) -> str:
    """The front matter as YAML, one line for each key."""
    return "".join(f"{key}: {_json(value)}\n" for key, value in matter.items())


def _json(value: object) -> str:
    """A value as JSON, which YAML reads the same way once all unprintable characters are escaped.

    U+0085, U+2028 and U+2029 end a line in YAML only, and its escapes know no surrogate pairs.
    """
    text = json.dumps(value, ensure_ascii=False)
    return "".join(letter if letter.isprintable() else _escape(ord(letter)) for letter in text)


def _escape(point: int) -> str:
    return f"\\u{point:04x}" if point <= 0xFFFF else f"\\U{point:08x}"
