"""Where a backbone lies, and how what a pass needs gets there.

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
    """The device of that name; `auto`: the GPU where there is one.

    Raises:
        ModelError: a GPU is asked for, and there is none.
    """
    there = torch.cuda.is_available()
    if name == "cuda" and not there:
        raise ModelError("there is no CUDA device here", do="use --device cpu or auto")
    return CPU if name == "cpu" or not there else torch.device("cuda", torch.cuda.current_device())


def place(
    batch: Batch, layout: Layout, prompts: PromptStack | None, device: torch.device
) -> tuple[Batch, Layout, PromptStack | None]:
    """All that a pass reads, on the backbone's device; as it is where that is the processor."""
    if device.type == "cpu":
        return batch, layout, prompts
    lists = {
        "ids": batch.tokens.ids,
        "prompt_of": batch.prompt_of,
        "prompt_starts": None if prompts is None else prompts.starts,
        **{name: getattr(layout, name) for name in LISTS},
    }
    there = moved({name: one for name, one in lists.items() if one is not None}, device)
    rest = {name: there.get(name) for name in LISTS}
    placed = replace(layout, **rest, limits=limits_of(batch, layout, prompts))  # type: ignore[arg-type]
    if prompts is not None:
        prompts = replace(prompts, table=prompts.table.to(device), starts=there["prompt_starts"])
    return Batch(replace(batch.tokens, ids=there["ids"]), there.get("prompt_of")), placed, prompts


def moved(lists: Mapping[str, Tensor], device: torch.device) -> dict[str, Tensor]:
    """Lists of whole numbers in one copy; a copy each would cost more than the numbers do."""
    flat = torch.cat(list(lists.values())).pin_memory().to(device, non_blocking=True)
    return dict(zip(lists, flat.split([len(one) for one in lists.values()]), strict=True))


def limits_of(batch: Batch, layout: Layout, prompts: PromptStack | None) -> Limits:
    """What the kernels' grids depend on, read before anything is on its way."""
    longest, table = 0, 0
    if prompts is not None and prompts.depth == "deep" and batch.prompt_of is not None:
        lengths = prompts.starts.diff()
        longest, table = _most(lengths[batch.prompt_of]), _most(lengths)
    return Limits(_most(layout.read_starts.diff()), _most(layout.starts.diff()), longest, table)


def _most(lengths: Tensor) -> int:
    return int(lengths.max()) if len(lengths) else 0


def tokens_at_once(backbone: Backbone, on_processor: int) -> int:
    """Tokens of one pass: those the caller measured for a processor's cache, or what a GPU's memory holds.

    A layer keeps about 12 widths a token for the backward, at most 4 bytes each; half of what is free is taken. More
    than 65,536 tokens gain nothing: the products are as fast as they get.
    """
    if backbone.device.type == "cpu":
        return on_processor
    free, _ = torch.cuda.mem_get_info(backbone.device)
    return max(on_processor, min(1 << 16, free // 2 // (backbone.layers * backbone.hidden * 48)))
