"""Zero-shot trains nothing: labels are told apart by their descriptions, or by a carried readout."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from promptgraft.errors import RunError
from promptgraft.method.job import Job
from promptgraft.method.method import Method, Need, View, register
from promptgraft.method.options import LabelMap, Options
from promptgraft.method.setup import carried_readout, label_text_on, new_readout
from promptgraft.prompt.reading import Reading
from promptgraft.train.run import Fit, Tuned


class ZeroShotOptions(Options):
    prompt: Literal["none", "source"] = Field("none", description="Of zero-shot: no prompt, or the source's.")
    readout: Literal["label-text", "keep"] = Field("label-text", description="What turns hidden states into labels.")
    label_map: LabelMap = Field(default_factory=dict)


@register
class ZeroShot(Method):
    """Prediction without training: `prompt=none` is the backbone alone, `prompt=source` reuses a source's prompt."""

    name: ClassVar[str] = "zero-shot"
    summary: ClassVar[str] = "no training: label descriptions alone, or a source's prompt and readout as they are"
    needs: ClassVar[frozenset[Need]] = frozenset()
    options: ClassVar[type[ZeroShotOptions]] = ZeroShotOptions

    def requires(self, job: Job) -> tuple[Job, ...]:
        return ()

    def setup(self, job: Job, view: View) -> Fit:
        options = self.options.read(self.name, job.options)
        if options.prompt == "source":
            if job.source is None:
                raise RunError("zero-shot with prompt=source needs a source prompt", do="pass --source NAME")
            carried = carried_readout if options.readout == "keep" else label_text_on
            return Fit(job.id, carried(job, view, options.label_map))
        if view.task.facts.in_words is None:
            raise RunError(f"zero-shot cannot read a {view.task.kind} task without a source", where=view.task.name)
        reading = Reading(view.pooling)
        return Fit(job.id, Tuned(None, new_readout(job, view, view.task.facts.in_words, reading), reading))
