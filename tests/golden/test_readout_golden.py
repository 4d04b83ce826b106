"""Readouts on cases small enough to work out by hand, and their gradients against finite differences."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from promptgraft.errors import RunError, TaskError
from promptgraft.model.tokens import Tokens
from promptgraft.readout import classes
from promptgraft.readout.choice import Choice
from promptgraft.readout.features import feature_width, features
from promptgraft.readout.label_text import SPREAD, LabelText
from promptgraft.readout.linear import Linear
from promptgraft.readout.prototype import Prototype
from promptgraft.readout.readout import Given, Readout
from promptgraft.readout.regression import Regression
from promptgraft.readout.soft_verbalizer import SoftVerbalizer
from promptgraft.readout.span import Span
from promptgraft.readout.tagging import Tagging
from promptgraft.task.task import Answers, Example, Kind, Label, Task

INF = math.inf
GENERATOR = torch.Generator()


def rows_of(*lengths: int, sequences: int = 1, words: Sequence[int] | None = None) -> Tokens:
    """Rows of `sequences` sequences each."""
    ids = torch.arange(sum(lengths))
    starts = torch.tensor([0, *lengths]).cumsum(0)
    rows = torch.arange(0, len(lengths) + 1, sequences)
    return Tokens(ids, ids * 0, starts, rows, words=None if words is None else torch.tensor(words))


def task(kind: Kind, labels: Sequence[str] = (), *train: Label) -> Task:
    examples = tuple(Example("t", label=label) for label in train)
    return Task("toy", kind, "accuracy", {name: f"about {name}" for name in labels}, {"train": examples})


def refuse(texts: Sequence[str]) -> Tensor:
    raise AssertionError("only label-text reads descriptions")


no_description = Given(refuse)


def looked_up(**table: Sequence[float]) -> Given:
    """Embeddings by label name."""
    return Given(lambda texts: torch.tensor([table[text.removeprefix("about ")] for text in texts]))


# features


def test_features_of_separate_pairs() -> None:
    hidden = torch.tensor([[1.0, 2.0], [3.0, -1.0], [1.0, 0.0], [0.0, 1.0]])
    tokens = rows_of(2, 2, 3, 1, sequences=2)
    assert features(hidden, tokens, "separate").tolist() == [[2.0, 3.0, 3.0, -2.0], [1.0, 1.0, 0.0, 0.0]]
    cosine = features(hidden, tokens, "cosine")
    assert cosine.flatten().tolist() == pytest.approx([1 / math.sqrt(50), 0.0])
    assert [feature_width(2, encoding) for encoding in ("cross", "separate", "cosine")] == [2, 4, 1]


def test_features_of_one_sequence_are_the_states_themselves() -> None:
    hidden = torch.randn(3, 2)
    assert features(hidden, rows_of(2, 2, 2), "cross") is hidden
    with pytest.raises(RunError, match="two sequences a row"):
        features(hidden, rows_of(2, 2, 2), "separate")


# linear


def test_linear_carries_rows_by_name_and_by_map() -> None:
    readout = Linear.load(
        {
            "labels": classes.encode_names(["bad", "good"]),
            "weight": torch.tensor([[1.0, 2.0], [3.0, 4.0]]),
            "bias": torch.tensor([5.0, 6.0]),
        }
    )
    carried = readout.carry(
        task("classification", ["good", "poor", "nice"]), no_description, {"poor": "bad", "nice": "good"}
    )
    assert carried.labels == ("good", "poor", "nice")
    assert carried.weight.tolist() == [[3.0, 4.0], [1.0, 2.0], [3.0, 4.0]]
    assert carried.bias.tolist() == [6.0, 5.0, 6.0]


@pytest.mark.parametrize("readout", [Linear, Tagging])
def test_a_label_without_a_source_label_is_named(readout: type[Linear] | type[Tagging]) -> None:
    kind: Kind = "classification" if readout is Linear else "tagging"
    one = readout.create(task(kind, ["bad", "good"]), 2, torch.Generator(), no_description)
    with pytest.raises(RunError, match="no source label for fine, ugly") as caught:
        one.carry(task(kind, ["good", "fine", "ugly"]), no_description, {})
    assert "\n" not in str(caught.value)
    with pytest.raises(RunError, match="did you mean 'good'"):
        one.carry(task(kind, ["good", "fine", "ugly"]), no_description, {"fine": "goood"})
    with pytest.raises(RunError, match="did you mean 'fine'"):
        one.carry(task(kind, ["good", "fine", "ugly"]), no_description, {"fines": "good"})


def test_names_survive_as_bytes() -> None:
    names = ("a\nb", "负面", '"', "", "\ud800")
    assert classes.decode_names(classes.encode_names(names)) == names


# regression


def test_regression_learns_in_standard_units_and_answers_in_label_units() -> None:
    readout = Regression.create(task("regression", (), 2.0, 4.0, 6.0), 1, torch.Generator(), no_description)
    sd = math.sqrt(8 / 3)
    gold = readout.gold([Example("t", label=4.0 + sd), Example("t")], rows_of(1, 1), task("regression"))
    assert gold.tolist() == pytest.approx([1.0, -100.0])
    assert readout.loss(torch.tensor([3.0, 7.0]), gold).tolist() == pytest.approx([4.0, 0.0])
    answers = readout.predict(torch.tensor([0.0, -1.0]), rows_of(1, 1), [Example(), Example()], task("regression"))
    assert answers == pytest.approx([4.0, 4.0 - sd])


def test_regression_of_one_value_only_stays_finite() -> None:
    readout = Regression.create(task("regression", (), 2.0, 2.0), 1, torch.Generator(), no_description)
    assert readout.gold([Example("t", label=2.0)], rows_of(1), task("regression")).tolist() == [0.0]
    thirds = Regression.create(task("regression", (), 0.1, 0.1, 0.1), 1, torch.Generator(), no_description)
    assert float(thirds.moments[1]) == 1, "what three tenths deviate from their mean is rounding"
    assert thirds.gold([Example("t", label=0.2)], rows_of(1), task("regression")).tolist() == pytest.approx([0.1])


def test_regression_carries_to_the_scale_of_the_target_where_it_has_labels() -> None:
    readout = Regression.create(task("regression", (), 0.0, 10.0), 1, torch.Generator(), no_description)
    assert readout.carry(task("regression"), no_description, {}).moments.tolist() == [5.0, 5.0]
    assert readout.carry(task("regression", (), 1.0, 3.0), no_description, {}).moments.tolist() == [2.0, 1.0]


# choice


def test_choice_scores_are_padded_with_minus_infinity() -> None:
    readout = Choice.load({"weight": torch.tensor([1.0])})
    tokens = Tokens(torch.arange(5), torch.zeros(5).long(), torch.arange(6), torch.tensor([0, 2, 5]))
    hidden = torch.tensor([[0.0], [math.log(3)], [5.0], [4.0], [9.0]], requires_grad=True)
    scores = readout.scores(hidden, tokens)
    torch.testing.assert_close(scores, torch.tensor([[0.0, math.log(3), -INF], [5.0, 4.0, 9.0]]))
    examples = [Example(choices=("a", "b"), label="b"), Example(choices=("x", "y", "z"))]
    gold = readout.gold(examples, tokens, task("choice"))
    loss = readout.loss(scores, gold)
    assert loss.tolist() == pytest.approx([-math.log(3 / 4), 0.0])
    assert readout.predict(scores, tokens, examples, task("choice")) == ["b", "z"]
    (gradient,) = torch.autograd.grad(loss.sum(), hidden)
    torch.testing.assert_close(gradient[:, 0], torch.tensor([0.25, -0.25, 0.0, 0.0, 0.0]))


# tagging


def test_tagging_reads_first_tokens_and_fills_words_that_were_cut_off() -> None:
    readout = Tagging.load(
        {
            "labels": classes.encode_names(["O", "B", "I"]),
            "weight": torch.tensor([[1.0], [0.0], [-1.0]]),
            "bias": torch.tensor([0.0, 0.5, 0.0]),
        }
    )
    tokens = rows_of(4, 3, words=[-1, 0, -1, 1, -1, 0, -1])
    hidden = torch.tensor([[9.0], [2.0], [9.0], [-2.0], [9.0], [0.0], [9.0]])
    examples = [Example(tokens=("u", "v", "w"), label=("O", "I", "B")), Example(tokens=("x",), label=("B",))]
    tags = task("tagging", ["O", "B", "I"])
    scores = readout.scores(hidden, tokens)
    assert scores.tolist() == [[2.0, 0.5, -2.0], [-2.0, 0.5, 2.0], [0.0, 0.5, 0.0]]
    assert readout.gold(examples, tokens, tags).tolist() == [0, 2, 1]
    assert readout.predict(scores, tokens, examples, tags) == [("O", "I", "O"), ("B",)]


def test_without_an_outside_tag_unseen_words_get_the_most_frequent_one() -> None:
    train = Example(tokens=("a", "b", "c"), label=("X", "Y", "Y"))
    tags = Task("toy", "tagging", "accuracy", {"X": "x", "Y": "y"}, {"train": (train,)})
    readout = Tagging.create(tags, 1, torch.Generator().manual_seed(0), no_description)
    unseen = Example(tokens=("p", "q"))
    tokens = rows_of(2, words=[-1, -1])
    scores = readout.scores(torch.zeros(2, 1), tokens)
    assert readout.predict(scores, tokens, [unseen], tags) == [("Y", "Y")]
    assert readout.predict(scores, tokens, [unseen], tags.replace(splits={})) == [("X", "X")]


def test_one_tag_a_word_or_an_error() -> None:
    tags = task("tagging", ["X"])
    readout = Tagging.create(tags, 1, torch.Generator(), no_description)
    with pytest.raises(TaskError, match="not one tag a word"):
        readout.gold([Example(tokens=("p", "q"), label=("X",))], rows_of(2, words=[0, 1]), tags)


# span

CONTEXT = "the blade broke, on day two"
CHARS = [(-1, -1), (-1, -1), (0, 3), (4, 9), (10, 15), (15, 16), (17, 19), (20, 23), (-1, -1)]


def span_tokens(chars: Sequence[tuple[int, int]]) -> Tokens:
    tokens = rows_of(len(chars))
    return Tokens(tokens.ids, tokens.types, tokens.starts, tokens.rows, chars=torch.tensor(chars))


@pytest.mark.parametrize(
    ("texts", "starts", "tokens"),
    [
        (("blade broke",), (4,), (3, 4)),
        (("lade bro",), (5,), (3, 4)),
        ((" on day",), (16,), (6, 7)),
        (("blade ",), (4,), (3, 3)),
        (("day two",), (20,), (-100, -100)),
        (("day two", "broke"), (20, 10), (4, 4)),
        ((), (), (-100, -100)),
        (("",), (4,), (-100, -100)),
    ],
    ids=[
        "whole words",
        "inside words",
        "leading space",
        "trailing space",
        "cut off",
        "first that is left",
        "none",
        "empty",
    ],
)
def test_span_gold_is_found_by_characters(
    texts: tuple[str, ...], starts: tuple[int, ...], tokens: tuple[int, int]
) -> None:
    readout = Span.create(task("span"), 1, torch.Generator(), no_description)
    example = Example("what?", CONTEXT, label=Answers(texts, starts))
    assert readout.gold([example], span_tokens(CHARS), task("span")).tolist() == [list(tokens)]


def test_span_answers_are_the_contexts_own_characters() -> None:
    readout = Span.load({"weight": torch.tensor([[1.0], [1.0]])})
    example = Example("what?", CONTEXT)
    scores = torch.full((1, 2, len(CHARS)), -INF)
    scores[:, :, 2:8] = 0.0
    scores[0, 0, 4], scores[0, 1, 6] = 3.0, 3.0
    assert readout.predict(scores, span_tokens(CHARS), [example], task("span")) == ["broke, on"]
    scores[0, 1, 3] = 5.0
    assert readout.predict(scores, span_tokens(CHARS), [example], task("span")) == ["broke, on"]
    scores[0, 1, 3] = 6.5
    assert readout.predict(scores, span_tokens(CHARS), [example], task("span")) == ["blade"]


def test_an_answer_has_at_most_thirty_tokens() -> None:
    words = [f"{place:02d}" for place in range(60)]
    chars = [(3 * place, 3 * place + 2) for place in range(60)]
    readout = Span.load({"weight": torch.zeros(2, 1)})
    scores = torch.zeros(1, 2, 60)
    scores[0, 0, 5] = scores[0, 1, 35] = 4.0
    scores[0, 1, 34] = 3.0
    (answer,) = readout.predict(scores, span_tokens(chars), [Example("?", " ".join(words))], task("span"))
    assert answer == " ".join(words[5:35])


def test_a_context_that_was_cut_away_leaves_no_trace() -> None:
    readout = Span.create(task("span"), 2, torch.Generator().manual_seed(0), no_description)
    tokens = span_tokens([(-1, -1)] * 4)
    hidden = torch.randn(4, 2, requires_grad=True)
    example = Example("?", CONTEXT, label=Answers(("blade",), (4,)))
    scores = readout.scores(hidden, tokens)
    assert (scores == -INF).all()
    loss = readout.loss(scores, readout.gold([example], tokens, task("span")))
    loss.sum().backward()
    assert loss.tolist() == [0.0]
    assert hidden.grad is not None
    assert (hidden.grad == 0).all()
    assert readout.weight.grad is not None
    assert not readout.weight.grad.any()
    assert readout.predict(scores, tokens, [example], task("span")) == [""]


# label-text


def label_text(**table: Sequence[float]) -> LabelText:
    return LabelText.create(task("classification", list(table)), 2, torch.Generator(), looked_up(**table))


def test_label_text_starts_as_twenty_times_the_cosine() -> None:
    readout = label_text(east=[2.0, 0.0], north=[0.0, 0.5])
    scores = readout.scores(torch.tensor([[3.0, 3.0], [0.0, -7.0]]), rows_of(1, 1))
    root = 20 / math.sqrt(2)
    torch.testing.assert_close(scores, torch.tensor([[root, root], [0.0, -20.0]]), atol=1e-4, rtol=0)
    assert readout.embeddings.square().mean(-1).sqrt().tolist() == pytest.approx([SPREAD, SPREAD])


def test_label_text_reads_labels_it_never_saw() -> None:
    readout = label_text(east=[1.0, 0.0], north=[0.0, 1.0])
    with torch.no_grad():
        readout.delta.fill_(0.2)
        readout.bias.fill_(3.0)
        readout.raw_scale.fill_(1.5)
    target = task("classification", ["west", "south"])
    carried = readout.carry(target, looked_up(west=[-1.0, 0.0], south=[0.0, -1.0]), {})
    assert (carried.delta == 0).all()
    assert (carried.bias == 0).all()
    assert torch.equal(carried.scale(), readout.scale())
    scores = carried.scores(torch.tensor([[-2.0, 0.1]]), rows_of(1))
    assert carried.predict(scores, rows_of(1), [Example()], target) == ["west"]


def test_label_text_takes_deltas_along_for_labels_that_mean_the_same() -> None:
    readout = label_text(east=[1.0, 0.0], north=[0.0, 1.0])
    with torch.no_grad():
        readout.delta.copy_(torch.tensor([[0.1, 0.2], [0.3, 0.4]]))
        readout.bias.copy_(torch.tensor([1.0, 2.0]))
    table = {"north": [0.1, 1.0], "east": [1.0, 0.1], "up": [1.0, 1.0]}
    equal = readout.carry(task("classification", ["north", "east"]), looked_up(**table), {})
    torch.testing.assert_close(equal.delta, torch.tensor([[0.3, 0.4], [0.1, 0.2]]))
    assert equal.bias.tolist() == [2.0, 1.0]
    partly = readout.carry(task("classification", ["north", "up"]), looked_up(**table), {})
    assert (partly.delta == 0).all()
    mapped = readout.carry(task("classification", ["north", "up"]), looked_up(**table), {"up": "east"})
    torch.testing.assert_close(mapped.delta, torch.tensor([[0.3, 0.4], [0.1, 0.2]]))


def test_names_that_say_nothing_are_equal_only_with_equal_descriptions() -> None:
    readout = label_text(**{"0": [1.0, 0.0], "1": [0.0, 1.0]})
    with torch.no_grad():
        readout.delta.fill_(0.5)
    numbered = task("classification", ["0", "1"])
    other = readout.carry(numbered, looked_up(**{"0": [0.0, 1.0], "1": [1.0, 0.0]}), {})
    assert (other.delta == 0).all()
    same = readout.carry(numbered, looked_up(**{"0": [1.0, 0.0], "1": [0.0, 1.0]}), {})
    assert (same.delta == 0.5).all()


def test_the_scale_never_leaves_its_bounds() -> None:
    readout = label_text(east=[1.0, 0.0])
    assert float(readout.scale().detach()) == pytest.approx(20.0, rel=1e-5)
    with torch.no_grad():
        readout.raw_scale.fill_(50.0)
        high = float(readout.scale())
        readout.raw_scale.fill_(-50.0)
        low = float(readout.scale())
    assert (low, high) == pytest.approx((1.0, 100.0), rel=1e-5)


def test_label_text_refuses_features_of_another_width() -> None:
    with pytest.raises(RunError, match="as wide as a description's"):
        LabelText.create(task("pair", ["a"]), 4, torch.Generator(), looked_up(a=[1.0, 0.0]))


# gradients

TEXTS = rows_of(2, 1, 3)
CHOICES = Tokens(torch.arange(5), torch.zeros(5).long(), torch.arange(6), torch.tensor([0, 2, 5]))
WORDS = rows_of(3, 2, words=[-1, 0, 1, 0, -1])
NAMES = ["a", "b", "c"]


def seeded(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(len(shape)), dtype=torch.float64)


CHECKED: dict[str, tuple[type[Readout], list[str], tuple[int, ...], Tokens, Tensor]] = {
    "linear": (Linear, ["weight", "bias"], (3, 4), TEXTS, torch.tensor([0, -100, 2])),
    "regression": (Regression, ["weight", "bias"], (3, 4), TEXTS, seeded(3)),
    "choice": (Choice, ["weight"], (5, 4), CHOICES, torch.tensor([1, 2])),
    "tagging": (Tagging, ["weight", "bias"], (5, 4), WORDS, torch.tensor([2, -100, 0])),
    "span": (Span, ["weight"], (9, 4), span_tokens(CHARS), torch.tensor([[3, 4]])),
    "label-text": (LabelText, ["delta", "raw_scale", "bias"], (3, 4), TEXTS, torch.tensor([0, -100, 2])),
}


@pytest.mark.parametrize("name", CHECKED)
def test_gradients_match_finite_differences(name: str) -> None:
    kind, trained, shape, tokens, gold = CHECKED[name]
    weight = {"regression": seeded(4), "choice": seeded(4), "span": seeded(2, 4)}.get(name, seeded(3, 4))
    state = {
        "labels": classes.encode_names(NAMES),
        "weight": weight,
        "bias": seeded() if name == "regression" else seeded(3),
        "moments": torch.tensor([0.0, 1.0], dtype=torch.float64),
        "embeddings": seeded(3, 4) + 1,
        "delta": seeded(3, 4),
        "raw_scale": seeded(),
    }
    hidden = seeded(*shape).requires_grad_()
    values = [kind.load(state).parameters()[key] for key in trained]

    def loss(hidden: Tensor, *values: Tensor) -> Tensor:
        readout = kind.load(state)
        for key, value in zip(trained, values, strict=True):
            object.__setattr__(readout, key, value)
        return readout.loss(readout.scores(hidden, tokens), gold)

    assert torch.autograd.gradcheck(loss, (hidden, *values))


# soft verbalizer and prototypes


COLUMNS = {"bad": [1.0, 0.0], "worse": [3.0, 0.0], "good": [0.0, 2.0]}
WORDS = {"bad": ("bad", "worse"), "good": ("good",)}


def of_words(words: Sequence[str]) -> tuple[Tensor, Tensor]:
    return torch.tensor([COLUMNS[word] for word in words]), torch.tensor([len(word) / 10 for word in words])


def test_a_soft_verbalizer_starts_as_the_mean_logits_of_words_and_moves_its_vectors_alone() -> None:
    readout = SoftVerbalizer.create(
        task("classification", ["bad", "good"]), 2, GENERATOR, Given(refuse, WORDS, of_words)
    )
    scores = readout.scores(torch.tensor([[2.0, 1.0]]), rows_of(1))
    assert scores.tolist() == [pytest.approx([2 * 2.0 + 0.4, 1 * 2.0 + 0.4])]
    scores[0, 0].backward()
    assert readout.vectors.grad is not None
    assert readout.vectors.grad.tolist() == [[2.0, 1.0], [0.0, 0.0]]
    assert readout.parameters().keys() == {"vectors"}


def test_prototypes_are_the_mean_directions_of_rows() -> None:
    """Rows of bad at (3, 0) and (1, 0), of good at (0, 2): the centre is (1, 1), the directions (2, -1), (0, -1)
    and (-1, 1), all scaled to length 1."""
    rows = torch.tensor([[3.0, 0.0], [1.0, 0.0], [0.0, 2.0]]), torch.tensor([0, 0, 1])
    given = Given(refuse, WORDS, of_words, lambda: rows)
    readout = Prototype.create(task("classification", ["bad", "good"]), 2, GENERATOR, given)
    assert readout.centre.tolist() == [1.0, 1.0]
    bad = torch.tensor([2 / math.sqrt(5), -1 / math.sqrt(5) - 1])
    torch.testing.assert_close(readout.prototypes.detach()[0], bad / bad.norm())
    scores = readout.scores(torch.tensor([[0.0, 2.0]]), rows_of(1))
    cosine = float(torch.tensor([-1.0, 1.0]) @ bad / bad.norm() / math.sqrt(2))
    assert scores.tolist() == [pytest.approx([10 * cosine, 10.0])]


def test_without_rows_a_prototype_is_the_direction_of_its_words() -> None:
    """Columns (2, 0) and (0, 2), less their mean (1, 1)."""
    kept = task("classification", ["bad", "good"])
    for rows in (None, lambda: (torch.zeros(0, 2), torch.zeros(0, dtype=torch.long))):
        readout = Prototype.create(kept, 2, GENERATOR, Given(refuse, WORDS, of_words, rows))
        root = math.sqrt(0.5)
        torch.testing.assert_close(readout.prototypes.detach(), torch.tensor([[root, -root], [-root, root]]))
        assert readout.centre.tolist() == [0.0, 0.0]
