"""What a search is over: the task's labels and search rows, the template that edits begin with, and the library's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from promptgraft.engine.worded import AUTO, PLAIN, labels_words
from promptgraft.errors import RunError, UsageError
from promptgraft.model.backbone import Backbone
from promptgraft.searches.answers import SEARCHED
from promptgraft.searches.banked import BankedSpan
from promptgraft.searches.candidate import Candidate
from promptgraft.task.task import Example, Task
from promptgraft.template.fits import shape_of
from promptgraft.template.known import KnownTemplate, open_template, templates
from promptgraft.template.words import CHINESE, own_words, words_for


@dataclass(frozen=True)
class Space:
    """What algorithms may vary.

    Attributes:
        rows: the search rows.
        start: what edits begin with.
        library: the library's templates that fit, those whose words say most of the labels first.
        plain: the row alone, without a template's words.
        language: of the task's texts.
        left_to_right: whether the model only looks back, so that nothing may stand behind the answer.
        fixed_words: whether the labels' words were given and stay.
        vocabulary: words that are one token of the model.
        banked: where a bank's prompts let a search for vectors begin; None: at words drawn from the vocabulary.
    """

    task: Task
    rows: tuple[Example, ...]
    start: Candidate
    library: tuple[Candidate, ...]
    plain: Candidate
    language: str
    left_to_right: bool
    fixed_words: bool
    vocabulary: Mapping[str, int]
    banked: BankedSpan | None = None

    @property
    def is_chinese(self) -> bool:
        """Whether words stand side by side without a space."""
        return self.language == "zh"


def make_space(
    task: Task, rows: tuple[Example, ...], backbone: Backbone, template: str, verbalizer: str
) -> tuple[Space, tuple[str, ...]]:
    """What a search on a task is over; and notes.

    Args:
        template: what edits begin with; empty: the library's for the task.
        verbalizer: the labels' words; empty: those of the template.
    Raises:
        RunError: a task of a kind that is not searched.
        UsageError: a template that does not fit the task, or words that do not.
    """
    if task.facts.label not in SEARCHED:
        do = "give a task whose rows have one label, choices, or a text to be written"
        raise RunError(f"no prompt is searched for a task of kind {task.kind}", where=task.name, do=do)
    language = task.language or ("zh" if any(CHINESE.search(row.text) for row in rows[:20]) else "en")
    left_to_right = getattr(backbone, "speech", "masked") == "causal"
    fitting = _fitting(task, language, left_to_right)
    given = _given_words(verbalizer, task)
    notes: tuple[str, ...] = ()
    library = [_candidate(known, task, given, f"the library's {known.name}") for known in fitting]
    if template:
        known = _with_language(open_template(template), language)
        known.template.check(task)
        if known.template.demos is not None:
            raise UsageError("a search chooses the demonstrations itself", do="leave {demos} out of --template")
        start = _candidate(known, task, given, f"given: {known.name or 'a template'}")
    else:
        start = library[0] if library else _candidate(_plain(task, language), task, given, "no template")
        notes = (f"edits begin with {start.origin}: {start.template!r}",)
    plain = replace(_candidate(_plain(task, language), task, given, "no template"), words=start.words)
    words = backbone.lone_words() if hasattr(backbone, "lone_words") else {}
    space = Space(task, rows, start, tuple(library), plain, language, left_to_right, bool(given), words)
    return space, notes


def _given_words(verbalizer: str, task: Task) -> dict[str, tuple[str, ...]]:
    if verbalizer and not task.facts.one_class:
        do = "leave --verbalizer out"
        raise UsageError(f"the rows of a task of kind {task.kind} have no labels that words stand for", do=do)
    if verbalizer == AUTO:
        do = "leave it out and name the algorithm label-words, or write label=word|word,label=word"
        raise UsageError("search takes no --verbalizer auto", do=do)
    return labels_words(verbalizer, task)


def _fitting(task: Task, language: str, left_to_right: bool) -> list[KnownTemplate]:
    """The library's templates for a task, those of its family and those that know most of its labels first."""
    known = templates(language=language if language in ("en", "zh") else "en", kind=task.kind)
    fits = []
    for entry in known:
        try:
            entry.template.check(task)
        except UsageError:
            continue
        if entry.left_to_right or not left_to_right:
            fits.append(entry)
    return sorted(fits, key=lambda entry: (entry.family != task.family, -_known_labels(entry, task)))


def _known_labels(known: KnownTemplate, task: Task) -> int:
    """How many of a task's labels a template has words for."""
    if not task.facts.one_class:
        return 0
    words = words_for(known, task).words
    return sum(
        words[label] != (own_words(label, description, known.language),) for label, description in task.labels.items()
    )


def _candidate(known: KnownTemplate, task: Task, given: Mapping[str, tuple[str, ...]], origin: str) -> Candidate:
    if not task.facts.one_class:
        return Candidate(str(known.template), (), origin=origin)
    words = given or words_for(known, task).words
    return Candidate(str(known.template), tuple((label, tuple(words[label])) for label in task.classes), origin=origin)


def _plain(task: Task, language: str) -> KnownTemplate:
    return KnownTemplate(PLAIN[shape_of(task)], language=language)


def _with_language(known: KnownTemplate, language: str) -> KnownTemplate:
    return known if known.language else replace(known, language=language)
