"""Sequences are continued token by token: keys and values are kept, and those of a shared beginning stand once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from promptgraft.kernels import causal_native
from promptgraft.kernels.causal import Scoring
from promptgraft.kernels.pattern import HIDDEN
from promptgraft.kernels.rotary import Turns
from promptgraft.kernels.rows import padded
from promptgraft.model.decoder import (
    Decoder,
    DecoderLayer,
    DecoderShape,
    after_attention,
    key_value_heads,
    query_heads,
)
from promptgraft.model.tree import Elements, Tree

# Places for new tokens that are made at a time.
NEW_PLACES = 32
# Rows that are done leave when they are so large a part of all: moving the others costs a copy of what is kept.
LEAVING = 0.25
EVERYWHERE = -1


@dataclass(frozen=True)
class KeptRows:
    """Which rows of kept keys and values each sequence sees; rows are those of prompts, beginnings and the pass.

    Attributes:
        order: the sequences, prompt by prompt; all below is in this order.
        group_of: of every sequence its group, those of a prompt.
        shared: of each group the rows that all of it sees, padded.
        shared_valid: which of them are no padding.
        shared_places: their places in their sequence; EVERYWHERE for a prompt's.
        own: of every sequence the rows that it sees beside these, padded.
        own_lengths: how many these are.
        lengths: of every sequence its elements.
        positions: of every sequence the position of the token that follows.
    """

    order: Int[Tensor, "S"]
    group_of: Int[Tensor, "S"]
    shared: Int[Tensor, "G n"]
    shared_valid: Bool[Tensor, "G n"]
    shared_places: Int[Tensor, "G n"]
    own: Int[Tensor, "S m"]
    own_lengths: Int[Tensor, "S"]
    lengths: Int[Tensor, "S"]
    positions: Int[Tensor, "S"]

    @classmethod
    def of(
        cls,
        elements: Elements,
        tree: Tree,
        prompt_starts: Int[Tensor, "K_plus_1"],
        past: Mapping[int, tuple[int, int]],
    ) -> KeptRows:
        """The rows of a pass.

        Args:
            prompt_starts: of the deep prompts; `[0]` alone without.
            past: of each prompt with a kept beginning its rows among those.
        """
        prompt_rows = int(prompt_starts[-1])
        past_rows = max((last for _, last in past.values()), default=0)
        order = elements.prompt_of.argsort(stable=True)
        groups, group_of = elements.prompt_of[order].unique_consecutive(return_inverse=True)
        shared, places = [], []
        for number, prompt in enumerate(groups.tolist()):
            leader = order[(group_of == number).nonzero()[0, 0]]
            first, count = int(elements.starts[leader]), int(tree.beginning[leader])
            rows = tree.row_of[first : first + count]
            known = torch.arange(*past.get(prompt, (0, 0)))
            rows = torch.cat([prompt_rows + known, prompt_rows + past_rows + rows[len(known) :]])
            of_prompt = torch.arange(*prompt_starts[prompt : prompt + 2].tolist()) if prompt_rows else rows[:0]
            shared.append(torch.cat([of_prompt, rows]))
            places.append(torch.cat([torch.full_like(of_prompt, EVERYWHERE), torch.arange(count)]))
        lengths = elements.starts.diff()[order]
        own_lengths = lengths - tree.beginning[order]
        own_starts = elements.starts[:-1][order] + tree.beginning[order]
        index, _ = padded(
            torch.stack([own_starts, own_starts + own_lengths], 1).flatten(), 2 * torch.arange(len(order))
        )
        shared_rows, shared_valid = _rectangle(shared)
        shared_places, _ = _rectangle(places)
        return cls(
            order,
            group_of,
            shared_rows,
            shared_valid,
            shared_places,
            prompt_rows + past_rows + tree.row_of[index],
            own_lengths,
            lengths,
            lengths + elements.shift[order],
        )


def _rectangle(parts: Sequence[Int[Tensor, "_"]]) -> tuple[Int[Tensor, "G n"], Bool[Tensor, "G n"]]:
    """Lists as rows, padded with zeros, and which places are no padding."""
    starts = torch.tensor([0, *map(len, parts)]).cumsum(0)
    flat = torch.cat([*parts, parts[0].new_zeros(1)])
    place = torch.arange(int(starts.diff().max()))
    valid = place < starts.diff()[:, None]
    return torch.where(valid, flat[(starts[:-1, None] + place).clamp_max(len(flat) - 1)], 0), valid


class Continued:
    """Sequences that are being continued.

    Args:
        kept: of every layer in turn the keys and values that `rows` names.
        longest: tokens that a sequence may get.
    """

    def __init__(
        self,
        shape: DecoderShape,
        decoder: Decoder,
        frequencies: Sequence[Float[Tensor, "half"]],
        scoring: Scoring,
        rows: KeptRows,
        kept: Iterable[Float[Tensor, "2 A K"]],
        longest: int,
    ) -> None:
        self._shape, self._decoder, self._frequencies, self._scoring = shape, decoder, frequencies, scoring
        self.device = decoder.words.device
        self.sequences = rows.order
        self._rows, self._longest, self._written = rows, longest, 0
        self._places = rows.own.shape[1] + min(longest, NEW_PLACES)
        on_device = rows.shared.to(self.device), rows.own.to(self.device)
        heads = (shape.key_heads, shape.head_width)
        room = (0, 0, 0, self._places - rows.own.shape[1])
        self._shared: list[Tensor] = []
        self._own: list[Tensor] = []
        for layer in kept:
            shared, own = (layer[:, seen].unflatten(-1, heads).transpose(2, 3) for seen in on_device)
            self._shared.append(shared.contiguous())
            self._own.append(F.pad(own, room))
        is_possible = scoring.cap is None and causal_native.is_possible(self._own[0][0, 0])
        self._variant = scoring.variant if is_possible else None
        self._arrange()

    def of_all(self, values: Float[Tensor, "A V"], count: int) -> Float[Tensor, "S V"]:
        """What the sequences still continued have, as a row for each that there ever was."""
        if torch.equal(self.sequences, torch.arange(count)):
            return values
        full = values.new_zeros(count, values.shape[1])
        return full.index_copy_(0, self.sequences.to(self.device), values)

    def step(self, tokens: Int[Tensor, "S"], goes_on: Sequence[bool]) -> Float[Tensor, "A H"]:
        """Read one more token of each sequence; the states that follow, of those that are not let go.

        Args:
            tokens: of all sequences that there ever were.
            goes_on: which of these are not done.
        """
        self._leave(torch.tensor(goes_on)[self.sequences])
        self._make_room()
        tokens = tokens.to(self.device)[self.sequences.to(self.device)]
        positions = (self._rows.positions + self._written).to(self.device)
        x = F.embedding(tokens, self._decoder.words)
        if self._shape.embedding_scale != 1:
            x = x * torch.tensor(self._shape.embedding_scale, dtype=x.dtype)
        if self._decoder.positions is not None:
            x = x + F.embedding(positions, self._decoder.positions)
        turns = [Turns.at(positions, frequencies, x.dtype) for frequencies in self._frequencies]
        slots = self._newest().to(self.device)
        seeing = self._seen if self._variant is None else self._ranges
        seen = {window: seeing(window) for window in set(self._shape.windows)}
        for number, layer in enumerate(self._decoder.layers):
            turn = turns[self._shape.rotary_of[number]] if turns else None
            x = self._layer(layer, number, x, turn, slots, seen[self._shape.windows[number]])
        self._written += 1
        return x

    def _layer(
        self,
        layer: DecoderLayer,
        number: int,
        x: Float[Tensor, "A H"],
        turn: Turns | None,
        slots: Int[Tensor, "_"],
        seen: Tensor,
    ) -> Float[Tensor, "A H"]:
        normed = layer.norm(x)
        queries, keys_values = query_heads(layer, normed, self._shape), key_value_heads(layer, normed, self._shape)
        keys, values = keys_values.chunk(2, 1)
        if turn is not None:
            queries, keys = turn.turn(queries), turn.turn(keys)
        own = self._own[number]
        for table, part in zip(own.view(2, -1, own.shape[-1]), (keys, values), strict=True):
            table.index_copy_(0, slots, part.flatten(0, 1))
        if self._variant is None:
            mixed = self._attend(queries, self._shared[number], own[:, :, :, : self._used], seen)
        else:
            tables = (self._shared[number], own)
            mixed = causal_native.attend_to_tables(queries, tables, seen, self._scoring.scale, self._variant)
        return after_attention(layer, mixed.flatten(1), x, self._shape)

    def _attend(
        self,
        queries: Float[Tensor, "A heads width"],
        shared: Float[Tensor, "2 G key_heads n width"],
        own: Float[Tensor, "2 A key_heads m width"],
        bias: Float[Tensor, "A 1 1 n_plus_m"],
    ) -> Float[Tensor, "A heads width"]:
        """Attend to what a sequence's prompt shares in one product a prompt, and to each one's own."""
        key_heads, width = self._shape.key_heads, self._shape.head_width
        by_key = queries.view(len(queries), key_heads, -1, width)
        count = shared.shape[3]
        scores = torch.matmul(by_key, own[0].mT)
        if count:
            among = self._by_group(by_key)
            scores = torch.cat([self._by_sequence(torch.matmul(among, shared[0].mT)), scores], -1)
        scores = scores.float().mul_(self._scoring.scale)
        if self._scoring.cap is not None:
            scores.div_(self._scoring.cap).tanh_().mul_(self._scoring.cap)
        weights = scores.add_(bias).softmax(-1).to(queries.dtype)
        mixed = torch.matmul(weights[..., count:], own[1])
        if count:
            mixed += self._by_sequence(torch.matmul(self._by_group(weights[..., :count]), shared[1]))
        return mixed.reshape(queries.shape)

    def _by_group(self, x: Float[Tensor, "A key_heads group n"]) -> Float[Tensor, "G key_heads mg n"]:
        """A group's sequences side by side, padded to the largest group."""
        return x[self._members].transpose(1, 2).flatten(2, 3)

    def _by_sequence(self, x: Float[Tensor, "G key_heads mg n"]) -> Float[Tensor, "A key_heads group n"]:
        members = self._members.shape[1]
        apart: Tensor = x.unflatten(2, (members, -1)).transpose(1, 2).flatten(0, 1)
        return apart[self._slots]

    def _seen(self, window: int | None) -> Float[Tensor, "A 1 1 n"]:
        """What is added to the scores of the newest tokens: HIDDEN where a key is padding, or too far back."""
        rows, groups = self._rows, self._rows.group_of
        now = (rows.lengths + self._written)[:, None]
        place = torch.arange(self._used)
        own = place <= (rows.own_lengths + self._written)[:, None]
        shared = rows.shared_valid[groups]
        if window is not None:
            begins = (rows.lengths - rows.own_lengths)[:, None]
            own = own & (begins + place > now - window)
            at = rows.shared_places[groups]
            shared = shared & ((at == EVERYWHERE) | (at > now - window))
        seen = torch.cat([shared, own], 1)
        return torch.zeros(seen.shape).masked_fill_(~seen, HIDDEN)[:, None, None].to(self.device)

    def _newest(self) -> Int[Tensor, "_"]:
        """Of every sequence and head of keys the row of the newest token, counted through a layer's own keys."""
        heads = torch.arange(len(self._rows.order) * self._shape.key_heads)
        columns = self._rows.own_lengths + self._written
        return heads * self._places + columns.repeat_interleave(self._shape.key_heads)

    def _ranges(self, window: int | None) -> Int[Tensor, "N 6"]:
        """The rows of the tables of shared and of own keys that the newest tokens see, as the native path has them."""
        rows, written = self._rows, self._written
        counts = rows.group_of.bincount(minlength=len(rows.shared))
        vectors = (rows.shared_valid & (rows.shared_places == EVERYWHERE)).sum(1)
        groups = torch.arange(len(counts))
        shared = self._blocks(0, groups, counts.cumsum(0) - counts, counts, 0 * vectors, rows.shared_valid.sum(1))
        single, now = torch.ones_like(rows.lengths), rows.lengths + written
        begins = rows.lengths - rows.own_lengths
        every = torch.arange(len(rows.lengths))
        gone = torch.zeros_like(now) if window is None else (now - window + 1).clamp_min(0)
        parts = [shared]
        if bool((gone > 0).any()) and rows.shared.shape[1]:
            vectors, last = vectors[rows.group_of], rows.shared_valid.sum(1)[rows.group_of]
            shared = self._blocks(0, rows.group_of, every, single, 0 * vectors, vectors)
            parts = [shared, self._blocks(0, rows.group_of, every, single, vectors + gone, last)]
        first = (gone - begins).clamp_min(0)
        parts.append(self._blocks(1, every, every, single, first, rows.own_lengths + written + 1))
        ranges = torch.cat(parts)
        return ranges[ranges[:, 5] > ranges[:, 4]]

    def _blocks(
        self,
        table: int,
        row: Int[Tensor, "N"],
        query: Int[Tensor, "N"],
        count: Int[Tensor, "N"],
        first: Int[Tensor, "N"],
        last: Int[Tensor, "N"],
    ) -> Int[Tensor, "N 6"]:
        """Ranges of a table: of so many queries from each `query` on, the keys `first:last` of a row."""
        apart = row * self._shape.key_heads * (self._rows.shared.shape[1], self._places)[table]
        kind = torch.full_like(row, table)
        return torch.stack([kind, 0 * kind, query, query + count, apart + first, apart + last], 1)

    @property
    def _used(self) -> int:
        """How many places of the sequences' own keys are in use."""
        return int(self._rows.own_lengths.max()) + self._written + 1

    def _arrange(self) -> None:
        """Work out which sequences stand side by side."""
        counts = self._rows.group_of.bincount(minlength=len(self._rows.shared))
        starts = F.pad(counts.cumsum(0), (1, 0))
        widest = int(counts.max())
        place = torch.arange(widest)
        members = (starts[:-1, None] + torch.minimum(place, (counts[:, None] - 1).clamp_min(0))).clamp_max(
            len(self._rows.group_of) - 1
        )
        within = torch.arange(len(self._rows.group_of)) - starts[self._rows.group_of]
        self._members = members.to(self.device)
        self._slots = (self._rows.group_of * widest + within).to(self.device)

    def _leave(self, goes_on: Bool[Tensor, "A"]) -> None:
        """Let the sequences go that are done, if they are many."""
        if int((~goes_on).sum()) <= LEAVING * len(goes_on):
            return
        stay = goes_on.nonzero().flatten()
        rows = self._rows
        groups, group_of = rows.group_of[stay].unique_consecutive(return_inverse=True)
        self._rows = KeptRows(
            rows.order[stay],
            group_of,
            rows.shared[groups],
            rows.shared_valid[groups],
            rows.shared_places[groups],
            rows.own[stay],
            rows.own_lengths[stay],
            rows.lengths[stay],
            rows.positions[stay],
        )
        self.sequences = self._rows.order
        of_groups, of_rows = groups.to(self.device), stay.to(self.device)
        whole_groups = len(groups) == len(rows.shared)
        for number in range(len(self._own)):
            self._own[number] = self._own[number].index_select(1, of_rows)
            if not whole_groups:
                self._shared[number] = self._shared[number].index_select(1, of_groups)
        self._arrange()

    def _make_room(self) -> None:
        """Make places for the next tokens where there is none."""
        if self._used <= self._places:
            return
        self._places += max(1, min(NEW_PLACES, self._longest - self._written))
        self._own = [F.pad(own, (0, 0, 0, self._places - own.shape[3])) for own in self._own]
