"""A candidate is what an algorithm proposes: a template with the words of the labels, rows to show, or vectors."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from promptgraft.prompt.prompt import Prompt
from promptgraft.task.task import Example, Task, content_hash
from promptgraft.template.demonstrations import answer_of
from promptgraft.template.template import Template

Words = tuple[tuple[str, tuple[str, ...]], ...]
"""Of every label, in the order of the classes, the words that stand for it."""


@dataclass(frozen=True)
class Candidate:
    """A prompt that a search may give.

    Attributes:
        template: its text; with `{demos:N}` where it shows rows.
        words: of every label those that stand for it; none where rows have their own answers.
        shown: numbers of the search rows that it shows, in their order.
        vectors: a prompt beside the words; None for words alone.
        origin: how it came about, for the record of a search.
    """

    template: str
    words: Words
    shown: tuple[int, ...] = ()
    vectors: Prompt | None = field(default=None, compare=False)
    origin: str = field(default="", compare=False)

    @cached_property
    def key(self) -> str:
        """A hash over all that decides what it scores."""
        words = (text for label, own in self.words for text in (label, *own, ""))
        return content_hash([self.template, *words, repr(self.shown), _content(self.vectors)])[:24]

    @property
    def verbalizer(self) -> str:
        """Its words as `--verbalizer` takes them."""
        return ",".join(f"{label}={'|'.join(own)}" for label, own in self.words)

    @property
    def answers(self) -> tuple[str, ...]:
        """What each label says: its first word."""
        return tuple(self._first_words.values())

    def answer_of(self, example: Example, task: Task) -> str:
        """What a row's label says: its first word, the option, or the text to be written."""
        return answer_of(example, task, self._first_words)

    @property
    def _first_words(self) -> Mapping[str, str]:
        return {label: own[0] for label, own in self.words}

    def written_out(self, task: Task, pool: Sequence[Example], without: int | None = None) -> str:
        """The template with the rows that it shows written out.

        Args:
            pool: the search rows.
            without: a row that is not shown, since it is the one that is asked about.
        """
        template = Template.parse(self.template)
        demos = template.demos
        if demos is None:
            return self.template
        rows = [pool[row] for row in self.shown if row != without]
        if rows:
            return str(template.written_out(rows, task, self._first_words))
        at = template.parts.index(demos)
        return str(Template((*template.parts[:at], *template.parts[at + 1 :])))


def _content(vectors: Prompt | None) -> str:
    if vectors is None:
        return ""
    content = vectors.values.detach().float().contiguous().cpu().numpy().tobytes()
    return f"{vectors.placement} {tuple(vectors.values.shape)} {hashlib.sha256(content).hexdigest()}"
