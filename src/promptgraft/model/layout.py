"""The layout says where tokens and prompt vectors stand in the packed rows that go through the layers."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from jaxtyping import Int
from torch import Tensor

from promptgraft.errors import RunError
from promptgraft.kernels.rows import Limits
from promptgraft.model.backbone import Batch, Read
from promptgraft.model.tokens import SOFT, Tokens
from promptgraft.prompt.prompt import PromptStack


@dataclass(frozen=True)
class Layout:
    """The packed rows of one pass.

    Attributes:
        starts: row offsets of the sequences, shallow prompts included.
        positions: position of every row, counted from 0.
        types: segment of every row; 0 for prompt vectors.
        source: for shallow prompts, of every row its index in [tokens; prompt table]; else None.
        read: rows whose last hidden state is wanted (first, marked, or of the text); None for all.
        read_starts: offsets of the sequences among those.
        limits: longest sequences and prompts, queries being the rows that are read; known on a GPU only.
    """

    starts: Int[Tensor, "S_plus_1"]
    positions: Int[Tensor, "R"]
    types: Int[Tensor, "R"]
    source: Int[Tensor, "R"] | None
    read: Int[Tensor, "N"] | None
    read_starts: Int[Tensor, "S_plus_1"]
    limits: Limits | None = None


def lay_out(batch: Batch, prompts: PromptStack | None, read: Read, max_length: int) -> Layout:
    """Place the batch's tokens and its shallow prompts.

    Raises:
        RunError: a sequence and its prompt need more positions than the backbone has, or a batch says nothing
            of whose prompt is whose.
    """
    tokens = batch.tokens
    lengths = _prompt_lengths(batch, prompts)
    shallow = prompts is not None and prompts.depth == "shallow"
    in_slots = prompts is not None and prompts.placement == "template"
    shift = None if prompts is None or in_slots or (prompts.placement == "after_cls" and not shallow) else lengths
    if not in_slots and bool((tokens.ids == SOFT).any()):
        raise RunError("a template leaves room for vectors, and there is no prompt with placement 'template'")
    _check_room(tokens.lengths if shift is None else tokens.lengths + shift, max_length)
    if not shallow:
        positions = _within(tokens.starts)
        if shift is not None:
            positions = positions + shift.repeat_interleave(tokens.lengths)
        return _layout(tokens, tokens.starts, positions, tokens.types, None, None, read)
    assert prompts is not None
    return _in_slots(batch, prompts, lengths, read) if in_slots else _with_vectors(batch, prompts, lengths, read)


def _with_vectors(batch: Batch, prompts: PromptStack, lengths: Int[Tensor, "S"], read: Read) -> Layout:
    """Place shallow prompts: rows of the prompt table stand among the tokens."""
    tokens = batch.tokens
    starts = torch.nn.functional.pad((tokens.lengths + lengths).cumsum(0), (1, 0))
    positions = _within(starts)
    sequence = torch.arange(tokens.sequences).repeat_interleave(starts.diff())
    ahead = 1 if prompts.placement == "after_cls" else 0
    place = positions - ahead
    is_prompt = (place >= 0) & (place < lengths[sequence])
    text = tokens.starts[sequence] + torch.where(place < 0, positions, positions - lengths[sequence])
    first = prompts.starts[batch.prompt_of][sequence]
    source = torch.where(is_prompt, len(tokens.ids) + first + place, text)
    types = torch.where(is_prompt, 0, tokens.types[torch.where(is_prompt, 0, text)])
    of_text = (~is_prompt).nonzero().flatten()
    return _layout(tokens, starts, positions, types, source, of_text, read)


def _in_slots(batch: Batch, prompts: PromptStack, lengths: Int[Tensor, "S"], read: Read) -> Layout:
    """Place shallow prompts in the slots that a template left for them."""
    tokens = batch.tokens
    is_slot = tokens.ids == SOFT
    sequence = torch.arange(tokens.sequences).repeat_interleave(tokens.lengths)
    slots = torch.zeros_like(tokens.lengths).index_add_(0, sequence, is_slot.long())
    if not torch.equal(slots, lengths):
        uneven = int((slots != lengths).nonzero()[0])
        message = f"a template has room for {int(slots[uneven])} vectors, its prompt has {int(lengths[uneven])}"
        raise RunError(message, do="use the template that the prompt was tuned with")
    before = torch.nn.functional.pad(slots.cumsum(0), (1, 0))[sequence]
    vector = prompts.starts[batch.prompt_of][sequence] + is_slot.long().cumsum(0) - 1 - before
    source = torch.where(is_slot, len(tokens.ids) + vector, torch.arange(len(tokens.ids)))
    return _layout(tokens, tokens.starts, _within(tokens.starts), tokens.types, source, None, read)


def _layout(
    tokens: Tokens,
    starts: Tensor,
    positions: Tensor,
    types: Tensor,
    source: Tensor | None,
    text: Tensor | None,
    read: Read,
) -> Layout:
    """Make a layout that reads each sequence's first or marked row, or the rows of its text.

    Args:
        text: rows of the tokens; None where all are.
    """
    if read in ("cls", "pooler"):
        return Layout(starts, positions, types, source, starts[:-1], torch.arange(len(starts)))
    if read == "mark":
        marked = tokens.starts[:-1] + marks_of(tokens)
        return Layout(
            starts, positions, types, source, marked if text is None else text[marked], torch.arange(len(starts))
        )
    return Layout(starts, positions, types, source, text, tokens.starts)


def marked_first(batch: Batch, layout: Layout) -> tuple[Batch, Layout]:
    """Let every sequence begin with the row that is read of it.

    Attention does not know the order of its rows: their positions and segments go with them. So only these rows need
    to go through the last layer, on every path, as only first ones do elsewhere.
    """
    assert layout.read is not None
    firsts, order = layout.starts[:-1], torch.arange(len(layout.positions))
    order[firsts], order[layout.read] = layout.read, firsts
    source = None if layout.source is None else layout.source[order]
    if source is None:
        batch = replace(batch, tokens=replace(batch.tokens, ids=batch.tokens.ids[order]))
    layout = replace(layout, positions=layout.positions[order], types=layout.types[order], source=source, read=firsts)
    return batch, layout


def marks_of(tokens: Tokens) -> Int[Tensor, "S"]:
    """The marked token of each sequence, by its index there.

    Raises:
        RunError: a sequence has none.
    """
    if tokens.marks is None or bool((tokens.marks < 0).any()):
        raise RunError("rows without the place of an answer cannot be read at it", do="give a template")
    return tokens.marks


def _prompt_lengths(batch: Batch, prompts: PromptStack | None) -> Int[Tensor, "S"]:
    if prompts is None:
        return torch.zeros_like(batch.tokens.lengths)
    if batch.prompt_of is None:
        raise RunError("prompts were given, but the batch does not say which sequence has which")
    return prompts.starts.diff()[batch.prompt_of]


def _check_room(needed: Int[Tensor, "S"], max_length: int) -> None:
    longest = int(needed.max()) if len(needed) else 0
    if longest > max_length:
        message = f"a sequence and its prompt take {longest} positions, the backbone has {max_length}"
        raise RunError(message, do="cut the text (max_length) or shorten the prompt")


def _within(starts: Int[Tensor, "S_plus_1"]) -> Int[Tensor, "R"]:
    """The index of every packed row in its own sequence."""
    return torch.arange(int(starts[-1])) - starts[:-1].repeat_interleave(starts.diff())
