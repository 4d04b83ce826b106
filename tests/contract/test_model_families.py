"""Every family's packed forward against transformers: values, and gradients of prompts and weights."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from torch import Tensor

from paths import let_bf16_be
from plain_forwards import PLAIN, deberta_config, deberta_v3_config, modernbert_config
from promptgraft.errors import ModelError, RunError
from promptgraft.kernels.dropout import Dropout
from promptgraft.model.backbone import Backbone, Batch, Read
from promptgraft.model.load import load_folder
from promptgraft.model.packed import PackedBackbone
from promptgraft.model.plain import PlainBackbone
from promptgraft.model.resolved import Resolved
from promptgraft.model.tokens import Tokens
from promptgraft.prompt.prompt import Prompt, PromptStack, stack

SMALL = {"vocab_size": 60, "hidden_size": 24, "num_hidden_layers": 3, "num_attention_heads": 3, "intermediate_size": 40}
MORE = {"max_position_embeddings": 40, "type_vocab_size": 2, "initializer_range": 0.2}
MPNET = {"max_position_embeddings": 40, "initializer_range": 0.2}
DISTIL = {"vocab_size": 60, "dim": 24, "n_layers": 3, "n_heads": 3, "hidden_dim": 40, "max_position_embeddings": 40}
FAMILIES: dict[str, Callable[[], Any]] = {
    "bert": lambda: transformers.BertModel(transformers.BertConfig(**SMALL, **MORE)),
    "bert-for-words": lambda: transformers.BertForMaskedLM(transformers.BertConfig(**SMALL, **MORE)),
    "bert-for-classes": lambda: transformers.BertForSequenceClassification(transformers.BertConfig(**SMALL, **MORE)),
    "roberta": lambda: transformers.RobertaModel(transformers.RobertaConfig(**SMALL, **MORE)),
    "xlm-roberta": lambda: transformers.XLMRobertaForMaskedLM(transformers.XLMRobertaConfig(**SMALL, **MORE)),
    "electra": lambda: transformers.ElectraForMaskedLM(transformers.ElectraConfig(**SMALL, **MORE, embedding_size=16)),
    "electra-even": lambda: transformers.ElectraForPreTraining(
        transformers.ElectraConfig(**SMALL, **MORE, embedding_size=24)
    ),
    "albert": lambda: transformers.AlbertModel(transformers.AlbertConfig(**SMALL, **MORE, embedding_size=16)),
    "albert-groups": lambda: transformers.AlbertForMaskedLM(
        transformers.AlbertConfig(**SMALL, **MORE, embedding_size=16, num_hidden_groups=2, inner_group_num=2)
    ),
    "distilbert": lambda: transformers.DistilBertForMaskedLM(transformers.DistilBertConfig(**DISTIL)),
    "mpnet": lambda: transformers.MPNetForMaskedLM(transformers.MPNetConfig(**SMALL, **MPNET)),
    "modernbert": lambda: transformers.ModernBertForMaskedLM(modernbert_config()),
    "modernbert-biased": lambda: transformers.ModernBertForMaskedLM(
        modernbert_config(
            norm_bias=True,
            attention_bias=True,
            mlp_bias=True,
            classifier_bias=True,
            classifier_activation="relu",
            local_attention=4,
        )
    ),
    "deberta-v2": lambda: transformers.DebertaV2ForMaskedLM(deberta_config(type_vocab_size=2, embedding_size=16)),
    "deberta-v3": lambda: transformers.DebertaV2ForMaskedLM(deberta_v3_config()),
}
HEADS = ("cls", "lm_head", "predictions", "discriminator_predictions")
LENGTHS = [5, 1, 9, 3, 9, 2]
ON_EVERY_PATH = ("bert", "albert-groups")
"""Rows that the native path embeds itself, and rows that enter it; the others are slow on more than one path."""


class Pair:
    """A backbone of ours and the transformers encoder it was loaded from."""

    def __init__(self, name: str, whole: Any, folder: Path) -> None:
        self.name = name
        self.whole, self.theirs, self.head = whole, whole.base_model, head_of(whole)
        self.ours: Backbone = load_folder(Resolved(name, folder, "", None, False))
        self.albert = name.startswith("albert")
        self.plain = next((forward for family, forward in PLAIN.items() if name.startswith(family)), None)
        self.has_types = bool(getattr(self.theirs.config, "type_vocab_size", 0))
        self.first = self.theirs.config.pad_token_id + 1 if "roberta" in name or name == "mpnet" else 0


def random_pair(name: str, folder: Path) -> Pair:
    torch.manual_seed(len(name))
    whole = FAMILIES[name]().eval()
    for weight in whole.parameters():
        weight.data += 0.05 * torch.randn_like(weight)
    whole.save_pretrained(folder)
    save_tokenizer(folder)
    return Pair(name, whole, folder)


def head_of(whole: Any) -> Any:
    """The transform of a head over words: the head without its last layer; None where a model has none."""
    if hasattr(whole, "generator_predictions"):
        return whole.generator_predictions
    if hasattr(whole, "vocab_transform"):
        return torch.nn.Sequential(whole.vocab_transform, whole.activation, whole.vocab_layer_norm)
    if isinstance(whole, transformers.ModernBertForMaskedLM):
        return whole.head
    if hasattr(whole, "lm_predictions"):
        head = whole.lm_predictions.lm_head
        return lambda states: head.LayerNorm(head.transform_act_fn(head.dense(states)))
    head = next((found for name in HEADS if (found := getattr(whole, name, None)) is not None), None)
    head = getattr(head, "predictions", head)
    last = next((name for name in ("decoder", "dense_prediction") if hasattr(head, name)), None)
    if last is None:
        return None
    head = copy.copy(head)
    head._modules = {**head._modules, last: torch.nn.Identity()}
    return head


def save_tokenizer(folder: Path) -> None:
    vocabulary = {word: number for number, word in enumerate(["[UNK]", "[CLS]", "[SEP]", *map(chr, range(97, 123))])}
    engine = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    engine.pre_tokenizer = pre_tokenizers.Whitespace()
    engine.post_processor = processors.BertProcessing(("[SEP]", 2), ("[CLS]", 1))
    engine.save(str(folder / "tokenizer.json"))


def families() -> Iterator[object]:
    for name in FAMILIES:
        yield pytest.param(name, marks=[pytest.mark.every_path] if name in ON_EVERY_PATH else [])


@pytest.fixture(scope="module", params=families())
def pair(each_path: str, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Pair:
    return random_pair(request.param, tmp_path_factory.mktemp(request.param))


def tokens_of(lengths: list[int], seed: int = 0) -> Tokens:
    generator = torch.Generator().manual_seed(seed)
    starts = torch.tensor([0, *lengths]).cumsum(0)
    ids = torch.randint(3, 60, (int(starts[-1]),), generator=generator)
    types = torch.randint(0, 2, ids.shape, generator=generator)
    marks = torch.tensor([number % length for number, length in enumerate(lengths, 3)], dtype=torch.long)
    return Tokens(ids, types, starts, torch.arange(len(lengths) + 1), marks=marks)


def rectangle(tokens: Tokens, flat: Tensor, filler: int = 3) -> tuple[Tensor, Tensor]:
    """Packed values as a padded rectangle, and its mask."""
    mask = torch.arange(int(tokens.lengths.max())) < tokens.lengths[:, None]
    out = torch.full(mask.shape, filler, dtype=flat.dtype)
    out[mask] = flat
    return out, mask


def theirs(pair: Pair, tokens: Tokens, deep: Tensor | None = None, shift: int = 0) -> Tensor:
    """transformers' own padded forward `[S, m, H]`, with a deep prompt for all rows."""
    if deep is not None and pair.plain is not None:
        rows = [pair.plain(pair.theirs, tokens.select(torch.tensor([row])), deep, shift) for row in range(tokens.count)]
        return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
    ids, mask = rectangle(tokens, tokens.ids)
    types, _ = rectangle(tokens, tokens.types, 0)
    positions = (torch.arange(ids.shape[1]) + pair.first + shift).expand(ids.shape)
    if deep is not None and pair.albert:
        return albert_with_prompt(pair.theirs, ids, types, positions, mask, deep)
    extra: dict[str, Any] = {}
    if deep is not None:
        seen = torch.ones(len(ids), deep.shape[2], dtype=torch.bool)
        extra = {"past_key_values": cache_of(deep, pair.theirs.config.num_attention_heads, len(ids))}
        mask = torch.cat([seen, mask], 1)
    if pair.has_types:
        extra["token_type_ids"] = types
    out = pair.theirs(input_ids=ids, attention_mask=mask.long(), position_ids=positions, **extra)
    return out.last_hidden_state


def cache_of(deep: Tensor, heads: int, rows: int) -> Any:
    layers, _, length, hidden = deep.shape
    split = deep.view(layers, 2, 1, length, heads, hidden // heads).transpose(3, 4).expand(-1, -1, rows, -1, -1, -1)
    filled = transformers.DynamicCache([(one[0], one[1]) for one in split])
    return transformers.EncoderDecoderCache(filled, transformers.DynamicCache())


def albert_with_prompt(model: Any, ids: Tensor, types: Tensor, positions: Tensor, mask: Tensor, deep: Tensor) -> Tensor:
    """ALBERT's forward written out with its own modules: transformers gives it no cache."""
    config = model.config
    x = model.encoder.embedding_hidden_mapping_in(model.embeddings(ids, token_type_ids=types, position_ids=positions))
    groups = [int(i / (config.num_hidden_layers / config.num_hidden_groups)) for i in range(config.num_hidden_layers)]
    turns = [layer for group in groups for layer in model.encoder.albert_layer_groups[group].albert_layers]
    full = torch.cat([torch.ones(len(ids), deep.shape[2], dtype=torch.bool), mask], 1)[:, None, None]
    for turn, (keys, values) in zip(turns, deep, strict=True):
        attention = turn.attention
        q, k, v = (
            split_heads(torch.cat([prompt.expand(len(x), -1, -1), one(x)], 1), config.num_attention_heads)
            for prompt, one in ((keys[:0], attention.query), (keys, attention.key), (values, attention.value))
        )
        mixed = torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=full).transpose(1, 2).flatten(2)
        x = attention.LayerNorm(x + attention.dense(mixed))
        x = turn.full_layer_layer_norm(turn.ff_chunk(x) + x)
    return x


def split_heads(x: Tensor, heads: int) -> Tensor:
    return x.view(*x.shape[:2], heads, -1).transpose(1, 2)


def read_off(pair: Pair, tokens: Tokens, hidden: Tensor, read: Read) -> Tensor:
    """What `read` asks for, from padded hidden states."""
    mask = torch.arange(hidden.shape[1]) < tokens.lengths[:, None]
    if read == "tokens":
        return hidden[mask]
    if read == "mark":
        return pair.head(hidden[torch.arange(len(hidden)), tokens.marks])
    if read == "mean":
        return (hidden * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
    if read == "pooler":
        dense = pair.theirs.pooler if pair.albert else pair.theirs.pooler.dense
        return torch.tanh(dense(hidden[:, 0]))
    return hidden[:, 0]


def reads(pair: Pair) -> Iterator[Read]:
    yield from ("cls", "mean", "tokens")
    if any(name.startswith("pooler.") for name in pair.ours.weights):
        yield "pooler"
    if pair.head is not None:
        yield "mark"


def deep_prompt(pair: Pair, length: int, seed: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(pair.ours.layers, 2, length, pair.ours.hidden, generator=generator)


def shallow_prompt(pair: Pair, length: int, seed: int = 1) -> Tensor:
    return torch.randn(length, pair.ours.embedding_width, generator=torch.Generator().manual_seed(seed))


def one_for_all(tokens: Tokens, prompt: Prompt) -> tuple[Batch, PromptStack]:
    return Batch(tokens, torch.zeros(tokens.sequences, dtype=torch.long)), stack([prompt])


def assert_gradients_close(ours: Tensor | None, reference: Tensor | None) -> None:
    assert ours is not None
    assert reference is not None
    assert (ours - reference).abs().max() <= 1e-5 * reference.abs().max()


def test_values_without_prompt(pair: Pair) -> None:
    tokens = tokens_of(LENGTHS)
    reference = theirs(pair, tokens)
    for read in reads(pair):
        ours = pair.ours.forward(Batch(tokens), None, read)
        torch.testing.assert_close(ours, read_off(pair, tokens, reference, read), atol=1e-5, rtol=0)


def test_states_at_marks_times_the_columns_are_the_logits(pair: Pair) -> None:
    tokens = tokens_of(LENGTHS)
    assert pair.ours.reads == {*reads(pair), *(["original"] if pair.name == "electra-even" else [])}
    if pair.head is None:
        with pytest.raises(ModelError, match="no head over words"):
            pair.ours.forward(Batch(tokens), None, "mark")
        return
    assert isinstance(pair.ours, PackedBackbone | PlainBackbone)
    ids, mask = rectangle(tokens, tokens.ids)
    positions = (torch.arange(ids.shape[1]) + pair.first).expand(ids.shape)
    types, _ = rectangle(tokens, tokens.types, 0)
    extra = {"token_type_ids": types} if pair.has_types else {}
    logits = pair.whole(input_ids=ids, attention_mask=mask.long(), position_ids=positions, **extra).logits
    words, biases = pair.ours.columns(torch.arange(60))
    ours = pair.ours.forward(Batch(tokens), None, "mark") @ words.T + biases
    wanted = logits[torch.arange(len(ids)), tokens.marks]
    torch.testing.assert_close(ours, wanted[:, None].expand(-1, 60) if wanted.ndim == 1 else wanted, atol=1e-5, rtol=0)


def test_is_a_backbone_of_the_right_shape(pair: Pair) -> None:
    config = pair.theirs.config
    assert isinstance(pair.ours, Backbone)
    assert pair.ours.hidden == config.hidden_size
    assert pair.ours.embedding_width == pair.theirs.get_input_embeddings().embedding_dim
    assert pair.ours.max_length == 40 - pair.first
    assert not any(weight.requires_grad for weight in pair.ours.weights.values())
    ids = torch.tensor([4, 9])
    assert torch.equal(pair.ours.embed(ids), pair.theirs.get_input_embeddings()(ids).detach())


@pytest.mark.parametrize("placement", ["after_cls", "peft"])
def test_deep_prompt_values_and_gradient(pair: Pair, placement: Any) -> None:
    tokens = tokens_of(LENGTHS)
    for read in reads(pair):
        mine, reference = (deep_prompt(pair, 4).requires_grad_() for _ in range(2))
        ours = pair.ours.forward(*one_for_all(tokens, Prompt(mine, placement)), read)
        hidden = theirs(pair, tokens, reference, shift=4 if placement == "peft" else 0)
        wanted = read_off(pair, tokens, hidden, read)
        torch.testing.assert_close(ours, wanted, atol=1e-5, rtol=0)
        weight = torch.randn(wanted.shape, generator=torch.Generator().manual_seed(5))
        (ours * weight).sum().backward()
        (wanted * weight).sum().backward()
        assert_gradients_close(mine.grad, reference.grad)


@pytest.mark.parametrize("placement", ["after_cls", "peft"])
def test_shallow_prompt_values_and_gradient(pair: Pair, placement: Any) -> None:
    """Row by row through `inputs_embeds`: [CLS] prompt text, or prompt [CLS] text."""
    tokens = tokens_of(LENGTHS)
    ahead = 1 if placement == "after_cls" else 0
    for read in reads(pair):
        mine, reference = (shallow_prompt(pair, 3).requires_grad_() for _ in range(2))
        ours = pair.ours.forward(*one_for_all(tokens, Prompt(mine, placement)), read)
        rows = [tokens.select(torch.tensor([row])) for row in range(tokens.count)]
        hidden = [shallow_reference(pair, row, reference, ahead) for row in rows]
        text = [torch.cat([one[:ahead], one[ahead + 3 :]]) for one in hidden]
        if read == "tokens":
            wanted = torch.cat(text)
        elif read == "mean":
            wanted = torch.stack([one.mean(0) for one in text])
        elif read == "mark":
            assert tokens.marks is not None
            wanted = pair.head(torch.stack([one[mark] for one, mark in zip(text, tokens.marks, strict=True)]))
        else:
            firsts = torch.stack([one[:1] for one in hidden])
            wanted = read_off(pair, tokens, firsts, read)
        torch.testing.assert_close(ours, wanted, atol=1e-5, rtol=0)
        weight = torch.randn(wanted.shape, generator=torch.Generator().manual_seed(5))
        (ours * weight).sum().backward()
        (wanted * weight).sum().backward()
        assert_gradients_close(mine.grad, reference.grad)


def shallow_reference(pair: Pair, row: Tokens, prompt: Tensor, ahead: int) -> Tensor:
    words = pair.theirs.get_input_embeddings()(row.ids)
    embeds = torch.cat([words[:ahead], prompt, words[ahead:]])[None]
    types = torch.cat([row.types[:ahead], torch.zeros(len(prompt), dtype=torch.long), row.types[ahead:]])[None]
    extra = {"token_type_ids": types} if pair.has_types else {}
    return pair.theirs(inputs_embeds=embeds, **extra).last_hidden_state[0]


@pytest.mark.parametrize("depth", ["shallow", "deep"])
@pytest.mark.parametrize("placement", ["after_cls", "peft"])
def test_a_different_prompt_on_every_row_is_each_alone(pair: Pair, depth: str, placement: Any) -> None:
    tokens = tokens_of(LENGTHS)
    make = deep_prompt if depth == "deep" else shallow_prompt
    values = [make(pair, length, length).requires_grad_() for length in (3, 0, 6, 1)]
    which = torch.tensor([2, 0, 1, 3, 2, 0])
    together = stack([Prompt(one, placement) for one in values])
    for read in reads(pair):
        ours = pair.ours.forward(Batch(tokens, which), together, read)
        alone = []
        for row, prompt in enumerate(which.tolist()):
            one = tokens.select(torch.tensor([row]))
            alone.append(pair.ours.forward(*one_for_all(one, Prompt(values[prompt], placement)), read))
        wanted = torch.cat(alone)
        torch.testing.assert_close(ours, wanted, atol=1e-5, rtol=0)
        weight = torch.randn(wanted.shape, generator=torch.Generator().manual_seed(5))
        used = [values[0], values[2], values[3]]
        mine = torch.autograd.grad((ours * weight).sum(), used)
        reference = torch.autograd.grad((wanted * weight).sum(), used)
        for got, expected in zip(mine, reference, strict=True):
            assert_gradients_close(got, expected)


def test_a_batch_is_its_rows_one_by_one(pair: Pair) -> None:
    tokens = tokens_of([7, 2, 30, 4, 4, 11, 3, 8, 19, 1, 25, 6])
    ours = pair.ours.forward(Batch(tokens), None, "mean")
    rows = [tokens.select(torch.tensor([row])) for row in range(tokens.count)]
    alone = torch.cat([pair.ours.forward(Batch(row), None, "mean") for row in rows])
    torch.testing.assert_close(ours, alone, atol=1e-5, rtol=0)


@pytest.mark.parametrize("fast", [True, False])
def test_bf16_is_close_and_whoever_asks_for_it_is_not_warned(
    fast: bool, pair: Pair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    let_bf16_be(fast, monkeypatch)
    pair.theirs.save_pretrained(tmp_path)
    save_tokenizer(tmp_path)
    found = Resolved("half", tmp_path, "", None, False)
    assert load_folder(found, dtype="auto").arithmetic == ("bf16" if fast else "fp32")
    half = load_folder(found, dtype="bf16")
    assert half.fingerprint == pair.ours.fingerprint
    tokens = tokens_of(LENGTHS)
    batch, prompts = one_for_all(tokens, Prompt(deep_prompt(pair, 4)))
    full, close = (one.forward(batch, prompts, "mean") for one in (pair.ours, half))
    assert close.dtype == torch.float32
    assert torch.cosine_similarity(full, close).min() > 0.995


def test_gradients_of_weights_that_learn(pair: Pair) -> None:
    tokens = tokens_of(LENGTHS)
    learning = {name: weight.clone().requires_grad_() for name, weight in pair.ours.weights.items()}
    tuned = pair.ours.with_weights(learning)
    pair.theirs.zero_grad()
    for _ in range(2):  # a second pass has a graph of its own
        ours = tuned.forward(Batch(tokens), None, "mean")
        weight = torch.randn(ours.shape, generator=torch.Generator().manual_seed(5))
        (ours * weight).sum().backward()
        (read_off(pair, tokens, theirs(pair, tokens), "mean") * weight).sum().backward()
    reference = dict(pair.theirs.named_parameters())
    for name, weight in learning.items():
        if name.startswith("pooler."):
            continue
        wanted = reference[name].grad
        assert weight.grad is not None, name
        largest = max(float(wanted.abs().max()), 0.1)  # a key's bias has no gradient but rounding
        assert (weight.grad - wanted).abs().max() <= 2e-5 * largest, name
    assert tuned.fingerprint == pair.ours.fingerprint


def test_keys_and_values_of_words_continue_as_a_prompt(pair: Pair) -> None:
    ids = torch.tensor([4, 9, 17])
    found = pair.ours.keys_values(ids)
    assert found.shape == (pair.ours.layers, 2, 3, pair.ours.hidden)
    hidden = pair.theirs.get_input_embeddings()(ids)
    if pair.plain is not None:
        return
    first = first_attention(pair)
    if pair.first == 0:
        embedded = pair.theirs.embeddings(ids[None])
        if pair.albert:
            embedded = pair.theirs.encoder.embedding_hidden_mapping_in(embedded)
        elif hasattr(pair.theirs, "embeddings_project"):
            embedded = pair.theirs.embeddings_project(embedded)
        torch.testing.assert_close(found[0, 0], first.key(embedded)[0].detach(), atol=1e-5, rtol=0)
        torch.testing.assert_close(found[0, 1], first.value(embedded)[0].detach(), atol=1e-5, rtol=0)
    assert len(hidden) == 3


def first_attention(pair: Pair) -> Any:
    if pair.albert:
        return pair.theirs.encoder.albert_layer_groups[0].albert_layers[0].attention
    return pair.theirs.encoder.layer[0].attention.self


def test_dropout_follows_its_generator(pair: Pair) -> None:
    tokens = tokens_of(LENGTHS)
    prompt = deep_prompt(pair, 4).requires_grad_()
    batch, prompts = one_for_all(tokens, Prompt(prompt))

    def run(rate: float, seed: int) -> Tensor:
        dropout = Dropout.draw(rate, tokens.sequences, torch.Generator().manual_seed(seed))
        return pair.ours.forward(batch, prompts, "cls", dropout=dropout)

    assert torch.equal(run(0.1, 1), run(0.1, 1))
    assert not torch.allclose(run(0.1, 1), run(0.1, 2))
    torch.testing.assert_close(run(0.0, 1), pair.ours.forward(batch, prompts, "cls"), atol=1e-5, rtol=0)


def test_no_rows_at_all(pair: Pair) -> None:
    nothing = tokens_of([])
    for read in reads(pair):
        width = pair.ours.embedding_width if read == "mark" and pair.name != "electra-even" else pair.ours.hidden
        assert pair.ours.forward(Batch(nothing), None, read).shape == (0, width)


def test_what_does_not_fit_is_said(pair: Pair) -> None:
    tokens = tokens_of([pair.ours.max_length])
    pair.ours.forward(*one_for_all(tokens, Prompt(deep_prompt(pair, 4), "after_cls")), "cls")
    with pytest.raises(RunError, match="positions"):
        pair.ours.forward(*one_for_all(tokens, Prompt(deep_prompt(pair, 4), "peft")), "cls")
    with pytest.raises(RunError, match="positions"):
        pair.ours.forward(*one_for_all(tokens, Prompt(shallow_prompt(pair, 1))), "cls")
    with pytest.raises(RunError, match="does not fit"):
        pair.ours.forward(*one_for_all(tokens_of([3]), Prompt(torch.zeros(2, 99))), "cls")
    if "pooler" not in set(reads(pair)):
        with pytest.raises(ModelError, match="no pooler"):
            pair.ours.forward(Batch(tokens), None, "pooler")
