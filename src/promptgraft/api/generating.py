"""`generate` writes texts for rows, by a model in the words of a template, or by a tuned artefact."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from promptgraft.api.artefacts import artefact_folder, load
from promptgraft.api.checking import check_given, seeds_of
from promptgraft.api.finding import opened_template
from promptgraft.api.opening import log_notes, open_model
from promptgraft.arguments import checked
from promptgraft.engine.given import examples_of
from promptgraft.engine.predictor import blank_note, blank_rows, cut_note
from promptgraft.engine.unread import unread_note
from promptgraft.engine.writer import MOST, Decoding, longest_read, write
from promptgraft.errors import ArtefactError, ModelError, RunError, UsageError
from promptgraft.model.backbone import Backbone, Writes
from promptgraft.model.catalog import entries
from promptgraft.model.device import DeviceName
from promptgraft.model.load import DType
from promptgraft.prompt.reading import Reading
from promptgraft.readout.written import Written
from promptgraft.task.task import Example, Task
from promptgraft.template.known import open_template
from promptgraft.train.run import Tuned

LOG = logging.getLogger("promptgraft")
ALONE = {False: "{text}{mask}", True: "{text_a}\n{text_b}\n{mask}"}
"""The template where none is given, by whether rows are pairs: what is written goes on behind the text."""
TEXTS = Task("texts", "text", "rougeL", {}, {})
"""How rows are read where there is a model alone."""
AT_ONCE = 64
"""Rows that are written for before what they got is given: a model on a processor needs about a minute for them."""


@dataclass(frozen=True)
class WrittenPart:
    """The texts for some of the rows.

    Attributes:
        cut: how many of these rows were cut.
        unread: the numbers, among all rows, of those with few or no words that the model knows.
    """

    texts: list[str]
    cut: int
    unread: tuple[int, ...]


@dataclass(frozen=True)
class TextWriter:
    """A model that is ready to write, plain or with a tuned prompt.

    Attributes:
        task: how rows are read: the artefact's task, or a task of plain texts.
        tuned: the prompt, if any, and the template.
        limit: maximum number of tokens of a row that are read.
        notes: what was taken from the folder of a search.
    """

    backbone: Backbone
    task: Task
    tuned: Tuned
    limit: int
    notes: tuple[str, ...] = ()

    @property
    def is_plain(self) -> bool:
        """Whether it is a model without an artefact."""
        return self.task is TEXTS

    def decoding(self, most: int, stop: Sequence[str], temperature: float, seed: int, among: Sequence[str]) -> Decoding:
        """How it writes; a text also ends where the texts that it was tuned on end.

        Raises:
            UsageError: see `check_decoding`.
        """
        check_decoding(most, temperature, seed, among)
        own = self.tuned.readout.stop if isinstance(self.tuned.readout, Written) else ()
        return Decoding(most, tuple(dict.fromkeys((*own, *stop))), temperature, seed, tuple(among))

    def texts(self, examples: Sequence[Example], decoding: Decoding) -> Iterator[WrittenPart]:
        """Write texts, some rows at a time.

        Raises:
            UsageError: the template does not fit the rows.
            RunError: the model has no room for what is to be written.
        """
        tuned, generator = self._fitting(examples), torch.Generator().manual_seed(decoding.seed)
        length = longest_read(self.backbone, tuned.prompt, self.limit, decoding.most)
        for start in range(0, len(examples), AT_ONCE):
            rows = examples[start : start + AT_ONCE]
            tokens = self.backbone.tokenize(rows, "text", tuned.reading.unanswered, max_length=length)
            unread = tuple(start + number for number in self.backbone.unread(rows, tokens))
            yield WrittenPart(write(self.backbone, tuned, tokens, decoding, generator), tokens.cut, unread)

    def _fitting(self, examples: Sequence[Example]) -> Tuned:
        """The model with a template that fits the rows."""
        is_paired = any(example.pair is not None for example in examples)
        text = self.tuned.reading.template or ALONE[is_paired]
        known = open_template(text)
        if known.template.demos is not None and self.tuned.reading.pool is None:
            do = "pass them to promptgraft tune TASK --method zero-shot, and generate with its run folder"
            raise UsageError(f"{known.template.demos} of the template needs labelled rows", do=do)
        known.template.check(Task("the texts", "text", "rougeL", {}, {"test": tuple(examples)}))
        if self.backbone.slots(known.text) and self.tuned.prompt is None:
            raise UsageError("the vectors of {soft} are not tuned", do="generate with a run folder of promptgraft tune")
        return Tuned(
            self.tuned.prompt,
            self.tuned.readout,
            Reading("answer", template=str(known.template), pool=self.tuned.reading.pool),
            self.tuned.weights,
        )


def check_decoding(most: int, temperature: float, seed: int, among: Sequence[str]) -> None:
    """Check how texts are to be written.

    Raises:
        UsageError: a number out of its bounds, a seed that no generator takes, or a text to choose from that is empty.
    """
    seeds_of((seed,))
    if most < 1:
        raise UsageError(f"--most {most}", do="give 1 or more")
    if not 0 <= temperature < math.inf:
        raise UsageError(f"--temperature {temperature}", do="give 0 or more")
    if not all(text.strip() for text in among):
        raise UsageError("a text to choose from (--among) is empty", do="leave it out")


@checked
def text_writer(
    source: Backbone | str | Path,
    *,
    template: str = "",
    model: Backbone | str | Path | None = None,
    device: DeviceName = "auto",
    arithmetic: DType = "auto",
    memory: str | None = None,
) -> TextWriter:
    """Open a model or an artefact that writes.

    Args:
        source: a model's name or folder, a run folder, or a bank's entry.
        template: a text with {text} and {mask}, a name of the library, or the folder of a search; default: the
            artefact's own, or the text alone.
        model: the backbone of an artefact; default: the one named on its card.
        memory: memory limit, such as `4GB`: fewer rows are written at once if they would take more; `low`: one at a
            time (default: the free memory).
    Raises:
        ModelError, ArtefactError: there is neither model nor artefact, or it cannot be used.
        RunError: the model gives no text.
        UsageError: another template for a prompt whose vectors are in its own template.
    """
    check_given(model, recipe={"arithmetic": arithmetic, "memory": memory}, device=device)
    notes: tuple[str, ...] = ()
    if template:
        known, found = opened_template(template)
        template, notes = known.text, () if found is None else found.notes
    folder = _artefact(source)
    if folder is None:
        if model is not None:
            raise UsageError(f"{source} is no run, so that it has no other model", do="leave --model out")
        backbone = _model(source, arithmetic, device, memory)
        plain = Tuned(None, Written(torch.tensor(0.0)), Reading("answer", template=template or None))
        task, tuned = TEXTS, plain
        limit = backbone.max_length
    else:
        predictor = load(folder, model, device=device, arithmetic=arithmetic, memory=memory)
        backbone, task, tuned = predictor.backbone, predictor.task, predictor.tuned
        if template and tuned.prompt is not None and tuned.prompt.placement == "template":
            raise UsageError("its vectors stand in the template it was tuned with", do="leave --template out")
        if len(tuned.members) > 1 or (tuned.reading.template is None and not template):
            raise UsageError("it was not tuned in words", where=folder, do="pass --template '{text} ... {mask}'")
        tuned = Tuned(
            tuned.prompt,
            tuned.readout if isinstance(tuned.readout, Written) else Written(torch.tensor(0.0)),
            Reading("answer", template=template) if template else replace(tuned.reading, pooling="answer", answers=()),
            tuned.weights,
        )
        length = predictor.artefact.card.recipe.get("max_length")
        limit = length if isinstance(length, int) else backbone.max_length
    if not isinstance(backbone, Writes):
        raise RunError(f"{backbone.name} gives no text", do="use a causal or a sequence-to-sequence model")
    return TextWriter(backbone, task, tuned, limit, notes)


def _artefact(source: Backbone | str | Path) -> Path | None:
    """The folder of an artefact; None where the source is a model."""
    if not isinstance(source, str | Path):
        return None
    try:
        return artefact_folder(source)
    except ArtefactError:
        return None


def _model(source: Backbone | str | Path, arithmetic: DType, device: DeviceName, memory: str | None) -> Backbone:
    """The model that is to write; where there is none the error says that it may be an artefact, too."""
    try:
        return open_model(source, arithmetic, device, memory)
    except ModelError as error:
        if str(source) in entries() or error.do is None or error.do.endswith("?"):
            raise
        do = f"{error.do}; or give a run folder, or a bank's entry"
        raise ModelError(error.what, where=error.where, do=do) from error


@checked
def generate(
    source: Backbone | str | Path,
    rows: object,
    *,
    template: str = "",
    most: int = MOST,
    stop: Sequence[str] = (),
    temperature: float = 0.0,
    seed: int = 0,
    among: Sequence[str] = (),
    model: Backbone | str | Path | None = None,
    device: DeviceName = "auto",
    arithmetic: DType = "auto",
    memory: str | None = None,
) -> list[str]:
    """Write a text for every row.

    Args:
        source: a model or its name or folder, a run folder, or a bank's entry.
        rows: a list of texts, or of pairs of texts, or a table with named columns.
        template: a text with {text} and {mask}, a name of the library, or the folder of a search; default: the
            artefact's own, or the text alone.
        most: maximum number of tokens of a text.
        stop: strings that end a text, besides the model's own end token; they are left out.
        temperature: 0 takes the most likely token; else one is sampled from the scores divided by it.
        seed: for sampling.
        among: texts of which one is chosen.
        model: the backbone of an artefact; default: the one named on its card.
        memory: memory limit, such as `4GB`: fewer rows are written at once if they would take more; `low`: one at a
            time (default: the free memory).
    Raises:
        UsageError: the template does not fit the rows, or what is asked for cannot be written.
        ModelError, ArtefactError, RunError: the model cannot be used, or gives no text.
    """
    check_decoding(most, temperature, seed, among)
    writer = text_writer(source, template=template, model=model, device=device, arithmetic=arithmetic, memory=memory)
    log_notes(writer.notes)
    decoding = writer.decoding(most, stop, temperature, seed, among)
    examples = examples_of(rows, writer.task)
    parts = list(writer.texts(examples, decoding))
    for note in notes_on(parts, examples, writer):
        LOG.warning("%s", note)
    return [text for part in parts for text in part.texts]


def notes_on(
    parts: Sequence[WrittenPart], examples: Sequence[Example], writer: TextWriter, places: Sequence[str] | None = None
) -> Iterator[str]:
    """Notes on rows that were cut, or that hold nothing or few known words to read.

    Args:
        places: what each row is called; default: by its number.
    """
    if cut := sum(part.cut for part in parts):
        yield cut_note(cut, "text", None)
    if blank := blank_rows(examples):
        yield blank_note(blank, len(examples), places)
    if unread := [number for part in parts for number in part.unread]:
        yield unread_note(unread, len(examples), writer.backbone.name, places)
