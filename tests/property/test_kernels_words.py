"""Log-probabilities of words in pieces are those of a softmax over all of them."""

from __future__ import annotations

import pytest
import torch

from promptgraft.kernels import words
from promptgraft.kernels.words import log_probabilities


@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize("pieces", [1, 3, 100])
def test_pieces_give_values_and_gradients_of_the_whole(
    monkeypatch: pytest.MonkeyPatch, pieces: int, biased: bool
) -> None:
    monkeypatch.setattr(words, "PIECE_SCORES", 11 * pieces)
    generator = torch.Generator().manual_seed(0)
    states = torch.randn(7, 4, generator=generator).requires_grad_()
    columns = torch.randn(11, 4, generator=generator).requires_grad_()
    bias = torch.randn(11, generator=generator).requires_grad_() if biased else None
    ids = torch.randint(0, 11, (7,), generator=generator)
    given = log_probabilities(states, ids, columns, bias)
    scores = states @ columns.T + (0 if bias is None else bias)
    wanted = scores.log_softmax(1).gather(1, ids[:, None])
    torch.testing.assert_close(given, wanted)
    inputs = [each for each in (states, columns, bias) if each is not None]
    for got, expected in zip(
        torch.autograd.grad(given.square().sum(), inputs),
        torch.autograd.grad(wanted.square().sum(), inputs),
        strict=True,
    ):
        torch.testing.assert_close(got, expected)


def test_no_states_give_no_scores() -> None:
    states = torch.zeros(0, 4, requires_grad=True)
    assert log_probabilities(states, torch.zeros(0, dtype=torch.long), torch.zeros(5, 4)).shape == (0, 1)
