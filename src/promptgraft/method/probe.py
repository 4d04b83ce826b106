"""A linear probe is fitted to a task on frozen features, with a source's prompt or without one."""

from __future__ import annotations

from promptgraft.method.job import Job
from promptgraft.method.method import View
from promptgraft.method.setup import encoding_for
from promptgraft.prompt.prompt import Prompt
from promptgraft.prompt.reading import Reading, for_task
from promptgraft.readout.features import features
from promptgraft.readout.probe import fit_probe
from promptgraft.train.run import Fit, Tuned


def probe(job: Job, view: View, prompt: Prompt | None, reading: Reading) -> Fit:
    """Fit a linear readout to the training rows' frozen states; its strength is chosen by cross-validation.

    Raises:
        RunError: a kind no probe is made for.
    """
    encoding = encoding_for(view, "linear") if view.task.kind == "pair" else encoding_for(view, "regression")
    reading = for_task(reading, Reading(view.pooling, encoding), view.task.facts.scored)
    tokens = view.tokens("train", reading)
    states = features(view.states("train", prompt, reading), tokens, encoding)
    fitted = fit_probe(view.task, view.task.train, states, tokens, job.seed)
    parameters = sum(value.numel() for value in fitted.readout.parameters().values())
    note = f"probe strength {fitted.strength:g}, by cross-validation"
    return Fit(job.id, Tuned(prompt, fitted.readout, reading), parameters, (note,))
