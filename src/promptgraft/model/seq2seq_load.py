"""Sequence-to-sequence models are loaded by transformers, with an attention that takes prompts."""

from __future__ import annotations

import torch
from torch import Tensor

from promptgraft.errors import ModelError
from promptgraft.model import prefixed
from promptgraft.model.any import quiet
from promptgraft.model.device import CPU
from promptgraft.model.fingerprint import fingerprint
from promptgraft.model.memory import MemoryLimit
from promptgraft.model.resolved import Resolved
from promptgraft.model.seq2seq import SequenceBackbone
from promptgraft.model.seq2seq_form import form_of
from promptgraft.model.tokenize import load_tokenizer
from promptgraft.model.weights import check_types, check_weights, files
from promptgraft.untrusted import visible

BIAS = "final_logits_bias"
"""The one buffer that holds weights: the biases of BART's head."""


def load_seq2seq(
    resolved: Resolved, dtype: torch.dtype, device: torch.device = CPU, memory: MemoryLimit | None = None
) -> SequenceBackbone:
    """Load a model of T5's, mT5's or BART's kind.

    Raises:
        ModelError: transformers cannot load it, or its weights cannot be used.
    """
    check_types(files(resolved.path))
    prefixed.register()
    from transformers import AutoModelForSeq2SeqLM

    try:
        with quiet():  # in fp32, whatever it is used in: its identity is that of the weights before they are rounded
            module, report = AutoModelForSeq2SeqLM.from_pretrained(
                resolved.path,
                local_files_only=True,
                use_safetensors=True,
                output_loading_info=True,
                dtype=torch.float32,
                attn_implementation=prefixed.NAME,
            )
    except Exception as error:  # each architecture fails in its own way
        first = visible((str(error) or type(error).__name__).splitlines()[0])
        raise ModelError(f"transformers cannot load it ({first})", where=resolved.path) from error
    if report["missing_keys"]:
        raise ModelError(f"its weights lack {sorted(report['missing_keys'])[0]!r}", where=resolved.path)
    module.eval().requires_grad_(False)
    bias: dict[str, Tensor] = {name: values for name, values in module.named_buffers() if name == BIAS}
    loaded = dict(module.named_parameters()) | bias
    check_weights(loaded, resolved.path)
    identity = fingerprint(loaded)
    form = form_of(module, str(resolved.path))
    for parameter in module.parameters():
        parameter.data = parameter.data.to(dtype)
    module.to(device)
    tokenizer = load_tokenizer(resolved.path, prefix=resolved.text_prefix, to_traditional=resolved.to_traditional)
    weights = dict(module.named_parameters())
    tokenizer = tokenizer.checked(len(weights[form.words]), 0, resolved.path)
    head_bias = bias[BIAS][0].to(device, torch.float32) if bias else None
    return SequenceBackbone(
        resolved.name, module, form, weights, head_bias, tokenizer, fingerprint=identity, memory=memory
    )
