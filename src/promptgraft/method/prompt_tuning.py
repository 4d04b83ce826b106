"""Prompt tuning trains a few vectors and a readout over a frozen backbone (Lester et al. 2021, Liu et al. 2022)."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field, field_validator

from promptgraft.method.job import Job
from promptgraft.method.method import Method, Need, View, register
from promptgraft.method.options import Options
from promptgraft.method.setup import known_readout, make_run, readout_name, scratch
from promptgraft.prompt.reading import AT_WORDS
from promptgraft.train.run import Run


class PromptTuningOptions(Options):
    readout: str = Field(
        "auto", description="The readout, from hidden states to labels: linear, label-text, or another."
    )

    @field_validator("readout")
    @classmethod
    def _is_known(cls, name: str) -> str:
        return known_readout(name, "auto", "linear")


@register
class PromptTuning(Method):
    name: ClassVar[str] = "prompt-tuning"
    summary: ClassVar[str] = "a prompt and a readout from scratch, backbone frozen"
    needs: ClassVar[frozenset[Need]] = frozenset({"labels", "gradients", "validation"})
    options: ClassVar[type[PromptTuningOptions]] = PromptTuningOptions

    def setup(self, job: Job, view: View) -> Run:
        options = self.options.read(self.name, job.options)
        name = readout_name(job, view, options.readout, view.task.facts.carried)
        start = scratch(job, view, name)  # words are read before anything is trained
        return make_run(job, view, start, carried=start.reading.pooling in AT_WORDS)
