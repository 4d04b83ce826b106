"""Measures on states small enough to work out by hand."""

from __future__ import annotations

import math
import random
import statistics
from collections.abc import Mapping, Sequence

import pytest
import torch
from torch import Tensor

from promptgraft.errors import RunError
from promptgraft.measure.measure import Lead, Score, SeenSource, Target, lead
from promptgraft.measure.probe import ProbeScore
from promptgraft.measure.task_embedding import TaskEmbedding, embed_task, jackknife
from promptgraft.model.backbone import Read
from promptgraft.model.tokens import Tokens
from promptgraft.prompt.prompt import Prompt
from promptgraft.prompt.reading import Reading
from promptgraft.task.task import Example, Kind, Task

OURS, THEIRS = Prompt(torch.zeros(1, 2)), Prompt(torch.ones(1, 2))


class Table:
    """States by prompt and text, as an engine would hand them out."""

    def __init__(self, **states: Mapping[str, Sequence[float]]) -> None:
        self.states = states
        self.asked: list[tuple[int, Read, str]] = []

    def hidden(
        self, prompt: Prompt | None, examples: Sequence[Example], target: Target, read: Read
    ) -> tuple[Tensor, Tokens]:
        self.asked.append((len(examples), read, target.reading.encoding))
        table = self.states["ours" if prompt is OURS else "theirs"]
        rows = torch.arange(len(examples) + 1)
        return torch.tensor([table[one.text] for one in examples]), Tokens(rows[:-1], rows[:-1] * 0, rows, rows)


def target(*examples: Example, kind: Kind = "classification", prompt: Prompt | None = OURS) -> Target:
    return Target(Task("target", kind, "accuracy", {"a": "a", "b": "b"}, {"train": examples}), Reading("mean"), prompt)


def source(*, stored: Sequence[float] = ()) -> SeenSource:
    return SeenSource("kept", THEIRS, Reading("mean"), {"cls": torch.tensor(stored)} if stored else {})


TWO = (Example("x", label="a"), Example("y", label="b"))
TABLE = {"ours": {"x": [2.0, 0.0], "y": [0.0, 2.0]}, "theirs": {"x": [0.0, 1.0], "y": [0.0, 3.0]}}


def test_own_data_is_the_cosine_of_the_stored_mean_and_the_targets() -> None:
    view = Table(**TABLE)
    score = TaskEmbedding().score(source(stored=[3.0, 0.0]), target(*TWO), view)
    assert score.value == pytest.approx(1 / math.sqrt(2))
    assert score.passes == 2
    assert view.asked == [(2, "cls", "cross")]


def test_common_data_shows_both_prompts_the_targets_examples() -> None:
    view = Table(**TABLE)
    score = TaskEmbedding(pooling="mean", data="common").score(source(), target(*TWO), view)
    assert score.value == pytest.approx(1 / math.sqrt(2))
    assert score.passes == 4
    assert view.asked == [(2, "mean", "cross")] * 2


def test_what_is_stored_with_a_prompt_is_what_own_data_compares_with() -> None:
    view = Table(**TABLE)
    stored = embed_task(OURS, target(*TWO), view, "cls")
    assert stored.tolist() == [1.0, 1.0]
    score = TaskEmbedding().score(source(stored=stored.tolist()), target(*TWO), view)
    assert score.value == pytest.approx(1.0)


def test_pairs_are_embedded_as_one_sequence_whatever_they_are_tuned_as() -> None:
    view = Table(**TABLE)
    separate = Target(target(*TWO, kind="pair").task, Reading("mean", "separate"), OURS)
    TaskEmbedding().score(source(stored=[1.0, 0.0]), separate, view)
    embed_task(OURS, separate, view, "cls")
    assert {encoding for _, _, encoding in view.asked} == {"cross"}


def test_the_jackknife_error_is_what_leaving_out_one_example_gives() -> None:
    there, here = torch.tensor([[1.0, 0.0]]).expand(3, 2), torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    left = [1 / math.sqrt(2), 1 / math.sqrt(2), 1.0]
    mean = sum(left) / 3
    expected = math.sqrt(2 / 3 * sum((value - mean) ** 2 for value in left))
    assert jackknife(there, here) == pytest.approx(expected, rel=1e-5)
    assert jackknife(there[:1], here[:1]) is None


def test_at_most_a_hundred_examples_are_looked_at_and_the_same_ones_by_seed() -> None:
    many = tuple(Example(f"{place}", label="a") for place in range(250))
    table = {example.text: [float(place % 7), 1.0] for place, example in enumerate(many)}
    view = Table(ours=table, theirs=table)
    scores = [TaskEmbedding(seed=seed).score(source(stored=[1.0, 0.0]), target(*many), view) for seed in (1, 1, 2)]
    assert [score.passes for score in scores] == [100, 100, 100]
    assert scores[0] == scores[1]
    assert scores[0].value != scores[2].value


@pytest.mark.parametrize(
    ("measure", "source", "target", "what"),
    [
        (TaskEmbedding(), source(stored=[1.0, 0.0]), target(*TWO, prompt=None), "needs a prompt tuned on the target"),
        (TaskEmbedding(), source(), target(*TWO), "kept: no 'cls' task embedding was stored"),
        (TaskEmbedding(), source(stored=[1.0, 0.0]), target(), "needs training examples"),
        (ProbeScore(), source(), target(Example("x", label="a")), "at least two rows with labels"),
        (ProbeScore(), source(), target(*TWO, kind="span"), "cannot judge a span task"),
    ],
    ids=["no target prompt", "no stored embedding", "no examples", "one label", "span"],
)
def test_what_is_missing_is_said_in_one_line(
    measure: TaskEmbedding | ProbeScore, source: SeenSource, target: Target, what: str
) -> None:
    with pytest.raises(RunError, match=what) as caught:
        measure.score(source, target, Table(**TABLE))
    assert "\n" not in str(caught.value)


def test_the_probe_looks_at_labelled_rows_only_as_the_source_pools() -> None:
    rows = [Example(f"{place}", label="ab"[place % 2]) for place in range(20)]
    blind = Example("blind")
    table = {one.text: [1.0 if one.label == "a" else -1.0, 0.1 * place] for place, one in enumerate(rows)}
    view = Table(theirs=table)
    score = ProbeScore().score(source(), target(*rows, blind, prompt=None), view)
    assert score.value == 1.0
    assert score.error == 0.0
    assert score.passes == 20
    assert view.asked == [(20, "mean", "cross")]


def test_a_prompt_that_separates_classes_scores_above_one_that_does_not() -> None:
    noise = torch.randn(40, 4, generator=torch.Generator().manual_seed(0))
    rows = [Example(f"{place}", label="ab"[place % 2]) for place in range(40)]
    signal = torch.tensor([[3.0 * (place % 2), 0.0, 0.0, 0.0] for place in range(40)])
    view = Table(
        ours={one.text: row for one, row in zip(rows, (noise + signal).tolist(), strict=True)},
        theirs={one.text: row for one, row in zip(rows, noise.tolist(), strict=True)},
    )
    good = ProbeScore().score(SeenSource("good", OURS, Reading("mean")), target(*rows), view)
    poor = ProbeScore().score(SeenSource("poor", THEIRS, Reading("mean")), target(*rows), view)
    ahead = lead(good, poor)
    assert ahead.error is not None
    assert ahead.is_clear(2)
    assert not lead(poor, good).is_clear(2)
    assert good.value > 0.8


def test_scores_over_the_same_rows_compare_in_pairs() -> None:
    one, other = (0.0, 1.0, 1.0, 1.0), (0.0, 0.0, 1.0, 0.0)
    ahead = lead(Score(0.75, 4, 0.25, one), Score(0.25, 4, 0.25, other))
    assert (ahead.value, ahead.rows) == (0.5, 4)
    assert ahead.error == pytest.approx(math.sqrt(1 / 3) / 2)
    assert lead(Score(0.75, 4, 0.3), Score(0.25, 4, 0.4)).error == pytest.approx(0.5)
    unknown = lead(Score(0.75, 4), Score(0.25, 4, 0.4))
    assert unknown == Lead(0.5, None)
    assert not unknown.is_clear(2)


@pytest.mark.parametrize("scores", [2, 17])
def test_the_first_of_many_that_are_equal_is_seldom_called_ahead(scores: int) -> None:
    """Sources that are all alike: the first is picked for its luck, and its lead has to be seen as such."""
    stream, tries, clear = random.Random(0), 400, 0
    for _ in range(tries):
        hardness = [stream.random() for _ in range(16)]
        hits = [tuple(float(stream.random() < chance) for chance in hardness) for _ in range(scores)]
        ranked = sorted((Score(statistics.fmean(rows), 16, 0.1, rows) for rows in hits), key=lambda score: -score.value)
        clear += lead(ranked[0], ranked[1]).is_clear(scores)
    assert clear / tries <= 0.08, "5 %, and what 16 rows of yes and no are off by"
