"""Many templates over the same rows become tokens from parts that are read once, put together as arrays."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import pairwise

import numpy as np
import torch
from jaxtyping import Bool, Int

from promptgraft.errors import UsageError
from promptgraft.model.filled import FilledReader
from promptgraft.model.joints import Joint, joint_of
from promptgraft.model.stretches import Passage, Slot
from promptgraft.model.tokenize import CHARACTERS_A_TOKEN, MARGIN
from promptgraft.model.tokens import Tokens
from promptgraft.task.draws import Array
from promptgraft.task.task import Example
from promptgraft.template.parts import FIELDS, Blank, FieldText
from promptgraft.template.template import Template, content

SAMPLE = Example(text="x", pair="x", choices=("x",))
"""A row like all whose contents compose."""
EDGE = ""
"""What a joint is asked about where a field's content begins or ends."""
UNREAD = -1

Ids = tuple[int, ...]
Contents = Callable[[int], Sequence[str]]
"""Gives a row's contents of the fields of a template."""


@dataclass(frozen=True, slots=True)
class ContentPlace:
    """The place of a field's content: the field, and which of its template's fields it is."""

    field: str
    number: int


@dataclass(frozen=True, slots=True)
class JointPart:
    """What lies between two joints of a filled template: words alone, or with the contents of fields.

    Attributes:
        goes_on: other words stand before it.
    """

    texts: tuple[str | ContentPlace, ...]
    goes_on: bool

    @property
    def is_fixed(self) -> bool:
        """Whether it is the same for all rows."""
        return all(isinstance(text, str) for text in self.texts)

    def of(self, contents: Sequence[str]) -> str:
        """Its text for a row with these contents of fields."""
        return "".join(text if isinstance(text, str) else contents[text.number] for text in self.texts)


@dataclass(frozen=True)
class TemplatePlan:
    """How the sequences of a template are put together.

    Attributes:
        parts: tokens that are known, and parts that are to be read; empty where the template does not compose.
        fields: of the contents, in their order.
        blank: which part is the token that is read; None where that is the last token.
    """

    template: Template
    parts: tuple[JointPart | Ids, ...]
    fields: tuple[str, ...]
    blank: int | None

    @classmethod
    def of(cls, template: Template, reader: FilledReader, joint: Joint | None) -> TemplatePlan:
        """The plan of a template.

        Raises:
            UsageError: the model cannot read it.
        """
        filled = template.filled(SAMPLE)
        fields = tuple(part.field for part in filled if isinstance(part, FieldText))
        before, after = reader.around
        parts: list[JointPart | Ids] = [before]
        blank, number = None, 0
        for stretch in reader.stretches_of(filled):
            if isinstance(stretch, Slot):
                if isinstance(stretch.part, Blank) and reader.speech == "masked":
                    blank = len(parts)
                parts.append(tuple(reader.slot_tokens(stretch).ids))
            elif joint is not None:
                parts += parts_between(stretch, joint, number)
                number += sum(isinstance(part, FieldText) for part in stretch.parts)
        composes = joint is not None and (blank is not None or reader.speech != "masked")
        return cls(template, (*parts, after) if composes else (), fields, blank)

    @cached_property
    def row_parts(self) -> tuple[JointPart, ...]:
        """The parts that differ from row to row."""
        return tuple(part for part in self.parts if isinstance(part, JointPart) and not part.is_fixed)

    @cached_property
    def words(self) -> tuple[JointPart, ...]:
        """The parts to be read that are the same for all rows."""
        return tuple(part for part in self.parts if isinstance(part, JointPart) and part.is_fixed)


def parts_between(passage: Passage, joint: Joint, number: int) -> list[JointPart]:
    """A passage, cut at the joints that are nearest to the contents of its fields.

    Args:
        number: of the template's fields those that stand before it.
    """
    groups: list[list[str | ContentPlace]] = [[]]
    for at, part in enumerate(passage.parts):
        if isinstance(part, FieldText):
            groups[-1].append(ContentPlace(part.field, number))
            number += 1
            continue
        cuts = nearest_joints(part.text, joint, follows=at > 0, followed=at + 1 < len(passage.parts))
        first, *rest = [part.text[start:end] for start, end in pairwise((0, *cuts, len(part.text)))]
        groups[-1].append(first)
        groups += [[text] for text in rest]
    texts = [tuple(text for text in group if text) for group in groups]
    full = [group for group in texts if group]
    return [JointPart(group, passage.goes_on or place > 0) for place, group in enumerate(full)]


def nearest_joints(text: str, joint: Joint, *, follows: bool, followed: bool) -> list[int]:
    """The joints of a template's words that are nearest to the contents before and behind them, where there are some.

    Args:
        follows, followed: whether contents stand there.
    """
    places = [
        place
        for place in range(0 if follows else 1, len(text) + followed)
        if joint(text[place - 1] if place else EDGE, text[place] if place < len(text) else EDGE)
    ]
    return sorted({*(places[:1] if follows else ()), *(places[-1:] if followed else ())})


@dataclass
class PartTokens:
    """The tokens of a part for the rows that it was read for, end to end.

    Attributes:
        first, length: of each row; a length of -1 where it was not read yet.
    """

    first: Int[Array, "B"]
    length: Int[Array, "B"]
    ids: Int[Array, "T"] = field(default_factory=lambda: np.zeros(0, np.int64))

    @classmethod
    def unread(cls, rows: int) -> PartTokens:
        """Of so many rows, none of which was read yet."""
        return cls(np.zeros(rows, np.int64), np.full(rows, UNREAD))

    def add(self, rows: Int[Array, "N"], read: Sequence[Sequence[int]]) -> None:
        """Note the tokens of rows."""
        lengths = np.array([len(ids) for ids in read], np.int64)
        self.first[rows] = len(self.ids) + lengths.cumsum() - lengths
        self.length[rows] = lengths
        self.ids = np.concatenate([self.ids, *(np.array(ids, np.int64) for ids in read)])


@dataclass
class CutRows:
    """Rows that are cut so that they fit.

    Attributes:
        texts: row -> what is left of its contents; none where one of them is empty, so that the template reads
            otherwise.
    """

    texts: dict[int, tuple[str, ...]] = field(default_factory=dict)
    parts: dict[JointPart, PartTokens] = field(default_factory=dict)


@dataclass
class TokenPool:
    """Arrays of tokens end to end, each once."""

    arrays: list[Int[Array, "T"]] = field(default_factory=list)
    size: int = 0
    _starts: dict[int, int] = field(default_factory=dict)

    def start(self, ids: Int[Array, "T"]) -> int:
        """Where an array begins."""
        if id(ids) not in self._starts:
            self._starts[id(ids)] = self.size
            self.arrays.append(ids)
            self.size += len(ids)
        return self._starts[id(ids)]


@dataclass(frozen=True)
class LaidRows:
    """Where the tokens of a template's sequences lie in a pool.

    Attributes:
        first, length: of each part of each sequence.
        mark: of each sequence the index of the token that is read.
        cut: how many sequences were cut.
    """

    first: Int[Array, "P N"]
    length: Int[Array, "P N"]
    mark: Int[Array, "N"]
    cut: int

    @classmethod
    def of(cls, parts: int, rows: int) -> LaidRows:
        """For so many parts of so many sequences, nothing yet."""
        first, length = np.zeros((2, parts, rows), np.int64)
        return cls(first, length, np.zeros(rows, np.int64), 0)


class TemplateTokenizer:
    """Tokenises many templates over the same rows, to the tokens that each would have alone.

    The contents of rows and the words of templates are read once each, up to the nearest joints; numpy puts them
    together. A row whose content begins or ends with a space, and every row under a tokenizer whose joints are not
    known, is read in its template as a whole.

    Args:
        limit: tokens of a sequence at most.
    """

    def __init__(self, reader: FilledReader, examples: Sequence[Example], limit: int) -> None:
        self.reader, self.examples, self.limit = reader, tuple(examples), limit
        tokenizer = reader.tokenizer
        self._joint = None if tokenizer.convert is not None else joint_of(reader.plain.engine)
        self._plans: dict[str, TemplatePlan] = {}
        self._words: dict[JointPart, Int[Array, "T"]] = {}
        self._read: dict[JointPart, PartTokens] = {}
        self._cut: dict[tuple[tuple[JointPart, ...], int], CutRows] = {}
        self._known = {ids: np.array(ids, np.int64) for ids in reader.around}

    @cached_property
    def _composes(self) -> dict[str, Bool[Array, "B"]]:
        """Field -> which rows' contents begin and end with no space, and are not longer than what is read at first."""
        most = CHARACTERS_A_TOKEN * (self.limit + MARGIN)
        contents = {name: [content(name, example) for example in self.examples] for name in FIELDS}
        return {
            name: np.array([bool(text) and text == text.strip() and len(text) <= most for text in texts], bool)
            for name, texts in contents.items()
        }

    def tokens(self, asked: Sequence[tuple[str, Sequence[int]]]) -> list[Tokens | UsageError]:
        """The tokens of each template with some of the rows; an error where it cannot be read."""
        plans = [self._plan(template) for template, _ in asked]
        self._learn_words(plan for plan in plans if isinstance(plan, TemplatePlan))
        pool = TokenPool()
        laid = [
            plan if isinstance(plan, UsageError) else self._laid(plan, np.array(rows, np.int64), pool)
            for plan, (_, rows) in zip(plans, asked, strict=True)
        ]
        packed = iter(self._packed([entry for entry in laid if isinstance(entry, LaidRows)], pool))
        return [entry if isinstance(entry, UsageError) else next(packed) for entry in laid]

    def _plan(self, template: str) -> TemplatePlan | UsageError:
        if template not in self._plans:
            try:
                self._plans[template] = TemplatePlan.of(Template.parse(template), self.reader, self._joint)
            except UsageError as error:
                return error
        return self._plans[template]

    def _learn_words(self, plans: Iterable[TemplatePlan]) -> None:
        """Read the words of templates that were not read before, all at once."""
        words = dict.fromkeys(part for plan in plans for part in plan.words if part not in self._words)
        for goes_on in (False, True):
            group = [part for part in words if part.goes_on is goes_on]
            read = self.reader.plain.read([part.of(()) for part in group], goes_on=goes_on)
            self._words |= {part: np.array(own.ids, np.int64) for part, own in zip(group, read, strict=True)}

    def _laid(self, plan: TemplatePlan, rows: Int[Array, "N"], pool: TokenPool) -> LaidRows | UsageError:
        """Where the tokens of a template with rows lie."""
        try:
            composed = self._composing(plan, rows)
            long, room = self._too_long(plan, rows, composed)
            cut = self._cut_rows(plan, rows[long], room)
            is_left = np.array([bool(cut.texts.get(row)) for row in rows.tolist()], bool)
            composed &= ~long | is_left
            laid = LaidRows.of(max(1, len(plan.parts)), len(rows))
            self._lay_read(laid, plan, rows, (composed & ~long, composed & long), cut, pool)
            rest = ~composed | (laid.length.sum(0) == 0)
            count = self._lay_whole(laid, plan, rows, np.flatnonzero(rest), pool)
        except UsageError as error:
            return error
        return replace(laid, cut=count + int((composed & long).sum()))

    def _composing(self, plan: TemplatePlan, rows: Int[Array, "N"]) -> Bool[Array, "N"]:
        """Which rows' tokens are those of their parts."""
        result = np.full(len(rows), bool(plan.parts))
        for name in plan.fields:
            result &= self._composes[name][rows]
        return result

    def _too_long(
        self, plan: TemplatePlan, rows: Int[Array, "N"], composed: Bool[Array, "N"]
    ) -> tuple[Bool[Array, "N"], int]:
        """Which of the rows that compose have too many tokens, and for how many of theirs there is room."""
        self._learn(self._read, plan, rows[composed], self._contents_of(plan))
        room = self.limit - sum(len(self._ids(part)) for part in plan.parts if part not in plan.row_parts)
        sizes = np.zeros(len(rows), np.int64)
        for part in plan.row_parts:
            sizes += self._read[part].length[rows]
        return composed & (sizes > room), room

    def _contents_of(self, plan: TemplatePlan) -> Contents:
        return lambda row: [content(name, self.examples[row]) for name in plan.fields]

    def _learn(
        self, known: dict[JointPart, PartTokens], plan: TemplatePlan, rows: Int[Array, "N"], contents: Contents
    ) -> None:
        """Read the parts of a plan for rows that they were not read for before."""
        for part in plan.row_parts:
            own = known.setdefault(part, PartTokens.unread(len(self.examples)))
            new = np.unique(rows[own.length[rows] == UNREAD])
            if len(new):
                texts = [part.of(contents(row)) for row in new.tolist()]
                own.add(new, [read.ids for read in self.reader.plain.read(texts, goes_on=part.goes_on)])

    def _cut_rows(self, plan: TemplatePlan, rows: Int[Array, "N"], room: int) -> CutRows:
        """Rows that are too long, cut as they are in their template; other words with as much room cut them alike.

        Raises:
            UsageError: the template alone is too long.
        """
        cut = self._cut.setdefault((plan.row_parts, room), CutRows())
        new = [row for row in rows.tolist() if row not in cut.texts]
        if new:
            filled = [plan.template.filled(self.examples[row]) for row in new]
            for row, read in zip(new, self.reader.rows(filled, self.limit), strict=True):
                cut.texts[row] = read.texts if all(read.texts) else ()
        left = np.array([row for row in rows.tolist() if cut.texts[row]], np.int64)
        self._learn(cut.parts, plan, left, cut.texts.__getitem__)
        return cut

    def _ids(self, part: JointPart | Ids) -> Int[Array, "T"]:
        """The tokens of a part that is the same for all rows."""
        if isinstance(part, JointPart):
            return self._words[part]
        if part not in self._known:
            self._known[part] = np.array(part, np.int64)
        return self._known[part]

    def _lay_read(
        self,
        laid: LaidRows,
        plan: TemplatePlan,
        rows: Int[Array, "N"],
        chosen: tuple[Bool[Array, "N"], Bool[Array, "N"]],
        cut: CutRows,
        pool: TokenPool,
    ) -> None:
        """Lay the parts of rows.

        Args:
            chosen: which rows are whole, and which are cut.
        """
        for place, part in enumerate(plan.parts):
            if not isinstance(part, JointPart) or part.is_fixed:
                ids = self._ids(part)
                laid.first[place] = pool.start(ids)
                laid.length[place] = np.where(chosen[0] | chosen[1], len(ids), 0)
                continue
            for known, own in zip((self._read, cut.parts), chosen, strict=True):
                if own.any():
                    tokens = known[part]
                    laid.first[place, own] = pool.start(tokens.ids) + tokens.first[rows[own]]
                    laid.length[place, own] = tokens.length[rows[own]]
        laid.mark[:] = laid.length.sum(0) - 1 if plan.blank is None else laid.length[: plan.blank].sum(0)

    def _lay_whole(
        self, laid: LaidRows, plan: TemplatePlan, rows: Int[Array, "N"], places: Int[Array, "M"], pool: TokenPool
    ) -> int:
        """Lay rows that are read in their template as a whole; how many of them are cut.

        Raises:
            UsageError: the template is too long for one, or nothing stands before its answer.
        """
        if not len(places):
            return 0
        read = self.reader.rows([plan.template.filled(self.examples[row]) for row in rows[places]], self.limit)
        laid.length[:, places] = 0
        for place, row in zip(places.tolist(), read, strict=True):
            ids = np.array(row.ids, np.int64)
            laid.first[0, place], laid.length[0, place] = pool.start(ids), len(ids)
            laid.mark[place] = UNREAD if row.mark is None else row.mark
        return sum(row.is_cut for row in read)

    def _packed(self, laid: Sequence[LaidRows], pool: TokenPool) -> list[Tokens]:
        """The tokens of several templates, taken from a pool in one go."""
        if not laid:
            return []
        first, length = (
            np.concatenate([getattr(entry, name).T.ravel() for entry in laid]) for name in ("first", "length")
        )
        shift = first - length.cumsum() + length
        ids = np.concatenate(pool.arrays)[np.arange(length.sum()) + shift.repeat(length)]
        sizes = [entry.length.sum(0) for entry in laid]
        starts = np.concatenate([[0], np.concatenate(sizes).cumsum()])
        types = self._types(starts, len(ids))
        result, at = [], 0
        for entry, own in zip(laid, sizes, strict=True):
            begin, end = starts[at], starts[at + len(own)]
            result.append(
                Tokens(
                    ids=torch.from_numpy(ids[begin:end]),
                    types=torch.from_numpy(types[begin:end]),
                    starts=torch.from_numpy(starts[at : at + len(own) + 1] - begin),
                    rows=torch.arange(len(own) + 1),
                    cut=entry.cut,
                    marks=None if (entry.mark == UNREAD).any() else torch.from_numpy(entry.mark),
                )
            )
            at += len(own)
        return result

    def _types(self, starts: Int[Array, "S_plus_1"], count: int) -> Int[Array, "T"]:
        """The segment ids of tokens: those of the special tokens around each sequence, and of texts."""
        frame = self.reader.tokenizer.frames.single
        before, after = (kinds[: len(gap)] for kinds, gap in zip(frame.gap_types, self.reader.around, strict=True))
        types = np.full(count, frame.text_types[0], np.int64)
        for place, kind in enumerate(before):
            types[starts[:-1] + place] = kind
        for place, kind in enumerate(reversed(after), 1):
            types[starts[1:] - place] = kind
        return types
