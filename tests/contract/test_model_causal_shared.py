"""What a causal backbone promises beside transformers' values: what is shared, what is kept, and what is refused."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
import torch
from torch import Tensor

from causal_models import FAMILIES, Pair, batch_of, causal_folder, causal_pair, drawn, rows_of
from promptgraft.errors import ModelError, RunError
from promptgraft.kernels import causal
from promptgraft.model import decoder
from promptgraft.model.backbone import Backbone, Batch, Speaks
from promptgraft.model.load import load_backbone
from promptgraft.model.tokens import SOFT
from promptgraft.prompt.prompt import Prompt, stack
from promptgraft.train import predict

(INSTRUCTION,) = drawn([30], 7)


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    return causal_pair(tmp_path_factory.mktemp("llama"), "llama")


@pytest.fixture(scope="module", params=["qwen2-sliding", "gemma2", "gpt2"])
def sliding(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Pair:
    return causal_pair(tmp_path_factory.mktemp(request.param), request.param)


def deep(pair: Pair, length: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(pair.ours.prompt_layers, 2, length, pair.ours.key_width, generator=generator)


def alone(pair: Pair, sequences: list[list[int]], prompts: list[Prompt] | None = None) -> Tensor:
    """Each sequence in a pass of its own, by a backbone that keeps nothing."""
    fresh = pair.ours.with_weights(dict(pair.ours.weights))
    states = []
    for number, sequence in enumerate(sequences):
        prompt = None if prompts is None else stack([prompts[number % len(prompts)]])
        states.append(fresh.forward(batch_of(rows_of([sequence]), None if prompt is None else [0]), prompt, "mark"))
    return torch.cat(states)


def test_it_keeps_both_contracts(pair: Pair) -> None:
    assert isinstance(pair.ours, Backbone)
    assert isinstance(pair.ours, Speaks)
    assert pair.ours.reads == {"mark", "answer", "mean", "tokens"}


def computed(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Takes down how many rows each pass computes."""
    counts: list[int] = []
    embedded = type(pair.ours)._embedded

    def counted(self, decoder, grown, prompts):  # type: ignore[no-untyped-def]
        counts.append(len(grown.codes))
        return embedded(self, decoder, grown, prompts)

    monkeypatch.setattr(type(pair.ours), "_embedded", counted)
    return counts


def test_a_shared_beginning_is_computed_once_and_kept_for_later_batches(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [INSTRUCTION + text for text in drawn([4, 7, 2, 9], 1)]
    ours = pair.ours.with_weights(dict(pair.ours.weights))
    expected = alone(pair, rows)
    counts = computed(pair, monkeypatch)
    torch.testing.assert_close(ours.forward(batch_of(rows_of(rows)), None, "mark"), expected, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(ours.forward(batch_of(rows_of(rows)), None, "mark"), expected, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(
        ours.forward(batch_of(rows_of(rows[:1])), None, "mark"), expected[:1], atol=1e-4, rtol=1e-4
    )
    assert counts == [30 + 22, 22, 4]


def test_answers_of_a_row_share_its_text(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    texts, ends = drawn([8, 11], 2), drawn([2, 1, 3], 3)
    sequences = [INSTRUCTION + text + end for text in texts for end in ends]
    expected = alone(pair, sequences)
    ours = pair.ours.with_weights(dict(pair.ours.weights))
    counts = computed(pair, monkeypatch)
    states = ours.forward(batch_of(rows_of(sequences, [3, 3])), None, "mark")
    torch.testing.assert_close(states, expected, atol=1e-4, rtol=1e-4)
    assert counts == [30 + 8 + 11 + 2 * 6]


@pytest.mark.parametrize("depth", ["deep", "shallow"])
def test_each_prompt_has_its_own_beginning(pair: Pair, depth: str, monkeypatch: pytest.MonkeyPatch) -> None:
    values = [deep(pair, length, length) if depth == "deep" else torch.randn(length, 24) for length in (3, 5)]
    prompts = [Prompt(value) for value in values]
    rows = [INSTRUCTION + text for text in drawn([4, 7, 2, 9, 1], 1)]
    expected = alone(pair, rows, prompts)
    ours = pair.ours.with_weights(dict(pair.ours.weights))
    batch = batch_of(rows_of(rows), [0, 1, 0, 1, 0])
    counts = computed(pair, monkeypatch)
    for _ in range(2):
        torch.testing.assert_close(ours.forward(batch, stack(prompts), "mark"), expected, atol=1e-4, rtol=1e-4)
    assert counts == [23 + 60 + (8 if depth == "shallow" else 0), 23]
    swapped = ours.forward(batch, stack(prompts[::-1]), "mark")  # what is kept belongs to a prompt's content
    torch.testing.assert_close(swapped, alone(pair, rows, prompts[::-1]), atol=1e-4, rtol=1e-4)


def test_what_is_kept_never_stands_for_a_prompt_that_learns(pair: Pair) -> None:
    rows = rows_of([INSTRUCTION + text for text in drawn([4, 7], 1)])
    values = deep(pair, 3)
    ours = pair.ours.with_weights(dict(pair.ours.weights))
    for factor in (1.0, 2.0):
        learning = (factor * values).requires_grad_()
        ours.forward(batch_of(rows, [0, 0]), stack([Prompt(factor * values)]), "mark")
        states = ours.forward(batch_of(rows, [0, 0]), stack([Prompt(learning)]), "mark")
        fresh = pair.ours.with_weights(dict(pair.ours.weights))
        expected = fresh.forward(batch_of(rows, [0, 0]), stack([Prompt(learning)]), "mark")
        torch.testing.assert_close(states, expected, atol=1e-4, rtol=1e-4)
        (mine,), (other,) = (torch.autograd.grad(value.square().sum(), [learning]) for value in (states, expected))
        torch.testing.assert_close(mine, other, atol=1e-4, rtol=1e-4)


def test_sharing_knows_what_slides(sliding: Pair) -> None:
    texts, ends = drawn([8, 11, 3], 2), drawn([2, 1, 3], 3)
    sequences = [INSTRUCTION + text + end for text in texts for end in ends]
    prompts = [Prompt(deep(sliding, 4), "peft")]
    for prompt in (None, prompts):
        expected = alone(sliding, sequences, prompt)
        ours = sliding.ours.with_weights(dict(sliding.ours.weights))
        for _ in range(2):
            batch = batch_of(rows_of(sequences, [3, 3, 3]), None if prompt is None else [0] * 9)
            states = ours.forward(batch, None if prompt is None else stack(prompt), "mark")
            torch.testing.assert_close(states, expected, atol=1e-4, rtol=1e-4)


def test_an_instruction_in_one_row_changes_no_other_row(pair: Pair) -> None:
    texts = drawn([6, 9, 4], 5)
    before = pair.ours.forward(batch_of(rows_of(texts)), None, "mark")
    after = pair.ours.forward(batch_of(rows_of([texts[0], INSTRUCTION + texts[1], texts[2]])), None, "mark")
    torch.testing.assert_close(after[[0, 2]], before[[0, 2]], atol=1e-5, rtol=1e-5)


def test_soft_slots_of_a_template_take_the_prompts_vectors(pair: Pair) -> None:
    vectors, rows = torch.randn(3, 24), drawn([4, 6], 1)
    (left, right) = drawn([2, 3], 2)
    with_slots = [left + [SOFT] * 2 + row + [SOFT] + right for row in rows]
    states = pair.ours.forward(batch_of(rows_of(with_slots), [0, 0]), stack([Prompt(vectors, "template")]), "mark")
    for state, row in zip(states, rows, strict=True):
        parts = [pair.ours.embed(torch.tensor(part)) for part in (left, row, right)]
        embeds = torch.cat([parts[0], vectors[:2], parts[1], vectors[2:], parts[2]])
        theirs = pair.theirs.base_model(inputs_embeds=embeds[None]).last_hidden_state[0, -1]
        torch.testing.assert_close(state, theirs, atol=1e-4, rtol=1e-4)


def test_bf16_is_close(pair: Pair, tmp_path: Path) -> None:
    causal_folder(tmp_path, "llama")
    half = load_backbone(tmp_path, dtype="bf16")
    rows = batch_of(rows_of([INSTRUCTION + text for text in drawn([4, 7, 2, 9], 1)]), [0] * 4)
    prompt = stack([Prompt(deep(pair, 3))])
    exact, close = (backbone.forward(rows, prompt, "mark") for backbone in (pair.ours, half))
    assert torch.nn.functional.cosine_similarity(exact, close).min() > 0.99
    assert half.fingerprint == pair.ours.fingerprint


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ({"sequences": [[5] * 97]}, "take 97 positions, the backbone has 96"),
        ({"sequences": [[5] * 93], "prompt": "peft"}, "take 97 positions"),
        ({"sequences": [[5], []]}, "an empty text has no token"),
        ({"sequences": [[5, SOFT]]}, "no prompt with placement 'template'"),
        ({"sequences": [[5, 6]], "read": "cls"}, "cannot be read at 'cls'"),
        ({"sequences": [[5, 6]], "read": "answer"}, "rows without answers"),
    ],
)
def test_what_cannot_be_is_one_line(pair: Pair, arguments: dict, line: str) -> None:  # type: ignore[type-arg]
    tokens = rows_of(arguments["sequences"])
    placement = arguments.get("prompt")
    prompts = None if placement is None else stack([Prompt(deep(pair, 4), placement)])
    with pytest.raises((RunError, ModelError), match=line):
        pair.ours.forward(batch_of(tokens, None if prompts is None else [0]), prompts, arguments.get("read", "mark"))


def test_an_answer_needs_a_token_before_it(pair: Pair) -> None:
    tokens = dataclasses.replace(rows_of([[5, 6]]), answers=torch.tensor([True, False]))
    with pytest.raises(RunError, match="nothing before it"):
        pair.ours.forward(batch_of(tokens), None, "answer")


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"rope_parameters": {"rope_type": "yarn", "factor": 2.0}}, "'yarn'"),
        ({"rope_parameters": {"rope_type": "linear"}}, "lack a usable number"),
        ({"hidden_act": "tanh"}, "activation 'tanh'"),
        ({"num_key_value_heads": 3}, "do not fit 3 heads of keys"),
        ({"num_hidden_layers": 4}, "lack 'layers.3"),
        ({"layer_types": ["linear_attention"] * 3}, "layer_types"),
        ({"vocab_size": 400}, "embed_tokens.weight is"),
    ],
)
def test_a_config_that_asks_for_more_is_one_line(tmp_path: Path, change: dict, line: str) -> None:  # type: ignore[type-arg]
    causal_folder(tmp_path, "llama")
    path = tmp_path / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(ModelError, match=line) as caught:
        load_backbone(tmp_path)
    assert "\n" not in str(caught.value)


def test_every_family_is_listed() -> None:
    assert {family for family, _ in FAMILIES.values()} == set(decoder.FAMILIES)


def test_a_large_shared_block_is_attended_to_at_once_with_the_same_values(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [INSTRUCTION + text for text in drawn([14, 9, 11], 1)]
    expected = alone(pair, rows)
    monkeypatch.setattr(causal, "LEAST_AT_ONCE", 1)
    ours = pair.ours.with_weights(dict(pair.ours.weights))
    for _ in range(2):
        with torch.no_grad():
            states = ours.forward(batch_of(rows_of(rows)), None, "mark")
        torch.testing.assert_close(states, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("room", [4096, 40])
def test_answers_of_a_row_stay_together_when_many_rows_are_read(
    pair: Pair, room: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts, ends = drawn([8, 11, 5], 2), drawn([2, 1, 3], 3)
    counts = [3, 1, 2]
    sequences = [text + end for text, count in zip(texts, counts, strict=True) for end in ends[:count]]
    lengths = [len(end) for count in counts for end in ends[:count]]
    tokens = rows_of(sequences, counts)
    answers = torch.zeros(len(tokens.ids), dtype=torch.bool)
    for end, length in zip(tokens.starts[1:].tolist(), lengths, strict=True):
        answers[end - length : end] = True
    tokens = dataclasses.replace(tokens, answers=answers)
    monkeypatch.setattr(predict, "FORWARD_TOKENS", room)
    ours = pair.ours.with_weights(dict(pair.ours.weights))
    prompts = stack([Prompt(deep(pair, 3)), Prompt(deep(pair, 2, 1))])
    owner = torch.tensor([0, 0, 0, 1, 0, 0])
    alone = [
        ours.forward(Batch(tokens.singly.part(place, place + 1), owner[place : place + 1]), prompts, "answer")
        for place in range(6)
    ]
    counted = computed(pair, monkeypatch)
    found = predict.hidden_states(ours, tokens, prompts, owner, "answer")
    torch.testing.assert_close(found, torch.cat(alone), atol=1e-4, rtol=1e-4)
    assert sum(counted) == 8 + 11 + 5 + 6 + 2 + 3
    assert predict.answered_lengths(tokens).tolist() == [8 + 6, 11 + 2, 5 + 3]
