"""A backbone lies on one device, and the inputs of a pass are moved there.

One rule everywhere: the weights, the trainable tensors of a run and what `Backbone.forward` gives lie on the
backbone's device. Everything else is on the processor: tokens and labels, states and scores that are kept, prompts and
readouts of finished models, random numbers. The forward fetches what it is given; `train.predict.score` takes states
to where the readout lies.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor

from promptgraft.errors import ModelError
from promptgraft.kernels.rows import Limits
from promptgraft.model.backbone import Backbone, Batch
from promptgraft.model.layout import Layout
from promptgraft.prompt.prompt import PromptStack

DeviceName = Literal["auto", "cpu", "cuda"]
CPU = torch.device("cpu")
LISTS = ("starts", "positions", "types", "source", "read", "read_starts")


def resolve_device(name: DeviceName) -> torch.device:
    """Find the device of a name; `auto` is the GPU if there is one.

    Raises:
        ModelError: a GPU is asked for, and there is none.
    """
    available = torch.cuda.is_available()
    if name == "cuda" and not available:
        raise ModelError("there is no CUDA device here", do="use --device cpu or auto")
    return CPU if name == "cpu" or not available else torch.device("cuda", torch.cuda.current_device())


def place(
    batch: Batch, layout: Layout, prompts: PromptStack | None, device: torch.device
) -> tuple[Batch, Layout, PromptStack | None]:
    """Move all that a pass reads to the backbone's device; nothing is moved on a processor."""
    if device.type == "cpu":
        return batch, layout, prompts
    lists = {
        "ids": batch.tokens.ids,
        "prompt_of": batch.prompt_of,
        "prompt_starts": None if prompts is None else prompts.starts,
        **{name: getattr(layout, name) for name in LISTS},
    }
    copies = moved({name: values for name, values in lists.items() if values is not None}, device)
    layout_lists = {name: copies.get(name) for name in LISTS}
    placed = replace(layout, **layout_lists, limits=limits_of(batch, layout, prompts))  # type: ignore[arg-type]
    if prompts is not None:
        prompts = replace(prompts, table=prompts.table.to(device), starts=copies["prompt_starts"])
    return Batch(replace(batch.tokens, ids=copies["ids"]), copies.get("prompt_of")), placed, prompts


def moved(lists: Mapping[str, Tensor], device: torch.device) -> dict[str, Tensor]:
    """Move lists of whole numbers in one copy; a copy for each list would cost more than the numbers do."""
    flat = torch.cat(list(lists.values())).pin_memory().to(device, non_blocking=True)
    return dict(zip(lists, flat.split([len(values) for values in lists.values()]), strict=True))


def limits_of(batch: Batch, layout: Layout, prompts: PromptStack | None) -> Limits:
    """The lengths that decide the kernels' launch grids, read before anything is moved."""
    longest, table = 0, 0
    if prompts is not None and prompts.depth == "deep" and batch.prompt_of is not None:
        lengths = prompts.starts.diff()
        longest, table = _longest(lengths[batch.prompt_of]), _longest(lengths)
    return Limits(_longest(layout.read_starts.diff()), _longest(layout.starts.diff()), longest, table)


def _longest(lengths: Tensor) -> int:
    return int(lengths.max()) if len(lengths) else 0


def tokens_at_once(backbone: Backbone, on_processor: int) -> int:
    """How many tokens one pass takes: the caller's number on a processor, or what a GPU's memory holds.

    A layer keeps about 12 widths a token for the backward, at most 4 bytes each; half of what is free is taken. More
    than 65,536 tokens gain nothing: the products are as fast as they get.
    """
    if backbone.device.type == "cpu":
        return on_processor
    free, _ = torch.cuda.mem_get_info(backbone.device)
    return max(on_processor, min(1 << 16, free // 2 // (backbone.layers * backbone.hidden * 48)))
