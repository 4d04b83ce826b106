"""PoT, prompt transfer, starts the target's prompt from a source's (SPoT, Vu et al. 2022; PANDA's baseline)."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field, field_validator

from promptgraft.method.job import Job
from promptgraft.method.method import Method, Need, View, register
from promptgraft.method.options import LabelMap, Options
from promptgraft.method.setup import (
    carried_by_default,
    carried_readout,
    carried_recipe,
    encoding_for,
    known_readout,
    label_text_on,
    make_run,
    new_readout,
    readout_name,
    source_tuned,
)
from promptgraft.prompt.reading import Reading, for_task
from promptgraft.train.run import Fit, Run, Tuned


class PoTOptions(Options):
    readout: str = Field(
        "auto",
        description="The readout, from hidden states to labels: new (linear), keep (the source's), label-text, ...",
    )
    label_map: LabelMap = Field(default_factory=dict)

    @field_validator("readout")
    @classmethod
    def _is_known(cls, name: str) -> str:
        return known_readout(name, "auto", "new", "keep")


@register
class PoT(Method):
    """Prompt transfer, with a choice of the readout that the target's prompt starts with.

    `readout=new`: a fresh linear one (vanilla PoT); `keep`: the source's own; `label-text`: the labels in words. Any
    other readout starts fresh over the source's prompt.

    With `shots 0` nothing is trained: the source's prompt and readout are reused as they are.
    """

    name: ClassVar[str] = "pot"
    summary: ClassVar[str] = "the target's prompt starts from a source's"
    needs: ClassVar[frozenset[Need]] = frozenset({"source", "gradients", "validation"})
    options: ClassVar[type[PoTOptions]] = PoTOptions

    def setup(self, job: Job, view: View) -> Run | Fit:
        assert job.source is not None
        options = self.options.read(self.name, job.options)
        readout = options.readout
        if readout == "auto":
            readout = "keep" if job.source.artefact.card.template is not None else carried_by_default(view.task)
        start = pot_start(job, view, options.model_copy(update={"readout": readout}))
        if job.shots == 0:
            return Fit(job.id, start)
        if readout in ("keep", "label-text"):
            return make_run(job, view, start, recipe=carried_recipe(job.recipe), carried=True)
        return make_run(job, view, start)


def pot_start(job: Job, view: View, options: PoTOptions) -> Tuned:
    """The prompt and readout that a transferred run starts from."""
    assert job.source is not None
    if options.readout == "keep":
        return carried_readout(job, view, options.label_map)
    if options.readout == "label-text":
        return label_text_on(job, view, options.label_map)
    source = source_tuned(job.source)
    name = readout_name(job, view, options.readout, view.task.facts.readout)
    plain = Reading(view.pooling, encoding_for(view, name))
    reading = for_task(source.reading, plain, view.task.facts.scored)
    return Tuned(source.prompt, new_readout(job, view, name, reading), reading)
