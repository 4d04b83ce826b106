"""A causal model continues rows as transformers does, whatever they share, and keeps to what it is told."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from causal_models import FAMILIES, Pair, batch_of, cache_of, causal_pair, drawn, rows_of, their_logits, their_states
from promptgraft.errors import RunError
from promptgraft.model import continuing
from promptgraft.model.writing import Writing
from promptgraft.prompt.prompt import Prompt, stack

MOST = 7


@pytest.fixture(scope="module", params=list(FAMILIES))
def pair(each_path: str, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Pair:
    return causal_pair(tmp_path_factory.mktemp(request.param), request.param)


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    return causal_pair(tmp_path_factory.mktemp("llama"), "llama")


def rows() -> list[list[int]]:
    """Some rows behind one instruction."""
    (instruction,) = drawn([17], 3)
    return [instruction + text for text in drawn([3, 9, 1, 6, 12], 4)]


def greedy(pair: Pair, sequence: list[int], deep: Tensor | None = None) -> list[int]:
    """transformers' likeliest tokens, each from a pass over all before it."""
    found: list[int] = []
    while len(found) < MOST and (not found or found[-1] != 2):
        states = their_states(pair.theirs, sequence + found, deep=deep)
        found.append(int(their_logits(pair.theirs, states[-1]).argmax()))
    return [token for token in found if token != 2]


def written(pair: Pair, monkeypatch: pytest.MonkeyPatch, *arguments: object, **options: object) -> list[list[int]]:
    """The tokens of every answer, before they become text."""
    answers: list[list[int]] = []
    finish = Writing.__init__

    def noted(self: Writing, *given: object, **named: object) -> None:
        finish(self, *given, **named)  # type: ignore[arg-type]
        self._decode = lambda tokens: " ".join(map(str, tokens))

    monkeypatch.setattr(Writing, "__init__", noted)
    texts = pair.ours.generate(*arguments, **options)  # type: ignore[arg-type]
    answers += [list(map(int, text.split())) for text in texts]
    return answers


@pytest.mark.parametrize("prompted", [False, True])
def test_greedy_tokens_are_transformers(pair: Pair, prompted: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(continuing, "NEW_PLACES", 2)
    generator = torch.Generator().manual_seed(5)
    prompts = [
        torch.randn(pair.ours.prompt_layers, 2, length, pair.ours.key_width, generator=generator)
        for length in (3, 1, 5)
    ]
    sequences = rows()
    owner = [0, 2, 1, 2, 0] if prompted else None
    expected = [
        greedy(pair, sequence, None if owner is None else prompts[owner[number]])
        for number, sequence in enumerate(sequences)
    ]
    stacked = stack([Prompt(prompt) for prompt in prompts]) if prompted else None
    for _ in range(2):  # the second time with kept beginnings
        assert written(pair, monkeypatch, batch_of(rows_of(sequences), owner), stacked, most=MOST) == expected


def test_greedy_tokens_are_those_of_transformers_own_generate(llama: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    sequences, prompt = rows(), torch.randn(3, 2, 4, 12, generator=torch.Generator().manual_seed(1))
    found = written(llama, monkeypatch, batch_of(rows_of(sequences), [0] * 5), stack([Prompt(prompt, "peft")]), most=9)
    for sequence, answer in zip(sequences, found, strict=True):
        ids = torch.tensor([[0] * 4 + sequence])  # transformers counts the prompt's places among the ids
        mask = torch.ones_like(ids)
        out = llama.theirs.generate(
            ids, attention_mask=mask, past_key_values=cache_of(llama.theirs, prompt), max_new_tokens=9, do_sample=False
        )
        theirs = out[0, ids.shape[1] :].tolist()
        assert answer == [token for token in theirs if token != 2]


def test_rows_that_are_done_leave_the_batch(llama: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    sequences = rows()
    counts: list[int] = []
    step = continuing.Continued.step

    def noted(self: continuing.Continued, tokens: Tensor, goes_on: list[bool]) -> Tensor:
        states = step(self, tokens, goes_on)
        counts.append(len(states))
        return states

    monkeypatch.setattr(continuing.Continued, "step", noted)
    among = [
        ["bad", "good and", "good or not"],
        ["x"],
        ["yes", "no"],
        ["a very long answer", "a very short one"],
        ["no"],
    ]
    texts = llama.ours.generate(batch_of(rows_of(sequences)), None, most=1, among=among)
    assert all(text in choices for text, choices in zip(texts, among, strict=True))
    assert counts[0] < 4
    assert counts == sorted(counts, reverse=True)


def test_among_given_texts_the_likeliest_tokens_are_followed(llama: Pair) -> None:
    (sequence,) = drawn([8], 6)
    choices = ["good", "bad", "that", " good"]
    (text,) = llama.ours.generate(batch_of(rows_of([sequence])), None, most=1, among=[choices])
    ids = {choice: llama.ours._answer_ids([choice])[choice] for choice in choices}
    logits = their_logits(llama.theirs, their_states(llama.theirs, sequence)[-1])
    first = max({tokens[0] for tokens in ids.values()}, key=lambda token: float(logits[token]))
    assert ids[text][0] == first


def test_sampling_is_the_generators_alone(llama: Pair) -> None:
    batch = batch_of(rows_of(rows()))

    def draw(seed: int, temperature: float = 3.0) -> list[str]:
        generator = torch.Generator().manual_seed(seed)
        return llama.ours.generate(batch, None, most=6, generator=generator, temperature=temperature)

    assert draw(1) == draw(1)
    assert draw(1) != draw(2)
    assert draw(1, 1e-6) == llama.ours.generate(batch, None, most=6)


def test_an_answer_ends_before_a_stop_word(llama: Pair) -> None:
    batch = batch_of(rows_of(rows()))
    plain = llama.ours.generate(batch, None, most=8)
    word = next(text[2:4] for text in plain if len(text) > 4)
    stopped = llama.ours.generate(batch, None, most=8, stop=[word])
    assert stopped == [text.split(word)[0] for text in plain]


def test_soft_vectors_are_continued(llama: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    words, sequences = drawn([4], 8)[0], rows()
    vectors = llama.ours.embed(torch.tensor(words))
    expected = [greedy(llama, words + sequence) for sequence in sequences]
    prompts = stack([Prompt(vectors, "peft")])
    assert written(llama, monkeypatch, batch_of(rows_of(sequences), [0] * 5), prompts, most=MOST) == expected


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"most": 0}, "0 tokens cannot be written"),
        ({"most": 90}, "take [0-9]+ positions, the backbone has 96"),
        ({"most": 3, "temperature": -1.0}, "below 0"),
        ({"most": 3, "among": [["a"], [], ["b"], ["c"], ["d"]]}, "no texts to choose among"),
    ],
)
def test_what_cannot_be_written_is_one_line(llama: Pair, options: dict, line: str) -> None:  # type: ignore[type-arg]
    with pytest.raises(RunError, match=line):
        llama.ours.generate(batch_of(rows_of(rows())), None, **options)


def test_no_rows_have_no_answers(llama: Pair) -> None:
    assert llama.ours.generate(batch_of(rows_of([])), None, most=3) == []
