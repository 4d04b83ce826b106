"""What a sequence-to-sequence backbone promises beyond its values."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

import promptgraft
from promptgraft.api.artefacts import artefact_folder
from promptgraft.engine.predictor import Predictor
from promptgraft.errors import ModelError, PromptgraftError, RunError
from promptgraft.kernels.dropout import Dropout
from promptgraft.model.backbone import Backbone, Batch
from promptgraft.model.load import load_backbone
from promptgraft.model.seq2seq import SequenceBackbone
from promptgraft.model.tokens import concatenate
from promptgraft.prompt.artefact import load
from promptgraft.prompt.prompt import Prompt, stack
from seq2seq import rows_of, write_small
from toys import toy_task


@pytest.fixture(scope="module", params=["t5", "bart"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp(request.param)
    write_small(request.param, path)
    return path


@pytest.fixture(scope="module")
def ours(folder: Path) -> SequenceBackbone:
    backbone = load_backbone(folder)
    assert isinstance(backbone, SequenceBackbone)
    assert isinstance(backbone, Backbone)
    return backbone


def test_texts_end_as_the_model_wants_it(ours: SequenceBackbone) -> None:
    end = ours._tokenizer.engine.token_to_id("</s>")
    tokens = ours.tokenize_texts(["w1 w2", "w3"])
    assert tokens.ids[tokens.starts[1:] - 1].tolist() == [end, end]
    assert ours.word_ids(["w1", "w2 w3"]) == [
        [ours._tokenizer.engine.token_to_id("w1")],
        *[[ours._tokenizer.engine.token_to_id(word) for word in ("w2", "w3")]],
    ]


def test_answers_to_one_text_share_its_encoding(ours: SequenceBackbone) -> None:
    """Sequences of the same text and prompt are one row for the encoder; scores are those of each alone."""
    text, answers = rows_of([6]), rows_of([0 + 1], [3])
    shared = replace(
        rows_of([6, 6, 6], [1, 2, 2]), ids=torch.cat([torch.cat([text.ids, answers.ids[:n]]) for n in (1, 2, 2)])
    )
    rows: list[int] = []
    hook = ours._form.encoder.module.register_forward_hook(lambda module, given, done: rows.append(len(done[0])))
    try:
        alike = ours.forward(Batch(shared), None, "answer")
        prompts = stack([Prompt(torch.randn(2, 24)), Prompt(torch.randn(1, 24))])
        ours.forward(Batch(shared, torch.tensor([0, 1, 0])), prompts, "answer")
    finally:
        hook.remove()
    assert rows == [1, 2]
    alone = [ours.forward(Batch(shared.select(torch.tensor([row]))), None, "answer") for row in range(3)]
    torch.testing.assert_close(alike, torch.cat(alone), atol=1e-5, rtol=0)


def test_rows_do_not_depend_on_their_company(ours: SequenceBackbone) -> None:
    few, many = rows_of([4], [2]), rows_of([9, 2], [1, 6])
    both = concatenate([few, many])
    torch.testing.assert_close(
        ours.forward(Batch(both), None, "answer")[:2], ours.forward(Batch(few), None, "answer"), atol=1e-5, rtol=0
    )


def test_only_flagged_tokens_are_scored_once_each(ours: SequenceBackbone) -> None:
    tokens = rows_of([4, 3], [3, 2])
    assert tokens.answers is not None
    whole = ours.forward(Batch(tokens), None, "answer")
    flags = tokens.answers.clone()
    flags[5] = False  # the second token of the first answer is read and not scored
    scores = ours.forward(Batch(replace(tokens, answers=flags)), None, "answer")
    torch.testing.assert_close(scores, whole[[0, 2, 3, 4]], atol=1e-6, rtol=0)
    assert ours.forward(Batch(rows_of([4, 2])), None, "answer").shape == (0, 1)


def test_no_rows_give_no_states(ours: SequenceBackbone) -> None:
    none = rows_of([3]).select(torch.zeros(0, dtype=torch.long))
    assert [tuple(ours.forward(Batch(none), None, read).shape) for read in ("mean", "mark", "answer")] == [
        (0, 24),
        (0, 24),
        (0, 1),
    ]
    assert ours.generate(Batch(none), None, most=3) == []


def test_a_prompt_can_start_from_words(ours: SequenceBackbone) -> None:
    """Keys and values that the words `w1 w2` give stand for these words in the encoder's first layer."""
    ids = torch.tensor(ours.word_ids(["w1", "w2"])).flatten()
    table = ours.keys_values(ids)
    assert table.shape == (ours.prompt_layers, 2, 2, ours.key_width)
    assert (table.abs().amax((1, 2, 3)) > 0).all()
    assert ours.embed(ids).shape == (2, 24)
    prompt = stack([Prompt(table)])
    assert torch.isfinite(ours.forward(Batch(rows_of([3, 2]), torch.zeros(2, dtype=torch.long)), prompt, "mark")).all()


def test_weights_that_learn_get_gradients(ours: SequenceBackbone) -> None:
    learning = {name: weight.clone().requires_grad_() for name, weight in ours.weights.items()}
    learner = ours.with_weights(learning)
    learner.forward(Batch(rows_of([4, 2], [2, 1])), None, "answer").sum().backward()
    assert sum(weight.grad is not None for weight in learning.values()) >= len(learning) - 1
    assert not any(weight.requires_grad for weight in ours.weights.values())
    assert learner.fingerprint != ""


def test_stop_words_end_an_answer(ours: SequenceBackbone) -> None:
    tokens = rows_of([5, 3])
    whole = ours.generate(Batch(tokens), None, most=6)
    words = [text.split() for text in whole]
    first = next(row for row in words if len(row) > 1)
    stopped = ours.generate(Batch(tokens), None, most=6, stop=[first[1]])
    assert stopped[words.index(first)] == whole[words.index(first)].partition(first[1])[0]


def test_drawn_answers_follow_the_generator(ours: SequenceBackbone) -> None:
    tokens = rows_of([5, 3, 7])

    def drawn(seed: int, temperature: float) -> list[str]:
        generator = torch.Generator().manual_seed(seed)
        return ours.generate(Batch(tokens), None, most=8, temperature=temperature, generator=generator)

    assert drawn(1, 1.5) == drawn(1, 1.5)
    assert len({tuple(drawn(seed, 1.5)) for seed in range(4)}) > 1
    assert drawn(1, 1e-6) == ours.generate(Batch(tokens), None, most=8)


def test_an_answer_is_one_of_the_given_texts(ours: SequenceBackbone) -> None:
    among = [["w1 w2", "w1 w3 w4", "w5"], ["w9"], ["w7", "w7 w8", "w7"]]
    given = ours.generate(Batch(rows_of([5, 3, 4])), None, most=1, among=among)
    assert all(text in texts for text, texts in zip(given, among, strict=True))


def test_a_choice_of_one_word_is_the_likelier_one(ours: SequenceBackbone) -> None:
    tokens = rows_of([5, 3, 4])
    words = [f"w{number}" for number in range(10)]
    ids = torch.tensor(ours.word_ids(words)).flatten()
    columns, bias = ours.columns(ids)
    best = (ours.forward(Batch(tokens), None, "mark") @ columns.T + bias).argmax(1).tolist()
    assert ours.generate(Batch(tokens), None, most=1, among=[words] * 3) == [words[index] for index in best]


def wrong(ours: SequenceBackbone) -> dict[str, Any]:
    deep = torch.zeros(ours.prompt_layers, 2, 3, ours.key_width)
    one = torch.zeros(1, dtype=torch.long)
    long, most = rows_of([ours.max_length + 1]), ours.max_length
    fits = Batch(rows_of([4]), one)
    return {
        "positions, the backbone has": lambda: ours.forward(Batch(long), None, "mean"),
        "a sequence and its prompt": lambda: ours.forward(
            Batch(rows_of([most - 1]), one), stack([Prompt(torch.zeros(2, 24))]), "mean"
        ),
        "an answer and its prompt": lambda: ours.forward(Batch(rows_of([3], [most + 1])), None, "answer"),
        "take more than": lambda: ours.forward(
            Batch(rows_of([3], [most - 2]), one), stack([Prompt(deep, "peft")]), "answer"
        ),
        "no text before": lambda: ours.forward(Batch(rows_of([0], [2])), None, "answer"),
        "an answer of its own": lambda: ours.generate(Batch(rows_of([3], [2])), None, most=3),
        "of 0 tokens": lambda: ours.generate(Batch(rows_of([3])), None, most=0),
        "temperature": lambda: ours.generate(Batch(rows_of([3])), None, most=2, temperature=-1.0),
        "stop word": lambda: ours.generate(Batch(rows_of([3])), None, most=2, stop=[""]),
        "choose among": lambda: ours.generate(Batch(rows_of([3])), None, most=2, among=[[]]),
        "dropout": lambda: ours.forward(fits, None, "mean", dropout=Dropout(0.1, one)),
        "no state 'cls'": lambda: ours.forward(fits, None, "cls"),
        "does not fit": lambda: ours.forward(fits, stack([Prompt(torch.zeros(2, 7))]), "mean"),
        "which needs": lambda: ours.forward(fits, stack([Prompt(deep[:1])]), "mean"),
        "which sequence has which": lambda: ours.forward(Batch(rows_of([4])), stack([Prompt(deep)]), "mean"),
        "leaves room for vectors": lambda: ours.forward(
            Batch(replace(rows_of([2]), ids=torch.tensor([5, -1]))), None, "mean"
        ),
    }


def test_what_cannot_be_is_said_in_one_line(ours: SequenceBackbone) -> None:
    for words, attempt in wrong(ours).items():
        with pytest.raises((RunError, ModelError), match=words) as error:
            attempt()
        assert "\n" not in str(error.value)


def test_a_damaged_model_is_refused_in_one_line(folder: Path, tmp_path: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    for name in ("config.json", "tokenizer.json"):
        (tmp_path / name).write_text((folder / name).read_text())
    lacking = {name: value for name, value in weights.items() if "decoder" not in name}
    nan = {name: value * float("nan") if value.is_floating_point() else value for name, value in weights.items()}
    for tensors, words in ((lacking, "its weights lack"), (nan, "not finite")):
        save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})
        with pytest.raises(PromptgraftError, match=words):
            load_backbone(tmp_path)
    with pytest.raises(ModelError, match="int8"):
        load_backbone(folder, dtype="int8")


def test_a_prompt_of_both_sides_is_tuned_and_predicts(folder: Path, tmp_path: Path) -> None:
    """From a task to predictions, through the loop, the artefact and the card."""
    task = toy_task(train=8, validation=4, test=4)
    promptgraft.tune(task, model=str(folder), method="prompt-tuning", length=3, steps=3, out=tmp_path / "run")
    artefact, backbone = load(artefact_folder(tmp_path / "run")), load_backbone(folder)
    assert artefact.prompt is not None
    assert artefact.prompt.values.shape == (backbone.prompt_layers, 2, 3, backbone.key_width)
    assert len(list(Predictor(artefact, backbone).predict(task.splits["test"]))) == 4
