"""Sequences that begin alike are laid out as a tree, so that what they share goes through the layers once.

A sequence is a chain of at most four segments: a beginning kept from earlier batches, one that all sequences of its
prompt share in this batch, one that the sequences of its row share (its answers follow the same text), and its own
rest. Segments stand depth first, so that all that follow one stand side by side.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import torch
from jaxtyping import Int
from torch import Tensor

from promptgraft.errors import RunError
from promptgraft.kernels.pattern import Level
from promptgraft.model.backbone import Batch
from promptgraft.model.tokens import SOFT, gather
from promptgraft.prompt.prompt import PromptStack

# Shorter beginnings are not worth a segment: its products are small, and merging costs a pass over the row.
LEAST_SHARED, LEAST_OF_ROW = 8, 4


@dataclass(frozen=True)
class Elements:
    """The sequences with their shallow prompts among the tokens, before anything is shared.

    Attributes:
        codes: a token, or V + its row for a vector of the prompts' table.
        starts: sequence s is elements `starts[s]:starts[s + 1]`.
        of_token: of every token its element.
        shift: of every sequence the positions that its prompt takes before the first element.
        prompt_of: of every sequence its prompt; zeros without prompts.
    """

    codes: Int[Tensor, "N"]
    starts: Int[Tensor, "S_plus_1"]
    of_token: Int[Tensor, "T"]
    shift: Int[Tensor, "S"]
    prompt_of: Int[Tensor, "S"]


def lay_out_elements(
    batch: Batch, prompts: PromptStack | None, vocabulary: int, first: int | None, max_length: int
) -> Elements:
    """Place the batch's tokens and its shallow prompts.

    Args:
        first: the token that begins a text, which a shallow prompt stands behind; None where there is none.

    Raises:
        RunError: a sequence and its prompt need more positions than the backbone has, or what stands in the slots
            of a template is not there.
    """
    tokens = batch.tokens
    if prompts is not None and batch.prompt_of is None:
        raise RunError("prompts were given, but the batch does not say which sequence has which")
    nothing = torch.zeros_like(tokens.lengths)
    owner = nothing if prompts is None or batch.prompt_of is None else batch.prompt_of
    lengths = nothing if prompts is None else prompts.starts.diff()[owner]
    is_slot = tokens.ids == SOFT
    in_slots = prompts is not None and prompts.placement == "template"
    if not in_slots and bool(is_slot.any()):
        raise RunError("a template leaves room for vectors, and there is no prompt with placement 'template'")
    shift, codes, starts, of_token = nothing, tokens.ids, tokens.starts, torch.arange(len(tokens.ids))
    if prompts is not None and in_slots:
        codes = _in_slots(tokens.ids, tokens.starts, is_slot, prompts.starts[owner], lengths, vocabulary)
    elif prompts is not None and prompts.depth == "shallow":
        ahead = nothing
        if prompts.placement == "after_cls" and first is not None:
            begins = tokens.ids[tokens.starts[:-1].clamp_max(max(0, len(tokens.ids) - 1))] == first
            ahead = (begins & (tokens.lengths > 0)).long()
        starts = torch.nn.functional.pad((tokens.lengths + lengths).cumsum(0), (1, 0))
        sequence = torch.arange(tokens.sequences).repeat_interleave(tokens.lengths)
        within = torch.arange(len(tokens.ids)) - tokens.starts[sequence]
        of_token = starts[sequence] + within + torch.where(within < ahead[sequence], 0, lengths[sequence])
        vectors, _ = gather(prompts.starts, owner)
        codes = torch.empty(int(starts[-1]), dtype=torch.long)
        is_vector = torch.ones(len(codes), dtype=torch.bool)
        is_vector[of_token] = False
        codes[of_token], codes[is_vector] = tokens.ids, vocabulary + vectors
    elif prompts is not None and prompts.placement == "peft":
        shift = lengths
    needed = int((starts.diff() + shift).max()) if tokens.sequences else 0
    if needed > max_length:
        message = f"a sequence and its prompt take {needed} positions, the backbone has {max_length}"
        raise RunError(message, do="cut the text (max_length) or shorten the prompt")
    return Elements(codes, starts, of_token, shift, owner)


def _in_slots(
    ids: Tensor, starts: Tensor, is_slot: Tensor, first: Tensor, lengths: Tensor, vocabulary: int
) -> Int[Tensor, "T"]:
    """Codes of sequences whose template left slots for the vectors of their prompt."""
    before = torch.nn.functional.pad(is_slot.long().cumsum(0), (1, 0))
    slots = before[starts].diff()
    if not torch.equal(slots, lengths):
        uneven = int((slots != lengths).nonzero()[0])
        message = f"a template has room for {int(slots[uneven])} vectors, its prompt has {int(lengths[uneven])}"
        raise RunError(message, do="use the template that the prompt was tuned with")
    sequence = torch.arange(len(lengths)).repeat_interleave(starts.diff())
    number = before[:-1] - before[starts[:-1]][sequence]
    return torch.where(is_slot, vocabulary + first[sequence] + number, ids)


@dataclass(frozen=True)
class Tree:
    """The packed rows of a pass.

    Attributes:
        codes: of every row, as those of `Elements`.
        positions: of every row, those that its prompt takes counted.
        places: of every row its index in its sequence.
        row_of: of every element the row that computes it; -1 where it is kept.
        levels: what sees what, queries being all rows.
        beginning: of every sequence how many elements all of its prompt share, those kept from earlier counted.
    """

    codes: Int[Tensor, "R"]
    positions: Int[Tensor, "R"]
    places: Int[Tensor, "R"]
    row_of: Int[Tensor, "N"]
    levels: tuple[Level, ...]
    beginning: Int[Tensor, "S"]

    def asking(self, rows: Int[Tensor, "Q"]) -> tuple[Level, ...]:
        """The levels for some rows alone, in their order."""
        return tuple(level.asking(rows) for level in self.levels)


def common(elements: Elements) -> Int[Tensor, "S"]:
    """Of every sequence how many elements all sequences of its prompt begin with; the last is never shared."""
    result = torch.zeros_like(elements.prompt_of)
    lengths = elements.starts.diff()
    for prompt in elements.prompt_of.unique().tolist():
        group = (elements.prompt_of == prompt).nonzero().flatten()
        room = int(lengths[group].min()) - 1
        if room > 0:
            result[group] = _alike(elements, group, group[:1].expand(len(group)), room).min()
    return result


def _alike(elements: Elements, sequences: Int[Tensor, "N"], others: Int[Tensor, "N"], room: int) -> Int[Tensor, "N"]:
    """How many elements, up to `room`, each sequence has at its beginning as the other does."""
    place, last = torch.arange(room), len(elements.codes) - 1
    mine, theirs = ((elements.starts[of][:, None] + place).clamp_max(last) for of in (sequences, others))
    same = elements.codes[mine] == elements.codes[theirs]
    limit = torch.minimum(elements.starts.diff()[sequences], elements.starts.diff()[others]) - 1
    return torch.minimum(same.long().cumprod(1).sum(1), limit)


def first_wanted(elements: Elements, wanted: Int[Tensor, "N"]) -> Int[Tensor, "S"]:
    """Of every sequence the place of its first element that is wanted, or its length if none is."""
    sequence = torch.searchsorted(elements.starts, wanted, right=True) - 1
    return elements.starts.diff().scatter_reduce(0, sequence, wanted - elements.starts[sequence], "amin")


def of_rows(elements: Elements, rows: Int[Tensor, "B_plus_1"], floor: Int[Tensor, "S"]) -> Int[Tensor, "S"]:
    """Of every sequence how many elements all sequences of its row begin with; at least those of `floor`."""
    counts = rows.diff()
    result = floor.clone()
    several = (counts > 1).nonzero().flatten()
    if not len(several):
        return result
    sequences, offsets = gather(rows, several)
    row = torch.arange(len(several)).repeat_interleave(offsets.diff())
    first = sequences[offsets[:-1]][row]
    room = int(elements.starts.diff()[sequences].max()) - 1
    if room <= 0:
        return result
    alike = _alike(elements, sequences, first, room)
    alike = torch.where(elements.prompt_of[sequences] == elements.prompt_of[first], alike, 0)
    least = torch.full((len(several),), room).scatter_reduce_(0, row, alike, "amin")[row]
    found = least >= floor[sequences] + LEAST_OF_ROW
    result[sequences] = torch.where(found, least, floor[sequences])
    return result


def grow(
    elements: Elements,
    rows: Int[Tensor, "B_plus_1"],
    beginning: Int[Tensor, "S"],
    kept: Int[Tensor, "S"],
    prompt_starts: Int[Tensor, "K_plus_1"] | None = None,
    past: Mapping[int, tuple[int, int]] = MappingProxyType({}),
) -> Tree:
    """Lay out sequences as a tree.

    Args:
        rows: row b is sequences `rows[b]:rows[b + 1]`.
        beginning: of every sequence how much of it all sequences of its prompt share.
        kept: of every sequence how much of that is kept from earlier batches.
        prompt_starts: offsets of the deep prompts; None without.
        past: of each prompt with a kept beginning its rows among those kept, first and one past the last.
    """
    beginning = torch.where(beginning - kept >= LEAST_SHARED, beginning, kept)
    shared = beginning
    of_row = of_rows(elements, rows, beginning)
    order = elements.prompt_of.argsort(stable=True)
    beginning, kept, of_row = beginning[order], kept[order], of_row[order]
    elements_of, starts = gather(elements.starts, order)
    row = torch.arange(len(rows) - 1).repeat_interleave(rows.diff())[order]
    leads_prompt, leads_row = leaders(elements.prompt_of[order]), leaders(elements.prompt_of[order] * len(rows) + row)
    sequence = torch.arange(len(order)).repeat_interleave(starts.diff())
    place = torch.arange(len(sequence)) - starts[sequence]
    computed_by = torch.where(
        place < beginning[sequence],
        leads_prompt[sequence],
        torch.where(place < of_row[sequence], leads_row[sequence], sequence),
    )
    keep = (computed_by == sequence) & (place >= kept[sequence])
    before = torch.nn.functional.pad(keep.long().cumsum(0), (1, 0))
    row_of = torch.empty_like(elements_of)
    row_of[elements_of] = torch.where(place < kept[sequence], -1, before[starts[computed_by] + place])
    chains = Chains(before[starts[:-1]], *(before[starts[:-1] + at] for at in (kept, beginning, of_row)))
    levels = _levels(chains, before[-1:], leads_prompt, leads_row, elements.prompt_of[order], prompt_starts, past)
    chosen = elements_of[keep]
    shift = elements.shift[order][sequence[keep]]
    return Tree(elements.codes[chosen], place[keep] + shift, place[keep], row_of, levels, shared)


@dataclass(frozen=True)
class Chains:
    """Of every sequence, prompt by prompt, the row at which each of its segments would begin."""

    first: Int[Tensor, "S"]
    shared: Int[Tensor, "S"]
    of_row: Int[Tensor, "S"]
    own: Int[Tensor, "S"]


def leaders(values: Int[Tensor, "S"]) -> Int[Tensor, "S"]:
    """Of every value of a list the index of the first in its run of equals."""
    if not len(values):
        return values
    _, inverse, counts = values.unique_consecutive(return_inverse=True, return_counts=True)
    first: Tensor = (counts.cumsum(0) - counts)[inverse]
    return first


def _levels(
    chains: Chains,
    total: Int[Tensor, "1"],
    leads_prompt: Int[Tensor, "S"],
    leads_row: Int[Tensor, "S"],
    prompt_of: Int[Tensor, "S"],
    prompt_starts: Int[Tensor, "K_plus_1"] | None,
    past: Mapping[int, tuple[int, int]],
) -> tuple[Level, ...]:
    """What sees what: all of a prompt the prompt and its beginnings, all of a row what it shares, each its own."""
    of_prompt, of_row = leads_prompt.unique(), leads_row.unique()
    prompt_ends, row_ends, ends = (torch.cat([chains.first[part[1:]], total]) for part in (
        of_prompt, of_row, torch.arange(len(prompt_of))))  # fmt: skip
    begin, shared, own_of_row = chains.shared[of_prompt], chains.of_row[of_prompt], chains.own[of_row]
    levels = []
    if prompt_starts is not None:
        which = prompt_of[of_prompt]
        levels.append(Level("prompts", _blocks(begin, prompt_ends, prompt_starts[which], prompt_starts[which + 1])))
    if past:
        ranges = torch.tensor([past.get(prompt, (0, 0)) for prompt in prompt_of[of_prompt].tolist()])
        levels.append(Level("past", _blocks(begin, prompt_ends, ranges[:, 0], ranges[:, 1])))
    levels.append(Level("rows", _blocks(shared, prompt_ends, begin, shared)))
    levels.append(Level("rows", _blocks(own_of_row, row_ends, chains.of_row[of_row], own_of_row)))
    segments = ((begin, shared), (chains.of_row[of_row], own_of_row), (chains.own, ends))
    own = torch.cat([_blocks(first, last, first, last) for first, last in segments])
    return (*(level for level in levels if level.any()), Level("rows", own, causal=True))


def _blocks(*ends: Int[Tensor, "N"]) -> Int[Tensor, "N 4"]:
    return torch.stack(ends, 1)
