"""A finished job becomes the artefact that is kept of it."""

from __future__ import annotations

from promptgraft.engine.result import Finished
from promptgraft.engine.view import JobView
from promptgraft.errors import RunError
from promptgraft.prompt.artefact import Artefact
from promptgraft.prompt.card import BackboneCard, Card, Origin, PromptCard, SplitScore, TaskCard


def make_artefact(finished: Finished, view: JobView) -> Artefact:
    """Make the artefact of a finished job: prompt, readout, task embeddings and card.

    Raises:
        RunError: the result was kept without its model.
    """
    job, result, tuned = finished.job, finished.result, finished.tuned
    if tuned is None:
        raise RunError("the model of this result was not kept", where=job.label, do="run it again in another folder")
    origins: tuple[Origin, ...] = ()
    if job.source is not None:
        origins = (Origin(role="source", name=job.source.name, hash=job.source.artefact.hash),)
    card = Card(
        task=TaskCard.of(job.task),
        backbone=BackboneCard.of(view.backbone),
        prompt=None if tuned.prompt is None else PromptCard.of(tuned.prompt),
        pooling=tuned.pooling,
        encoding=tuned.encoding,
        readout=type(tuned.readout).name,
        method=job.method,
        options=dict(job.options),
        recipe=job.recipe.model_dump(),
        seed=job.seed,
        shots=job.shots,
        lineage=origins,
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
    embeddings = {}
    if tuned.prompt is not None and view.task.train:
        embeddings = {pooling: view.embedding(tuned.prompt, pooling) for pooling in ("cls", "mean")}
    return Artefact(tuned.prompt, tuned.readout.state(), card, embeddings, tuned.weights)
