"""An artefact gets further classes, and further rows of any class, without the rows it was tuned on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float, Int

from promptgraft.engine.class_change import ClassChange
from promptgraft.engine.extend_labels import extended_labels, judged_labels, linear_maps
from promptgraft.engine.interval import interval
from promptgraft.engine.known_rows import given_again, known_places
from promptgraft.engine.predictor import Predictor
from promptgraft.engine.share import Shared
from promptgraft.errors import RunError, UsageError, listed, quoted
from promptgraft.prompt.artefact import Artefact, Member, halved
from promptgraft.prompt.card import Origin, SplitScore, TaskCard
from promptgraft.prompt.memory import LabelMemory, Memory
from promptgraft.prompt.reading import AT_WORDS
from promptgraft.readout.classes import class_indices
from promptgraft.readout.extend import LabelledRows, as_linear, as_read, best_classes, refit, remembered, with_classes
from promptgraft.readout.linear import Linear
from promptgraft.readout.multilabel import Multilabel
from promptgraft.task.draws import Array
from promptgraft.task.kinds import KINDS, OF_ONE_CLASS
from promptgraft.task.metrics import score as metric_score
from promptgraft.task.task import Example, Task, content_hash


@dataclass(frozen=True)
class Extended:
    """An artefact with further classes or rows, and what became of its answers.

    Attributes:
        added: label -> description of the classes that were not there.
        changes: by class, on the rows `judged_on`; empty where there are none to judge on.
        scores: the metric before and after on test rows, in percent; None without test rows.
    """

    artefact: Artefact
    predictor: Predictor
    added: Mapping[str, str]
    changes: tuple[ClassChange, ...]
    judged_on: str
    scores: tuple[float, float] | None
    notes: tuple[str, ...]


def extend(
    predictor: Predictor, name: str, labels: Mapping[str, str | None], rows: Sequence[Example], test: Sequence[Example]
) -> Extended:
    """Extend an artefact by classes, rows of old and new classes, or both.

    Args:
        name: what the artefact is called in the lineage of the new one.
        labels: new label -> description; None: the label itself describes it.
        rows: labelled by old classes and new ones.
        test: labelled rows on which the old and the new artefact are judged.
    Raises:
        UsageError, RunError: a kind or readout that takes no classes, a label that is there or has no name, or rows
            that are missing.
    """
    old = predictor.artefact
    _refuse_kind(predictor)
    added, notes = settled(labels, old.card.task.labels, rows)
    if not added and not rows:
        raise UsageError("nothing to add", where=name, do="give a label, labelled rows, or both")
    task = predictor.task.replace(labels={**predictor.task.labels, **added})
    if task.facts.several:
        several, kept, more_notes = extended_labels(predictor, name, task, list(added), rows)
        notes += more_notes
        extended = Predictor(_artefact(old, name, several, kept, task, rows), predictor.backbone)
        changes, judged_on = judged_labels(predictor, extended, several, test)
    else:
        readouts, memory, more_notes = _extended_classes(predictor, name, task, list(added), rows)
        notes += more_notes
        extended = Predictor(_artefact(old, name, readouts, memory, task, rows), predictor.backbone)
        changes, judged_on = _judged(predictor, extended, readouts, test)
    artefact, scores = extended.artefact, None
    if test:
        scores = metric_score(predictor.task, predictor.predict(test), test)["score"], extended.evaluate(test)["score"]
        artefact = artefact.replace(card=artefact.card.replace(scores={"test": _score(extended, test)}))
        extended = Predictor(artefact, predictor.backbone)
    elif old.card.scores:
        notes.append(
            "the scores on its card were those of the old classes and are taken out; --test FILE gives new ones"
        )
    return Extended(artefact, extended, added, changes, judged_on, scores, tuple(notes))


def settled(
    labels: Mapping[str, str | None], there: Mapping[str, str], rows: Sequence[Example]
) -> tuple[dict[str, str], list[str]]:
    """The labels that are new, with their descriptions, and notes.

    Raises:
        UsageError: a label without a name, one that differs from another in case only, or one that is there already and
            gets no rows.
    """
    counts = Counter(name for row in rows for name in (row.label if isinstance(row.label, tuple) else (row.label,)))
    added: dict[str, str] = {}
    notes: list[str] = []
    for given, description in labels.items():
        label = given.strip()
        if not label:
            raise UsageError("a label has no name", do="write NAME=DESCRIPTION")
        if label in there:
            if not counts[label]:
                do = "give rows of it, or another name"
                raise UsageError(f"{quoted(label)} is a class already ({quoted(there[label])})", do=do)
            other = description and description != there[label]
            stays = f"; its description stays {quoted(there[label])}" if other else ""
            notes.append(f"{quoted(label)} is a class already: its rows are added to it{stays}")
            continue
        for known in (*there, *added):
            if known.casefold() == label.casefold():
                do = "give it another name, or write it as the class is written"
                raise UsageError(f"{quoted(label)} differs from the class {quoted(known)} in case only", do=do)
        added[label] = (description or "").strip() or label
        if not counts[label]:
            _refuse_twin(label, {**there, **added})
        if added[label] == label:
            notes.append(f"{quoted(label)} has no description: its name is read")
    return added, notes


def _refuse_twin(label: str, descriptions: Mapping[str, str]) -> None:
    """Raises a UsageError where a label without rows is described as another is, so that it could only be guessed."""
    for other, description in descriptions.items():
        if other != label and description.casefold() == descriptions[label].casefold():
            what = f"{quoted(label)} is described as {quoted(other)} is ({quoted(description)})"
            raise UsageError(what, do="say what sets them apart, or give rows of it")


def _refuse_kind(predictor: Predictor) -> None:
    """Raises a RunError for a kind that has no classes or labels."""
    task = predictor.artefact.card.task
    if not (task.kind in OF_ONE_CLASS or KINDS[task.kind].several):
        do = f"extend adds classes to {', '.join(OF_ONE_CLASS)} and multilabel tasks"
        raise RunError(f"a {task.kind} task takes no further class", where=task.name, do=do)


def _extended_classes(
    predictor: Predictor, name: str, task: Task, added: Sequence[str], rows: Sequence[Example]
) -> tuple[list[Linear], Memory | None, list[str]]:
    """The members' readouts with new classes and fitted to rows, what is remembered then, and notes.

    Raises:
        RunError: a readout that takes no classes, or rows that are missing.
    """
    readouts = linear_maps(predictor, as_linear)
    if added:
        readouts = _with_classes(predictor, readouts, task, added, rows)
    memory = predictor.artefact.memory
    assert not isinstance(memory, LabelMemory), "rows have one class each"
    if rows:
        seen = LabelledRows(_side_by_side(predictor, rows), np.array(class_indices((row.label for row in rows), task)))
        wide = _widened(memory, seen, task, len(predictor.classes), name)
        widths = [readout.weight.shape[1] for readout in readouts]
        again = known_places(seen.features, wide.sample, widths)
        says_same = (again >= 0) & (wide.labels.numpy()[again] == seen.y) if len(wide.labels) else again >= 0
        notes = given_again(again, says_same)
        wide = wide.without(torch.from_numpy(np.unique(again[(again >= 0) & ~says_same])))
        fresh = LabelledRows(seen.features[~says_same], seen.y[~says_same])
        moved = refit(readouts, wide, fresh) if len(fresh.y) else readouts
        return moved, remembered(wide, fresh, len(task.classes)), notes
    if memory is not None:
        nothing = LabelledRows(np.zeros((0, memory.sample.shape[1])), np.zeros(0, dtype=np.int64))
        memory = remembered(memory, nothing, len(task.classes))
    return readouts, memory, []


def _with_classes(
    predictor: Predictor, readouts: Sequence[Linear], task: Task, names: Sequence[str], rows: Sequence[Example]
) -> list[Linear]:
    """The readouts with new classes, from their descriptions where features are what describes them.

    Raises:
        RunError: a class that neither a description nor a row tells.
    """
    members = predictor.tuned.members
    is_described = [
        task.kind == "classification" and member.reading.encoding == "cross" and member.reading.pooling not in AT_WORDS
        for member in members
    ]
    if not any(is_described):
        unknown = [name for name in names if all(row.label != name for row in rows)]
        if unknown:
            rows_read = f"{task.kind} rows" if task.kind != "classification" else "rows that are read in a template"
            what = f"what describes a class tells nothing of {rows_read}, and {listed(unknown)} has no row"
            raise RunError(what, where=task.name, do="give labelled rows of every new class")
    shared, texts = Shared(predictor.backbone), list(task.labels.values())
    return [
        with_classes(
            readout, names, shared.describe(texts, member.reading.pooling).double().numpy() if has_description else None
        )
        for readout, member, has_description in zip(readouts, members, is_described, strict=True)
    ]


def _side_by_side(predictor: Predictor, rows: Sequence[Example]) -> Float[Array, "U D"]:
    """The rows' features under all members."""
    readouts = linear_maps(predictor, as_linear)
    looks = predictor.looks(rows)
    parts = [as_read(readout, look.features) for readout, look in zip(readouts, looks, strict=True)]
    return np.concatenate([part.double().numpy() for part in parts], axis=1)


def _widened(memory: Memory | None, rows: LabelledRows, task: Task, old: int, name: str) -> Memory:
    """The memory for all classes; an empty one where the artefact has none and the rows are of every old class.

    Args:
        old: how many classes the artefact has.
    Raises:
        RunError: it has none, and rows of an old class are missing, or its features are of another width.
    """
    nothing = LabelledRows(rows.features[:0], rows.y[:0])
    if memory is None:
        absent = [task.classes[place] for place in range(old) if not (rows.y == place).any()]
        if absent:
            what = f"keeps nothing of the rows it was tuned on, and there are no rows of {listed(absent)}"
            do = "add rows of these to the file, extend without rows, or make the artefact by graft, which remembers"
            raise RunError(what, where=name, do=do)
        return remembered(None, nothing, len(task.classes))
    if memory.sample.shape[1] != rows.features.shape[1]:
        raise RunError("its memory is not as wide as its features", where=name, do="tune it again")
    return remembered(memory, nothing, len(task.classes))


def _artefact(
    old: Artefact,
    name: str,
    readouts: Sequence[Linear] | Sequence[Multilabel],
    memory: Memory | LabelMemory | None,
    task: Task,
    rows: Sequence[Example],
) -> Artefact:
    """The new artefact: the old one's prompts, with readouts of more classes and a lineage that says so."""
    card = old.card
    fingerprint = content_hash([card.task.fingerprint, str(dict(task.labels)), *map(str, rows)])
    origin = Origin(role="extended", name=name, hash=old.hash, licence=card.task.licence)
    first, *others = readouts
    new = replace(
        old,
        readout=first.state(),
        others=tuple(
            Member(member.prompt, readout.state(), member.reading)
            for member, readout in zip(old.others, others, strict=True)
        ),
        memory=memory,
        # How sure the old readouts were of rows they had not seen says nothing of the new ones.
        labelled={name: tensor for name, tensor in old.labelled.items() if name == "features"},
        card=card.replace(
            task=TaskCard.model_validate(dict(card.task) | {"labels": dict(task.labels), "fingerprint": fingerprint}),
            readout=type(first).name,
            lineage=(*card.lineage, origin),
            scores={},
            trainable=card.trainable + sum(readout.weight[0].numel() + 1 for readout in readouts)
            * (len(task.classes) - len(card.task.labels)),
        ),
    )  # fmt: skip
    return halved(new) if old.half else new


def _judged(
    before: Predictor, after: Predictor, readouts: Sequence[Linear], test: Sequence[Example]
) -> tuple[tuple[ClassChange, ...], str]:
    """What became of the answers by class, on test rows or else on those of the memory, and which these are."""
    old, new = before.classes, after.classes
    memory = before.artefact.memory
    assert not isinstance(memory, LabelMemory), "rows have one class each"
    if test:
        y = np.array(class_indices((row.label for row in test), after.task))
        answers = [np.array(class_indices(predictor.predict(test), after.task)) for predictor in (before, after)]
        return _changes(y, answers[0], answers[1], old, new), f"{len(test)} test rows"
    if memory is None or not len(memory.labels):
        return (), ""
    sample = memory.sample.double().numpy()
    first, last = best_classes(linear_maps(before, as_linear), sample), best_classes(readouts, sample)
    return _changes(memory.labels.numpy(), first, last, old, new), f"{len(sample)} remembered rows it was fitted to"


def _changes(
    y: Int[Array, "U"], before: Int[Array, "U"], after: Int[Array, "U"], old: Sequence[str], new: Sequence[str]
) -> tuple[ClassChange, ...]:
    """The changes of every class that has rows."""
    return tuple(
        ClassChange(
            new[place],
            int(rows.sum()),
            int((before[rows] == place).sum()) if place < len(old) else None,
            int((after[rows] == place).sum()),
            int((after[rows] != before[rows]).sum()),
            int((after[rows] >= len(old)).sum()),
        )
        for place in range(len(new))
        if (rows := y == place).any()
    )


def _score(predictor: Predictor, test: Sequence[Example]) -> SplitScore:
    """The metric on test rows with its interval."""
    predictions = predictor.predict(test)
    low, high = interval(predictor.task, predictions, test)
    value = metric_score(predictor.task, predictions, test)["score"]
    return SplitScore(value=value, low=low, high=high, rows=len(test))
