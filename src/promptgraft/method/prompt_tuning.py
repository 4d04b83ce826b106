"""Prompt tuning: a few vectors and a readout from scratch, backbone frozen (Lester et al. 2021, Liu et al. 2022)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from promptgraft.method.job import Job
from promptgraft.method.method import Method, Need, View, option, register
from promptgraft.method.setup import carried_by_default, make_run, readout_name, scratch
from promptgraft.train.run import Run


@register
class PromptTuning(Method):
    name: ClassVar[str] = "prompt-tuning"
    summary: ClassVar[str] = "a prompt and a readout from scratch, backbone frozen"
    needs: ClassVar[frozenset[Need]] = frozenset({"labels", "gradients"})
    options: ClassVar[Mapping[str, tuple[str, ...]]] = {"readout": ("auto", "linear", "label-text")}

    def requires(self, job: Job) -> tuple[Job, ...]:
        return ()

    def setup(self, job: Job, view: View) -> Run:
        name = readout_name(view.task, option(job, "readout"), carried_by_default(view.task))
        return make_run(job, view, scratch(job, view, name))
