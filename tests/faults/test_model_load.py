"""A model that cannot be used says why in one line."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from torch import Tensor

from promptgraft.errors import ModelError
from promptgraft.model.backbone import Batch
from promptgraft.model.load import load_backbone


@pytest.fixture
def folder(splade_tiny: Path, tmp_path: Path) -> Path:
    copied = tmp_path / "model"
    shutil.copytree(splade_tiny, copied)
    return copied


def message(folder: Path) -> str:
    with pytest.raises(ModelError) as caught:
        load_backbone(folder)
    line = str(caught.value)
    assert "\n" not in line
    return line


def edit(folder: Path, **changes: object) -> None:
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


@pytest.mark.parametrize("kept", [0, 4, 1000, 1_000_000])
def test_truncated_weights(folder: Path, kept: int) -> None:
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:kept])
    assert "damaged or incomplete" in message(folder)


def test_weights_that_are_no_safetensors(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"\xff" * 4096)
    assert "damaged or incomplete" in message(folder)


def test_pickles_are_refused(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    assert "pickle" in message(folder)


def test_no_weights(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    assert "no model.safetensors" in message(folder)


def test_weights_of_something_else(folder: Path) -> None:
    save_file({"vision.patch": torch.zeros(2)}, folder / "model.safetensors")
    assert "no embeddings" in message(folder)


def test_a_tensor_is_missing(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    del weights["bert.encoder.layer.1.output.dense.bias"]
    save_file(weights, folder / "model.safetensors")
    assert "encoder.layer.1.output.dense.bias" in message(folder)


def test_config_of_another_model(folder: Path) -> None:
    edit(folder, hidden_size=256)
    assert "config.json says" in message(folder)


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"model_type": "llama"}, "embed_tokens.weight"),
        ({"model_type": "no-such-thing"}, "no-such-thing"),
        ({"is_decoder": True}, "decoder"),
        ({"position_embedding_type": "relative_key"}, "relative"),
        ({"hidden_act": "wobble"}, "wobble"),
        ({"hidden_size": None}, "config.json"),
        ({"num_attention_heads": 7}, "heads"),
        ({"num_attention_heads": 0}, "num_attention_heads"),
        ({"num_attention_heads": -2}, "num_attention_heads"),
        ({"num_hidden_layers": 10**9}, "num_hidden_layers"),
        ({"num_hidden_layers": 0}, "num_hidden_layers"),
        ({"hidden_size": "wide"}, "'hidden_size' (it has 'wide')"),
        ({"hidden_size": [128]}, "hidden_size"),
        ({"hidden_size": 1e999}, "hidden_size"),
        ({"hidden_size": True}, "hidden_size"),
        ({"type_vocab_size": "two"}, "type_vocab_size"),
        ({"layer_norm_eps": "small"}, "layer_norm_eps"),
        ({"layer_norm_eps": -1}, "layer_norm_eps"),
        ({"max_position_embeddings": -5}, "max_position_embeddings"),
        ({"model_type": "roberta", "pad_token_id": None}, "pad_token_id"),
        ({"model_type": "albert", "num_hidden_groups": 0}, "num_hidden_groups"),
        ({"model_type": "albert", "embedding_size": "x"}, "embedding_size"),
        ({"model_type": "distilbert", "dim": -1}, "'dim' (it has -1)"),
        ({"model_type": "ernie", "hidden_size": -1}, "hidden_size"),
        ({"model_type": ["bert"]}, "model_type"),
        ({"model_type": "\x1b]52;c"}, "\\x1b]52;c"),
        ({"hidden_act": ["gelu"]}, "activation"),
    ],
)
def test_config_that_cannot_be_used(folder: Path, changes: dict[str, object], word: str) -> None:
    edit(folder, **changes)
    assert word in message(folder)


@pytest.mark.parametrize("content", ["{", "[]", "\xff", "[" * 3000, '{"a": ' + "9" * 5000 + "}", ""])
def test_config_that_is_not_one(folder: Path, content: str) -> None:
    (folder / "config.json").write_text(content, encoding="latin-1")
    assert "config.json" in message(folder)


@pytest.mark.parametrize(
    "name", ["config.json", "source.json", "1_Pooling/config.json", "model.safetensors.index.json"]
)
def test_json_that_nests_for_ever(name: str, folder: Path) -> None:
    (folder / "source.json").unlink(missing_ok=True)
    if name == "model.safetensors.index.json":
        (folder / "model.safetensors").unlink()
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_text("[" * 3000 + "]" * 3000)
    assert "nested more than" in message(folder)


@pytest.mark.parametrize("shard", ["../model.safetensors", "/etc/passwd", 3, None, ["a"], "a\0.safetensors", "x.bin"])
def test_an_index_names_files_of_its_own_folder(shard: object, folder: Path) -> None:
    (folder / "model.safetensors").rename(folder.parent / "model.safetensors")
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": shard}}))
    assert "not a valid index of shards" in message(folder)


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (lambda weight: weight.to(torch.complex64), "is of type complex64"),
        (lambda weight: weight.to(torch.int64), "is of type int64"),
        (lambda weight: weight.to(torch.float8_e4m3fn), "is of type float8_e4m3fn"),
        (lambda weight: weight * torch.nan, "holds values that are not finite"),
        (lambda weight: weight * torch.inf, "holds values that are not finite"),
        (lambda weight: torch.full_like(weight, 3e38), "holds values that are not finite, or so large"),
    ],
)
def test_numbers_that_no_model_computes_with(change: Callable[[Tensor], Tensor], word: str, folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    name = "bert.encoder.layer.1.output.dense.weight"
    save_file(weights | {name: change(weights[name])}, folder / "model.safetensors")
    assert f"encoder.layer.1.output.dense.weight {word}" in message(folder)


def no_vocabulary(file: Path) -> None:
    tokenizer = json.loads(file.read_text())
    tokenizer["model"]["vocab"] = {}
    tokenizer["added_tokens"] = []
    file.write_text(json.dumps(tokenizer))


def too_many_words(file: Path) -> None:
    tokenizer = json.loads(file.read_text())
    tokenizer["model"]["vocab"]["one-more"] = 10**6
    file.write_text(json.dumps(tokenizer))


def no_letter(file: Path) -> None:
    tokenizer = json.loads(file.read_text())
    tokenizer["normalizer"] = {"type": "Replace", "pattern": {"Regex": "."}, "content": ""}
    file.write_text(json.dumps(tokenizer))


@pytest.mark.parametrize(
    "damage",
    [
        no_vocabulary, too_many_words, no_letter, lambda file: file.write_bytes(b"\xff"),
        lambda file: file.write_text("[" * 3000), lambda file: file.write_text('{"version": "1.0", "model": 3}'),
    ],
)  # fmt: skip
def test_a_tokenizer_that_cannot_be_used(damage: Callable[[Path], object], folder: Path) -> None:
    damage(folder / "tokenizer.json")
    assert "tokenizer" in message(folder)


@pytest.mark.parametrize("files", [{"vocab.txt": ""}, {"vocab.json": "[", "merges.txt": ""}, {"spiece.model": "x"}])
def test_a_vocabulary_that_cannot_be_used(files: dict[str, str], folder: Path) -> None:
    for name in ("tokenizer.json", "tokenizer_config.json", "vocab.txt"):
        (folder / name).unlink(missing_ok=True)
    for name, content in files.items():
        (folder / name).write_text(content)
    assert "tokenizer" in message(folder)


def test_a_home_of_no_user_is_no_folder() -> None:
    with pytest.raises(ModelError, match="~nosuchuser/model"):
        load_backbone("~nosuchuser/model")


def test_no_tokenizer(folder: Path) -> None:
    for file in ("tokenizer.json", "tokenizer_config.json", "vocab.txt"):
        (folder / file).unlink(missing_ok=True)
    assert "tokenizer" in message(folder)


def test_damaged_tokenizer(folder: Path) -> None:
    (folder / "tokenizer.json").write_text("{")
    assert "tokenizer" in message(folder)


def test_shards_and_prefixes_are_the_same_backbone(splade_tiny: Path, tmp_path: Path) -> None:
    whole = load_backbone(splade_tiny)
    model = transformers.AutoModel.from_pretrained(splade_tiny, add_pooling_layer=False)
    model.save_pretrained(tmp_path, max_shard_size="4MB")
    shutil.copy(splade_tiny / "tokenizer.json", tmp_path)
    assert len(list(tmp_path.glob("model-*.safetensors"))) > 1
    sharded = load_backbone(tmp_path)
    assert sharded.fingerprint == whole.fingerprint
    tokens = whole.tokenize_texts(["one text", "another"])
    assert torch.equal(whole.forward(Batch(tokens), None, "mean"), sharded.forward(Batch(tokens), None, "mean"))


def test_a_shard_is_missing(splade_tiny: Path, tmp_path: Path) -> None:
    transformers.AutoModel.from_pretrained(splade_tiny).save_pretrained(tmp_path, max_shard_size="4MB")
    next(tmp_path.glob("model-*.safetensors")).unlink()
    assert "damaged or incomplete" in message(tmp_path)


def test_other_weights_have_another_fingerprint(splade_tiny: Path) -> None:
    whole = load_backbone(splade_tiny)
    changed = dict(whole.weights)
    changed["embeddings.LayerNorm.bias"] = changed["embeddings.LayerNorm.bias"] + 1e-6
    assert whole.with_weights(changed).fingerprint != whole.fingerprint
