"""Many templates over the same rows become the tokens that each has alone, whatever the texts and the tokenizer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Regex, models, normalizers, pre_tokenizers, processors, trainers
from tokenizers import Tokenizer as Engine

from promptgraft.errors import UsageError
from promptgraft.model.backbone import Speech
from promptgraft.model.composed import TemplateTokenizer
from promptgraft.model.filled import FilledReader
from promptgraft.model.joints import SPLITS, joint_of
from promptgraft.model.tokenize import load_tokenizer
from promptgraft.model.tokens import Tokens
from promptgraft.task.task import Example
from promptgraft.template.parts import Blank, Field, Soft, TemplatePart, Wording
from promptgraft.template.template import Template

PIECES = (
    " ", "  ", "\n", "\n\n", "\t", ".", "...", ",", "'s", "don't", '"', "good", " good", "bad", "th", "12", "3",
    "电影", "，", "。", "🎉", "❤\ufe0f", "▁", "¨", "\u0600", "\u00ad", "é", "e\u0301",
    "\u0301", "\u200b", "\u00a0", "\u3000", "[MASK]", "</s>", "<s>", "ab", "\x00",
)  # fmt: skip
TRAINED = "good bad the th don't it's 12 34 电影很好看。naïve café ... , \" [MASK] ab\n\nab  ab"
texts = st.lists(st.sampled_from(PIECES), max_size=12).map("".join) | st.text(max_size=12)
wordings = texts.map(Wording)
answer_texts = st.lists(texts.filter(bool), max_size=3).map(tuple)
slots = st.sampled_from(("text_a", "text_b", "text")).map(Field) | st.integers(1, 3).map(Soft)


def bytes_of(engine: Engine, *steps: pre_tokenizers.PreTokenizer) -> Engine:
    engine.pre_tokenizer = pre_tokenizers.Sequence(list(steps))
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    special = ["<s>", "</s>", "<unk>"]
    engine.train_from_iterator(
        [TRAINED] * 5, trainers.BpeTrainer(vocab_size=380, special_tokens=special, initial_alphabet=alphabet)
    )
    return engine


def with_ends(engine: Engine) -> Engine:
    engine.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> $B:1 </s>:1", special_tokens=[("<s>", 0), ("</s>", 1)]
    )
    return engine


def spaced() -> Engine:
    """A tokenizer of which nothing is known: words begin with a space of their own."""
    engine = Engine(models.BPE(byte_fallback=True, unk_token="<unk>"))
    engine.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    engine.train_from_iterator(
        [TRAINED] * 5, trainers.BpeTrainer(vocab_size=300, special_tokens=["<s>", "</s>", "<unk>"])
    )
    return with_ends(engine)


def split() -> Engine:
    engine = Engine(models.BPE())
    engine.normalizer = normalizers.NFC()
    words = pre_tokenizers.Split(Regex(SPLITS[1]), "isolated")
    return with_ends(bytes_of(engine, words, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)))


def pieces() -> Engine:
    """A tokenizer of SentencePiece's kind, which cuts a text before every space; its vocabulary has the ends of texts.

    It reads like XLM-R's and T5's: compatible characters are one, many spaces too, and accents are dropped.
    """
    engine = Engine(models.Unigram())
    many = normalizers.Replace(Regex(" {2,}"), " ")
    zero_width = normalizers.Replace(Regex("[\\\t\\\n\u200b▁\ufffd]"), " ")
    engine.normalizer = normalizers.Sequence(
        [zero_width, normalizers.NFKD(), normalizers.StripAccents(), normalizers.Strip(left=False, right=True), many]
    )
    engine.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    trainer = trainers.UnigramTrainer(vocab_size=120, special_tokens=["<s>", "</s>", "<unk>"], unk_token="<unk>")
    engine.train_from_iterator([TRAINED] * 5, trainer)
    return with_ends(engine)


def merged() -> Engine:
    """A tokenizer of Llama's first kind: it merges pairs over the whole text, of which none goes on behind a space."""
    engine = Engine(models.BPE(byte_fallback=True, unk_token="<unk>", fuse_unk=True))
    engine.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    engine.train_from_iterator(
        [TRAINED] * 5, trainers.BpeTrainer(vocab_size=300, special_tokens=["<s>", "</s>", "<unk>"])
    )
    engine.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    engine.pre_tokenizer = None
    return with_ends(engine)


MADE: dict[str, Callable[[], Engine]] = {
    "digits": lambda: bytes_of(
        Engine(models.BPE()), pre_tokenizers.Digits(True), pre_tokenizers.ByteLevel(add_prefix_space=False)
    ),
    "prefixed": lambda: bytes_of(Engine(models.BPE()), pre_tokenizers.ByteLevel(add_prefix_space=True)),
    "split": split,
    "spaced": spaced,
    "pieces": pieces,
    "merged": merged,
}


@pytest.fixture(scope="module", params=["bert", *MADE])
def reader(request: pytest.FixtureRequest, splade_tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> FilledReader:
    if request.param == "bert":
        return FilledReader(load_tokenizer(splade_tiny), "masked")
    folder = tmp_path_factory.mktemp("tokenizer")
    MADE[request.param]().save(str(folder / "tokenizer.json"))
    return FilledReader(load_tokenizer(folder), "causal")


@st.composite
def templates(draw: st.DrawFn, speech: Speech) -> str:
    """A template with a place of the answer; behind it, what a model of that kind reads there."""
    before: list[TemplatePart] = draw(st.lists(wordings | slots, min_size=1, max_size=5))
    after = draw(st.lists(wordings | slots, max_size=2)) if speech == "masked" else draw(st.lists(wordings, max_size=1))
    return str(Template((*before, Blank(), *after)))


def alone(
    reader: FilledReader, template: str, rows: Sequence[Example], limit: int, answers: tuple[str, ...] = ()
) -> Tokens | None:
    try:
        filled = [Template.parse(template).filled(row) for row in rows]
        return reader.tokens(filled, limit, [answers] * len(rows) if answers else None)
    except UsageError:
        return None


def same(found: Tokens | UsageError, wanted: Tokens | None) -> bool:
    if wanted is None or isinstance(found, UsageError):
        return wanted is None and isinstance(found, UsageError)
    fields = ["ids", "types", "starts", "rows", "marks"] + ["answers"] * (wanted.answers is not None)
    return found.cut == wanted.cut and all(torch.equal(getattr(found, name), getattr(wanted, name)) for name in fields)


@settings(max_examples=16, deadline=None)
@given(st.data())
def test_templates_together_are_each_alone(reader: FilledReader, data: st.DataObject) -> None:
    rows = data.draw(st.lists(st.builds(Example, text=texts, pair=texts), min_size=1, max_size=5))
    written = data.draw(st.lists(templates(reader.speech), min_size=1, max_size=4))
    limit = data.draw(st.sampled_from([8, 16, 24, 100]))
    tokenizer = TemplateTokenizer(reader, rows, limit)
    numbers = range(len(rows))
    asked = [(template, data.draw(st.permutations(numbers))) for template in written]
    answers = [data.draw(answer_texts) for _ in asked]
    for _ in range(2):  # the second time from what is known
        for (template, order), own, found in zip(asked, answers, tokenizer.tokens(asked, answers), strict=True):
            assert same(found, alone(reader, template, [rows[row] for row in order], limit, own)), template


@pytest.mark.parametrize("answers", [(), ("good", "very bad")])
@pytest.mark.parametrize(("end", "longest"), [("", 30), (" ", 4)])
def test_a_generation_of_templates_reads_no_row_again(
    reader: FilledReader, end: str, longest: int, answers: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of later templates only the words are read, without what rows end with also where rows are cut."""
    if joint_of(reader.plain.engine) is None:
        pytest.skip("its texts are read as a whole")
    rows = [Example(" ".join(["a good film"] * count) + end) for count in (1, 2, longest)]
    tokenizer = TemplateTokenizer(reader, rows, 60)
    tokenizer.tokens([("{text} it was {mask}", (0, 1, 2))], [answers])
    calls = []
    own = type(reader.plain).read

    def counted(plain: object, wanted: Sequence[str], *, goes_on: bool = False) -> object:
        calls.append([text for text in wanted if text])
        return own(reader.plain, wanted, goes_on=goes_on)

    monkeypatch.setattr(type(reader.plain), "read", counted)
    words = [f"{{text}} it {word} {{mask}}" for word in ("was", "saw", "sat")]
    tokenizer.tokens([(template, (0, 1, 2)) for template in words], [answers] * len(words))
    read = [call for call in calls if call]
    assert sorted(text for call in read for text in call) == [f"{end} it sat", f"{end} it saw"]
    assert len(read) == (2 if end else 1)


def test_what_has_no_answer_to_read_is_told_apart(splade_tiny: Path) -> None:
    masked = FilledReader(load_tokenizer(splade_tiny), "masked")
    [tokens] = TemplateTokenizer(masked, [Example("a good film")], 40).tokens([("{text} it was", (0,))])
    assert isinstance(tokens, Tokens)
    assert tokens.marks is None
