"""The demonstrations of each row: the labelled rows that are nearest to it by frozen states of the model itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize

from promptgraft.model.backbone import Backbone, Batch
from promptgraft.model.tokens import Tokens
from promptgraft.prompt.pool import LabelledPool
from promptgraft.prompt.reading import Pooling, Reading
from promptgraft.task.task import Example, Kind, content_hash

TOKENS_AT_ONCE = 4096
MOST_OF_A_SEQUENCE = 0.75
"""What demonstrations may take of it, so that there is room for the row itself."""


def key_of(example: Example) -> str:
    """A hash of a row's texts, without its label."""
    return content_hash([example.text, example.pair or "", *example.choices])[:16]


def row_features(
    backbone: Backbone, examples: Sequence[Example], kind: Kind, pooling: Pooling, limit: int
) -> Float[Tensor, "B H"]:
    """Pooled states of rows alone, without a prompt, at unit length; of a row of several sequences their mean."""
    tokens = backbone.tokenize(examples, kind, Reading(pooling), max_length=limit)
    states = _states(backbone, tokens, pooling)
    owner = torch.arange(tokens.count).repeat_interleave(tokens.rows.diff())
    total = states.new_zeros(tokens.count, states.shape[1]).index_add(0, owner, states)
    return normalize(total, dim=-1)


def _states(backbone: Backbone, tokens: Tokens, pooling: Pooling) -> Float[Tensor, "S H"]:
    """A state a sequence, computed in batches of similar length; zeros for one without a token."""
    single, order = tokens.singly, tokens.lengths.argsort(descending=True, stable=True)
    order = order[tokens.lengths[order] > 0]
    group = (tokens.lengths[order].cumsum(0) - 1) // TOKENS_AT_ONCE
    states = torch.zeros(tokens.sequences, backbone.hidden)
    with torch.no_grad():
        for index in order.split(torch.bincount(group).tolist()) if len(order) else ():
            states[index] = backbone.forward(Batch(single.select(index)), None, pooling).float().cpu()
    return states


def shown_lines(
    pool: LabelledPool,
    features: Float[Tensor, "B H"],
    examples: Sequence[Example],
    count: int,
    sizes: Callable[[Sequence[str]], Sequence[int]],
    limit: int,
) -> list[list[str]]:
    """The demonstrations of each row, the nearest last, next to the row itself.

    The farthest are left out where they would leave no room for the row.

    Args:
        sizes: how many tokens each of some texts has.
        limit: tokens of a sequence.
    """
    lengths = list(sizes(pool.lines))
    room = int(MOST_OF_A_SEQUENCE * limit)
    result = []
    for places in pool.nearest(features, [key_of(example) for example in examples], count):
        kept = places[:1]
        for place in places[1:]:
            if sum(lengths[shown] for shown in kept) + lengths[place] > room:
                break
            kept.append(place)
        result.append([pool.lines[place] for place in reversed(kept)])
    return result
