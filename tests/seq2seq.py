"""Small sequence-to-sequence models with random weights, and their forward as in a textbook, with prompts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from torch import Tensor

from promptgraft.model.tokens import Tokens

VOCABULARY = 60
T5 = {
    "vocab_size": VOCABULARY,
    "d_model": 24,
    "d_kv": 6,
    "num_heads": 3,
    "d_ff": 40,
    "num_layers": 2,
    "num_decoder_layers": 3,
    "decoder_start_token_id": 0,
    "relative_attention_num_buckets": 8,
    "relative_attention_max_distance": 10,
}
BART = {
    "vocab_size": VOCABULARY,
    "d_model": 24,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 3,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 40,
    "decoder_ffn_dim": 40,
    "max_position_embeddings": 40,
    "init_std": 0.2,
    "scale_embedding": True,
}
FAMILIES = ("t5", "t5-gated", "mt5", "bart")


def small(family: str) -> Any:
    """A model of the family; all that a published one may have is not zero."""
    torch.manual_seed(3)
    if family == "bart":
        bart = transformers.BartForConditionalGeneration(transformers.BartConfig(**BART))
        bart.final_logits_bias.normal_()
        return bart.eval()
    if family == "mt5":
        return transformers.MT5ForConditionalGeneration(transformers.MT5Config(**T5)).eval()
    gated = {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False} if family == "t5-gated" else {}
    t5 = transformers.T5ForConditionalGeneration(transformers.T5Config(**T5, **gated))
    if gated:
        t5.lm_head.weight = torch.nn.Parameter(torch.randn(VOCABULARY, 24))
    return t5.eval()


def write_small(family: str, folder: Path, gaps: int = 0) -> Any:
    """A folder with a model of the family and a tokenizer of single words; gives the model.

    Args:
        gaps: how many tokens for gaps in texts it knows.
    """
    model = small(family)
    model.save_pretrained(folder)
    special = ["<s>", "<pad>", "</s>", "<unk>"] if family == "bart" else ["<pad>", "</s>", "<unk>"]
    words = [*special, "a", *(f"w{number}" for number in range(VOCABULARY - len(special) - 1))]
    signs = [f"<extra_id_{number}>" for number in range(gaps)]
    words[len(words) - gaps :] = signs
    engine = Tokenizer(models.WordLevel({word: number for number, word in enumerate(words)}, unk_token="<unk>"))
    engine.add_special_tokens([*special, *signs])
    engine.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    first, second = ("<s> ", "$A </s> </s> $B </s>") if family == "bart" else ("", "$A </s> $B </s>")
    ends = [(word, words.index(word)) for word in special if word in ("<s>", "</s>")]
    engine.post_processor = processors.TemplateProcessing(f"{first}$A </s>", first + second, ends)
    engine.save(str(folder / "tokenizer.json"))
    return model


def rows_of(lengths: list[int], answers: list[int] | None = None) -> Tokens:
    """Sequences of random words, with answers of the given lengths at their ends."""
    generator = torch.Generator().manual_seed(1)
    behind = answers or [0] * len(lengths)
    starts = torch.tensor([0, *(a + b for a, b in zip(lengths, behind, strict=True))]).cumsum(0)
    ids = torch.randint(5, VOCABULARY, (int(starts[-1]),), generator=generator)
    flags = torch.cat([torch.arange(a + b) >= a for a, b in zip(lengths, behind, strict=True)])
    rows = torch.arange(len(lengths) + 1)
    return Tokens(ids, torch.zeros_like(ids), starts, rows, answers=None if answers is None else flags)


def states(
    model: Any,
    source: Tensor,
    target: list[int],
    deep: Tensor | None = None,
    *,
    before: Tensor | None = None,
    peft: bool = False,
) -> tuple[Tensor, Tensor]:
    """The encoder's and the decoder's last states of one row, by the formulas of the papers.

    Args:
        deep: keys and values of every attention, `[layers, 2, P, W]`, or of the decoder's own alone.
        before: embeddings before those of the source.
        peft: whether the decoder's words have positions behind the prompt.
    """
    names = _Bart(model) if model.config.model_type == "bart" else _T5(model)
    parts: list[Tensor | None] = [None] * (names.encoder_layers + 2 * names.decoder_layers)
    if deep is not None and len(deep) == names.decoder_layers:
        parts[names.encoder_layers : -names.decoder_layers] = list(deep)
    elif deep is not None:
        parts = list(deep)
    words = model.get_input_embeddings()(source)
    x = names.encode(words if before is None else torch.cat([before, words]), parts)
    y = names.decode(model.get_input_embeddings()(torch.tensor(target)), x, parts, peft)
    return x, y


def _attention(
    x: Tensor, y: Tensor, linears: Any, heads: int, scale: float, part: Tensor | None, bias: Tensor
) -> Tensor:
    """One attention of x over a prompt's keys and y's; `bias` is `[heads, x, P + y]`."""
    query, key, value, out = linears
    keys, values = key(y), value(y)
    if part is not None:
        keys, values = torch.cat([part[0], keys]), torch.cat([part[1], values])
    q, k, v = (each.view(len(each), heads, -1).transpose(0, 1) for each in (query(x), keys, values))
    shares = (q @ k.transpose(1, 2) * scale + bias).softmax(-1)
    return out((shares @ v).transpose(0, 1).flatten(1))


def _causal(count: int, length: int) -> Tensor:
    future = torch.ones(count, count).triu(1) * -1e9
    return torch.cat([torch.zeros(count, length), future], dim=1)


class _T5:
    def __init__(self, model: Any) -> None:
        self.encoder, self.decoder = model.encoder, model.decoder
        self.encoder_layers, self.decoder_layers = len(model.encoder.block), len(model.decoder.block)
        self.scale = 24**-0.5 if getattr(model.config, "scale_decoder_outputs", False) else 1.0

    def attend(self, layer: Any, part: Tensor | None, bias: Tensor, x: Tensor, y: Tensor | None = None) -> Tensor:
        inner = layer.EncDecAttention if y is not None else layer.SelfAttention
        normed = layer.layer_norm(x)
        linears = (inner.q, inner.k, inner.v, inner.o)
        return x + _attention(normed, normed if y is None else y, linears, 3, 1.0, part, bias)

    def encode(self, x: Tensor, parts: list[Tensor | None]) -> Tensor:
        near = self.encoder.block[0].layer[0].SelfAttention.compute_bias(len(x), len(x))[0]
        for block, part in zip(self.encoder.block, parts, strict=False):
            bias = near if part is None else torch.cat([near.new_zeros(3, len(x), part.shape[1]), near], dim=2)
            x = block.layer[1](self.attend(block.layer[0], part, bias, x))
        return self.encoder.final_layer_norm(x)

    def decode(self, y: Tensor, x: Tensor, parts: list[Tensor | None], peft: bool) -> Tensor:
        first = self.decoder.block[0].layer[0].SelfAttention
        for number, block in enumerate(self.decoder.block):
            part = parts[self.encoder_layers + number]
            length = 0 if part is None else part.shape[1]
            if peft:
                near = first.compute_bias(len(y), length + len(y), past_seen_tokens=length)[0]
            else:
                near = torch.cat([torch.zeros(3, len(y), length), first.compute_bias(len(y), len(y))[0]], dim=2)
            y = self.attend(block.layer[0], part, near + _causal(len(y), length), y)
            cross = parts[self.encoder_layers + self.decoder_layers + number]
            y = block.layer[2](self.attend(block.layer[1], cross, torch.zeros(1), y, x))
        return self.decoder.final_layer_norm(y) * self.scale


class _Bart:
    def __init__(self, model: Any) -> None:
        self.encoder, self.decoder = model.model.encoder, model.model.decoder
        self.encoder_layers, self.decoder_layers = len(self.encoder.layers), len(self.decoder.layers)

    def attend(self, inner: Any, heads: int, part: Tensor | None, bias: Tensor, x: Tensor, y: Tensor) -> Tensor:
        linears = (inner.q_proj, inner.k_proj, inner.v_proj, inner.out_proj)
        return x + _attention(x, y, linears, heads, (24 / heads) ** -0.5, part, bias)

    def forward(self, layer: Any, x: Tensor) -> Tensor:
        return layer.final_layer_norm(x + layer.fc2(torch.nn.functional.gelu(layer.fc1(x))))

    def placed(self, stack: Any, x: Tensor, shift: int = 0) -> Tensor:
        return stack.layernorm_embedding(x + stack.embed_positions.weight[2 + shift : 2 + shift + len(x)])

    def encode(self, x: Tensor, parts: list[Tensor | None]) -> Tensor:
        x = self.placed(self.encoder, x)
        for layer, part in zip(self.encoder.layers, parts, strict=False):
            x = layer.self_attn_layer_norm(self.attend(layer.self_attn, 3, part, torch.zeros(1), x, x))
            x = self.forward(layer, x)
        return x

    def decode(self, y: Tensor, x: Tensor, parts: list[Tensor | None], peft: bool) -> Tensor:
        first = parts[self.encoder_layers]
        y = self.placed(self.decoder, y, first.shape[1] if peft and first is not None else 0)
        for number, layer in enumerate(self.decoder.layers):
            part, cross = parts[self.encoder_layers + number], parts[self.encoder_layers + self.decoder_layers + number]
            bias = _causal(len(y), 0 if part is None else part.shape[1])
            y = layer.self_attn_layer_norm(self.attend(layer.self_attn, 4, part, bias, y, y))
            y = layer.encoder_attn_layer_norm(self.attend(layer.encoder_attn, 4, cross, torch.zeros(1), y, x))
            y = self.forward(layer, y)
        return y
