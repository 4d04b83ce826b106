"""The packed forward gives the numbers that transformers gave when tests/golden/make_backbone.py was run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from golden.make_backbone import prompt_values
from promptgraft.model.backbone import Backbone, Batch
from promptgraft.model.load import load_backbone
from promptgraft.prompt.prompt import Prompt, stack

GOLDEN = json.loads(Path(__file__).with_name("backbone.json").read_text(encoding="utf-8"))


pytestmark = pytest.mark.every_path


@pytest.fixture(scope="module")
def backbone(each_path: str, splade_tiny: Path) -> Backbone:
    return load_backbone(splade_tiny)


def golden(name: str, *shape: int) -> torch.Tensor:
    return torch.tensor(GOLDEN[name]).view(*shape)


def test_states_without_a_prompt(backbone: Backbone) -> None:
    ours = backbone.forward(Batch(backbone.tokenize_texts(GOLDEN["texts"])), None, "cls")
    assert (ours - golden("bare", *ours.shape)).abs().max() <= 1e-5


def test_states_and_gradient_with_a_deep_prompt(backbone: Backbone) -> None:
    values = prompt_values(backbone.layers, backbone.hidden).requires_grad_()
    tokens = backbone.tokenize_texts(GOLDEN["texts"])
    owner = torch.zeros(tokens.sequences, dtype=torch.long)
    ours = backbone.forward(Batch(tokens, owner), stack([Prompt(values)]), "cls")
    assert (ours - golden("steered", *ours.shape)).abs().max() <= 1e-5
    (gradient,) = torch.autograd.grad(ours.square().sum(), values)
    wanted = golden("gradient", *values.shape)
    assert (gradient - wanted).abs().max() <= 1e-5 * wanted.abs().max()
