"""Scores of many models over one packed batch: readouts that are alike read their rows in one go."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, groupby

from jaxtyping import Float
from torch import Tensor

from promptgraft.model.tokens import Tokens
from promptgraft.readout.features import features
from promptgraft.readout.readout import Readout, kind_of, stack_readouts
from promptgraft.train.run import Tuned


@dataclass(frozen=True)
class Scored:
    """Models that read together.

    Attributes:
        members: which models, one after the other.
        readout: that of the one member; of several, all of theirs as one.
        scores: of the one member's rows; of several, `[K, ...]`.
    """

    members: range
    readout: Readout
    scores: Float[Tensor, "..."]

    def each(self) -> list[Float[Tensor, "..."]]:
        """Every member's own scores."""
        return [self.scores] if len(self.members) == 1 else list(self.scores.unbind())


def score_together(
    models: Sequence[Tuned], rows: Sequence[int], tokens: Tokens, hidden: Float[Tensor, "N H"]
) -> Iterator[Scored]:
    """Scores of each model's rows, where the readouts lie.

    Args:
        rows: how many of the batch's rows are the first model's, the second's, ...
        tokens, hidden: the rows and their hidden states.
    """
    bounds = [0, *accumulate(rows)]
    sequences = tokens.rows[bounds]
    ends = (tokens.starts[sequences] if models[0].read == "tokens" else sequences).tolist()
    for members in _alike(models, rows):
        first, last = members[0], members[-1] + 1
        states, own = hidden[ends[first] : ends[last]], tokens.part(bounds[first], bounds[last])
        readout = stack_readouts([models[member].readout for member in members])
        read = states if readout.reads == "tokens" else features(states, own, models[first].encoding)
        read = read.to(next(iter(readout.parameters().values())).device)
        if len(members) > 1:
            read = read.view(len(members), rows[first], -1)
        yield Scored(members, readout, readout.scores(read, own))


def _alike(models: Sequence[Tuned], rows: Sequence[int]) -> Iterator[range]:
    """Neighbours whose readouts can read as one: equal kinds, as many rows."""

    def key(place: int) -> Hashable:
        model = models[place]
        kind = kind_of(model.readout)
        return place if kind is None else (kind, model.encoding, rows[place])

    for _, places in groupby(range(len(models)), key):
        members = list(places)
        yield range(members[0], members[-1] + 1)
