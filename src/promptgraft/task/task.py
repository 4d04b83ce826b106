"""The task: examples, what kind they are, their labels and their metric, in splits."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from promptgraft.sheet import Sheet, first_few
from promptgraft.task.kinds import KINDS, KindFacts
from promptgraft.task.kinds import Kind as Kind

SPLITS = ("train", "validation", "test")
SHOWN = 3
"""How many examples, and parts of an example, a task's representation shows."""
BY_LANGUAGE = frozenset({"em_f1", "rougeL", "rouge1", "rouge2", "bleu"})
"""Metrics that read an answer by the rules of its language."""


@dataclass(frozen=True, slots=True)
class Answers:
    """Gold answers of a span example: equal-length texts and their first characters in the context."""

    texts: tuple[str, ...]
    starts: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class References:
    """What may be written for an example: one text or several, the first of which is learned from."""

    texts: tuple[str, ...]


Label = str | float | tuple[str, ...] | Answers | References


@dataclass(frozen=True, slots=True)
class Example:
    """One row of a task.

    | kind           | text            | pair              | choices | tokens | label                     |
    | classification | the text        |                   |         |        | label name                |
    | multilabel     | (first) text    | second or None    |         |        | names, sorted; may be ()  |
    | pair           | first text      | second text       |         |        | label name                |
    | regression     | (first) text    | second or None    |         |        | float                     |
    | choice         | text + question |                   | options |        | the right option's text   |
    | tagging        |                 |                   |         | words  | a tag a word              |
    | span           | question        | context           |         |        | Answers                   |
    | text           | (first) text    | second or None    |         |        | References                |

    `label` is None on rows without a label.
    """

    text: str = ""
    pair: str | None = None
    choices: tuple[str, ...] = ()
    tokens: tuple[str, ...] = ()
    label: Label | None = None

    @property
    def blank(self) -> bool:
        """Whether there is nothing to read."""
        return not any(part.strip() for part in (self.text, self.pair or "", *self.tokens))

    @property
    def every_text(self) -> str:
        """All that there is to read, one after the other."""
        return " ".join(part for part in (self.text, self.pair or "", *self.choices, *self.tokens) if part)


@dataclass(frozen=True, repr=False)
class Task:
    """Examples in splits, with their kind, labels and metric. Immutable: a change makes a new task.

    Attributes:
        labels: label (or tag) name -> description, in the order of class indices;
            empty for regression, choice, span and text. A label without a description has its name as description.
        positive: the positive class, where `metric = "f1"` is the F1 of one class.
        splits: split name -> examples; a split without rows is absent.
        notes: what was inferred, cut, split off or dropped; printed once by the caller.
        columns: role (text, pair, question, choices, label) -> column of the file it was read from, so that
            a later file with the same columns is read in the same way.
        separator: the separator of a row's labels in the file (multilabel); None if they were lists or columns.
    """

    name: str
    kind: Kind
    metric: str
    labels: Mapping[str, str]
    splits: Mapping[str, tuple[Example, ...]]
    positive: str | None = None
    language: str | None = None
    family: str | None = None
    licence: str | None = None
    source: str | None = None
    notes: tuple[str, ...] = field(default=(), compare=False)
    columns: Mapping[str, str] = field(default_factory=dict, compare=False)
    separator: str | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        rows = {split: examples for split, examples in self.splits.items() if examples}
        object.__setattr__(self, "splits", rows)

    def __repr__(self) -> str:
        return self._sheet().text()

    def _repr_html_(self) -> str:
        return self._sheet().html()

    def _sheet(self) -> Sheet:
        rows = ", ".join(f"{len(examples):,} {split}" for split, examples in self.splits.items())
        facts = [f"rows: {rows or 'none'}"]
        if self.labels:
            facts.append(f"classes: {first_few(self.classes)}")
        if self.columns:
            facts.append(f"columns: {first_few([f'{role} = {name}' for role, name in self.columns.items()])}")
        if self.notes:
            facts.append(f"notes: {len(self.notes)}, in .notes")
        first = next(iter(self.splits.values()), ())[:SHOWN]
        return Sheet(
            f"Task {self.name}: {self.kind}, {self.metric}",
            tuple(facts),
            ("label", "text") if first else (),
            [(_plain(example.label), example.text or " ".join(example.tokens[:SHOWN])) for example in first],
        )

    @property
    def facts(self) -> KindFacts:
        """What holds for every task of this kind."""
        return KINDS[self.kind]

    @property
    def train(self) -> tuple[Example, ...]:
        return self.splits.get("train", ())

    @property
    def validation(self) -> tuple[Example, ...]:
        return self.splits.get("validation", ())

    @property
    def test(self) -> tuple[Example, ...]:
        return self.splits.get("test", ())

    @property
    def classes(self) -> tuple[str, ...]:
        """Label names by class index."""
        return tuple(self.labels)

    def noted(self, *notes: str) -> Task:
        """A copy with more notes."""
        return dataclasses.replace(self, notes=(*self.notes, *notes))

    def replace(self, **changes: object) -> Task:
        """A copy with other values."""
        return dataclasses.replace(self, **changes)  # type: ignore[arg-type]

    @cached_property
    def fingerprint(self) -> str:
        """sha256 over kind, labels, metric, all examples, and the language where the metric's rule depends on it.

        Results are keyed by it.
        """
        language = [self.language] if self.metric in BY_LANGUAGE and self.language else []
        labels = (f"{name}\x1f{description}" for name, description in self.labels.items())
        head = [self.kind, self.metric, self.positive or "", *language, *labels]
        rows = (f"{split}\x1e{row}" for split in SPLITS for row in self.splits.get(split, ()))
        return content_hash([*head, *rows])


def _plain(label: Label | None) -> str:
    """A label as the text of one table cell."""
    if isinstance(label, Answers | References):
        return first_few(label.texts, SHOWN)
    return first_few(label, SHOWN) if isinstance(label, tuple) else "" if label is None else str(label)


def content_hash(parts: Iterable[str]) -> str:
    """sha256 (hex) of strings, kept apart so that no two lists collide."""
    digest = hashlib.sha256()
    for part in parts:
        raw = part.encode("utf-8", "surrogatepass")
        digest.update(len(raw).to_bytes(8, "little"))
        digest.update(raw)
    return digest.hexdigest()
