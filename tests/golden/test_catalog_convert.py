"""What converters make of tiny files, against values worked out by hand."""

from __future__ import annotations

import json
import pickle
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from promptgraft.model import convert


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    raw, built = tmp_path / "raw", tmp_path / "built"
    raw.mkdir()
    built.mkdir()
    return raw, built


def test_pickle_gives_float_tensors_only(folders: tuple[Path, Path]) -> None:
    raw, built = folders
    stored = {"a.weight": torch.tensor([[1.5, -2.0]], dtype=torch.float16), "position_ids": torch.arange(4)}
    torch.save(stored, raw / "pytorch_model.bin")
    (raw / "vocab.txt").write_text("[PAD]\n")
    convert.from_pickle(raw, built)
    weights = load_file(built / "model.safetensors")
    assert weights.keys() == {"a.weight"}
    assert weights["a.weight"].dtype == np.float32
    assert weights["a.weight"].tolist() == [[1.5, -2.0]]
    assert (built / "vocab.txt").read_text() == "[PAD]\n"


class Touch:
    """Unpickling this would write a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.path,)


def test_pickle_that_carries_code_is_not_run(folders: tuple[Path, Path], tmp_path: Path) -> None:
    raw, built = folders
    torch.save({"a.weight": Touch(tmp_path / "run")}, raw / "pytorch_model.bin")
    with pytest.raises(pickle.UnpicklingError):
        convert.from_pickle(raw, built)
    assert not (tmp_path / "run").exists()


def write_onnx(path: Path, arrays: dict[str, np.ndarray], node: str, matrix: str) -> None:
    """A graph with stored arrays and one product by a matrix of eight bits."""
    onnx = pytest.importorskip("onnx")
    product = onnx.helper.make_node("MatMulInteger", ["x", matrix], ["y"], name=node)
    x = onnx.helper.make_tensor_value_info("x", onnx.TensorProto.INT8, [1, 2])
    y = onnx.helper.make_tensor_value_info("y", onnx.TensorProto.INT32, [1, 2])
    stored = [onnx.numpy_helper.from_array(value, name) for name, value in arrays.items()]
    onnx.save(onnx.helper.make_model(onnx.helper.make_graph([product], "g", [x], [y], stored)), path)


MATRIX = {
    "onnx::MatMul_7_quantized": np.array([[-1, 2], [3, 4]], np.int8),
    "onnx::MatMul_7_scale": np.array(0.25, np.float32),
    "onnx::MatMul_7_zero_point": np.array(0, np.int8),
}


def test_onnx_weights_get_their_names_and_values_back(folders: tuple[Path, Path]) -> None:
    """A named vector, a named 8-bit table, and a folded matrix behind a MatMulInteger."""
    raw, built = folders
    arrays = {
        "norm.bias": np.array([0.5, 1.5], np.float32),
        "table.weight_quantized": np.array([[130, 126]], np.uint8),
        "table.weight_scale": np.array(0.5, np.float32),
        "table.weight_zero_point": np.array(128, np.uint8),
    }
    write_onnx(raw / "model.onnx", arrays | MATRIX, "/encoder/layer.0/query/MatMul_quant", "onnx::MatMul_7_quantized")
    convert.from_onnx(raw, built)
    weights = load_file(built / "model.safetensors")
    assert {name: value.tolist() for name, value in weights.items()} == {
        "norm.bias": [0.5, 1.5],
        "table.weight": [[1.0, -1.0]],
        "encoder.layer.0.query.weight": [[-0.25, 0.75], [0.5, 1.0]],
    }


def test_an_encoder_and_a_decoder_become_one_model(folders: tuple[Path, Path]) -> None:
    """The table of words stands in both graphs, and is kept once."""
    raw, built = folders
    table = np.array([[1.0, 2.0]], np.float32)
    encoder = {"enc.embed_tokens.weight": table, "enc.final_layer_norm.weight": np.array([3.0], np.float32)}
    decoder = {"m.shared.weight": table, "m.decoder.final_layer_norm.weight": np.array([4.0], np.float32)}
    node = "/enc/block.0/layer.0/SelfAttention/q/MatMul_quant"
    write_onnx(raw / "encoder.onnx", encoder | MATRIX, node, "onnx::MatMul_7_quantized")
    write_onnx(raw / "decoder.onnx", decoder | MATRIX, "/m/lm_head/MatMul_quant", "onnx::MatMul_7_quantized")
    (raw / "tokenizer.json").write_text("{}")
    convert.from_onnx_pair(raw, built)
    weights = load_file(built / "model.safetensors")
    assert {name: value.tolist() for name, value in weights.items()} == {
        "shared.weight": [[1.0, 2.0]],
        "encoder.final_layer_norm.weight": [3.0],
        "encoder.block.0.layer.0.SelfAttention.q.weight": [[-0.25, 0.75], [0.5, 1.0]],
        "decoder.final_layer_norm.weight": [4.0],
        "lm_head.weight": [[-0.25, 0.75], [0.5, 1.0]],
    }
    assert (built / "tokenizer.json").read_text() == "{}"


def packed_file() -> bytes:
    """One layer's worth of the packed format: two tensors, six pieces, one rule that drops a character."""
    pieces = ["<s>", "<pad>", "</s>", "<unk>", "▁", "▁hi"]
    text = "".join(pieces).encode()
    bounds = np.cumsum([0, *(len(piece.encode()) for piece in pieces)]).astype("<u4")
    scores = np.array([0, 0, 0, 0, -3, -1], "<f4")
    rules = struct.pack("<IB", 0x200B, 0)
    head = struct.pack("<4sI7ifi5iQ", b"E5S1", 1, 32, 1, 4, 64, 6, 16, 1, 1e-12, 32, 6, 0, 2, 1, 3, len(text))
    head += bounds.tobytes() + scores.tobytes() + text + struct.pack("<iI", 1, len(rules)) + rules
    block = np.array([0.5], "<f2").tobytes() + bytes([0x80 | nibble for nibble in range(16)])
    bias = np.arange(32, dtype="<f4").tobytes()
    names = [b"l0.ao.w", b"emb.ln.b"]
    start = len(head) + 4 + sum(2 + len(name) + 21 for name in names)
    table = struct.pack("<i", 2)
    table += struct.pack("<H7sBIQQ", 7, names[0], 1, 32, start, len(block))
    table += struct.pack("<H8sBIQQ", 8, names[1], 0, 32, start + len(block), len(bias))
    return head + table + block + bias


def test_packed_weights_become_floats(folders: tuple[Path, Path]) -> None:
    """Low halves 0..15 are (n - 8) / 2 and come first; high halves are all 8, which is zero."""
    raw, built = folders
    (raw / "weights.bin").write_bytes(packed_file())
    convert.from_packed4(raw, built)
    weights = load_file(built / "model.safetensors")
    assert weights["encoder.layer.0.attention.output.dense.weight"].shape == (1, 32)
    assert weights["encoder.layer.0.attention.output.dense.weight"][0].tolist() == [
        *((nibble - 8) / 2 for nibble in range(16)),
        *[0.0] * 16,
    ]
    assert weights["embeddings.LayerNorm.bias"].tolist() == list(range(32))
    config = json.loads((built / "config.json").read_text())
    assert (config["hidden_size"], config["intermediate_size"], config["vocab_size"]) == (32, 64, 6)


def test_packed_vocabulary_becomes_a_tokenizer(folders: tuple[Path, Path]) -> None:
    from transformers import AutoTokenizer

    raw, built = folders
    (raw / "weights.bin").write_bytes(packed_file())
    convert.from_packed4(raw, built)
    tokenizer = AutoTokenizer.from_pretrained(built)
    assert tokenizer("h\u200bi ｈｉ")["input_ids"] == [0, 5, 5, 2]
    assert tokenizer.pad_token_id == 1


def test_forgotten_lower_casing_is_set_right(folders: tuple[Path, Path]) -> None:
    """The trap of m3e-small: a lower-case vocabulary whose tokenizer keeps capitals."""
    from tokenizers import Tokenizer, models, normalizers
    from transformers import AutoTokenizer

    _, built = folders
    vocabulary = {word: index for index, word in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "hello"])}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=False)
    tokenizer.save(str(built / "tokenizer.json"))
    about = {"tokenizer_class": "BertTokenizer", "do_lower_case": False}
    convert.write_json(built / "tokenizer_config.json", about)
    assert AutoTokenizer.from_pretrained(built).tokenize("Hello") == ["[UNK]"]
    convert.lower_case(built)
    assert AutoTokenizer.from_pretrained(built).tokenize("Hello") == ["hello"]
