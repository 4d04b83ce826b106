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
class Readers:
    """Neighbouring models that read together.

    Attributes:
        members: which models, one after the other.
        readout: that of the one member; of several, all of theirs as one.
    """

    members: range
    readout: Readout

    def fits(self, rows: Sequence[int]) -> bool:
        """Whether they have equally many rows."""
        own = rows[self.members.start : self.members.stop]
        return own.count(own[0]) == len(own)


@dataclass(frozen=True)
class Scored:
    """What models that read together gave.

    Attributes:
        scores: of the one member's rows; of several, `[K, ...]`.
    """

    readers: Readers
    scores: Float[Tensor, "..."]

    @property
    def members(self) -> range:
        return self.readers.members

    def each(self) -> list[Float[Tensor, "..."]]:
        """Every member's own scores."""
        return [self.scores] if len(self.members) == 1 else list(self.scores.unbind())


def readers(models: Sequence[Tuned], rows: Sequence[int]) -> list[Readers]:
    """Models whose readouts are alike and that have as many rows as their neighbours, put together."""

    def key(place: int) -> Hashable:
        model = models[place]
        kind = kind_of(model.readout)
        return place if kind is None else (kind, model.encoding, rows[place])

    found = []
    for _, places in groupby(range(len(models)), key):
        members = list(places)
        some = range(members[0], members[-1] + 1)
        found.append(Readers(some, stack_readouts([models[member].readout for member in some])))
    return found


def score_together(
    models: Sequence[Tuned],
    rows: Sequence[int],
    tokens: Tokens,
    hidden: Float[Tensor, "N H"],
    known: Sequence[Readers] = (),
) -> Iterator[Scored]:
    """Scores of each model's rows, where the readouts lie.

    Args:
        rows: how many of the batch's rows are the first model's, the second's, ...
        tokens, hidden: the rows and their hidden states.
        known: the models' `readers`, where they were put together before.
    """
    bounds = [0, *accumulate(rows)]
    sequences = tokens.rows[bounds]
    ends = (tokens.starts[sequences] if models[0].read == "tokens" else sequences).tolist()
    usable = known and all(some.fits(rows) for some in known)
    for some in known if usable else readers(models, rows):
        first, last, readout = some.members.start, some.members.stop, some.readout
        states, own = hidden[ends[first] : ends[last]], tokens.part(bounds[first], bounds[last])
        read = states if readout.reads == "tokens" else features(states, own, models[first].encoding)
        read = read.to(next(iter(readout.parameters().values())).device)
        if len(some.members) > 1:
            read = read.view(len(some.members), rows[first], -1)
        yield Scored(some, readout.scores(read, own))
