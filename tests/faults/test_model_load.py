"""A model that cannot be used says why in one line."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

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
        ({"model_type": "llama"}, "llama"),
        ({"model_type": "t5"}, "t5"),
        ({"model_type": "no-such-thing"}, "no-such-thing"),
        ({"is_decoder": True}, "decoder"),
        ({"position_embedding_type": "relative_key"}, "relative"),
        ({"hidden_act": "wobble"}, "wobble"),
        ({"hidden_size": None}, "config.json"),
        ({"num_attention_heads": 7}, "heads"),
    ],
)
def test_config_that_cannot_be_used(folder: Path, changes: dict[str, object], word: str) -> None:
    edit(folder, **changes)
    assert word in message(folder)


@pytest.mark.parametrize("content", ["{", "[]", "\xff"])
def test_config_that_is_not_one(folder: Path, content: str) -> None:
    (folder / "config.json").write_text(content, encoding="latin-1")
    assert "config.json" in message(folder)


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
