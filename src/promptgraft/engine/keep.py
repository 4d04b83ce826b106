"""A finished job becomes the artefact that is kept of it."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from promptgraft.engine.familiar import sample
from promptgraft.engine.result import Finished, Result
from promptgraft.engine.store import of_held_out
from promptgraft.engine.view import JobView
from promptgraft.errors import RunError
from promptgraft.method.job import Job, Source
from promptgraft.prompt.artefact import Artefact, Member
from promptgraft.prompt.card import BackboneCard, Card, Origin, PromptCard, SplitScore, TaskCard, card_of
from promptgraft.prompt.memory import LabelMemory, Memory
from promptgraft.prompt.reading import ANSWERED, Pooling
from promptgraft.readout.classes import class_indices, indicators
from promptgraft.readout.direction import Directional
from promptgraft.readout.evidence import JUDGED, balanced
from promptgraft.readout.extend import A_CLASS, REMEMBERED, LabelledRows, remembered
from promptgraft.readout.extend_labels import SeveralRows, remembered_labels
from promptgraft.readout.features import features
from promptgraft.readout.multilabel import MultilabelDirection
from promptgraft.readout.probe import rarest_label
from promptgraft.task.draws import Array
from promptgraft.train.run import Tuned

EMBEDDED: tuple[Pooling, ...] = ("cls", "mean")
"""The poolings of task embeddings."""


def make_artefact(finished: Finished, view: JobView) -> Artefact:
    """Make the artefact of a finished job: prompt, readout, task embeddings and card.

    Raises:
        RunError: the result was kept without its model.
    """
    job, tuned = finished.job, finished.tuned
    if tuned is None:
        raise RunError("the model of this result was not kept", where=job.label, do="run it again in another folder")
    embeddings, memory = _embeddings(view, tuned), _memory(view, tuned, job.seed)
    labelled = of_held_out(tuned.held_out) | ({} if memory is not None else _features(tuned, view))
    return Artefact(
        tuned.prompt,
        tuned.readout.state(),
        _card(job, finished.result, tuned, view),
        embeddings,
        tuned.weights,
        tuple(_member(model, tuned) for model in tuned.others),
        memory,
        labelled=labelled,
        pool=tuned.reading.pool,
    )


def _card(job: Job, result: Result, tuned: Tuned, view: JobView) -> Card:
    """What is told of a tuned model: its task and backbone, how it was made, and what it is worth."""
    return Card(
        task=TaskCard.of(job.task),
        backbone=BackboneCard.of(view.backbone),
        prompt=None if tuned.prompt is None else PromptCard.of(tuned.prompt),
        **card_of(tuned.reading),
        readout=type(tuned.readout).name,
        words=dict(view.words_read),
        method=job.method,
        options=dict(job.options),
        recipe=job.recipe.plain(),
        seed=job.seed,
        shots=job.shots,
        lineage=tuple(_origin(source) for source in sources_of(job, tuned)),
        scores={
            split: SplitScore(
                value=metrics["score"],
                low=result.intervals[split][0],
                high=result.intervals[split][1],
                rows=result.rows[split],
            )
            for split, metrics in result.scores.items()
        },
        trainable=result.parameters,
        seconds=result.seconds,
    )


def _embeddings(view: JobView, tuned: Tuned) -> dict[str, Tensor]:
    """The embeddings of the task under its prompt, by their pooling."""
    if tuned.prompt is None or not view.task.train:
        return {}
    poolings = [pooling for pooling in EMBEDDED if pooling in view.backbone.reads]
    return {pooling: view.embedding(tuned.prompt, pooling, tuned.reading) for pooling in poolings}


def _member(model: Tuned, first: Tuned) -> Member:
    """A model beside the artefact's own."""
    kind = None if type(model.readout) is type(first.readout) else type(model.readout).name
    backbone = None if model.model is None else BackboneCard.of(model.model)
    return Member(model.prompt, model.readout.state(), model.reading, kind, backbone)


def _memory(view: JobView, tuned: Tuned, seed: int) -> Memory | LabelMemory | None:
    """What graft's artefacts keep of their rows; prompts that were trained have a bank to go to, and keep none.

    Rows with several labels are those that graft judged prompts on, whose odds by fits that had not seen them it knows.
    """
    task = view.task
    if not isinstance(tuned.readout, Directional | MultilabelDirection) or not task.train:
        return None
    if task.facts.several:
        table = indicators([row.label for row in task.train], task)
        chosen = balanced(rarest_label(table), JUDGED, seed)
        several = SeveralRows(_remembered(view, tuned, chosen), table[chosen])
        nothing = LabelMemory.empty(several.features.shape[1], len(task.classes))
        unseen = None if tuned.unseen is None else tuned.unseen.double().numpy()
        return remembered_labels(nothing, several, unseen)
    y = np.array(class_indices((row.label for row in task.train), task))
    rows = balanced(y, max(REMEMBERED, A_CLASS * len(task.classes)), 0)
    return remembered(None, LabelledRows(_remembered(view, tuned, rows), y[rows]), len(task.classes))


def _remembered(view: JobView, tuned: Tuned, rows: Int[Array, "N"]) -> Float[Array, "N D"]:
    """Directions of training rows under all members that read such, side by side."""
    places, parts = tuple(rows.tolist()), []
    for member in (model for model in tuned.members if isinstance(model.readout, Directional | MultilabelDirection)):
        tokens = view.tokens("train", member.reading, places)
        [states] = view.states_each("train", [member.prompt], member.reading, places)
        seen = features(states, tokens, member.reading.encoding)
        parts.append(functional.normalize(seen.float(), dim=-1).double().numpy())
    return np.concatenate(parts, axis=1)


def _features(tuned: Tuned, view: JobView) -> dict[str, Tensor]:
    """Features of a sample of the rows that a classifier was fitted to, by their name."""
    if not view.task.facts.one_class or tuned.weights is not None or not view.task.train or tuned.read in ANSWERED:
        return {}
    tokens = view.tokens("train", tuned.reading, sample(view.task.train))
    seen = features(view.shared.states(tokens, tuned.prompt, tuned.read), tokens, tuned.reading.encoding)
    return {"features": functional.normalize(seen.float(), dim=-1).half()}


def sources_of(job: Job, tuned: Tuned) -> list[Source]:
    """The banked artefacts that a model came from: those whose prompts it has as they are, and the job's own source.

    Of a model made of banked prompts alone, the source that trained ones would have started from is none.
    """
    prompts = {model.prompt.digest for model in tuned.members if model.prompt is not None}
    kept = [source for source in job.bank if source.prompt_digest in prompts]
    if job.source is None or (job.bank and len(kept) == len(prompts)):
        return kept
    return list({source.name: source for source in (job.source, *kept)}.values())


def _origin(source: Source) -> Origin:
    return Origin(role="source", name=source.name, hash=source.hash, licence=source.card.task.licence)
