"""Shapes in signatures are checked while the tests run, so that they cannot lie."""

from __future__ import annotations

import jaxtyping
import pytest
import torch

from promptgraft.errors import PromptgraftError
from promptgraft.model.tokens import Tokens, gather


def test_a_wrong_rank_raises() -> None:
    with pytest.raises(jaxtyping.TypeCheckError):
        gather(torch.tensor([0, 1]), torch.zeros(1, 1, dtype=torch.long))


def test_a_wrong_dtype_raises() -> None:
    with pytest.raises(jaxtyping.TypeCheckError):
        gather(torch.tensor([0.0, 1.0]), torch.tensor([0]))


def test_a_right_shape_passes() -> None:
    picked, starts = gather(torch.tensor([0, 2, 5]), torch.tensor([1, 0]))
    assert picked.tolist() == [2, 3, 4, 0, 1]
    assert starts.tolist() == [0, 3, 5]


def test_a_wrong_shape_inside_a_value_raises() -> None:
    ids = torch.zeros(3, dtype=torch.long)
    with pytest.raises(jaxtyping.TypeCheckError):
        Tokens(ids, types=ids[:2], starts=torch.tensor([0, 3]), rows=torch.tensor([0, 1]))


def test_other_types_are_left_to_mypy() -> None:
    assert str(PromptgraftError(17)) == "17"  # type: ignore[arg-type]
