"""Frozen source + probe fits a linear model on the features under a source's prompt, which stays as it is."""

from __future__ import annotations

from typing import ClassVar

from promptgraft.method.job import Job
from promptgraft.method.method import Method, Need, View, Work, register
from promptgraft.method.probe import probe
from promptgraft.method.setup import source_tuned
from promptgraft.train.run import Fit


@register
class FrozenSource(Method):
    name: ClassVar[str] = "frozen-source"
    summary: ClassVar[str] = "the source's prompt frozen, a linear probe on the features under it"
    needs: ClassVar[frozenset[Need]] = frozenset({"source", "labels"})

    def work(self, job: Job) -> Work:
        return Work(None, probes=1)

    def setup(self, job: Job, view: View) -> Fit:
        assert job.source is not None
        source = source_tuned(job.source)
        return probe(job, view, source.prompt, source.reading)
