"""GGUF, the file format of llama.cpp, is read for its Llama models: weights put back to float, tokenizer rebuilt."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from promptgraft.errors import ModelError
from promptgraft.model.convert import save, write_json

Floats = NDArray[np.float32]
NUMBERS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
"""Types of single values, as `struct` calls them."""
TEXT, LIST = 8, 9
CONTROL = 3
"""The type of tokens that are no text."""


def _q4_1(blocks: NDArray[np.uint8]) -> Floats:
    """32 weights in 20 bytes: a scale, a least value, and four bits each, whose low halves come first."""
    scale, least = (blocks[:, at : at + 2].copy().view("<f2").astype(np.float32) for at in (0, 2))
    steps = np.concatenate([blocks[:, 4:] & 15, blocks[:, 4:] >> 4], axis=1)
    return steps.astype(np.float32) * scale + least


def _q4_0(blocks: NDArray[np.uint8]) -> Floats:
    """32 weights in 18 bytes: a scale, and four bits each around 8."""
    steps = np.concatenate([blocks[:, 2:] & 15, blocks[:, 2:] >> 4], axis=1)
    return (steps.astype(np.float32) - 8) * blocks[:, :2].copy().view("<f2").astype(np.float32)


def _q8_0(blocks: NDArray[np.uint8]) -> Floats:
    """32 weights in 34 bytes: a scale, and eight bits each."""
    return blocks[:, 2:].copy().view(np.int8).astype(np.float32) * blocks[:, :2].copy().view("<f2").astype(np.float32)


@dataclass(frozen=True)
class BlockType:
    """How weights are packed: so many in so many bytes."""

    weights: int
    bytes: int
    unpack: Callable[[NDArray[np.uint8]], Floats]


BLOCK_TYPES = {
    0: BlockType(1, 4, lambda blocks: blocks.copy().view("<f4")),
    1: BlockType(1, 2, lambda blocks: blocks.copy().view("<f2").astype(np.float32)),
    2: BlockType(32, 18, _q4_0),
    3: BlockType(32, 20, _q4_1),
    8: BlockType(32, 34, _q8_0),
}
NAMES = {
    "token_embd": "model.embed_tokens",
    "output_norm": "model.norm",
    "output": "lm_head",
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}


class Reader:
    """Reads a GGUF file from its start: its fields, then where its tensors are.

    Attributes:
        fields: what it says of the model and the tokenizer.
    """

    def __init__(self, path: Path) -> None:
        self._data, self._at, self._where = path.read_bytes(), 0, path.name
        try:
            magic, version, tensors, fields = self._take("4sIQQ")
            if magic != b"GGUF" or version not in (2, 3):
                raise ModelError(f"not the GGUF that is known: {magic!r}, version {version}", where=path.name)
            self.fields = {self._text(): self._value(self._take("I")[0]) for _ in range(fields)}
            self._places = [(self._text(), *self._place()) for _ in range(tensors)]
        except (struct.error, UnicodeDecodeError) as error:
            raise ModelError("a damaged GGUF file", where=path.name, do="pull it again") from error
        alignment = int(self.fields.get("general.alignment", 32))
        self._start = -(-self._at // alignment) * alignment

    def tensors(self) -> Iterator[tuple[str, Floats]]:
        """Every tensor by its name in the file, as floats."""
        for name, shape, kind, offset in self._places:
            packing = BLOCK_TYPES.get(kind)
            if packing is None:
                raise ModelError(f"{name} is packed in a way that is not known ({kind})", where=self._where)
            size = prod(shape) // packing.weights * packing.bytes
            data = np.frombuffer(self._data, np.uint8, size, self._start + offset)
            yield name, packing.unpack(data.reshape(-1, packing.bytes)).reshape(shape)

    def _take(self, form: str) -> tuple[Any, ...]:
        values = struct.unpack_from(f"<{form}", self._data, self._at)
        self._at += struct.calcsize(f"<{form}")
        return values

    def _text(self) -> str:
        (size,) = self._take("Q")
        text: bytes = self._take(f"{size}s")[0]
        return text.decode()

    def _value(self, kind: int) -> Any:
        if kind == TEXT:
            return self._text()
        if kind != LIST:
            return self._take(NUMBERS[kind])[0]
        inner, count = self._take("IQ")
        return (
            [self._value(inner) for _ in range(count)] if inner == TEXT else [*self._take(f"{count}{NUMBERS[inner]}")]
        )

    def _place(self) -> tuple[tuple[int, ...], int, int]:
        """The shape, packing and offset of a tensor; its lengths are stored from the last."""
        (count,) = self._take("I")
        lengths = self._take(f"{count}Q")
        kind, offset = self._take("IQ")
        return lengths[::-1], kind, offset


def convert_llama(raw: Path, built: Path) -> None:
    """Convert a Llama: config, weights and a byte-level BPE tokenizer."""
    (path,) = raw.glob("*.gguf")
    reader = Reader(path)
    fields = reader.fields
    if fields.get("general.architecture") != "llama":
        raise ModelError(f"a GGUF of {fields.get('general.architecture')!r}, not of a Llama", where=path.name)
    heads, key_heads = fields["llama.attention.head_count"], fields["llama.attention.head_count_kv"]
    tensors = {
        _name(name): _halves(value, {"attn_q": heads, "attn_k": key_heads}.get(name.split(".")[-2]))
        for name, value in reader.tensors()
        if name != "rope_freqs.weight"
    }
    save(tensors, built)
    write_json(built / "config.json", _config(fields, heads, key_heads, tied="lm_head.weight" not in tensors))
    _write_tokenizer(fields, built)


def _name(name: str) -> str:
    """`blk.3.attn_q.weight` -> `model.layers.3.self_attn.q_proj.weight`."""
    *block, module, kind = name.split(".")
    return f"model.layers.{block[1]}.{NAMES[module]}.{kind}" if block else f"{NAMES[module]}.{kind}"


def _halves(value: Floats, heads: int | None) -> Floats:
    """Of queries and keys put the two halves that turn against each other one behind the other: here they alternate."""
    if heads is None:
        return value
    return value.reshape(heads, -1, 2, value.shape[1]).swapaxes(1, 2).reshape(value.shape)


def _config(fields: Mapping[str, Any], heads: int, key_heads: int, *, tied: bool) -> dict[str, Any]:
    base = fields.get("llama.rope.freq_base", 10_000.0)
    return {
        "model_type": "llama",
        "architectures": ["LlamaForCausalLM"],
        "vocab_size": len(fields["tokenizer.ggml.tokens"]),
        "hidden_size": fields["llama.embedding_length"],
        "intermediate_size": fields["llama.feed_forward_length"],
        "num_hidden_layers": fields["llama.block_count"],
        "num_attention_heads": heads,
        "num_key_value_heads": key_heads,
        "max_position_embeddings": fields["llama.context_length"],
        "rms_norm_eps": round(fields["llama.attention.layer_norm_rms_epsilon"], 9),
        "rope_parameters": {"rope_type": "default", "rope_theta": base},
        "tie_word_embeddings": tied,
        **{f"{role}_token_id": fields[f"tokenizer.ggml.{key}_token_id"] for role, key in ROLES if role != "unk"},
    }


ROLES = (("bos", "bos"), ("eos", "eos"), ("pad", "padding"), ("unk", "unknown"))


def _write_tokenizer(fields: Mapping[str, Any], built: Path) -> None:
    """Write SmolLM's tokenizer: digits one by one, then bytes."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    tokens: list[str] = fields["tokenizer.ggml.tokens"]
    merges = [(first, second) for first, second in (pair.split(" ") for pair in fields["tokenizer.ggml.merges"])]
    tokenizer = Tokenizer(models.BPE({token: number for number, token in enumerate(tokens)}, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    kinds = fields["tokenizer.ggml.token_type"]
    control = [token for token, kind in zip(tokens, kinds, strict=True) if kind == CONTROL]
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in control])
    tokenizer.save(str(built / "tokenizer.json"))
    roles = {f"{role}_token": tokens[fields[f"tokenizer.ggml.{key}_token_id"]] for role, key in ROLES}
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": fields["llama.context_length"]}
    chat = {"chat_template": fields["tokenizer.chat_template"]} if "tokenizer.chat_template" in fields else {}
    write_json(built / "tokenizer_config.json", settings | roles | chat)
