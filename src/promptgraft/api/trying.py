"""Shows a template on rows of a task, and what a model would read of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from promptgraft.api.checking import check_given
from promptgraft.api.finding import FoundWords, fitting, opened_template
from promptgraft.api.opening import open_task
from promptgraft.arguments import checked
from promptgraft.engine.worded import labels_words
from promptgraft.errors import TaskError, UsageError
from promptgraft.model.filled import FilledReader
from promptgraft.model.speech import open_reader
from promptgraft.model.stretches import contents, with_contents
from promptgraft.model.tokens import SOFT
from promptgraft.sheet import Sheet
from promptgraft.task.frames import TaskData
from promptgraft.task.kinds import KINDS
from promptgraft.task.task import SPLITS, Example, Task
from promptgraft.template.demonstrations import answer_of, beginning, demonstrations
from promptgraft.template.known import KnownTemplate
from promptgraft.template.parts import Filled
from promptgraft.template.template import Template, plain_text
from promptgraft.template.words import LabelWords, words_for

PLACE = "[mask]"
"""What the place of the answer is shown as."""
VECTOR = "(vector)"


@dataclass(frozen=True)
class TriedRow:
    """A template with a row in it.

    Attributes:
        text: the filled template as text.
        answer: what the row's label says; None for a row without one.
        tokens: what the model reads, without the answer; None without a model.
        mark: the index of the token that the answer is read at.
        lost: how many characters of the row's texts are not shown, or with a model not read.
    """

    text: str
    answer: str | None = None
    tokens: tuple[str, ...] | None = None
    mark: int | None = None
    lost: int = 0


@dataclass(frozen=True, repr=False)
class Tried:
    """A template filled with rows of a task.

    Attributes:
        template: the template with its demonstrations written out.
        words: the words that stand for each label.
        notes: which words stand for what, and what was drawn or cut.
    """

    template: str
    words: LabelWords
    rows: tuple[TriedRow, ...]
    notes: tuple[str, ...]

    def __repr__(self) -> str:
        return self._sheet().text()

    def _repr_html_(self) -> str:
        return self._sheet().html()

    def _sheet(self) -> Sheet:
        rows = [(row.answer or "", row.text) for row in self.rows]
        return Sheet(f"Template {self.template}", self.notes, ("answer", "text"), rows)


@checked
def try_template(
    task: Task | TaskData,
    template: str | KnownTemplate,
    model: str | Path | None = None,
    *,
    rows: int = 3,
    max_length: int | None = None,
    seed: int = 0,
) -> Tried:
    """Fill a template with the first rows of a task, and show the tokens that a model reads.

    Args:
        template: a name in the library, a text with slots in braces, the folder of a search, or what `find_template`
            gives.
        model: a name or folder; only its tokenizer is loaded.
        max_length: maximum number of tokens of a sequence; default: the model's, at most 512.
        seed: for drawing the demonstrations.
    Raises:
        UsageError: the template does not fit the task, or is longer than the model reads.
    """
    if rows < 1:
        raise UsageError(f"{rows} rows", do="give 1 or more")
    check_given(model, seeds=(seed,))
    if max_length is not None and max_length < 1:
        raise UsageError(f"--max-length {max_length}", do="give 1 or more")
    known, found = opened_template(template) if isinstance(template, str) else (template, None)
    task = open_task(task)
    known.template.check(task)
    examples = next((task.splits[split] for split in reversed(SPLITS) if split in task.splits), ())[:rows]
    if not examples:
        raise TaskError("there is no row to show", where=task.name, do="give a task with rows")
    words = words_for(known, task) if found is None else _words_found(found, known, task)
    first_words = {label: options[0] for label, options in words.words.items()}
    written, notes = _written_out(known.template, task, first_words, seed)
    filled = [written.filled(example) for example in examples]
    answers = [None if _is_bare(example, task) else answer_of(example, task, first_words) for example in examples]
    shown = _shown(filled) if model is None else _read(filled, model, max_length)
    return Tried(
        str(written),
        words,
        tuple(replace(row, answer=answer) for row, answer in zip(shown, answers, strict=True)),
        (*_language(known, task), *words.notes, *notes),
    )


def _words_found(found: FoundWords, known: KnownTemplate, task: Task) -> LabelWords:
    """The words of labels that a search found, where the task has its labels, else those of its template."""
    found = fitting(found, task)
    if not found.verbalizer:
        usual = words_for(known, task)
        return LabelWords(usual.words, (*found.notes, *usual.notes))
    return LabelWords(labels_words(found.verbalizer, task), found.notes)


def _written_out(
    template: Template, task: Task, words: Mapping[str, str], seed: int
) -> tuple[Template, tuple[str, ...]]:
    """The template with demonstrations where it has a place for them, and notes on these."""
    if template.demos is None:
        return template, ()
    rows, notes = demonstrations(task, template.demos.count, seed)
    if template.demos.near:
        notes = (*notes, "which rows are near is for the model to say: here they stand in the place of the nearest")
    return template.written_out(rows, task, words), notes


def _is_bare(example: Example, task: Task) -> bool:
    return example.label is None and KINDS[task.kind].label != "answers"


def _shown(rows: Sequence[Filled]) -> list[TriedRow]:
    """Filled templates with as much of each text as a reader wants to see."""
    texts = [[beginning(text) for text in contents(row)] for row in rows]
    return [
        TriedRow(
            plain_text(with_contents(row, parts), PLACE),
            lost=sum(map(len, contents(row))) - sum(map(len, parts)),
        )
        for row, parts in zip(rows, texts, strict=True)
    ]


def _read(rows: Sequence[Filled], model: str | Path, max_length: int | None) -> list[TriedRow]:
    """Filled templates as a model reads them."""
    reader, limit = open_reader(model)
    read = reader.rows(rows, max_length or limit)
    return [
        TriedRow(
            plain_text(with_contents(row, part.texts), PLACE),
            tokens=tuple(_token(reader, number) for number in part.ids),
            mark=part.mark,
            lost=sum(part.lost),
        )
        for row, part in zip(rows, read, strict=True)
    ]


def _token(reader: FilledReader, number: int) -> str:
    """A token as people read it."""
    if number == SOFT:
        return VECTOR
    engine = reader.tokenizer.engine
    if reader.tokenizer.joint:  # its own spellings stand for bytes
        return str(engine.decode([number], skip_special_tokens=False))
    return engine.id_to_token(number) or str(number)


def _language(known: KnownTemplate, task: Task) -> tuple[str, ...]:
    """A note where template and task are of different languages."""
    if not known.language or not task.language or known.language == task.language:
        return ()
    return (f"the template {known.name} is in {known.language!r}, {task.name} in {task.language!r}",)
