"""The linear probe fits a regularised linear model on frozen features; nothing is trained by gradient."""

from __future__ import annotations

from typing import ClassVar

from promptgraft.method.job import Job
from promptgraft.method.method import Method, Need, View, Work, register
from promptgraft.method.probe import probe
from promptgraft.prompt.reading import Reading
from promptgraft.train.run import Fit


@register
class LinearProbe(Method):
    name: ClassVar[str] = "linear-probe"
    summary: ClassVar[str] = "a linear model on frozen features, regularisation by cross-validation"
    needs: ClassVar[frozenset[Need]] = frozenset({"labels"})

    def work(self, job: Job) -> Work:
        return Work(None, probes=1)

    def setup(self, job: Job, view: View) -> Fit:
        return probe(job, view, None, Reading(view.pooling))
