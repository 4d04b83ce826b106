"""The words of the vocabulary that a prompt's vectors are nearest to, and norms against the vocabulary's.

Nearest words are weak evidence: prompts that start near words of any text tune about as well (Khashabi et al. 2022,
"Prompt Waywardness"), and a vector drawn at random has a nearest word, too; how near that is stands beside.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from promptgraft.model.backbone import Backbone
from promptgraft.prompt.prompt import Prompt

LISTED = 5
"""Nearest words that are given of each vector."""
TOGETHER = 32
"""Words that are read together for their keys and values."""
LEAST_WORDS, MOST_WORK = 4096, 1 << 33
"""Words that a deep prompt is compared with: all where their layers are this little work, else so many, drawn."""
DRAWS = 32
"""Random vectors whose nearest word is looked for."""
BAND = (0.05, 0.5, 0.95)
"""Parts of the words that have a smaller norm, at the edges and the middle of the vocabulary's band."""


@dataclass(frozen=True)
class NearWord:
    """A word and its cosine to a vector."""

    word: str
    cosine: float


@dataclass(frozen=True)
class Norms:
    """The norms of a prompt's vectors beside those of words.

    Attributes:
        part: `embeddings`, `keys` or `values`.
        layer: counted from 1; 0 for embeddings.
        vectors: of each.
        low, middle, high: of words: all but a twentieth lie above the first and below the last.
    """

    part: str
    layer: int
    vectors: tuple[float, ...]
    low: float
    middle: float
    high: float


@dataclass(frozen=True)
class NearWords:
    """The nearest words of a prompt's vectors.

    Attributes:
        nearest: of each vector, the nearest first; of a deep prompt by the mean cosine over layers, keys and values.
        by_layer: of each vector and layer of a deep prompt, by its key and by its value; empty for a shallow one.
        random: the cosine of a random vector to its nearest word: drawn with the mean and spread of words.
        words: how many were compared.
        of: how many the vocabulary has.
    """

    nearest: tuple[tuple[NearWord, ...], ...]
    by_layer: tuple[tuple[tuple[NearWord, NearWord], ...], ...]
    random: float
    words: int
    of: int
    norms: tuple[Norms, ...]


def near_words(backbone: Backbone, prompt: Prompt) -> NearWords | None:
    """Look for the words nearest to a prompt's vectors; None where the vocabulary has no whole words."""
    words = dict(backbone.lone_words())
    if not words:
        return None
    generator = torch.Generator().manual_seed(0)
    values = prompt.values.detach().float().cpu()
    if prompt.depth == "shallow":
        return _near_shallow(backbone, values, list(words), torch.tensor(list(words.values())), generator)
    count = min(len(words), max(LEAST_WORDS, MOST_WORK // (backbone.layers * backbone.hidden**2)))
    drawn = torch.randperm(len(words), generator=generator)[:count].tolist()
    names, ids = list(words), list(words.values())
    chosen = torch.tensor([ids[place] for place in drawn])
    return _near_deep(backbone, values, [names[place] for place in drawn], chosen, generator, len(words))


def _near_shallow(
    backbone: Backbone,
    values: Float[Tensor, "P E"],
    names: list[str],
    ids: Int[Tensor, "V"],
    generator: torch.Generator,
) -> NearWords:
    table = backbone.embed(ids)
    cosines = _cosines(values, table)
    drawn = _drawn(table, DRAWS, generator)
    random = float(_cosines(drawn, table).amax(-1).mean())
    norms = (_norms("embeddings", 0, values, table.norm(dim=-1)),)
    return NearWords(_nearest(cosines, names), (), random, len(names), len(names), norms)


def _near_deep(
    backbone: Backbone,
    values: Float[Tensor, "L 2 P H"],
    names: list[str],
    ids: Int[Tensor, "V"],
    generator: torch.Generator,
    of: int,
) -> NearWords:
    """Read words in lists, as a prompt that starts from words does, and compare keys and values layer by layer."""
    lists = _keys_values(backbone, ids, len(values))
    first = next(lists)
    drawn = _drawn(first, DRAWS, generator)
    cosines, random, sizes = [], [], []
    for table in (first, *lists):
        cosines.append(_cosines(values, table))
        random.append(_cosines(drawn, table).mean((0, 1)))
        sizes.append(table.norm(dim=-1))
    of_all, word_norms = torch.cat(cosines, -1), torch.cat(sizes, -1)
    best = of_all.max(-1)
    by_layer = tuple(
        tuple(
            (
                NearWord(names[best.indices[layer, 0, vector]], float(best.values[layer, 0, vector])),
                NearWord(names[best.indices[layer, 1, vector]], float(best.values[layer, 1, vector])),
            )
            for layer in range(len(values))
        )
        for vector in range(values.shape[2])
    )
    norms = tuple(
        _norms(part, layer + 1, values[layer, number], word_norms[layer, number])
        for number, part in enumerate(("keys", "values"))
        for layer in range(len(values))
    )
    reference = float(torch.cat(random, -1).amax(-1).mean())
    return NearWords(_nearest(of_all.mean((0, 1)), names), by_layer, reference, len(names), of, norms)


def _keys_values(backbone: Backbone, ids: Int[Tensor, "V"], layers: int) -> Iterator[Float[Tensor, "L 2 W H"]]:
    """Keys and values of the words, list by list; of a prompt for the decoder's own attentions alone, of these."""
    first = 0 if layers == backbone.prompt_layers else backbone.layers - layers
    for part in ids.split(min(TOGETHER, backbone.max_length)):
        with torch.no_grad():
            yield backbone.keys_values(part)[first : first + layers]


def _drawn(table: Float[Tensor, "*L W H"], count: int, generator: torch.Generator) -> Float[Tensor, "*L N H"]:
    """Random vectors with the mean and the spread that words have in each dimension."""
    spread = table.std(-2, keepdim=True) if table.shape[-2] > 1 else torch.zeros_like(table)
    noise = torch.randn(*table.shape[:-2], count, table.shape[-1], generator=generator)
    return table.mean(-2, keepdim=True) + spread * noise


def _cosines(vectors: Float[Tensor, "*L P H"], table: Float[Tensor, "*L W H"]) -> Float[Tensor, "*L P W"]:
    return F.normalize(vectors, dim=-1) @ F.normalize(table, dim=-1).mT


def _nearest(cosines: Float[Tensor, "P W"], names: Sequence[str]) -> tuple[tuple[NearWord, ...], ...]:
    """Of each vector the nearest words."""
    top = cosines.topk(min(LISTED, len(names)))
    return tuple(
        tuple(NearWord(names[place], cosine) for place, cosine in zip(places, found, strict=True))
        for places, found in zip(top.indices.tolist(), top.values.tolist(), strict=True)
    )


def _norms(part: str, layer: int, vectors: Float[Tensor, "P H"], words: Float[Tensor, "W"]) -> Norms:
    low, middle, high = torch.quantile(words, torch.tensor(BAND)).tolist()
    return Norms(part, layer, tuple(vectors.norm(dim=-1).tolist()), low, middle, high)
