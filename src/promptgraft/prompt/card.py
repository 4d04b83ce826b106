"""The card of an artefact: what it was tuned on, how, from what, and how well it does (schema version 1)."""

from __future__ import annotations

import importlib.metadata
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, Protocol, Self

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError

from promptgraft.errors import ArtefactError
from promptgraft.prompt.reading import Encoding, Pooling, Reading
from promptgraft.task.task import Kind, Task, content_hash
from promptgraft.untrusted import read_json, visible

if TYPE_CHECKING:  # cards are listed without loading torch
    from promptgraft.prompt.prompt import Prompt

VERSION: Final = 1
MOST_MEMBERS = 32
LIBRARIES = ("promptgraft", "torch", "transformers", "tokenizers", "scikit-learn")
NO_READOUT: Final = "none"
"""The readout of an imported prompt without a head."""
LONGEST_SHOWN = 80
"""The most characters of an untrusted card that an error repeats."""
Finite = Annotated[float, Field(allow_inf_nan=False)]


class Part(BaseModel):
    """Settings shared by all parts of a card: frozen, no unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class TaskCard(Part):
    """The task an artefact was tuned on.

    Attributes:
        labels: label -> description, in the order of class indices; empty where there are no classes.
        positive: the class whose F1 is the metric.
        fingerprint: of the examples, as Task.fingerprint.
        licence, source: of the data.
        columns: role -> column of the file it was read from, so that new files are read alike; empty where unknown.
        separator: what joined the labels of a row there, for tasks of several; None where nothing did.
    """

    name: str
    kind: Kind
    metric: str
    labels: dict[str, str] = {}
    positive: str | None = None
    family: str | None = None
    language: str | None = None
    licence: str | None = None
    source: str | None = None
    fingerprint: str = ""
    columns: dict[str, str] = {}
    separator: str | None = None

    @classmethod
    def of(cls, task: Task) -> Self:
        """The card of a loaded task."""
        fields = ("name", "kind", "metric", "positive", "family", "language", "licence", "source", "separator")
        values = {field: getattr(task, field) for field in fields}
        return cls(labels=dict(task.labels), columns=dict(task.columns), fingerprint=task.fingerprint, **values)


class Identified(Protocol):
    """A backbone, as far as a card names it."""

    name: str
    family: str

    @property
    def fingerprint(self) -> str: ...


class BackboneCard(Part):
    """The frozen model an artefact belongs to.

    Attributes:
        name: catalog name or folder, for people.
        fingerprint: of its weights; what is checked at load.
        family: architecture (`bert`, `albert`, ...), where known.
        hub: its name on the Hugging Face hub, and the revision there, where known.
    """

    name: str
    fingerprint: str
    family: str | None = None
    hub: str | None = None
    revision: str | None = None

    @classmethod
    def of(cls, backbone: Identified, *, hub: str | None = None, revision: str | None = None) -> Self:
        """The card of a loaded backbone."""
        names = {"name": backbone.name, "fingerprint": backbone.fingerprint, "family": backbone.family}
        return cls(hub=hub, revision=revision, **names)


class PromptCard(Part):
    """The prompt's form.

    Attributes:
        length, width: P and E (shallow) or H (deep).
        layers: L of a deep prompt, None for a shallow one.
    """

    depth: Literal["shallow", "deep"]
    placement: Literal["after_cls", "peft", "template"]
    length: int
    width: int
    layers: int | None = None

    @classmethod
    def of(cls, prompt: Prompt) -> Self:
        """The card of a prompt."""
        layers = prompt.values.shape[0] if prompt.depth == "deep" else None
        width = prompt.values.shape[-1]
        return cls(depth=prompt.depth, placement=prompt.placement, length=prompt.length, width=width, layers=layers)

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the values on disk."""
        return (self.length, self.width) if self.layers is None else (self.layers, 2, self.length, self.width)


class SplitScore(Part):
    """The task's metric on one split.

    Attributes:
        low, high: 95 % interval over the rows; None where it was not computed.
        rows: how many rows were scored.
    """

    value: Finite
    low: Finite | None = None
    high: Finite | None = None
    rows: int


class Origin(Part):
    """An artefact this one came from.

    Attributes:
        role: what it gave: its prompt (`source`), its answers (`teacher`), or all but what was added (`extended`).
        licence: of its data, where its card says it.
    """

    role: Literal["source", "teacher", "extended"]
    name: str
    hash: str
    licence: str | None = None


class SearchCard(Part):
    """The search that found an artefact's words.

    Attributes:
        model: that they were searched with.
        passes: its budget that was spent.
        choosing, report: the metric on the rows that chose them, and on rows that nothing had seen.
    """

    algorithm: str
    model: str = ""
    passes: int
    choosing: SplitScore
    report: SplitScore


class MemberCard(Part):
    """A model whose scores are added to the artefact's own: its prompt's form (None: no prompt), and its reading.

    Attributes:
        encoding, readout, backbone: None: those of the artefact.
    """

    prompt: PromptCard | None = None
    pooling: Pooling
    encoding: Encoding | None = None
    template: str | None = None
    answers: tuple[str, ...] = ()
    readout: str | None = None
    backbone: BackboneCard | None = None

    def reading(self, encoding: Encoding) -> Reading:
        """How its rows are shown and read.

        Args:
            encoding: of pairs, where the card of the member does not say.
        """
        return Reading(self.pooling, self.encoding or encoding, self.template, self.answers)


def card_of(reading: Reading) -> dict[str, Any]:
    """A reading as fields of a card; its pool of labelled rows lies among the tensors."""
    return {name: getattr(reading, name) for name in ("pooling", "encoding", "template", "answers")}


def library_versions() -> dict[str, str]:
    """Versions of the libraries whose behaviour a result depends on."""
    versions = {}
    for name in LIBRARIES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def now() -> datetime:
    """The current time in UTC, to the second."""
    return datetime.now(UTC).replace(microsecond=0)


class Card(Part):
    """Everything that is known about an artefact, but its tensors.

    Attributes:
        prompt: None for artefacts without one (linear probe, model tuning).
        pooling, encoding, template, answers, readout: how rows are shown, and how hidden states become predictions.
        words: of each label the words that stood for it, where words were read.
        others: models whose scores are added to those.
        method, options, recipe, seed, shots: how it was tuned; `shots` is rows a class, None for all.
        lineage: the artefacts it came from, by content hash.
        search: what found its template, or the words that it started from; None where none did.
        scores: split -> score; test is never looked at while tuning.
        trainable: number of trained parameters.
        tensors: sha256 over the tensors beside the card; filled in when an artefact is saved.
    """

    version: Literal[1] = VERSION
    task: TaskCard
    backbone: BackboneCard
    prompt: PromptCard | None = None
    pooling: Pooling
    encoding: Encoding = "cross"
    template: str | None = None
    answers: tuple[str, ...] = ()
    readout: str
    words: dict[str, tuple[str, ...]] = {}
    others: tuple[MemberCard, ...] = Field(default=(), max_length=MOST_MEMBERS)
    method: str
    options: dict[str, JsonValue] = {}
    recipe: dict[str, JsonValue] = {}
    seed: int = 0
    shots: int | None = None
    lineage: tuple[Origin, ...] = ()
    search: SearchCard | None = None
    scores: dict[str, SplitScore] = {}
    trainable: int = 0
    seconds: Finite = 0.0
    versions: dict[str, str] = Field(default_factory=library_versions)
    created: datetime = Field(default_factory=now)
    tensors: str = ""

    @property
    def reading(self) -> Reading:
        """How rows are shown and read."""
        return Reading(self.pooling, self.encoding, self.template, self.answers)

    @property
    def hash(self) -> str:
        """Content hash over the tensors and the card, without its date, its seconds and its versions."""
        meaning = self.model_dump(mode="json", exclude={"created", "seconds", "versions"})
        # The order of labels is that of the classes; the order of all other keys means nothing.
        meaning["task"]["labels"] = list(self.task.labels.items())
        # Cards of before there were these fields keep their hash.
        if not self.task.columns:
            del meaning["task"]["columns"]
        if self.task.separator is None:
            del meaning["task"]["separator"]
        for name in ("others", "words", "search"):
            if not meaning[name]:
                del meaning[name]
        for part in (meaning, *meaning.get("others", ())):
            if part["template"] is None:
                del part["template"], part["answers"]
        for member in meaning.get("others", ()):
            if member["encoding"] in (None, self.encoding):
                del member["encoding"]
            for name in ("readout", "backbone"):
                if member[name] is None:
                    del member[name]
        for origin in meaning["lineage"]:
            if origin["licence"] is None:
                del origin["licence"]
        return content_hash([json.dumps(meaning, sort_keys=True, ensure_ascii=False)])

    def to_json(self) -> str:
        """The text of card.json."""
        return self.model_dump_json(indent=2) + "\n"

    def replace(self, **changes: object) -> Self:
        """A copy with some fields changed, checked like a new card."""
        return type(self).model_validate(dict(self) | changes)


def read_card(text: str | bytes, where: str) -> Card:
    """A card from the text of card.json.

    Raises:
        ArtefactError: no JSON, a schema version this release does not know, or a field that is missing or wrong.
    """
    raw = read_json(text, where, ArtefactError)
    version = raw.get("version") if isinstance(raw, Mapping) else None
    if version != VERSION:
        newer = isinstance(version, int) and version > VERSION
        do = "install a newer promptgraft" if newer else "is this a promptgraft artefact?"
        raise ArtefactError(
            f"schema version {_excerpt(version)}, this release reads version {VERSION}", where=where, do=do
        )
    try:
        return Card.model_validate_json(text)
    except ValidationError as error:
        raise ArtefactError(_first_mistake(error), where=where, do="restore the file or tune again") from None


def _first_mistake(error: ValidationError) -> str:
    mistakes = error.errors(include_url=False)
    first = mistakes[0]
    remainder = f" (and {len(mistakes) - 1} more)" if len(mistakes) > 1 else ""
    place = ".".join(map(str, first["loc"])) or "card"
    return f"{_excerpt(place)}: {visible(first['msg'])}{remainder}"


def _excerpt(value: object) -> str:
    """A value of an untrusted card, cut short and safe to show."""
    return visible(str(value))[:LONGEST_SHOWN]


def schema() -> str:
    """The JSON schema of card.json, as kept in docs/card.schema.json."""
    content = Card.model_json_schema(mode="validation")
    return json.dumps({"$schema": "https://json-schema.org/draft/2020-12/schema", **content}, indent=2) + "\n"
