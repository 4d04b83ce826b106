"""Selecting and joining rows loses nothing and mixes nothing up."""

from __future__ import annotations

import itertools
from dataclasses import replace

import torch
from hypothesis import given
from hypothesis import strategies as st

from promptgraft.model.tokens import Tokens, concatenate

Rows = list[list[list[int]]]
rows_of_tokens = st.lists(
    st.lists(st.lists(st.integers(0, 99), min_size=1, max_size=5), min_size=1, max_size=3), min_size=1, max_size=8
)


def packed(rows: Rows) -> Tokens:
    """Rows of sequences of ids; word indices and characters are told from the ids so that they can be followed."""
    flat = [token for row in rows for sequence in row for token in sequence]
    ids = torch.tensor(flat)
    starts = torch.tensor([0, *(len(sequence) for row in rows for sequence in row)]).cumsum(0)
    bounds = torch.tensor([0, *map(len, rows)]).cumsum(0)
    words = torch.where(ids % 2 == 0, ids, -1)
    return Tokens(ids, ids % 2, starts, bounds, words, torch.stack([ids, ids + 1], 1))


def unpacked(tokens: Tokens) -> Rows:
    sequences = [one.tolist() for one in tokens.ids.split(tokens.lengths.tolist())]
    bounds = tokens.rows.tolist()
    return [sequences[first:last] for first, last in itertools.pairwise(bounds)]


def assert_all_fields_follow(tokens: Tokens) -> None:
    assert tokens.words is not None
    assert tokens.chars is not None
    assert torch.equal(tokens.types, tokens.ids % 2)
    assert torch.equal(tokens.words, torch.where(tokens.ids % 2 == 0, tokens.ids, -1))
    assert torch.equal(tokens.chars, torch.stack([tokens.ids, tokens.ids + 1], 1))


@given(rows_of_tokens, st.data())
def test_select_gives_the_rows_that_were_named(rows: Rows, data: st.DataObject) -> None:
    index = data.draw(st.lists(st.integers(0, len(rows) - 1), max_size=12))
    chosen = packed(rows).select(torch.tensor(index, dtype=torch.long))
    assert unpacked(chosen) == [rows[row] for row in index]
    assert_all_fields_follow(chosen)
    assert chosen.row_words.diff().tolist() == [
        sum(token % 2 == 0 for sequence in rows[row] for token in sequence) for row in index
    ]


@given(rows_of_tokens, st.data())
def test_a_part_is_what_select_gives(rows: Rows, data: st.DataObject) -> None:
    first = data.draw(st.integers(0, len(rows)))
    last = data.draw(st.integers(first, len(rows)))
    tokens = packed(rows)
    cut, selected = tokens.part(first, last), tokens.select(torch.arange(first, last))
    assert unpacked(cut) == unpacked(selected) == rows[first:last]
    assert_all_fields_follow(cut)


def test_what_only_some_batches_have_is_marked_as_missing_in_the_others() -> None:
    whole, bare = packed([[[1, 2]]]), Tokens(*(torch.tensor(one) for one in ([3], [1], [0, 1], [0, 1])))
    joined = concatenate([bare, whole])
    assert joined.words is not None
    assert joined.words.tolist() == [-1, -1, 2]
    assert joined.chars is not None
    assert joined.chars.tolist() == [[-1, -1], [1, 2], [2, 3]]
    assert concatenate([bare, bare]).words is None


@given(st.lists(rows_of_tokens, min_size=1, max_size=4))
def test_concatenate_puts_rows_one_after_the_other(parts: list[Rows]) -> None:
    joined = concatenate([packed(part) for part in parts])
    assert unpacked(joined) == [row for part in parts for row in part]
    assert_all_fields_follow(joined)


@given(rows_of_tokens, st.randoms(use_true_random=False))
def test_joining_single_rows_again_is_the_whole(rows: Rows, random: object) -> None:
    whole = packed(rows)
    singles = [whole.select(torch.tensor([row])) for row in range(whole.count)]
    again = concatenate(singles)
    for field in ("ids", "types", "starts", "rows", "words", "chars"):
        assert torch.equal(getattr(again, field), getattr(whole, field))


def test_marks_and_answers_go_with_their_sequences() -> None:
    tokens = Tokens(
        torch.tensor([5, 6, 7, 8, 9]),
        torch.zeros(5, dtype=torch.long),
        torch.tensor([0, 2, 5]),
        torch.tensor([0, 1, 2]),
        marks=torch.tensor([1, 2]),
        answers=torch.tensor([False, True, False, False, True]),
    )
    taken = tokens.select(torch.tensor([1, 0]))
    assert taken.marks is not None
    assert taken.marks.tolist() == [2, 1]
    assert taken.answers is not None
    assert taken.answers.tolist() == [False, False, True, False, True]
    joined = concatenate([tokens.part(1, 2), replace(tokens.part(0, 1), marks=None, answers=None)])
    assert joined.marks is not None
    assert joined.marks.tolist() == [2, -1]
    assert joined.answers is not None
    assert joined.answers.tolist() == [False, False, True, False, False]
