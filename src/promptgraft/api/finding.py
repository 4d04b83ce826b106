"""A prompt in words that a search found is read from the search's folder, for the verbs that go on with it."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from promptgraft.engine.worded import labels_words, wording
from promptgraft.errors import RunError, UsageError, nearest
from promptgraft.prompt.card import SearchCard, SplitScore
from promptgraft.searches.all import PLACEBOS
from promptgraft.task.task import Task
from promptgraft.template.known import EXPECTED, KnownTemplate, index, open_template
from promptgraft.untrusted import read_bytes, read_json

FOUND, SEARCH, VECTORS = "found.json", "search.json", "found.safetensors"
LARGEST = 1 << 24
"""Bytes of what a search wrote: its curve is part of it."""


@dataclass(frozen=True)
class FoundWords:
    """What a search found, as it is used on.

    Attributes:
        template: the shown rows written out.
        verbalizer: the labels' words.
        card: what an artefact keeps of it.
        notes: what was taken, and what of it was left.
    """

    template: str
    verbalizer: str
    card: SearchCard
    notes: tuple[str, ...]


def with_found(recipe: Mapping[str, object], task: Task) -> tuple[dict[str, object], FoundWords | None]:
    """A recipe in which the folder of a search, given as template or as words to start from, is what was found there.

    The labels' words come along with a template, unless others are given or the task has other labels.

    Raises:
        UsageError: a folder in which no search ended.
    """
    given = dict(recipe)
    for name in ("template", "init_text"):
        place = given.get(name)
        if not is_search(str(place or "")):
            continue
        found = found_words(Path(str(place)))
        if name == "init_text":
            return {**given, name: wording(found.template)}, found
        given["template"] = found.template
        if given.get("verbalizer") or not found.verbalizer:
            return given, found
        found = fitting(found, task)
        return {**given, "verbalizer": found.verbalizer}, found
    return given, None


def fitting(found: FoundWords, task: Task) -> FoundWords:
    """What a search found, without the words of labels, which is noted, where a task has other labels."""
    try:
        labels_words(found.verbalizer, task)
    except (UsageError, RunError):
        note = f"the words that the search found for labels are not taken: {task.name} has other labels"
        return FoundWords(found.template, "", found.card, (*found.notes, note))
    return found


def opened_template(given: str) -> tuple[KnownTemplate, FoundWords | None]:
    """A template by its name or text, or the one that a search found, whose folder is given; and what it found.

    Raises:
        UsageError: it is none of these.
        RunError: a file of a search cannot be read.
    """
    if not is_search(given):
        _check_no_path(given)
        return open_template(given), None
    found = found_words(Path(given))
    return open_template(found.template), found


def is_search(given: str) -> bool:
    """Whether a text names a folder, of a search, rather than a template."""
    if not given or "{" in given or given in index():
        return False
    try:
        return Path(given).is_dir()
    except OSError:  # it is longer than any path
        return False


def _check_no_path(given: str) -> None:
    """Raises a UsageError where what should be a template names a file, or a folder that is not there."""
    if "{" in given:
        return
    path, folders = Path(given), []
    with suppress(OSError):
        if path.is_file():
            do = f"{EXPECTED}; on rows of a file it is tried by `promptgraft templates try FILE --template NAME`"
            raise UsageError(f"{given} is a file, not a template", do=do)
        folders = sorted(place.name for place in path.parent.iterdir() if place.is_dir())
    if path.name == given or any(character.isspace() for character in given):
        return
    beside, known = nearest(path.name, folders), nearest(path.name, index())
    near = known if beside is None else str(path.parent / beside)
    do = f"{EXPECTED}, or the folder of a search" if near is None else f"did you mean {near!r}?"
    raise UsageError(f"there is no folder {given}", do=do)


def found_words(folder: Path) -> FoundWords:
    """What a search found that was best on its choosing rows; of a folder of one algorithm, what that one found.

    Raises:
        UsageError: no search ended there.
        RunError: a file of it cannot be read.
    """
    paths = [folder / FOUND] if (folder / FOUND).exists() else sorted(folder.glob(f"*/{FOUND}"))
    if not paths:
        what = f"{folder} is a folder in which no search has ended"
        raise UsageError(what, do="name the folder of promptgraft search, a template, or one of the library")
    entries = [_entry(path) for path in paths]
    # Of equals a placebo wins, as in the search's own verdict.
    order = sorted(range(len(entries)), key=lambda place: _rank(entries[place]["algorithm"]))
    best = max(order, key=lambda place: float(entries[place]["choosing"]["score"]))
    return _words(entries[best], paths[best].parent)


def _words(entry: Mapping[str, Any], place: Path) -> FoundWords:
    searched = place.parent / SEARCH
    model = _entry_of(searched).get("model", "") if searched.exists() else ""
    try:
        card = SearchCard(
            algorithm=entry["algorithm"], model=str(model), passes=entry["passes"],
            choosing=_score(entry["choosing"]), report=_score(entry["report"]),
        )  # fmt: skip
    except ValidationError:
        raise RunError("is not what a search writes", where=place / FOUND, do="search again") from None
    text = str(entry.get("text") or entry["template"])
    notes = [
        f"the template that {card.algorithm} found with {card.model or 'a model'} in {card.passes:,} passes is taken "
        f"({card.report.value:.1f} on {card.report.rows:,} report rows): {text!r}"
    ]
    if (place / VECTORS).exists():
        notes.append(f"the vectors that {card.algorithm} found beside its words are left: its artefact has both")
    return FoundWords(text, str(entry["verbalizer"]), card, tuple(notes))


def _rank(algorithm: str) -> int:
    return PLACEBOS.index(algorithm) if algorithm in PLACEBOS else len(PLACEBOS)


def _entry(path: Path) -> dict[str, Any]:
    """What an algorithm found, as it was written."""
    entry = _entry_of(path)
    parts = (entry.get("choosing"), entry.get("report"))
    texts = (entry.get("algorithm"), entry.get("template"), entry.get("verbalizer"))
    if not all(isinstance(part, dict) and isinstance(part.get("score"), int | float) for part in parts) or not all(
        isinstance(text, str) for text in texts
    ):
        raise RunError("is not what a search writes", where=path, do="search again")
    return entry


def _entry_of(path: Path) -> dict[str, Any]:
    content = read_json(read_bytes(path, LARGEST, RunError), path, RunError)
    if not isinstance(content, dict):
        raise RunError("is not what a search writes", where=path, do="search again")
    return content


def _score(part: Mapping[str, Any]) -> SplitScore:
    return SplitScore(value=part["score"], low=part.get("low"), high=part.get("high"), rows=part.get("rows", 0))
