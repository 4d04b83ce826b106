"""Examples become tokens as a reading shows them: alone with special tokens around, or in the words of a template."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from promptgraft.errors import RunError
from promptgraft.model.backbone import Backbone, Speech
from promptgraft.model.composed import TemplateTokenizer
from promptgraft.model.filled import FilledReader
from promptgraft.model.nearby import row_features, shown_lines
from promptgraft.model.tokenize import Tokenizer
from promptgraft.model.tokens import Tokens
from promptgraft.prompt.pool import LabelledPool
from promptgraft.prompt.reading import ANSWERED, Reading
from promptgraft.task.kinds import KINDS
from promptgraft.task.task import Example, Kind, References
from promptgraft.template.template import Template

Near = Callable[[LabelledPool], Float[Tensor, "B H"]]


def tokenized(
    tokenizer: Tokenizer,
    speech: Speech,
    examples: Sequence[Example],
    kind: Kind,
    reading: Reading,
    limit: int,
    end: tuple[int, ...] = (),
    near: Near | None = None,
) -> Tokens:
    """Tokenise examples as a reading shows them.

    Args:
        speech: how the model gives words.
        limit: tokens of a sequence at most.
        end: the tokens that end a text, from which a model learns where an answer that it writes ends.
        near: gives features of rows, where a reading has a pool of labelled rows to choose demonstrations from.
    Raises:
        RunError: the reading asks for an answer's tokens, and no row has an answer.
    """
    if reading.template is None:
        return tokenizer.examples(examples, kind, reading, limit)
    template = Template.parse(reading.template)
    reader = FilledReader(tokenizer, speech, end if KINDS[kind].written else ())
    if reading.pool is None or template.demos is None or near is None:
        rows = [template.filled(example) for example in examples]
    else:
        lines = shown_lines(reading.pool, near(reading.pool), examples, template.demos.count, reader.sizes, limit)
        rows = [template.showing(own).filled(example) for own, example in zip(lines, examples, strict=True)]
    answers = None if reading.pooling not in ANSWERED else [answers_of(example, kind, reading) for example in examples]
    return reader.tokens(rows, limit, answers)


def slots(tokenizer: Tokenizer, speech: Speech, template: str) -> tuple[int | None, ...]:
    """Of every vector that a template leaves room for, the token that it starts from; None where it is no word's."""
    return FilledReader(tokenizer, speech).vectors(Template.parse(template).showing(()))


def answers_of(example: Example, kind: Kind, reading: Reading) -> Sequence[str]:
    """The possible answers of a row: its own options, what each class says, or the text to be written, if it is known.

    Of several texts that may be written a model learns from the first.
    """
    if KINDS[kind].written:
        return example.label.texts[:1] if isinstance(example.label, References) else ()
    options = example.choices if kind == "choice" else reading.answers
    if not options:
        raise RunError(f"a {kind} row has no answers to compare", do="read it at the answer's place (verbalizer)")
    return options


class Tokenizing:
    """What every backbone does with its tokenizer, as `Backbone` promises it.

    Attributes:
        speech: how the model gives words.
        text_end: the tokens that end a text which a model has learned to write.
    """

    speech: Speech = "masked"
    max_length: int
    _tokenizer: Tokenizer

    @property
    def text_end(self) -> tuple[int, ...]:
        return ()

    @property
    def unknown_token(self) -> int | None:
        return self._tokenizer.unknown_token

    @property
    def reading(self) -> str:
        return self._tokenizer.identity

    def tokenize(
        self, examples: Sequence[Example], kind: Kind, reading: Reading, *, max_length: int | None = None
    ) -> Tokens:
        limit = min(max_length or self.max_length, self.max_length)

        def near(pool: LabelledPool) -> Float[Tensor, "B H"]:
            assert isinstance(self, Backbone), "a backbone chooses by its own states"
            return row_features(self, examples, kind, pool.pooling, limit)

        return tokenized(self._tokenizer, self.speech, examples, kind, reading, limit, self.text_end, near)

    def template_tokenizer(self, examples: Sequence[Example], kind: Kind, max_length: int) -> TemplateTokenizer:
        end = self.text_end if KINDS[kind].written else ()
        reader = FilledReader(self._tokenizer, self.speech, end)
        return TemplateTokenizer(reader, examples, min(max_length, self.max_length))

    def unread(self, examples: Sequence[Example], tokens: Tokens) -> list[int]:
        unknown = self._tokenizer.unknown_token
        if unknown is None:
            return []
        counts = torch.nn.functional.pad((tokens.ids == unknown).long().cumsum(0), (1, 0))
        rows = (counts[tokens.row_tokens].diff() > 0).nonzero().flatten().tolist()
        marks = self._tokenizer.little_known([examples[row].every_text for row in rows], self.max_length)
        return [row for row, is_unread in zip(rows, marks, strict=True) if is_unread]

    def lone_words(self) -> Mapping[str, int]:
        """The words that are a single token inside a sentence, with it: letters alone, two or more of an alphabet."""
        return self._tokenizer.lone_words

    def slots(self, template: str) -> tuple[int | None, ...]:
        return slots(self._tokenizer, self.speech, template)

    def tokenize_texts(self, texts: Sequence[str]) -> Tokens:
        return self._tokenizer.texts(texts, self.max_length)
