"""The words that stand for a task's labels under a template of the library."""

from __future__ import annotations

import re
import tomllib
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from promptgraft.errors import listed
from promptgraft.task.task import Task
from promptgraft.template.known import KnownTemplate

LABELS = Path(__file__).parent / "labels.toml"
CHINESE = re.compile("[\u3400-\u9fff]")
BETWEEN = re.compile(r"[\W_]+")
NEGATIONS = ("not", "no", "non", "without", "never", "不", "没", "没有", "非", "无")
LONGEST_WORDS = 12
"""Characters of a Chinese description that can stand for its label itself."""


@dataclass(frozen=True)
class LabelWords:
    """The words of every label, the first the most usual, and notes on where they come from."""

    words: Mapping[str, tuple[str, ...]]
    notes: tuple[str, ...]


def words_for(known: KnownTemplate, task: Task) -> LabelWords:
    """The words that stand for each of a task's labels.

    A label that is called by a usual name, or described by one, gets the template's words for that; any other stands
    for itself. A word stands for one label only.
    """
    usual = _usual(known, task)
    words = {
        label: known.words[usual[label]] if label in usual else (own_words(label, description, known.language),)
        for label, description in task.labels.items()
    }
    own = [label for label in task.labels if label not in usual]
    distinct = _distinct(words)
    notes = []
    if usual:
        shown = listed([f"{label} = {' or '.join(distinct[label])}" for label in usual])
        notes.append(f"words of the template {known.name}: {shown}")
    if own:
        shown = listed([label if words[label] == (label,) else f"{label} = {words[label][0]}" for label in own])
        notes.append(f"labels that stand for themselves: {shown}")
    return LabelWords(distinct, tuple(notes))


def _usual(known: KnownTemplate, task: Task) -> dict[str, str]:
    """Label -> usual name, where a label has one and no other label has it by an equal right."""
    spellings = {name: _spellings(name, words) for name, words in known.words.items()}
    names = {label: plain(label) for label in task.labels}
    texts = {label: plain(description) for label, description in task.labels.items()}
    found: dict[str, str] = {}
    for candidates in (*((texts, names) if known.language == "zh" else (names, texts)), _without_prefix(names)):
        found |= _new({label: _equal(text, spellings) for label, text in candidates.items()}, found)
    rest = {label: _inside(text, spellings) for label, text in texts.items() if label not in found}
    new = _new(rest, found)
    return found | new if len(new) == len(rest) else found  # of a few labels a part of their text says too little


def _new(names: Mapping[str, str | None], found: Mapping[str, str]) -> dict[str, str]:
    """The labels that get a usual name which no other label gets or has."""
    new = {label: name for label, name in names.items() if name is not None and label not in found}
    counts = Counter(new.values())
    return {label: name for label, name in new.items() if counts[name] == 1 and name not in found.values()}


def _without_prefix(names: Mapping[str, str]) -> dict[str, str]:
    """The names of labels without the word that all of them begin with."""
    first = {name.partition(" ")[0] for name in names.values()}
    return {label: name.partition(" ")[2] for label, name in names.items()} if len(first) == 1 else {}


def _equal(text: str, spellings: Mapping[str, frozenset[str]]) -> str | None:
    """The usual name that a text is a spelling of."""
    return next((name for name, own in spellings.items() if text == plain(name)), None) or next(
        (name for name, own in spellings.items() if text in own), None
    )


def _inside(text: str, spellings: Mapping[str, frozenset[str]]) -> str | None:
    """The usual name whose longest spelling stands in a text, unless that says that it is not so."""
    found = [
        (len(spelling), name)
        for name, own in spellings.items()
        for spelling in own
        if (at := _place(spelling, text)) >= 0 and not _is_negated(text[:at])
    ]
    return max(found)[1] if found else None


def _place(spelling: str, text: str) -> int:
    """Where a spelling stands in a text, as a whole word where words have spaces; -1 where it does not."""
    if CHINESE.search(spelling):
        return text.find(spelling)
    match = re.search(rf"(?<!\w){re.escape(spelling)}(?!\w)", text)
    return match.start() if match else -1


def _is_negated(before: str) -> bool:
    words = before.split()
    return (bool(words) and words[-1] in NEGATIONS) or before.endswith(
        tuple(word for word in NEGATIONS if CHINESE.search(word))
    )


def _spellings(name: str, words: Iterable[str]) -> frozenset[str]:
    """All that says a usual label: its name, its other spellings, and the template's words for it."""
    return frozenset(plain(text) for text in (name, *_usual_spellings().get(name, ()), *words))


@cache
def _usual_spellings() -> dict[str, tuple[str, ...]]:
    content = tomllib.loads(LABELS.read_text(encoding="utf-8"))
    return {name: tuple(spellings) for name, spellings in content["spellings"].items()}


def plain(text: str) -> str:
    """A text in lower case, with one space between its words."""
    return BETWEEN.sub(" ", text).strip().casefold()


def own_words(label: str, description: str, language: str) -> str:
    """What a label says by itself: its name; its description where the name is a number or of another language."""
    is_foreign = language == "zh" and not CHINESE.search(label) and bool(CHINESE.search(description))
    if (is_foreign and len(description) <= LONGEST_WORDS) or label.strip().isdigit():
        return description
    return re.sub(r"[_\s]+", " ", label).strip() or label


def _distinct(words: Mapping[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
    """The words without those that another label has before; each label keeps one."""
    firsts = Counter(options[0] for options in words.values())
    seen: set[str] = set()
    result = {}
    for label, options in words.items():
        own = [word for at, word in enumerate(options) if word not in seen and (at == 0 or not firsts[word])]
        result[label] = tuple(own) or options[:1]
        seen |= set(result[label])
    return result
