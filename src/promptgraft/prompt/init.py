"""Initialises prompts: from small noise, rows of the vocabulary, words, or prompts tuned earlier."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, cycle, islice, pairwise, zip_longest
from typing import Protocol

import torch
from jaxtyping import Float, Int
from torch import Tensor

from promptgraft.errors import RunError, unknown
from promptgraft.prompt.prompt import Depth, Placement, Prompt
from promptgraft.task.task import Task


class HasIds(Protocol):
    """Packed texts as flat token ids, where text s is `ids[starts[s]:starts[s + 1]]`."""

    @property
    def ids(self) -> Int[Tensor, "T"]: ...
    @property
    def starts(self) -> Int[Tensor, "S_plus_1"]: ...


class Vectors(Protocol):
    """The part of a backbone that initialising a prompt needs (the whole contract is in a room above this one)."""

    name: str
    embedding_width: int
    prompt_layers: int
    key_width: int
    deep: bool

    @property
    def weights(self) -> Mapping[str, Tensor]: ...
    def tokenize_texts(self, texts: Sequence[str]) -> HasIds: ...
    def embed(self, ids: Int[Tensor, "P"]) -> Float[Tensor, "P E"]: ...
    def keys_values(self, ids: Int[Tensor, "P"]) -> Float[Tensor, "L 2 P H"]: ...


@dataclass(frozen=True)
class Init:
    """The chosen initialisation, with its settings.

    Attributes:
        name: one of INITS.
        std: spread of `normal`. 0.02 is that of BERT-like embedding tables; PEFT's N(0, 1) is fifty times
            too wide for them and costs most of the accuracy (PEFT's own MetaMathQA runs, July 2026).
        text: the words of `text`.
    """

    name: str = "normal"
    std: float = 0.02
    text: str = ""


@dataclass(frozen=True)
class Wanted:
    """Everything that an initialiser may use.

    Attributes:
        sources: prompts to copy (`prompt`: the first) or to average (`mean`).
    """

    init: Init
    backbone: Vectors
    length: int
    depth: Depth
    placement: Placement
    generator: torch.Generator
    task: Task | None
    sources: tuple[Prompt, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the values: `(P, E)` or `(L, 2, P, H)`."""
        if self.depth == "shallow":
            return (self.length, self.backbone.embedding_width)
        return (self.backbone.prompt_layers, 2, self.length, self.backbone.key_width)


Initialiser = Callable[[Wanted], Float[Tensor, "..."]]
INITS: dict[str, Initialiser] = {}


def register(name: str) -> Callable[[Initialiser], Initialiser]:
    """Decorator that registers an initialiser under a name."""

    def keep(function: Initialiser) -> Initialiser:
        INITS[name] = function
        return function

    return keep


def initial(
    init: Init,
    backbone: Vectors,
    length: int,
    depth: Depth,
    placement: Placement,
    generator: torch.Generator,
    *,
    task: Task | None = None,
    sources: Sequence[Prompt] = (),
) -> Prompt:
    """The prompt that a run starts from: detached, in fp32, with memory of its own.

    Args:
        length: P, at least 1.
        task: whose label words `labels` uses.
        sources: tuned prompts of the same depth, placement and shape, for `prompt` and `mean`.
    Raises:
        UsageError: an unknown name.
        RunError: no task, text or source where one is needed, a source of another shape, or a deep prompt
            for a backbone that takes none.
    """
    if init.name not in INITS:
        raise unknown("prompt initialisation", init.name, INITS)
    if length < 1:
        raise RunError(f"a prompt needs at least one vector, not {length}", do="set its length to 1 or more")
    if depth == "deep" and not backbone.deep:
        raise RunError(f"{backbone.name} takes no deep prompts", do="use a shallow prompt")
    wanted = Wanted(init, backbone, length, depth, placement, generator, task, tuple(sources))
    values = INITS[init.name](wanted)
    return Prompt(values.detach().to(torch.float32, copy=True), placement)


@register("normal")
def normal(wanted: Wanted) -> Float[Tensor, "..."]:
    """Small Gaussian noise."""
    return torch.randn(wanted.shape, generator=wanted.generator) * wanted.init.std


@register("vocabulary")
def vocabulary(wanted: Wanted) -> Float[Tensor, "..."]:
    """Vectors of P different tokens drawn at random (Lester et al. 2021, section 3.2, over the whole vocabulary)."""
    size = _vocabulary_size(wanted.backbone)
    ids = torch.randperm(size, generator=wanted.generator)[: wanted.length]
    return _of_tokens(wanted, ids.tolist())


@register("text")
def text(wanted: Wanted) -> Float[Tensor, "..."]:
    """Vectors of given words, repeated up to length P or cut there."""
    if not wanted.init.text.strip():
        raise RunError("the initialisation 'text' got no words", do="give the text to start from")
    [ids] = token_ids(wanted.backbone, [wanted.init.text])
    return _of_tokens(wanted, ids)


@register("labels")
def labels(wanted: Wanted) -> Float[Tensor, "..."]:
    """Vectors of the words of the task's label descriptions, label by label in turn so that each has its share."""
    if wanted.task is None or not wanted.task.labels:
        name = wanted.task.name if wanted.task else "no task"
        raise RunError("the initialisation 'labels' needs a task with labels", where=name, do="use 'normal' or 'text'")
    columns = zip_longest(*token_ids(wanted.backbone, list(wanted.task.labels.values())))
    return _of_tokens(wanted, [token for token in chain.from_iterable(columns) if token is not None])


@register("prompt")
def prompt(wanted: Wanted) -> Float[Tensor, "..."]:
    """An exact copy of a tuned prompt (SPoT, Vu et al. 2022: prompt transfer)."""
    if len(wanted.sources) != 1:
        raise RunError(f"the initialisation 'prompt' copies one source prompt, got {len(wanted.sources)}")
    return _fitting(wanted)[0]


@register("mean")
def mean(wanted: Wanted) -> Float[Tensor, "..."]:
    """The mean of several tuned prompts, position by position."""
    if not wanted.sources:
        raise RunError("the initialisation 'mean' needs source prompts, got none")
    return torch.stack(_fitting(wanted)).mean(0)


def token_ids(backbone: Vectors, texts: Sequence[str]) -> list[list[int]]:
    """Token ids of each text alone: no special tokens, and not the encoder's own text prefix ("query: ").

    Raises:
        RunError: a text that has no tokens.
    """
    packed = backbone.tokenize_texts(["", *texts])
    bounds = packed.starts.tolist()
    empty, *rows = [packed.ids[start:end].tolist() for start, end in pairwise(bounds)]
    token_lists = [_without_frame(row, empty) for row in rows]
    for words, ids in zip(texts, token_lists, strict=True):
        if not ids:
            raise RunError(f"the text {words!r} has no tokens to start a prompt from")
    return token_lists


def _without_frame(ids: list[int], empty: list[int]) -> list[int]:
    """The ids without the beginning and the end that they share with the encoding of an empty text."""
    start = _shared(ids, empty)
    tail = ids[start:]
    return tail[: len(tail) - _shared(tail[::-1], empty[::-1])]


def _shared(first: list[int], second: list[int]) -> int:
    """The number of items with which both lists begin."""
    return next(
        (n for n, (a, b) in enumerate(zip(first, second, strict=False)) if a != b), min(len(first), len(second))
    )


def _of_tokens(wanted: Wanted, ids: Sequence[int]) -> Float[Tensor, "..."]:
    """Input embeddings, or every layer's keys and values, of the ids repeated to length P."""
    full = torch.tensor(list(islice(cycle(ids), wanted.length)))
    return wanted.backbone.embed(full) if wanted.depth == "shallow" else wanted.backbone.keys_values(full)


def _vocabulary_size(backbone: Vectors) -> int:
    """The size of the vocabulary, read from the word table, whose name depends on the encoder family."""
    ends = ("word_embeddings.weight", "tok_embeddings.weight", "embed_tokens.weight")
    for name, tensor in backbone.weights.items():
        if name.endswith(ends):
            return tensor.shape[0]
    raise RunError(f"{backbone.name} has no word table that we know", do="use the initialisation 'normal' or 'text'")


def _fitting(wanted: Wanted) -> list[Tensor]:
    """The values of the sources, each checked to have the wanted depth, placement and shape."""
    for source in wanted.sources:
        actual = (source.depth, source.placement, tuple(source.values.shape))
        expected = (wanted.depth, wanted.placement, wanted.shape)
        if actual != expected:
            raise RunError(
                f"a source prompt ({_form(*actual)}) does not fit the prompt to be tuned ({_form(*expected)})",
                do="tune with the source's depth, placement and length, or choose another source",
            )
    return [source.values for source in wanted.sources]


def _form(depth: str, placement: str, shape: tuple[int, ...]) -> str:
    return f"{depth} at {placement}, {' x '.join(map(str, shape))}"
