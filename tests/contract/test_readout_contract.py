"""What every readout promises, those of the registry all, on hand-made rows of its kinds."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace

import pytest
import torch
from torch import Tensor

from promptgraft.errors import RunError, TaskError, UsageError
from promptgraft.model.tokens import Tokens, concatenate
from promptgraft.prompt.reading import ANSWERED, AT_WORDS, Reading
from promptgraft.readout.all import find, readouts
from promptgraft.readout.readout import Given, Readout
from promptgraft.task.kinds import KINDS
from promptgraft.task.task import Answers, Example, Kind, Label, References, Task
from promptgraft.train.run import Tuned
from promptgraft.train.together import readers, score_together

WIDTH = 12
LABELS = {"bad": "a bad thing", "good": "a good thing", "other": "something else"}
CASES = [(name, kind) for name, readout in readouts().items() for kind in sorted(readout.kinds)]


@dataclass
class World:
    """Rows of one kind whose hidden states hold the labels."""

    task: Task
    tokens: Tokens
    hidden: Tensor

    @property
    def examples(self) -> Sequence[Example]:
        return self.task.train


def offsets(lengths: Sequence[int]) -> Tensor:
    return torch.tensor([0, *lengths]).cumsum(0)


def make_row(kind: Kind, generator: torch.Generator) -> tuple[Example, Tokens, Tensor]:
    """One example, its tokens and one signal a token: what a probe on that token should find."""

    def draw(low: int, high: int) -> int:
        return int(torch.randint(low, high, (), generator=generator))

    if kind == "choice":
        count = draw(2, 5)
        lengths, right = [draw(3, 6) for _ in range(count)], draw(0, count)
        choices = tuple(f"choice {place}" for place in range(count))
        signal = torch.tensor([place == right for place in range(count)]).repeat_interleave(torch.tensor(lengths))
        ids = torch.arange(sum(lengths))
        tokens = Tokens(ids, ids * 0, offsets(lengths), torch.tensor([0, count]))
        return Example("pick one", choices=choices, label=choices[right]), tokens, signal.float()
    length = draw(6, 12)
    ids, types = torch.arange(length), torch.zeros(length, dtype=torch.long)
    starts, rows = offsets([length]), torch.tensor([0, 1])
    if kind == "tagging":
        words = torch.full((length,), -1)
        words[1:-1:2] = torch.arange(len(words[1:-1:2]))
        tags = [draw(0, 3) for _ in range(int(words.max()) + 1)]
        signal = torch.zeros(length)
        signal[words >= 0] = torch.tensor(tags).float()
        names = tuple(f"w{place}" for place in range(len(tags)))
        example = Example(tokens=names, label=tuple(list(LABELS)[tag] for tag in tags))
        return example, Tokens(ids, types, starts, rows, words=words), signal
    if kind == "span":
        texts = [f"w{place}" for place in range(length - 3)]
        begins = [sum(len(text) + 1 for text in texts[:place]) for place in range(len(texts))]
        chars = torch.full((length, 2), -1)
        chars[2:-1] = torch.tensor([[begin, begin + len(text)] for begin, text in zip(begins, texts, strict=True)])
        right = draw(0, len(texts))
        signal = torch.zeros(length)
        signal[2 + right] = 1.0
        example = Example("which?", " ".join(texts), label=Answers((texts[right],), (begins[right],)))
        return example, Tokens(ids, types, starts, rows, chars=chars), signal
    if kind == "text":
        return Example("a text", label=References(("an answer",))), Tokens(ids, types, starts, rows), torch.ones(length)
    value = draw(0, 3)
    label: str | float | tuple[str, ...] = list(LABELS)[value] if kind != "regression" else 2.0 + 3.0 * value
    if kind == "multilabel":
        label = ((), ("bad", "good"), ("good", "other"))[value]
    return Example("a text", "another", label=label), Tokens(ids, types, starts, rows), torch.full((length,), value)


def with_answers(row: tuple[Example, Tokens, Tensor], words: int = 1) -> tuple[Example, Tokens, Tensor]:
    """The row with a sequence for each of its answers, so many a label, whose tokens all but the first are."""
    example, tokens, signal = row
    if not example.choices and not isinstance(example.label, References):
        lengths = [length for length in (3, 4, 5) for _ in range(words)]
        ids = torch.arange(sum(lengths))
        right = torch.tensor([label == example.label for label in LABELS for _ in range(words)])
        signal = right.repeat_interleave(torch.tensor(lengths)).float()
        tokens = Tokens(ids, ids * 0, offsets(lengths), torch.tensor([0, len(lengths)]))
    answers = torch.ones(len(tokens.ids), dtype=torch.bool).index_fill_(0, tokens.starts[:-1], False)
    return example, replace(tokens, answers=answers), signal


def make_world(name: str, kind: Kind, rows: int = 24, seed: int = 0) -> World:
    generator = torch.Generator().manual_seed(seed)
    made = [make_row(kind, generator) for _ in range(rows)]
    if readouts()[name].reads in ANSWERED and kind in readouts()[name].kinds:
        made = [with_answers(row, 2 if readouts()[name].reads == "original" else 1) for row in made]
    examples, tokens, signals = zip(*made, strict=True)
    labels = LABELS if kind in ("classification", "multilabel", "pair", "tagging") else {}
    task = Task("toy", kind, "accuracy", labels, {"train": tuple(examples)})
    codes = torch.randn(3, WIDTH, generator=torch.Generator().manual_seed(99))
    signal = torch.cat(signals).long()
    noise = 0.1 * torch.randn(len(signal), WIDTH, generator=generator)
    hidden = codes[signal] + noise
    if any(part.answers is not None for part in tokens):  # log-probabilities, higher of the right answer
        hidden[:, 0] = signal - 1 + noise[:, 0]
    return World(task, concatenate(tokens), hidden)


def describe(texts: Sequence[str]) -> Tensor:
    return torch.stack([torch.randn(WIDTH, generator=torch.Generator().manual_seed(len(text))) for text in texts])


def columns(words: Sequence[str]) -> tuple[Tensor, Tensor]:
    streams = [torch.Generator().manual_seed(sum(word.encode())) for word in words]
    return torch.stack([torch.randn(WIDTH, generator=stream) for stream in streams]), torch.arange(len(words)).float()


GIVEN = Given(describe, {name: (name, f"very {name}") for name in LABELS}, columns)


def create(name: str, world: World, seed: int = 0) -> Readout:
    return readouts()[name].create(world.task, WIDTH, torch.Generator().manual_seed(seed), GIVEN)


def features(readout: Readout, world: World) -> Tensor:
    if readout.reads in ANSWERED:
        assert world.tokens.answers is not None
        return -world.hidden[world.tokens.answers][:, :1].abs()
    return world.hidden if readout.reads == "tokens" else world.hidden[world.tokens.starts[:-1]]


def scores(readout: Readout, world: World) -> Tensor:
    return readout.scores(features(readout, world), world.tokens)


def predictions_of(readout: Readout, world: World) -> list[Label | str]:
    """What a readout answers; nothing where a model writes the answers."""
    if readout.writes:
        return []
    return readout.predict(scores(readout, world), world.tokens, world.examples, world.task)


def part(world: World, index: Tensor) -> World:
    rows = [torch.arange(int(a), int(b)) for a, b in itertools.pairwise(world.tokens.row_tokens)]
    hidden = world.hidden[torch.cat([rows[int(place)] for place in index])]
    examples = tuple(world.examples[int(place)] for place in index)
    return World(world.task.replace(splits={"train": examples}), world.tokens.select(index), hidden)


def test_every_kind_has_a_readout() -> None:
    assert {kind for _, kind in CASES} == KINDS.keys()


@pytest.mark.parametrize(("name", "kind"), CASES)
def test_state_holds_all_that_load_needs(name: str, kind: Kind) -> None:
    world = make_world(name, kind)
    readout = create(name, world)
    with torch.no_grad():
        for tensor in readout.parameters().values():
            tensor += 0.1
    state = readout.state()
    again = readouts()[name].load(state)
    assert torch.equal(scores(again, world), scores(readout, world))
    assert not any(tensor.requires_grad for tensor in state.values())
    assert predictions_of(again, world) == predictions_of(readout, world)


@pytest.mark.parametrize(("name", "kind"), CASES)
def test_a_loaded_readout_shares_no_memory_with_its_state(name: str, kind: Kind) -> None:
    world = make_world(name, kind)
    readout = create(name, world)
    before = scores(readout, world).detach().clone()
    again = readouts()[name].load(readout.state())
    with torch.no_grad():
        for tensor in again.parameters().values():
            tensor += 1
    assert torch.equal(scores(readout, world), before)


@pytest.mark.parametrize(("name", "kind"), CASES)
def test_parameters_are_leaves_and_gradients_reach_them_and_the_hidden_states(name: str, kind: Kind) -> None:
    world = make_world(name, kind)
    readout = create(name, world)
    world.hidden.requires_grad_()
    readout.loss(scores(readout, world), readout.gold(world.examples, world.tokens, world.task)).sum().backward()
    for tensor in readout.parameters().values():
        assert tensor.is_leaf
        assert tensor.grad is not None
        assert tensor.grad.isfinite().all()
        assert tensor.grad.abs().sum() > 0
    assert world.hidden.grad is not None
    assert world.hidden.grad.isfinite().all()


@pytest.mark.parametrize(("name", "kind"), CASES)
def test_the_same_seed_gives_the_same_bits(name: str, kind: Kind) -> None:
    world = make_world(name, kind)
    one, two = create(name, world, 3).state(), create(name, world, 3).state()
    assert all(torch.equal(one[key], two[key]) for key in one)


@pytest.mark.parametrize(("name", "kind"), CASES)
def test_training_learns_what_is_there(name: str, kind: Kind) -> None:
    world = make_world(name, kind)
    readout = create(name, world)
    if not readout.trained:
        return
    gold = readout.gold(world.examples, world.tokens, world.task)
    optimiser = torch.optim.Adam(readout.parameters().values(), lr=0.05)
    first = last = torch.tensor(0.0)
    for step in range(150):
        last = readout.loss(scores(readout, world), gold).mean()
        first = last.detach() if step == 0 else first
        optimiser.zero_grad()
        last.backward()
        optimiser.step()
    assert last < 0.3 * first
    predictions = predictions_of(readout, world)
    for prediction, example in zip(predictions, world.examples, strict=True):
        if kind == "span":
            assert isinstance(example.label, Answers)
            assert prediction == example.label.texts[0]
        elif kind == "regression":
            assert prediction == pytest.approx(example.label, abs=0.5)
        else:
            assert prediction == example.label


@pytest.mark.parametrize(("name", "kind"), CASES)
def test_rows_do_not_see_each_other(name: str, kind: Kind) -> None:
    world = make_world(name, kind)
    readout = create(name, world)
    gold = readout.gold(world.examples, world.tokens, world.task)
    losses = readout.loss(scores(readout, world), gold)
    predictions = predictions_of(readout, world)
    alone = [part(world, torch.tensor([place])) for place in range(world.tokens.count)]
    golds = [readout.gold(one.examples, one.tokens, world.task) for one in alone]
    single = torch.cat([readout.loss(scores(readout, one), g) for one, g in zip(alone, golds, strict=True)])
    torch.testing.assert_close(single, losses)
    assert torch.equal(torch.cat(golds), gold)
    ones = [prediction for one in alone for prediction in predictions_of(readout, one)]
    assert ones == pytest.approx(predictions) if kind == "regression" else ones == predictions


@pytest.mark.parametrize(("name", "kind"), CASES)
def test_the_order_of_rows_does_not_matter(name: str, kind: Kind) -> None:
    world = make_world(name, kind)
    readout = create(name, world)
    index = torch.randperm(world.tokens.count, generator=torch.Generator().manual_seed(5))[:9]
    mixed = part(world, index)
    expected = predictions_of(readout, world)
    got = predictions_of(readout, mixed)
    wanted = [expected[int(place)] for place in index if expected]
    assert got == pytest.approx(wanted) if kind == "regression" else got == wanted


@pytest.mark.parametrize(("name", "kind"), CASES)
def test_a_row_without_a_label_costs_nothing(name: str, kind: Kind) -> None:
    world = make_world(name, kind, rows=4)
    readout = create(name, world)
    examples = [Example(e.text, e.pair, e.choices, e.tokens) for e in world.examples]
    world.hidden.requires_grad_()
    gold = readout.gold(examples, world.tokens, world.task)
    loss = readout.loss(scores(readout, world), gold)
    loss.sum().backward()
    assert (gold == -100).all()
    assert (loss == 0).all()
    assert world.hidden.grad is not None
    assert (world.hidden.grad == 0).all()


@pytest.mark.parametrize(("name", "kind"), CASES)
def test_loss_has_one_value_a_unit_and_scores_the_common_layout(name: str, kind: Kind) -> None:
    world = make_world(name, kind)
    readout = create(name, world)
    result = scores(readout, world)
    gold = readout.gold(world.examples, world.tokens, world.task)
    units = world.tokens.count if readout.unit == "row" else int(world.tokens.row_words[-1])
    assert len(result) == units
    assert readout.loss(result, gold).shape == (units,)
    if kind not in ("regression", "text"):
        assert gold.shape == result.shape[:-1]
        assert (result.softmax(-1).sum(-1) - 1).abs().max() < 1e-5


@pytest.mark.parametrize(("name", "kind"), CASES)
def test_half_precision_states_are_read_in_full_precision(name: str, kind: Kind) -> None:
    world = make_world(name, kind)
    readout = create(name, world)
    half = World(world.task, world.tokens, world.hidden.bfloat16())
    assert scores(readout, half).dtype == torch.float32
    torch.testing.assert_close(scores(readout, half), scores(readout, world), atol=0.5, rtol=0.1)


@pytest.mark.parametrize(("name", "kind"), CASES)
def test_carried_to_its_own_task_it_is_the_same(name: str, kind: Kind) -> None:
    world = make_world(name, kind)
    readout = create(name, world)
    with torch.no_grad():
        for tensor in readout.parameters().values():
            tensor += 0.1 * torch.randn(tensor.shape, generator=torch.Generator().manual_seed(1))
    carried = readout.carry(world.task, GIVEN, {})
    torch.testing.assert_close(scores(carried, world), scores(readout, world))
    with torch.no_grad():
        for tensor in carried.parameters().values():
            assert tensor.is_leaf
            assert tensor.requires_grad
            tensor += 1
    assert all(not torch.equal(value, readout.parameters()[name]) for name, value in carried.parameters().items())


@pytest.mark.parametrize("name", [name for name, kind in CASES if kind == "multilabel"])
def test_carried_to_rows_without_a_label_it_may_give_none(name: str) -> None:
    """Where all rows of the source have a label every row gets one; the target's rows say whether that holds of it."""
    world = make_world(name, "multilabel")
    always, never = (Example("t", label=names) for names in (("good",), ()))
    source, target = (world.task.replace(splits={"train": rows}) for rows in ((always,), (always, never)))
    readout = find(name).create(source, WIDTH, torch.Generator(), GIVEN)
    assert readout.state()["least"] == 1
    assert readout.carry(target, GIVEN, {}).state()["least"] == 0
    assert find(name).create(target, WIDTH, torch.Generator(), GIVEN).carry(source, GIVEN, {}).state()["least"] == 1


@pytest.mark.parametrize("name", readouts())
def test_a_task_of_another_kind_is_refused_in_one_line(name: str) -> None:
    readout = readouts()[name]
    mine, other = make_world(name, next(iter(readout.kinds))), next(kind for kind in KINDS if kind not in readout.kinds)
    with pytest.raises(RunError, match=f"not {other}") as caught:
        readout.create(make_world(name, other).task, WIDTH, torch.Generator(), GIVEN)
    assert "\n" not in str(caught.value)
    with pytest.raises(RunError, match=f"not {other}"):
        create(name, mine).carry(make_world(name, other).task, GIVEN, {})


@pytest.mark.parametrize(("name", "kind"), CASES)
def test_a_label_that_does_not_fit_is_named(name: str, kind: Kind) -> None:
    world = make_world(name, kind, rows=1)
    wrong = "nonsense" if kind != "tagging" else tuple("nonsense" for _ in world.examples[0].tokens)
    old = world.examples[0]
    example = Example(old.text, old.pair, old.choices, old.tokens, wrong)
    with pytest.raises(TaskError, match="nonsense"):
        create(name, world).gold([example], world.tokens, world.task)


@pytest.mark.parametrize(("name", "kind"), CASES)
def test_models_that_are_scored_together_score_as_each_alone(name: str, kind: Kind) -> None:
    """Values, losses and gradients; so does one that stands for itself among them."""
    counts = [5, 5, 5, 2]
    worlds = [make_world(name, kind, rows=count, seed=seed) for seed, count in enumerate(counts)]
    readouts = [create(name, world, seed) for seed, world in enumerate(worlds)]
    models = [
        Tuned(None, readout, Reading(readout.reads if readout.reads in AT_WORDS else "mean")) for readout in readouts
    ]
    tokens, hidden = concatenate([world.tokens for world in worlds]), torch.cat(list(map(features, readouts, worlds)))
    groups = list(score_together(models, counts, tokens, hidden))
    assert [member for group in groups for member in group.members] == [0, 1, 2, 3]
    assert len(groups) == (2 if type(readouts[0]).stacks else 4)
    found = [one for group in groups for one in group.each()]
    for known in (readers(models, counts), readers(models, [5, 5, 5, 5])):  # for these rows, and for others
        again = [one for group in score_together(models, counts, tokens, hidden, known) for one in group.each()]
        assert all(torch.equal(one, other) for one, other in zip(found, again, strict=True))
    for readout, world, mine in zip(readouts, worlds, found, strict=True):
        alone = scores(readout, world)
        torch.testing.assert_close(mine, alone, atol=1e-5, rtol=1e-5)
        gold = readout.gold(world.examples, world.tokens, world.task)
        leaves = list(readout.parameters().values())
        if not leaves:
            continue
        for got, wanted in zip(
            torch.autograd.grad(readout.loss(mine, gold).sum(), leaves, retain_graph=True),
            torch.autograd.grad(readout.loss(alone, gold).sum(), leaves),
            strict=True,
        ):
            torch.testing.assert_close(got, wanted, atol=1e-5, rtol=1e-4)
    first = groups[0]
    if len(first.members) > 1:
        each = [readouts[one].gold(worlds[one].examples, worlds[one].tokens, worlds[one].task) for one in first.members]
        together = first.readers.readout.loss(first.scores, torch.stack(each))
        for one, losses in zip(first.members, together, strict=True):
            torch.testing.assert_close(losses, readouts[one].loss(found[one], each[one]))


def test_a_misspelt_name_is_met_with_the_nearest() -> None:
    with pytest.raises(UsageError, match="did you mean 'label-text'"):
        find("label_text")


@pytest.mark.parametrize(("name", "kind"), CASES)
def test_its_form_is_that_of_its_tensors(name: str, kind: Kind) -> None:
    """What is restored is checked against the form, so that a form that is not true would refuse what was kept."""
    world = make_world(name, kind)
    readout = create(name, world)
    state, form = readout.state(), type(readout).form
    sizes = {"classes": len(world.task.labels), "width": WIDTH}
    assert state.keys() == form.keys()
    for part, shape in form.items():
        known = sizes | {"bytes": len(state[part])} if part == "labels" else sizes
        assert list(state[part].shape) == [known[size] if isinstance(size, str) else size for size in shape], part
