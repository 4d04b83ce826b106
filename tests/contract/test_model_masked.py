"""Masked models with trained weights give transformers' logits at a mask, whatever prompt stands before it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor

from contract.test_model_families import Pair, deep_prompt, shallow_prompt, shallow_reference, theirs
from promptgraft.model.backbone import Batch
from promptgraft.model.load import load_backbone
from promptgraft.model.packed import PackedBackbone
from promptgraft.model.tokens import Tokens
from promptgraft.prompt.prompt import Prompt, stack

TEXTS = {
    "splade_tiny": [
        "it was [MASK] .",
        "the capital of france is [MASK]",
        "[MASK]",
        "a [MASK] and unsentimental drama .",
    ],
    "albert_tiny_zh": ["今天天[MASK]很好。", "[MASK]", "他是一名大學老[MASK]，住在北京。", "總之很[MASK]。"],
}
pytestmark = pytest.mark.every_path


@pytest.fixture(scope="module", params=TEXTS)
def pair(each_path: str, request: pytest.FixtureRequest) -> Pair:
    folder: Path = request.getfixturevalue(request.param)
    whole = transformers.AutoModelForMaskedLM.from_pretrained(folder).eval()
    return Pair(request.param.partition("_")[0], whole, folder)


@pytest.fixture(scope="module")
def tokens(pair: Pair) -> Tokens:
    texts = next(texts for name, texts in TEXTS.items() if name.startswith(pair.name))
    plain = pair.ours.tokenize_texts(texts)
    places = (plain.ids == ours(pair).mask).nonzero().flatten()
    return Tokens(plain.ids, plain.types, plain.starts, plain.rows, marks=places - plain.starts[:-1])


def ours(pair: Pair) -> PackedBackbone:
    assert isinstance(pair.ours, PackedBackbone)
    return pair.ours


def logits(pair: Pair, states: Tensor) -> Tensor:
    words, biases = ours(pair).columns(torch.arange(pair.theirs.config.vocab_size))
    return states @ words.T + biases


def wanted_logits(pair: Pair, states: Tensor) -> Tensor:
    """The logits of transformers' own head."""
    head = pair.whole.cls if hasattr(pair.whole, "cls") else pair.whole.predictions
    done: Tensor = head(states)
    return done


def assert_alike(pair: Pair, mine: Tensor, reference: Tensor, prompts: list[tuple[Tensor, Tensor]]) -> None:
    """Logits and the gradients of prompts, each with what it is by reference, are equal."""
    torch.testing.assert_close(mine, reference, atol=1e-4, rtol=0)
    weight = torch.randn(mine.shape, generator=torch.Generator().manual_seed(5))
    (mine * weight).sum().backward()
    (reference * weight).sum().backward()
    for prompt, other in prompts:
        assert prompt.grad is not None
        assert other.grad is not None
        assert (prompt.grad - other.grad).abs().max() <= 1e-4 * other.grad.abs().max()


def test_logits_without_a_prompt(pair: Pair, tokens: Tokens) -> None:
    assert tokens.marks is not None
    reference = wanted_logits(pair, theirs(pair, tokens)[torch.arange(tokens.sequences), tokens.marks])
    mine = logits(pair, pair.ours.forward(Batch(tokens), None, "mark"))
    torch.testing.assert_close(mine, reference, atol=1e-4, rtol=0)
    assert torch.equal(mine.argmax(1), reference.argmax(1))


@pytest.mark.parametrize("depth", ["deep", "shallow"])
@pytest.mark.parametrize("placement", ["after_cls", "peft"])
def test_logits_and_gradients_with_prompts_mixed_by_row(pair: Pair, tokens: Tokens, depth: str, placement: Any) -> None:
    assert tokens.marks is not None
    which = torch.tensor([1, 0, 1, 0])
    make = deep_prompt if depth == "deep" else shallow_prompt
    mine, reference = ([0.3 * make(pair, length, length) for length in (2, 5)] for _ in range(2))
    for prompt in (*mine, *reference):
        prompt.requires_grad_()
    states = pair.ours.forward(Batch(tokens, which), stack([Prompt(values, placement) for values in mine]), "mark")
    rows = []
    for row, prompt in enumerate(which.tolist()):
        alone, mark, values = tokens.select(torch.tensor([row])), int(tokens.marks[row]), reference[prompt]
        if depth == "deep":
            shift = len(values[0, 0]) if placement == "peft" else 0
            rows.append(theirs(pair, alone, values, shift)[0, mark])
        else:
            ahead = 1 if placement == "after_cls" else 0
            rows.append(shallow_reference(pair, alone, values, ahead)[mark if mark < ahead else mark + len(values)])
    assert_alike(
        pair, logits(pair, states), wanted_logits(pair, torch.stack(rows)), list(zip(mine, reference, strict=True))
    )


def test_words_stand_as_they_do_inside_a_sentence(splade_tiny: Path) -> None:
    backbone = load_backbone(splade_tiny)
    assert isinstance(backbone, PackedBackbone)
    inside = backbone.tokenize_texts(["the film was great , not unsentimental"]).ids.tolist()
    for ids in backbone.word_ids(["great", "unsentimental"]):
        assert any(inside[at : at + len(ids)] == ids for at in range(len(inside)))
