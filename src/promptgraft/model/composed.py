"""Many templates over the same rows become tokens from parts that are read once, put together as arrays."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import islice

import numpy as np
import torch
from jaxtyping import Bool, Int

from promptgraft.errors import UsageError
from promptgraft.model.filled import FilledReader, FilledRow
from promptgraft.model.joints import joint_of
from promptgraft.model.laid_rows import UNREAD, CutRows, LaidRows, PartTokens, ReadAnswers, TokenPool, packed
from promptgraft.model.template_plan import Ids, JointPart, TemplatePlan
from promptgraft.model.tokenize import CHARACTERS_A_TOKEN, MARGIN
from promptgraft.model.tokens import Tokens, concatenate
from promptgraft.task.draws import Array
from promptgraft.task.task import Example
from promptgraft.template.parts import FIELDS, Filled
from promptgraft.template.template import Template, content

Contents = Callable[[int], Sequence[str]]
"""Gives a row's contents of the fields of a template."""
RowAnswers = Sequence[Sequence[str]]
"""The possible answers of each row."""


@dataclass(frozen=True)
class PlannedRows:
    """Rows of a template that have the same contents empty.

    Attributes:
        places: of each among the rows that are asked about.
        answers: of each its possible answers.
    """

    plan: TemplatePlan
    rows: Int[Array, "N"]
    places: Int[Array, "N"]
    answers: RowAnswers


class TemplateTokenizer:
    """Tokenises many templates over the same rows, to the tokens that each would have alone.

    The contents of rows, the words of templates and answers are read once each, up to the nearest joints; numpy puts
    them together. Where a content is empty, what stands around it meets, so such rows have a plan of their own. Read in
    their template as a whole are rows whose content ends where no joint is known to be, and all rows under a tokenizer
    whose joints are not known. Rows that are cut where contents end with spaces are cut anew for each template: these
    spaces are tokens together with its words.

    Args:
        limit: tokens of a sequence at most.
    """

    def __init__(self, reader: FilledReader, examples: Sequence[Example], limit: int) -> None:
        self.reader, self.examples, self.limit = reader, tuple(examples), limit
        tokenizer = reader.tokenizer
        self._joint = None if tokenizer.convert is not None else joint_of(reader.plain.engine)
        self._plans: dict[tuple[str, frozenset[str]], TemplatePlan] = {}
        self._words: dict[JointPart, Int[Array, "T"]] = {}
        self._read: dict[JointPart, PartTokens] = {}
        self._cut: dict[tuple[JointPart, ...], CutRows] = {}
        self._known = {ids: np.array(ids, np.int64) for ids in reader.around}
        self._answers: dict[tuple[str, tuple[str, ...]], ReadAnswers] = {}

    @cached_property
    def _contents(self) -> dict[str, list[str]]:
        """Field -> the content of each row."""
        return {name: [content(name, example) for example in self.examples] for name in FIELDS}

    @cached_property
    def _empty(self) -> dict[frozenset[str], Bool[Array, "B"]]:
        """Fields -> the rows in which they have no content, and all others have one."""
        empty = [frozenset(name for name in FIELDS if not content(name, example)) for example in self.examples]
        return {names: np.array([own == names for own in empty]) for names in dict.fromkeys(empty)}

    @cached_property
    def _tailed(self) -> frozenset[str]:
        """The fields of which some content ends with white space."""
        return frozenset(name for name, texts in self._contents.items() if any(text[-1:].isspace() for text in texts))

    @cached_property
    def _composes(self) -> dict[str, Bool[Array, "B"]]:
        """Field -> which rows' contents are empty, or end at a joint and are not longer than what is read at first."""
        most = CHARACTERS_A_TOKEN * (self.limit + MARGIN)
        return {
            name: np.array([not text or (len(text) <= most and self._ends_well(text)) for text in texts], bool)
            for name, texts in self._contents.items()
        }

    def _ends_well(self, text: str) -> bool:
        """Whether a joint lies behind the last character of a text that is no space, be there spaces or none."""
        body = text.rstrip()
        return bool(body) and self._joint is not None and self._joint(body[-1], text[len(body) :][:1] or " ")

    def tokens(
        self, asked: Sequence[tuple[str, Sequence[int]]], answers: Sequence[RowAnswers] | None = None
    ) -> list[Tokens | UsageError]:
        """The tokens of each template with some of the rows; an error where it cannot be read.

        Args:
            answers: of each template and each of its rows the possible answers, each of which is a sequence of its own.
        """
        own_answers = answers or [[()] * len(rows) for _, rows in asked]
        planned = [self._planned(*entry, own) for entry, own in zip(asked, own_answers, strict=True)]
        self._learn_words(part.plan for entry in planned if not isinstance(entry, UsageError) for part in entry)
        pool = TokenPool()
        laid = [entry if isinstance(entry, UsageError) else self._laid(entry, pool) for entry in planned]
        ready = [rows for entry in laid if not isinstance(entry, UsageError) for rows in entry]
        tokens = iter(packed(ready, pool, self.reader))
        return [
            entry if isinstance(entry, UsageError) else _in_order(entry, list(islice(tokens, len(entry))))
            for entry in laid
        ]

    def _planned(self, template: str, rows: Sequence[int], answers: RowAnswers) -> list[PlannedRows] | UsageError:
        """Rows of a template, apart where other contents are empty."""
        numbers = np.array(rows, np.int64)
        result = []
        for empty, is_own in self._empty.items():
            places = np.flatnonzero(is_own[numbers])
            try:
                if len(places):
                    own = answers if len(places) == len(rows) else [answers[place] for place in places.tolist()]
                    result.append(PlannedRows(self._plan(template, empty), numbers[places], places, own))
            except UsageError as error:
                return error
        return result

    def _plan(self, template: str, empty: frozenset[str]) -> TemplatePlan:
        key = template, empty
        if key not in self._plans:
            self._plans[key] = TemplatePlan.of(Template.parse(template), empty, self.reader, self._joint, self._tailed)
        return self._plans[key]

    def _learn_words(self, plans: Iterable[TemplatePlan]) -> None:
        """Read the words of templates that were not read before, all at once."""
        words = dict.fromkeys(part for plan in plans for part in plan.words if part not in self._words)
        for goes_on in (False, True):
            group = [part for part in words if part.goes_on is goes_on]
            read = self.reader.plain.read([part.of(()) for part in group], goes_on=goes_on)
            self._words |= {part: np.array(own.ids, np.int64) for part, own in zip(group, read, strict=True)}

    def _laid(self, planned: Sequence[PlannedRows], pool: TokenPool) -> list[LaidRows] | UsageError:
        """Where the tokens of a template with rows lie."""
        try:
            return [self._laid_rows(asked, pool) for asked in planned]
        except UsageError as error:
            return error

    def _laid_rows(self, asked: PlannedRows, pool: TokenPool) -> LaidRows:
        plan, rows = asked.plan, asked.rows
        composing = self._composing(plan, rows)
        answers = self._read_answers(asked, composing)
        laid = LaidRows.of(max(1, len(plan.parts)), answers, asked.places)
        self._learn(self._read, plan, rows[composing], self._contents_of(plan))
        taken = sum(len(self._ids(part)) for part in plan.parts if part not in plan.row_parts)
        room = np.array([self.limit - taken - own.longest for own in answers], np.int64)
        sizes = np.zeros(len(composing), np.int64)
        for part in plan.row_parts:
            sizes += self._read[part].length[rows[composing]]
        fits = sizes <= room[composing]
        long = composing[~fits]
        self._lay_parts(laid, plan, self._read, rows[composing[fits]], composing[fits], pool)
        self._lay_parts(laid, plan, *self._cut_rows(asked, long, room), pool)
        laid.mark[:] = laid.length.sum(0) - 1 if plan.blank is None else laid.length[: plan.blank].sum(0)
        laid.is_cut[long] = True
        self._lay_whole(laid, asked, np.flatnonzero(laid.length.sum(0) == 0), pool)
        return laid

    def _composing(self, plan: TemplatePlan, rows: Int[Array, "N"]) -> Int[Array, "M"]:
        """The places of the rows whose tokens are those of their parts."""
        result = np.full(len(rows), bool(plan.parts))
        for name in plan.fields:
            result &= self._composes[name][rows]
        return np.flatnonzero(result)

    def _read_answers(self, asked: PlannedRows, composing: Int[Array, "M"]) -> list[ReadAnswers]:
        """The tokens of each row's answers in the place that the template has for them.

        Raises:
            UsageError: the model has no token for a word.
        """
        leads = [asked.plan.lead] * len(asked.rows)  # another where a content is nothing but spaces
        for place in np.delete(np.arange(len(leads)), composing).tolist():
            leads[place] = self.reader.lead(self._filled(asked, place))
        keys = [(lead, tuple(own)) for lead, own in zip(leads, asked.answers, strict=True)]
        new = list(dict.fromkeys(key for key in keys if key not in self._answers))
        if new:
            read = self.reader.answer_tokens([lead for lead, _ in new], [own for _, own in new], self.limit)
            for key, options, is_cut in zip(new, *read, strict=True):
                self._answers[key] = ReadAnswers.of(options, is_cut=is_cut)
        return [self._answers[key] for key in keys]

    def _contents_of(self, plan: TemplatePlan) -> Contents:
        return lambda row: [self._contents[name][row] for name in plan.fields]

    def _learn(
        self, known: dict[JointPart, PartTokens], plan: TemplatePlan, rows: Int[Array, "N"], contents: Contents
    ) -> None:
        """Read the parts of a plan for rows that they were not read for before."""
        for part in plan.row_parts:
            own = known.setdefault(part, PartTokens())
            new = own.unread(rows)
            if len(new):
                texts = [part.of(contents(row)) for row in new.tolist()]
                distinct = list(dict.fromkeys(texts))
                read = self.reader.plain.read(distinct, goes_on=part.goes_on)
                ids = {text: tokens.ids for text, tokens in zip(distinct, read, strict=True)}
                own.add(new, [ids[text] for text in texts])

    def _cut_rows(
        self, asked: PlannedRows, places: Int[Array, "M"], room: Int[Array, "N"]
    ) -> tuple[dict[JointPart, PartTokens], Int[Array, "L"], Int[Array, "L"]]:
        """The parts of rows that are too long, cut as they are in their template, with their numbers and places.

        Other words with as much room cut a row alike. Rows that do not compose any more are left out.

        Raises:
            UsageError: the template alone is too long.
        """
        plan = asked.plan
        cut = self._cut.setdefault(plan.row_parts, CutRows())
        keys = [(int(asked.rows[place]), int(room[place])) for place in places]
        new = {key: place for key, place in zip(keys, places, strict=True) if key not in cut.numbers}
        for key, read in zip(new, self._whole(asked, np.array(list(new.values()), np.int64)), strict=True):
            own = zip(plan.fields, read.texts, strict=True)
            composes = all(name in plan.empty or self._ends_well(text) for name, text in own)
            cut.numbers[key] = len(cut.texts)
            cut.texts.append(read.texts if composes else ())
        numbers = np.array([cut.numbers[key] for key in keys], np.int64)
        is_left = np.array([bool(cut.texts[number]) for number in numbers], bool)
        self._learn(cut.parts, plan, numbers[is_left], cut.texts.__getitem__)
        return cut.parts, numbers[is_left], places[is_left]

    def _ids(self, part: JointPart | Ids) -> Int[Array, "T"]:
        """The tokens of a part that is the same for all rows."""
        if isinstance(part, JointPart):
            return self._words[part]
        if part not in self._known:
            self._known[part] = np.array(part, np.int64)
        return self._known[part]

    def _lay_parts(
        self,
        laid: LaidRows,
        plan: TemplatePlan,
        known: dict[JointPart, PartTokens],
        numbers: Int[Array, "M"],
        places: Int[Array, "M"],
        pool: TokenPool,
    ) -> None:
        """Lay rows in parts.

        Args:
            numbers: of each row what it is known by.
        """
        if not len(places):
            return
        for at, part in enumerate(plan.parts):
            if isinstance(part, JointPart) and not part.is_fixed:
                own = known[part]
                laid.first[at, places] = pool.start(own.ids) + own.first[numbers]
                laid.length[at, places] = own.length[numbers]
            else:
                ids = self._ids(part)
                laid.first[at, places], laid.length[at, places] = pool.start(ids), len(ids)

    def _lay_whole(self, laid: LaidRows, asked: PlannedRows, places: Int[Array, "M"], pool: TokenPool) -> None:
        """Lay rows that are read in their template as a whole.

        Raises:
            UsageError: the template is too long for one.
        """
        for place, row in zip(places, self._whole(asked, places), strict=True):
            ids = np.array(row.ids, np.int64)
            laid.first[0, place], laid.length[0, place] = pool.start(ids), len(ids)
            laid.mark[place] = UNREAD if row.mark is None else row.mark
            laid.is_cut[place] = row.is_cut

    def _whole(self, asked: PlannedRows, places: Int[Array, "M"]) -> list[FilledRow]:
        """Some of the rows, each read in the template as a whole."""
        if not len(places):
            return []
        filled = [self._filled(asked, place) for place in places.tolist()]
        return self.reader.rows(filled, self.limit, [asked.answers[place] for place in places])

    def _filled(self, asked: PlannedRows, place: int) -> Filled:
        return asked.plan.template.filled(self.examples[asked.rows[place]])


def _in_order(laid: Sequence[LaidRows], parts: Sequence[Tokens]) -> Tokens:
    """The tokens of a template's rows in the order in which they are asked about."""
    if len(parts) == 1:
        return parts[0]
    tokens = concatenate(parts)
    order = np.concatenate([rows.places for rows in laid]).argsort()
    return replace(tokens.select(torch.from_numpy(order)), cut=tokens.cut)
