"""Any other encoder runs through transformers, with padding and with shallow prompts only."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.func import functional_call

from promptgraft import kernels
from promptgraft.errors import ModelError, RunError
from promptgraft.kernels.dropout import Dropout
from promptgraft.kernels.rows import padded
from promptgraft.model.backbone import Arithmetic, Backbone, Batch, Read, shown
from promptgraft.model.config import whole
from promptgraft.model.device import CPU, place
from promptgraft.model.fingerprint import fingerprint
from promptgraft.model.layout import Layout, lay_out
from promptgraft.model.resolved import Resolved
from promptgraft.model.tokenize import Tokenizer, load_tokenizer
from promptgraft.model.tokenized import Tokenizing
from promptgraft.model.weights import check_types, check_weights, files
from promptgraft.prompt.prompt import PromptStack
from promptgraft.prompt.reading import Pooling
from promptgraft.untrusted import visible


class AnyBackbone(Tokenizing):
    """A `Backbone` around a transformers encoder; see the contract for what each method promises.

    `words` names its input embedding table among the weights.
    """

    family = "any"
    deep = False
    learns = True

    def __init__(
        self,
        name: str,
        module: torch.nn.Module,
        weights: Mapping[str, Tensor],
        tokenizer: Tokenizer,
        words: str,
        *,
        max_length: int,
        pooling: Pooling | None,
        has_pooler: bool,
        fingerprint: str | None,
    ) -> None:
        config: Any = module.config
        self.name, self.pooling, self.weights, self._fingerprint = name, pooling, weights, fingerprint
        self.hidden, self.layers, self.heads = config.hidden_size, config.num_hidden_layers, config.num_attention_heads
        self.max_length = max_length
        self.arithmetic: Arithmetic = "bf16" if weights[words].dtype == torch.bfloat16 else "fp32"
        self.embedding_width, self.device = weights[words].shape[1], weights[words].device
        self._module, self._tokenizer, self.words, self._has_pooler = module, tokenizer, words, has_pooler
        self.prompt_layers, self.key_width, self.key_heads = self.layers, self.hidden, self.heads
        self.reads: frozenset[Read] = frozenset({"cls", "mean", "tokens", *(("pooler",) if has_pooler else ())})

    def __repr__(self) -> str:
        return shown(self)

    @property
    def fingerprint(self) -> str:
        """The hash of the weights, made when it is asked for: weights that learn change at every step."""
        return fingerprint(self.weights) if self._fingerprint is None else self._fingerprint

    def forward(
        self, batch: Batch, prompts: PromptStack | None, read: Read, *, dropout: Dropout | None = None
    ) -> Float[Tensor, "N H"]:
        self._check(prompts, read, dropout)
        batch, layout, prompts = place(batch, lay_out(batch, prompts, read, self.max_length), prompts, self.device)
        words = torch.nn.functional.embedding(batch.tokens.ids.clamp_min(0), self.weights[self.words])
        if layout.source is not None and prompts is not None:
            words = torch.cat([words, prompts.table.to(words.dtype)]).index_select(0, layout.source)
        if not batch.tokens.sequences:
            return words.new_zeros(0, self.hidden, dtype=torch.float32)
        hidden = self._padded(words, layout, read)
        return kernels.segment_mean(hidden, layout.read_starts) if read == "mean" else hidden

    def _padded(self, words: Float[Tensor, "R E"], layout: Layout, read: Read) -> Float[Tensor, "N H"]:
        """Run the module on a padded rectangle and take the rows that are read."""
        index, valid = padded(layout.starts, torch.arange(len(layout.starts) - 1, device=self.device))
        inputs = {"inputs_embeds": words[index], "attention_mask": valid.long(), "token_type_ids": layout.types[index]}
        parameters = inspect.signature(self._module.forward).parameters
        arguments = {name: value for name, value in inputs.items() if name in parameters}
        out: Any = functional_call(self._module, dict(self.weights), kwargs=arguments)
        if read == "pooler":
            pooled: Tensor = out.pooler_output
            return pooled.float()
        rows: Tensor = out.last_hidden_state[valid].float()
        return rows if layout.read is None else rows.index_select(0, layout.read)

    def embed(self, ids: Int[Tensor, "P"]) -> Float[Tensor, "P E"]:
        return self.weights[self.words][ids.to(self.device)].float().cpu()

    def keys_values(self, ids: Int[Tensor, "P"]) -> Float[Tensor, "L 2 P H"]:
        raise self._no_deep()

    def with_weights(self, weights: Mapping[str, Tensor]) -> Backbone:
        return AnyBackbone(
            self.name,
            self._module,
            {name: weight.to(self.device) for name, weight in weights.items()},
            self._tokenizer,
            self.words,
            max_length=self.max_length,
            pooling=self.pooling,
            has_pooler=self._has_pooler,
            fingerprint=None,
        )

    def _check(self, prompts: PromptStack | None, read: Read, dropout: Dropout | None) -> None:
        if prompts is not None and prompts.depth == "deep":
            raise self._no_deep()
        if prompts is not None and prompts.table.shape[-1] != self.embedding_width:
            message = (
                f"a prompt of width {prompts.table.shape[-1]} does not fit {self.name}, which is {self.embedding_width}"
            )
            raise RunError(message)
        if read == "pooler" and not self._has_pooler:
            raise ModelError("this model has no pooler", where=self.name, do="read cls or mean")
        if dropout is not None:
            raise RunError(f"dropout is not supported for {self.name}", do="use the BERT family")

    def _no_deep(self) -> ModelError:
        message = f"{self.name} takes shallow prompts only"
        return ModelError(message, do="use a shallow prompt, or a model of the BERT family for a deep one")


def load_any(
    resolved: Resolved, config: Mapping[str, Any], dtype: torch.dtype, device: torch.device = CPU
) -> AnyBackbone:
    """Load an encoder that is computed by transformers.

    Raises:
        ModelError: not an encoder, unknown to transformers, or its weights cannot be used.
    """
    _check_encoder(resolved, config)
    check_types(files(resolved.path))
    from transformers import AutoModel

    try:
        with quiet():  # in fp32, whatever it is used in: its identity is that of the weights before they are rounded
            module, report = AutoModel.from_pretrained(
                resolved.path,
                local_files_only=True,
                use_safetensors=True,
                output_loading_info=True,
                dtype=torch.float32,
            )
    except Exception as error:  # each architecture fails in its own way
        first = visible((str(error) or type(error).__name__).splitlines()[0])
        raise ModelError(f"transformers cannot load it ({first})", where=resolved.path) from error
    if "inputs_embeds" not in inspect.signature(module.forward).parameters:
        raise ModelError(f"{config.get('model_type')} takes no input embeddings, so no prompts", where=resolved.path)
    missing = {name for name in report["missing_keys"] if "pooler" not in name}
    if missing:
        raise ModelError(f"its weights lack {sorted(missing)[0]!r}", where=resolved.path)
    module.eval().requires_grad_(False)
    loaded = {name: weight for name, weight in module.named_parameters() if name not in report["missing_keys"]}
    check_weights(loaded, resolved.path)
    identity = fingerprint(loaded)
    for parameter in module.parameters():
        parameter.data = parameter.data.to(dtype)
    weights = dict(module.to(device).named_parameters())
    table = module.get_input_embeddings().weight
    tokenizer = load_tokenizer(resolved.path, prefix=resolved.text_prefix, to_traditional=resolved.to_traditional)
    segments = getattr(module.config, "type_vocab_size", 0)
    return AnyBackbone(
        resolved.name,
        module,
        weights,
        tokenizer.checked(len(table), segments, resolved.path),
        next(name for name, weight in weights.items() if weight is table),
        max_length=_positions(module.config),
        pooling=resolved.pooling,
        has_pooler=hasattr(module, "pooler") and module.pooler is not None and not report["missing_keys"],
        fingerprint=identity,
    )


def _check_encoder(resolved: Resolved, config: Mapping[str, Any]) -> None:
    from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING_NAMES

    kind = str(config.get("model_type"))
    for name in ("hidden_size", "num_hidden_layers", "num_attention_heads"):
        if name in config:  # some architectures have other names for them
            whole(config, name, str(resolved.path))
    if kind not in MODEL_FOR_MASKED_LM_MAPPING_NAMES or config.get("is_encoder_decoder") or config.get("is_decoder"):
        message = f"model_type {visible(kind)!r} is not an encoder that can be used"
        raise ModelError(message, where=resolved.path, do="choose a model of the BERT family (promptgraft models list)")


def _positions(config: Any) -> int:
    """The number of usable positions; RoBERTa's relatives leave those up to the padding index unused."""
    unused = config.pad_token_id + 1 if config.model_type in ("mpnet", "camembert", "longformer", "mega") else 0
    return int(getattr(config, "max_position_embeddings", 512)) - unused


@contextmanager
def quiet() -> Iterator[None]:
    """Silence transformers' report and progress bar."""
    from transformers.utils import logging

    before, bar = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(before)
        if bar:
            logging.enable_progress_bar()
