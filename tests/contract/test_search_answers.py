"""Prompts are searched for tasks whose rows have their own answers: options, or texts to be written."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

import promptgraft as pg
from causal_models import causal_folder
from promptgraft.api.searching import setting_for, skills
from promptgraft.errors import PromptgraftError
from promptgraft.model.backbone import Backbone
from promptgraft.model.load import load_backbone
from promptgraft.model.tokens import Tokens
from promptgraft.prompt.reading import Reading
from promptgraft.searches.all import PLACEBOS, algorithms
from promptgraft.searches.candidate import Candidate
from promptgraft.searches.gradients import slotted, word_gradients
from promptgraft.searches.outcome import SearchOutcome, table
from promptgraft.searches.phrases import Phrases
from promptgraft.searches.run import FoundPrompt, plain, run_algorithm
from promptgraft.searches.scorer import AskedRows
from promptgraft.task.kinds import Kind
from promptgraft.task.task import Example, References
from promptgraft.train.predict import hidden_states
from seq2seq import write_small
from toys import toy_task

KINDS: tuple[Kind, ...] = ("choice", "text")
NAMES = sorted(set(algorithms()) - {"label-words"})
OFTEN = ("random", "grips", "autoprompt", "demonstrations", "policy-gradient", "cma-es")
EACH = [name if name in OFTEN else pytest.param(name, marks=pytest.mark.slow) for name in NAMES]
PASSES = 96


@pytest.fixture(scope="module")
def causal(tmp_path_factory: pytest.TempPathFactory) -> Backbone:
    """A small random model that writes, with room for the library's templates and a text."""
    folder = tmp_path_factory.mktemp("models") / "llama"
    causal_folder(folder, "llama")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "max_position_embeddings": 320}))
    return load_backbone(folder)


@pytest.fixture(scope="module")
def filling(tmp_path_factory: pytest.TempPathFactory) -> Backbone:
    """A small random sequence-to-sequence model, which also fills gaps."""
    folder = tmp_path_factory.mktemp("models") / "t5"
    write_small("t5", folder, gaps=3)
    return load_backbone(folder)


def found(name: str, kind: Kind, model: Backbone, folder: Path | None = None) -> tuple[FoundPrompt, int]:
    """What an algorithm finds on a toy task of a kind, and how many passes a row takes at most."""
    if "cma" in name:
        pytest.importorskip("cmaes", reason="needs the extra `search`")
    if not algorithms()[name].needs <= skills(model, model):
        pytest.skip(f"{name} needs another kind of model")
    setting, _ = setting_for(toy_task(kind), model, passes=PASSES, shots=1 if kind == "choice" else 4, max_length=200)
    if folder is not None:
        folder.mkdir(exist_ok=True)
    return run_algorithm(algorithms()[name], setting, folder, lambda spent, label: None), setting.passes_a_row


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", EACH)
def test_each_algorithm_keeps_to_its_budget_and_goes_on_where_it_was(
    name: str, kind: Kind, causal: Backbone, filling: Backbone, tmp_path: Path
) -> None:
    model = filling if name == "lm-bff" else causal
    result, _ = found(name, kind, model, tmp_path)
    entries = [json.loads(line) for line in (tmp_path / "journal.jsonl").read_text().splitlines()]
    reports = 2 if kind == "text" else 1  # the probabilities, and what is written
    assert 0 < result.passes == sum(entry[1] for entry in entries[:-reports]) <= PASSES
    again, _ = found(name, kind, model, tmp_path)
    same = [{key: value for key, value in plain(entry).items() if key != "seconds"} for entry in (result, again)]
    assert same[0] == same[1]
    assert len((tmp_path / "journal.jsonl").read_text().splitlines()) == len(entries)


@pytest.fixture(scope="module")
def outcomes(causal: Backbone, tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[SearchOutcome, Path]]:
    """Of both kinds, what one algorithm and the placebos found."""
    result: dict[str, tuple[SearchOutcome, Path]] = {}
    for kind in KINDS:
        folder = tmp_path_factory.mktemp(kind) / "run"
        shots = 1 if kind == "choice" else 4
        outcome = pg.search(toy_task(kind), causal, ["grips", "label-words"], passes=PASSES, shots=shots, out=folder)
        result[kind] = outcome, folder
    return result


def test_what_is_found_predicts_what_the_report_says(
    outcomes: dict[str, tuple[SearchOutcome, Path]], causal: Backbone
) -> None:
    outcome, folder = outcomes["choice"]
    rows = [Example(row.text, choices=row.choices) for row in outcome.report]
    for entry in outcome.found:
        answers = pg.load(folder / entry.algorithm, causal).predict(rows)
        said = [row.choices[answer] for row, answer in zip(outcome.report, entry.report.answers, strict=True)]
        assert list(answers) == said, entry.algorithm
        right = [answer == row.label for row, answer in zip(outcome.report, said, strict=True)]
        assert entry.report.score == pytest.approx(100 * sum(right) / len(right))


def test_what_is_found_for_texts_writes_what_the_report_judges(
    outcomes: dict[str, tuple[SearchOutcome, Path]], causal: Backbone
) -> None:
    outcome, folder = outcomes["text"]
    for entry in outcome.found:
        predictor = pg.load(folder / entry.algorithm, causal)
        assert entry.texts is not None
        assert predictor.evaluate(outcome.report)["score"] == pytest.approx(entry.texts.value)
        assert predictor.artefact.card.scores["test"].value == pytest.approx(entry.texts.value)


def test_a_texts_score_is_the_mean_probability_of_its_tokens(
    outcomes: dict[str, tuple[SearchOutcome, Path]], causal: Backbone
) -> None:
    outcome, _ = outcomes["text"]
    entry = outcome.best
    for row, merit in zip(outcome.report[:3], entry.report.merits, strict=False):
        tokens = causal.tokenize([row], "text", Reading("answer", template=entry.text))
        logs = hidden_states(causal, tokens, None, None, "answer")[:, 0]
        assert merit == pytest.approx(float(logs.mean().exp()), rel=1e-4)
    assert entry.report.score == pytest.approx(100 * sum(entry.report.merits) / len(entry.report.merits))


@pytest.mark.parametrize("kind", KINDS)
def test_a_single_row_to_report_on_says_little_and_is_reported(kind: Kind, causal: Backbone, tmp_path: Path) -> None:
    task = toy_task(kind)
    few = task.replace(splits={name: rows[: 1 if name == "test" else 3] for name, rows in task.splits.items()})
    outcome = pg.search(few, causal, [], passes=PASSES, out=tmp_path / "run")
    best, gain = outcome.best, outcome.gain(outcome.found[0], outcome.found[-1])
    assert 0 <= best.report.low <= best.report.score <= best.report.high <= 100
    assert -100 <= gain.low <= gain.value <= gain.high <= 100
    assert not gain.is_sure
    json.loads((tmp_path / "run" / best.algorithm / "found.json").read_text(), parse_constant=pytest.fail)


@pytest.mark.parametrize("kind", KINDS)
def test_rows_with_their_own_answers_are_read_together_as_each_candidate_alone(
    kind: Kind, causal: Backbone, filling: Backbone
) -> None:
    for model in (causal, filling):
        setting, _ = setting_for(toy_task(kind), model, passes=3 * PASSES, shots=4, max_length=200)
        scorer, rows = setting.scorer, setting.split.choosing
        words = ("{text} so {mask}", "{choices} of {text}, {mask}" if kind == "choice" else "of {text}, {mask}")
        candidates = [Candidate(text, ()) for text in words]
        for candidate, sheet in zip(
            candidates, scorer.sheets([(each, range(len(rows))) for each in candidates], rows, own=False), strict=True
        ):
            reading, limit = scorer.reading(candidate.template, candidate), scorer.limit_of(candidate)
            alone = model.tokenize(rows, kind, reading, max_length=limit)
            assert isinstance(sheet, AskedRows)
            for name in ("ids", "types", "starts", "rows", "marks", "answers"):
                assert torch.equal(getattr(sheet.tokens, name), getattr(alone, name)), name


def test_what_varies_labels_words_is_left_out(outcomes: dict[str, tuple[SearchOutcome, Path]]) -> None:
    for kind, (outcome, _) in outcomes.items():
        assert [entry.algorithm for entry in outcome.found] == [*PLACEBOS, "grips"]
        assert outcome.problems == {"label-words": f"rows of kind {kind} have no labels whose words could be searched"}
        columns, rows = table(outcome)
        assert ("rougeL " in columns) == (kind == "text")
        assert {len(row) for row in rows} == {len(columns)}


def test_words_of_labels_are_refused_where_rows_have_none(causal: Backbone) -> None:
    with pytest.raises(PromptgraftError, match="have no labels that words stand for; leave verbalizer out"):
        pg.search(toy_task("choice"), causal, verbalizer="good=great")


def test_a_rows_only_text_has_the_gradient_of_its_mean_log_probability(causal: Backbone) -> None:
    """By the differences of the loss itself."""
    rows = list(toy_task("text").train[:3])
    words = slotted(Phrases.of("good {text} bad {mask}", is_chinese=False), causal, left_to_right=True)
    tokens = causal.tokenize(rows, "text", Reading("answer", template=words.template))
    gradient = word_gradients(causal, words, tokens, None, [0, 0, 0]).double()
    change = torch.randn(gradient.shape, generator=torch.Generator().manual_seed(0), dtype=torch.double)
    step = 1e-2
    high, low = (loss_at(causal, words.tokens, tokens, way * step * change) for way in (1, -1))
    assert float((gradient * change).sum()) == pytest.approx((high - low) / (2 * step), rel=2e-2, abs=1e-4)


def loss_at(causal: Backbone, words: tuple[int, ...], tokens: Tokens, change: torch.Tensor) -> float:
    """The loss where the words' embeddings are changed."""
    from promptgraft.prompt.prompt import Prompt, stack
    from promptgraft.searches.scorer import answer_scores

    values = causal.embed(torch.tensor(words)) + change.float()
    owner = torch.zeros(tokens.sequences, dtype=torch.long)
    states = hidden_states(causal, tokens, stack([Prompt(values, "template")]), owner, "answer")
    return -float(answer_scores(states.float(), tokens).double().mean())


def test_chinese_texts_and_empty_ones_are_searched(causal: Backbone) -> None:
    task = toy_task("text")
    strange = (Example("", label=References(("坏",))), Example("这部 电影", label=References(("好",))))
    splits = {name: (*strange, *rows) for name, rows in task.splits.items()}
    outcome = pg.search(task.replace(splits=splits), causal, passes=PASSES, shots=6)
    assert all(0 <= merit <= 1 for entry in outcome.found for merit in entry.report.merits)
