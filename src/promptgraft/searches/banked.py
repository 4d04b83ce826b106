"""A bank's prompts span a space in which vectors are searched, and one of them may be where a search begins."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from promptgraft.engine.rank import is_of
from promptgraft.errors import RunError, UsageError, listed, unknown
from promptgraft.method.job import Source
from promptgraft.model.backbone import Backbone
from promptgraft.prompt.card import Origin
from promptgraft.task.draws import Array
from promptgraft.task.task import Task

LEAST = 3
"""Prompts that span two dimensions: CMA-ES takes no fewer."""
FLAT = 1e-6
"""The share of the longest axis under which an axis is nothing but rounding."""


@dataclass(frozen=True)
class BankedSpan:
    """Where banked prompts let a search begin, and in which directions it goes from there.

    Attributes:
        centre: the prompt that it begins with, or the mean of all.
        directions: the principal axes of the prompts' differences from their mean, each as long as the prompts deviate
            along it; None where there are too few, so that random ones are taken.
        starts: whether the centre is a banked prompt.
        begins: whether vectors stand before a template's words, as they did when they were tuned; else before its
            answer.
        origins: the prompts, for the lineage of what is found.
    """

    centre: Float[Array, "P E"]
    directions: Float[Array, "D N"] | None
    starts: bool
    begins: bool
    origins: tuple[Origin, ...]


def banked_span(
    sources: Sequence[Source], backbone: Backbone, task: Task, start: str = ""
) -> tuple[BankedSpan, tuple[str, ...]]:
    """The span of those of a bank's prompts that are alike in form; and notes on what is left out.

    Args:
        sources: prompts of the backbone.
        start: the name of the one to begin with; empty: the search begins at their mean.
    Raises:
        UsageError: there is no prompt of that name, or it cannot be begun with.
        RunError: too few prompts are alike.
    """
    if start and start not in [source.name for source in sources]:
        raise unknown("prompt of the bank for this model", start, [source.name for source in sources])
    usable = [source for source in sources if _stands(source, backbone) and not is_of(task, source.artefact.card)]
    if start and start not in [source.name for source in usable]:
        chosen = next(source for source in sources if source.name == start)
        why = "it was tuned on this task" if is_of(task, chosen.artefact.card) else _why_not(chosen)
        raise UsageError(f"a search cannot begin with {start!r}: {why}", do="name another prompt of the bank")
    form = next((_form(source) for source in usable if source.name == start), None) or _usual_form(usable)
    members = [source for source in usable if _form(source) == form]
    first = next((source for source in members if source.name == start), None)
    if form is None or (first is None and len(members) < LEAST):
        what = f"the span takes {LEAST} prompts alike, and the bank has {len(members)} for {backbone.name}"
        do = "tune more (--depth shallow, all of one --length), or name one to begin with (--start)"
        raise RunError(what, where=task.name, do=do)
    values = np.stack([_values(source) for source in members])
    directions = principal_axes(values.reshape(len(values), -1))
    centre = values.mean(0) if first is None else _values(first)
    used = members if first is None or directions is not None else [first]
    span = BankedSpan(centre, directions, first is not None, form[1], tuple(map(_origin, used)))
    return span, _notes(span, members, sources, start)


def principal_axes(values: Float[Array, "K N"]) -> Float[Array, "D N"] | None:
    """Orthogonal directions that span the differences of points from their mean, each as long as they deviate along it.

    A point drawn as the mean plus standard normal numbers times them has the mean and the covariance of the points.
    None where there are fewer than two.
    """
    if len(values) < LEAST:
        return None
    _, lengths, axes = np.linalg.svd(values - values.mean(0), full_matrices=False)
    rank = int((lengths > FLAT * lengths[0]).sum())
    if rank < LEAST - 1:
        return None
    signs = np.sign(np.take_along_axis(axes, np.abs(axes).argmax(1)[:, None], 1))
    return np.asarray((signs * axes * lengths[:, None])[:rank] / np.sqrt(len(values) - 1))


def _stands(source: Source, backbone: Backbone) -> bool:
    """Whether a prompt's vectors can stand among a template's words."""
    prompt = source.artefact.prompt
    return (
        prompt is not None
        and prompt.depth == "shallow"
        and prompt.placement != "peft"
        and prompt.values.shape[1] == backbone.embedding_width
    )


def _why_not(source: Source) -> str:
    """Why a prompt's vectors cannot stand among a template's words."""
    prompt = source.artefact.prompt
    if prompt is not None and prompt.depth == "shallow" and prompt.placement == "peft":
        return "its vectors stand before the first token, where no template has a place"
    return "it has vectors in every layer, and not among the words"


def _form(source: Source) -> tuple[int, bool]:
    """How many vectors a prompt has, and whether they stand before all words."""
    prompt = source.artefact.prompt
    assert prompt is not None, "it was checked to have one"
    return prompt.length, prompt.placement != "template"


def _usual_form(sources: Sequence[Source]) -> tuple[int, bool] | None:
    """The form that most prompts have; of equals the one that comes first."""
    return next((form for form, _ in Counter(map(_form, sources)).most_common(1)), None)


def _values(source: Source) -> Float[Array, "P E"]:
    prompt = source.artefact.prompt
    assert prompt is not None, "it was checked to have one"
    return prompt.values.detach().cpu().double().numpy()


def _origin(source: Source) -> Origin:
    card = source.artefact.card
    return Origin(role="source", name=source.name, hash=source.artefact.hash, licence=card.task.licence)


def _notes(span: BankedSpan, members: Sequence[Source], sources: Sequence[Source], start: str) -> tuple[str, ...]:
    """What vectors are searched in, and what is left out of it."""
    where = (
        "in random directions, since too few prompts are alike"
        if span.directions is None
        else f"in the span of {len(members)} prompts of the bank, which has {len(span.directions)} dimensions"
    )
    begin = f"beginning with {start!r}" if start else "beginning at their mean"
    notes = [f"vectors are searched {where}, {begin}"]
    rest = [source.name for source in sources if source not in members]
    if rest:
        what = "prompts of this task, of another length, in every layer, or before the first token"
        notes.append(f"{what} are left out: {listed(rest)}")
    return tuple(notes)
