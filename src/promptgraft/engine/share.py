"""What jobs over one backbone share: tokens, frozen hidden states, frozen models' scores; computed once."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence

from jaxtyping import Float
from torch import Tensor

from promptgraft.model.backbone import Backbone, Encoding, Pooling, Read
from promptgraft.model.tokens import Tokens
from promptgraft.prompt.prompt import Prompt
from promptgraft.task.task import Example, Kind
from promptgraft.train.predict import pooled

# Hidden states kept in memory; the oldest go first. 1.5 GiB holds the pooled states of half a million rows of minilm.
KEPT_BYTES = 1_500_000_000


class Shared:
    """Memory of one backbone's work.

    Tokens are known by their examples' content, so that equal splits of different seeds share them; hidden states
    by the identity of tokens and prompt, which are kept alive beside them so that no identity is used twice.

    Attributes:
        cut: task name -> how many inputs were longer than allowed.
        chosen: what a probe was asked -> its choice, and the note that says so.
    """

    def __init__(self, backbone: Backbone) -> None:
        self.backbone = backbone
        self.cut: dict[str, int] = {}
        self.chosen: dict[Hashable, tuple[str, str]] = {}
        self._tokens: dict[Hashable, Tokens] = {}
        self._states: OrderedDict[Hashable, tuple[object, Tensor]] = OrderedDict()
        self._described: dict[Hashable, Tensor] = {}

    def tokens(
        self, examples: tuple[Example, ...], kind: Kind, encoding: Encoding, max_length: int, name: str
    ) -> Tokens:
        """Tokens of a split, once; how many sequences were cut is remembered under `name`."""
        width = "cross" if encoding == "cross" else "separate"
        key = (examples, kind, width, max_length)
        if key not in self._tokens:
            made = self.backbone.tokenize(examples, kind, encoding, max_length=max_length)
            self._tokens[key] = made
            if made.cut:
                self.cut[name] = self.cut.get(name, 0) + made.cut
        return self._tokens[key]

    def states(self, tokens: Tokens, prompt: Prompt | None, read: Read) -> Float[Tensor, "N H"]:
        """Frozen hidden states under a prompt, once."""
        values = None if prompt is None else prompt.values
        key = (id(tokens), id(values), None if prompt is None else prompt.placement, read)
        return self._keep(key, (tokens, values), lambda: pooled(self.backbone, prompt, tokens, read))

    def describe(self, texts: Sequence[str], pooling: Pooling) -> Float[Tensor, "C H"]:
        """Embeddings of texts without a prompt, once."""
        key = (tuple(texts), pooling)
        if key not in self._described:
            self._described[key] = pooled(self.backbone, None, self.backbone.tokenize_texts(list(texts)), pooling)
        return self._described[key]

    def _keep(self, key: Hashable, alive: object, make: Callable[[], Tensor]) -> Tensor:
        if key in self._states:
            self._states.move_to_end(key)
            return self._states[key][1]
        value = make()
        self._states[key] = (alive, value)
        total = sum(kept.nbytes for _, kept in self._states.values())
        while total > KEPT_BYTES and len(self._states) > 1:
            total -= self._states.popitem(last=False)[1][1].nbytes
        return value
