"""What is said of rows that hold few or no words that a model knows, such as text in another language."""

from __future__ import annotations

from collections.abc import Sequence

from promptgraft.engine.given import WHERE


def unread_rows(count: int, model: str) -> str:
    """In words: so many rows hold few or no words that a model knows."""
    return f"{'1 row holds' if count == 1 else f'{count:,} rows hold'} {_few_words(model)}"


def unread_note(numbers: Sequence[int], rows: int, model: str, places: Sequence[str] | None = None) -> str:
    """A note that the answers to rows say little; the arguments are those of `blank_note`."""
    first = first_place(numbers, places)
    what = f"{len(numbers):,} of {rows:,} rows hold {_few_words(model)} (first: {first})"
    return f"{what}: what it says of them means little"


def first_place(numbers: Sequence[int], places: Sequence[str] | None) -> str:
    """What the first of some rows is called: as one of all places, or by its number."""
    return f"{WHERE} {numbers[0]}" if places is None else places[numbers[0]]


def _few_words(model: str) -> str:
    return f"few or no words that {model} knows"
