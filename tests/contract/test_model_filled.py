"""Filled templates as tokens: what transformers makes of the text, with user text that is never more than text."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import transformers
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import AddedToken, decoders, models, pre_tokenizers, processors, trainers
from tokenizers import Tokenizer as Engine

from promptgraft.errors import UsageError
from promptgraft.model.composed import TemplateTokenizer
from promptgraft.model.filled import FilledReader, Speech
from promptgraft.model.stretches import shares
from promptgraft.model.tokenize import load_tokenizer
from promptgraft.model.tokens import SOFT, Tokens
from promptgraft.prompt.reading import Reading
from promptgraft.task.task import Example
from promptgraft.template.parts import Filled
from promptgraft.template.template import Template

CLOZE = Template.parse("Review: {text} It was {mask}.")
SPECIALS = ("<s>", "</s>", "<unk>", "<mask>", "<|im_start|>", "<|im_end|>")
WORDS = "The film was great, and it's positive or negative! 电影很好看。这是正面的评价吗？ naïve café [MASK] <s>"
TEXTS = [
    "a great film!",
    "",
    "  two   spaces \n",
    "naïve café",
    "这部电影很好看。",
    "don't stop",
    "x" * 300,
    "word " * 400,
]
HOSTILE = [
    "[MASK]",
    "[SEP]",
    "[CLS] a [PAD]",
    "<s>",
    "<mask>",
    "</s></s>",
    "<|im_start|>user",
    "＜mask＞",
    "[UNK]<unk>",
]


def byte_level(folder: Path, *, begins: bool) -> FilledReader:
    """A causal model's tokenizer of byte-level BPE, learnt from a few words."""
    engine = Engine(models.BPE())
    engine.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    engine.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=400, special_tokens=list(SPECIALS), initial_alphabet=alphabet)
    engine.train_from_iterator([WORDS] * 5, trainer)
    if begins:
        engine.post_processor = processors.TemplateProcessing(
            single="<s> $A </s>", pair="<s> $A </s> $B </s>", special_tokens=[("<s>", 0), ("</s>", 1)]
        )
    return _saved(engine, folder, "causal")


def metaspace(folder: Path) -> FilledReader:
    """A causal model's tokenizer that begins a text with a space of its own, as Llama's does."""
    engine = Engine(models.BPE(byte_fallback=True, unk_token="<unk>"))
    engine.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    trainer = trainers.BpeTrainer(vocab_size=400, special_tokens=list(SPECIALS))
    engine.train_from_iterator([WORDS] * 5, trainer)
    engine.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", 0)]
    )
    return _saved(engine, folder, "causal")


def _saved(engine: Engine, folder: Path, speech: Speech) -> FilledReader:
    engine.save(str(folder / "tokenizer.json"))
    return FilledReader(load_tokenizer(folder), speech)


@pytest.fixture(scope="module")
def bert(splade_tiny: Path) -> FilledReader:
    return FilledReader(load_tokenizer(splade_tiny), "masked")


@pytest.fixture(scope="module")
def reference(splade_tiny: Path) -> transformers.PreTrainedTokenizerBase:
    return transformers.AutoTokenizer.from_pretrained(splade_tiny)


@pytest.fixture(scope="module")
def multilingual(e5_small: Path) -> FilledReader:
    return FilledReader(load_tokenizer(e5_small), "masked")


@pytest.fixture(scope="module")
def causal(tmp_path_factory: pytest.TempPathFactory) -> FilledReader:
    return byte_level(tmp_path_factory.mktemp("bytes"), begins=True)


@pytest.fixture(scope="module", params=["bert", "multilingual", "bytes", "begun bytes", "metaspace"])
def reader(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> FilledReader:
    folder = tmp_path_factory.mktemp("tokenizer")
    make: dict[str, Callable[[], FilledReader]] = {
        "bert": lambda: request.getfixturevalue("bert"),
        "multilingual": lambda: request.getfixturevalue("multilingual"),
        "bytes": lambda: byte_level(folder, begins=False),
        "begun bytes": lambda: byte_level(folder, begins=True),
        "metaspace": lambda: metaspace(folder),
    }
    return make[request.param]()


def sequences(tokens: object) -> list[list[int]]:
    return [ids.tolist() for ids in tokens.ids.split(tokens.lengths.tolist())]  # type: ignore[attr-defined]


def fill(template: Template, *texts: str) -> list[Filled]:
    return [template.filled(Example(text)) for text in texts]


def test_a_cloze_is_what_transformers_reads(bert: FilledReader, reference: object) -> None:
    texts = [f"Review: {text} It was [MASK]." for text in TEXTS[:-1]]
    tokens = bert.tokens([CLOZE.filled(Example(text)) for text in TEXTS[:-1]], 512)
    assert sequences(tokens) == reference(texts)["input_ids"]  # type: ignore[operator]
    assert tokens.types.eq(0).all()
    assert tokens.marks is not None
    assert tokens.ids[tokens.starts[:-1] + tokens.marks].eq(103).all()
    assert tokens.rows.tolist() == list(range(len(TEXTS)))
    assert (tokens.cut, tokens.answers) == (0, None)


def test_a_multilingual_cloze_is_what_its_tokenizer_reads(multilingual: FilledReader) -> None:
    """A mark behind the mask stays the mark it is in a text; the tokenizer itself puts a space before it."""
    engine = multilingual.tokenizer.engine
    template = Template.parse("{text} It was {mask} !")
    texts = ["a great film!", "naïve café", "这部电影很好看。", "don't stop"]
    tokens = multilingual.tokens([template.filled(Example(text)) for text in texts], 512)
    assert sequences(tokens) == [engine.encode(f"{text} It was<mask> !").ids for text in texts]
    marked = multilingual.tokens([Template.parse("{text} It was {mask}.").filled(Example("so"))], 512)
    assert sequences(marked)[0][-2] == engine.token_to_id(".")


@pytest.mark.parametrize("begins", [False, True])
def test_a_causal_prompt_is_its_text_and_no_end(begins: bool, tmp_path: Path) -> None:
    reader = byte_level(tmp_path, begins=begins)
    engine = reader.tokenizer.engine
    tokens = reader.tokens([CLOZE.filled(Example(text)) for text in TEXTS[:5]], 512, [[" great", "bad"]] * 5)
    assert tokens.rows.tolist() == [0, 2, 4, 6, 8, 10]
    assert tokens.answers is not None
    assert tokens.marks is not None
    for number, ids in enumerate(sequences(tokens)):
        first = int(tokens.starts[number])
        answered = tokens.answers[first : first + len(ids)].tolist()
        mark = int(tokens.marks[number])
        assert answered == [False] * (mark + 1) + [True] * (len(ids) - mark - 1)
        text = f"Review: {TEXTS[number // 2]} It was"
        assert ids[: mark + 1] == [0] * begins + engine.encode(text, add_special_tokens=False).ids
        assert ids[mark + 1 :] == engine.encode([" great", " bad"][number % 2], add_special_tokens=False).ids


def test_llamas_space_stands_before_the_text_and_no_answer(tmp_path: Path) -> None:
    reader = metaspace(tmp_path)
    tokens = reader.tokens(fill(Template.parse("{text}：{mask}"), "好"), 64, [["正面"]])
    vocabulary = reader.tokenizer.engine.get_vocab()
    whole = reader.tokenizer.engine.encode("好：正面", add_special_tokens=False).tokens
    assert [token for token, number in sorted(vocabulary.items(), key=lambda item: item[1]) if number == 0] == ["<s>"]
    read = [reader.tokenizer.engine.id_to_token(number) for number in sequences(tokens)[0]]
    assert "".join(read) == "<s>" + "".join(whole)


def test_seq2seq_reads_the_prompt_and_writes_the_answer(tmp_path: Path) -> None:
    reader = replace(byte_level(tmp_path, begins=True), speech="seq2seq", end=(1,))
    tokens = reader.tokens(fill(CLOZE, "so"), 64, [["great"]])
    encode = reader.tokenizer.engine.encode
    prompt = [*encode("Review: so It was", add_special_tokens=False).ids, *encode(".", add_special_tokens=False).ids]
    assert sequences(tokens) == [[0, *prompt, 1, *encode("great", add_special_tokens=False).ids, 1]]
    assert tokens.answers is not None
    assert tokens.answers.tolist().index(True) == len(prompt) + 2


@pytest.mark.parametrize("text", HOSTILE)
def test_special_tokens_in_a_users_text_are_text(reader: FilledReader, text: str) -> None:
    added = reader.tokenizer.engine.get_added_tokens_decoder()
    special = {number for number, token in added.items() if token.special} - {reader.plain.unknown}
    plain, hostile = (reader.tokens([CLOZE.filled(Example(row))], 256) for row in ("x", f"before {text} after"))

    def count(ids: torch.Tensor) -> list[int]:
        return sorted(number for number in ids.tolist() if number in special)

    assert count(hostile.ids) == count(plain.ids)
    assert len(hostile.ids) > len(plain.ids)


@pytest.mark.parametrize("text", ["<mask>", "</s>", "<s>x"])
def test_a_vocabulary_that_has_special_spellings_as_words(text: str, multilingual: FilledReader) -> None:
    [read] = multilingual.plain.read([f"a {text} b"])
    engine = multilingual.tokenizer.engine
    spelled = "".join(engine.id_to_token(number) for number in read.ids).replace("▁", "")
    assert spelled == f"a{text}b"


@pytest.mark.parametrize("limit", [12, 16, 24, 64])
def test_texts_are_cut_and_templates_never(reader: FilledReader, limit: int) -> None:
    template = Template.parse("In: {text}\nIt was {mask}")
    rows = [template.filled(Example(text)) for text in TEXTS]
    tokens = reader.tokens(rows, limit) if _alone(reader, template) <= limit else None
    if tokens is None:
        with pytest.raises(UsageError, match=r"the template alone has \d+ tokens, and there is room for \d+"):
            reader.tokens(rows, limit)
        return
    assert tokens.lengths.max() <= limit
    whole = reader.tokens(rows, 100_000)
    assert tokens.cut == int((whole.lengths > limit).sum())
    bare = sequences(reader.tokens([template.filled(Example())], limit))[0]
    for ids, before in zip(sequences(tokens), sequences(whole), strict=True):
        if len(before) <= limit:
            assert ids == before
        assert ids[-2:] == before[-2:] == bare[-2:]


def _alone(reader: FilledReader, template: Template) -> int:
    return len(reader.tokens([template.filled(Example())], 100_000).ids)


@given(st.text(max_size=200), st.text(max_size=200), st.integers(12, 60))
def test_cutting_only_shortens_what_a_field_holds(causal: FilledReader, text: str, pair: str, limit: int) -> None:
    template = Template.parse("{text_a}\n{text_b}\n= {mask}")
    [row] = causal.rows([template.filled(Example(text, pair))], limit)
    assert len(row.ids) <= limit
    assert text.startswith(row.texts[0])
    assert pair.startswith(row.texts[1])
    assert row.lost == (len(text) - len(row.texts[0]), len(pair) - len(row.texts[1]))
    [again] = causal.rows([template.filled(Example(*row.texts))], limit)
    assert again.ids == row.ids
    assert causal.tokenizer.engine.decode(row.ids).endswith("\n=")


def test_the_longest_text_gives_first_and_options_last(causal: FilledReader) -> None:
    template = Template.parse("{text} of {choices} is {mask}")
    example = Example("great film " * 50, choices=("yes", "no", "neither of them"))
    [row] = causal.rows([template.filled(example)], 60)
    assert row.lost[0] > 0
    assert row.lost[1] == 0
    [row] = causal.rows([template.filled(example)], 14)
    assert row.texts[0] == ""
    assert row.lost[1] > 0


@given(st.lists(st.integers(0, 50), max_size=6), st.integers(0, 120))
def test_shares_fill_the_room_and_take_from_the_longest(counts: list[int], room: int) -> None:
    kept = shares(counts, room)
    assert sum(kept) == min(sum(counts), room)
    assert all(share <= count for share, count in zip(kept, counts, strict=True))
    cut = [share for share, count in zip(kept, counts, strict=True) if share < count]
    assert not cut or max(kept) <= min(cut) + 1


def test_ten_thousand_characters_are_cut_to_the_model(bert: FilledReader, reference: object) -> None:
    text = "a very good film " * 600
    tokens = bert.tokens([CLOZE.filled(Example(text))], 512)
    assert tokens.lengths.tolist() == [512]
    assert tokens.cut == 1
    ending = reference("It was [MASK].")["input_ids"][1:]  # type: ignore[operator]
    assert sequences(tokens)[0][-5:] == ending
    spaces = bert.tokens([CLOZE.filled(Example(" " * 50_000 + "late words"))], 512)
    assert spaces.lengths.tolist() == [10]
    chinese = bert.tokens([CLOZE.filled(Example("字" * 10_000))], 512)
    assert chinese.lengths.tolist() == [512]


def test_all_answers_of_a_row_are_asked_of_the_same_words(causal: FilledReader) -> None:
    rows = [CLOZE.filled(Example("great film " * 30))]
    tokens = causal.tokens(rows, 40, [["yes", "a film of the great kind"]])
    first, second = sequences(tokens)
    assert tokens.marks is not None
    assert tokens.marks[0] == tokens.marks[1]
    assert first[: int(tokens.marks[0]) + 1] == second[: int(tokens.marks[0]) + 1]
    assert max(len(first), len(second)) <= 40


def test_a_long_answer_takes_half_of_the_room(causal: FilledReader) -> None:
    reader = replace(causal, end=(1,))
    tokens = reader.tokens([CLOZE.filled(Example("great film " * 30))], 64, [["word " * 5_000]])
    assert tokens.lengths.tolist() == [64]
    assert tokens.answers is not None
    assert tokens.answers.sum() == 32
    assert tokens.ids[-1] == 1
    assert tokens.cut == 1


def test_vectors_have_places_of_their_own(bert: FilledReader, reference: object) -> None:
    template = Template.parse('{soft:3} {text} {soft:"It was"} {mask}.')
    tokens = bert.tokens(fill(template, "so good"), 64)
    so_good = reference("so good")["input_ids"]  # type: ignore[operator]
    assert sequences(tokens) == [[101, SOFT, SOFT, SOFT, *so_good[1:-1], SOFT, SOFT, 103, 1012, 102]]
    it_was = reference("it was")["input_ids"][1:-1]  # type: ignore[operator]
    assert bert.vectors(template) == (None, None, None, *it_was)
    assert tokens.marks is not None
    assert tokens.marks.tolist() == [8]


def test_vectors_of_a_byte_level_model_start_from_words_inside_a_sentence(causal: FilledReader) -> None:
    encode = causal.tokenizer.engine.encode
    assert list(causal.vectors(Template.parse('{text} {soft:"It was"} {mask}'))) == encode(" It was").ids[1:-1]
    assert list(causal.vectors(Template.parse('{soft:"It was"} {text} {mask}'))) == encode("It was").ids[1:-1]


def test_words_that_the_model_does_not_know_are_one_line(bert: FilledReader) -> None:
    with pytest.raises(UsageError, match=r"the model has no tokens for the words of {soft"):
        bert.vectors(Template.parse('{text} {soft:"\U0001f9ff"} {mask}'))


@pytest.mark.parametrize("text", ["{text_a}? {mask}, {text_b}", "{text} {mask} {soft:4}"])
def test_what_a_causal_model_never_reads_is_one_line(causal: FilledReader, text: str) -> None:
    with pytest.raises(UsageError, match=r"stands behind the template's {mask}.*; put {mask} last"):
        causal.tokens([Template.parse(text).filled(Example("a", "b"))], 64)


def test_a_causal_model_drops_the_words_behind_the_answer(causal: FilledReader) -> None:
    first, second = (causal.tokens(fill(Template.parse(text), "so"), 64) for text in ("{text} is {mask}.", "{text} is"))
    assert first.ids.tolist() == second.ids.tolist()


@pytest.mark.parametrize(
    ("config", "begin"),
    [
        ({"bos_token_id": 0, "eos_token_id": 1}, 0),
        ({"bos_token_id": None, "eos_token_id": [1, 0]}, 1),
        ({"eos_token_id": 2}, 2),
        ({"bos_token_id": "none"}, 2),
        (None, 2),
    ],
    ids=["beginning", "one of several ends", "end", "no number", "nothing named"],
)
def test_an_empty_row_with_nothing_before_the_answer_begins_as_a_text_does(
    config: dict[str, object] | None, begin: int, tmp_path: Path
) -> None:
    """As transformers' `generate` without an input begins with bos_token_id."""
    if config is not None:
        (tmp_path / "config.json").write_text(json.dumps(config), encoding="utf-8")
    reader = byte_level(tmp_path, begins=False)
    template = Template.parse("{text} {mask}")
    rows = [template.filled(Example(text)) for text in ("so good", "", "so")]
    tokens = reader.tokens(rows, 64)
    encode = reader.tokenizer.engine.encode
    assert sequences(tokens) == [encode("so good").ids, [begin], encode("so").ids]
    assert tokens.marks is not None
    assert tokens.marks.tolist() == [len(encode("so good").ids) - 1, 0, len(encode("so").ids) - 1]
    [together] = TemplateTokenizer(reader, [Example("so good"), Example(), Example("so")], 64).tokens(
        [("{text} {mask}", (0, 1, 2))]
    )
    assert isinstance(together, Tokens)
    assert sequences(together) == sequences(tokens)
    for kind, empty in (("classification", Example()), ("tagging", Example()), ("span", Example("", ""))):
        alone = reader.tokenizer.examples([empty], kind, Reading("mean"), 64)  # type: ignore[arg-type]
        assert sequences(alone) == [[begin]]


def test_a_beginning_that_the_model_lacks_is_not_taken(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"bos_token_id": 4000}', encoding="utf-8")
    tokenizer = byte_level(tmp_path, begins=False).tokenizer
    assert tokenizer.checked(4000, 0, tmp_path).frames.begin == tokenizer.unknown
    assert tokenizer.checked(4001, 0, tmp_path).frames.begin == 4000


def test_a_template_without_an_answer_is_a_text(bert: FilledReader, reference: object) -> None:
    tokens = bert.tokens(fill(Template.parse("A review: {text}"), "so good"), 64)
    assert sequences(tokens) == reference(["A review: so good"])["input_ids"]  # type: ignore[operator]
    assert tokens.marks is None


@pytest.mark.parametrize("length", [3, 400])
def test_words_stand_in_the_place_of_a_masked_models_mask(bert: FilledReader, reference: object, length: int) -> None:
    """A sequence for each, with their tokens marked; what is cut is the row's text."""
    words = ["great", "unsentimental"]
    text = "so " * length
    template = Template.parse("{text} It was {mask} .")
    tokens = bert.tokens(fill(template, text.strip()), 64, [words])
    assert tokens.rows.tolist() == [0, 2]
    assert tokens.answers is not None
    rows = sequences(tokens)
    assert all(len(row) <= 64 for row in rows)
    left = rows[0].count(rows[0][1])
    assert (left == length) == (length < 64)
    wanted = reference([f"{'so ' * left}It was {word} ." for word in words])  # type: ignore[operator]
    assert rows == wanted["input_ids"]
    own = bert.tokenizer.word_ids(words)
    assert tokens.ids[tokens.answers].tolist() == [token for ids in own for token in ids]
    with pytest.raises(UsageError, match="no token for the word ' '"):
        bert.tokens(fill(template, text), 64, [[" ", "great"]])


def test_tokens_that_are_added_and_not_special_stay_tokens(tmp_path: Path) -> None:
    """They are a part of the vocabulary that its makers added."""
    engine = byte_level(tmp_path, begins=False).tokenizer.engine
    engine.add_tokens([AddedToken("<think>", special=False)])
    reader = _saved(engine, tmp_path, "causal")
    [read] = reader.plain.read(["so <think> on"])
    assert engine.token_to_id("<think>") in read.ids
