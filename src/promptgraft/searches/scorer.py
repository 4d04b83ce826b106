"""Scores candidates on rows by a model's own answers in their words, many candidates in one packed batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import torch
from jaxtyping import Float, Int
from torch import Tensor

from promptgraft.engine.writer import MOST, longest_read
from promptgraft.errors import RunError, UsageError
from promptgraft.method.setup import columns_of
from promptgraft.model.backbone import Backbone, Batch, Speaks
from promptgraft.model.causal import CausalBackbone
from promptgraft.model.composed import TemplateTokenizer
from promptgraft.model.tokenized import answers_of
from promptgraft.model.tokens import Tokens, concatenate
from promptgraft.prompt.prompt import Prompt, PromptStack, stack
from promptgraft.prompt.reading import Reading
from promptgraft.readout.choice import scatter
from promptgraft.readout.completion import answer_sums
from promptgraft.readout.readout import Given
from promptgraft.readout.verbalizer import label_columns
from promptgraft.searches.answers import gold_of, joined, probabilities
from promptgraft.searches.candidate import Candidate, Words
from promptgraft.task.task import Example, Task
from promptgraft.template.parts import Field
from promptgraft.template.template import Template
from promptgraft.train.predict import FORWARD_TOKENS, hidden_states

SHARED_TOKENS, AT_ONCE_TOKENS = 4 * FORWARD_TOKENS, 32 * FORWARD_TOKENS
"""Tokens of a forward whose sequences begin alike, most of which are not computed, and of sheets that are looked at for
what they share."""
LabelColumns = tuple[Float[Tensor, "C E"], Float[Tensor, "C"]]


@dataclass(frozen=True)
class AskedRows:
    """A candidate and rows, tokenised.

    Attributes:
        columns: of the labels' words in the head over words; None where whole answers are compared.
    """

    candidate: Candidate
    rows: tuple[int, ...]
    tokens: Tokens
    columns: LabelColumns | None


@dataclass(frozen=True)
class RowGroup:
    """Rows that are shown the same.

    Attributes:
        rows: that the template is filled with.
        answers: of each the possible ones; none where the labels' words are told apart by their first token.
        limit: tokens of a row at most.
    """

    template: str
    rows: tuple[int, ...]
    answers: list[Sequence[str]]
    limit: int


@dataclass(frozen=True)
class Shown:
    """What a candidate's rows are shown."""

    candidate: Candidate
    columns: LabelColumns | None
    groups: list[RowGroup]


@dataclass
class Scorer:
    """What scores candidates: a frozen model, and the rows of a task that candidates may show.

    Attributes:
        pool: the search rows.
        limit: tokens of a row at most; with demonstrations as many as the model reads.
        answers: read whole answers by their log-probabilities: rows have their own, or the labels' words begin alike.
    """

    backbone: Backbone
    task: Task
    pool: tuple[Example, ...]
    limit: int
    answers: bool = False
    _columns: dict[Words, LabelColumns] = field(default_factory=dict, repr=False)
    _tokenizers: dict[tuple[int, int], TemplateTokenizer] = field(default_factory=dict, repr=False)

    def sheet(self, candidate: Candidate, examples: Sequence[Example], rows: Sequence[int], *, own: bool) -> AskedRows:
        """A candidate with some rows in it.

        Args:
            own: whether the rows are the search rows, so that one which is shown is asked about without itself.
        Raises:
            UsageError: the template is none, or too long for the model.
            RunError: the model cannot read it, or tell its labels' words.
        """
        [sheet] = self.sheets([(candidate, rows)], examples, own=own)
        if not isinstance(sheet, AskedRows):
            raise sheet
        return sheet

    def sheets(
        self, asked: Sequence[tuple[Candidate, Sequence[int]]], examples: Sequence[Example], *, own: bool
    ) -> list[AskedRows | RunError | UsageError]:
        """Candidates, each with some rows in it, or why it cannot be used; all are tokenised together."""
        shown = [self._shown(candidate, examples, rows, own=own) for candidate, rows in asked]
        groups = [group for entry in shown if isinstance(entry, Shown) for group in entry.groups]
        read = iter(self._tokens(groups, examples))
        return [
            _sheet(entry, [next(read) for _ in entry.groups]) if isinstance(entry, Shown) else entry for entry in shown
        ]

    def _shown(
        self, candidate: Candidate, examples: Sequence[Example], rows: Sequence[int], *, own: bool
    ) -> Shown | RunError | UsageError:
        """What a candidate's rows are shown; or why it cannot be used."""
        alone = [row for row in rows if own and row in candidate.shown]
        others = [row for row in rows if row not in alone]
        try:
            columns = None if self.answers else self.columns_of_words(candidate.words)
            limit = self.limit_of(candidate)
            groups = []
            for group, without in ((others, None), *(([row], row) for row in alone)):
                if group:
                    template = candidate.written_out(self.task, self.pool, without)
                    answers = self._answers_of(candidate, template, [examples[row] for row in group])
                    groups.append(RowGroup(template, tuple(group), answers, limit))
        except (RunError, UsageError) as error:
            return error
        return Shown(candidate, columns, groups)

    def _answers_of(self, candidate: Candidate, template: str, examples: Sequence[Example]) -> list[Sequence[str]]:
        """The answers of each row that are compared as a whole; none where the labels' words are."""
        reading = self.reading(template, candidate)
        return [answers_of(example, self.task.kind, reading) if self.answers else () for example in examples]

    def _tokens(self, groups: Sequence[RowGroup], examples: Sequence[Example]) -> list[Tokens | UsageError]:
        """The tokens of each group of rows, or why it has none."""
        result: dict[int, Tokens | UsageError] = {}
        for limit in dict.fromkeys(group.limit for group in groups):
            places = [place for place, group in enumerate(groups) if group.limit == limit]
            own = [groups[place] for place in places]
            asked = [(group.template, group.rows) for group in own]
            read = self._tokenizer(examples, limit).tokens(asked, [group.answers for group in own])
            result |= zip(places, read, strict=True)
        return [result[place] for place in range(len(groups))]

    def reading(self, template: str, candidate: Candidate) -> Reading:
        """How rows are read in a template with a candidate's words."""
        if not self.answers:
            return Reading("mark", template=template)
        return Reading("answer", template=template, answers=candidate.answers)

    def limit_of(self, candidate: Candidate) -> int:
        """Tokens of a row of a candidate at most; where texts are to be written, they have room behind it."""
        limit = self.backbone.max_length if candidate.shown else self.limit
        return longest_read(self.backbone, candidate.vectors, limit, MOST) if self.task.facts.written else limit

    def _tokenizer(self, examples: Sequence[Example], limit: int) -> TemplateTokenizer:
        """What tokenises templates over rows; it keeps what it has read of them."""
        known = self._tokenizers.get((id(examples), limit))
        if known is None or known.examples is not examples:
            known = self.backbone.template_tokenizer(examples, self.task.kind, limit)
            self._tokenizers[id(examples), limit] = known
        return known

    def columns_of_words(self, words: Words) -> LabelColumns:
        """The mean weights and biases of each label's words.

        Raises:
            RunError: the words of two labels cannot be told apart by their first token.
        """
        if words not in self._columns:
            self._columns[words] = label_columns(self.task, self.given(words))
        return self._columns[words]

    def given(self, words: Words) -> Given:
        """What a readout of the labels' words may ask of the model: columns of words, and no descriptions."""
        columns = partial(columns_of, self.backbone) if isinstance(self.backbone, Speaks) else None
        return Given(lambda texts: torch.zeros(len(texts), 1), dict(words), columns)

    def shares(self, sheets: Sequence[AskedRows]) -> list[Float[Tensor, "B C"]]:
        """The probabilities of the possible answers of the rows of each sheet.

        Raises:
            RunError: sheets with vectors of different kinds.
        """
        forget(self.backbone)
        if not isinstance(self.backbone, CausalBackbone):
            return self._parted(self._scores(sheets), sheets)
        result: dict[int, Tensor] = {}
        for is_first in (True, False):
            places = [place for place, sheet in enumerate(sheets) if text_first(sheet.candidate) == is_first]
            groups = _companies([sheets[place] for place in places])
            shares = [share for group in groups for share in self._parted(self._shared_scores(group), group)]
            result |= zip(places, shares, strict=True)
        return [result[place] for place in range(len(sheets))]

    def _shared_scores(self, sheets: Sequence[AskedRows]) -> Float[Tensor, "B C"]:
        """The scores of a causal model, what sequences begin with alike computed once.

        Where candidates have more in common on a row (its text comes first) than rows do under a candidate (its
        instruction or its demonstrations come first), the sequences of a row stand together.
        """
        is_plain = not self.answers and all(sheet.candidate.vectors is None for sheet in sheets)
        if not is_plain or len({sheet.rows for sheet in sheets}) > 1:
            return joined([self._scores(group) for group in _companies(sheets, FORWARD_TOKENS)])
        tokens = concatenate([sheet.tokens for sheet in sheets])
        order = torch.arange(tokens.count).view(len(sheets), -1)
        if saved(tokens, order.T) <= saved(tokens, order):
            return torch.cat([self._scores(group) for group in _companies(sheets, FORWARD_TOKENS)])
        states = torch.empty(tokens.count, self.backbone.hidden)
        with torch.no_grad():
            for rows in order.T.split(max(1, SHARED_TOKENS // max(1, len(tokens.ids) // order.shape[1]))):
                part = replace(tokens.select(rows.flatten()), rows=torch.arange(0, rows.numel() + 1, len(sheets)))
                states[rows.flatten()] = self.backbone.forward(Batch(part), None, "mark").cpu()
        return _by_columns(states, sheets)

    def _scores(self, sheets: Sequence[AskedRows]) -> Float[Tensor, "B C"]:
        """The scores of the possible answers of the rows of sheets that share batches."""
        tokens = concatenate([sheet.tokens for sheet in sheets])
        prompts, owner = self._prompts(sheets)
        states = hidden_states(self.backbone, tokens, prompts, owner, "answer" if self.answers else "mark")
        return answer_scores(states, tokens) if self.answers else _by_columns(states.float(), sheets)

    def _parted(self, scores: Float[Tensor, "B C"], sheets: Sequence[AskedRows]) -> list[Float[Tensor, "R C"]]:
        """The probabilities of the possible answers of the rows of each sheet."""
        return list(probabilities(scores, self.task).split([sheet.tokens.count for sheet in sheets]))

    def _prompts(self, sheets: Sequence[AskedRows]) -> tuple[PromptStack | None, Int[Tensor, "S"] | None]:
        """The vectors of each sheet's candidate.

        Candidates of words alone get empty ones under a causal model, which computes once what the rows of a prompt
        begin with.
        """
        prompts = [sheet.candidate.vectors for sheet in sheets]
        given = [prompt for prompt in prompts if prompt is not None]
        if given and len(given) < len(prompts):
            raise RunError("candidates with vectors and without cannot share a batch")
        if not given:
            if not isinstance(self.backbone, CausalBackbone):
                return None, None
            given = [Prompt(torch.zeros(0, self.backbone.embedding_width), "template")] * len(sheets)
        return stack(given), torch.arange(len(sheets)).repeat_interleave(
            torch.tensor([sheet.tokens.sequences for sheet in sheets])
        )

    def gold(self, examples: Sequence[Example]) -> list[int]:
        """The place of each row's right answer among those it may have."""
        return gold_of(examples, self.task)


def _sheet(shown: Shown, read: Sequence[Tokens | UsageError]) -> AskedRows | UsageError:
    """A candidate with the tokens of its groups of rows; or why one of these has none."""
    error = next((entry for entry in read if not isinstance(entry, Tokens)), None)
    if error is not None:
        return error
    rows = tuple(row for group in shown.groups for row in group.rows)
    tokens = concatenate([entry for entry in read if isinstance(entry, Tokens)])
    return AskedRows(shown.candidate, rows, tokens, shown.columns)


def text_first(candidate: Candidate) -> bool:
    """Whether a row's text comes before all words of the template."""
    return isinstance(next(iter(Template.parse(candidate.template).parts), None), Field)


def answer_scores(states: Float[Tensor, "N 1"], tokens: Tokens) -> Float[Tensor, "B C"]:
    """The mean log-probability of the tokens of each row's possible answers; -inf beyond a row's last one."""
    totals, lengths = answer_sums(states, tokens)
    return scatter(totals / lengths, tokens.rows)


def saved(tokens: Tokens, groups: Int[Tensor, "G N"]) -> int:
    """How many tokens need not be computed where the sequences of a group begin alike and that is computed once."""
    longest = int(tokens.lengths.max())
    ids = torch.full((tokens.sequences, longest), -2)
    sequence = torch.arange(tokens.sequences).repeat_interleave(tokens.lengths)
    ids[sequence, torch.arange(len(tokens.ids)) - tokens.starts[sequence]] = tokens.ids
    alike = (ids[groups] == ids[groups[:, :1]]).all(1).long().cumprod(1).sum(1)
    return int(alike.sum()) * (groups.shape[1] - 1)


def _companies(sheets: Sequence[AskedRows], most: int = AT_ONCE_TOKENS) -> list[list[AskedRows]]:
    """Sheets in groups of so many tokens, so that what begins alike shares batches."""
    groups: list[list[AskedRows]] = []
    room = 0
    for sheet in sheets:
        size = len(sheet.tokens.ids)
        if not groups or size > room:
            groups.append([])
            room = most
        groups[-1].append(sheet)
        room -= size
    return groups


def forget(backbone: Backbone) -> None:
    """Let go of what earlier batches left, so that the last bits of an answer depend on its question alone."""
    if isinstance(backbone, CausalBackbone):
        backbone.forget()


def _by_columns(states: Float[Tensor, "B E"], sheets: Sequence[AskedRows]) -> Float[Tensor, "B C"]:
    """The logits of each row's own columns; sheets that have the same rows number are one product."""
    scores: list[Tensor] = []
    at = 0
    while at < len(sheets):
        count = sheets[at].tokens.count
        group = [sheets[at]]
        while at + len(group) < len(sheets) and sheets[at + len(group)].tokens.count == count:
            group.append(sheets[at + len(group)])
        first = sum(len(part) for part in scores)
        columns = [sheet.columns for sheet in group if sheet.columns is not None]
        weights, offsets = (torch.stack(parts) for parts in zip(*columns, strict=True))
        own = states[first : first + count * len(group)].view(len(group), count, -1)
        scores.append((own @ weights.mT + offsets[:, None]).flatten(0, 1))
        at += len(group)
    return torch.cat(scores)


def unusable(error: RunError | UsageError) -> str:
    """Why a candidate cannot be scored."""
    return error.line
