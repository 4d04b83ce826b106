"""Causal models agree with transformers: states, log-probabilities, and gradients of prompts."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from causal_models import FAMILIES, Pair, batch_of, causal_pair, drawn, rows_of, their_logits, their_states
from promptgraft.prompt.prompt import Placement, Prompt, stack

LENGTHS = [7, 1, 12, 3, 12, 2, 20]


ON_EVERY_PATH = ("llama-tied-biased", "qwen2-sliding", "gemma3")


def families() -> Iterator[Any]:
    """Every family; those that are run on every path in a quick run too are marked."""
    for name in FAMILIES:
        yield pytest.param(name, marks=[pytest.mark.every_path] if name in ON_EVERY_PATH else [])


@pytest.fixture(scope="module", params=families())
def pair(each_path: str, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Pair:
    return causal_pair(tmp_path_factory.mktemp(request.param), request.param)


def shared_rows(seed: int = 0) -> tuple[list[list[int]], list[int]]:
    """Rows of one to three answers behind a text of their own, all behind one instruction."""
    (instruction,) = drawn([19], seed)
    texts, answers = drawn([5, 9, 1, 14], seed + 1), drawn([1, 2, 3, 1, 1, 4, 2], seed + 2)
    counts = [3, 1, 2, 1]
    row_of = [row for row, count in enumerate(counts) for _ in range(count)]
    return [instruction + texts[row] + answer for row, answer in zip(row_of, answers, strict=True)], counts


def prompts_of(pair: Pair, lengths: list[int], depth: str, placement: Placement) -> list[Prompt]:
    generator = torch.Generator().manual_seed(9)
    shapes = [
        (pair.ours.prompt_layers, 2, length, pair.ours.key_width) if depth == "deep" else (length, pair.ours.hidden)
        for length in lengths
    ]
    return [Prompt(torch.randn(shape, generator=generator).requires_grad_(), placement) for shape in shapes]


def reference(pair: Pair, sequence: list[int], prompt: Prompt | None) -> Tensor:
    """transformers' states of a sequence's tokens."""
    if prompt is None:
        return their_states(pair.theirs, sequence)
    if prompt.depth == "deep":
        shift = prompt.length if prompt.placement == "peft" else 0
        return their_states(pair.theirs, sequence, deep=prompt.values, shift=shift)
    words = pair.theirs.get_input_embeddings()(torch.tensor(sequence))
    return their_states(pair.theirs, sequence, embeds=torch.cat([prompt.values, words]))[prompt.length :]


def close(ours: Tensor, theirs: Tensor) -> None:
    torch.testing.assert_close(ours, theirs, atol=1e-4 * max(1.0, float(theirs.detach().abs().max())), rtol=1e-4)


def test_states_are_transformers(pair: Pair) -> None:
    sequences = drawn(LENGTHS)
    ours = pair.ours.forward(batch_of(rows_of(sequences)), None, "tokens")
    theirs = [their_states(pair.theirs, sequence) for sequence in sequences]
    close(ours, torch.cat(theirs))
    close(pair.ours.forward(batch_of(rows_of(sequences)), None, "mean"), torch.stack([row.mean(0) for row in theirs]))
    close(pair.ours.forward(batch_of(rows_of(sequences)), None, "mark"), torch.stack([row[-1] for row in theirs]))


def test_a_mark_times_columns_is_the_models_logits(pair: Pair) -> None:
    sequences, counts = shared_rows()
    marks = torch.tensor([len(sequence) - 1 - number % 3 for number, sequence in enumerate(sequences)])
    tokens = dataclasses.replace(rows_of(sequences, counts), marks=marks)
    states = pair.ours.forward(batch_of(tokens), None, "mark")
    weights, biases = pair.ours.columns(torch.arange(300))
    theirs = [pair.theirs.lm_head(their_states(pair.theirs, s)[m]) for s, m in zip(sequences, marks, strict=True)]
    close(states @ weights.T + biases, torch.stack(theirs))


@pytest.mark.parametrize("placement", ["after_cls", "peft"])
@pytest.mark.parametrize("depth", ["deep", "shallow"])
def test_prompts_mixed_by_row(pair: Pair, depth: str, placement: Placement) -> None:
    for sequences, counts in ((drawn(LENGTHS), None), shared_rows()):
        prompts = prompts_of(pair, [4, 1, 7], depth, placement)
        rows = rows_of(sequences, counts)
        of_row = torch.arange(rows.count) % 3
        owner = of_row.repeat_interleave(rows.rows.diff()).tolist()
        ours = pair.ours.forward(batch_of(rows, owner), stack(prompts), "tokens")
        theirs = torch.cat([reference(pair, s, prompts[k]) for s, k in zip(sequences, owner, strict=True)])
        close(ours, theirs)
        values = [prompt.values for prompt in prompts]
        weights = torch.randn(theirs.shape, generator=torch.Generator().manual_seed(1))
        for mine, other in zip(
            torch.autograd.grad((ours * weights).sum(), values),
            torch.autograd.grad((theirs * weights).sum(), values),
            strict=True,
        ):
            close(mine, other)


def test_answers_have_their_log_probability(pair: Pair) -> None:
    sequences, counts = shared_rows()
    rows = rows_of(sequences, counts)
    answers = torch.zeros(len(rows.ids), dtype=torch.bool)
    for number, end in enumerate(rows.starts[1:].tolist()):
        answers[end - 1 - number % 3 : end] = True
    tokens = dataclasses.replace(rows, answers=answers)
    (prompt,) = prompts_of(pair, [3], "deep", "after_cls")
    ours = pair.ours.forward(batch_of(tokens, [0] * tokens.sequences), stack([prompt]), "answer")
    expected = []
    for number, sequence in enumerate(sequences):
        logs = their_logits(pair.theirs, reference(pair, sequence, prompt)).log_softmax(-1)
        expected += [logs[place - 1, sequence[place]] for place in range(len(sequence) - 1 - number % 3, len(sequence))]
    theirs = torch.stack(expected)[:, None]
    close(ours, theirs)
    (mine,), (other,) = (torch.autograd.grad(value.sum(), [prompt.values]) for value in (ours, theirs))
    close(mine, other)


def test_keys_and_values_of_words_continue_as_a_prompt(pair: Pair) -> None:
    (words,), (text,) = drawn([5], 4), drawn([4], 5)
    found = pair.ours.keys_values(torch.tensor(words))
    assert found.shape == (pair.ours.prompt_layers, 2, 5, pair.ours.key_width)
    whole = pair.ours.forward(batch_of(rows_of([words + text])), None, "mark")
    if not any(window is not None and window < 9 for window in pair.ours._shape.windows):
        together = stack([Prompt(found, "peft")])
        close(pair.ours.forward(batch_of(rows_of([text]), [0]), together, "mark"), whole)
    embedded = pair.ours.embed(torch.tensor(words))
    as_vectors = pair.ours.forward(batch_of(rows_of([text]), [0]), stack([Prompt(embedded, "peft")]), "mark")
    close(as_vectors, whole)


def test_a_gradient_of_weights_is_transformers(pair: Pair) -> None:
    sequences = drawn([6, 9, 2])
    weights = {name: weight.clone().requires_grad_() for name, weight in pair.ours.weights.items()}
    ours = pair.ours.with_weights(weights).forward(batch_of(rows_of(sequences)), None, "mark")
    ours.square().sum().backward()
    pair.theirs.requires_grad_(True)
    theirs = torch.stack([their_states(pair.theirs, sequence)[-1] for sequence in sequences])
    theirs.square().sum().backward()
    for name, parameter in pair.theirs.named_parameters():
        plain = name.removeprefix("model.").removeprefix("transformer.")
        grad = weights[plain].grad if plain in weights else None
        if grad is not None and parameter.grad is not None:
            close(grad, parameter.grad)
    pair.theirs.zero_grad()
    pair.theirs.requires_grad_(False)
