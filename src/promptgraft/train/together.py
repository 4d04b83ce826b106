"""Many models score one packed batch; models whose readouts are alike do so in one product."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, groupby

import torch
from jaxtyping import Float, Int
from torch import Tensor

from promptgraft.model.backbone import Read
from promptgraft.model.tokens import Tokens
from promptgraft.prompt.reading import ANSWERED
from promptgraft.readout.features import features
from promptgraft.readout.readout import Readout, device_of, kind_of, stack_readouts
from promptgraft.train.run import Tuned


@dataclass(frozen=True)
class Readers:
    """A group of consecutive models whose readouts are computed as one.

    Attributes:
        members: the indices of the models.
        readout: the readout of a single member, or all members' readouts stacked.
    """

    members: range
    readout: Readout

    def fits(self, rows: Sequence[int]) -> bool:
        """Whether the members have equally many rows."""
        counts = rows[self.members.start : self.members.stop]
        return counts.count(counts[0]) == len(counts)


@dataclass(frozen=True)
class Scored:
    """The scores of a group of models.

    Attributes:
        scores: those of a single member's rows; of several members `[K, ...]`.
    """

    readers: Readers
    scores: Float[Tensor, "..."]

    @property
    def members(self) -> range:
        return self.readers.members

    def each(self) -> list[Float[Tensor, "..."]]:
        """The scores of each member."""
        return [self.scores] if len(self.members) == 1 else list(self.scores.unbind())


def readers(models: Sequence[Tuned], rows: Sequence[int]) -> list[Readers]:
    """Group consecutive models whose readouts are alike and that have equally many rows."""

    def key(place: int) -> Hashable:
        model = models[place]
        kind = kind_of(model.readout)
        return place if kind is None else (kind, model.reading.encoding, rows[place])

    groups = []
    for _, places in groupby(range(len(models)), key):
        neighbours = list(places)
        members = range(neighbours[0], neighbours[-1] + 1)
        groups.append(Readers(members, stack_readouts([models[member].readout for member in members])))
    return groups


def _ends(tokens: Tokens, sequences: Int[Tensor, "M"], read: Read) -> list[int]:
    """Where states of sequences begin, among those that a backbone gives of a batch."""
    if read != "tokens" and read not in ANSWERED:
        return sequences.tolist()
    starts = tokens.starts[sequences]
    if read == "tokens" or tokens.answers is None:
        return starts.tolist()
    before: list[int] = torch.nn.functional.pad(tokens.answers.long().cumsum(0), (1, 0))[starts].tolist()
    return before


def score_together(
    models: Sequence[Tuned],
    rows: Sequence[int],
    tokens: Tokens,
    hidden: Float[Tensor, "N H"],
    known: Sequence[Readers] = (),
) -> Iterator[Scored]:
    """Yield the scores of each group of models, on the readouts' device.

    Args:
        rows: how many of the batch's rows are the first model's, the second's, ...
        tokens, hidden: the rows and their hidden states.
        known: the models' `readers`, if they were grouped before.
    """
    bounds = [0, *accumulate(rows)]
    ends = _ends(tokens, tokens.rows[bounds], models[0].read)
    usable = known and all(group.fits(rows) for group in known)
    for group in known if usable else readers(models, rows):
        first, last, readout = group.members.start, group.members.stop, group.readout
        states, part = hidden[ends[first] : ends[last]], tokens.part(bounds[first], bounds[last])
        inputs = states if readout.reads == "tokens" else features(states, part, models[first].reading.encoding)
        inputs = inputs.to(device_of(readout))
        if len(group.members) > 1:
            inputs = inputs.view(len(group.members), rows[first], -1)
        yield Scored(group, readout.scores(inputs, part))
