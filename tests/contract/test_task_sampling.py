"""Samples are balanced, by seed, and say what they took."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from promptgraft.errors import UsageError
from promptgraft.task.sampling import cap, few_shot, split_validation, within
from promptgraft.task.task import Example, Task


def made(train: dict[str, int], validation: dict[str, int] | None = None) -> Task:
    def rows(counts: dict[str, int], split: str) -> tuple[Example, ...]:
        return tuple(Example(f"{split} {label} {n}", label=label) for label, k in counts.items() for n in range(k))

    splits = {"train": rows(train, "train"), "test": rows({"a": 2, "b": 2}, "test")}
    if validation:
        splits["validation"] = rows(validation, "validation")
    return Task("t", "classification", "accuracy", dict.fromkeys(train, ""), splits)


def counts(examples: tuple[Example, ...]) -> dict[str, int]:
    return dict(Counter(str(example.label) for example in examples))


def test_shots_are_a_class_in_train_and_in_validation() -> None:
    task = made({"a": 50, "b": 30}, {"a": 20, "b": 20})
    few = few_shot(task, 8, seed=0)
    assert counts(few.train) == counts(few.validation) == {"a": 8, "b": 8}
    assert {e.text.split()[0] for e in few.validation} == {"validation"}
    assert few.test == task.test
    assert few.notes == (
        "8 shots by seed 0: 16 train rows, 16 validation rows from the validation split"
        " (labels used: 2 x 8 a class, as in LM-BFF)",
    )
    assert few_shot(task, 8, seed=0).fingerprint == few.fingerprint
    assert few_shot(task, 8, seed=1).fingerprint != few.fingerprint


def test_without_a_validation_split_the_rest_of_train_serves() -> None:
    few = few_shot(made({"a": 50, "b": 12}), 8, seed=3)
    assert counts(few.train) == {"a": 8, "b": 8}
    assert counts(few.validation) == {"a": 8, "b": 4}
    assert not set(few.train) & set(few.validation)
    assert few.notes[1:] == ("validation: fewer than 8 rows: 'b' 4",)


def test_a_class_with_fewer_rows_gives_all_it_has() -> None:
    few = few_shot(made({"a": 50, "b": 3, "c": 0}, {"a": 9, "b": 9, "c": 9}), 8, seed=3)
    assert counts(few.train) == {"a": 8, "b": 3}
    assert few.notes[1:] == ("train: fewer than 8 rows: 'b' 3, 'c' 0",)


def test_many_small_classes_make_one_short_note() -> None:
    few = few_shot(made(dict.fromkeys("abcdefg", 1), dict.fromkeys("abcdefg", 9)), 2, seed=3)
    assert few.notes[1:] == ("train: fewer than 2 rows: 'a' 1, 'b' 1, 'c' 1, 'd' 1, 'e' 1, ...",)


def test_no_shots_leave_only_the_test() -> None:
    few = few_shot(made({"a": 50, "b": 3}, {"a": 9, "b": 9}), 0, seed=3)
    assert (few.train, few.validation, len(few.test)) == ((), (), 4)
    with pytest.raises(UsageError, match=r"^-1 shots; give 0 or more$"):
        few_shot(made({"a": 1}), -1, seed=3)


def test_kinds_without_classes_get_eight_rows_a_shot() -> None:
    rows = tuple(Example(f"row {n}", label=n / 3) for n in range(100))
    task = Task("t", "regression", "pearson_spearman", {}, {"train": rows, "test": rows[:5]})
    few = few_shot(task, 4, seed=0)
    assert (len(few.train), len(few.validation)) == (32, 32)
    assert "(labels used: 2 x 32, as in LM-BFF)" in few.notes[0]
    assert len(few_shot(task, 10, seed=0).validation) == 20
    choices = tuple(Example(f"row {n}", choices=("x", "y"), label="xy"[n % 2]) for n in range(100))
    few = few_shot(Task("t", "choice", "accuracy", {}, {"train": choices}), 4, seed=0)
    assert (len(few.train), len(few.validation)) == (32, 32)


@given(st.integers(0, 12), st.integers(0, 12), st.integers(0, 5))
def test_fewer_shots_are_among_more(few: int, more: int, seed: int) -> None:
    task = made({"a": 10, "b": 30}, {"a": 20, "b": 20})
    small, large = (few_shot(task, k, seed).train for k in sorted((few, more)))
    assert set(small) <= set(large)


def test_a_validation_split_is_cut_class_by_class_once() -> None:
    task = made({"a": 50, "b": 10, "c": 2})
    done = split_validation(task, 0.2, seed=0)
    assert counts(done.validation) == {"a": 10, "b": 2}
    assert sorted(e.text for e in done.train + done.validation) == sorted(e.text for e in task.train)
    assert done.notes == ("no validation split: 12 of 62 train rows are it, by seed 0",)
    assert split_validation(done, 0.2, seed=0) is done
    with pytest.raises(UsageError, match=r"^a validation share of 1.5; give one between 0 and 1$"):
        split_validation(task, 1.5, seed=0)


def test_a_cap_keeps_the_proportions() -> None:
    task = made({"a": 60, "b": 30, "c": 10})
    capped = cap(task, "train", 10, seed=0)
    assert counts(capped.train) == {"a": 6, "b": 3, "c": 1}
    assert capped.notes == ("train: 10 of 100 rows, by seed 0",)
    assert cap(task, "train", 100, seed=0) is task
    assert cap(task, "validation", 5, seed=0) is task


@given(st.dictionaries(st.sampled_from("abcde"), st.integers(1, 40), min_size=1), st.integers(1, 60))
def test_a_cap_is_exact_and_in_file_order(sizes: dict[str, int], rows: int) -> None:
    task = made(sizes)
    capped = cap(task, "train", rows, seed=1)
    assert len(capped.train) == min(rows, len(task.train))
    where = [task.train.index(example) for example in capped.train]
    assert where == sorted(set(where))


@pytest.mark.parametrize(("shots", "held"), [(1, 0), (2, 1), (4, 1), (8, 2), (16, 4), (30, 8)])
def test_within_the_labelled_rows_a_quarter_of_each_class_is_for_validation(shots: int, held: int) -> None:
    task = made({"a": 50, "b": 40}, {"a": 20, "b": 9})
    drawn = within(task, shots, seed=0, validated=True)
    assert counts(drawn.validation) == ({"a": held, "b": held} if held else {})
    assert set(drawn.train + drawn.validation) == set(few_shot(task, shots, 0).train)
    every = within(task, shots, seed=0, validated=False)
    assert (every.train, every.validation) == (few_shot(task, shots, 0).train, ())
    assert f"{shots} shots by seed 0: {2 * shots} labelled rows" in every.notes


def test_within_all_rows_a_given_validation_split_stays_and_else_is_trained_on() -> None:
    task = made({"a": 50, "b": 2}, {"a": 20, "b": 9})
    assert within(task, None, seed=0, validated=True) is task
    every = within(task, None, seed=0, validated=False)
    assert (every.train, every.validation) == (task.train + task.validation, ())
    held = within(every, None, seed=0, validated=True)
    assert counts(held.validation) == {"a": 18, "b": 3}
    assert len(within(made({"a": 9000, "b": 1000}), None, seed=0, validated=True).validation) == 500


def test_within_a_class_that_has_too_few_is_said() -> None:
    drawn = within(made({"a": 50, "b": 3}), 8, seed=3, validated=True)
    assert (counts(drawn.train), counts(drawn.validation)) == ({"a": 6, "b": 2}, {"a": 2, "b": 1})
    assert "train: fewer than 8 rows: 'b' 3" in drawn.notes
    with pytest.raises(UsageError, match="-1 shots"):
        within(made({"a": 1}), -1, seed=3, validated=True)


NAMES = ("a", "b", "c", "d")
SETS = st.lists(st.frozensets(st.sampled_from(NAMES), max_size=3), min_size=1, max_size=60)


def of_sets(sets: list[frozenset[str]]) -> Task:
    rows = tuple(Example(f"text {n}", label=tuple(sorted(labels))) for n, labels in enumerate(sets))
    return Task("t", "multilabel", "micro_f1", dict.fromkeys(NAMES, ""), {"train": rows})


def having(examples: tuple[Example, ...], name: str) -> int:
    """Rows with a label; those without any for the empty name."""
    return sum(name in row.label if name else row.label == () for row in examples if isinstance(row.label, tuple))


@given(SETS, st.integers(1, 6), st.integers(0, 9))
def test_shots_of_several_labels_are_at_least_so_many_of_each(
    sets: list[frozenset[str]], shots: int, seed: int
) -> None:
    task = of_sets(sets)
    few = few_shot(task, shots, seed)
    for name in (*NAMES, ""):
        assert having(few.train, name) >= min(shots, having(task.train, name))
    assert len(few.train) <= shots * (len(NAMES) + 1)
    assert set(few.train) <= set(few_shot(task, shots + 1, seed).train)
    assert few.train == few_shot(task, shots, seed).train


def test_shots_of_several_labels_say_what_they_count() -> None:
    task = of_sets([frozenset("ab"), frozenset("b"), frozenset("c"), frozenset()] * 9 + [frozenset("d")])
    few = few_shot(task, 4, 0)
    assert "(labels used: 2 x 4 a label, as in LM-BFF)" in few.notes[0]
    assert few.notes[1:] == ("train: fewer than 4 rows: 'd' 1", "validation: fewer than 4 rows: 'd' 0")


def test_rare_labels_are_spread_over_the_parts() -> None:
    task = of_sets([frozenset("a")] * 40 + [frozenset("ad")] * 10 + [frozenset("abd"), frozenset("b")] * 5)
    parts = split_validation(task, 0.2, 3)
    assert (len(parts.validation), having(parts.validation, "b")) == (12, 2)
    assert 2 <= having(parts.validation, "d") <= 4
    small = cap(task, "train", 12, 0)
    assert (len(small.train), having(small.train, "b")) == (12, 2)
    assert 2 <= having(small.train, "d") <= 4
