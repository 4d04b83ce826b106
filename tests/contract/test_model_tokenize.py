"""Tokenisation: the ids transformers gives, the rows each kind of task wants, and cuts that are counted."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer as Engine
from tokenizers import decoders, models, pre_tokenizers, processors

from promptgraft.errors import ModelError
from promptgraft.model.backbone import Backbone, Batch
from promptgraft.model.load import load_backbone
from promptgraft.model.tokenize import load_tokenizer, to_traditional_characters
from promptgraft.prompt.reading import Encoding, Reading
from promptgraft.task.task import Example
from toys import tiny_model

TEXTS = ["A great movie!", "", "naïve café — 中文 text", "word " * 700, "don't\tstop\n now", "x" * 300]


@pytest.fixture(scope="module")
def backbone(splade_tiny: Path) -> Backbone:
    return load_backbone(splade_tiny)


@pytest.fixture(scope="module")
def reference(splade_tiny: Path) -> transformers.PreTrainedTokenizerBase:
    return transformers.AutoTokenizer.from_pretrained(splade_tiny)


def sequences(tokens: object) -> list[list[int]]:
    return [one.tolist() for one in tokens.ids.split(tokens.lengths.tolist())]  # type: ignore[attr-defined]


def test_texts_are_what_transformers_makes_of_them(backbone: Backbone, reference: object) -> None:
    tokens = backbone.tokenize_texts(TEXTS)
    assert sequences(tokens) == reference(TEXTS, truncation=True, max_length=512)["input_ids"]  # type: ignore[operator]
    assert tokens.cut == 1
    assert sequences(tokens)[1] == [101, 102]


@pytest.mark.parametrize("limit", [8, 9, 16, 23, 512])
def test_pairs_are_cut_as_transformers_cuts_them(backbone: Backbone, reference: object, limit: int) -> None:
    first = ["one two three four five six seven", "one", "one two three four five six seven eight nine ten", ""]
    second = ["a b", "a b c d e f g h i j k l m n o p q r s t", "a b c d e f g h i j k l m n o", "b"]
    tokens = backbone.tokenize(
        [Example(text, pair) for text, pair in zip(first, second, strict=True)],
        "pair",
        Reading("mean"),
        max_length=limit,
    )
    wanted = reference(first, second, truncation="longest_first", max_length=limit)  # type: ignore[operator]
    assert sequences(tokens) == wanted["input_ids"]
    assert tokens.types.tolist() == [one for row in wanted["token_type_ids"] for one in row]
    whole = reference(first, second)["input_ids"]  # type: ignore[operator]
    assert tokens.cut == sum(len(row) > limit for row in whole)


@pytest.mark.parametrize("encoding", ["separate", "cosine"])
def test_pairs_apart_are_two_sequences_a_row(backbone: Backbone, encoding: Encoding) -> None:
    examples = [Example("left one", "right one"), Example("left two", "right two")]
    tokens = backbone.tokenize(examples, "pair", Reading("mean", encoding))
    assert tokens.rows.tolist() == [0, 2, 4]
    alone = backbone.tokenize_texts(["left one", "right one", "left two", "right two"])
    assert torch.equal(tokens.ids, alone.ids)


def test_choices_are_one_sequence_each(backbone: Backbone, reference: object) -> None:
    examples = [Example("why?", choices=("because", "not at all")), Example("who?", choices=("me", "you", "them"))]
    tokens = backbone.tokenize(examples, "choice", Reading("mean"))
    assert tokens.rows.tolist() == [0, 2, 5]
    wanted = reference(["why?"] * 2 + ["who?"] * 3, ["because", "not at all", "me", "you", "them"])  # type: ignore[operator]
    assert sequences(tokens) == wanted["input_ids"]


def test_words_keep_their_place(backbone: Backbone, reference: object) -> None:
    rows = [("Angela", "Merkel", "unbelievablyish", ""), ("\u200b", "ok"), ("many",) * 30]
    tokens = backbone.tokenize([Example(tokens=row) for row in rows], "tagging", Reading("mean"), max_length=20)
    assert tokens.words is not None
    assert tokens.row_words.diff().tolist() == [4, 2, 18]  # words without a token keep a place, cut words lose it
    wanted = reference(["Angela", "Merkel", "unbelievablyish"], is_split_into_words=True)["input_ids"]  # type: ignore[operator]
    assert sequences(tokens)[0] == [*wanted[:-1], reference.unk_token_id, 102]  # type: ignore[attr-defined]
    assert tokens.cut == 1


def test_spans_point_into_the_original_context(backbone: Backbone) -> None:
    context = "  Café Müller was founded\tin 1978, in Wuppertal. " + "filler " * 40
    tokens = backbone.tokenize([Example("When was it founded?", context)], "span", Reading("mean"), max_length=30)
    assert tokens.chars is not None
    assert len(tokens.ids) == 30
    assert tokens.cut == 1
    covered = [context[a:b] for a, b in tokens.chars.tolist() if a >= 0]
    assert covered[:8] == ["Café", "Müller", "was", "founded", "in", "1978", ",", "in"]
    assert (tokens.chars[:7] == -1).all()  # [CLS] and the question
    assert tokens.chars[-1].tolist() == [-1, -1]


def test_a_question_longer_than_the_model_still_fits(backbone: Backbone) -> None:
    tokens = backbone.tokenize([Example("why " * 600, "because")], "span", Reading("mean"))
    assert tokens.lengths.tolist() == [512]


@pytest.mark.parametrize(
    "text", ["word " * 20_000, "字" * 100_000, "x" * 100_000, " " * 99_990 + "late words", "a.b," * 25_000]
)
def test_a_very_long_line_is_quick(backbone: Backbone, reference: object, text: str) -> None:
    start = time.process_time()
    tokens = backbone.tokenize_texts([text])
    assert time.process_time() - start < 1
    assert sequences(tokens)[0] == reference(text, truncation=True, max_length=512)["input_ids"]  # type: ignore[operator]


def test_prefixes_stand_before_what_they_should(splade_tiny: Path) -> None:
    tokenizer = load_tokenizer(splade_tiny, prefix="query: ")
    plain = load_tokenizer(splade_tiny)

    def same(examples: list[Example], kind: str, encoding: str, prefixed: list[Example]) -> bool:
        one = tokenizer.examples(examples, kind, Reading("mean", encoding), 64)  # type: ignore[arg-type]
        return torch.equal(one.ids, plain.examples(prefixed, kind, Reading("mean", encoding), 64).ids)  # type: ignore[arg-type]

    assert same([Example("a b")], "classification", "cross", [Example("query: a b")])
    assert same([Example("a", "b")], "pair", "separate", [Example("query: a", "query: b")])
    assert same([Example("a", "b")], "span", "cross", [Example("query: a", "b")])
    assert same([Example(tokens=("a", "b"))], "tagging", "cross", [Example(tokens=("a", "b"))])


def test_simplified_text_becomes_traditional_and_keeps_its_length(albert_tiny_zh: Path) -> None:
    backbone = load_backbone(albert_tiny_zh)
    assert torch.equal(backbone.tokenize_texts(["这部电影很好看"]).ids, backbone.tokenize_texts(["這部電影很好看"]).ids)
    words = backbone.tokenize([Example(tokens=("电影", "好"))], "tagging", Reading("mean"))
    assert torch.equal(words.ids, backbone.tokenize([Example(tokens=("電影", "好"))], "tagging", Reading("mean")).ids)
    context = "北京是中国的首都。"
    spans = backbone.tokenize([Example("中国的首都是哪里？", context)], "span", Reading("mean"))
    assert spans.chars is not None
    assert "".join(context[a:b] for a, b in spans.chars.tolist() if a >= 0) == context


def test_conversion_never_changes_the_length() -> None:
    convert = to_traditional_characters()
    for text in ("后来里面发干", "服务器 server 内存", "一只只猫𠮷😀"):
        assert len(convert(text)) == len(text)


def test_multilingual_offsets_leave_out_the_space(e5_small: Path) -> None:
    backbone = load_backbone(e5_small)
    context = "  The tower  is 324 metres high."
    spans = backbone.tokenize([Example("how high?", context)], "span", Reading("mean"))
    assert spans.chars is not None
    covered = [context[a:b] for a, b in spans.chars.tolist() if a >= 0]
    assert not any(one != one.strip() for one in covered if one.strip())
    assert "".join(covered) == context.replace(" ", "")


def test_upper_case_is_lowered_where_the_vocabulary_has_none(tmp_path: Path) -> None:
    words = ["[UNK]", "[CLS]", "[SEP]", "hello", "world"]
    engine = Engine(models.WordPiece({word: number for number, word in enumerate(words)}, unk_token="[UNK]"))
    engine.pre_tokenizer = pre_tokenizers.Whitespace()
    engine.post_processor = processors.BertProcessing(("[SEP]", 2), ("[CLS]", 1))
    engine.save(str(tmp_path / "tokenizer.json"))
    assert load_tokenizer(tmp_path).texts(["Hello WORLD"], 16).ids.tolist() == [1, 3, 4, 2]


def test_byte_level_words_are_told_apart_by_their_space(tmp_path: Path) -> None:
    """A RoBERTa tokenizer: words of a tagging row are the words of the running text."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: at for at, token in enumerate(["<s>", "<pad>", "</s>", "<unk>", *alphabet, "Ġo", "Ġok"])}
    engine = Engine(models.BPE(vocabulary, [("Ġ", "o"), ("Ġo", "k")], unk_token="<unk>"))
    engine.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    engine.decoder = decoders.ByteLevel()
    engine.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0))
    engine.save(str(tmp_path / "tokenizer.json"))
    tokenizer = load_tokenizer(tmp_path)
    words = tokenizer.examples([Example(tokens=("ok", "ok"))], "tagging", Reading("mean"), 16)
    assert words.ids.tolist() == [0, vocabulary["Ġok"], vocabulary["Ġok"], 2]
    pair = tokenizer.examples([Example("a", "b")], "pair", Reading("mean"), 16)
    assert pair.ids.tolist() == [0, vocabulary["a"], 2, 2, vocabulary["b"], 2]
    assert pair.types.tolist() == [0] * 6


def test_a_word_of_megabytes_is_read_in_bounded_time(splade_tiny: Path) -> None:
    """It is one unknown token however much of it is read; what was not read counts as cut."""
    tokenizer = load_tokenizer(splade_tiny)
    began = time.process_time()
    tokens = tokenizer.examples(
        [Example(text="a" * 8_000_000), Example(text="a b")], "classification", Reading("mean"), 32
    )
    assert time.process_time() - began < 20, "eight megabytes took half a minute"
    assert tokens.cut == 1
    assert tokens.lengths.tolist() == [3, 4]


def segmented(folder: Path, family: str, segment: int) -> Path:
    """A model whose tokenizer puts the second text of a pair in a segment of its own."""
    tiny_model(folder, family)
    if family == "roberta":  # of which those that were trained have one segment
        weights = load_file(folder / "model.safetensors")
        table = "embeddings.token_type_embeddings.weight"
        save_file({**weights, table: weights[table][:1].clone()}, folder / "model.safetensors")
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        (folder / "config.json").write_text(json.dumps({**config, "type_vocab_size": 1}), encoding="utf-8")
    path = folder / "tokenizer.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    for part in content["post_processor"]["pair"][-2:]:
        next(iter(part.values()))["type_id"] = segment
    path.write_text(json.dumps(content), encoding="utf-8")
    return folder


@pytest.mark.parametrize("family", ["roberta", "deberta-v2"])
def test_of_a_model_with_one_segment_all_tokens_are_of_it(family: str, tmp_path: Path) -> None:
    pairs = [Example("the film was", pair="a good plot")]
    states = []
    for segment in (0, 1):
        folder = tmp_path / str(segment)
        folder.mkdir()
        backbone = load_backbone(segmented(folder, family, segment), dtype="fp32")
        tokens = backbone.tokenize(pairs, "pair", Reading("mean"))
        states.append(backbone.forward(Batch(tokens, torch.zeros(1, dtype=torch.long)), None, "mean"))
    torch.testing.assert_close(states[0], states[1], rtol=0, atol=0)


def test_segments_that_a_model_lacks_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="its tokenizer tells 3 segments apart, its weights 2; is the tokenizer of"):
        load_backbone(segmented(tmp_path, "bert", 2))
