"""Turns filled templates into packed tokens: texts are cut where a sequence is too long, templates never."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate, chain

import torch
from jaxtyping import Int
from torch import Tensor

from promptgraft.errors import UsageError
from promptgraft.model.backbone import Speech
from promptgraft.model.plain_text import PlainReader, TextTokens
from promptgraft.model.stretches import Passage, Slot, Stretch, contents, shares, stretches, with_contents
from promptgraft.model.tokenize import CHARACTERS_A_TOKEN, MARGIN, MOST_CHARACTERS, Tokenizer
from promptgraft.model.tokens import SOFT, Tokens
from promptgraft.task.task import Example
from promptgraft.template.parts import Blank, FieldText, Filled
from promptgraft.template.template import Template

GROWTH = 4
"""By how much more of a text is read where its first characters are few tokens."""


@dataclass(frozen=True)
class FilledRow:
    """What a model is given of one filled template.

    Attributes:
        ids: the tokens without the answer, special ones included, `SOFT` for vectors.
        inside: whether answers stand in the place of the token that is read, and not behind all.
        mark: the index in `ids` of the token that is read; None for a masked model without a place of the answer.
        answers: the tokens of each possible answer.
        texts: what is left of the contents of fields.
        lost: how many characters of each were cut off.
        is_cut: whether anything was cut, answers included.
    """

    ids: list[int]
    mark: int | None
    answers: list[list[int]]
    texts: tuple[str, ...]
    lost: tuple[int, ...]
    is_cut: bool
    inside: bool = False

    def answered(self, answer: list[int]) -> tuple[list[int], list[bool]]:
        """The tokens with an answer, and which of them are its."""
        first = self.mark if self.inside and self.mark is not None else len(self.ids)
        rest = self.ids[first + 1 :]
        own = [False] * first + [True] * len(answer) + [False] * len(rest)
        return self.ids[:first] + answer + rest, own


@dataclass(frozen=True)
class FilledReader:
    """Reads filled templates with a model's tokenizer, in the way that its kind of model wants them.

    Attributes:
        end: the tokens that end an answer, for models that learn, or are asked, where it ends.
    """

    tokenizer: Tokenizer
    speech: Speech
    end: tuple[int, ...] = ()

    @cached_property
    def plain(self) -> PlainReader:
        """The reader of texts."""
        return PlainReader(self.tokenizer)

    @cached_property
    def around(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """The special tokens before and after what is read; causal models have only those before."""
        before, after = self.tokenizer.frames.single.gaps
        return before, () if self.speech == "causal" else after

    def tokens(self, rows: Sequence[Filled], limit: int, answers: Sequence[Sequence[str]] | None = None) -> Tokens:
        """Pack filled templates; each is one sequence, or one for each of its possible answers.

        Args:
            limit: tokens of a sequence at most, with special ones, vectors and answers.
            answers: of every row its possible answers; of a masked model they stand in the place of the mask.
        Raises:
            UsageError: the template alone is too long.
        """
        return self.packed(self.rows(rows, limit, answers))

    def rows(
        self, rows: Sequence[Filled], limit: int, answers: Sequence[Sequence[str]] | None = None
    ) -> list[FilledRow]:
        """What the model is given of each filled template; see `tokens`."""
        answers = answers or [()] * len(rows)
        leads = (self.lead(row) if own else "" for row, own in zip(rows, answers, strict=True))
        options, shortened = self.answer_tokens(leads, answers, limit)
        size = CHARACTERS_A_TOKEN * (limit + MARGIN)
        beginnings = [with_contents(row, [text[:size] for text in contents(row)]) for row in rows]
        read = self._read([self.stretches_of(row) for row in beginnings])
        result = []
        for at, row in enumerate(rows):
            room = limit - sum(map(len, self.around)) - max(map(len, options[at]), default=0)
            texts, parts = self._fitted(row, contents(beginnings[at]), read[at], room)
            lost = tuple(len(before) - len(after) for before, after in zip(contents(row), texts, strict=True))
            ids, mark = self._framed(parts)
            is_cut = any(lost) or shortened[at]
            result.append(FilledRow(ids, mark, options[at], tuple(texts), lost, is_cut, self.speech == "masked"))
        return result

    def packed(self, rows: Sequence[FilledRow]) -> Tokens:
        """Rows end to end, with the places that are read."""
        flat = [(row, answer) for row in rows for answer in row.answers or [[]]]
        frame = self.tokenizer.frames.single
        before, after = (kinds[: len(gap)] for kinds, gap in zip(frame.gap_types, self.around, strict=True))
        read = [row.answered(answer) if row.answers else (row.ids, [False] * len(row.ids)) for row, answer in flat]
        ids, answered = [ids for ids, _ in read], [own for _, own in read]
        behind = [0 if row.inside else len(answer) for row, answer in flat]
        types = [
            [*before, *[frame.text_types[0]] * (len(own) - len(before) - len(after) - rest), *after]
            + [frame.text_types[0]] * rest
            for own, rest in zip(ids, behind, strict=True)
        ]
        marks = [row.mark for row, _ in flat if row.mark is not None]
        return Tokens(
            ids=_flat(ids),
            types=_flat(types),
            starts=_offsets(map(len, ids)),
            rows=_offsets(max(1, len(row.answers)) for row in rows),
            cut=sum(row.is_cut for row, _ in flat),
            marks=torch.tensor(marks, dtype=torch.long) if len(marks) == len(flat) else None,
            answers=_flat(answered).bool() if any(row.answers for row in rows) else None,
        )

    def sizes(self, texts: Sequence[str]) -> list[int]:
        """How many tokens each of some texts has."""
        return [len(read.ids) for read in self.plain.read(texts)]

    def vectors(self, template: Template) -> tuple[int | None, ...]:
        """Of every vector of a template the token that it starts from; None where it starts from no word.

        Raises:
            UsageError: the model knows no token for the words of `{soft}`.
        """
        slots = [part for part in self.stretches_of(template.filled(Example())) if isinstance(part, Slot)]
        return tuple(chain.from_iterable(self._starts(slot) for slot in slots))

    @property
    def _mask(self) -> int:
        if self.tokenizer.mask is None:
            raise UsageError("the model has no mask for the template's {mask}", do="use a masked or a causal model")
        return self.tokenizer.mask

    def stretches_of(self, row: Filled) -> list[Stretch]:
        return stretches(row, drops_rest=self.speech == "causal")

    def _starts(self, slot: Slot) -> Sequence[int | None]:
        """The tokens that the vectors of a slot start from."""
        if isinstance(slot.part, Blank):
            return ()
        if slot.part.words is None:
            return (None,) * (slot.part.count or 0)
        [read] = self.plain.read([slot.lead + slot.part.words.strip()], goes_on=slot.goes_on)
        if not read.ids or self.plain.unknown in read.ids:
            raise UsageError(f"the model has no tokens for the words of {slot.part}", do="write others, or {soft:5}")
        return read.ids

    def lead(self, row: Filled) -> str:
        """The white space that a row's answers begin with, in place of their own."""
        return lead_of(row) if self.speech == "causal" else ""

    def answer_tokens(
        self, leads: Iterable[str], answers: Sequence[Sequence[str]], limit: int
    ) -> tuple[list[list[list[int]]], list[bool]]:
        """The tokens of every row's possible answers, at most half of a sequence each, and which rows' were longer.

        Args:
            leads: of every row the white space that its answers begin with; see `lead`.
        """
        if self.speech == "masked":
            return self._fillings(answers, limit)
        starts = self.speech == "causal"
        texts = [
            [lead + answer.lstrip() if starts else answer for answer in options]
            for lead, options in zip(leads, answers, strict=True)
        ]
        distinct = list(dict.fromkeys(chain.from_iterable(texts)))
        most = max(1, limit // 2 - len(self.end))
        size = CHARACTERS_A_TOKEN * (most + MARGIN)
        read = self.plain.read([text[:size] for text in distinct], goes_on=starts)
        tokens = {text: [*part.ids[:most], *self.end] for text, part in zip(distinct, read, strict=True)}
        long = {text for text, part in zip(distinct, read, strict=True) if len(part.ids) > most or len(text) > size}
        return (
            [[tokens[text] for text in options] for options in texts],
            [any(text in long for text in options) for options in texts],
        )

    def _fillings(self, answers: Sequence[Sequence[str]], limit: int) -> tuple[list[list[list[int]]], list[bool]]:
        """The tokens of words that are put in the mask's place, and which rows' were longer than half a sequence.

        Raises:
            UsageError: the model has no token for a word.
        """
        distinct = list(dict.fromkeys(chain.from_iterable(answers)))
        tokens = dict(zip(distinct, self.tokenizer.word_ids(distinct), strict=True))
        missing = next((word for word in distinct if not tokens[word]), None)
        if missing is not None:
            raise UsageError(f"the model has no token for the word {missing!r}", do="give the label another word")
        most = max(1, limit // 2)
        options = [[tokens[word][:most] for word in words] for words in answers]
        return options, [any(len(tokens[word]) > most for word in words) for words in answers]

    def _read(self, rows: Sequence[Sequence[Stretch]]) -> list[list[tuple[Stretch, TextTokens]]]:
        """The tokens of every stretch of every row; all texts are read in one go, slots once each."""
        slots: dict[Slot, TextTokens] = {}
        passages: dict[bool, list[str]] = {False: [], True: []}
        for stretch in chain.from_iterable(rows):
            if isinstance(stretch, Passage):
                passages[stretch.goes_on].append(stretch.text)
            elif stretch not in slots:
                slots[stretch] = self.slot_tokens(stretch)
        read = {goes_on: iter(self.plain.read(texts, goes_on=goes_on)) for goes_on, texts in passages.items()}
        return [
            [
                (stretch, next(read[stretch.goes_on]) if isinstance(stretch, Passage) else slots[stretch])
                for stretch in row
            ]
            for row in rows
        ]

    def slot_tokens(self, slot: Slot) -> TextTokens:
        if isinstance(slot.part, Blank):
            ids = [self._mask] if self.speech == "masked" else []
        else:
            ids = [SOFT] * len(self._starts(slot))
        return TextTokens(ids, [(0, 0)] * len(ids))

    def _fitted(
        self, row: Filled, texts: list[str], read: list[tuple[Stretch, TextTokens]], room: int
    ) -> tuple[list[str], list[tuple[Stretch, TextTokens]]]:
        """What is left of a row's texts, and its stretches' tokens, so that they have room.

        Args:
            texts: the beginnings that were read so far.
        """
        complete = contents(row)
        size = max(map(len, texts), default=0)
        while _count(read) < room and any(
            len(text) < min(len(full), MOST_CHARACTERS) for text, full in zip(texts, complete, strict=True)
        ):
            size = min(GROWTH * size, MOST_CHARACTERS)
            texts = [text[:size] for text in complete]
            [read] = self._read([self.stretches_of(with_contents(row, texts))])
        while (count := _count(read)) > room:
            if not any(texts):
                raise UsageError(
                    f"the template alone has {count} tokens, and there is room for {max(room, 0)}",
                    do="shorten it, or show fewer demonstrations",
                )
            texts = _shorter(row, texts, read, count - room)
            [read] = self._read([self.stretches_of(with_contents(row, texts))])
        return texts, read

    def _framed(self, read: Sequence[tuple[Stretch, TextTokens]]) -> tuple[list[int], int | None]:
        """The tokens of a sequence without its answer, and the index of the one that is read."""
        before, after = self.around
        ids = list(before)
        blank: int | None = None
        for stretch, tokens in read:
            if isinstance(stretch, Slot) and isinstance(stretch.part, Blank) and self.speech == "masked":
                blank = len(ids)
            ids += tokens.ids
        ids += after
        ids = ids or [self.tokenizer.frames.begin]
        return ids, blank if self.speech == "masked" else len(ids) - 1


def _shorter(row: Filled, texts: Sequence[str], read: Sequence[tuple[Stretch, TextTokens]], over: int) -> list[str]:
    """The texts without tokens at their right ends, of the longest first, and of options last."""
    starts = list(
        chain.from_iterable(_content_starts(part, tokens) for part, tokens in read if isinstance(part, Passage))
    )
    counts = list(map(len, starts))
    if not any(counts):
        return [""] * len(texts)
    fields = [part.field for part in row if isinstance(part, FieldText)]
    options = [at for at, field in enumerate(fields) if field == "choices"]
    others = [at for at in range(len(fields)) if at not in options]
    room = max(sum(counts) - over, 0)
    kept = dict(zip(options, shares([counts[at] for at in options], room), strict=True))
    kept |= zip(others, shares([counts[at] for at in others], room - sum(kept.values())), strict=True)
    return [text if kept[at] == counts[at] else text[: starts[at][kept[at]]].rstrip() for at, text in enumerate(texts)]


def _content_starts(passage: Passage, tokens: TextTokens) -> list[list[int]]:
    """For every field content of a passage, where in it each of its tokens begins."""
    ends = list(accumulate(len(part.text) for part in passage.parts))
    result = []
    for part, end in zip(passage.parts, ends, strict=True):
        if isinstance(part, FieldText):
            first = end - len(part.text)
            inside = [span for span in tokens.spans if first <= max(span[1] - 1, span[0]) < end]
            result.append([max(start - first, 0) for start, _ in inside])
    return result


def lead_of(row: Filled) -> str:
    """The white space before the place of a row's answer in a model that reads from left to right."""
    parts = stretches(row, drops_rest=True)
    return next((part.lead for part in parts if isinstance(part, Slot) and isinstance(part.part, Blank)), "")


def _count(read: Iterable[tuple[Stretch, TextTokens]]) -> int:
    return sum(len(tokens.ids) for _, tokens in read)


def _flat(parts: Iterable[Sequence[int]]) -> Int[Tensor, "N"]:
    return torch.tensor(list(chain.from_iterable(parts)), dtype=torch.long)


def _offsets(lengths: Iterable[int]) -> Int[Tensor, "N_plus_1"]:
    return torch.tensor([0, *accumulate(lengths)], dtype=torch.long)
