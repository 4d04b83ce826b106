"""An artefact of several labels a row gets further labels, and further rows, without the rows it was tuned on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np
import torch
from jaxtyping import Bool, Float, Int

from promptgraft.engine.class_change import ClassChange
from promptgraft.engine.known_rows import given_again, known_places
from promptgraft.engine.predictor import Predictor
from promptgraft.engine.share import Shared
from promptgraft.errors import RunError, listed
from promptgraft.prompt.memory import UNKNOWN, LabelMemory
from promptgraft.readout.classes import indicators, labels_given
from promptgraft.readout.extend_labels import (
    SeveralRows,
    as_label_map,
    label_features,
    label_odds,
    refit_labels,
    remembered_labels,
    widened,
    with_labels,
)
from promptgraft.readout.extend_threshold import settled_anew, unseen_labels
from promptgraft.readout.multilabel import Multilabel, MultilabelText
from promptgraft.readout.readout import Readout
from promptgraft.task.draws import Array
from promptgraft.task.task import Example, Task

M = TypeVar("M", bound=Readout)


def linear_maps(predictor: Predictor, as_map: Callable[[Readout], M | None]) -> list[M]:
    """The members' readouts as linear maps.

    Raises:
        RunError: one is none.
    """
    card, task = predictor.artefact.card, predictor.task
    maps = [as_map(member.readout) for member in predictor.tuned.members]
    linear = [readout for readout in maps if readout is not None]
    if len(linear) < len(maps):
        unfit = predictor.tuned.members[maps.index(None)].readout
        what = f"readout {unfit.name!r} takes no further {'label' if task.facts.several else 'class'}"
        do = "extend an artefact of graft, which transfer makes"
        raise RunError(what, where=task.name, do=f"{do} without --template" if card.method == "graft" else do)
    return linear


def label_maps(predictor: Predictor) -> list[Multilabel]:
    """The members' readouts as linear maps to log odds."""
    return linear_maps(predictor, as_label_map)


def extended_labels(
    predictor: Predictor, name: str, task: Task, added: Sequence[str], rows: Sequence[Example]
) -> tuple[list[Multilabel], LabelMemory, list[str]]:
    """The members' readouts with new labels and fitted to rows, what is remembered then, and notes.

    Args:
        task: with the new labels.
        added: the new labels.
    Raises:
        RunError: the artefact remembers nothing of the rows it was fitted to.
    """
    memory = _memory(predictor, name)
    readouts = label_maps(predictor)
    if added:
        readouts = _described(predictor, readouts, memory, task, added)
    memory = widened(memory, readouts)
    if not rows:
        return readouts, memory, []
    seen = SeveralRows(_side_by_side(predictor, rows), indicators([row.label for row in rows], task))
    again = known_places(seen.features, memory.sample, [readout.weight.shape[1] for readout in readouts])
    says_same = (again >= 0) & (memory.labels.numpy()[again] == seen.y).all(1) if len(memory.labels) else again >= 0
    notes = given_again(again, says_same)
    memory = memory.without(torch.from_numpy(np.unique(again[(again >= 0) & ~says_same])))
    seen = SeveralRows(seen.features[~says_same], seen.y[~says_same])
    if not len(seen.y):
        return readouts, memory, notes
    everywhere = [label for label, has in zip(task.classes, seen.y.T, strict=True) if has.all() and label in added]
    if everywhere and len(memory.labels):
        notes.append(f"every row has {listed(everywhere)}: rows without it would tell where it ends")
    moved = refit_labels(readouts, memory, seen)
    unseen = unseen_labels(readouts, moved, memory, seen, len(predictor.classes))
    settled, note = settled_anew(moved, unseen, macro=task.metric == "macro_f1")
    kept = remembered_labels(memory, seen, None if memory.odds is None else unseen.odds)
    return settled, kept, [*notes, note]


def _memory(predictor: Predictor, name: str) -> LabelMemory:
    """What the artefact remembers; nothing where it was fitted to nothing, as label text is.

    Raises:
        RunError: it was fitted to rows and remembers none.
    """
    artefact = predictor.artefact
    if isinstance(artefact.memory, LabelMemory):
        return artefact.memory
    is_text = all(isinstance(member.readout, MultilabelText) for member in predictor.tuned.members)
    if not is_text or artefact.card.trainable:
        what = "keeps nothing of the rows it was tuned on, by which a label is set beside the others"
        raise RunError(what, where=name, do="make it anew by transfer: graft remembers")
    readouts = label_maps(predictor)
    width = sum(readout.weight.shape[1] for readout in readouts)
    return LabelMemory.empty(width, len(predictor.classes))


def _described(
    predictor: Predictor, readouts: Sequence[Multilabel], memory: LabelMemory, task: Task, added: Sequence[str]
) -> list[Multilabel]:
    """The readouts with new labels from their descriptions, where features are what describes them."""
    shared, texts = Shared(predictor.backbone), list(task.labels.values())
    widths = np.cumsum([readout.weight.shape[1] for readout in readouts])
    sample = memory.sample.double().numpy()
    centres = np.split(sample.mean(0), widths[:-1]) if len(sample) else [None] * len(readouts)
    found = []
    for readout, member, centre in zip(readouts, predictor.tuned.members, centres, strict=True):
        is_described = member.reading.encoding == "cross" and member.reading.template is None
        described = shared.describe(texts, member.reading.pooling).double().numpy() if is_described else None
        found.append(with_labels(readout, added, described, centre))
    return found


def _side_by_side(predictor: Predictor, rows: Sequence[Example]) -> Float[Array, "U D"]:
    """The rows' features under all members, as their readouts read them."""
    looks = predictor.looks(rows)
    parts = [label_features(readout, look.features) for readout, look in zip(label_maps(predictor), looks, strict=True)]
    return np.concatenate([part.double().numpy() for part in parts], axis=1)


def judged_labels(
    before: Predictor, after: Predictor, readouts: Sequence[Multilabel], test: Sequence[Example]
) -> tuple[tuple[ClassChange, ...], str]:
    """What became of the answers by label, on test rows or else on remembered ones, and which these are."""
    if test:
        y = indicators([row.label for row in test], after.task)
        first, last = (_table(predictor.predict(test), after.classes) for predictor in (before, after))
        return _changes(y, first, last, len(before.classes), after.classes), f"{len(test)} test rows"
    memory = before.artefact.memory
    if not isinstance(memory, LabelMemory) or not len(memory.labels):
        return (), ""
    sample, known = memory.sample.double().numpy(), memory.labels.numpy()
    y = np.full((len(known), len(after.classes)), UNKNOWN)
    y[:, : known.shape[1]] = known
    first, last = (
        _table(maps[0].chosen(torch.from_numpy(label_odds(maps, sample))), after.classes)
        for maps in (label_maps(before), readouts)
    )
    judged_on = f"{len(sample)} remembered rows it was fitted to"
    return _changes(y, first, last, len(before.classes), after.classes), judged_on


def _table(predictions: Sequence[object], classes: Sequence[str]) -> Bool[Array, "U C"]:
    """Which labels each row gets."""
    has = np.zeros((len(predictions), len(classes)), dtype=bool)
    has[labels_given([names for names in predictions if isinstance(names, tuple)], classes)] = True
    return has


def _changes(
    y: Int[Array, "U C"], before: Bool[Array, "U C"], after: Bool[Array, "U C"], old: int, names: Sequence[str]
) -> tuple[ClassChange, ...]:
    """The changes of every label that rows have.

    Args:
        old: how many labels were there before.
    """
    gets_new = np.any(after[:, old:], axis=1)
    changes = []
    for place, name in enumerate(names):
        rows = np.flatnonzero(y[:, place] > 0)
        if not len(rows):
            continue
        first, last = before[rows, place], after[rows, place]
        right_before = int(first.sum()) if place < old else None
        changed, to_new = int((first != last).sum()), int(np.count_nonzero(gets_new[rows]))
        changes.append(ClassChange(name, len(rows), right_before, int(last.sum()), changed, to_new))
    return tuple(changes)
