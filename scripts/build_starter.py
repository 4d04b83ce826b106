"""Rebuild the starter bank: source prompts for minilm, tuned on sets whose licence allows to hand them on.

    python scripts/build_starter.py --data ../shared/data/tasks [--bank src/promptgraft/bank/starter] [--only a,b]

Goes on where it was: a prompt that is in the bank already is left as it is. Two processes may share the work
(`--part 0/2` and `--part 1/2`).
"""

from __future__ import annotations

import argparse
from pathlib import Path

import promptgraft.api as pg
from promptgraft.bank.bank import open_bank
from promptgraft.task.load import load_task
from promptgraft.task.task import Example, Task

# name: recipe values that differ from the defaults. Licences are those of the data as published: Apache-2.0
# (goemotions), CC BY (banking77, clinc150, sms_spam, wnut17, btc), CC BY-SA (dbpedia14, snli, qnli, boolq, squad,
# comve, arc_easy, ud_ewt_pos), BSD (copa), OANC and others that allow redistribution (mnli).
TASKS: dict[str, dict[str, object]] = {
    "goemotions_valence": {},
    "goemotions": {},
    "banking77": {"steps": 500},
    "clinc150": {"steps": 500},
    "sms_spam": {},
    "dbpedia14": {},
    "snli": {},
    "mnli": {},
    "qnli": {},
    "boolq": {"max_length": 128, "batch": 16},
    "squad": {"max_length": 192, "batch": 12},
    "comve": {},
    "copa": {"batch": 16},
    "arc_easy": {"batch": 16},
    "wnut17": {},
    "btc": {},
    "ud_ewt_pos": {},
}
COMMON: dict[str, object] = {"steps": 300, "batch": 32, "max_length": 64, "evaluations": 8}
TEST_ROWS = 1000
VALENCE = {"joy": "positive", "anger": "negative", "disgust": "negative", "fear": "negative", "sadness": "negative"}


def valence(task: Task) -> Task:
    """GoEmotions' comments as positive or negative; neutral and surprised ones are left out."""

    def relabel(rows: tuple[Example, ...]) -> tuple[Example, ...]:
        return tuple(Example(row.text, label=VALENCE[str(row.label)]) for row in rows if row.label in VALENCE)

    return task.replace(
        name="goemotions_valence",
        family="sentiment",
        metric="f1",
        labels={"negative": "a comment with a negative feeling", "positive": "a comment with a positive feeling"},
        splits={split: relabel(rows) for split, rows in task.splits.items()},
    )


def open_source(data: Path, name: str) -> Task:
    """A source task, derived where its name says so."""
    return valence(load_task(data / "goemotions")) if name == "goemotions_valence" else load_task(data / name)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--bank", type=Path, default=Path("src/promptgraft/bank/starter"))
    parser.add_argument("--model", default="minilm")
    parser.add_argument("--only", default=",".join(TASKS))
    parser.add_argument("--part", default="0/1")
    options = parser.parse_args()
    part, parts = map(int, options.part.split("/"))
    backbone = pg.open_model(options.model)
    bank = open_bank(options.bank, create=True)
    for name in options.only.split(",")[part::parts]:
        if name in bank.names():
            continue
        task = open_source(options.data, name)
        outcome = pg.tune(task, backbone, test_rows=TEST_ROWS, bank=bank, name=name, **{**COMMON, **TASKS[name]})
        scores = {split: round(found["score"], 1) for split, found in outcome.best.result.scores.items()}
        print(
            f"{name}: {scores}, step {outcome.best.result.best_step}, {outcome.best.result.seconds:.0f} s", flush=True
        )


if __name__ == "__main__":
    main()
