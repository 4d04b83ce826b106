"""What a model would take is estimated before it is loaded, in every arithmetic: weights, a training step, writing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from promptgraft.engine.writer import WRITTEN_TOKENS, written_bytes
from promptgraft.kernels.logits import MOST_LOGITS
from promptgraft.model.backbone import Arithmetic
from promptgraft.model.device import DeviceName, resolve_device
from promptgraft.model.memory import MemoryLimit, held_bytes, taken
from promptgraft.model.sizes import WIDTHS, ModelSizes, read_sizes
from promptgraft.train.loop import most_tokens
from promptgraft.train.recipe import Recipe

# Of a trained number in fp32: itself, its gradient twice, the optimiser's two means, and the best one so far.
COPIES = 6
# Bytes of the tokenizer and of libraries that a first step loads, on a processor.
LATE = 100 << 20


@dataclass(frozen=True)
class NeededMemory:
    """Bytes at the peak of a process that loads a model in one arithmetic, what it holds now included.

    Attributes:
        weights: those of the loaded weights alone.
        loading: while they are read.
        step: in a training step.
        again: in one whose layers are computed again; None where the model does not do that.
        writing: while texts are written; None where it writes none.
    """

    arithmetic: Arithmetic
    weights: float
    loading: float
    step: float
    again: float | None
    writing: float | None


@dataclass(frozen=True)
class ModelFit:
    """What a model would take, and what there is.

    Attributes:
        room: bytes that are free on the device, with what this process holds there.
    """

    model: str
    device: str
    room: float
    lines: tuple[NeededMemory, ...]


def fits(model: str | Path, *, recipe: Recipe, runs: int = 1, device: DeviceName = "auto") -> ModelFit:
    """Estimate the memory of a model from its config.json and the headers of its weights.

    Args:
        recipe: of a step: batch, longest sequence, length of the prompt, tokens of a written text.
        runs: that train together.
    Raises:
        ModelError: the model is unknown or not here, or its files are not usable.
    """
    sizes, place = read_sizes(model), resolve_device(device)
    held = held_bytes(place)
    lines = [_needed(sizes, arithmetic, recipe, runs, place, held) for arithmetic in sizes.arithmetics]
    return ModelFit(sizes.name, place.type, held + MemoryLimit().room(place), tuple(lines))


def _needed(
    sizes: ModelSizes, arithmetic: Arithmetic, recipe: Recipe, runs: int, place: torch.device, held: float
) -> NeededMemory:
    on_processor = place.type == "cpu"
    width, weights = WIDTHS[arithmetic], sizes.weights(arithmetic)
    rest = held + (LATE if on_processor else 0)
    loading = rest + weights
    if on_processor:  # a file of the same type is used as it is, but for products that are put together
        as_it_is = sizes.file_width == width and arithmetic in ("fp32", "bf16")
        loaded = sizes.file + sizes.fused * width if as_it_is else weights
        loading = max(rest + loaded, rest + sizes.file + (0 if as_it_is else weights))
        rest += loaded
    else:
        rest += weights
    prompt = 2 * sizes.layers * recipe.length * sizes.key_width
    rest += COPIES * 4 * runs * prompt
    tokens = _tokens_at_once(sizes, recipe, runs, width)
    logits = 2 * 4 * min(MOST_LOGITS, recipe.batch * runs * sizes.vocabulary)
    states = tokens * sizes.kept * width
    step = rest + logits + (taken(states, place) if sizes.causal else states)
    layer_inputs = tokens * sizes.layers * sizes.hidden * width
    again = rest + logits + taken(states / sizes.layers + layer_inputs, place)
    writing = rest + taken(_written(sizes, recipe, width), place)
    return NeededMemory(
        arithmetic,
        weights,
        loading,
        max(loading, step),
        max(loading, again) if sizes.causal else None,
        max(loading, writing) if sizes.causal else None,
    )


def _tokens_at_once(sizes: ModelSizes, recipe: Recipe, runs: int, width: int) -> int:
    """Tokens of a piece of a step: those of one run, or as many as the loop takes at once."""
    of_run = recipe.batch * recipe.max_length
    return min(of_run * runs, max(of_run, most_tokens(sizes.layers * sizes.hidden, width, causal=sizes.causal)))


def _written(sizes: ModelSizes, recipe: Recipe, width: int) -> float:
    """Bytes that all rows take which are written for at once where there is room."""
    rows = max(1, WRITTEN_TOKENS // recipe.max_length)
    length, most = recipe.max_length, recipe.most
    return rows * written_bytes(length, most, sizes.layers, sizes.key_width * width, sizes.vocabulary)


def fitting(lines: Sequence[NeededMemory], room: float) -> dict[Arithmetic, str]:
    """Whether a step fits in each arithmetic: `yes`, `with layers computed again`, or `no`."""
    return {
        line.arithmetic: "yes"
        if line.step <= room
        else "with layers computed again"
        if line.again is not None and line.again <= room
        else "no"
        for line in lines
    }
