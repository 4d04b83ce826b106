"""The same model on a GPU as on the processor: forward, gradients, recorded passes, whole runs. Needs a GPU."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from promptgraft import api
from promptgraft.kernels.dropout import Dropout
from promptgraft.model.backbone import Backbone, Batch, Read
from promptgraft.model.load import PACKED, PLAIN, load_backbone
from promptgraft.model.tokens import Tokens
from promptgraft.prompt.prompt import Prompt, stack
from promptgraft.task.kinds import KINDS
from toys import MAKE, tiny_model, toy_task

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU here")

FAMILIES = (*dict.fromkeys(PACKED.values()), *PLAIN)
READS: tuple[Read, ...] = ("cls", "mean", "tokens")
LENGTHS = [5, 1, 9, 3, 40, 2]


class Pair:
    """The same weights on the processor and on the GPU, in fp32."""

    def __init__(self, folder: Path, family: str) -> None:
        path = tiny_model(folder / family, family)
        self.plain = load_backbone(path)
        self.there = load_backbone(path, device="cuda")


@pytest.fixture(scope="module", params=FAMILIES)
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Pair:
    return Pair(tmp_path_factory.mktemp("models"), request.param)


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    return Pair(tmp_path_factory.mktemp("models"), "bert")


def batch_of(lengths: list[int], prompts: int, seed: int = 0) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    starts = torch.tensor([0, *lengths]).cumsum(0)
    ids = torch.randint(0, 18, (int(starts[-1]),), generator=generator)
    tokens = Tokens(ids, torch.zeros_like(ids), starts, torch.arange(len(lengths) + 1))
    return Batch(tokens, torch.arange(len(lengths)) % prompts if prompts else None)


def prompts_for(backbone: Backbone, depth: str, placement: str) -> list[Tensor]:
    generator = torch.Generator().manual_seed(3)
    shape = {"deep": (backbone.layers, 2, -1, backbone.hidden), "shallow": (-1, backbone.embedding_width)}[depth]
    sizes = [[length if side == -1 else side for side in shape] for length in (4, 0 if depth == "shallow" else 7, 2)]
    return [torch.randn(size, generator=generator).requires_grad_() for size in sizes]


def passed(backbone: Backbone, batch: Batch, values: list[Tensor], placement: str, read: Read) -> list[Tensor]:
    """States, and gradients of the prompts."""
    prompts = stack([Prompt(one, placement) for one in values]) if values else None  # type: ignore[arg-type]
    states = backbone.forward(batch, prompts, read)
    assert states.device == backbone.device
    weight = torch.linspace(-1, 1, states.numel(), device=states.device).view(states.shape)
    grads = torch.autograd.grad((states * weight).sum(), values) if values else ()
    return [states.detach().cpu(), *grads]


def same(ours: list[Tensor], wanted: list[Tensor]) -> None:
    for one, reference in zip(ours, wanted, strict=True):
        scale = max(1.0, float(reference.abs().max())) if reference.numel() else 1.0
        torch.testing.assert_close(one, reference, atol=2e-5 * scale, rtol=1e-4)


@pytest.mark.parametrize("read", READS)
@pytest.mark.parametrize("placement", ["after_cls", "peft"])
@pytest.mark.parametrize("depth", ["deep", "shallow"])
def test_values_and_gradients_as_on_the_processor(pair: Pair, depth: str, placement: str, read: Read) -> None:
    """Three times: as it is, recorded, and played again."""
    batch, values = batch_of(LENGTHS, 3), prompts_for(pair.plain, depth, placement)
    wanted = passed(pair.plain, batch, values, placement, read)
    for _ in range(3):
        same(passed(pair.there, batch, values, placement, read), wanted)


@pytest.mark.parametrize("read", READS)
def test_values_without_a_prompt(pair: Pair, read: Read) -> None:
    batch = batch_of(LENGTHS, 0)
    with torch.no_grad():
        same(passed(pair.there, batch, [], "after_cls", read), passed(pair.plain, batch, [], "after_cls", read))


def test_recorded_passes_that_cross_each_other(bert: Pair) -> None:
    """Two passes forward, then backward the wrong way round: the second has written over the first's activations."""
    values = prompts_for(bert.plain, "deep", "after_cls")
    batches = [batch_of(LENGTHS, 3, seed) for seed in (1, 2)]
    wanted = [passed(bert.plain, batch, values, "after_cls", "cls")[1:] for batch in batches]
    for _ in range(3):
        prompts = stack([Prompt(one) for one in values])
        first, second = (bert.there.forward(batch, prompts, "cls") for batch in batches)
        found = []
        for states in (first, second):
            weight = torch.linspace(-1, 1, states.numel(), device=states.device).view(states.shape)
            found.append(torch.autograd.grad((states * weight).sum(), values, retain_graph=True))
        same([*found[0], *found[1]], [*wanted[0], *wanted[1]])


def test_the_same_bits_again_and_whatever_is_in_between(bert: Pair) -> None:
    values = prompts_for(bert.plain, "deep", "after_cls")
    batch, other = batch_of(LENGTHS, 3), batch_of([30, 30, 1], 3)
    found = []
    for _ in range(4):
        found.append(passed(bert.there, batch, values, "after_cls", "mean"))
        passed(bert.there, other, values, "after_cls", "mean")
    for later in found[1:]:
        assert all(torch.equal(one, first) for one, first in zip(later, found[0], strict=True))


def test_dropout_draws_the_same_as_on_the_processor(bert: Pair) -> None:
    batch, prompts = batch_of(LENGTHS, 1), stack([Prompt(torch.ones(2, 2, 3, 32))])
    states = [
        backbone.forward(
            batch, prompts, "cls", dropout=Dropout.draw(0.3, len(LENGTHS), torch.Generator().manual_seed(1))
        ).cpu()
        for backbone in (bert.plain, bert.there)
    ]
    torch.testing.assert_close(states[1], states[0], atol=1e-4, rtol=1e-3)


def test_bf16_is_near(bert: Pair, tmp_path: Path) -> None:
    half = load_backbone(tiny_model(tmp_path / "bert", "bert"), dtype="bf16", device="cuda")
    values = prompts_for(bert.plain, "deep", "after_cls")
    batch = batch_of(LENGTHS, 3)
    wanted = passed(bert.plain, batch, values, "after_cls", "mean")
    for one, reference in zip(passed(half, batch, values, "after_cls", "mean"), wanted, strict=True):
        assert (one - reference).norm() < 0.1 * reference.norm().clamp_min(1e-3)


def test_prompts_start_as_on_the_processor(bert: Pair) -> None:
    ids = torch.tensor([4, 5, 9])
    assert torch.equal(bert.there.embed(ids), bert.plain.embed(ids))
    torch.testing.assert_close(bert.there.keys_values(ids), bert.plain.keys_values(ids), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("kind", [kind for kind in MAKE if KINDS[kind].readout and not KINDS[kind].written])
@pytest.mark.parametrize("method", ["prompt-tuning", "model-tuning"])
def test_a_run_is_kept_on_the_processor_and_comes_out_the_same_twice(bert: Pair, kind: str, method: str) -> None:
    task = toy_task(kind)  # type: ignore[arg-type]
    recipe = {"steps": 12, "batch": 8, "length": 3, "evaluations": 3}
    first, second = (api.tune(task, bert.there, method=method, seeds=(0, 1), **recipe) for _ in range(2))
    kept = first.artefact
    tensors = [*kept.readout.values(), *([] if kept.prompt is None else [kept.prompt.values])]
    assert {one.device.type for one in tensors} == {"cpu"}
    assert [one.result.scores for one in first.finished] == [one.result.scores for one in second.finished]
    if kept.prompt is not None and second.artefact.prompt is not None:
        assert torch.equal(kept.prompt.values, second.artefact.prompt.values)
    assert len(first.predictor.predict(task.splits["test"])) == len(task.splits["test"])
