"""Jobs over one backbone share tokens, frozen hidden states and probes' choices, each computed once."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from itertools import groupby, islice

import torch
from jaxtyping import Float
from torch import Tensor

from promptgraft.engine.cache import Cache, EntryKind, key_of, open_cache
from promptgraft.engine.identity import FORWARD, code, machine
from promptgraft.engine.unread import unread_rows
from promptgraft.model.backbone import Backbone, Read
from promptgraft.model.head import Head
from promptgraft.model.tokens import Tokens
from promptgraft.prompt.card import card_of
from promptgraft.prompt.prompt import Prompt, stack
from promptgraft.prompt.reading import ANSWERED, AT_WORDS, Pooling, Reading
from promptgraft.task.task import Example, Kind, References
from promptgraft.train.predict import pooled_each

# Hidden states kept in memory; the oldest go first. 1.5 GiB holds the pooled states of half a million rows of minilm.
KEPT_BYTES = 1_500_000_000
# Tokens, over all prompts, that are passed in company: batches are full long before that, and larger splits would hold
# the states of every prompt in memory at a time.
COMPANY_TOKENS = 65_536
# Prompts that pass in company at most: more would be held at a time, and batches are no fuller.
COMPANY = 64
# Fewer characters are tokenised before the tokenizer's identity, which names their file, is made.
LARGE = 200_000


def quiet(_: str) -> AbstractContextManager[None]:
    """Report nothing."""
    return nullcontext()


class Shared:
    """The work of one backbone: looked up in memory first, then on disk, then computed.

    In memory, tokens are known by their examples' content, so that equal splits of different seeds share them; hidden
    states by the identity of tokens, which are kept alive beside them, and by what the prompts are.
    On disk all are known by a hash over their content. What comes from them (teachers' answers, task embeddings,
    probes' features) takes no time beside them and needs no file.

    Attributes:
        cut: task name -> how many inputs were longer than allowed.
        unread: task name -> the rows that hold few or no words that the model knows.
        part: entered with words for what is computed, while it is.
    """

    def __init__(
        self,
        backbone: Backbone,
        cache: Cache | None = None,
        part: Callable[[str], AbstractContextManager[None]] = quiet,
        *,
        is_beside: bool = False,
    ) -> None:
        self.backbone = backbone
        self.part = part
        self.cache = open_cache() if cache is None else cache
        self._is_beside = is_beside
        self.cut: dict[str, int] = {}
        self.unread: dict[str, set[Example]] = {}
        self._saved = 0.0
        self._chosen: dict[Hashable, tuple[tuple[str, str], float]] = {}
        self._tokens: dict[Hashable, Tokens] = {}
        self._states: OrderedDict[Hashable, tuple[object, Tensor, float]] = OrderedDict()
        self._described: dict[Hashable, Tensor] = {}
        self._beside: dict[str, Shared] = {}

    @property
    def saved(self) -> float:
        """Seconds that were saved by finding work done: what a job would have taken more, had it been alone."""
        return self._saved + self.cache.saved

    def choice(self, question: Hashable, choose: Callable[[], tuple[str, str]]) -> tuple[str, str]:
        """The option that a probe chose and the note about it; each question is answered once."""
        if question in self._chosen:
            self._saved += self._chosen[question][1]
        else:
            began = time.perf_counter()
            self._chosen[question] = choose(), time.perf_counter() - began
        return self._chosen[question][0]

    def tokens(self, examples: tuple[Example, ...], kind: Kind, reading: Reading, max_length: int, name: str) -> Tokens:
        """Tokenise a split once; the number of sequences that were cut is added up under `name`."""
        shown = reading.shown
        key = (examples, kind, shown, max_length)
        if key not in self._tokens:
            tokens = self._tokenize(examples, kind, shown, max_length)
            self._tokens[key] = tokens
            if tokens.cut:
                self.cut[name] = self.cut.get(name, 0) + tokens.cut
            unread = (examples[row] for row in self.backbone.unread(examples, tokens))
            self.unread.setdefault(name, set()).update(unread)
        return self._tokens[key]

    def beside(self, backbone: Backbone) -> Shared:
        """The work of another backbone, which shares this one's cache and reports."""
        if backbone.fingerprint not in self._beside:
            self._beside[backbone.fingerprint] = Shared(backbone, self.cache, self.part, is_beside=True)
        return self._beside[backbone.fingerprint]

    def notes(self) -> Iterator[str]:
        """Notes on what was cut, and on rows of unknown words, of this backbone and of those beside it."""
        for name, count in sorted(self.cut.items()):
            for_model = f" for {self.backbone.name}" if self._is_beside else ""
            inputs = "1 input was" if count == 1 else f"{count:,} inputs were"
            yield f"{name}: {inputs} longer than allowed and cut{for_model}"
        for name, rows in sorted(self.unread.items()):
            if rows:
                yield f"{name}: {unread_rows(len(rows), self.backbone.name)}"
        for other in self._beside.values():
            yield from other.notes()

    def states(self, tokens: Tokens, prompt: Prompt | None, read: Read) -> Float[Tensor, "N H"]:
        """Frozen hidden states under a prompt, computed once."""
        return self._in_company(tokens, () if prompt is None else (prompt,), read)

    def states_each(self, tokens: Tokens, prompts: Iterable[Prompt], read: Read) -> Iterator[Float[Tensor, "N H"]]:
        """Yield the same rows' states under each of several prompts in turn, computed once in shared batches.

        Prompts are asked for as they are needed, and let go.
        """
        for company in companies(prompts, len(tokens.ids)):
            yield from self._in_company(tokens, company, read).tensor_split(len(company))

    def _in_company(self, tokens: Tokens, prompts: Sequence[Prompt], read: Read) -> Float[Tensor, "N H"]:
        """States of all rows under the first prompt, then the next, in shared batches.

        What is kept is kept for the company as a whole: where a row's last bits depend on what else was in its batch
        (plain torch), no order of questions changes them.
        """
        key = (id(tokens), *(prompt.digest for prompt in prompts), read)
        return self._keep(key, tokens, lambda: self._computed("states", prompts, tokens, read))

    def describe(self, texts: Sequence[str], pooling: Pooling) -> Float[Tensor, "C H"]:
        """Embeddings of texts without a prompt, computed once."""
        key = (tuple(texts), pooling)
        if key not in self._described:
            tokens = self.backbone.tokenize_texts(list(texts))
            self._described[key] = self._computed("descriptions", (), tokens, pooling)
        return self._described[key]

    def _tokenize(self, examples: tuple[Example, ...], kind: Kind, reading: Reading, max_length: int) -> Tokens:
        def make() -> dict[str, Tensor]:
            return as_tensors(self.backbone.tokenize(examples, kind, reading, max_length=max_length))

        rows = [(row.text, row.pair, row.choices, row.tokens, _learned(row, reading)) for row in examples]
        if sum(map(characters, examples)) < LARGE:
            return as_tokens(make())
        with self.part(f"tokenising {len(examples):,} rows"):
            shown = (*card_of(reading).values(), None if reading.pool is None else reading.pool.digest)
            key = key_of([self.backbone.reading, code("model"), rows, kind, shown, max_length])
            return as_tokens(self.cache.get("tokens", key, make))

    def _computed(self, kind: EntryKind, prompts: Sequence[Prompt], tokens: Tokens, read: Read) -> Float[Tensor, "N H"]:
        """Hidden states from the disk cache, or else from the backbone."""
        backbone = self.backbone
        parts = {"ids": tokens.ids, "types": tokens.types, "starts": tokens.starts}
        read_at = {"mark": {"marks": tokens.marks}} | {name: {"answers": tokens.answers} for name in ANSWERED}
        content = parts | {name: value for name, value in read_at.get(read, {}).items() if value is not None}
        if prompts:
            together = stack(prompts)
            content |= {"prompt": together.table, "prompt_starts": together.starts}
        placement = prompts[0].placement if prompts else None
        # The machine is part of it: another processor or GPU, or another number of threads, gives other last bits.
        model = (backbone.fingerprint, backbone.family, backbone.heads, backbone.arithmetic)
        key = key_of(
            [model, machine(backbone.device), code(*FORWARD), placement, read, *_head(backbone, read)], content
        )
        under = f" under {len(prompts)} prompts" if len(prompts) > 1 else ""
        with self.part(f"passing {tokens.count:,} rows{under} through the model"):
            return self.cache.get(kind, key, lambda: {"states": pooled_each(backbone, prompts, tokens, read)})["states"]

    def _keep(self, key: Hashable, alive: object, make: Callable[[], Tensor]) -> Tensor:
        if key in self._states:
            self._states.move_to_end(key)
            self._saved += self._states[key][2]
            return self._states[key][1]
        began, saved = time.perf_counter(), self.cache.saved
        value = make()
        self._states[key] = (alive, value, time.perf_counter() - began + self.cache.saved - saved)
        total = sum(states.nbytes for _, states, _ in self._states.values())
        while total > KEPT_BYTES and len(self._states) > 1:
            total -= self._states.popitem(last=False)[1][1].nbytes
        return value


def _head(backbone: Backbone, read: Read) -> tuple[str, ...]:
    """The identity of the head over words where states are read through one, which its backbone's does not hold."""
    head = getattr(backbone, "head", None)
    return (head.fingerprint,) if isinstance(head, Head) and read in AT_WORDS else ()


def companies(prompts: Iterable[Prompt], tokens: int) -> Iterator[list[Prompt]]:
    """Cut prompts into groups of one kind that pass the backbone together, at least one prompt each.

    Args:
        tokens: of the rows that each prompt is for.
    """
    size = min(COMPANY, max(1, COMPANY_TOKENS // max(1, tokens)))
    for _, alike in groupby(prompts, lambda prompt: (prompt.depth, prompt.placement)):
        while company := list(islice(alike, size)):
            yield company


def _learned(example: Example, reading: Reading) -> str | None:
    """The text of a row's label that is among its tokens."""
    if not isinstance(example.label, References) or reading.pooling != "answer":
        return None
    return example.label.texts[0]


def characters(example: Example) -> int:
    """How many characters an example's texts have together."""
    return len(example.text) + len(example.pair or "") + sum(map(len, (*example.choices, *example.tokens)))


PARTS = ("ids", "types", "starts", "rows", "words", "chars", "marks", "answers")


def as_tensors(tokens: Tokens) -> dict[str, Tensor]:
    """Turn tokens into an entry of the cache."""
    parts = {name: getattr(tokens, name) for name in PARTS}
    return {name: value for name, value in parts.items() if value is not None} | {"cut": torch.tensor([tokens.cut])}


def as_tokens(entry: Mapping[str, Tensor]) -> Tokens:
    """Turn an entry of the cache back into tokens."""
    return Tokens(**{name: entry[name] for name in PARTS if name in entry}, cut=int(entry["cut"]))
