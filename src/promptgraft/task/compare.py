"""Finds texts that occur twice: within a task, or in two tasks."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence

from promptgraft.task.task import SPLITS, Example, References, Task

NOT_A_LETTER = re.compile(r"[\W_]+")
IDEOGRAPH = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]")
STOCK_PHRASE = 24


def overlap(a: Task, b: Task) -> dict[tuple[str, str], int]:
    """How many texts of a split of `a` also stand in a split of `b`: (split of a, split of b) -> count, where not 0.

    Each text of an example counts by itself (either side of a pair, question or context, the words of a tagging row)
    on its letters and digits alone, width and case folded. Texts under 24 letters (8 ideographs, which count three)
    are stock phrases that stand everywhere, and are left out.
    """
    units_a = {split: long_texts(a.splits[split]) for split in SPLITS if split in a.splits}
    units_b = {split: long_texts(b.splits[split]) for split in SPLITS if split in b.splits}
    shared = {(x, y): len(units_a[x] & units_b[y]) for x in units_a for y in units_b}
    return {splits: count for splits, count in shared.items() if count}


def long_texts(examples: Sequence[Example]) -> set[str]:
    """The normalised texts of a split that are more than a stock phrase."""
    texts = {text for e in examples for text in (e.text, e.pair or "", " ".join(e.tokens)) if text}
    units = (NOT_A_LETTER.sub("", unicodedata.normalize("NFKC", text).casefold()) for text in texts)
    return {unit for unit in units if len(unit) + 2 * len(IDEOGRAPH.findall(unit)) >= STOCK_PHRASE}


def repeat_notes(splits: Mapping[str, Sequence[Example]]) -> list[str]:
    """Notes on rows that repeat an earlier row of their split, and on rows that another split has too."""
    inputs = {split: [whole_input(example) for example in splits[split]] for split in SPLITS if split in splits}
    notes = [repeats_within(split, inputs[split], splits[split]) for split in inputs]
    names = list(inputs)
    pairs = [(a, b) for n, a in enumerate(names) for b in names[n + 1 :]]
    notes += [repeats_between(a, b, inputs[a], inputs[b]) for a, b in pairs]
    return [note for note in notes if note]


def count_rows(count: int) -> str:
    """A number of rows in words: "1 row", "2 rows"."""
    return f"{count} row" if count == 1 else f"{count} rows"


def whole_input(example: Example) -> str:
    """The whole input that an example gives a model, with case and white space folded."""
    parts = (example.text, example.pair or "", *example.choices, " ".join(example.tokens))
    return "\x1f".join(" ".join(part.casefold().split()) for part in parts)


def repeats_within(split: str, inputs: Sequence[str], examples: Sequence[Example]) -> str:
    """A note on repeated rows, and on how many inputs have different labels; empty where no row is repeated."""
    repeated = len(inputs) - len(set(inputs))
    if not repeated:
        return ""
    note = f"{split}: {count_rows(repeated)} with the input of an earlier row"
    if any(isinstance(example.label, References) for example in examples):
        return note
    labels = Counter(text for text, _ in {(text, str(e.label)) for text, e in zip(inputs, examples, strict=True)})
    contradicting = sum(count > 1 for count in labels.values())
    if not contradicting:
        return note
    whose = "1 input has" if contradicting == 1 else f"{contradicting} inputs have"
    return f"{note} ({whose} different labels)"


def repeats_between(a: str, b: str, in_a: Sequence[str], in_b: Sequence[str]) -> str:
    """A note on rows of split b that split a has too; empty where there are none."""
    seen = set(in_a)
    shared = sum(text in seen for text in in_b)
    return f"{shared} of {count_rows(len(in_b))} of {b} also in {a}" if shared else ""
