"""What of a sequence-to-sequence model differs between T5, mT5 and BART."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import nn

from promptgraft.errors import ModelError

Attentions = tuple[tuple[nn.Module, ...], tuple[nn.Module, ...], tuple[nn.Module, ...]]


@dataclass(frozen=True)
class Tower:
    """The encoder or the decoder of a module.

    Attributes:
        module: what computes it.
        stem: how the names of its weights begin.
    """

    module: Any
    stem: str


@dataclass(frozen=True)
class Form:
    """The parts of a sequence-to-sequence module, and the tokens that its answers begin and end with.

    Attributes:
        attentions: the encoder's, the decoder's own, and its cross attentions, in the order of a deep prompt's table.
        start: the tokens that the decoder reads before an answer.
        ends: tokens that end an answer.
        last: the token that stands last in an answer of full length; None: any.
        words, head: names of the table of words and of the head's columns among the weights.
        words_scale, states_scale: of word embeddings, and of the decoder's states before the head.
        heads: of the decoder.
        key_width: of all heads together.
        biases: the name of the decoder's table of biases for relative positions among the weights (T5).
        positions: the name of its table of positions, and the row of position 0 there (BART).
        max_length: positions of either side.
    """

    encoder: Tower
    decoder: Tower
    attentions: Attentions
    start: tuple[int, ...]
    ends: tuple[int, ...]
    last: int | None
    words: str
    head: str
    words_scale: float
    states_scale: float
    heads: int
    key_width: int
    biases: str | None
    positions: tuple[str, int] | None
    max_length: int


def form_of(module: Any, where: str) -> Form:
    """Look at a module of T5, mT5 or BART.

    Raises:
        ModelError: its config.json does not say with what an answer begins or ends.
    """
    config, settings = module.config, module.generation_config
    names = {id(part): name for name, part in (*module.named_modules(), *module.named_parameters())}
    encoder, decoder = module.get_encoder(), module.get_decoder()
    table = module.get_input_embeddings()
    is_bart = config.model_type == "bart"
    attentions = _bart_attentions(encoder, decoder) if is_bart else _t5_attentions(encoder, decoder)
    first: Any = attentions[1][0]
    scaled = getattr(config, "scale_decoder_outputs", False)
    positions = (names[id(decoder.embed_positions.weight)], decoder.embed_positions.offset) if is_bart else None
    return Form(
        encoder=Tower(encoder, f"{names[id(encoder)]}."),
        decoder=Tower(decoder, f"{names[id(decoder)]}."),
        attentions=attentions,
        start=(_token(settings, config, "decoder_start_token_id", where), *_tokens(settings.forced_bos_token_id)),
        ends=_tokens(_token(settings, config, "eos_token_id", where)),
        last=next(iter(_tokens(settings.forced_eos_token_id)), None),
        words=names[id(table.weight)],
        head=names[id(module.get_output_embeddings().weight)],
        words_scale=float(getattr(table, "embed_scale", 1.0)),
        states_scale=config.d_model**-0.5 if scaled else 1.0,
        heads=config.decoder_attention_heads if is_bart else config.num_heads,
        key_width=(first.k_proj if is_bart else first.k).out_features,
        biases=None if is_bart else names[id(first.relative_attention_bias.weight)],
        positions=positions,
        # T5 has no table of positions; 512 is what the published ones were trained with.
        max_length=config.max_position_embeddings if is_bart else getattr(config, "n_positions", 512),
    )


def _t5_attentions(encoder: Any, decoder: Any) -> Attentions:
    return (
        tuple(block.layer[0].SelfAttention for block in encoder.block),
        tuple(block.layer[0].SelfAttention for block in decoder.block),
        tuple(block.layer[1].EncDecAttention for block in decoder.block),
    )


def _bart_attentions(encoder: Any, decoder: Any) -> Attentions:
    return (
        tuple(layer.self_attn for layer in encoder.layers),
        tuple(layer.self_attn for layer in decoder.layers),
        tuple(layer.encoder_attn for layer in decoder.layers),
    )


def _token(settings: Any, config: Any, name: str, where: str) -> Any:
    """A token that the generation settings name, else config.json."""
    token = getattr(settings, name, None)
    token = getattr(config, name, None) if token is None else token
    if token is None:
        raise ModelError(f"config.json lacks {name!r}, so no answer can be written", where=where)
    return token


def _tokens(value: Any) -> tuple[int, ...]:
    """One token, several, or none, as transformers writes them."""
    if value is None:
        return ()
    return tuple(value) if isinstance(value, list | tuple) else (int(value),)
