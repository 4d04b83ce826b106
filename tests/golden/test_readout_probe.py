"""Probes: the fits against scikit-learn's own, cross-validation on data whose answer is known."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from promptgraft.errors import RunError
from promptgraft.model.tokens import Tokens
from promptgraft.readout.fit import reduce, solve
from promptgraft.readout.probe import best_strength, choose, cross_validate, deal_folds, fit_probe, sample_rows
from promptgraft.readout.problem import Problem, pose
from promptgraft.task.task import Example, Kind, Label, Task


def rows_of(count: int, *, words: Tensor | None = None, rows: Tensor | None = None) -> Tokens:
    ids = torch.arange(count)
    starts = torch.arange(count + 1)
    return Tokens(ids, ids * 0, starts, starts if rows is None else rows, words=words)


def task(kind: Kind, labels: Sequence[str] = ()) -> Task:
    return Task("toy", kind, "accuracy", {name: name for name in labels}, {})


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def labelled(labels: Sequence[Label | None]) -> list[Example]:
    return [Example("t", label=label) for label in labels]


CLASSES = ("a", "b", "c")


def three_classes(count: int, width: int, apart: float, seed: int = 0) -> tuple[list[Example], Tensor]:
    places = torch.arange(count) % 3
    features = noise(count, width, seed=seed) + apart * noise(3, width, seed=77)[places]
    return labelled([CLASSES[int(place)] for place in places]), features


@pytest.mark.parametrize("width", [5, 200], ids=["more rows than features", "fewer"])
def test_the_fit_in_the_rows_span_is_scikit_learns_fit(width: int) -> None:
    examples, features = three_classes(30, width, 0.5)
    problem = pose(task("classification", CLASSES), examples, features, rows_of(30))
    (fit,) = solve(reduce(problem), [1.0])
    centred = problem.x - problem.x.mean(0)
    scaled = centred / np.sqrt((centred**2).sum(1).mean())
    reference = LogisticRegression(C=1.0, max_iter=1000, tol=1e-10).fit(scaled, problem.y)
    ours = problem.x @ fit.weight.T + fit.bias
    np.testing.assert_allclose(ours, reference.decision_function(scaled), atol=1e-6)


def test_two_classes_give_scores_whose_softmax_is_the_probability() -> None:
    examples, features = three_classes(20, 4, 1.0)
    examples = [Example("t", label="b" if example.label == "c" else example.label) for example in examples]
    problem = pose(task("classification", ("a", "b")), examples, features, rows_of(20))
    (fit,) = solve(reduce(problem), [1.0])
    centred = problem.x - problem.x.mean(0)
    scaled = centred / np.sqrt((centred**2).sum(1).mean())
    reference = LogisticRegression(C=1.0, max_iter=1000, tol=1e-10).fit(scaled, problem.y).predict_proba(scaled)
    ours = torch.from_numpy(problem.x @ fit.weight.T + fit.bias).softmax(-1).numpy()
    np.testing.assert_allclose(ours, reference, atol=1e-6)


def test_a_class_without_rows_is_never_predicted() -> None:
    examples, features = three_classes(30, 6, 2.0)
    probe = fit_probe(task("classification", ("never", *CLASSES)), examples, features, rows_of(30), seed=0)
    wild = 100 * noise(500, 6, seed=5)
    assert (probe.readout.scores(wild, rows_of(500)).argmax(-1) != 0).all()


def test_one_class_only_is_always_predicted() -> None:
    probe = fit_probe(task("classification", CLASSES), labelled(["b", "b"]), noise(2, 3), rows_of(2), seed=0)
    assert probe.readout.scores(noise(9, 3, seed=1), rows_of(9)).argmax(-1).tolist() == [1] * 9


def test_the_probe_is_a_readout_that_reads_what_it_was_fitted_to() -> None:
    examples, features = three_classes(60, 8, 2.0)
    toy = task("classification", CLASSES)
    readout = fit_probe(toy, examples, features, rows_of(60), seed=0).readout
    predictions = readout.predict(readout.scores(features, rows_of(60)), rows_of(60), examples, toy)
    assert predictions == [example.label for example in examples]
    assert all(value.is_leaf and value.requires_grad for value in readout.parameters().values())


def test_rows_without_a_label_are_left_out() -> None:
    examples, features = three_classes(12, 4, 1.0)
    toy = task("classification", CLASSES)
    fewer = fit_probe(toy, examples, features, rows_of(12), seed=0).readout.state()
    more = fit_probe(
        toy, [*examples, Example("t")], torch.cat([features, 1e6 * noise(1, 4)]), rows_of(13), seed=0
    ).readout.state()
    assert all(torch.equal(fewer[name], more[name]) for name in fewer)


def test_regression_finds_a_line() -> None:
    features = noise(200, 4)
    labels = 7.0 + 3.0 * features[:, 0] - features[:, 2]
    examples, toy = labelled(labels.tolist()), task("regression")
    readout = fit_probe(toy, examples, features, rows_of(200), seed=0).readout
    answers = readout.predict(readout.scores(features, rows_of(200)), rows_of(200), examples, toy)
    assert np.corrcoef(np.array(answers), labels.numpy())[0, 1] > 0.999
    assert cross_validate(toy, examples, features, rows_of(200), seed=0).value > 0.9


def choices(count: int, signal: float) -> tuple[list[Example], Tensor, Tokens]:
    sizes = [2 + place % 3 for place in range(count)]
    right = [place % size for place, size in enumerate(sizes)]
    offsets = torch.tensor([0, *sizes]).cumsum(0)
    features = noise(int(offsets[-1]), 5)
    features[offsets[:-1] + torch.tensor(right), 1] += signal
    names = ("w", "x", "y", "z")
    examples = [
        Example("q", choices=names[:size], label=names[place]) for size, place in zip(sizes, right, strict=True)
    ]
    return examples, features, rows_of(int(offsets[-1]), rows=offsets)


def test_choices_are_told_apart_by_what_right_ones_share() -> None:
    examples, features, tokens = choices(90, 4.0)
    toy = task("choice")
    readout = fit_probe(toy, examples, features, tokens, seed=0).readout
    predictions = readout.predict(readout.scores(features, tokens), tokens, examples, toy)
    assert np.mean([guess == example.label for guess, example in zip(predictions, examples, strict=True)]) > 0.9
    assert cross_validate(toy, examples, features, tokens, seed=0).value > 0.85
    chance = np.mean([1 / len(example.choices) for example in examples])
    examples, features, tokens = choices(90, 0.0)
    assert cross_validate(toy, examples, features, tokens, seed=0).value == pytest.approx(chance, abs=0.12)


def test_numbers_that_are_all_one_are_foretold_as_it() -> None:
    """What three times 0.1 deviates from its mean is rounding."""
    examples, features, toy = labelled([0.1] * 6), noise(6, 4), task("regression")
    readout = fit_probe(toy, examples, features, rows_of(6), seed=0).readout
    assert readout.state()["moments"].tolist() == pytest.approx([0.1, 1.0])
    assert readout.predict(readout.scores(features, rows_of(6)), rows_of(6), examples, toy) == pytest.approx([0.1] * 6)
    assert cross_validate(toy, examples, features, rows_of(6), seed=0).value == pytest.approx(1.0)


def test_words_are_read_at_their_first_tokens() -> None:
    words = torch.tensor([-1, 0, 1, -1] * 30)
    tokens = Tokens(torch.arange(120), torch.zeros(120).long(), torch.arange(0, 121, 4), torch.arange(31), words=words)
    tags = torch.arange(60) % 2
    features = 100 * noise(120, 4)
    features[words >= 0] = noise(60, 4, seed=3) + 4 * noise(2, 4, seed=4)[tags]
    names = ["A" if int(tag) == 0 else "B" for tag in tags]
    examples = [Example(tokens=("u", "v"), label=(names[2 * row], names[2 * row + 1])) for row in range(30)]
    toy = task("tagging", ("A", "B"))
    readout = fit_probe(toy, examples, features, tokens, seed=0).readout
    assert readout.predict(readout.scores(features, tokens), tokens, examples, toy) == [e.label for e in examples]
    assert cross_validate(toy, examples, features, tokens, seed=0).value > 0.95


def test_rows_without_a_word_are_left_out() -> None:
    """A part of the rows in which no word is could be fitted to nothing."""
    toy, words = task("tagging", ("O", "B-X")), torch.tensor([0, 1, 0, 1])
    examples = [
        Example(tokens=("v", "w"), label=("O", "B-X")),
        Example(label=()),
        Example(tokens=("v", "w"), label=("O", "B-X")),
    ]
    tokens = rows_of(4, words=words, rows=torch.tensor([0, 2, 2, 4]))
    problem = pose(toy, examples, noise(4, 3), tokens)
    assert problem.rows == 2
    assert problem.row.tolist() == [0, 0, 1, 1]
    assert np.isfinite(cross_validate(toy, examples, noise(4, 3), tokens, seed=0).likelihood).all()
    with pytest.raises(RunError, match="needs rows with labels"):
        pose(toy, examples[1:2], noise(0, 3), rows_of(0, words=words[:0], rows=torch.tensor([0, 0])))


def test_a_span_task_has_no_probe_and_says_so() -> None:
    with pytest.raises(RunError, match="no probe reads a span task"):
        fit_probe(task("span"), [Example("q", "c")], noise(1, 2), rows_of(1), seed=0)
    with pytest.raises(RunError, match="needs rows with labels"):
        fit_probe(task("regression"), [Example("q")], noise(1, 2), rows_of(1), seed=0)


# cross-validation


def test_noise_scores_at_chance_also_with_few_rows() -> None:
    toy = task("classification", ("a", "b"))
    examples = labelled(["a", "b"] * 8)
    values = [cross_validate(toy, examples, noise(16, 64, seed=seed), rows_of(16), seed).value for seed in range(20)]
    assert np.mean(values) == pytest.approx(0.5, abs=0.06)


def test_the_estimate_foretells_the_score_on_unseen_rows_within_its_error() -> None:
    toy = task("classification", CLASSES)
    examples, features = three_classes(300, 20, 0.4)
    train, rest = features[:90], features[90:]
    estimate = cross_validate(toy, examples[:90], train, rows_of(90), seed=0)
    readout = fit_probe(toy, examples[:90], train, rows_of(90), seed=0).readout
    guesses = readout.predict(readout.scores(rest, rows_of(210)), rows_of(210), examples[90:], toy)
    truth = np.mean([guess == example.label for guess, example in zip(guesses, examples[90:], strict=True)])
    assert estimate.value == pytest.approx(truth, abs=3 * estimate.error)
    assert 0.01 < estimate.error < 0.06


@pytest.mark.parametrize(
    "labels",
    [["a", "b"], ["a", "a", "b"], ["a", "b", "c"], ["a"] * 9 + ["b"], ["a", "a"]],
    ids=["one each of two", "two and one", "one each of three", "nine and one", "one class"],
)
def test_classes_of_one_row_are_no_trouble(labels: list[str]) -> None:
    features = noise(len(labels), 7)
    estimate = cross_validate(task("classification", CLASSES), labelled(labels), features, rows_of(len(labels)), seed=0)
    assert 0 <= estimate.value <= 1
    assert np.isfinite(estimate.likelihood).all()


def test_one_row_is_too_few_to_validate_on_but_not_to_fit() -> None:
    toy = task("classification", CLASSES)
    with pytest.raises(RunError, match="two rows"):
        cross_validate(toy, labelled(["a"]), noise(1, 3), rows_of(1), seed=0)
    assert fit_probe(toy, labelled(["a"]), noise(1, 3), rows_of(1), seed=0).strength == 1.0


def test_folds_hold_classes_in_equal_shares() -> None:
    problem = Problem("classification", np.zeros((16, 1)), np.arange(16) % 2, np.arange(16), 2)
    fold = deal_folds(problem, seed=0)
    shares = np.array([[np.sum((fold == held) & (problem.y == label)) for label in (0, 1)] for held in range(5)])
    assert (shares[:, 0] == shares[:, 1]).all()
    assert shares.sum(0).tolist() == [8, 8]


def test_the_same_seed_gives_the_same_estimate() -> None:
    examples, features = three_classes(24, 10, 0.5)
    toy = task("classification", CLASSES)
    one, two = (cross_validate(toy, examples, features, rows_of(24), seed=4) for _ in range(2))
    assert (one.hits == two.hits).all()
    assert one.value == two.value


def test_the_safe_strength_gives_way_to_a_sure_gain() -> None:
    """A weak direction that decides all, under a strong one that says nothing, needs a bold fit."""
    labels = np.arange(400) % 2
    strong = 100 * noise(400, 1, seed=1).numpy()
    weak = (2 * labels - 1)[:, None] * (0.5 + noise(400, 1, seed=2).abs().numpy())
    problem = Problem("classification", np.concatenate([strong, weak], axis=1), labels, np.arange(400), 2)
    assert best_strength(reduce(problem), seed=0)[0] > 1.0


def test_sampling_keeps_whole_rows() -> None:
    row = np.repeat(np.arange(900), 3)
    part = sample_rows(Problem("choice", np.zeros((2700, 1)), np.tile([1, 0, 0], 900), row, 1), seed=0)
    assert part.rows == 666
    assert (np.bincount(part.row) == 3).all()


def test_the_variant_that_tells_classes_apart_is_chosen_and_a_tie_goes_to_the_first() -> None:
    toy = task("classification", CLASSES)
    examples, good = three_classes(30, 8, 2.0)
    blank, tokens = noise(30, 8, seed=9), rows_of(30)
    chosen, estimates = choose(toy, examples, {"first": (blank, tokens), "other": (good, tokens)}, seed=0)
    assert chosen == "other"
    assert estimates["other"].value > estimates["first"].value
    assert choose(toy, examples, {"first": (good, tokens), "other": (blank, tokens)}, seed=0)[0] == "first"
    assert choose(toy, examples, {"first": (good, tokens), "other": (good, tokens)}, seed=0)[0] == "first"


def test_variants_of_other_widths_compare() -> None:
    """One feature that says it all against many that say nothing, as the cosine of two texts against their states."""
    toy = task("pair", ("a", "b"))
    examples = labelled(["a", "b"] * 8)
    cosine = torch.tensor([[0.3], [0.7]] * 8) + 0.1 * noise(16, 1)
    options = {"cross": (noise(16, 384), rows_of(16)), "cosine": (cosine, rows_of(16))}
    assert choose(toy, examples, options, seed=0)[0] == "cosine"


@pytest.mark.parametrize("labels", [3, 25])
def test_several_labels_are_found_where_features_hold_them(labels: int) -> None:
    names = tuple(f"label {number:02}" for number in range(labels))
    drawn = np.random.default_rng(0).random((60, labels)) < 0.3
    examples = labelled([tuple(name for name, has in zip(names, row, strict=True) if has) for row in drawn])
    told = torch.from_numpy(drawn).float() @ noise(labels, 40, seed=7)
    asked = task("multilabel", names).replace(splits={"train": tuple(examples)})
    features = 4 * told + noise(60, 40, seed=1)
    estimate = cross_validate(asked, examples, features, rows_of(60), seed=0)
    blind = cross_validate(asked, examples, noise(60, 40, seed=2), rows_of(60), seed=0)
    assert estimate.value > blind.value + 0.2
    assert estimate.likelihood.sum() > blind.likelihood.sum()
    assert estimate.odds is not None
    assert estimate.odds.shape == drawn.shape
    readout = fit_probe(asked, examples, features, rows_of(60), seed=0).readout
    scores = readout.scores(features, rows_of(60))
    predictions = readout.predict(scores, rows_of(60), examples, asked)
    assert np.mean([row == example.label for row, example in zip(predictions, examples, strict=True)]) > 0.9
