"""Sequence-to-sequence models against transformers, and their prompts against the formulas written out."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from promptgraft.model.backbone import Batch, Speaks
from promptgraft.model.load import load_backbone
from promptgraft.model.seq2seq import SequenceBackbone
from promptgraft.model.tokens import SOFT, Tokens
from promptgraft.prompt.prompt import Prompt, stack
from seq2seq import FAMILIES, VOCABULARY, rows_of, states, write_small

LENGTHS, ANSWERS = [5, 1, 8, 5], [2, 4, 1, 3]
OWNERS = torch.tensor([1, 0, 1, 0])
Both = tuple[SequenceBackbone, Any]


@pytest.fixture(scope="module", params=FAMILIES)
def both(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Both:
    folder = tmp_path_factory.mktemp(request.param)
    model = write_small(request.param, folder)
    ours = load_backbone(folder)
    assert isinstance(ours, SequenceBackbone)
    assert isinstance(ours, Speaks)
    return ours, model


def split(tokens: Tokens, row: int, starts: tuple[int, ...]) -> tuple[Tensor, list[int], Tensor]:
    """One row: its source, what the decoder reads, and what it should say."""
    whole = slice(int(tokens.starts[row]), int(tokens.starts[row + 1]))
    ids = tokens.ids[whole]
    flags = torch.zeros_like(ids, dtype=torch.bool) if tokens.answers is None else tokens.answers[whole]
    answer = ids[flags]
    return ids[~flags], [*starts, *answer[:-1].tolist()], answer


def start_of(model: Any) -> tuple[int, ...]:
    return (model.config.decoder_start_token_id,)


def logits_of(model: Any, states: Tensor) -> Tensor:
    bias = getattr(model, "final_logits_bias", torch.zeros(1, VOCABULARY))
    return states @ model.get_output_embeddings().weight.T + bias[0]


def test_logits_are_those_of_transformers(both: Both) -> None:
    ours, theirs = both
    tokens = rows_of(LENGTHS, ANSWERS)
    scores = ours.forward(Batch(tokens), None, "answer")
    marked = ours.forward(Batch(tokens), None, "mark")
    columns, bias = ours.columns(torch.arange(VOCABULARY))
    wanted, first = [], []
    for row in range(4):
        source, target, answer = split(tokens, row, start_of(theirs))
        logits = theirs(input_ids=source[None], decoder_input_ids=torch.tensor([target])).logits[0]
        first.append(logits[0])
        wanted.append(logits.log_softmax(1).gather(1, answer[:, None]))
    torch.testing.assert_close(marked @ columns.T + bias, torch.stack(first), atol=1e-4, rtol=0)
    torch.testing.assert_close(scores, torch.cat(wanted), atol=1e-4, rtol=0)


def test_states_of_words_are_those_of_the_encoder(both: Both) -> None:
    ours, theirs = both
    tokens = rows_of(LENGTHS)
    expected = [theirs.get_encoder()(split(tokens, row, ())[0][None]).last_hidden_state[0] for row in range(4)]
    torch.testing.assert_close(ours.forward(Batch(tokens), None, "tokens"), torch.cat(expected), atol=1e-4, rtol=0)
    means = torch.stack([states.mean(0) for states in expected])
    torch.testing.assert_close(ours.forward(Batch(tokens), None, "mean"), means, atol=1e-4, rtol=0)


def deep_prompts(ours: SequenceBackbone, layers: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(2)
    sizes = [(layers, 2, length, ours.key_width) for length in (3, 2)]
    return [torch.randn(size, generator=generator).requires_grad_() for size in sizes]


@pytest.mark.parametrize("placement", ["after_cls", "peft"])
@pytest.mark.parametrize("part", ["whole", "decoder"])
def test_deep_prompts_are_read_by_every_attention(both: Both, placement: Any, part: str) -> None:
    """Prompts of two lengths, mixed by row; every slot has a gradient, which is that of the formulas."""
    ours, theirs = both
    tokens = rows_of(LENGTHS, ANSWERS)
    layers = ours.prompt_layers if part == "whole" else len(ours._form.attentions[1])
    prompts = deep_prompts(ours, layers)
    scores = ours.forward(Batch(tokens, OWNERS), stack([Prompt(each, placement) for each in prompts]), "answer")
    wanted = []
    for row in range(4):
        source, target, answer = split(tokens, row, start_of(theirs))
        _, y = states(theirs, source, target, prompts[OWNERS[row]], peft=placement == "peft")
        wanted.append(logits_of(theirs, y).log_softmax(1).gather(1, answer[:, None]))
    torch.testing.assert_close(scores, torch.cat(wanted), atol=1e-4, rtol=0)
    weights = torch.randn(scores.shape, generator=torch.Generator().manual_seed(4))
    given = torch.autograd.grad((scores * weights).sum(), prompts)
    expected = torch.autograd.grad((torch.cat(wanted) * weights).sum(), prompts)
    for got, reference in zip(given, expected, strict=True):
        assert (got.abs().amax(-1) > 0).all()
        assert (got - reference).abs().max() <= 1e-4 * reference.abs().max()


def test_deep_prompts_change_the_states_of_words(both: Both) -> None:
    ours, theirs = both
    tokens, prompts = rows_of(LENGTHS), deep_prompts(ours, ours.prompt_layers)
    given = ours.forward(Batch(tokens, OWNERS), stack([Prompt(each) for each in prompts]), "tokens")
    start = list(start_of(theirs))
    expected = [states(theirs, split(tokens, row, ())[0], start, prompts[OWNERS[row]])[0] for row in range(4)]
    torch.testing.assert_close(given, torch.cat(expected), atol=1e-4, rtol=0)


def test_shallow_prompts_stand_before_the_words(both: Both) -> None:
    """Behind the first special token where there is one, which `peft` does not spare."""
    ours, theirs = both
    tokens = rows_of(LENGTHS)
    generator = torch.Generator().manual_seed(5)
    prompts = [torch.randn(length, 24, generator=generator).requires_grad_() for length in (3, 2)]
    for placement in ("after_cls", "peft"):
        given = ours.forward(Batch(tokens, OWNERS), stack([Prompt(each, placement) for each in prompts]), "mark")  # type: ignore[arg-type]
        wanted = []
        for row in range(4):
            source, prompt = split(tokens, row, ())[0], prompts[OWNERS[row]]
            words = theirs.get_input_embeddings()(source)
            ahead = 1 if placement == "after_cls" and theirs.config.model_type == "bart" else 0
            whole = torch.cat([words[:ahead], prompt, words[ahead:]])
            _, y = states(theirs, source[:0], list(start_of(theirs)), before=whole)
            wanted.append(y[0])
        torch.testing.assert_close(given, torch.stack(wanted), atol=1e-4, rtol=0)
        weights = torch.randn(given.shape, generator=generator)
        got = torch.autograd.grad((given * weights).sum(), prompts)
        expected = torch.autograd.grad((torch.stack(wanted) * weights).sum(), prompts)
        for one, reference in zip(got, expected, strict=True):
            assert (one - reference).abs().max() <= 1e-4 * reference.abs().max()


def test_vectors_stand_in_the_slots_of_a_template(both: Both) -> None:
    ours, theirs = both
    tokens = rows_of([6, 4])
    ids = tokens.ids.clone()
    ids[[1, 4, 7]] = SOFT
    prompts = [torch.randn(length, 24, generator=torch.Generator().manual_seed(length)) for length in (2, 1)]
    placed = stack([Prompt(each, "template") for each in prompts])
    given = ours.forward(Batch(replace(tokens, ids=ids), torch.tensor([0, 1])), placed, "mark")
    for row, slots in enumerate(([1, 4], [1])):
        words = theirs.get_input_embeddings()(split(tokens, row, ())[0]).clone()
        words[slots] = prompts[row]
        _, y = states(theirs, tokens.ids[:0], list(start_of(theirs)), before=words)
        torch.testing.assert_close(given[row], y[0], atol=1e-4, rtol=0)


def test_a_mark_within_an_answer_is_read_behind_it(both: Both) -> None:
    ours, theirs = both
    tokens = replace(rows_of(LENGTHS, ANSWERS), marks=torch.tensor([2, 4, 8, 5]))
    columns, bias = ours.columns(torch.arange(VOCABULARY))
    logits = ours.forward(Batch(tokens), None, "mark") @ columns.T + bias
    for row, read in enumerate((0, 4, 1, 1)):
        source, target, answer = split(tokens, row, start_of(theirs))
        target = [*start_of(theirs), *answer[:read].tolist()]
        wanted = theirs(input_ids=source[None], decoder_input_ids=torch.tensor([target])).logits[0, -1]
        torch.testing.assert_close(logits[row], wanted, atol=1e-4, rtol=0)


@pytest.mark.parametrize("first", [None, 7])
def test_greedy_words_are_those_of_transformers(both: Both, first: int | None, tmp_path: Path) -> None:
    """Also where the model's settings name the first word of an answer, as BART's do."""
    ours, theirs = both
    if first is not None:
        theirs.generation_config.forced_bos_token_id = first
        theirs.save_pretrained(tmp_path)
        (tmp_path / "tokenizer.json").write_text(ours._tokenizer.engine.to_str())
        ours = load_backbone(tmp_path)  # type: ignore[assignment]
        theirs.generation_config.forced_bos_token_id = None
    tokens = rows_of(LENGTHS)
    settings = {"forced_bos_token_id": first, "do_sample": False, "num_beams": 1, "use_cache": False}
    expected = [
        theirs.generate(split(tokens, row, ())[0][None], max_new_tokens=12 + (first is not None), **settings)[0]
        for row in range(4)
    ]
    read = ours._tokenizer.engine.decode
    given = ours.generate(Batch(tokens), None, most=12)
    start = len(ours._form.start)
    assert given == [read(ids[start:].tolist(), skip_special_tokens=True) for ids in expected]


@pytest.mark.parametrize("placement", ["after_cls", "peft"])
def test_an_answer_goes_on_as_if_read_from_its_start(both: Both, placement: Any) -> None:
    """A pass a token with what it keeps of the ones before, against the whole answer at once, prompts mixed by row."""
    ours, _ = both
    tokens, prompts = rows_of(LENGTHS), deep_prompts(ours, ours.prompt_layers)
    placed = stack([Prompt(each.detach(), placement) for each in prompts])
    columns, bias = ours.columns(torch.arange(VOCABULARY))
    written = ours.generate(Batch(tokens, OWNERS), placed, most=5)
    for row in range(4):
        answer: list[int] = []
        source = split(tokens, row, ())[0]
        for step in range(5):
            ids = torch.cat([source, torch.tensor(answer, dtype=torch.long)])
            flags = torch.arange(len(ids)) >= len(source)
            whole = Tokens(ids, ids * 0, torch.tensor([0, len(ids)]), torch.arange(2), answers=flags)
            marked = replace(whole, marks=torch.tensor([len(ids) - 1]))
            logits = ours.forward(Batch(marked, OWNERS[row : row + 1]), placed, "mark") @ columns.T + bias
            token = int(logits.argmax())
            if step == 4 and ours._form.last is not None:
                token = ours._form.last
            answer.append(token)
            if token in ours._form.ends:
                break
        assert written[row] == ours._decode([token for token in answer if token not in ours._form.ends])


def test_bf16_is_close(both: Both, tmp_path: Path) -> None:
    ours, theirs = both
    theirs.save_pretrained(tmp_path)
    (tmp_path / "tokenizer.json").write_text(ours._tokenizer.engine.to_str())
    rounded = load_backbone(tmp_path, dtype="bf16")
    assert (rounded.arithmetic, rounded.fingerprint) == ("bf16", ours.fingerprint)
    batch, prompts = Batch(rows_of(LENGTHS, ANSWERS), OWNERS), deep_prompts(ours, ours.prompt_layers)
    placed = stack([Prompt(each) for each in prompts])
    exact, close = ours.forward(batch, placed, "answer"), rounded.forward(batch, placed, "answer")
    assert (exact - close).abs().mean() < 0.05 * exact.abs().mean()
    assert rounded.generate(Batch(rows_of([4])), None, most=2) is not None
