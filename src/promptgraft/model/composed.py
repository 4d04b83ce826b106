"""Many templates over the same rows become tokens from parts that are read once, put together as arrays."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Bool, Int

from promptgraft.errors import UsageError
from promptgraft.model.filled import FilledReader, lead_of
from promptgraft.model.joints import joint_of
from promptgraft.model.template_plan import Ids, JointPart, TemplatePlan
from promptgraft.model.tokenize import CHARACTERS_A_TOKEN, MARGIN
from promptgraft.model.tokens import Tokens, with_answers
from promptgraft.task.draws import Array
from promptgraft.task.task import Example
from promptgraft.template.parts import FIELDS
from promptgraft.template.template import Template, content

UNREAD = -1

Contents = Callable[[int], Sequence[str]]
"""Gives a row's contents of the fields of a template."""


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
        answers: the tokens of each answer that every sequence is read with.
    """

    first: Int[Array, "P N"]
    length: Int[Array, "P N"]
    mark: Int[Array, "N"]
    cut: int
    answers: tuple[Ids, ...] = ()

    @classmethod
    def of(cls, parts: int, rows: int) -> LaidRows:
        """For so many parts of so many sequences, nothing yet."""
        first, length = np.zeros((2, parts, rows), np.int64)
        return cls(first, length, np.zeros(rows, np.int64), 0)


@dataclass(frozen=True)
class ReadAnswers:
    """The tokens of the answers that rows are read with.

    Attributes:
        cut: whether one of them is longer than an answer may be.
    """

    texts: tuple[str, ...] = ()
    ids: tuple[Ids, ...] = ()
    cut: bool = False

    @property
    def longest(self) -> int:
        """Tokens of the longest."""
        return max(map(len, self.ids), default=0)

    @property
    def of_each(self) -> list[Sequence[str]] | None:
        """The answers of one row, as they are asked for; None without any."""
        return [self.texts] if self.texts else None


class TemplateTokenizer:
    """Tokenises many templates over the same rows, to the tokens that each would have alone.

    The contents of rows, the words of templates and answers are read once each, up to the nearest joints; numpy puts
    them together. Read in their template as a whole are rows with an empty content (there are few, and what stands
    around it then meets), rows whose content ends where no joint is known to be, and all rows under a tokenizer whose
    joints are not known. Rows that are cut where contents end with spaces are cut anew for each template: these spaces
    are tokens together with its words.

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
        self._answers: dict[tuple[str, tuple[str, ...]], ReadAnswers] = {}

    @cached_property
    def _contents(self) -> dict[str, list[str]]:
        """Field -> the content of each row."""
        return {name: [content(name, example) for example in self.examples] for name in FIELDS}

    @cached_property
    def _tailed(self) -> frozenset[str]:
        """The fields of which some content ends with white space."""
        return frozenset(name for name, texts in self._contents.items() if any(text[-1:].isspace() for text in texts))

    @cached_property
    def _composes(self) -> dict[str, Bool[Array, "B"]]:
        """Field -> which rows' contents end at a joint, and are not longer than what is read at first."""
        most = CHARACTERS_A_TOKEN * (self.limit + MARGIN)
        return {
            name: np.array([len(text) <= most and self._ends_well(text) for text in texts], bool)
            for name, texts in self._contents.items()
        }

    def _ends_well(self, text: str) -> bool:
        """Whether a joint lies behind the last character of a text that is no space, be there spaces or none."""
        body = text.rstrip()
        return bool(body) and self._joint is not None and self._joint(body[-1], text[len(body) :][:1] or " ")

    def tokens(
        self, asked: Sequence[tuple[str, Sequence[int]]], answers: Sequence[tuple[str, ...]] | None = None
    ) -> list[Tokens | UsageError]:
        """The tokens of each template with some of the rows; an error where it cannot be read.

        Args:
            answers: of each template the possible answers of its rows, each of which is a sequence of its own.
        """
        plans = [self._plan(template) for template, _ in asked]
        self._learn_words(plan for plan in plans if isinstance(plan, TemplatePlan))
        pool = TokenPool()
        laid = [
            plan if isinstance(plan, UsageError) else self._laid(plan, np.array(rows, np.int64), texts, pool)
            for plan, (_, rows), texts in zip(plans, asked, answers or [()] * len(asked), strict=True)
        ]
        packed = iter(self._packed([entry for entry in laid if isinstance(entry, LaidRows)], pool))
        return [next(packed) if isinstance(entry, LaidRows) else entry for entry in laid]

    def _plan(self, template: str) -> TemplatePlan | UsageError:
        if template not in self._plans:
            try:
                self._plans[template] = TemplatePlan.of(
                    Template.parse(template), self.reader, self._joint, self._tailed
                )
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

    def _laid(
        self, plan: TemplatePlan, rows: Int[Array, "N"], texts: tuple[str, ...], pool: TokenPool
    ) -> LaidRows | Tokens | UsageError:
        """Where the tokens of a template with rows lie; or these, of rows whose answers begin with other spaces."""
        try:
            if texts and self._is_uneven(plan, rows):
                filled = [plan.template.filled(self.examples[row]) for row in rows]
                return self.reader.tokens(filled, self.limit, [texts] * len(filled))
            answers = self._read_answers(plan, texts)
            composed = self._composing(plan, rows)
            long, room = self._too_long(plan, rows, composed, self.limit - answers.longest)
            cut = self._cut_rows(plan, rows[long], room, answers)
            is_left = np.array([bool(cut.texts.get(row)) for row in rows.tolist()], bool)
            composed &= ~long | is_left
            laid = LaidRows.of(max(1, len(plan.parts)), len(rows))
            self._lay_read(laid, plan, rows, (composed & ~long, composed & long), cut, pool)
            rest = ~composed | (laid.length.sum(0) == 0)
            count = self._lay_whole(laid, plan, rows, np.flatnonzero(rest), answers, pool)
        except UsageError as error:
            return error
        count = len(rows) if answers.cut else count + int((composed & long).sum())
        return replace(laid, cut=count, answers=answers.ids)

    def _is_uneven(self, plan: TemplatePlan, rows: Int[Array, "N"]) -> bool:
        """Whether answers begin with other spaces in some row, since an empty content stands before them."""
        if self.reader.speech != "causal":
            return False
        lead = lead_of(plan.filled)
        empty = [row for row in rows.tolist() if any(not self._contents[name][row].strip() for name in plan.fields)]
        return any(lead_of(plan.template.filled(self.examples[row])) != lead for row in empty)

    def _read_answers(self, plan: TemplatePlan, texts: tuple[str, ...]) -> ReadAnswers:
        """The tokens of answers in the place that a template has for them.

        Raises:
            UsageError: the model has no token for a word.
        """
        key = lead_of(plan.filled) if texts and self.reader.speech == "causal" else "", texts
        if texts and key not in self._answers:
            options, cut = self.reader.answer_tokens([plan.filled], [texts], self.limit)
            self._answers[key] = ReadAnswers(texts, tuple(map(tuple, options[0])), cut[0])
        return self._answers.get(key, ReadAnswers())

    def _composing(self, plan: TemplatePlan, rows: Int[Array, "N"]) -> Bool[Array, "N"]:
        """Which rows' tokens are those of their parts."""
        result = np.full(len(rows), bool(plan.parts))
        for name in plan.fields:
            result &= self._composes[name][rows]
        return result

    def _too_long(
        self, plan: TemplatePlan, rows: Int[Array, "N"], composed: Bool[Array, "N"], limit: int
    ) -> tuple[Bool[Array, "N"], int]:
        """Which of the rows that compose have too many tokens, and for how many of theirs there is room."""
        self._learn(self._read, plan, rows[composed], self._contents_of(plan))
        room = limit - sum(len(self._ids(part)) for part in plan.parts if part not in plan.row_parts)
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
                distinct = list(dict.fromkeys(texts))
                read = self.reader.plain.read(distinct, goes_on=part.goes_on)
                ids = {text: tokens.ids for text, tokens in zip(distinct, read, strict=True)}
                own.add(new, [ids[text] for text in texts])

    def _cut_rows(self, plan: TemplatePlan, rows: Int[Array, "N"], room: int, answers: ReadAnswers) -> CutRows:
        """Rows that are too long, cut as they are in their template; other words with as much room cut them alike.

        Raises:
            UsageError: the template alone is too long.
        """
        cut = self._cut.setdefault((plan.row_parts, room), CutRows())
        new = [row for row in rows.tolist() if row not in cut.texts]
        if new:
            filled = [plan.template.filled(self.examples[row]) for row in new]
            options = None if answers.of_each is None else answers.of_each * len(new)
            for row, read in zip(new, self.reader.rows(filled, self.limit, options), strict=True):
                cut.texts[row] = read.texts if all(map(self._ends_well, read.texts)) else ()
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
        self,
        laid: LaidRows,
        plan: TemplatePlan,
        rows: Int[Array, "N"],
        places: Int[Array, "M"],
        answers: ReadAnswers,
        pool: TokenPool,
    ) -> int:
        """Lay rows that are read in their template as a whole; how many of them are cut.

        Raises:
            UsageError: the template is too long for one.
        """
        if not len(places):
            return 0
        filled = [plan.template.filled(self.examples[row]) for row in rows[places]]
        options = None if answers.of_each is None else answers.of_each * len(filled)
        read = self.reader.rows(filled, self.limit, options)
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
            tokens = Tokens(
                ids=torch.from_numpy(ids[begin:end]),
                types=torch.from_numpy(types[begin:end]),
                starts=torch.from_numpy(starts[at : at + len(own) + 1] - begin),
                rows=torch.arange(len(own) + 1),
                cut=entry.cut,
                marks=None if (entry.mark == UNREAD).any() else torch.from_numpy(entry.mark),
            )
            result.append(self._answered(tokens, entry.answers) if entry.answers else tokens)
            at += len(own)
        return result

    def _answered(self, tokens: Tokens, answers: Sequence[Ids]) -> Tokens:
        """A sequence for every row with every answer, in the place of the mask or behind all."""
        inside = tokens.marks if self.reader.speech == "masked" else None
        return with_answers(tokens, answers, inside, self.reader.tokenizer.frames.single.text_types[0])

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
