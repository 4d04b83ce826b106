"""What is said of rows and of labels' words that a model does not know, such as those of another language."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from promptgraft.engine.given import WHERE
from promptgraft.errors import listed_quoted, quoted
from promptgraft.model.backbone import Backbone, Speaks
from promptgraft.task.task import Example


def unread_rows(count: int, model: str) -> str:
    """In words: so many rows hold few or no words that a model knows."""
    return f"{'1 row holds' if count == 1 else f'{count:,} rows hold'} {_few_words(model)}"


def unread_note(numbers: Sequence[int], rows: int, model: str, places: Sequence[str] | None = None) -> str:
    """A note that the answers to rows say little; the arguments are those of `blank_note`."""
    first = first_place(numbers, places)
    what = f"{len(numbers):,} of {rows:,} rows hold {_few_words(model)} (first: {first})"
    return f"{what}: what it says of them means little"


def unknown_words_note(backbone: Backbone, words: Mapping[str, Sequence[str]]) -> tuple[str, ...]:
    """A note on the words of labels that hold the token for unknown words; none where the model knows all of them."""
    if not isinstance(backbone, Speaks) or backbone.unknown_token is None:
        return ()
    every = list(dict.fromkeys(word for own in words.values() for word in own))
    tokens = backbone.word_ids(every)
    unknown = [word for word, own in zip(every, tokens, strict=True) if backbone.unknown_token in own]
    if not unknown:
        return ()
    which = "label word" if len(unknown) == 1 else "label words"
    return (f"{backbone.name} does not know the {which} {listed_quoted(unknown)}, and reads any unknown word instead",)


def texts_as_places(examples: Sequence[Example]) -> list[str]:
    """What rows are called that are some of those that were given, so that their numbers would mislead."""
    return [quoted(example.text) for example in examples]


def first_place(numbers: Sequence[int], places: Sequence[str] | None) -> str:
    """What the first of some rows is called: as one of all places, or by its number."""
    return f"{WHERE} {numbers[0]}" if places is None else places[numbers[0]]


def _few_words(model: str) -> str:
    return f"few or no words that {model} knows"
