"""What is particular to the families in plain torch: ModernBERT's windows, DeBERTa's distances, their config.json."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor
from transformers.models.modernbert.modeling_modernbert import apply_rotary_pos_emb

from plain_forwards import deberta_config, deberta_v3_config, modernbert_config
from promptgraft import api
from promptgraft.errors import ModelError
from promptgraft.model.backbone import Backbone, Batch
from promptgraft.model.fingerprint import fingerprint
from promptgraft.model.load import load_backbone
from promptgraft.model.modernbert import read_plan
from promptgraft.model.plain import PlainBackbone
from promptgraft.model.tokens import Tokens
from promptgraft.prompt.prompt import Prompt, stack
from promptgraft.prompt.reading import Reading
from promptgraft.task.task import Example
from toys import tiny_model, tokenizer, toy_task

FAMILIES: dict[str, Callable[..., Any]] = {
    "modernbert": lambda **changes: transformers.ModernBertModel(modernbert_config(**changes)),
    "deberta-v2": lambda **changes: transformers.DebertaV2Model(deberta_config(**changes)),
    "deberta-v3": lambda **_: transformers.DebertaV2Model(deberta_v3_config()),
}


def saved(folder: Path, model: Any) -> Path:
    for weight in model.parameters():
        weight.data += 0.05 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(len(weight)))
    return written(folder, model.eval())


def written(folder: Path, model: Any) -> Path:
    model.save_pretrained(folder)
    tokenizer(("[PAD]", "[UNK]", "[CLS]", "[SEP]"), "bert").save(str(folder / "tokenizer.json"))
    return folder


@pytest.fixture(scope="module", params=FAMILIES)
def both(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Backbone, Any]:
    torch.manual_seed(0)
    model = FAMILIES[request.param]()
    return load_backbone(saved(tmp_path_factory.mktemp(request.param), model)), model


def rows_of(*lengths: int) -> Tokens:
    starts = torch.tensor([0, *lengths]).cumsum(0)
    ids = torch.randint(3, 60, (int(starts[-1]),), generator=torch.Generator().manual_seed(1))
    return Tokens(ids, torch.zeros_like(ids), starts, torch.arange(len(lengths) + 1))


def row_by_row(model: Any, tokens: Tokens) -> Tensor:
    ids = [tokens.select(torch.tensor([row])).ids for row in range(tokens.count)]
    return torch.cat([model(input_ids=row[None]).last_hidden_state[0].detach() for row in ids])


@pytest.mark.parametrize(
    "changes",
    [
        {"local_attention": 2},
        {"local_attention": 7},
        {"local_attention": 400},
        {"layer_types": ["sliding_attention"] * 4},
    ],
)
def test_windows_of_any_width(changes: dict[str, Any], tmp_path: Path) -> None:
    model = FAMILIES["modernbert"](max_position_embeddings=200, **changes)
    ours, tokens = load_backbone(saved(tmp_path, model)), rows_of(120, 1, 7, 64)
    wanted = row_by_row(model, tokens)
    torch.testing.assert_close(ours.forward(Batch(tokens), None, "tokens"), wanted, atol=1e-5, rtol=0)
    torch.testing.assert_close(ours.forward(Batch(tokens), None, "cls"), wanted[tokens.starts[:-1]], atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    "changes",
    [
        {"pos_att_type": "c2p"},
        {"pos_att_type": "p2c", "share_att_key": True},
        {"pos_att_type": None},
        {"relative_attention": False},
        {"position_buckets": 4, "max_relative_positions": 20},
        {"max_relative_positions": 5, "norm_rel_ebd": "layer_norm"},
        {"position_biased_input": False, "type_vocab_size": 2},
    ],
)
def test_distances_of_every_kind(changes: dict[str, Any], tmp_path: Path) -> None:
    model = FAMILIES["deberta-v2"](**changes)
    ours, tokens = load_backbone(saved(tmp_path, model)), rows_of(40, 1, 7, 23)
    wanted = row_by_row(model, tokens)
    torch.testing.assert_close(ours.forward(Batch(tokens), None, "tokens"), wanted, atol=1e-5, rtol=0)
    torch.testing.assert_close(ours.forward(Batch(tokens), None, "cls"), wanted[tokens.starts[:-1]], atol=1e-5, rtol=0)


def test_keys_and_values_of_words_are_those_of_every_layer(both: tuple[Backbone, Any]) -> None:
    ours, theirs = both
    ids = torch.tensor([4, 9, 17, 30, 5])
    states = theirs(input_ids=ids[None], output_hidden_states=True).hidden_states
    found = ours.keys_values(ids)
    assert found.shape == (ours.prompt_layers, 2, 5, ours.key_width)
    for number, (keys, values) in enumerate(found):
        wanted = (modernbert_keys if ours.family == "modernbert" else deberta_keys)(theirs, number, states[number])
        torch.testing.assert_close(keys, wanted[0].detach(), atol=1e-5, rtol=0)
        torch.testing.assert_close(values, wanted[1].detach(), atol=1e-5, rtol=0)


def modernbert_keys(model: Any, number: int, x: Tensor) -> tuple[Tensor, Tensor]:
    layer, heads = model.layers[number], model.config.num_attention_heads
    _, k, v = layer.attn.Wqkv(layer.attn_norm(x)).chunk(3, -1)
    by_head = k.unflatten(-1, (heads, -1)).transpose(1, 2)
    turns = model.rotary_emb(x, torch.arange(x.shape[1])[None], model.config.layer_types[number])
    return apply_rotary_pos_emb(by_head, by_head, *turns)[1].transpose(1, 2).flatten(2)[0], v[0]


def deberta_keys(model: Any, number: int, x: Tensor) -> tuple[Tensor, Tensor]:
    own = model.encoder.layer[number].attention.self
    return own.key_proj(x)[0], own.value_proj(x)[0]


def test_the_identity_is_that_of_transformers_weights(both: tuple[Backbone, Any]) -> None:
    """So artefacts that were tuned through transformers' own forward stay usable."""
    ours, theirs = both
    assert ours.fingerprint == fingerprint(dict(theirs.named_parameters()))


def test_texts_of_any_kind(both: tuple[Backbone, Any]) -> None:
    ours, _ = both
    tokens = ours.tokenize_texts(["", "这家餐厅的服务很好。", "good", "a film " * 500, "[CLS] good"])
    assert tokens.lengths.tolist()[0] == 2
    assert int(tokens.lengths.max()) == ours.max_length
    deep = stack([Prompt(torch.randn(ours.prompt_layers, 2, 3, ours.key_width))])
    states = ours.forward(Batch(tokens, torch.zeros(5, dtype=torch.long)), deep, "mean")
    assert states.isfinite().all()
    tags = ours.tokenize([Example(tokens=("a", "好"), label=("O", "O"))], "tagging", Reading("mean"))
    assert ours.forward(Batch(tags), None, "tokens").isfinite().all()


def test_bf16_is_as_close_as_transformers_bf16(both: tuple[Backbone, Any], tmp_path: Path) -> None:
    ours, theirs = both
    written(tmp_path, theirs)
    tokens = rows_of(30, 1, 9)
    half = transformers.AutoModel.from_pretrained(tmp_path, dtype=torch.bfloat16).eval()
    exact = ours.forward(Batch(tokens), None, "tokens")
    mine = load_backbone(tmp_path, dtype="bf16").forward(Batch(tokens), None, "tokens") - exact
    reference = row_by_row(half, tokens).float() - exact
    assert mine.abs().mean() < 1.5 * reference.abs().mean()


def test_older_configs_of_modernbert_mean_the_same() -> None:
    new = modernbert_config().to_dict()
    old = {name: value for name, value in new.items() if name not in ("layer_types", "rope_parameters")}
    old |= {"global_attn_every_n_layers": 3, "global_rope_theta": 160_000.0, "local_rope_theta": 10_000.0}
    assert read_plan(old, "here") == read_plan(new, "here")


@pytest.mark.parametrize(
    ("family", "changes", "word"),
    [
        ("modernbert", {"layer_types": ["full_attention"]}, "layer_types"),
        ("modernbert", {"layer_types": None, "rope_scaling": {"factor": 2.0}}, "rotary positions are not supported"),
        ("modernbert", {"hidden_activation": "tanh"}, "'tanh' is not supported; known: gelu"),
        ("modernbert", {"num_attention_heads": 24}, "no even multiple of its 24 attention heads"),
        ("deberta-v2", {"conv_kernel_size": 3}, "convolution after its first layer"),
        ("deberta-v2", {"hidden_act": "tanh"}, "'tanh' is not supported; known: gelu"),
        ("deberta-v2", {"num_attention_heads": 5}, "no multiple of its 5 attention heads"),
        ("deberta-v2", {"pos_att_type": "p2p"}, "p2p.* is not supported; known: c2p, p2c"),
        ("deberta-v2", {"intermediate_size": 41}, "config.json says"),
        ("deberta-v2", {"vocab_size": 9}, "its tokenizer gives token .*, its weights have 9"),
    ],
)
def test_what_is_not_computed_is_said(family: str, changes: dict[str, Any], word: str, tmp_path: Path) -> None:
    path = saved(tmp_path, FAMILIES[family]()) / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | changes), encoding="utf-8")
    with pytest.raises(ModelError, match=word):
        load_backbone(tmp_path)


@pytest.mark.parametrize(
    "model",
    [
        lambda: transformers.ModernBertForSequenceClassification(modernbert_config()),
        lambda: transformers.DebertaV2ForSequenceClassification(deberta_config()),
    ],
)
def test_a_head_over_classes_is_none_over_words(model: Callable[[], Any], tmp_path: Path) -> None:
    ours = load_backbone(saved(tmp_path, model()))
    assert ours.reads == {"cls", "mean", "tokens"}
    with pytest.raises(ModelError, match="its weights bring no head over words"):
        ours.forward(Batch(rows_of(3)), None, "mark")


@pytest.mark.parametrize(
    "model",
    [
        lambda: transformers.ModernBertForMaskedLM(modernbert_config(decoder_bias=False)),
        lambda: transformers.DebertaV2ForMaskedLM(deberta_config(embedding_size=16)),
        lambda: transformers.DebertaV2ForMaskedLM(deberta_v3_config()),
    ],
)
def test_a_word_at_the_mask_in_a_prompted_row(model: Callable[[], Any], tmp_path: Path) -> None:
    """Logits after a shallow prompt and its gradient, against transformers by `inputs_embeds`; a tuned table of words
    changes no column, and a table of some words neither."""
    theirs = model()
    ours, tokens = load_backbone(saved(tmp_path, theirs)), replace(rows_of(8, 3), marks=torch.tensor([5, 0]))
    assert isinstance(ours, PlainBackbone)
    width, batch = ours.embedding_width, Batch(tokens, torch.zeros(2, dtype=torch.long))
    mine, reference = (torch.randn(4, width, generator=torch.Generator().manual_seed(3)).requires_grad_() for _ in "ab")
    words, biases = ours.columns(torch.arange(60))
    logits = ours.forward(batch, stack([Prompt(mine)]), "mark") @ words.T + biases
    wanted = []
    for row, place in ((0, 9), (1, 0)):
        embeds = theirs.get_input_embeddings()(tokens.select(torch.tensor([row])).ids)
        embeds = torch.cat([embeds[:1], reference, embeds[1:]])[None]
        wanted.append(theirs(inputs_embeds=embeds).logits[0, place])
    torch.testing.assert_close(logits, torch.stack(wanted), atol=1e-4, rtol=0)
    logits.log_softmax(-1)[:, 7].sum().backward()
    torch.stack(wanted).log_softmax(-1)[:, 7].sum().backward()
    assert mine.grad is not None
    assert reference.grad is not None
    assert (mine.grad - reference.grad).abs().max() <= 1e-4 * reference.grad.abs().max()
    few = {**ours.weights, ours.words: ours.weights[ours.words][:30] * 2}
    assert torch.equal(ours.with_weights(few).columns(torch.arange(60))[0], words)  # type: ignore[attr-defined]


def test_int8_is_refused_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="int8 is for causal models and encoders of the BERT family"):
        load_backbone(saved(tmp_path, FAMILIES["modernbert"]()), dtype="int8")


@pytest.mark.parametrize("family", ["modernbert", "deberta-v2"])
@pytest.mark.parametrize("depth", ["deep", "shallow"])
def test_prompts_are_tuned_and_answer(family: str, depth: str, tmp_path: Path) -> None:
    task = toy_task(train=16, validation=8, test=8)
    done = api.tune(task, tiny_model(tmp_path / family, family), depth=depth, steps=3, length=2)
    card = done.artefact.card
    assert card.prompt is not None
    assert (card.prompt.depth, card.prompt.length, card.backbone.family) == (depth, 2, family)
    assert done.predictor.predict(["a good film", "影片不错"])
