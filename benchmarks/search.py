"""Candidates of a search scored a second: all in packed batches, beside one at a time with plain transformers.

    python benchmarks/search.py [--models splade-tiny,smollm2-135m] [--what words,demonstrations] [--rounds 5]

A candidate is the template "{text} It was {mask}." with a few of its words changed at random (`words`), or with four
labelled rows shown before it (`demonstrations`); each is scored on 32 reviews of the sample data, from texts on.
transformers takes a candidate at a time: its rows padded to the longest, fp32, logits of the last place alone where it
offers that. Ours uses the arithmetic that the product chooses, and has other candidates in every step, of rows that it
has read before, as in a search; beside it the same with every candidate tokenised by itself. `ratio` is a path's time
over ours, round by round.

Prints JSON and writes benchmarks/results/search.json.
"""

from __future__ import annotations

import random
import warnings
from collections.abc import Sequence
from dataclasses import replace
from itertools import cycle, islice
from typing import Any

import common
import torch
from common import Row, Turn

from promptgraft.api.searching import setting_for
from promptgraft.model.backbone import Backbone, Speaks
from promptgraft.model.catalog import resolve
from promptgraft.model.load import load_backbone
from promptgraft.prompt.reading import Reading
from promptgraft.searches.candidate import Candidate
from promptgraft.searches.random_search import random_edits
from promptgraft.searches.run import Setting
from promptgraft.searches.scorer import AskedRows
from promptgraft.template.template import Template

TEMPLATE = "{text} It was {mask}."
CANDIDATES, QUICK, SHOWN = 32, 4, 4
GENERATIONS = 64
"""Steps after which the first candidates come again."""
OURS, ALONE, PLAIN = "promptgraft", "promptgraft, each tokenised alone", "transformers"
TARGET = 8.0


def candidates(setting: Setting, what: str, count: int) -> list[Candidate]:
    """So many candidates, drawn by seed."""
    generator = random.Random(0)
    found: dict[str, Candidate] = {}
    while len(found) < count:
        candidate = random_edits(setting.space.start, setting.space, generator)
        if what == "demonstrations":
            rows = tuple(generator.sample(range(len(setting.split.search)), SHOWN))
            template = f'{{demos:{SHOWN}:"\\n\\n"}}{TEMPLATE}'
            candidate = replace(setting.space.start, template=template, shown=rows)
        if candidate is not None:
            found[candidate.key] = candidate
    return list(found.values())


def our_turn(setting: Setting, found: Sequence[Candidate], count: int) -> Turn:
    """So many candidates on the choosing rows, others in each step; the classes' probabilities."""
    rows, scorer = setting.split.choosing, setting.scorer
    starts = cycle(range(0, len(found), count))

    def turn(steps: int) -> None:
        for start in islice(starts, steps):
            asked = [(candidate, range(len(rows))) for candidate in found[start : start + count]]
            scorer.shares([sheet for sheet in scorer.sheets(asked, rows, own=False) if isinstance(sheet, AskedRows)])

    return turn


def turn_alone(setting: Setting, found: Sequence[Candidate]) -> Turn:
    """The same with every candidate tokenised by itself."""
    rows, scorer, task = setting.split.choosing, setting.scorer, setting.space.task

    def sheet(candidate: Candidate) -> AskedRows:
        reading = Reading("mark", template=candidate.written_out(task, scorer.pool))
        limit = scorer.backbone.max_length if candidate.shown else scorer.limit
        tokens = scorer.backbone.tokenize(rows, task.kind, reading, max_length=limit)
        return AskedRows(candidate, tuple(range(len(rows))), tokens, scorer.columns_of_words(candidate.words))

    def turn(steps: int) -> None:
        for _ in range(steps):
            scorer.shares([sheet(candidate) for candidate in found])

    return turn


def their_turn(name: str, setting: Setting, found: Sequence[Candidate]) -> Turn:
    """The same with transformers, a candidate at a time."""
    import transformers

    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    warnings.filterwarnings("ignore", category=FutureWarning)
    backbone, path = setting.scorer.backbone, resolve(name).path
    tokenizer = transformers.AutoTokenizer.from_pretrained(path)
    is_masked = isinstance(backbone, Speaks) and backbone.mask is not None
    kind: Any = transformers.AutoModelForMaskedLM if is_masked else transformers.AutoModelForCausalLM
    model = kind.from_pretrained(path, dtype=torch.float32).eval()
    tokenizer.padding_side = "right" if is_masked else "left"
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    words = torch.tensor([backbone.word_ids([own[0]])[0][0] for _, own in found[0].words])  # type: ignore[attr-defined]
    mask = tokenizer.mask_token if is_masked else ""
    rows, pool, task = setting.split.choosing, setting.split.search, setting.space.task

    def one(candidate: Candidate) -> None:
        template = Template.parse(candidate.written_out(task, pool))
        told = [template.told(row, "\x00") for row in rows]
        texts = [text.replace("\x00", mask) if is_masked else text.partition("\x00")[0].rstrip() for text in told]
        batch = tokenizer(texts, padding=True, truncation=True, max_length=backbone.max_length, return_tensors="pt")
        if is_masked:
            logits = model(**batch).logits[batch["input_ids"] == tokenizer.mask_token_id]
        else:
            logits = model(**batch, logits_to_keep=1).logits[:, -1]
        logits[:, words].softmax(-1)

    def turn(steps: int) -> None:
        with torch.no_grad():
            for _ in range(steps):
                for candidate in found:
                    one(candidate)

    return turn


def measured(model: str, what: str, rounds: int, *, quick: bool) -> list[Row]:
    """A row for each path."""
    backbone: Backbone = load_backbone(resolve(model).path, dtype="auto")
    setting, _ = setting_for(common.TARGET, backbone, shots=16, passes=10_000, template=TEMPLATE)
    count = QUICK if quick else CANDIDATES
    every = candidates(setting, what, count * (2 if quick else GENERATIONS))
    found = every[:count]
    turns = {
        OURS: our_turn(setting, every, count),
        ALONE: turn_alone(setting, found),
        PLAIN: their_turn(model, setting, found),
    }
    seconds = common.interleaved(turns, rounds, seconds=0.05 if quick else 0.6)
    ratios = {
        path: [its / ours for its, ours in zip(seconds[path], seconds[OURS], strict=True)] for path in (ALONE, PLAIN)
    }
    shared = {"model": model, "what": what, "rows": len(setting.split.choosing), "candidates": len(found)}
    return [
        {
            **shared,
            "path": path,
            **common.spread("candidates_a_second", [len(found) / value for value in seconds[path]], 1),
            **(common.spread("ratio", ratios[path], 2) if path in ratios else {}),
            **({"aim": TARGET} if path == PLAIN else {}),
        }
        for path in turns
    ]


def main() -> None:
    parser = common.parser(__doc__, models="splade-tiny,smollm2-135m", rounds=5)
    parser.add_argument("--what", default="words,demonstrations")
    options = parser.parse_args()
    rounds = 1 if options.quick else options.rounds
    for model in options.models.split(","):
        for what in options.what.split(","):
            common.write(__file__, measured(model, what, rounds, quick=options.quick), options.out)


if __name__ == "__main__":
    main()
