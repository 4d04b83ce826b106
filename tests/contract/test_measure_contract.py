"""What every measure promises, those of the registry all, on a real backbone."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor

from promptgraft.errors import UsageError
from promptgraft.measure.all import find, measures
from promptgraft.measure.measure import Measure, SeenSource, Target
from promptgraft.measure.task_embedding import embed_task
from promptgraft.model.backbone import Backbone, Batch, Read
from promptgraft.model.load import load_backbone
from promptgraft.model.resolved import Pooling
from promptgraft.model.tokens import Tokens
from promptgraft.prompt.prompt import Prompt, stack
from promptgraft.prompt.reading import Reading
from promptgraft.task.task import Example, Task

GOOD = ("lovely", "great", "wonderful", "superb", "pleasant", "excellent")
BAD = ("awful", "terrible", "horrible", "poor", "nasty", "dreadful")
THINGS = ("kettle", "book", "film", "hotel")


class Direct:
    """A view that computes each time, straight from the backbone."""

    def __init__(self, backbone: Backbone) -> None:
        self.backbone = backbone

    def hidden(
        self, prompt: Prompt | None, examples: Sequence[Example], target: Target, read: Read
    ) -> tuple[Tensor, Tokens]:
        tokens = self.backbone.tokenize(examples, target.task.kind, target.reading)
        prompts = None if prompt is None else stack([prompt])
        prompt_of = None if prompt is None else torch.zeros(tokens.sequences, dtype=torch.long)
        with torch.no_grad():
            return self.backbone.forward(Batch(tokens, prompt_of), prompts, read), tokens

    def hidden_each(
        self, prompts: Sequence[Prompt], examples: Sequence[Example], target: Target, read: Read
    ) -> Iterator[tuple[Tensor, Tokens]]:
        return (self.hidden(prompt, examples, target, read) for prompt in prompts)

    def describe(self, texts: Sequence[str], pooling: Pooling) -> Tensor:
        return self.backbone.forward(Batch(self.backbone.tokenize_texts(list(texts))), None, pooling).detach()


def make_prompt(backbone: Backbone, seed: int, size: float = 0.02) -> Prompt:
    shape = (backbone.layers, 2, 4, backbone.hidden)
    return Prompt(size * torch.randn(shape, generator=torch.Generator().manual_seed(seed)))


@pytest.fixture(scope="module")
def backbone(splade_tiny: Path) -> Backbone:
    return load_backbone(splade_tiny)


@pytest.fixture
def view(backbone: Backbone) -> Direct:
    return Direct(backbone)


@pytest.fixture
def target(backbone: Backbone) -> Target:
    texts = [
        (f"a {word} {thing}", label)
        for thing in THINGS
        for words, label in ((GOOD, "good"), (BAD, "bad"))
        for word in words
    ]
    rows = tuple(Example(text, label=label) for text, label in texts)
    task = Task("toy", "classification", "accuracy", {"good": "good", "bad": "bad"}, {"train": rows})
    return Target(task, Reading("mean"), make_prompt(backbone, 0))


@pytest.fixture
def source(backbone: Backbone, view: Direct, target: Target) -> SeenSource:
    prompt = make_prompt(backbone, 1)
    return SeenSource("other", prompt, Reading("mean"), {"cls": embed_task(prompt, target, view, "cls")})


@pytest.fixture(params=sorted(measures()))
def measure(request: pytest.FixtureRequest) -> Measure:
    return find(request.param)()


def test_a_score_is_finite_with_its_cost_and_error(
    measure: Measure, source: SeenSource, target: Target, view: Direct
) -> None:
    score = measure.score(source, target, view)
    assert math.isfinite(score.value)
    assert score.passes >= 1
    assert score.error is None or 0 <= score.error < 1


def test_the_same_question_has_the_same_answer(
    measure: Measure, source: SeenSource, target: Target, view: Direct
) -> None:
    assert measure.score(source, target, view) == measure.score(source, target, view)


def test_sources_together_score_as_each_alone(
    measure: Measure, source: SeenSource, target: Target, view: Direct, backbone: Backbone
) -> None:
    other = SeenSource("first", make_prompt(backbone, 3), Reading("cls"), source.embeddings)
    sources = [source, other, source]
    assert [*measure.score_all(sources, target, view)] == [measure.score(one, target, view) for one in sources]
    assert [*measure.score_all([], target, view)] == []


def test_a_prompt_that_drowns_the_text_scores_below_a_gentle_one(
    measure: Measure, source: SeenSource, target: Target, view: Direct, backbone: Backbone
) -> None:
    loud = make_prompt(backbone, 2, size=30.0)
    drowned = SeenSource("loud", loud, Reading("mean"), {"cls": embed_task(loud, target, view, "cls")})
    assert measure.score(drowned, target, view).value < measure.score(source, target, view).value


def test_it_works_without_what_it_does_not_need(
    measure: Measure, source: SeenSource, target: Target, view: Direct
) -> None:
    bare = Target(target.task, Reading("mean"), target.prompt if "target-prompt" in measure.needs else None)
    if "labels" not in measure.needs:
        blind = tuple(Example(example.text) for example in target.task.train)
        bare = Target(target.task.replace(splits={"train": blind}), Reading("mean"), bare.prompt)
    plain = source if "source-embedding" in measure.needs else SeenSource(source.name, source.prompt, source.reading)
    assert measure.score(plain, bare, view) == measure.score(source, target, view)


def test_a_misspelt_name_is_met_with_the_nearest() -> None:
    with pytest.raises(UsageError, match="did you mean 'task-embedding'"):
        find("task_embedding")
