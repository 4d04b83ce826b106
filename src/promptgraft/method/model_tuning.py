"""Model tuning trains all the weights of the backbone and a readout (full fine-tuning)."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

from promptgraft.method.job import Job
from promptgraft.method.method import Method, Need, View, Work, register
from promptgraft.method.setup import make_run, new_readout, reading_for, training_rows
from promptgraft.train.run import Run, Tuned
from promptgraft.train.weights import Weights


@register
class ModelTuning(Method):
    """Full fine-tuning without dropout, the readout at a tenth of the recipe's rate."""

    name: ClassVar[str] = "model-tuning"
    summary: ClassVar[str] = "all the weights of the backbone (full fine-tuning)"
    needs: ClassVar[frozenset[Need]] = frozenset({"labels", "gradients", "validation"})

    def work(self, job: Job) -> Work:
        return Work("weights")

    def setup(self, job: Job, view: View) -> Run:
        name = view.task.facts.readout
        reading = reading_for(view, name)
        start = Tuned(None, new_readout(job, view, name, reading), reading)
        train, validation = training_rows(view, start.readout, reading)
        weights = Weights.of(view.backbone, train.tokens, over_words=reading.pooling == "answer")
        train = replace(train, tokens=weights.numbered(train.tokens))
        recipe = job.recipe.changed(readout_rate=job.recipe.readout_rate / 10)
        return make_run(job, view, start, recipe=recipe, data=(train, validation), weights=weights)
