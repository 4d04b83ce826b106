"""Zero-shot trains nothing: labels are told apart by their descriptions, or by a carried readout."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar, Literal

import torch
from pydantic import Field

from promptgraft.errors import RunError
from promptgraft.method.job import Job
from promptgraft.method.method import Method, Need, View, register
from promptgraft.method.options import LabelMap, Options
from promptgraft.method.setup import carried_readout, in_words, label_text_on, new_readout, reading_for, readout_name
from promptgraft.readout.by_class import ByWords
from promptgraft.readout.completion import Completion, OptionCompletion
from promptgraft.readout.option_prior import OptionPrior
from promptgraft.task.task import Example
from promptgraft.train.run import Fit, Tuned


class ZeroShotOptions(Options):
    prompt: Literal["none", "source"] = Field("none", description="For zero-shot: no prompt, or the source's.")
    readout: Literal[
        "auto", "label-text", "verbalizer", "soft-verbalizer", "prototype", "completion", "detector", "written", "keep"
    ] = Field("auto", description="The readout, from hidden states to labels; auto: words if there is a template.")
    calibration: Literal["none", "empty", "unlabelled", "domain"] = Field(
        "none",
        description="For words: subtract the scores of an empty row, of rows without labels, or of the question alone.",
    )
    label_map: LabelMap = Field(default_factory=dict)


@register
class ZeroShot(Method):
    """Prediction without training: `prompt=none` is the backbone alone, `prompt=source` reuses a source's prompt."""

    name: ClassVar[str] = "zero-shot"
    summary: ClassVar[str] = "no training: label descriptions alone, or a source's prompt and readout as they are"
    needs: ClassVar[frozenset[Need]] = frozenset()
    options: ClassVar[type[ZeroShotOptions]] = ZeroShotOptions

    def setup(self, job: Job, view: View) -> Fit:
        options = self.options.read(self.name, job.options)
        if options.prompt == "source":
            return Fit(job.id, _calibrated(_reused(job, view, options), view, options.calibration))
        name: str = options.readout
        if name == "keep":
            what = "zero-shot keeps a source's readout with its prompt alone"
            raise RunError(what, where=view.task.name, do="add --prompt source and --source NAME")
        if name == "auto":
            name = in_words(view) if job.recipe.template or view.task.facts.written else "label-text"
        if name == "label-text" and view.task.facts.in_words is None:
            raise RunError(f"zero-shot cannot read a {view.task.kind} task without a source", where=view.task.name)
        name = readout_name(job, view, name, name)
        reading = reading_for(view, name)
        tuned = Tuned(None, new_readout(job, view, name, reading), reading)
        return Fit(job.id, _calibrated(tuned, view, options.calibration))


def _reused(job: Job, view: View, options: ZeroShotOptions) -> Tuned:
    """The source's prompt with label text; where it was tuned in a template, with its own readout of words.

    Raises:
        RunError: there is no source, or another readout than its own is asked for.
    """
    if job.source is None:
        raise RunError("zero-shot with prompt=source needs a source prompt", do="pass --source NAME")
    readout = options.readout
    if readout == "auto":
        readout = "label-text" if job.source.card.template is None else "keep"
    if readout == "label-text":
        return label_text_on(job, view, options.label_map)
    tuned = carried_readout(job, view, options.label_map)
    if readout not in ("keep", tuned.readout.name):
        message = f"its readout is {tuned.readout.name!r}, not {readout!r}"
        raise RunError(message, where=job.source.name, do="use --readout keep, or --prompt none")
    return tuned


def _calibrated(tuned: Tuned, view: View, calibration: str) -> Tuned:
    """The model without the preference for some classes that rows without labels, or an empty row, show."""
    if calibration == "none":
        return tuned
    if calibration == "domain":
        return _beyond_domain(tuned, view)
    if not isinstance(tuned.readout, ByWords) or not view.task.classes:
        raise RunError("only words of classes are calibrated", where=view.task.name, do="pass a template")
    rows = (Example(),) if calibration == "empty" else view.task.splits.get("unlabelled", ())
    if not rows:
        do = "give transfer or compare a file of them with --unlabelled"
        raise RunError("there are no rows without labels", where=view.task.name, do=do)
    return replace(tuned, readout=tuned.readout.calibrated(view.scores(tuned, rows)))


def _beyond_domain(tuned: Tuned, view: View) -> Tuned:
    """The model whose scores are what a row adds to its answers: log p(answer | row) - log p(answer | its question).

    The question is the template without the row, the domain premise of Holtzman et al. (2021, PMI_DC). Answers count
    as wholes, however long they are.
    """
    readout = tuned.readout
    if isinstance(readout, OptionCompletion):
        prior = OptionPrior(readout.raw_scale.detach().clone(), torch.zeros_like(readout.power))
        return replace(tuned, readout=readout.summed(), others=(Tuned(None, prior, view.premise(tuned.reading)),))
    if not isinstance(readout, ByWords):
        raise RunError("only words of classes or options are calibrated", where=view.task.name, do="pass a template")
    readout = readout.summed() if isinstance(readout, Completion) else readout
    asked = replace(tuned, readout=readout, reading=view.premise(tuned.reading))
    return replace(tuned, readout=readout.calibrated(view.scores(asked, (Example(),))))
