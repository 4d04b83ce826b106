"""The measure `probe` cross-validates a linear probe on the target's labelled rows under the source's prompt."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from promptgraft.errors import RunError, UsageError
from promptgraft.measure.measure import Measure, MeasureNeed, MeasureView, Score, SeenSource, Target, register
from promptgraft.model.backbone import Read
from promptgraft.model.tokens import Tokens
from promptgraft.prompt.reading import for_task
from promptgraft.readout.features import features
from promptgraft.readout.probe import cross_validate
from promptgraft.task.task import Example


@register
@dataclass(frozen=True)
class ProbeScore(Measure):
    """The cross-validated score of a probe: accuracy (tagging: of words), R squared for regression.

    Attributes:
        repeats: of the 5 folds, over which rows' hits are averaged.
    """

    name: ClassVar[str] = "probe"

    repeats: int = 3
    seed: int = 0

    def __post_init__(self) -> None:
        if self.repeats < 1:
            raise UsageError(f"measure 'probe' with {self.repeats} repeats", do="give 1 or more")
        if self.seed < 0:
            raise UsageError(f"measure 'probe' with seed {self.seed}", do="give 0 or more")

    @property
    def needs(self) -> frozenset[MeasureNeed]:
        return frozenset({"labels"})

    def score(self, source: SeenSource, target: Target, view: MeasureView) -> Score:
        """Score one source by one pass of every labelled training row, pooled as the source's prompt was tuned."""
        examples, shown = self._labelled(target), shown_to(source, target)
        return self._judged(*view.hidden(source.prompt, examples, shown, read_of(source, target)), examples, shown)

    def score_all(self, sources: Iterable[SeenSource], target: Target, view: MeasureView) -> Iterator[Score]:
        """Score several sources; consecutive ones with the same pooling share batches."""
        examples = self._labelled(target)
        forms = ((source, read_of(source, target), shown_to(source, target)) for source in sources)
        for (read, shown), alike in groupby(forms, lambda form: form[1:]):
            prompts = (source.prompt for source, _, _ in alike)
            for hidden, tokens in view.hidden_each(prompts, examples, shown, read):
                yield self._judged(hidden, tokens, examples, shown)

    def _labelled(self, target: Target) -> tuple[Example, ...]:
        if not target.task.facts.probe:
            raise RunError(f"measure 'probe' cannot judge a {target.task.kind} task", where=target.task.name)
        examples = tuple(example for example in target.task.train if example.label is not None)
        if len(examples) < 2:
            raise RunError("measure 'probe' needs at least two rows with labels", where=target.task.name)
        counts = Counter(example.label for example in examples if isinstance(example.label, str))
        if target.task.facts.one_class and max(counts.values()) < 2:
            message = "measure 'probe' cannot be cross-validated on one row a class"
            raise RunError(message, where=target.task.name, do="label a second row of a class")
        return examples

    def _judged(
        self, hidden: Float[Tensor, "N H"], tokens: Tokens, examples: Sequence[Example], target: Target
    ) -> Score:
        """The cross-validated score of features."""
        inputs = features(hidden, tokens, target.reading.encoding)
        estimate = cross_validate(target.task, examples, inputs, tokens, self.seed, self.repeats)
        return Score(estimate.value, len(examples), estimate.error, tuple(estimate.hits.tolist()))


def shown_to(source: SeenSource, target: Target) -> Target:
    """The target with its rows in the words of the source's template, where it was tuned in one that has them."""
    reading = for_task(source.reading, target.reading, target.task.facts.scored)
    return target if reading.template is None else replace(target, reading=replace(reading, pooling="mark"))


def read_of(source: SeenSource, target: Target) -> Read:
    """The hidden states that a probe of the target reads under the source's prompt."""
    facts = target.task.facts
    return "tokens" if facts.reads == "tokens" else for_task(source.reading, target.reading, facts.scored).pooling
