"""Distillation of a template: a prompt makes the model answer as a longer template does, without its words."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

import torch
from pydantic import Field

from promptgraft.errors import RunError
from promptgraft.method.job import Job
from promptgraft.method.method import Method, Need, Split, View, register
from promptgraft.method.options import Options
from promptgraft.method.setup import fresh_prompt, in_words, make_run, new_readout, reading_for
from promptgraft.model.backbone import Backbone, Speaks
from promptgraft.readout.features import width_of
from promptgraft.readout.matched import Matched
from promptgraft.train.data import Data
from promptgraft.train.run import Run, Tuned


class DistilOptions(Options):
    long: str = Field("", description="The long template whose answers the prompt learns to give in --template.")


@register
class Distil(Method):
    """Learns a deep or shallow prompt from rows without labels (Snell et al. 2022; Eyuboglu et al. 2025, cartridges).

    The loss is KL(teacher || student) over all words at the answer's place, at temperature 1; the teacher is the model
    itself, shown each row in the longer template.
    """

    name: ClassVar[str] = "distil"
    summary: ClassVar[str] = "a prompt in the place of a longer template's instruction or demonstrations"
    needs: ClassVar[frozenset[Need]] = frozenset({"gradients", "validation"})
    options: ClassVar[type[DistilOptions]] = DistilOptions

    def setup(self, job: Job, view: View) -> Run:
        options = self.options.read(self.name, job.options)
        if not options.long or not job.recipe.template:
            do = "pass --long TEMPLATE and --template TEMPLATE, or use promptgraft distil"
            raise RunError("distil needs a long template and a short one", where=view.task.name, do=do)
        width_of(view.backbone, "mark", "cross")  # refuses a model without a head over words
        name = in_words(view)
        answers = reading_for(view, name)
        matched = matching(view, options.long)
        start = Tuned(fresh_prompt(job, view, view.in_words("mark")), matched, view.in_words("mark"))
        run = make_run(job, view, start, data=_data(view), carried=True)
        return replace(run, answers=(new_readout(job, view, name, answers), answers))


LEARNED: tuple[Split, ...] = ("train", "unlabelled", "validation")
"""The splits whose rows a teacher is shown, in this order."""


def matching(view: View, template: str) -> Matched:
    """What a model says of the job's rows in the words of another template."""
    shown = [view.at_answer(template, view.task.splits.get(split, ())) for split in LEARNED]
    columns, offset = all_columns(view.backbone)
    return Matched(columns, offset, torch.cat(shown).float())


def all_columns(backbone: Backbone) -> tuple[torch.Tensor, torch.Tensor]:
    """The head's weights and biases of all words."""
    assert isinstance(backbone, Speaks), "it has a head over words"
    return backbone.columns(torch.arange(len(backbone.weights[backbone.words])))


def _data(view: View) -> tuple[Data, Data]:
    """Training and validation rows whose gold labels are the teacher's rows."""
    learned, held = ("train", "unlabelled"), ("validation",)
    reading, first, result = view.in_words("mark"), 0, []
    for splits in (learned, held):
        examples = tuple(example for split in splits for example in view.task.splits.get(split, ()))
        tokens = view.tokens_of(examples, reading)
        gold = torch.arange(first, first + len(examples))
        result.append(Data(view.task, examples, tokens, gold, torch.arange(len(examples) + 1), len(examples)))
        first += len(examples)
    if not len(result[0]):
        raise RunError("there are no rows to learn from", where=view.task.name, do="give texts")
    return result[0], result[1]
