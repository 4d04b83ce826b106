"""PoT, prompt transfer: start the target's prompt from a source's (SPoT, Vu et al. 2022; PANDA's baseline)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from promptgraft.method.job import Job
from promptgraft.method.method import Method, Need, View, option, register
from promptgraft.method.setup import (
    PLAIN,
    carried_readout,
    carried_recipe,
    encoding_for,
    label_map,
    label_text_on,
    make_run,
    new_readout,
    source_tuned,
)
from promptgraft.train.run import Fit, Run, Tuned


@register
class PoT(Method):
    """`readout=new`: a fresh linear one (vanilla PoT); `keep`: the source's own; `label-text`: the labels in words.

    With `shots 0` nothing is trained: the source's prompt and readout are reused as they are.
    """

    name: ClassVar[str] = "pot"
    summary: ClassVar[str] = "the target's prompt starts from a source's"
    needs: ClassVar[frozenset[Need]] = frozenset({"source", "gradients"})
    options: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "readout": ("auto", "new", "keep", "label-text"),
        "label-map": (),
    }

    def requires(self, job: Job) -> tuple[Job, ...]:
        return ()

    def setup(self, job: Job, view: View) -> Run | Fit:
        assert job.source is not None
        wanted = option(job, "readout")
        if wanted == "auto":
            wanted = "label-text" if view.task.kind == "classification" else "new"
        start = pot_start(job, view, wanted)
        if job.shots == 0:
            return Fit(job.id, start)
        if wanted == "new":
            return make_run(job, view, start)
        return make_run(job, view, start, recipe=carried_recipe(job.recipe), carried=True)


def pot_start(job: Job, view: View, wanted: str) -> Tuned:
    """Prompt and readout a transferred run begins with."""
    assert job.source is not None
    if wanted == "keep":
        return carried_readout(job, view, label_map(job))
    if wanted == "label-text":
        return label_text_on(job, view)
    source = source_tuned(job.source)
    name = PLAIN[view.task.kind]
    encoding = encoding_for(view, name)
    return Tuned(source.prompt, new_readout(job, view, name, encoding), source.pooling, encoding)
