"""What a bank adds to the search for vectors; docs/results/search-bank.{csv,md} and search-bank-sources.csv.

    python scripts/search_bank.py run --data ../shared/data/tasks --work WORK [--tasks sst2,subj] [--passes 1000]
    python scripts/search_bank.py write

`run` tunes the bank in WORK first, then searches. The CSVs are the record: `run` leaves out what they hold, and `write`
makes the page from them.
"""

from __future__ import annotations

import argparse
import csv
import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import filelock
import torch
from search import ENGLISH, LENGTH, REPORT, SHOTS
from search_bank_page import (
    ARMS,
    BUDGETS,
    COLUMNS,
    KEY,
    MODEL,
    RANDOM,
    RECIPE,
    RESULTS,
    SEEDS,
    SOURCE_COLUMNS,
    SOURCES,
    START,
    TEST_ROWS,
    UNSEARCHED,
    UNTUNED,
    Row,
    page,
    read_rows,
)
from starter_sources import open_source

import promptgraft.api as pg
from promptgraft.api.searching import setting_for
from promptgraft.bank.bank import Bank, open_bank
from promptgraft.engine.rank import banked
from promptgraft.method.job import Source
from promptgraft.model.backbone import Backbone
from promptgraft.model.load import load_backbone
from promptgraft.prompt.prompt import Prompt
from promptgraft.searches.all import find
from promptgraft.searches.banked import banked_span
from promptgraft.searches.budget import Budget
from promptgraft.searches.candidate import Candidate
from promptgraft.searches.fixed import Fixed
from promptgraft.searches.journal import Journal
from promptgraft.searches.oracle import Oracle
from promptgraft.searches.race import race
from promptgraft.searches.run import FoundPrompt, Setting, run_algorithm
from promptgraft.searches.space import Space
from promptgraft.searches.vectors import with_vectors
from promptgraft.task.load import load_task
from promptgraft.task.sampling import cap


class Unsearched(Fixed):
    """The vectors that a search would begin with, and nothing else."""

    name: ClassVar[str] = UNSEARCHED
    summary: ClassVar[str] = "the vectors that a search begins with"

    def listed(self) -> Sequence[Candidate]:
        assert self.space.banked is not None, "it stands beside searches in a span"
        return [in_template(self.space, torch.from_numpy(self.space.banked.centre).float())]


@dataclass(frozen=True)
class Company:
    """What the searches of one task, seed and budget share.

    Attributes:
        setting: without a bank.
        best: the source that is best on the search rows.
        cost: passes that it took to find it out.
    """

    setting: Setting
    sources: Sequence[Source]
    best: str
    cost: int

    def of(self, space: str) -> Setting:
        """The setting of searches in some directions."""
        if space == RANDOM:
            return self.setting
        sources = untuned(self.sources) if space == UNTUNED else self.sources
        own = self.setting.space
        span, _ = banked_span(sources, self.setting.proposer, own.task, self.best if space == START else "")
        passes = self.setting.passes - (self.cost if space == START else 0)
        return replace(self.setting, space=replace(own, banked=span), passes=passes)


def run(data: Path, work: Path, tasks: Sequence[str], budgets: Sequence[int]) -> None:
    """Every search that the CSV does not hold, one after the other, seed by seed."""
    backbone = load_backbone(MODEL, dtype="auto")
    bank = open_bank(work / "bank", create=True)
    fill(bank, data, backbone)
    sources, _ = banked(bank, backbone)
    for seed, passes, name in itertools.product(SEEDS, budgets, tasks):
        done = {tuple(row[column] for column in KEY) for row in read_rows()}
        keys = [(name, algorithm, space, str(passes), str(seed)) for algorithm, space in ARMS]
        missing = [key for key in keys if key not in done]
        if missing:
            company = company_of(data / name, backbone, sources, passes, seed)
            for key in missing:
                search_one(company, key)


def fill(bank: Bank, data: Path, backbone: Backbone) -> None:
    """Tune the prompts that the bank or the CSV does not hold yet, and record how good each is on its own task."""
    recorded = {row["source"] for row in read_rows("search-bank-sources.csv")}
    for name, template in SOURCES.items():
        if name in bank.names() and name in recorded:
            continue
        task = open_source(data, name)
        plain = pg.tune(task, backbone, method="zero-shot", shots=0, template=template, test_rows=TEST_ROWS)
        recipe = {**RECIPE, "template": template}
        tuned = pg.tune(task, backbone, test_rows=TEST_ROWS, bank=bank, name=name, replace=True, **recipe)
        before, after = (outcome.artefact.card.scores["test"] for outcome in (plain, tuned))
        scores = {"template_score": f"{before.value:.2f}", "prompt_score": f"{after.value:.2f}"}
        facts = {"source": name, "template": template, "rows": str(after.rows)}
        add("search-bank-sources.csv", SOURCE_COLUMNS, facts | scores)
        print(name, scores, flush=True)


def company_of(folder: Path, backbone: Backbone, sources: Sequence[Source], passes: int, seed: int) -> Company:
    """The rows of a task and seed, and the best source on its search rows."""
    task = cap(load_task(folder), "test", REPORT, 1)
    setting, _ = setting_for(task, backbone, passes=passes, shots=SHOTS, seed=seed, max_length=LENGTH)
    budget = Budget(passes)
    candidates = [in_template(setting.space, values_of(source)) for source in sources]
    raced = race(candidates, Oracle(setting.scorer, setting.split.search, budget, Journal(None)))
    best = min(raced, key=lambda entry: entry.rank).candidate
    [name] = [own.name for own, candidate in zip(sources, candidates, strict=True) if candidate.key == best.key]
    return Company(setting, sources, name, budget.spent)


def in_template(space: Space, values: torch.Tensor) -> Candidate:
    """Vectors before the words of the template that searches begin with."""
    template = with_vectors(space, len(values), begins=True)
    return replace(space.start, template=template, vectors=Prompt(values, "template"), origin="the bank as it is")


def values_of(source: Source) -> torch.Tensor:
    prompt = source.artefact.prompt
    assert prompt is not None, "the bank has prompts alone"
    return prompt.values.detach()


def untuned(sources: Sequence[Source]) -> list[Source]:
    """As many prompts of random vectors, each vector as long as the one in whose place it is."""
    result = []
    for number, source in enumerate(sources):
        values = values_of(source)
        drawn = torch.randn(values.shape, generator=torch.Generator().manual_seed(number))
        lengths = values.norm(dim=1, keepdim=True) / drawn.norm(dim=1, keepdim=True)
        prompt = Prompt(drawn * lengths, "after_cls")
        result.append(Source(source.name, source.artefact.replace(prompt=prompt)))
    return result


def search_one(company: Company, key: tuple[str, ...]) -> None:
    """One search, recorded."""
    _, name, space, _, _ = key
    kind = Unsearched if name == UNSEARCHED else find(name)
    found = run_algorithm(kind, company.of(space), None, lambda spent, label: None)
    row = dict(zip(KEY, key, strict=True)) | figures(found, company, space)
    add("search-bank.csv", COLUMNS, row)
    print(*key, row["choosing_score"], row["report_score"], flush=True)


def figures(found: FoundPrompt, company: Company, space: str) -> dict[str, str]:
    """What the CSV holds of a find."""
    starts = space == START
    return {
        "choosing_score": f"{found.choosing.score:.2f}",
        "report_score": f"{found.report.score:.2f}",
        "spent": str(found.passes + (company.cost if starts else 0)),
        "source": company.best if starts else "",
        "found": found.candidate.origin,
    }


def add(name: str, columns: Sequence[str], row: Row) -> None:
    """Add a row to a CSV, in the place of one with the same key; several processes may do so at a time."""
    with filelock.FileLock(RESULTS / ".search-bank.lock"):
        rows = sorted([*(known for known in read_rows(name) if order(known) != order(row)), row], key=order)
        with (RESULTS / name).open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, columns, lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)


def order(row: Row) -> tuple[object, ...]:
    """Where a row stands in its CSV."""
    names = KEY if "task" in row else ("source",)
    return tuple(int(row[name]) if name in ("passes", "seed") else row[name] for name in names)


def write() -> None:
    """Make the page from the CSVs."""
    (RESULTS / "search-bank.md").write_text(page(read_rows(), read_rows("search-bank-sources.csv")), encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("run", "write"))
    parser.add_argument("--data", type=Path)
    parser.add_argument("--work", type=Path, help="where the bank is kept")
    parser.add_argument("--tasks", default=",".join(ENGLISH))
    parser.add_argument("--passes", default=",".join(map(str, BUDGETS)))
    options = parser.parse_args()
    if options.what == "write":
        write()
        return
    if options.data is None or options.work is None:
        parser.error("run needs --data and --work")
    budgets = [int(number) for number in options.passes.split(",")]
    run(options.data, options.work, options.tasks.split(","), budgets)


if __name__ == "__main__":
    main()
