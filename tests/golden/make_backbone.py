"""Make tests/golden/backbone.json: what transformers itself computes on splade-tiny, in fp32 on a processor.

    python tests/golden/make_backbone.py

First-token states of three texts, bare and with a deep prompt, and the gradient of their sum of squares on that prompt.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch
import transformers

from promptgraft.model.catalog import resolve

PLACE = Path(__file__).with_name("backbone.json")
TEXTS = ("a moving and unsentimental drama", "The blade broke on day two.", "这把刀很好用")
LENGTH = 3


def prompt_values(layers: int, hidden: int) -> torch.Tensor:
    """A prompt anyone can make again without a random number generator: `[L, 2, P, H]`."""
    count = layers * 2 * LENGTH * hidden
    return (torch.arange(count).mul(0.37).sin() * 0.1).view(layers, 2, LENGTH, hidden)


def main() -> None:
    folder = resolve("splade-tiny").path
    model = transformers.BertModel.from_pretrained(folder, add_pooling_layer=False).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    read = tokenizer(list(TEXTS), padding=True, return_tensors="pt")
    config = model.config
    prompt = prompt_values(config.num_hidden_layers, config.hidden_size).requires_grad_()
    heads, rows = config.num_attention_heads, len(TEXTS)
    split = prompt.view(*prompt.shape[:2], 1, LENGTH, heads, -1).transpose(3, 4).expand(-1, -1, rows, -1, -1, -1)
    cache = transformers.DynamicCache([(one[0], one[1]) for one in split])
    mask = torch.cat([torch.ones(rows, LENGTH, dtype=torch.long), read.attention_mask], 1)
    both = transformers.EncoderDecoderCache(cache, transformers.DynamicCache())
    positions = torch.arange(read.input_ids.shape[1]).expand(rows, -1)
    bare = model(**read).last_hidden_state[:, 0]
    steered = model(
        input_ids=read.input_ids,
        token_type_ids=read.token_type_ids,
        attention_mask=mask,
        position_ids=positions,
        past_key_values=both,
    ).last_hidden_state[:, 0]
    steered.square().sum().backward()
    made = {"texts": TEXTS, "length": LENGTH, "transformers": transformers.__version__, "torch": torch.__version__}
    tensors = {"bare": bare, "steered": steered, "gradient": prompt.grad}
    made |= {name: [round(value, 8) for value in tensor.flatten().tolist()] for name, tensor in tensors.items()}
    PLACE.write_text(json.dumps(made, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
