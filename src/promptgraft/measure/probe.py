"""`probe`: what a linear probe on features under the source's prompt scores on the target's labelled rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from promptgraft.errors import RunError
from promptgraft.measure.measure import Need, Score, Source, Target, View, register
from promptgraft.readout.features import features
from promptgraft.readout.probe import cross_validate
from promptgraft.readout.problem import KINDS
from promptgraft.task.task import Kind


@register
@dataclass(frozen=True)
class ProbeScore:
    """Cross-validated score of a probe: accuracy (tagging: of words), R squared for regression.

    Attributes:
        repeats: of the 5 folds, over which rows' hits are averaged.
    """

    name: ClassVar[str] = "probe"
    kinds: ClassVar[frozenset[Kind]] = KINDS

    repeats: int = 3
    seed: int = 0

    @property
    def needs(self) -> frozenset[Need]:
        return frozenset({"labels"})

    def score(self, source: Source, target: Target, view: View) -> Score:
        """Features are pooled as the source's prompt was tuned to be; one pass of every labelled training row."""
        if target.task.kind not in self.kinds:
            raise RunError(f"measure 'probe' cannot judge a {target.task.kind} task", where=target.task.name)
        examples = tuple(example for example in target.task.train if example.label is not None)
        if len(examples) < 2:
            raise RunError("measure 'probe' needs at least two rows with labels", where=target.task.name)
        read = "tokens" if target.task.kind == "tagging" else source.pooling
        hidden, tokens = view.hidden(source.prompt, examples, target, read)
        seen = features(hidden, tokens, target.encoding)
        estimate = cross_validate(target.task, examples, seen, tokens, self.seed, self.repeats)
        return Score(estimate.value, len(examples), estimate.error, tuple(estimate.hits.tolist()))
