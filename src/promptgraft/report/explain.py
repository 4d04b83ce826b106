"""Shows what was found out about an artefact's prompt: a table, its figures as JSON, and a page with plots."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

from promptgraft.engine.explain import Explained, ExplainedMember
from promptgraft.engine.left_out import VectorLeft
from promptgraft.engine.near_words import NearWord, NearWords
from promptgraft.prompt.atomic import write_text
from promptgraft.prompt.card import SearchCard, SplitScore
from promptgraft.report import words
from promptgraft.report.explain_plots import draw
from promptgraft.report.pages import render, versions

PAGE = "report.html"
FIGURES = "explain.json"
WEAK = (
    "Nearest words are weak evidence: prompts near words of any other text do about as well (Khashabi et al. 2022, "
    "Prompt Waywardness), and a random vector has a nearest word, too."
)
Z = 1.96
"""Standard errors of a 95 % interval."""
LISTED = 3
"""Nearest words in a line of the table."""
TEXT_COLUMNS = ("text", "label", "with the prompt", "without it", "change ")


def write(explained: Explained, folder: Path, command: str | None = None) -> dict[str, Path]:
    """Write the page and the figures, each whole or not at all; gives the path of each file by its name.

    Args:
        command: what was typed to get here, shown so that it can be typed again.
    """
    folder.mkdir(parents=True, exist_ok=True)
    paths = {name: folder / name for name in (PAGE, FIGURES)}
    write_text(paths[FIGURES], json.dumps(data(explained), ensure_ascii=False, indent=1) + "\n")
    write_text(paths[PAGE], page(explained, command))
    return paths


def page(explained: Explained, command: str | None = None) -> str:
    """The text of the page."""
    card = explained.card
    members = [(member, vector_table(member), layers(member)) for member in explained.members]
    return render(
        "explain.html",
        explained=explained,
        card=card,
        title=f"{card.task.name} on {card.backbone.name}",
        facts=facts(explained),
        members=members,
        plots=[draw(member, f"m{number}") for number, member in enumerate(explained.members)],
        columns=vector_columns,
        weak=WEAK,
        reference=reference,
        texts=text_table(explained),
        text_columns=TEXT_COLUMNS,
        versions=versions(),
        command=command,
        words=words,
        figures=FIGURES,
    )


def data(explained: Explained) -> dict[str, Any]:
    """All figures as plain values."""
    card = explained.card
    plain = dataclasses.asdict(dataclasses.replace(explained, card=None))  # type: ignore[arg-type]
    for member, own in zip(plain["members"], explained.members, strict=True):
        member["prompt"] = None if own.prompt is None else own.prompt.model_dump()
    del plain["card"]
    return {
        "task": card.task.name,
        "kind": card.task.kind,
        "metric": card.task.metric,
        "model": card.backbone.name,
        "method": card.method,
        "lineage": [origin.name for origin in card.lineage],
        "label_words": {label: list(names) for label, names in card.words.items()},
        "search": None if card.search is None else card.search.model_dump(),
        "scores": {split: score.model_dump() for split, score in card.scores.items()},
        **plain,
    }


def facts(explained: Explained) -> list[str]:
    """What was found, in sentences."""
    lines = []
    changes, card = explained.changes, explained.card
    if len(explained.members) > 1:
        lines.append(f"{words.count(len(explained.members), 'member')}, whose scores are added.")
    if not explained.has_prompt:
        lines += in_words(explained)
    if card.search is not None:
        lines.append(found(card.search, card.task.metric))
    if explained.has_prompt and card.lineage:
        lines.append(f"Its prompts come from {words.listed([origin.name for origin in card.lineage])}.")
    for number, member in enumerate(explained.members, 1):
        left = member.left_out
        if left is not None:
            whose = "the prompt" if len(explained.members) == 1 else f"the prompt of member {number}"
            lines.append(
                f"Without {whose} the loss of {words.count(left.rows, 'row')} goes from {left.loss:.3f} to "
                f"{left.loss + left.prompt.change:.3f} ({interval(left.prompt)})."
            )
    if changes is not None and card.task.kind != "regression":
        lines.append(f"Without any prompt {changes.changed} of {words.count(changes.rows, 'answer')} change.")
    if changes is not None and changes.scores is not None:
        known, bare = changes.scores
        lines.append(f"{card.task.metric}: {known:.1f} with the prompt, {bare:.1f} without, on these rows.")
    return lines


def in_words(explained: Explained) -> list[str]:
    """What an artefact without vectors reads by, and how well."""
    lines, card, many = [], explained.card, len(explained.members) > 1
    for number, member in enumerate(explained.members, 1):
        if member.template is not None:
            who = f"Member {number}" if many else "It"
            lines.append(f"{who} reads rows in {member.template!r}.")
    if card.words:
        by_label = (f"{label} = {', '.join(own)}" for label, own in card.words.items())
        lines.append(f"Labels are read by {'; '.join(by_label)}.")
    if card.scores and card.search is None:
        scores = (f"{with_ends(score)} on {score.rows:,} {split} rows" for split, score in card.scores.items())
        lines.append(f"{card.task.metric}: {', '.join(scores)}.")
    return lines


def found(search: SearchCard, metric: str) -> str:
    """What found an artefact's words, at what cost, and how good they were."""
    model = f" with {search.model}" if search.model else ""
    choosing, report = search.choosing, search.report
    return (
        f"Its words were found by {search.algorithm}{model} in {search.passes:,} passes: {metric} "
        f"{with_ends(choosing)} on {choosing.rows:,} rows that chose them, "
        f"{with_ends(report)} on {report.rows:,} that nothing had seen."
    )


def with_ends(score: SplitScore) -> str:
    """A score with its 95 % interval, where it has one."""
    ends = "" if score.low is None or score.high is None else f" ({score.low:.1f} to {score.high:.1f})"
    return f"{score.value:.1f}{ends}"


def interval(left: VectorLeft) -> str:
    """The 95 % interval of a change of the loss, in words."""
    if left.error is None:
        return "one row: no interval"
    return f"change {left.change - Z * left.error:+.3f} to {left.change + Z * left.error:+.3f}"


def vector_columns(member: ExplainedMember) -> list[str]:
    """The columns of a member's table; those whose names end in a space hold numbers."""
    if member.prompt is None:
        return []
    columns = ["vector "]
    if member.words is not None:
        columns += ["nearest words", "cosine ", "norm "]
    if member.attention is not None:
        columns.append("attention ")
    if member.left_out is not None:
        columns += ["loss without ", "95 %"]
        if member.left_out.prompt.answers is not None:
            columns.append("answers ")
    return columns


def vector_table(member: ExplainedMember) -> list[list[str]]:
    """A row for each vector of a member's prompt, under `vector_columns`."""
    if member.prompt is None:
        return []
    return [_row(member, vector) for vector in range(member.prompt.length)]


def _row(member: ExplainedMember, vector: int) -> list[str]:
    cells = [str(vector + 1)]
    if member.words is not None:
        near = member.words.nearest[vector]
        cells += [", ".join(word.word for word in near[:LISTED]), f"{near[0].cosine:.2f}"]
        cells.append(f"{relative_norm(member.words, vector):.2f}")
    if member.attention is not None:
        cells.append(f"{100 * member.attention.vectors[vector]:.1f} %")
    if member.left_out is not None:
        left = member.left_out.vectors[vector]
        cells += [f"{left.change:+.3f}", "" if left.error is None else f"±{Z * left.error:.3f}"]
        if left.answers is not None:
            cells.append(str(left.answers))
    return cells


def relative_norm(near: NearWords, vector: int) -> float:
    """A vector's norm where a usual word's is 1; of a deep prompt the mean over layers, keys and values."""
    ratios = [norms.vectors[vector] / norms.middle for norms in near.norms if norms.middle > 0]
    return sum(ratios) / len(ratios) if ratios else 0.0


def reference(member: ExplainedMember) -> str:
    """How to read a member's table."""
    parts = []
    near = member.words
    if near is not None:
        compared = f"{near.words:,} words" if near.words == near.of else f"{near.words:,} of {near.of:,} words, drawn"
        of_layers = ", mean over layers of keys and values" if near.by_layer else ""
        parts.append(
            f"cosine: to the nearest of {compared}{of_layers}; a random vector's nearest word has {near.random:.2f}. "
            "norm: that of a usual word is 1."
        )
    if member.attention is not None:
        texts = words.count(member.attention.rows, "text")
        parts.append(f"attention: share of what the tokens of {texts} give, mean over layers.")
    if member.left_out is not None:
        parts.append("loss without: how much the loss of labelled rows grows when this vector alone is left out")
        parts[-1] += "; answers: how many change." if member.left_out.prompt.answers is not None else "."
    return " ".join(parts)


def layers(member: ExplainedMember) -> list[list[str]]:
    """Of a deep prompt the nearest words by layer, by key and value: a row a layer."""
    near = member.words
    if near is None or not near.by_layer:
        return []
    count = len(near.by_layer[0])
    return [
        [str(layer + 1), *(_pair(*near.by_layer[vector][layer]) for vector in range(len(near.by_layer)))]
        for layer in range(count)
    ]


def _pair(key: NearWord, value: NearWord) -> str:
    return f"{key.word} ({key.cosine:.2f}) / {value.word} ({value.cosine:.2f})"


def text_table(explained: Explained) -> list[list[str]]:
    """The texts whose answers change most, under `TEXT_COLUMNS`."""
    if explained.changes is None:
        return []
    return [
        [row.text, row.label, _sure(row.answer, row.sure), _sure(row.bare, row.bare_sure), f"{row.change:.3f}"]
        for row in explained.changes.texts
    ]


def _sure(answer: str, share: float | None) -> str:
    return answer if share is None else f"{answer} ({100 * share:.0f} %)"
