"""Zero-shot: no training at all; labels are told apart by their descriptions, or by a carried readout."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from promptgraft.errors import RunError
from promptgraft.method.job import Job
from promptgraft.method.method import Method, Need, View, option, register
from promptgraft.method.setup import carried_readout, label_map, label_text_on, new_readout
from promptgraft.readout.readout import find as find_readout
from promptgraft.train.run import Fit, Tuned


@register
class ZeroShot(Method):
    """`prompt=none`: the backbone alone; `prompt=source`: the source's prompt reused as it is."""

    name: ClassVar[str] = "zero-shot"
    summary: ClassVar[str] = "no training: label descriptions alone, or a source's prompt and readout as they are"
    needs: ClassVar[frozenset[Need]] = frozenset()
    options: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "prompt": ("none", "source"),
        "readout": ("label-text", "keep"),
        "label-map": (),
    }

    def requires(self, job: Job) -> tuple[Job, ...]:
        return ()

    def setup(self, job: Job, view: View) -> Fit:
        if option(job, "prompt") == "source":
            if job.source is None:
                raise RunError("zero-shot with prompt=source needs a source prompt", do="pass --source NAME")
            keep = option(job, "readout") == "keep"
            return Fit(job.id, carried_readout(job, view, label_map(job)) if keep else label_text_on(job, view))
        if view.task.kind not in find_readout("label-text").kinds:
            raise RunError(f"zero-shot cannot read a {view.task.kind} task without a source", where=view.task.name)
        return Fit(job.id, Tuned(None, new_readout(job, view, "label-text", "cross"), view.pooling, "cross"))
