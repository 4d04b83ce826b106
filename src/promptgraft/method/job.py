"""A job is task x backbone x method x source x shots x seed x recipe, with an id made from its content."""

from __future__ import annotations

import dataclasses
import json
import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

from promptgraft.bank.record import Service
from promptgraft.errors import BankError
from promptgraft.method.options import hyphened, text_of
from promptgraft.prompt.artefact import Artefact
from promptgraft.prompt.card import Card
from promptgraft.prompt.reading import Reading
from promptgraft.task.task import Example, Task, content_hash
from promptgraft.train.recipe import Recipe

ValidationFrom = Literal["extra", "within"]
"""Where validation rows come from: they are drawn beside the labelled rows, or taken out of them."""


WHOLE = -1
"""The part of a cross-validation that no row is in."""


@dataclass(frozen=True, eq=False)
class Source:
    """A banked prompt that a job starts from.

    Attributes:
        name: for people.
        service: how it has served other tasks, where its bank has a record of it.
    """

    name: str
    artefact: Artefact
    service: Service | None = None

    @property
    def card(self) -> Card:
        """The artefact's card."""
        return self.artefact.card

    @property
    def hash(self) -> str:
        """The artefact's content hash."""
        return self.artefact.hash

    @property
    def prompt_digest(self) -> str | None:
        """The digest of its prompt; None where it has none."""
        return None if self.artefact.prompt is None else self.artefact.prompt.digest

    @property
    def reading(self) -> Reading:
        """How rows are shown under it."""
        return self.artefact.reading


class StoredSource(Source):
    """A source whose artefact lies in its bank, and is read again when it is asked for and no one holds it.

    So a bank of any size takes little memory.

    Args:
        first: the artefact as it was read and checked.
        read: reads it again.
    """

    def __init__(self, name: str, first: Artefact, service: Service | None, read: Callable[[], Artefact]) -> None:
        prompt = None if first.prompt is None else first.prompt.digest
        known = {"name": name, "service": service, "_card": first.card, "_hash": first.hash, "_prompt": prompt}
        for attribute, value in (known | {"_read": read, "_held": weakref.ref(first)}).items():
            object.__setattr__(self, attribute, value)

    @property
    def artefact(self) -> Artefact:
        """The artefact, from the bank's folder where no one holds it.

        Raises:
            BankError: another one lies in its place by now.
        """
        held: Artefact | None = self._held()  # type: ignore[attr-defined]
        if held is None:
            held = self._read()  # type: ignore[attr-defined]
            if held.hash != self.hash:
                raise BankError(f"{self.name} was replaced while it was in use", do="run it again")
            object.__setattr__(self, "_held", weakref.ref(held))
        return held

    @property
    def card(self) -> Card:
        return self._card  # type: ignore[attr-defined, no-any-return]

    @property
    def hash(self) -> str:
        return self._hash  # type: ignore[attr-defined, no-any-return]

    @property
    def prompt_digest(self) -> str | None:
        return self._prompt  # type: ignore[attr-defined, no-any-return]

    @property
    def reading(self) -> Reading:
        """How rows are shown under it; what it may show of labelled rows stands in the artefact."""
        return self.card.reading if self.card.template is None else self.artefact.reading


@dataclass(frozen=True, eq=False)
class Job:
    """One thing to compute. Equal content gives an equal id, whatever file names it came from.

    Attributes:
        backbone: fingerprint of the backbone.
        shots: rows a class; None uses the whole training split.
        options: of the method, by name, as text; other values are turned into it. `check` holds them to what the
            method takes.
        unlabelled: target text without labels, for terms that can use it.
        bank: prompts to choose from, for methods that weigh all of them.
        validation_from: `extra`: few-shot draws bring as many validation rows as training rows, and of a whole file its
            validation split serves nothing else. `within`: the labelled rows are everything there is; a method that
            needs validation takes it out of them, all others train on every row.
        part: of a cross-validation: rows of classes are dealt into parts (`readout.probe.deal_labels`), this one is
            left out of training, and there are no other rows; WHOLE leaves none out. None: the job is no part of one.
    """

    task: Task
    backbone: str
    method: str
    seed: int
    recipe: Recipe
    shots: int | None = None
    source: Source | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    unlabelled: tuple[Example, ...] = ()
    bank: tuple[Source, ...] = ()
    validation_from: ValidationFrom = "extra"
    part: int | None = None

    def __post_init__(self) -> None:
        options = {hyphened(name): text_of(value) for name, value in self.options.items()}
        object.__setattr__(self, "options", options)

    def replace(self, **changes: object) -> Job:
        """A copy of the job with other values."""
        return dataclasses.replace(self, **changes)  # type: ignore[arg-type]

    @cached_property
    def id(self) -> str:
        """Sixteen hex digits of a hash over everything that decides the result."""
        return content_hash([json.dumps(self.describe(), sort_keys=True)])[:16]

    def describe(self) -> dict[str, object]:
        """The job as plain values; its id is made of them, and they are written beside its result."""
        return {
            "task": self.task.fingerprint,
            "backbone": self.backbone,
            "method": self.method,
            "seed": self.seed,
            "shots": self.shots,
            "source": self.source.hash if self.source else None,
            "options": dict(sorted(self.options.items())),
            "recipe": self.recipe.plain(),
            "unlabelled": content_hash(map(str, self.unlabelled)) if self.unlabelled else None,
            **({"bank": sorted(source.hash for source in self.bank)} if self.bank else {}),
            **({"validation_from": self.validation_from} if self.validation_from != "extra" else {}),
            **({"part": self.part} if self.part is not None else {}),
            **({"record": self._record()} if any(source.service for source in self.bank) else {}),
            **({"name": self.task.name} if self._is_recorded else {}),
            **({"language": self.task.language} if self.task.language and self._reads_words else {}),
        }

    def _record(self) -> str:
        """A hash of what is known of the bank's prompts."""
        known = {source.hash: source.service.model_dump_json() for source in self.bank if source.service}
        return content_hash([json.dumps(known, sort_keys=True)])

    @property
    def _reads_words(self) -> bool:
        """Whether words stand for labels, which ones depending on the task's language."""
        return bool(self.recipe.template or (self.source is not None and self.source.card.template))

    @property
    def _is_recorded(self) -> bool:
        """Whether the bank's record has a task of this name, whose gains do not count for the job."""
        return any(self.task.name in source.service.tasks for source in self.bank if source.service)

    @property
    def label(self) -> str:
        """The job's name in tables, the same for all seeds."""
        return row_label(self.method, self.options)


def row_label(method: str, options: Mapping[str, object]) -> str:
    """The method with its options: `pot:label-text`, `panda:released:weight=0`."""
    shown = [(name, text_of(value)) for name, value in sorted(options.items()) if name != "label-map"]
    parts = [value if value.replace("-", "").isalpha() else f"{name}={value}" for name, value in shown]
    return ":".join([method, *parts])
