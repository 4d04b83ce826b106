"""Matrices that lie one behind the other in memory are stacked without a copy."""

from __future__ import annotations

import gc

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from promptgraft.model.adjoining import stacked


def test_matrices_of_one_file_that_adjoin_share_its_memory(tmp_path):
    whole = torch.randn(10, 8)
    save_file({"a": whole[:4].clone(), "b": whole[4:].clone()}, tmp_path / "model.safetensors")
    with safe_open(tmp_path / "model.safetensors", "pt") as opened:
        parts = [opened.get_tensor(name) for name in "ab"]
    made = stacked(parts)
    assert made.data_ptr() == parts[0].data_ptr()
    del parts
    gc.collect()
    assert torch.equal(made, whole)


def test_matrices_that_lie_apart_or_in_another_order_are_copied():
    whole = torch.randn(10, 8)
    for parts in ([whole[5:], whole[:5]], [whole[:5], whole[6:]], [whole[:, :4], whole[:, 4:]]):
        made = stacked(parts)
        assert torch.equal(made, torch.cat(parts))
        assert made.data_ptr() != parts[0].data_ptr()


def test_of_two_types_the_copy_has_the_wider_one():
    room = torch.zeros(64, dtype=torch.uint8)
    parts = [room[:32].view(torch.float32).view(2, 4), room[32:48].view(torch.bfloat16).view(2, 4)]
    assert stacked(parts).dtype == torch.float32


def test_matrices_that_learn_have_their_gradients():
    whole = torch.randn(10, 8)
    parts = [whole[:5].requires_grad_(), whole[5:].requires_grad_()]
    stacked(parts).sum().backward()
    assert all(torch.equal(part.grad, torch.ones_like(part)) for part in parts)
