"""Rebuild the starter banks: source prompts of a model, tuned on sets whose licence allows to hand them on.

    python scripts/build_starter.py --data ../shared/data/tasks --model e5-small [--only a,b]

Goes on where it was: a prompt that is in the bank already is left as it is. Two processes may share the work
(`--part 0/2` and `--part 1/2`).
"""

from __future__ import annotations

import argparse
from pathlib import Path

from starter_sources import open_source

import promptgraft.api as pg
from promptgraft.bank.bank import STARTER, open_bank
from promptgraft.engine.interval import interval
from promptgraft.engine.predictor import Predictor
from promptgraft.model.backbone import Backbone
from promptgraft.prompt.artefact import Artefact, halved
from promptgraft.prompt.card import SplitScore
from promptgraft.task.metrics import score
from promptgraft.task.task import Task

Recipes = dict[str, dict[str, object]]
TEST_ROWS = 1000
RECORD_LENGTH = 64

# Recipe values that differ from the model's common ones, by source. Left out is what was read no better than by a
# guess: copa on minilm, PAWS-X in Chinese on e5-small.
MINILM: Recipes = {
    "goemotions_valence": {},
    "goemotions": {},
    "goemotions_feeling": {},
    "goemotions_hostile": {},
    "banking77": {"steps": 500},
    "clinc150": {"steps": 500},
    "clinc150_domain": {},
    "sms_spam": {},
    "dbpedia14": {},
    "dbpedia_kind": {},
    "squad_question": {},
    "e2e_rating": {},
    "scicite": {},
    "comve_sense": {},
    "btc_names": {},
    "snli": {},
    "mnli": {},
    "qnli": {},
    "boolq": {"max_length": 128, "batch": 16},
    "scitldr_match": {"max_length": 128, "batch": 16},
    "squad_answerable": {},
    "squad": {"max_length": 192, "batch": 12},
    "comve": {},
    "arc_easy": {"batch": 16},
    "wnut17": {},
    "btc": {},
    "bc5cdr": {},
    "ud_ewt_pos": {},
}
LONGER: dict[str, object] = {"steps": 800, "batch": 32, "max_length": 64, "evaluations": 8}
E5_SMALL: Recipes = {
    "csl_category": LONGER,
    "csl_field": LONGER,
    "cmrc_question": {},
    "drcd_question": {},
    "cmrc_answerable": {"max_length": 96, "batch": 16},
    "drcd_answerable": {"max_length": 96, "batch": 16},
    "cmrc2018": {"max_length": 192, "batch": 8},
    "classical_style": {},
    "classical_match": {"max_length": 64},
    "goemotions_valence": LONGER,
    "goemotions": LONGER,
    "goemotions_hostile": LONGER,
    "banking77": LONGER | {"steps": 250},
    "clinc150_domain": LONGER,
    "sms_spam": {},
    "dbpedia14": {"max_length": 64},
    "squad_question": {},
    "snli": {},
    "btc": {},
}
BGE_SMALL_EN: Recipes = {
    "goemotions_valence": LONGER,
    "goemotions": LONGER,
    "goemotions_hostile": LONGER,
    "banking77": {"steps": 250},
    "clinc150_domain": LONGER,
    "sms_spam": {},
    "dbpedia14": {"max_length": 64},
    "squad_question": {},
    "e2e_rating": {},
    "scicite": {"max_length": 64},
    "snli": {},
    "qnli": {"max_length": 64},
    "btc": {},
}
# Read in words, so that what was learned is carried to other words; not in the bank that ships, which it would double.
SMOLLM2: Recipes = {
    "goemotions_valence": {"template": "sentiment-descriptive-en"},
    "goemotions": {"template": "emotion-descriptive-en"},
    "goemotions_hostile": {"template": "toxicity-descriptive-en"},
    "clinc150_domain": {"template": "topic-descriptive-en"},
    "sms_spam": {"template": "spam-descriptive-en"},
    "dbpedia14": {"template": "topic-descriptive-en"},
    "squad_question": {"template": "question-type-descriptive-en"},
    "scicite": {"template": "topic-descriptive-en"},
    "snli": {"template": "inference-descriptive-en"},
}
# The models of twelve layers get shorter prompts, fewer steps and shorter texts: their prompts are twice as large on
# disk, and their steps take twice as long. What is far from learned by then (`LONGER`) gets as many steps as help.
TWELVE_LAYERS: dict[str, object] = {"steps": 160, "batch": 24, "max_length": 48, "evaluations": 5, "length": 10}
SOURCES: dict[str, tuple[Recipes, dict[str, object]]] = {
    "minilm": (MINILM, {"steps": 300, "batch": 32, "max_length": 64, "evaluations": 8}),
    "e5-small": (E5_SMALL, TWELVE_LAYERS),
    "bge-small-en": (BGE_SMALL_EN, TWELVE_LAYERS),
    "smollm2-135m": (SMOLLM2, TWELVE_LAYERS | {"max_length": 80}),
}


def to_keep(artefact: Artefact, task: Task, backbone: Backbone) -> Artefact:
    """The artefact in half precision, with the test score that it has in half precision."""
    smaller = halved(artefact.replace(labelled={}))  # a source is not asked how sure it is
    predictions = Predictor(smaller, backbone).predict(task.test)
    low, high = interval(task, predictions, task.test)
    value = score(task, predictions, task.test)["score"]
    test = SplitScore(value=value, low=low, high=high, rows=len(task.test))
    return smaller.replace(card=smaller.card.replace(scores={**smaller.card.scores, "test": test}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--model", choices=SOURCES, default="minilm")
    parser.add_argument("--bank", type=Path, help="default: the model's folder of the bank that ships")
    parser.add_argument("--only", help="names of sources, with commas between them")
    parser.add_argument("--part", default="0/1")
    parser.add_argument("--record", action="store_true", help="only: see how the prompts serve each other's tasks")
    options = parser.parse_args()
    part, parts = map(int, options.part.split("/"))
    recipes, common = SOURCES[options.model]
    names = options.only.split(",") if options.only else list(recipes)
    backbone = pg.open_model(options.model)
    bank = open_bank(options.bank or STARTER / options.model, create=True)
    if options.record:
        tasks = [pg.open_task(open_source(options.data, name)) for name in names if name in bank.names()]
        pg.record(bank, backbone, [task for task in tasks if task.kind == "classification"], max_length=RECORD_LENGTH)
        return
    for name in names[part::parts]:
        if name in bank.names():
            continue
        task = pg.open_task(open_source(options.data, name), test_rows=TEST_ROWS)
        outcome = pg.tune(task, backbone, **{**common, **recipes[name]})
        artefact = to_keep(outcome.artefact, task, backbone)
        bank.add(artefact, name)
        scores = {split: round(found.value, 1) for split, found in artefact.card.scores.items()}
        print(f"{name}: {scores}, step {outcome.best.result.best_step}, {artefact.card.seconds:.0f} s", flush=True)


if __name__ == "__main__":
    main()
