"""A job's template and the words of its labels, made of what its recipe says and of the rows it trains on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from promptgraft.errors import RunError, UsageError, quoted, unknown
from promptgraft.task.task import Example, Task
from promptgraft.template.demonstrations import demonstrations, pool_of
from promptgraft.template.fits import shape_of
from promptgraft.template.known import open_template
from promptgraft.template.parts import Wording
from promptgraft.template.remainder import premise
from promptgraft.template.template import Template
from promptgraft.template.words import words_for

PLAIN = {"single": "{text}\n{mask}", "pair": "{text_a}\n{text_b}\n{mask}", "choice": "{text}\n{mask}"}
"""The template of a task of texts where none is given, by the shape of its rows."""
AUTO = "auto"
"""The verbalizer whose words are found from labelled rows."""
BETWEEN_WORDS = "|"
"""What stands between the words of one label."""


@dataclass(frozen=True)
class Worded:
    """A template for the rows of a job.

    Attributes:
        template: in its canonical spelling, demonstrations written out but those that are chosen for each row.
        premise: the same without the row: what asks for the answer; empty where the template has no words for that.
        words: of each label the words that stand for it.
        notes: which words were used, and which rows demonstrate.
        pool: rows that demonstrations are chosen from for each row; else empty.
        lines: what the demonstrations say, or the rows that they are chosen from.
    """

    template: str
    premise: str
    words: Mapping[str, tuple[str, ...]]
    notes: tuple[str, ...]
    pool: tuple[Example, ...] = ()
    lines: tuple[str, ...] = ()

    @property
    def answers(self) -> tuple[str, ...]:
        """What each class says: its most usual word."""
        return tuple(words[0] for words in self.words.values())


def in_words(
    template: str, verbalizer: str, task: Task, seed: int, carried: Mapping[str, tuple[str, ...]] | None = None
) -> Worded:
    """The template and the labels' words of a job.

    Args:
        seed: draws the demonstrations from the training rows.
        carried: label of the source -> its words; they stand for the task's labels where each of these has its equal.
    Raises:
        RunError: the recipe has no template where the task needs one, or one that does not fit the task.
    """
    usual_template = template or (PLAIN[shape_of(task)] if task.facts.written else "")
    if not usual_template:
        raise RunError(
            "words are read in a template", where=task.name, do="pass --template NAME or '{text} ... {mask}'"
        )
    try:
        known = open_template(usual_template)
        known = known if known.language else replace(known, language=task.language or "")
        known.template.check(task)
        words = labels_words("" if verbalizer == AUTO else verbalizer, task)
        notes: tuple[str, ...] = ()
        if not words and task.labels and carried and carried.keys() >= task.labels.keys():
            words, notes = {label: carried[label] for label in task.classes}, ("words of the source's labels",)
        if not words and task.labels:
            usual = words_for(known, task)
            words, notes = dict(usual.words), (*notes, *usual.notes)
        notes = () if verbalizer == AUTO else notes  # what is found is said in their place
        if not template:
            notes = (f"{task.name}: no template was given, so the model writes behind the text: {known.text!r}",)
        return _demonstrated(known.template, task, words, notes, seed)
    except UsageError as error:
        raise RunError(str(error), where=task.name) from None


def _demonstrated(
    template: Template, task: Task, words: Mapping[str, tuple[str, ...]], notes: tuple[str, ...], seed: int
) -> Worded:
    """The template with its demonstrations, or with the rows that they are chosen from.

    Raises:
        UsageError: there are no labelled rows for them.
    """
    demos, first_words = template.demos, {label: own[0] for label, own in words.items()}
    asking = premise(template)
    if demos is None:
        return Worded(str(template), _spoken(asking), words, notes)
    if not demos.near:
        shown, more = demonstrations(task, demos.count, seed)
        lines = template.demonstrated(shown, task, first_words)
        shown_in, premise_shown = template.showing(lines), asking.showing(lines)
        return Worded(str(shown_in), _spoken(premise_shown), words, notes + more, lines=tuple(lines))
    rows, shown = pool_of(task, seed)
    note = f"each row is shown the {min(demos.count, len(rows))} labelled rows of {len(rows)} that are nearest to it"
    lines = template.demonstrated(shown, task, first_words)
    return Worded(str(template), _spoken(asking), words, (*notes, note), rows, tuple(lines))


def in_plain_words(worded: Worded) -> str:
    """The template with words where it has vectors, for a model without a prompt."""
    return str(Template.parse(worded.template).without_vectors)


def _spoken(asking: Template) -> str:
    """The text of a premise; empty where it has no word."""
    words = (part.text for part in asking.parts if isinstance(part, Wording))
    return str(asking) if any(map(str.strip, words)) else ""


def wording(template: str) -> str:
    """The words of a template without its slots; those of a name in the library.

    Raises:
        UsageError: it is neither a template nor a name of one.
    """
    parts = open_template(template).template.parts
    return " ".join(part.text.strip() for part in parts if isinstance(part, Wording)).strip()


def labels_words(given: str, task: Task) -> dict[str, tuple[str, ...]]:
    """The words of each label as a user gives them: `good=great|fine,bad=terrible`; nothing where none are given.

    Raises:
        UsageError: an entry without a word, a label that the task does not have, or one without words.
    """
    words = words_given(given)
    for label in words:
        if label not in task.labels:
            raise unknown(f"label of {task.name} in the verbalizer", label, task.classes)
    missing = [label for label in task.classes if words and label not in words]
    if missing:
        raise UsageError(f"the verbalizer has no words for {quoted(missing[0])}", do="give every label its words")
    return {label: words[label] for label in task.classes if label in words}


def words_given(given: str) -> dict[str, tuple[str, ...]]:
    """Label -> its words, of a text such as `good=great|fine,bad=terrible`.

    Raises:
        UsageError: an entry without a word, or a label that comes twice.
    """
    words: dict[str, tuple[str, ...]] = {}
    for entry in filter(str.strip, given.split(",")):
        label, _, text = (part.strip() for part in entry.partition("="))
        if label in words:
            raise UsageError(f"the verbalizer gives {quoted(label)} words twice", do="write label=word|word once")
        words[label] = tuple(word.strip() for word in text.split(BETWEEN_WORDS) if word.strip())
        if not words[label]:
            raise UsageError(f"the verbalizer gives {quoted(label)} no word", do="write label=word|word,label=word")
    return words
