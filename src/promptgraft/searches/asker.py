"""What algorithms ask of models beside scores; every answer is counted and kept like those."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from promptgraft.errors import RunError, UsageError
from promptgraft.model.backbone import Backbone, Batch, Speaks, Writes
from promptgraft.model.seq2seq import SequenceBackbone
from promptgraft.model.tokens import Tokens, concatenate
from promptgraft.prompt.reading import Reading
from promptgraft.searches.budget import GRADIENT
from promptgraft.searches.candidate import Candidate
from promptgraft.searches.gradients import slotted, steepest, word_gradients
from promptgraft.searches.oracle import Oracle, Priced
from promptgraft.searches.phrases import Phrases
from promptgraft.searches.scorer import LabelColumns, forget
from promptgraft.task.draws import Array
from promptgraft.task.task import Example, content_hash
from promptgraft.template.parts import Blank, Wording
from promptgraft.template.template import Template
from promptgraft.train.predict import hidden_states

LONGEST, SHORTER = 2000, 200
"""Characters before and after a gap that are read, and where these are too many tokens."""


@dataclass(frozen=True)
class WordGap:
    """A place in a text where a word is missing.

    Attributes:
        after: what follows; a model that reads from left to right does not see it.
    """

    before: str
    after: str = ""


class Asker:
    """Asks models for words, texts and gradients, through an oracle's budget and journal.

    Attributes:
        proposer: the model that words and texts are asked of.
    """

    def __init__(self, oracle: Oracle, proposer: Backbone) -> None:
        self.oracle, self.proposer = oracle, proposer
        self._vocabulary = dict(proposer.lone_words()) if hasattr(proposer, "lone_words") else {}

    def embeddings(self, words: Sequence[str]) -> Float[Array, "P E"]:
        """The embeddings of words of one token in the model that scores; they cost nothing."""
        backbone = self.oracle.scorer.backbone
        assert isinstance(backbone, Speaks), "it was checked to have a head over words"
        vocabulary = backbone.lone_words()
        return backbone.embed(torch.tensor([vocabulary[word] for word in words])).double().numpy()

    def likely_words(self, gaps: Sequence[WordGap], most: int) -> list[list[tuple[str, float]]]:
        """The likeliest words of one token for each gap, with their log-probabilities among all such words.

        Raises:
            SpentError: it costs more passes than are left.
        """
        if not gaps:
            return []
        texts = [text for gap in gaps for text in (gap.before, gap.after)]
        question = content_hash(["words", str(most), *texts])
        answer = self.oracle.ask(question, lambda: self._words_plan(gaps, most))
        return [[(word, share) for word, share in entry] for entry in answer]

    def _words_plan(self, gaps: Sequence[WordGap], most: int) -> Priced:
        tokens = concatenate(self._gap_tokens(gaps))

        def ask() -> tuple[Any, int, int]:
            forget(self.proposer)
            states = hidden_states(self.proposer, tokens, None, None, "mark")
            shares = word_shares(self._columns, states)
            return likeliest(shares, list(self._vocabulary), most), tokens.sequences, len(tokens.ids)

        return Priced(tokens.sequences, ask)

    @cached_property
    def _columns(self) -> LabelColumns:
        """The weights and biases of the words that the proposer is asked for; to take them takes longer than to ask."""
        assert isinstance(self.proposer, Speaks), "it was checked to have a head over words"
        return self.proposer.columns(torch.tensor(list(self._vocabulary.values())))

    def _gap_tokens(self, gaps: Sequence[WordGap]) -> list[Tokens]:
        """Texts with gaps as the proposer reads them; one that cannot be read is read without what stands around."""
        tokenizer = self.proposer.template_tokenizer((Example(),), "text", self.proposer.max_length)
        read: dict[int, Tokens] = {}
        for most in (LONGEST, SHORTER, 0):
            places = [place for place in range(len(gaps)) if place not in read]
            own = tokenizer.tokens([(_around(gaps[place], most), (0,)) for place in places])
            read |= {place: tokens for place, tokens in zip(places, own, strict=True) if isinstance(tokens, Tokens)}
        if len(read) < len(gaps):
            [last] = tokenizer.tokens([(".{mask}", (0,))])
            if not isinstance(last, Tokens):
                raise last
            read = {place: read.get(place, last) for place in range(len(gaps))}
        return [read[place] for place in range(len(gaps))]

    def texts(self, beginnings: Sequence[str], *, most: int, temperature: float, seed: int) -> list[str]:
        """What the proposer writes behind each text, to the end of a line or so many tokens.

        A text counts a pass for every token that was written and one for its end.

        Raises:
            SpentError: at their full length they would cost more passes than are left.
        """
        question = content_hash(["texts", str(most), repr(temperature), str(seed), *beginnings])
        return list(self.oracle.ask(question, lambda: self._texts_plan(beginnings, most, temperature, seed)))

    def _texts_plan(self, beginnings: Sequence[str], most: int, temperature: float, seed: int) -> Priced:
        proposer = self.proposer
        assert isinstance(proposer, Writes), "it was checked to write"
        assert isinstance(proposer, Backbone), "and it is a backbone"
        limit = max(8, proposer.max_length - most)
        reading = Reading("mark", template="{text}{mask}")
        rows = [Example(text=text) for text in beginnings]

        def ask() -> tuple[list[str], int, int]:
            forget(proposer)
            tokens = proposer.tokenize(rows, "text", reading, max_length=limit)
            generator = torch.Generator().manual_seed(seed)
            written = proposer.generate(
                Batch(tokens), None, most=most, stop=("\n",), generator=generator, temperature=temperature
            )
            read = proposer.tokenize_texts([text or "." for text in written])
            counts = (read.lengths + 1).clamp_max(most)
            return written, int(counts.sum()), len(tokens.ids) + int(counts.sum())

        return Priced(most * len(beginnings), ask)

    def spans(
        self, texts: Sequence[Sequence[str]], *, most: int, temperature: float, seed: int
    ) -> list[tuple[str, ...]]:
        """What the proposer puts into the gaps between the pieces of each text; a pass for every token it writes.

        Raises:
            SpentError: at their full length they would cost more passes than are left.
        """
        flat = [piece for pieces in texts for piece in pieces]
        question = content_hash(["spans", str(most), repr(temperature), str(seed), *flat])
        answer = self.oracle.ask(question, lambda: self._spans_plan(texts, most, temperature, seed))
        return [tuple(spans) for spans in answer]

    def _spans_plan(self, texts: Sequence[Sequence[str]], most: int, temperature: float, seed: int) -> Priced:
        proposer = self.proposer
        assert isinstance(proposer, SequenceBackbone), "it was checked to fill gaps"

        def ask() -> tuple[Any, int, int]:
            generator = torch.Generator().manual_seed(seed)
            filled = proposer.fill(texts, most=most, generator=generator, temperature=temperature)
            return [list(spans) for spans in filled.spans], filled.written, filled.read + filled.written

        return Priced(most * len(texts), ask)

    def label_words(self, candidate: Candidate, most: int) -> list[list[tuple[str, float]]]:
        """Of each class the words that the scoring model finds likeliest at the answer's place of its search rows.

        They come with the sum of their log-probabilities over these rows, among all words of one token.

        Raises:
            SpentError: it costs more passes than are left.
        """
        question = content_hash(["label words", candidate.key, str(most)])
        answer = self.oracle.ask(question, lambda: self._label_plan(candidate, most))
        return [[(word, total) for word, total in words] for words in answer]

    def _label_plan(self, candidate: Candidate, most: int) -> Priced:
        scorer, examples = self.oracle.scorer, self.oracle.examples
        backbone, gold = scorer.backbone, torch.tensor(scorer.gold(examples))
        reading = Reading("mark", template=candidate.written_out(scorer.task, scorer.pool))
        try:
            tokens = backbone.tokenize(examples, scorer.task.kind, reading, max_length=scorer.limit)
        except (RunError, UsageError):
            return Priced(0, lambda: ([], 0, 0))

        def ask() -> tuple[Any, int, int]:
            forget(backbone)
            assert isinstance(backbone, Speaks), "it was checked to have a head over words"
            vocabulary = backbone.lone_words()
            columns = backbone.columns(torch.tensor(list(vocabulary.values())))
            shares = word_shares(columns, hidden_states(backbone, tokens, None, None, "mark"))
            totals = torch.zeros(len(scorer.task.classes), shares.shape[1]).index_add_(0, gold, shares)
            return likeliest(totals, list(vocabulary), most), tokens.sequences, len(tokens.ids)

        return Priced(tokens.sequences, ask)

    def slopes(
        self, candidate: Candidate, phrases: Phrases, rows: Sequence[int], most: int
    ) -> dict[int, list[tuple[str, float]]]:
        """Of every word of a template that is a single token, the words that would lower the loss most in its place.

        They are those of the model that scores, with by how much to first order. A row counts three passes.

        Args:
            rows: search rows that the loss is the mean of.
        Raises:
            SpentError: it costs more passes than are left.
        """
        question = content_hash(["slopes", candidate.key, repr(tuple(rows)), str(most)])
        answer = self.oracle.ask(question, lambda: self._slopes_plan(candidate, phrases, rows, most))
        return {int(place): [(word, change) for word, change in words] for place, words in answer}

    def _slopes_plan(self, candidate: Candidate, phrases: Phrases, rows: Sequence[int], most: int) -> Priced:
        scorer = self.oracle.scorer
        backbone = scorer.backbone
        causal = isinstance(backbone, Writes) and backbone.speech == "causal"
        try:
            words = slotted(phrases, backbone, left_to_right=causal)
            examples = [self.oracle.examples[row] for row in rows]
            reading = scorer.reading(words.template, candidate)
            tokens = backbone.tokenize(examples, scorer.task.kind, reading, max_length=scorer.limit)
            columns = None if scorer.answers else scorer.columns_of_words(candidate.words)
        except (RunError, UsageError):
            return Priced(0, lambda: ([], 0, 0))

        def ask() -> tuple[Any, int, int]:
            forget(backbone)
            gradients = word_gradients(backbone, words, tokens, columns, scorer.gold(examples))
            assert isinstance(backbone, Speaks), "it was checked to have a head over words"
            vocabulary = backbone.lone_words()
            names, table = list(vocabulary), backbone.embed(torch.tensor(list(vocabulary.values())))
            present = backbone.embed(torch.tensor(words.tokens))
            vectors = [vector for _, vector in words.units]
            places, changes = steepest(gradients[vectors], present[vectors], table, most)
            answer = [
                [unit, [[names[place], change] for place, change in zip(own, values, strict=True)]]
                for (unit, _), own, values in zip(words.units, places, changes, strict=True)
            ]
            return answer, GRADIENT * tokens.sequences, GRADIENT * len(tokens.ids)

        return Priced(GRADIENT * tokens.sequences, ask)


def _around(gap: WordGap, most: int) -> str:
    """A template whose answer is a gap, with so many characters on either side of it."""
    before, after = gap.before[max(0, len(gap.before) - most) :], gap.after[:most]
    return str(Template((Wording(before or " "), Blank(), *([Wording(after)] if after else ()))))


def word_shares(columns: LabelColumns, states: Float[Tensor, "B E"]) -> Float[Tensor, "B V"]:
    """The log-probabilities of some words at the marks that states were read at, among all of these words.

    Args:
        columns: of these words.
    """
    weights, biases = columns
    return (states.float() @ weights.mT + biases).log_softmax(-1)


def likeliest(values: Float[Tensor, "N V"], words: Sequence[str], most: int) -> list[list[list[Any]]]:
    """Of each row the words with the highest values, with these."""
    best = values.topk(min(most, values.shape[1]))
    return [
        [[words[place], value] for place, value in zip(places, own, strict=True)]
        for places, own in zip(best.indices.tolist(), best.values.tolist(), strict=True)
    ]
