"""Models that speak do on a GPU what they do on the processor: states, gradients, words, texts, whole runs."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

import promptgraft as pg
from causal_models import FAMILIES, causal_folder, drawn, rows_of
from promptgraft.engine.predictor import Predictor
from promptgraft.engine.writer import Decoding, write
from promptgraft.model.backbone import Backbone, Batch, Speaks, Writes
from promptgraft.model.load import load_backbone
from promptgraft.prompt.prompt import Prompt, stack
from promptgraft.prompt.reading import Reading
from promptgraft.readout.readout import Given
from promptgraft.readout.written import Written
from promptgraft.task.task import Example, Task
from promptgraft.train.run import Tuned
from seq2seq import write_small
from toys import toy_task

THERE = "cuda"
pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU here")
TWO_SIDED = ("t5", "bart")
SPEAKERS = (*FAMILIES, *TWO_SIDED)
TEXTS = ("w5 w9 a good film", "", "w3", "a bad one " * 6, "好的电影")
FEW: dict[str, object] = {"steps": 4, "batch": 4, "evaluations": 2, "length": 2, "max_length": 60}


@pytest.fixture(scope="module", params=SPEAKERS)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = tmp_path_factory.mktemp(request.param)
    if request.param in TWO_SIDED:
        write_small(request.param, folder)
    else:
        causal_folder(folder, request.param)
    return folder


@pytest.fixture(scope="module")
def here(folder: Path) -> Backbone:
    return load_backbone(folder)


@pytest.fixture(scope="module")
def there(folder: Path) -> Backbone:
    return load_backbone(folder, device=THERE)


def prompts_for(backbone: Backbone, depth: str) -> list[Tensor]:
    generator = torch.Generator().manual_seed(3)
    shape = (backbone.prompt_layers, 2, -1, backbone.key_width)
    shape = shape if depth == "deep" else (-1, backbone.embedding_width)
    sizes = [[length if side == -1 else side for side in shape] for length in (4, 7)]
    return [torch.randn(size, generator=generator).requires_grad_() for size in sizes]


def passed(backbone: Backbone, values: list[Tensor]) -> list[Tensor]:
    """States at the answer's place of texts in a template, and gradients of the prompts."""
    tokens = backbone.tokenize(
        [Example(text) for text in TEXTS], "classification", Reading("mark", template="w1 {text} w2 {mask}")
    )
    owners = torch.arange(len(TEXTS)) % len(values) if values else None
    states = backbone.forward(
        Batch(tokens, owners), stack([Prompt(value) for value in values]) if values else None, "mark"
    )
    assert states.device == backbone.device
    weight = torch.linspace(-1, 1, states.numel(), device=states.device).view(states.shape)
    gradients = torch.autograd.grad((states * weight).sum(), values) if values else ()
    return [states.detach().cpu(), *gradients]


def same(found: list[Tensor], wanted: list[Tensor]) -> None:
    for value, reference in zip(found, wanted, strict=True):
        scale = max(1.0, float(reference.abs().max()))
        torch.testing.assert_close(value, reference, atol=3e-5 * scale, rtol=1e-3)


@pytest.mark.parametrize("depth", ["none", "deep", "shallow"])
def test_states_and_gradients_as_on_the_processor(here: Backbone, there: Backbone, depth: str) -> None:
    values = [] if depth == "none" else prompts_for(here, depth)
    wanted = passed(here, values)
    for _ in range(2):
        same(passed(there, values), wanted)


def test_the_words_of_the_head_are_the_same(here: Backbone, there: Backbone) -> None:
    assert isinstance(here, Speaks)
    assert isinstance(there, Speaks)
    words = torch.tensor([3, 9, 14])
    same([part.cpu() for part in there.columns(words)], list(here.columns(words)))


def test_what_rows_share_is_read_once_and_changes_nothing(here: Backbone, there: Backbone) -> None:
    (instruction,) = drawn([30], 7)
    rows = rows_of([[token % 50 + 3 for token in instruction + row] for row in drawn([3, 9, 1, 6], 4)])
    batch = Batch(dataclasses.replace(rows, marks=rows.lengths - 1))
    with torch.no_grad():
        for _ in range(2):
            same([there.forward(batch, None, "mark").cpu()], [here.forward(batch, None, "mark")])


@pytest.mark.parametrize("prompted", [False, True])
def test_the_same_texts_are_written(here: Backbone, there: Backbone, prompted: bool) -> None:
    assert isinstance(here, Writes)
    rows = [Example(text) for text in TEXTS]
    task = Task("toy", "text", "rougeL", {}, {"train": tuple(rows)})
    readout = Written.create(task, 1, torch.Generator(), Given(lambda words: torch.zeros(len(words), 1)))
    values = prompts_for(here, "deep")[0].detach() if prompted else None
    prompt = None if values is None else Prompt(values)
    tuned = Tuned(prompt, readout, Reading("answer", template="w1 {text} w2 {mask}"))
    texts = []
    for model in (here, there):
        tokens = model.tokenize(rows, "text", tuned.reading, max_length=40)
        texts.append(write(model, tuned, tokens, Decoding(most=7)))
    assert texts[0] == texts[1]


@pytest.mark.parametrize("depth", ["deep", "shallow"])
def test_a_run_over_words_is_kept_here_and_asked_on_both(here: Backbone, there: Backbone, depth: str) -> None:
    task = toy_task()
    options = {"readout": "completion"}
    first, second = (
        pg.tune(task, there, shots=4, options=options, template="{text} is {mask}", depth=depth, **FEW)
        for _ in range(2)
    )
    kept = first.artefact
    assert kept.prompt is not None
    assert kept.prompt.values.device.type == "cpu"
    assert first.best.result.scores == second.best.result.scores
    rows = task.test
    shares = [Predictor(kept, model).predict_proba([row.text for row in rows]) for model in (here, there)]
    np.testing.assert_allclose(shares[0], shares[1], atol=1e-3)
