"""A template: a prompt in words, with places for a row's texts, the answer, vectors and demonstrations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from promptgraft.errors import UsageError
from promptgraft.task.task import Example, Task
from promptgraft.template.demonstrations import answer_of
from promptgraft.template.fits import check_fits
from promptgraft.template.parse import parts_of
from promptgraft.template.parts import Blank, Demos, Field, FieldText, Filled, Soft, TemplatePart, Wording

BETWEEN_CHOICES = "; "
"""What stands between the options that `{choices}` lists: options rarely hold a semicolon."""


@dataclass(frozen=True)
class Template:
    """A text template with slots; `parse` reads it, `str` writes it, and they are inverses of each other.

    Attributes:
        parts: its words and slots in order; words beside words are joined.

    Raises:
        UsageError: two places for the answer, demonstrations twice, or demonstrations after the line that they repeat.
    """

    parts: tuple[TemplatePart, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "parts", _joined(self.parts))
        if sum(isinstance(part, Blank) for part in self.parts) > 1:
            raise UsageError("two places of the answer in the template", do="keep one {mask} (or {label})")
        places = [at for at, part in enumerate(self.parts) if isinstance(part, Demos)]
        if len(places) > 1:
            raise UsageError("{demos} twice in the template", do="keep one of them")
        if places and any(isinstance(part, Field | Blank) for part in self.parts[: places[0]]):
            demos = self.parts[places[0]]
            raise UsageError(f"{demos} stands behind what it repeats", do=f"put {demos} before the fields and {{mask}}")

    @classmethod
    def parse(cls, text: str) -> Template:
        """The template that a text describes, such as `{text} It was {mask}.`

        Raises:
            UsageError: the text is no template.
        """
        return cls(tuple(parts_of(text)))

    def __str__(self) -> str:
        return "".join(map(str, self.parts))

    @property
    def fields(self) -> frozenset[str]:
        """The names of its fields."""
        return frozenset(part.name for part in self.parts if isinstance(part, Field))

    @property
    def demos(self) -> Demos | None:
        """The slot of its demonstrations, if it has one that is not written out."""
        return next((part for part in self.parts if isinstance(part, Demos)), None)

    @property
    def has_blank(self) -> bool:
        """Whether it has a place for the answer."""
        return any(isinstance(part, Blank) for part in self.parts)

    @property
    def is_soft(self) -> bool:
        """Whether it has trained vectors."""
        return any(isinstance(part, Soft) for part in self.parts)

    @property
    def without_vectors(self) -> Template:
        """The same in words alone: those that vectors start from, and nothing for vectors that start from none."""
        words = (Wording(part.words or "") if isinstance(part, Soft) else part for part in self.parts)
        return Template(tuple(words))

    def check(self, task: Task, *, blank: bool = True) -> None:
        """Make sure that the template fits a task.

        Args:
            blank: whether it needs a place of the answer.
        Raises:
            UsageError: it does not.
        """
        check_fits(self.fields, self.has_blank, task, blank=blank)

    def filled(self, example: Example) -> Filled:
        """The template with a row in it.

        Raises:
            UsageError: its demonstrations are not written out.
        """
        parts: list[Wording | FieldText | Blank | Soft] = []
        for part in self.parts:
            if isinstance(part, Demos):
                raise UsageError(f"{part} of the template is not written out yet", do="write its demonstrations first")
            parts.append(FieldText(content(part.name, example), part.name) if isinstance(part, Field) else part)
        return tuple(parts)

    def demonstrated(
        self, demonstrations: Sequence[Example], task: Task, words: Mapping[str, str] | None = None
    ) -> list[str]:
        """Labelled examples as the line that follows `{demos}`, each with its answer.

        Words that vectors start from are written, vectors without words left out.

        Args:
            words: label -> what a demonstration says for it; a label that is not there says its name.
        Raises:
            UsageError: one without a label.
        """
        demos = self.demos
        assert demos is not None, "it has a slot of demonstrations"
        line = Template(self.parts[self.parts.index(demos) + 1 :])
        return [
            line.told(example, answer_of(example, task, words or {})).removeprefix(demos.separator.strip()).strip()
            for example in demonstrations
        ]

    def showing(self, lines: Sequence[str]) -> Template:
        """The template with these lines in the place of `{demos}`; itself where it has none.

        What stands between them also stands behind the last, where the template has neither it nor white space there.
        """
        demos = self.demos
        if demos is None:
            return self
        at = self.parts.index(demos)
        rest = self.parts[at + 1 :]
        begins = rest[0].text if rest and isinstance(rest[0], Wording) else ""
        is_apart = begins[:1].isspace() or begins.startswith(demos.separator.strip() or "\n")
        shown = demos.separator.join(lines) + ("" if is_apart or not lines else demos.separator)
        return Template((*self.parts[:at], Wording(shown), *rest))

    def written_out(
        self, demonstrations: Sequence[Example], task: Task, words: Mapping[str, str] | None = None
    ) -> Template:
        """The template with labelled examples in the place of `{demos}`; itself where it has none.

        Args:
            words: as `demonstrated` takes them.
        Raises:
            UsageError: no demonstrations where there should be some, or one without a label.
        """
        if self.demos is None:
            return self
        if not demonstrations:
            raise UsageError(f"no labelled rows for {self.demos} of the template", do="give some, or take it out")
        return self.showing(self.demonstrated(demonstrations, task, words))

    def told(self, example: Example, answer: str) -> str:
        """The template as plain text, with a row and an answer in it."""
        return plain_text(self.filled(example), answer)


def plain_text(filled: Filled, answer: str) -> str:
    """A filled template as plain text without space around it; vectors show the words that they start from, if any."""
    texts: list[str] = []
    for part in filled:
        if isinstance(part, Soft) and part.words is None:
            texts[-1:] = [text.rstrip() for text in texts[-1:]]
        else:
            texts.append(answer if isinstance(part, Blank) else _words_of(part))
    return "".join(texts).strip()


def content(field: str, example: Example) -> str:
    """What a row has for a field."""
    if field == "choices":
        return BETWEEN_CHOICES.join(example.choices)
    return (example.pair or "") if field == "text_b" else example.text


def _words_of(part: Wording | FieldText | Soft) -> str:
    return part.text if isinstance(part, Wording | FieldText) else part.words or ""


def _joined(parts: Sequence[TemplatePart]) -> tuple[TemplatePart, ...]:
    """The parts with neighbouring words in one, and none without a character."""
    joined: list[TemplatePart] = []
    for part in parts:
        if isinstance(part, Wording):
            if not part.text:
                continue
            if joined and isinstance(last := joined[-1], Wording):
                joined[-1] = Wording(last.text + part.text)
                continue
        joined.append(part)
    return tuple(joined)
