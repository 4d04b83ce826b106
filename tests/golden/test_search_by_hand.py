"""Parts of searches against examples worked out by hand, and against transformers and the reference of CMA-ES."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from causal_models import causal_folder
from promptgraft.api.searching import setting_for
from promptgraft.errors import PromptgraftError
from promptgraft.model.backbone import Backbone
from promptgraft.model.gaps import between
from promptgraft.model.load import load_backbone
from promptgraft.searches.answers import cost_of, margin_of
from promptgraft.searches.asker import Asker
from promptgraft.searches.budget import Budget, SpentError
from promptgraft.searches.candidate import Candidate
from promptgraft.searches.demonstrated import Demonstrations
from promptgraft.searches.evolution import Differential, Genetic, crossed, differing, segments
from promptgraft.searches.gradients import first_order, slotted, word_gradients
from promptgraft.searches.journal import Journal
from promptgraft.searches.label_words import mappings
from promptgraft.searches.oracle import Oracle, RowScore
from promptgraft.searches.phrases import Phrases, cleaned
from promptgraft.searches.proposed import Proposed
from promptgraft.searches.race import Raced, race, worse_by
from promptgraft.searches.reinforced import drawn, policy_gradient, reward, standardised
from promptgraft.searches.run import Setting
from promptgraft.searches.spans import SpanTemplates
from promptgraft.searches.split import search_split
from promptgraft.searches.vectors import strategy
from promptgraft.task.task import Example, Task
from toys import masked_model, toy_task

WORDS = (("negative", ("bad",)), ("positive", ("good",)))


@pytest.fixture(scope="module")
def masked_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return masked_model(tmp_path_factory.mktemp("models") / "bert")


@pytest.fixture(scope="module")
def masked(masked_folder: Path) -> Backbone:
    return load_backbone(masked_folder, dtype="fp32")


@pytest.fixture(scope="module")
def setting(masked: Backbone) -> Setting:
    return setting_for(toy_task(), masked, shots=4, template="{text} it was {mask} .", passes=1000)[0]


def oracle_of(setting: Setting, passes: int = 10_000) -> Oracle:
    return Oracle(setting.scorer, setting.split.search, Budget(passes), Journal())


def raced(template: str, costs: Sequence[float], rows: int | None = None) -> Raced:
    """A candidate with costs of rows, and answers and margins that go with them."""
    scores = tuple(RowScore(cost, int(cost < 0.5), 1 - 2 * cost) for cost in costs)
    return Raced(Candidate(template, WORDS), scores, len(costs) if rows is None else rows)


# Budget, rows, race


def test_a_budget_refuses_what_does_not_fit_whole() -> None:
    budget = Budget(10)
    budget.spend(7, 70)
    with pytest.raises(SpentError):
        budget.spend(4, 40)
    budget.spend(3, 30)
    assert (budget.left, budget.spent, budget.tokens) == (0, 10, 100)


def test_rows_are_in_one_part_alone_and_classes_take_turns() -> None:
    task = toy_task(train=60, validation=20, test=20)
    split = search_split(task, 5, 3)
    assert split == search_split(task, 5, 3)
    assert split.report == task.test
    assert (len(split.search), len(split.choosing)) == (10, 10)
    labels = [row.label for row in split.search]
    assert all({labels[at], labels[at + 1]} == {"negative", "positive"} for at in range(0, 10, 2))
    alone = search_split(toy_task(train=30, validation=0, test=0), None, 0)
    assert (len(alone.search), len(alone.choosing), len(alone.report)) == (14, 6, 10)


def rows_by_label(**counts: int) -> dict[str, tuple[Example, ...]]:
    """Splits with so many rows of each of two labels."""
    return {
        name: tuple(Example(text=f"{name} {label} {at}", label=label) for at in range(count) for label in ("no", "yes"))
        for name, count in counts.items()
    }


def test_few_rows_are_shared_out_so_that_no_two_rows_choose() -> None:
    """By hand: rows a class searched by and chosen by, of those that a file of 20 and one of 60 rows are split into."""
    task = Task("few", "classification", "accuracy", {"no": "no", "yes": "yes"}, {})
    cases = {
        (7, 1, 2, 16): (5, 3),  # a third of eight
        (7, 1, 2, None): (5, 3),
        (21, 3, 6, 4): (4, 4),  # one of those that lay idle
        (21, 3, 6, 16): (16, 8),  # five that lay idle
        (40, 16, 6, 16): (16, 16),
        (5, 0, 3, 16): (3, 2),
    }
    for (train, validation, test, shots), (searched, chosen) in cases.items():
        splits = rows_by_label(train=train, validation=validation, test=test)
        split = search_split(task.replace(splits={name: rows for name, rows in splits.items() if rows}), shots, 0)
        assert (len(split.search), len(split.choosing), len(split.report)) == (2 * searched, 2 * chosen, 2 * test)
        parts = (*split.search, *split.choosing, *split.report)
        assert len({row.text for row in parts}) == len(parts)
        assert {row.label for row in split.choosing} == {"no", "yes"}
        if chosen > validation and validation:
            note = f"few has few labelled rows: {2 * searched} to search by and {2 * chosen} to choose by"
            assert split.notes == (f"{note}, {2 * (chosen - validation)} of these from the training rows",)


def test_the_cost_of_a_row_is_half_its_error_and_half_what_the_right_class_lacks() -> None:
    share = torch.tensor([[0.2, 0.5, 0.3], [0.6, 0.1, 0.3]])
    torch.testing.assert_close(cost_of(share, [1, 2]), torch.tensor([0.25, 0.85]))
    torch.testing.assert_close(margin_of(share, [1, 2]), torch.tensor([0.2, -0.3]))


class Table:
    """An oracle that reads costs from a table and notes what it was asked."""

    def __init__(self, costs: dict[str, list[float]], passes: int = 10_000) -> None:
        self.costs, self.asked, self.left = costs, dict.fromkeys(costs, 0), passes
        self.examples = tuple(Example() for _ in next(iter(costs.values())))

    def scores(self, candidates: Sequence[Candidate], rows: range) -> list[list[RowScore] | None]:
        new = sum(len(rows) - self.asked[candidate.template] for candidate in candidates)
        if new > self.left:
            raise SpentError
        self.left -= new
        for candidate in candidates:
            self.asked[candidate.template] = len(rows)
        return [[RowScore(self.costs[entry.template][row], 0, 0.0) for row in rows] for entry in candidates]

    def problem(self, candidate: Candidate) -> str:
        return ""


def test_a_race_halves_its_field_and_drops_what_is_hopeless() -> None:
    """Four on 8 rows; the better two on 16; the better one on 32. A hopeless one is out even if half would stay."""
    rows = 32
    table = Table({name: [cost] * rows for name, cost in zip("abcd", (0.1, 0.2, 0.3, 0.4), strict=True)})
    # Alike on every row, so that any difference is sure: the best alone goes on.
    race([Candidate(name, WORDS) for name in "abcd"], table)  # type: ignore[arg-type]
    assert table.asked == {"a": 32, "b": 8, "c": 8, "d": 8}
    noise = random.Random(0)
    costs = {
        name: [cost + noise.uniform(-0.5, 0.5) for _ in range(rows)]
        for name, cost in zip("abcd", [0.5] * 4, strict=True)
    }
    table = Table(costs)
    found = race([Candidate(name, WORDS) for name in "abcd"], table)  # type: ignore[arg-type]
    assert sorted(table.asked.values()) == [8, 8, 16, 32]
    assert [entry.candidate.template for entry in found] == list("abcd")


def test_a_race_scores_what_its_budget_suffices_for() -> None:
    table = Table({name: [0.5] * 8 for name in "abcd"}, passes=17)
    found = race([Candidate(name, WORDS) for name in "abcd"], table)  # type: ignore[arg-type]
    assert [entry.candidate.template for entry in found] == ["a", "b"]
    with pytest.raises(SpentError):
        race([Candidate("d", WORDS)], Table({"d": [0.5] * 8}, passes=7))  # type: ignore[arg-type]


def test_a_difference_is_over_pairs_of_rows() -> None:
    first, second = raced("a", [0.5, 0.7, 0.9]).scores, raced("b", [0.4, 0.4, 0.4]).scores
    gap, error = worse_by(first, second)
    assert gap == pytest.approx(0.3)
    assert error == pytest.approx(np.std([0.1, 0.3, 0.5], ddof=1) / np.sqrt(3))


def test_a_journal_refuses_another_search_and_says_where_it_is_damaged(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    path.write_text('["a",1,2,0.1,[1]]\n["b",1,2,0.1,[2]]\n["c",1')
    journal = Journal(path)
    assert path.read_text().endswith("[2]]\n")
    entry = journal.recall("a")
    assert entry is not None
    assert entry.answer == [1]
    with pytest.raises(PromptgraftError, match="another search"):
        journal.recall("x")


@pytest.mark.parametrize(
    "line",
    ["nonsense", "5", "null", "[1, 2]", '{"a": 1}', '["a", "1", 2, 0.1, []]', '["a", 1, 2, "0.1", []]', "[" * 100_000],
)
def test_a_line_of_a_journal_that_is_no_answer_is_damage(line: str, tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    path.write_text(f'["b",1,2,0.1,[2]]\n{line}\n')
    with pytest.raises(PromptgraftError, match=r"journal.jsonl:2: is damaged"):
        Journal(path)


# Scores


def their_shares(folder: Path, texts: list[str], words: list[str]) -> Tensor:
    """The probabilities of words at the mask, as transformers gives them, one text at a time."""
    from transformers import AutoModelForMaskedLM, PreTrainedTokenizerFast

    tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(folder / "tokenizer.json"), mask_token="[MASK]")
    model = AutoModelForMaskedLM.from_pretrained(folder)
    rows = []
    for text in texts:
        ids = torch.tensor([tokenizer.encode(text)])
        with torch.no_grad():
            logits = model(input_ids=ids).logits[0, (ids[0] == tokenizer.mask_token_id).nonzero()[0, 0]]
        rows.append(logits[tokenizer.convert_tokens_to_ids(words)].softmax(-1))
    return torch.stack(rows)


def test_many_candidates_in_one_batch_score_as_each_alone_in_transformers(
    setting: Setting, masked_folder: Path
) -> None:
    templates = ("{text} it was {mask} .", "{mask} {text}", "{text} and the plot was {mask}")
    rows = range(len(setting.split.search))
    candidates = [Candidate(template, WORDS) for template in templates]
    sheets = [setting.scorer.sheet(entry, setting.split.search, rows, own=True) for entry in candidates]
    shares = setting.scorer.shares(sheets)
    for template, share in zip(templates, shares, strict=True):
        texts = [template.replace("{text}", row.text).replace("{mask}", "[MASK]") for row in setting.split.search]
        torch.testing.assert_close(share, their_shares(masked_folder, texts, ["bad", "good"]), atol=1e-5, rtol=0)


def test_a_causal_model_scores_many_candidates_as_each_alone(tmp_path: Path) -> None:
    causal_folder(tmp_path / "llama", "llama")
    model = load_backbone(tmp_path / "llama", dtype="fp32")
    scorer = setting_for(toy_task(), model, shots=4, passes=1000, max_length=90)[0].scorer
    texts = [
        "it is: {text} so {mask}",
        "{text} {mask}",
        "the text: {text} is {mask}",
        "{text} so {mask}",
        "{text}{mask}",
    ]
    sheets = [scorer.sheet(Candidate(text, WORDS), scorer.pool, range(6), own=True) for text in texts]
    together = scorer.shares(sheets)
    for sheet, share in zip(sheets, together, strict=True):
        torch.testing.assert_close(share, scorer.shares([sheet])[0], atol=1e-5, rtol=0)


def test_a_row_is_never_shown_to_itself(setting: Setting) -> None:
    candidate = Candidate("{demos:2}{text} it was {mask} .", WORDS, shown=(0, 2))
    pool, task = setting.split.search, setting.space.task
    sheet = setting.scorer.sheet(candidate, pool, range(4), own=True)
    assert sheet.rows == (1, 3, 0, 2)
    both = candidate.written_out(task, pool)
    alone = candidate.written_out(task, pool, without=0)
    assert both.count("it was") == 3
    assert alone.count("it was") == 2
    assert pool[0].text not in alone
    lengths = sheet.tokens.lengths.tolist()
    assert max(lengths[2:]) < min(lengths[:2])


# Edits


@pytest.mark.parametrize(
    ("edit", "wanted"),
    [
        (lambda words: words.replaced(2, 3, ""), "{text} It {mask}."),
        (lambda words: words.replaced(1, 3, "really"), "{text} really {mask}."),
        (lambda words: words.swapped((1, 2), (2, 3)), "{text} was It {mask}."),
        (lambda words: words.inserted(0, "Now"), "Now {text} It was {mask}."),
        (lambda words: words.inserted(3, "so"), "{text} It was so {mask}."),
        (lambda words: words.inserted(5, "then"), "{text} It was {mask} then."),
    ],
)
def test_phrases_are_edited_as_grips_edits_them(edit, wanted: str) -> None:  # type: ignore[no-untyped-def]
    """Units: {text}, ` It`, ` was`, the space before the answer, {mask}, `.`"""
    words = Phrases.of("{text} It was {mask}.", is_chinese=False)
    assert words.words == [1, 2, 5]
    assert words.spans(3) == [(1, 2), (1, 3), (2, 3), (5, 6)]
    result = str(edit(words))
    assert result.replace(" .", ".") == wanted.replace(" .", ".")


def test_chinese_characters_are_words() -> None:
    words = Phrases.of("{text}总的来说，很{mask}。", is_chinese=True)
    assert str(words.replaced(1, 5, "")) == "{text}，很{mask}。"
    assert str(words.inserted(6, "真")) == "{text}总的来说，真很{mask}。"
    assert cleaned("好" * 50) == "好" * 12


def test_a_child_has_the_first_words_of_one_parent_and_the_last_of_the_other() -> None:
    first = Phrases.of("a b c {text} d e {mask}", is_chinese=False)
    second = Phrases.of("k l m {text} n o {mask}", is_chinese=False)
    children = {str(crossed(first, second, random.Random(seed))) for seed in range(40)}
    assert len(children) > 8
    for child in children:
        words = [unit.strip() for group in segments(Phrases.of(child, is_chinese=False))[0][:1] for unit in group]
        starts = ["abc"[:cut] + "klm"[cut:] for cut in range(4)] + ["klm"[:cut] + "abc"[cut:] for cut in range(4)]
        assert "".join(words) in starts
    other = Phrases.of("{mask} is {text}", is_chinese=False)
    assert crossed(first, other, random.Random(0)) == first
    assert [
        first.text(*span) for span in differing(first, Phrases.of("a x c {text} d e {mask}", is_chinese=False))
    ] == ["b"]


def algorithm(kind, setting: Setting):  # type: ignore[no-untyped-def]
    return kind(setting.space, Asker(oracle_of(setting), setting.proposer), random.Random(0))


def test_of_parents_and_children_the_best_stay(setting: Setting) -> None:
    genetic = algorithm(Genetic, setting)
    genetic.observe(
        [raced(f"{{text}} {name} {{mask}}", [cost]) for name, cost in zip("abcdefgh", range(8), strict=True)]
    )
    genetic.observe([raced("{text} new {mask}", [0.5]), raced("{text} worse {mask}", [9.0])])
    assert [entry.candidate.template.split()[1] for entry in genetic.population] == ["a", "new", *"bcdefg"]


def test_a_child_takes_its_own_parents_place_if_it_is_better(setting: Setting) -> None:
    evolution = algorithm(Differential, setting)
    evolution.observe(
        [raced(f"{{text}} {name} {{mask}}", [cost]) for name, cost in zip("abc", (0.2, 0.4, 0.6), strict=True)]
    )
    better, worse = raced("{text} x {mask}", [0.3]), raced("{text} y {mask}", [0.3])
    evolution._parents = {better.candidate.key: 1, worse.candidate.key: 0}
    evolution.observe([better, worse])
    assert [entry.candidate.template.split()[1] for entry in evolution.population] == ["a", "x", "c"]


def test_shown_rows_change_by_one_step(setting: Setting) -> None:
    shown = algorithm(Demonstrations, setting)
    for _ in range(50):
        step = shown._step((0, 1, 2))
        rows, before = step.shown, (0, 1, 2)
        assert len(set(rows)) == len(rows)
        assert len(rows) in (2, 3, 4)
        if len(rows) == 3:
            assert sorted(rows) == sorted(before) or len(set(rows) & set(before)) == 2
        assert f"{{demos:{len(rows)}" in step.template


# AutoPrompt


def test_gradients_at_words_are_transformers_and_first_order_scores_are_brute_force(
    setting: Setting, masked: Backbone, masked_folder: Path
) -> None:
    """The gradient of the mean loss at an input embedding; a score is what a small step to the other word changes."""
    from transformers import AutoModelForMaskedLM, PreTrainedTokenizerFast

    tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(masked_folder / "tokenizer.json"), mask_token="[MASK]")
    model = AutoModelForMaskedLM.from_pretrained(masked_folder).double()
    table = model.get_input_embeddings().weight.detach()
    rows, scorer = setting.split.search[:4], setting.scorer
    gold, places = scorer.gold(rows), tokenizer.convert_tokens_to_ids(["bad", "good"])

    def loss(changes: Tensor) -> Tensor:
        """Of the rows, with changes at the embeddings of `plot` and `was`."""
        losses = []
        for row, label in zip(rows, gold, strict=True):
            ids = tokenizer.encode(f"{row.text} plot was [MASK]")
            words = table[torch.tensor(ids)].clone()
            at = len(ids) - 4
            words = torch.cat([words[:at], words[at : at + 2] + changes, words[at + 2 :]])
            logits = model(inputs_embeds=words[None]).logits[0, ids.index(tokenizer.mask_token_id)]
            losses.append(-logits[places].log_softmax(-1)[label])
        return torch.stack(losses).mean()

    changes = torch.zeros(2, table.shape[1], dtype=torch.double, requires_grad=True)
    (wanted,) = torch.autograd.grad(loss(changes), changes)
    words = slotted(Phrases.of("{text} plot was {mask}", is_chinese=False), masked, left_to_right=False)
    assert words.template == '{text} {soft:"plot"} {soft:"was"} {mask}'
    assert words.units == ((1, 0), (2, 1))
    from promptgraft.prompt.reading import Reading

    tokens = masked.tokenize(rows, "classification", Reading("mark", template=words.template))
    found = word_gradients(masked, words, tokens, scorer.columns_of_words(WORDS), gold)
    torch.testing.assert_close(found.double(), wanted, atol=1e-5, rtol=1e-4)
    present, step = table[tokenizer.convert_tokens_to_ids("plot")], 1e-5
    scores = first_order(wanted[0], present, table[10:16])
    for score, other in zip(scores, table[10:16], strict=True):
        change = torch.stack([step * (other - present), torch.zeros_like(present)])
        with torch.no_grad():
            assert float(score) == pytest.approx(float(loss(change) - loss(-change)) / (2 * step), rel=1e-4, abs=1e-8)


# Words of labels, proposals, spans, policy, vectors


def test_mappings_are_sorted_by_their_sum_and_use_no_word_twice() -> None:
    found = [[("a", -1.0), ("b", -2.0)], [("a", -1.0), ("c", -3.0)]]
    assert mappings(found, 9) == [("b", "a"), ("a", "c"), ("b", "c")]


@pytest.mark.parametrize("classes", [3, 6, 20])
def test_classes_whose_likeliest_words_are_the_same_share_them_out(classes: int) -> None:
    """Before a task is seen a model finds much the same words likely for all of its classes."""
    alike = [(word, -float(place)) for place, word in enumerate("abcdefghijklmnopqrst")]
    found = mappings([alike] * classes, 64)
    assert len(found) == min(64, len(found)) >= 6
    assert set(found[0]) == set("abcdefghijklmnopqrst"[:classes])
    assert all(len(set(words)) == classes for words in found)


def test_the_likeliest_mapping_of_many_classes_comes_first() -> None:
    found = [[(f"{number} {word}", -float(word)) for word in range(20)] for number in range(30)]
    first, second, *_ = mappings(found, 4)
    assert first == tuple(f"{number} 0" for number in range(30))
    assert sum(word.endswith(" 1") for word in second) == 1


def test_label_words_are_what_the_model_finds_likely_for_the_rows_of_a_class(
    setting: Setting, masked: Backbone, masked_folder: Path
) -> None:
    words = list(masked.lone_words())  # type: ignore[attr-defined]
    asker = Asker(oracle_of(setting), masked)
    found = asker.label_words(Candidate("{text} it was {mask} .", WORDS), len(words))
    texts = [f"{row.text} it was [MASK] ." for row in setting.split.search]
    shares = their_shares(masked_folder, texts, words).log()
    for label, entries in zip(("negative", "positive"), found, strict=True):
        rows = [at for at, row in enumerate(setting.split.search) if row.label == label]
        totals = shares[rows].sum(0)
        assert dict(entries) == pytest.approx(dict(zip(words, totals.tolist(), strict=True)), abs=1e-3)
        assert [total for _, total in entries] == sorted((total for _, total in entries), reverse=True)


def test_the_best_instruction_stands_last_in_what_a_model_is_asked(setting: Setting) -> None:
    proposals = algorithm(Proposed, setting)
    [start, *_] = proposals.propose()
    candidates = [*proposals._candidates(["first thing", "second thing"])]
    entries = [Raced(entry, (RowScore(cost, 1, 0.0),), 1) for entry, cost in zip(candidates, (0.2, 0.6), strict=True)]
    proposals.observe([Raced(start, (RowScore(0.4, 1, 0.0),), 1), *entries])
    lines = proposals._question("improve").splitlines()
    assert [line for line in lines if "thing" in line or line.startswith("Score")] == [
        "Text: second thing", "Score: 40", "Text: first thing", "Score: 80",
    ]  # fmt: skip
    assert proposals._question("vary").splitlines()[1] == "Input: first thing"
    proposals._arm = "vary"
    proposals.observe(entries)
    assert (proposals.won["vary"], proposals.lost["vary"]) == (2, 1)


def test_gaps_are_parted_by_their_tokens() -> None:
    assert between([90, 5, 6, 91, 7, 92, 8], [90, 91], {92}) == [[5, 6], [7]]
    assert between([5, 91, 7, 1, 90, 5], [90, 91], {1}) == [[], [7]]


def test_spans_become_the_templates_of_lm_bff(setting: Setting) -> None:
    spans = algorithm(SpanTemplates, setting)
    single, pair = Example("a film", label="positive"), Example("a", pair="b", label="positive")
    assert spans._with_gaps(replace(single), is_behind=False)[0] == "a film"
    assert spans._candidate(("It was", "."), single, is_behind=False).template == "{text} It was {mask} ."
    assert spans._candidate(("A", "one:"), single, is_behind=True).template == "A {mask} one: {text}"
    assert spans._candidate(("?", ","), pair, is_behind=False).template == "{text_a} ? {mask} , {text_b}"


def test_the_policy_gradient_of_two_words() -> None:
    """At equal logits each word's probability is a half: (1 * (1 - 1/2) + -1 * (0 - 1/2)) / 2 = 1/2."""
    gradient = policy_gradient(np.zeros((1, 2)), np.array([[0], [1]]), np.array([1.0, -1.0]))
    np.testing.assert_allclose(gradient, [[0.5, -0.5]])
    np.testing.assert_allclose(standardised(np.array([1.0, 3.0])), [-1.0, 1.0])
    np.testing.assert_allclose(standardised(np.array([2.0, 2.0])), [0.0, 0.0])


def test_the_policy_is_what_words_are_drawn_from() -> None:
    logits = np.log(np.array([[0.1, 0.2, 0.7], [0.5, 0.5, 1e-9]]))
    words = drawn(logits, 20_000, np.random.default_rng(0))
    shares = np.stack([np.bincount(place, minlength=3) / 20_000 for place in words.T])
    np.testing.assert_allclose(shares, np.exp(logits), atol=0.015)


def test_the_reward_is_rlprompts() -> None:
    """Margins 0.5 and -0.2: (200 * 0.5 + 180 * -0.2) / 2 = 32."""
    assert reward(raced("a", [0.25, 0.6])) == pytest.approx(32.0)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["sphere", "ellipsoid"])
def test_cma_es_takes_as_many_evaluations_as_the_reference(name: str) -> None:
    """In law: the median over seeds of the evaluations to the target, `cmaes` beside Hansen's own `cma`."""
    pytest.importorskip("cmaes", reason="needs the extra `search`")
    cma = pytest.importorskip("cma", reason="needs the reference library cma")
    size = 8
    scales = np.ones(size) if name == "sphere" else 10.0 ** np.linspace(0, 2, size)

    def value(point: np.ndarray) -> float:
        return float(((scales * (point - 0.5)) ** 2).sum())

    def ours(seed: int) -> int:
        search, count = strategy(size, 1.0, seed, separable=False), 0
        while True:
            points = [search.ask() for _ in range(search.population_size)]
            values = [value(point) for point in points]
            count += len(points)
            if min(values) < 1e-6:
                return count
            search.tell(list(zip(points, values, strict=True)))

    def theirs(seed: int) -> int:
        options = {"seed": seed + 1, "popsize": 16, "verbose": -9, "ftarget": 1e-6}
        search = cma.CMAEvolutionStrategy(np.zeros(size), 1.0, options)
        while not search.stop():
            points = search.ask()
            search.tell(points, [value(point) for point in points])
        return int(search.result.evaluations)

    counts = [np.median([run(seed) for seed in range(9)]) for run in (ours, theirs)]
    assert counts[0] == pytest.approx(counts[1], rel=0.15)
