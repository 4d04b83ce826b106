"""The page of the study of banked prompts in searches for vectors; `search_bank.py` runs it."""

from __future__ import annotations

import csv
import itertools
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from search import LENGTH, REPORT, SHOTS, differences, is_above, losses, over, with_interval

from promptgraft.searches.vectors import POPULATION, SUBSPACE, VECTORS
from promptgraft.study.judge import mean

MODEL = "splade-tiny"
SOURCES = {
    "airline_tweets": "sentiment-cloze-en",
    "clinc150_domain": "topic-cloze-en",
    "cr": "sentiment-cloze-en",
    "dbpedia14": "topic-cloze-en",
    "financial_phrasebank": "sentiment-cloze-en",
    "goemotions": "emotion-cloze-en",
    "goemotions_hostile": "toxicity-cloze-en",
    "mpqa": "sentiment-cloze-en",
    "reviews_kitchen": "sentiment-cloze-en",
    "scicite": "topic-cloze-en",
    "sms_spam": "spam-cloze-en",
    "squad_question": "question-type-cloze-en",
    "tweet_irony": "irony-cloze-en",
    "yahoo_answers": "topic-cloze-en",
}
"""Tasks whose prompts are banked, and the templates that they are tuned in; none shares a text with a target."""
RECIPE: dict[str, object] = {"depth": "shallow", "length": 10, "steps": 250, "evaluations": 5, "max_length": LENGTH}
TEST_ROWS = 500
BUDGETS = (1_000, 5_000)
SEEDS = (0, 1, 2, 3, 4)
STRATEGIES = ("cma-es", "sep-cma-es", "random-vectors")
UNSEARCHED = "unsearched"
RANDOM, SPAN, START, UNTUNED = "random", "span", "start", "untuned"
BASE = ("cma-es", RANDOM)
"""What a search is without a bank."""
LIBRARY = ("library", RANDOM)
ARMS = (
    LIBRARY,
    *itertools.product(STRATEGIES, (RANDOM,)),
    *itertools.product((UNSEARCHED, *STRATEGIES), (SPAN, START, UNTUNED)),
)
"""Algorithms, and the directions that they take."""
SPACES = {
    RANDOM: "random directions",
    SPAN: "the bank's span, from its mean",
    START: "the bank's span, from the best source",
    UNTUNED: "the span of untuned prompts, from its mean",
}
RESULTS = Path("docs/results")
KEY = ("task", "algorithm", "space", "passes", "seed")
COLUMNS = (*KEY, "choosing_score", "report_score", "spent", "source", "found")
SOURCE_COLUMNS = ("source", "template", "rows", "template_score", "prompt_score")
Row = Mapping[str, str]


def read_rows(name: str = "search-bank.csv") -> list[dict[str, str]]:
    """The rows recorded so far."""
    path = RESULTS / name
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def named(arm: tuple[str, str]) -> str:
    """An arm's name where rows of `search.py` have that of an algorithm."""
    return "/".join(arm)


def by_arm(rows: Sequence[Row]) -> list[Row]:
    """Rows as `search.py` compares them."""
    return [{**row, "algorithm": named((row["algorithm"], row["space"])), "model": MODEL} for row in rows]


def page(rows: Sequence[Row], sources: Sequence[Row]) -> str:
    """The text of search-bank.md."""
    budgets = sorted({int(row["passes"]) for row in rows})
    parts = {budget: by_arm([row for row in rows if int(row["passes"]) == budget]) for budget in budgets}
    lines = ["# Vectors in the span of a bank: what banked prompts add to a search", ""]
    lines += [verdict(parts), "", *method(rows), ""]
    for budget, own in parts.items():
        seeds = len({row["seed"] for row in own})
        lines += [f"## {budget:,} passes, {seeds} seed{'s' * (seeds > 1)}", "", *table(own), ""]
    lines += ["## By task", "", *by_task(parts), "", "## The bank", "", *bank_table(rows, sources)]
    return "\n".join(lines).rstrip() + "\n"


def verdict(parts: Mapping[int, Sequence[Row]]) -> str:
    """What a bank adds to CMA-ES, and which searches are surely better than what they should beat."""
    lines = []
    for space in (SPAN, START):
        gains = [
            f"{with_interval(over(rows, named(('cma-es', space)), named(BASE)))} points at {budget:,} passes"
            for budget, rows in parts.items()
        ]
        lines.append(f"**`cma-es` in {SPACES[space]}, less `cma-es` without a bank:** {', '.join(gains)}.")
    rivals = {
        "`cma-es` without a bank": lambda arm: BASE,
        "the library's best template": lambda arm: LIBRARY,
        "the same algorithm in the span of untuned prompts": lambda arm: (arm[0], UNTUNED),
        "the vectors that they begin with": lambda arm: (UNSEARCHED, arm[1]),
    }
    for title, rival in rivals.items():
        better = [f"at {budget:,} passes {surely(rows, rival)}" for budget, rows in parts.items()]
        lines.append(f"**Searches with the bank certainly better than {title}:** {'; '.join(better)}.")
    return "\n\n".join(lines)


def surely(rows: Sequence[Row], rival: Callable[[tuple[str, str]], tuple[str, str]]) -> str:
    """The searches in the bank's span whose interval over what they should beat is above zero."""
    better = [
        f"`{arm[0]}` in {SPACES[arm[1]]}"
        for arm in itertools.product(STRATEGIES, (SPAN, START))
        if (gain := over(rows, named(arm), named(rival(arm)))) and is_above(gain)
    ]
    return ", ".join(better) if better else "none"


def method(rows: Sequence[Row]) -> list[str]:
    """How the figures were made."""
    tasks = sorted({row["task"] for row in rows})
    return [
        f"{MODEL}, {len(tasks)} tasks ({', '.join(tasks)}). Rows, budgets and judgement are those of "
        f"[the study of all algorithms](search.md): {SHOTS} labelled rows a class to search on, as many to choose on, "
        f"up to {REPORT} test rows for the report. Every search begins by scoring the library's first template, and "
        "may end with it. Vectors stand before its words, where the banked ones were tuned, and without a bank before "
        "the answer. A round of CMA-ES is "
        f"{POPULATION} candidates on all search rows: {POPULATION * SHOTS * 2:,} passes with two classes, "
        f"{POPULATION * SHOTS * 6:,} with six. So of {BUDGETS[0]:,} passes it has one complete round or none, and of "
        f"{BUDGETS[1]:,} nine to two. Every result is a row of [search-bank.csv](search-bank.csv). The page is "
        "remade by",
        "",
        "```",
        "python scripts/search_bank.py run --data DATA --work WORK && python scripts/search_bank.py write",
        "```",
        "",
        f"- *{SPACES[RANDOM]}*: no bank; {VECTORS} vectors, {SUBSPACE} random directions from words of the vocabulary.",
        f"- *{SPACES[SPAN]}*: `--bank`; {RECIPE['length']} vectors, the {len(SOURCES) - 1} principal axes of "
        f"{len(SOURCES)} prompts.",
        f"- *{SPACES[START]}*: `--bank --start`; the same axes. The source is the banked prompt with the lowest cost "
        "in a race of all of them on the search rows (eight rows first, then the better half on twice as many). The "
        "choosing and report rows have no part in it, and its passes are taken from the budget.",
        f"- *{SPACES[UNTUNED]}*: the placebo of the bank; as many prompts of random numbers, each vector scaled to the "
        "length of the banked one in its place.",
        "",
        f"`{UNSEARCHED}` is what the search begins with: the mean, or the source, as it is. `random-vectors` is the "
        "placebo of CMA-ES: random points of the same distribution.",
        "",
        "Differences are in points of the tasks' metrics, paired by task and seed, on the report rows if not said "
        "otherwise; with 95 % intervals (Student's t) over tasks. `lost` is the score on the choosing rows minus the "
        "score on the report rows. `vectors` is the share of searches that end with vectors, and not with the template "
        "alone.",
    ]


def table(rows: Sequence[Row]) -> list[str]:
    """A line for each arm."""
    lines = [
        "| directions | algorithm | report | less `cma-es` without a bank | less the same, untuned span "
        "| less library, report rows | less library, choosing rows | lost | vectors |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for arm in ARMS:
        own = [row for row in rows if row["algorithm"] == named(arm)]
        if not own:
            continue
        algorithm, space = arm
        report = sum(float(row["report_score"]) for row in own) / len(own)
        vectors = sum(not row["found"].startswith("the library's") for row in own) / len(own)
        rivals = (BASE, (algorithm, UNTUNED), LIBRARY)
        gains = [with_interval(over(rows, named(arm), named(rival))) if rival != arm else "" for rival in rivals]
        gains.append(chosen_gain(rows, arm) if arm != LIBRARY else "")
        lost = with_interval(mean(losses(rows, named(arm))))
        where = "" if arm == LIBRARY else SPACES[space]
        lines.append(
            f"| {where} | `{algorithm}` | {report:.1f} | {' | '.join(gains)} | {lost} | {100 * vectors:.0f} % |"
        )
    return lines


def chosen_gain(rows: Sequence[Row], arm: tuple[str, str]) -> str:
    """What an arm gains over the library on the choosing rows."""
    values = differences(rows, named(arm), named(LIBRARY), "choosing_score")
    return with_interval(mean(values)) if values else ""


def by_task(parts: Mapping[int, Sequence[Row]]) -> list[str]:
    """Mean scores on the report rows for each task."""
    arms = (LIBRARY, *itertools.product((UNSEARCHED,), (SPAN, START)), *itertools.product(("cma-es",), SPACES))
    titles = [
        f"`{algorithm}`" if arm == LIBRARY else f"`{algorithm}`, {SPACES[space]}"
        for arm in arms
        for algorithm, space in [arm]
    ]
    lines = [f"| passes | task | {' | '.join(titles)} |", f"| ---: | --- |{' ---: |' * len(arms)}"]
    for budget, rows in parts.items():
        for task in sorted({row["task"] for row in rows}):
            cells = []
            for arm in arms:
                scores = [
                    float(row["report_score"]) for row in rows if (row["task"], row["algorithm"]) == (task, named(arm))
                ]
                cells.append(f"{sum(scores) / len(scores):.1f}" if scores else "")
            lines.append(f"| {budget:,} | {task} | {' | '.join(cells)} |")
    return lines


def bank_table(rows: Sequence[Row], sources: Sequence[Row]) -> list[str]:
    """The banked prompts, on their own tasks and as what searches begin with."""
    begun = defaultdict(set)
    for row in rows:
        if row["source"]:
            begun[row["source"]].add((row["task"], row["passes"], row["seed"]))
    lines = [
        f"Shallow prompts of {RECIPE['length']} vectors, tuned on all training rows of their tasks in a template of "
        f"the library, with the words of the labels. Scores are on up to {TEST_ROWS} test rows of the own task, in its "
        "metric. The last column counts the draws of search rows, a target each, on which the prompt was the best "
        "source. No source shares a text or a data set with a target.",
        "",
        "| source | template | template alone | with the prompt | best source for |",
        "| --- | --- | ---: | ---: | --- |",
    ]
    for row in sources:
        counts = Counter(task for task, _, _ in begun[row["source"]])
        targets = ", ".join(f"{task} ({count})" for task, count in sorted(counts.items()))
        scores = (f"{float(row[name]):.1f}" for name in ("template_score", "prompt_score"))
        lines.append(f"| {row['source']} | {row['template']} | {' | '.join(scores)} | {targets} |")
    return lines
