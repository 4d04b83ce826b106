"""Log-probabilities of words in pieces are those of a softmax over all of them."""

from __future__ import annotations

import pytest
import torch

from promptgraft.kernels import logits
from promptgraft.kernels.logits import log_probabilities


@pytest.mark.parametrize("cap", [None, 2.0])
@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize("pieces", [1, 3, 100])
def test_pieces_give_values_and_gradients_of_the_whole(
    monkeypatch: pytest.MonkeyPatch, pieces: int, biased: bool, cap: float | None
) -> None:
    monkeypatch.setattr(logits, "MOST_LOGITS", 11 * pieces)
    generator = torch.Generator().manual_seed(0)
    states = torch.randn(7, 4, generator=generator).requires_grad_()
    columns = torch.randn(11, 4, generator=generator).requires_grad_()
    bias = torch.randn(11, generator=generator) if biased else None
    ids, rows = torch.randint(0, 11, (9,), generator=generator), torch.tensor([3, 0, 1, 2, 6, 5, 4, 3, 3])
    given = log_probabilities(states, ids, rows, columns, cap, bias)
    scores = states @ columns.T + (0 if bias is None else bias)
    capped = scores if cap is None else cap * (scores / cap).tanh()
    wanted = capped.log_softmax(1)[rows, ids]
    torch.testing.assert_close(given, wanted)
    inputs = [states, columns]
    grads = [torch.autograd.grad(each.square().sum(), inputs) for each in (given, wanted)]
    for got, expected in zip(*grads, strict=True):
        torch.testing.assert_close(got, expected)


def test_no_states_give_no_scores() -> None:
    states, none = torch.zeros(0, 4, requires_grad=True), torch.zeros(0, dtype=torch.long)
    assert log_probabilities(states, none, none, torch.zeros(5, 4)).shape == (0,)
