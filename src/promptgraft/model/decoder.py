"""The Llama kind and GPT-2 are one pre-norm decoder; this module holds its weights and shape."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from jaxtyping import Float
from torch import Tensor

from promptgraft import kernels
from promptgraft.errors import ModelError
from promptgraft.kernels.plain import ACTIVATIONS
from promptgraft.model.adjoining import stacked
from promptgraft.model.config import MOST_LAYERS, positive, whole
from promptgraft.model.encoder import Take
from promptgraft.model.plain import LayerNorm, Projection
from promptgraft.model.rotary import Rotary, read_rotary
from promptgraft.untrusted import visible

FAMILIES = ("llama", "mistral", "qwen2", "qwen3", "gemma2", "gemma3_text", "gpt2")
GEMMA = ("gemma2", "gemma3_text")
HEAD = "lm_head.weight"


@dataclass(frozen=True)
class RMSNorm:
    """A normalisation by the root of the mean square.

    Attributes:
        variant: of the native path; None: plain torch.
    """

    weight: Float[Tensor, "H"]
    epsilon: float
    variant: str | None = None

    def __call__(self, x: Float[Tensor, "... H"]) -> Float[Tensor, "... H"]:
        return kernels.rms_norm(x, self.weight, self.epsilon, self.variant)


DecoderNorm = RMSNorm | LayerNorm


class Product(Protocol):
    """A dense product whose weight is at hand, or made whole when it is needed."""

    def __call__(self, x: Float[Tensor, "T in"]) -> Float[Tensor, "T out"]: ...

    def added(self, x: Float[Tensor, "T in"], residual: Float[Tensor, "T out"]) -> Float[Tensor, "T out"]:
        """The product added to what stands beside it."""
        ...

    def rows(self, first: int, last: int) -> Product:
        """The part that computes outputs `first:last`."""
        ...


@dataclass(frozen=True)
class DecoderLayer:
    """The weights of one layer.

    Attributes:
        keys_values: keys and values in one product.
        query_norm, key_norm: of every head, where there are any.
        attended_norm, narrow_norm: of what the two halves of a layer add, where there are any.
        wide: where gated the gate and what it gates in one product.
        variant: of the native path, for the gate; None: plain torch.
    """

    norm: DecoderNorm
    queries: Product
    keys_values: Product
    query_norm: DecoderNorm | None
    key_norm: DecoderNorm | None
    attended: Product
    attended_norm: DecoderNorm | None
    wide_norm: DecoderNorm
    wide: Product
    narrow: Product
    narrow_norm: DecoderNorm | None
    variant: str | None = None


@dataclass(frozen=True)
class Decoder:
    """All weights of a decoder in the order they are used.

    Attributes:
        positions: table of positions; None where they are rotary.
        head: a row a word; the table of words itself where the two are tied.
        variant: of the native path, for the head; None: plain torch.
    """

    words: Float[Tensor, "V H"]
    positions: Float[Tensor, "M H"] | None
    layers: tuple[DecoderLayer, ...]
    norm: DecoderNorm
    head: Float[Tensor, "V H"]
    variant: str | None = None


@dataclass(frozen=True)
class DecoderShape:
    """The shape of a decoder, as config.json gives it.

    Attributes:
        key_heads: heads of keys and values; each serves `heads / key_heads` heads of queries.
        gated: whether the wide product is gated.
        score_scale: what scores are multiplied by.
        score_cap, logit_cap: soft limits (`cap tanh(x / cap)`); None: none.
        embedding_scale: what the rows of the table of words are multiplied by.
        windows: of each layer how many tokens a token sees, itself among them; None: all before it.
        rotaries: kinds of rotary positions; empty where there is a table of positions.
        rotary_of: of each layer which of them.
    """

    family: str
    hidden: int
    layers: int
    heads: int
    key_heads: int
    head_width: int
    wide: int
    vocabulary: int
    positions: int
    epsilon: float
    activation: str
    gated: bool
    tied: bool
    score_scale: float
    score_cap: float | None
    logit_cap: float | None
    embedding_scale: float
    windows: tuple[int | None, ...]
    rotaries: tuple[Rotary, ...]
    rotary_of: tuple[int, ...]

    @property
    def key_width(self) -> int:
        """The width of a layer's keys."""
        return self.key_heads * self.head_width

    @property
    def query_width(self) -> int:
        """The width of a layer's queries."""
        return self.heads * self.head_width


def read_decoder_shape(config: Mapping[str, Any], where: str) -> DecoderShape:
    """Read a config.json of the Llama kind or of GPT-2, filling in what transformers leaves out of it.

    Raises:
        ModelError: a field is missing, or asks for something that this forward does not compute.
    """
    family = str(config.get("model_type"))
    names = _GPT2_NAMES if family == "gpt2" else _LLAMA_NAMES
    hidden, heads, vocabulary = (whole(config, names[name], where) for name in ("hidden", "heads", "vocabulary"))
    layers = whole(config, names["layers"], where, most=MOST_LAYERS)
    gemma, gpt2 = family in GEMMA, family == "gpt2"
    key_heads = whole(_without_none(config), "num_key_value_heads", where, heads)
    width = whole(_without_none(config), "head_dim", where, 256 if gemma else max(1, hidden // heads))
    if heads % key_heads or width % 2 or (gpt2 and width * heads != hidden):
        raise ModelError(f"{heads} heads of {width} do not fit {key_heads} heads of keys", where=where)
    activation = str(config.get(names["activation"], {"gpt2": "gelu_new"}.get(family, "silu")))
    if gemma:
        activation = str(config.get("hidden_activation") or "gelu_pytorch_tanh")
    if activation not in ACTIVATIONS:
        message = f"its activation {visible(activation)!r} is not supported"
        raise ModelError(message, where=where, do=f"known: {', '.join(ACTIVATIONS)}")
    _check_plain(config, where)
    windows = _windows(config, family, layers, where)
    rotaries, rotary_of = ((), (0,) * layers) if gpt2 else _rotaries(config, family, windows, where)
    scalar = positive(config, "query_pre_attn_scalar", where, 256.0) if gemma else float(width)
    return DecoderShape(
        family=family,
        hidden=hidden,
        layers=layers,
        heads=heads,
        key_heads=key_heads,
        head_width=width,
        wide=whole(_without_none(config), names["wide"], where, 4 * hidden if gpt2 else None),
        vocabulary=vocabulary,
        positions=whole(config, names["positions"], where, {"gpt2": 1024, "gemma2": 8192}.get(family, 2048)),
        epsilon=positive(config, names["epsilon"], where, 1e-5 if gpt2 else 1e-6),
        activation=activation,
        gated=not gpt2,
        tied=bool(config.get("tie_word_embeddings", gemma or gpt2)),
        score_scale=scalar**-0.5,
        score_cap=_cap(config, "attn_logit_softcapping", 50.0 if family == "gemma2" else None, where),
        logit_cap=_cap(config, "final_logit_softcapping", 30.0 if family == "gemma2" else None, where),
        embedding_scale=math.sqrt(hidden) if gemma else 1.0,
        windows=windows,
        rotaries=rotaries,
        rotary_of=rotary_of,
    )


_LLAMA_NAMES = {
    "hidden": "hidden_size",
    "heads": "num_attention_heads",
    "layers": "num_hidden_layers",
    "wide": "intermediate_size",
    "vocabulary": "vocab_size",
    "positions": "max_position_embeddings",
    "epsilon": "rms_norm_eps",
    "activation": "hidden_act",
}
_GPT2_NAMES = {
    "hidden": "n_embd",
    "heads": "n_head",
    "layers": "n_layer",
    "wide": "n_inner",
    "vocabulary": "vocab_size",
    "positions": "n_positions",
    "epsilon": "layer_norm_epsilon",
    "activation": "activation_function",
}


def _without_none(config: Mapping[str, Any]) -> dict[str, Any]:
    """A config without the fields that it names and leaves open."""
    return {name: value for name, value in config.items() if value is not None}


def _check_plain(config: Mapping[str, Any], where: str) -> None:
    """Make sure that nothing is asked for which no released model of these families has."""
    strange = ("use_bidirectional_attention", "scale_attn_by_inverse_layer_idx", "add_cross_attention")
    name = next((name for name in strange if config.get(name)), None)
    if name is not None or config.get("scale_attn_weights") is False:
        raise ModelError(f"{name or 'scale_attn_weights'} is set, which is not supported", where=where)


def _cap(config: Mapping[str, Any], name: str, default: float | None, where: str) -> float | None:
    if name not in config and default is None:
        return None
    return None if name in config and config[name] is None else positive(config, name, where, default or 1.0)


def _windows(config: Mapping[str, Any], family: str, layers: int, where: str) -> tuple[int | None, ...]:
    """The window of each layer; where config.json lists no types of layers, the rule of its family."""
    kinds = config.get("layer_types") or _layer_types(config, family, layers, where)
    if len(kinds) != layers or not set(kinds) <= {"full_attention", "sliding_attention"}:
        raise ModelError("its 'layer_types' are not supported", where=where, do="known: full and sliding attention")
    if "sliding_attention" not in kinds:
        return (None,) * layers
    window = whole(config, "sliding_window", where, 4096)
    return tuple(window if kind == "sliding_attention" else None for kind in kinds)


def _layer_types(config: Mapping[str, Any], family: str, layers: int, where: str) -> list[str]:
    """The rule by which a family's layers slide."""
    if family == "mistral":
        sliding = [config.get("sliding_window", 4096) is not None] * layers
    elif family in ("qwen2", "qwen3"):
        first = whole(config, "max_window_layers", where, 28, least=0)
        asked = bool(config.get("use_sliding_window")) and config.get("sliding_window", 4096) is not None
        sliding = [asked and number >= first for number in range(layers)]
    elif family in GEMMA:
        default = 2 if family == "gemma2" else 6
        turn = whole(config, "sliding_window_pattern", where, default) if family == "gemma3_text" else default
        sliding = [(number + 1) % turn != 0 for number in range(layers)]
    else:
        sliding = [False] * layers
    return ["sliding_attention" if slides else "full_attention" for slides in sliding]


def _rotaries(
    config: Mapping[str, Any], family: str, windows: tuple[int | None, ...], where: str
) -> tuple[tuple[Rotary, ...], tuple[int, ...]]:
    """The rotary positions, and which of them each layer has: Gemma 3 has others where it slides."""
    parameters = config.get("rope_parameters") or config.get("rope_scaling") or {}
    if not isinstance(parameters, dict):
        raise ModelError("its 'rope_parameters' are no object", where=where)
    if family != "gemma3_text":
        base = positive(config, "rope_theta", where, 10_000.0)
        return (read_rotary(parameters, base, where),), (0,) * len(windows)
    whole_, local = parameters.get("full_attention"), parameters.get("sliding_attention")
    rotaries = (
        read_rotary(parameters if whole_ is None else whole_, positive(config, "rope_theta", where, 1e6), where),
        read_rotary(local or {}, positive(config, "rope_local_base_freq", where, 10_000.0), where),
    )
    return rotaries, tuple(0 if window is None else 1 for window in windows)


@dataclass(frozen=True)
class TakeParts(Take):
    """Takes a decoder's weights by name.

    Attributes:
        variant: of the native path, by which what is taken is computed; None: plain torch.
    """

    variant: str | None = field(default=None, kw_only=True)

    def product(self, names: tuple[str, ...], outs: tuple[int, ...], into: int) -> Product:
        """Take one product, or several over the same input as one."""
        weights = [self.matrix(f"{name}.weight", out, into) for name, out in zip(names, outs, strict=True)]
        has_bias = f"{names[0]}.bias" in self.weights
        biases = [self(f"{name}.bias", out) for name, out in zip(names, outs, strict=True)] if has_bias else []
        if len(names) == 1:
            return self.projection(weights[0], biases[0] if biases else None, names, outs)
        return self.projection(stacked(weights), torch.cat(biases) if biases else None, names, outs)

    def matrix(self, name: str, *shape: int) -> Tensor:
        """Take the weight of a product, from wherever it lies."""
        return self(name, *shape)

    def projection(
        self,
        weight: Tensor,
        bias: Tensor | None,
        names: tuple[str, ...],
        outs: tuple[int, ...],
        *,
        transposed: bool = False,
    ) -> Product:
        """Make a product of its weight.

        Args:
            names, outs: the weights that it is put together from, and their rows.
            transposed: whether these weights have columns in the place of rows.
        """
        return Projection(weight, bias, self.variant)


def assemble(shape: DecoderShape, take: TakeParts) -> Decoder:
    """Put the weights in the order they are used."""
    return _gpt2(shape, take) if shape.family == "gpt2" else _llama(shape, take)


def _llama(shape: DecoderShape, take: TakeParts) -> Decoder:
    words = take("embed_tokens.weight", shape.vocabulary, shape.hidden)
    return Decoder(
        words=words,
        positions=None,
        layers=tuple(_llama_layer(f"layers.{number}", shape, take) for number in range(shape.layers)),
        norm=_llama_norm("norm", shape.hidden, shape, take),
        head=words if shape.tied else take(HEAD, shape.vocabulary, shape.hidden),
        variant=take.variant,
    )


def _llama_norm(name: str, width: int, shape: DecoderShape, take: TakeParts) -> RMSNorm:
    """Take a normalisation; Gemma's weights are those beyond one."""
    weight = take(f"{name}.weight", width)
    return RMSNorm(weight + 1 if shape.family in GEMMA else weight, shape.epsilon, take.variant)


def _llama_layer(name: str, shape: DecoderShape, take: TakeParts) -> DecoderLayer:
    hidden, gemma = shape.hidden, shape.family in GEMMA
    head_norms = f"{name}.self_attn.q_norm.weight" in take.weights

    def norm(part: str, width: int = hidden) -> RMSNorm:
        return _llama_norm(f"{name}.{part}", width, shape, take)

    def product(part: str, out: int, into: int) -> Product:
        return take.product((f"{name}.{part}",), (out,), into)

    keys_values = tuple(f"{name}.self_attn.{part}_proj" for part in "kv")
    gate_up = tuple(f"{name}.mlp.{part}_proj" for part in ("gate", "up"))
    return DecoderLayer(
        norm=norm("input_layernorm"),
        queries=product("self_attn.q_proj", shape.query_width, hidden),
        keys_values=take.product(keys_values, (shape.key_width,) * 2, hidden),
        query_norm=norm("self_attn.q_norm", shape.head_width) if head_norms else None,
        key_norm=norm("self_attn.k_norm", shape.head_width) if head_norms else None,
        attended=product("self_attn.o_proj", hidden, shape.query_width),
        attended_norm=norm("post_attention_layernorm") if gemma else None,
        wide_norm=norm("pre_feedforward_layernorm" if gemma else "post_attention_layernorm"),
        wide=take.product(gate_up, (shape.wide,) * 2, hidden),
        narrow=product("mlp.down_proj", hidden, shape.wide),
        narrow_norm=norm("post_feedforward_layernorm") if gemma else None,
        variant=take.variant,
    )


def _gpt2(shape: DecoderShape, take: TakeParts) -> Decoder:
    words = take("wte.weight", shape.vocabulary, shape.hidden)
    return Decoder(
        words=words,
        positions=take("wpe.weight", shape.positions, shape.hidden),
        layers=tuple(_gpt2_layer(f"h.{number}", shape, take) for number in range(shape.layers)),
        norm=_gpt2_norm("ln_f", shape, take),
        head=words if shape.tied else take(HEAD, shape.vocabulary, shape.hidden),
        variant=take.variant,
    )


def _gpt2_norm(name: str, shape: DecoderShape, take: TakeParts) -> LayerNorm:
    return LayerNorm(take(f"{name}.weight", shape.hidden), take(f"{name}.bias", shape.hidden), shape.epsilon)


def _gpt2_layer(name: str, shape: DecoderShape, take: TakeParts) -> DecoderLayer:
    """GPT-2 stores its matrices transposed."""
    hidden = shape.hidden

    def product(part: str, out: int, into: int) -> Product:
        weight = take.matrix(f"{name}.{part}.weight", into, out).t()
        return take.projection(weight, take(f"{name}.{part}.bias", out), (f"{name}.{part}",), (out,), transposed=True)

    qkv = product("attn.c_attn", 3 * hidden, hidden)
    return DecoderLayer(
        norm=_gpt2_norm(f"{name}.ln_1", shape, take),
        queries=qkv.rows(0, hidden),
        keys_values=qkv.rows(hidden, 3 * hidden),
        query_norm=None,
        key_norm=None,
        attended=product("attn.c_proj", hidden, hidden),
        attended_norm=None,
        wide_norm=_gpt2_norm(f"{name}.ln_2", shape, take),
        wide=product("mlp.c_fc", shape.wide, hidden),
        narrow=product("mlp.c_proj", hidden, shape.wide),
        narrow_norm=None,
    )


def query_heads(
    layer: DecoderLayer, normed: Float[Tensor, "Q H"], shape: DecoderShape
) -> Float[Tensor, "Q heads width"]:
    """The queries of normalised rows, by heads, normalised where the family does that."""
    heads = layer.queries(normed).view(len(normed), shape.heads, shape.head_width)
    return heads if layer.query_norm is None else layer.query_norm(heads)


def key_value_heads(
    layer: DecoderLayer, normed: Float[Tensor, "R H"], shape: DecoderShape
) -> Float[Tensor, "R two_heads width"]:
    """The keys and then the values of normalised rows, by heads, keys normalised where the family does that."""
    heads = layer.keys_values(normed).view(len(normed), 2 * shape.key_heads, shape.head_width)
    if layer.key_norm is None:
        return heads
    keys, values = heads.chunk(2, 1)
    return torch.cat([layer.key_norm(keys), values], 1)


def after_attention(
    layer: DecoderLayer, mixed: Float[Tensor, "Q K"], x: Float[Tensor, "Q H"], shape: DecoderShape
) -> Float[Tensor, "Q H"]:
    """What a layer does with attended values, added to what came in."""
    if layer.attended_norm is None:
        x = layer.attended.added(mixed, x)
    else:
        x = x + layer.attended_norm(layer.attended(mixed))
    wide = layer.wide(layer.wide_norm(x))
    if shape.gated:
        wide = kernels.gated(wide, shape.activation, layer.variant)
    else:
        wide = kernels.activation(wide, shape.activation)
    if layer.narrow_norm is None:
        return layer.narrow.added(wide, x)
    return x + layer.narrow_norm(layer.narrow(wide))


def kept_bytes(shape: DecoderShape, width: int) -> int:
    """Bytes that the layers keep of a token for the backward.

    A layer keeps what comes into its two norms, its queries, keys and values, what is attended, and the wide product;
    exponentials of scores take about as much as the queries and half of that again.

    Args:
        width: bytes of a number.
    """
    wide = (2 if shape.gated else 1) * shape.wide
    return shape.layers * width * (2 * shape.hidden + 7 * shape.query_width // 2 + 3 * shape.key_width + wide)
