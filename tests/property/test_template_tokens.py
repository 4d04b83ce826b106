"""Many templates over the same rows become the tokens that each has alone, whatever the texts and the tokenizer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Regex, models, normalizers, pre_tokenizers, processors, trainers
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
    "<tool>", "<tool> ", " <tool>", "<right>", "<left>", "   ", "covid", "Covid 19", "x y",
)  # fmt: skip
TRAINED = "good bad the th don't it's 12 34 电影很好看。naïve café ... , \" [MASK] ab\n\nab  ab"
texts = st.lists(st.sampled_from(PIECES), max_size=12).map("".join) | st.text(max_size=12)
wordings = texts.map(Wording)
answer_texts = st.lists(texts.filter(bool), max_size=3).map(tuple)
contents = st.just("") | texts
options = st.lists(texts, max_size=3).map(tuple)
slots = st.sampled_from(("text_a", "text_b", "text", "choices")).map(Field) | st.integers(1, 3).map(Soft)
ADDED = (
    AddedToken("<tool>", normalized=False), AddedToken("<right>", rstrip=True, normalized=False),
    AddedToken("<left>", lstrip=True, normalized=False), AddedToken("   ", normalized=False),
    AddedToken("\n\n", normalized=False), AddedToken("▁▁", normalized=False),
)  # fmt: skip
"""Ordinary added tokens such as Qwen's, Phi's, ModernBERT's and Gemma's."""


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


REAL: dict[str, Speech] = {
    "splade_tiny": "masked", "smollm2_135m": "causal", "flan_t5_small_titler": "seq2seq", "e5_small": "masked",
}  # fmt: skip
WITH_ADDED = [(name, ADDED) for name in ("digits", "prefixed", "split", "pieces", "merged", "splade_tiny")]
WITH_CHANGED = [(name, (*ADDED, AddedToken("covid"))) for name in ("split", "pieces", "splade_tiny")]


@pytest.fixture(
    scope="module",
    params=[*((name, ()) for name in (*REAL, *MADE)), *WITH_ADDED, *WITH_CHANGED],
    ids=lambda param: f"{param[0]}, {len(param[1])} added" if param[1] else param[0],
)
def reader(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> FilledReader:
    name, added = request.param
    speech, made = REAL.get(name, "causal"), MADE.get(name)
    if made is None:
        tokenizer = load_tokenizer(request.getfixturevalue(name))
    else:
        folder = tmp_path_factory.mktemp("tokenizer")
        made().save(str(folder / "tokenizer.json"))
        tokenizer = load_tokenizer(folder)
    tokenizer.engine.add_tokens(list(added))
    return FilledReader(tokenizer, speech)


@st.composite
def templates(draw: st.DrawFn, speech: Speech) -> str:
    """A template with a place of the answer; behind it, what a model of that kind reads there."""
    before: list[TemplatePart] = draw(st.lists(wordings | slots, min_size=1, max_size=5))
    behind = st.lists(wordings, max_size=1) if speech == "causal" else st.lists(wordings | slots, max_size=2)
    after = draw(behind)
    return str(Template((*before, Blank(), *after)))


def alone(
    reader: FilledReader, template: str, rows: Sequence[Example], limit: int, answers: Sequence[tuple[str, ...]]
) -> Tokens | None:
    try:
        return reader.tokens([Template.parse(template).filled(row) for row in rows], limit, answers)
    except UsageError:
        return None


def same(found: Tokens | UsageError, wanted: Tokens | None) -> bool:
    if wanted is None or isinstance(found, UsageError):
        return wanted is None and isinstance(found, UsageError)
    names = ("ids", "types", "starts", "rows", "marks", "answers")
    pairs = [(getattr(found, name), getattr(wanted, name)) for name in names]
    alike = [one is other if one is None or other is None else torch.equal(one, other) for one, other in pairs]
    return found.cut == wanted.cut and all(alike)


@settings(max_examples=16, deadline=None)
@given(st.data())
def test_templates_together_are_each_alone(reader: FilledReader, data: st.DataObject) -> None:
    examples = st.builds(Example, text=contents, pair=contents, choices=options)
    rows = data.draw(st.lists(examples, min_size=1, max_size=5))
    written = data.draw(st.lists(templates(reader.speech), min_size=1, max_size=4))
    limit = data.draw(st.sampled_from([8, 16, 24, 100]))
    tokenizer = TemplateTokenizer(reader, rows, limit)
    numbers = range(len(rows))
    asked = [(template, data.draw(st.permutations(numbers))) for template in written]
    alike, apart = answer_texts.map(lambda own: [own] * len(rows)), st.tuples(*[answer_texts] * len(rows))
    answers = [data.draw(alike | apart) for _ in asked]
    for _ in range(2):  # the second time from what is known
        for (template, order), own, found in zip(asked, answers, tokenizer.tokens(asked, answers), strict=True):
            assert same(found, alone(reader, template, [rows[row] for row in order], limit, own)), template


@pytest.mark.parametrize("answers", [[()] * 4, [("good", "very bad")] * 4, [("a",), ("b", "so bad"), ("c",), ()]])
@pytest.mark.parametrize(("end", "longest"), [("", 30), (" ", 4)])
def test_a_generation_of_templates_reads_no_row_again(
    reader: FilledReader, end: str, longest: int, answers: list[tuple[str, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of later templates only the words are read, without what rows end with also where rows are cut.

    They are read once more for rows without a text, which begin with them. A row is cut alike for words of as many
    tokens.
    """
    if joint_of(reader.plain.engine) is None:
        pytest.skip("its texts are read as a whole")
    if longest > 4 and any(not token.special for token in reader.plain.engine.get_added_tokens_decoder().values()):
        pytest.skip("a row may be cut where an added token ends, and is read again then")
    rows = [*(Example(" ".join(["a good film"] * count) + end) for count in (1, 2, longest)), Example()]
    letters = "bdfhjkqx"
    sizes = [len(own.ids) for own in reader.plain.read([f" it {letter}" for letter in letters], goes_on=True)]
    first, second, third, *_ = [
        letter for letter, size in zip(letters, sizes, strict=True) if size == max(sizes, key=sizes.count)
    ]
    tokenizer = TemplateTokenizer(reader, rows, 60)
    tokenizer.tokens([(f"{{text}} it {first} {{mask}}", (0, 1, 2, 3))], [answers])
    calls = []
    own = type(reader.plain).read

    def counted(plain: object, wanted: Sequence[str], *, goes_on: bool = False) -> object:
        calls.append([text for text in wanted if text])
        return own(reader.plain, wanted, goes_on=goes_on)

    monkeypatch.setattr(type(reader.plain), "read", counted)
    words = [f"{{text}} it {word} {{mask}}" for word in (first, second, third)]
    tokenizer.tokens([(template, (0, 1, 2, 3)) for template in words], [answers] * len(words))
    read = [call for call in calls if call]
    assert sorted(text for call in read for text in call) == sorted(
        f"{before} it {word}" for word in (second, third) for before in ("", end)
    )
    assert len(read) == (3 if end else 2)


def test_what_has_no_answer_to_read_is_told_apart(splade_tiny: Path) -> None:
    masked = FilledReader(load_tokenizer(splade_tiny), "masked")
    [tokens] = TemplateTokenizer(masked, [Example("a good film")], 40).tokens([("{text} it was", (0,))])
    assert isinstance(tokens, Tokens)
    assert tokens.marks is None
