"""A step is cut between runs into pieces that are near a size, and alike."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from promptgraft.train.loop import pieces


@given(st.lists(st.integers(1, 3000), min_size=1, max_size=40), st.integers(1, 5000))
def test_every_run_is_in_one_piece_and_no_piece_is_far_above_the_size(sizes: list[int], most: int) -> None:
    found = list(pieces(sizes, most))
    assert [run for piece in found for run in piece] == list(range(len(sizes)))
    assert len(found) <= math.ceil(sum(sizes) / most)
    for piece in found:
        assert len(piece) == 1 or sum(sizes[run] for run in piece) <= most + max(sizes[run] for run in piece)


@given(st.integers(1, 40), st.integers(1, 3000), st.integers(1, 5000))
def test_runs_of_one_size_are_cut_alike(runs: int, size: int, most: int) -> None:
    counts = [len(piece) for piece in pieces([size] * runs, most)]
    assert max(counts) - min(counts) <= 1
