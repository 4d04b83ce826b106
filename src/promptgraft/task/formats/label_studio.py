"""Reads Label Studio's exports: JSON (tasks with annotations), and JSON-MIN and CSV (one annotation a row).

Writes tasks with predictions, to be imported there; exported again, they are read like any other.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from xml.sax.saxutils import quoteattr

from promptgraft.errors import TaskError, quoted
from promptgraft.task.formats.contract import Content, Count, Format, ReadRows, rows_by, rows_with
from promptgraft.task.formats.votes import has_several, majority, voted_labels
from promptgraft.task.formats.words import Mark, tagged_words
from promptgraft.task.names import TEXTS
from promptgraft.task.table import Columns, TableRow
from promptgraft.task.task import Kind
from promptgraft.untrusted import read_json

ANNOTATIONS = ("annotations", "completions")
CANCELLED = ("was_cancelled", "skipped")
ABOUT = {"id", "annotator", "annotation_id", "created_at", "updated_at", "lead_time"}
"""Columns of JSON-MIN and CSV that say when and by whom, not what."""


def is_json(content: Content) -> bool:
    """Whether every row is a task with its data and a list of annotations."""
    return rows_with(content, "data") and all(
        isinstance(row["data"], dict) and any(isinstance(row.get(name), list) for name in ANNOTATIONS)
        for row, _ in content.rows
    )


def read_json_export(content: Content) -> ReadRows:
    """One row for each task: the data's columns, and a column for each question that has classes or marks."""
    count = Count()
    kinds = questions(content)
    marked = next((name for name, kind in kinds.items() if kind == "labels"), None)
    names = [name for name, kind in kinds.items() if (kind == "labels") == (marked is not None)]

    def convert(task: dict[str, Any]) -> Iterator[dict[str, Any]]:
        annotations = next(task[name] for name in ANNOTATIONS if isinstance(task.get(name), list))
        valid = [annotation for annotation in annotations if not any(annotation.get(mark) for mark in CANCELLED)]
        if annotations and not valid:
            count.add("rows whose annotations were all cancelled, left out")
            return
        answers = {
            name: [answer_of(annotation["result"], name, kinds[name], count) for annotation in valid] for name in names
        }
        yield {"data": dict(task["data"]), "answers": answers}

    return labelled_reading(rows_by(content, convert), names, marked, count)


def questions(content: Content) -> dict[str, str]:
    """The questions that were asked (`from_name`) with the type of their answers, the most answered first."""
    counts: Counter[tuple[str, str]] = Counter()
    for row, _ in content.rows:
        for annotation in next(row[name] for name in ANNOTATIONS if isinstance(row.get(name), list)):
            results = annotation.get("result") if isinstance(annotation, dict) else None
            for result in results if isinstance(results, list) else []:
                if isinstance(result, dict) and result.get("type") in ("choices", "labels", "rating"):
                    counts[str(result.get("from_name")), result["type"]] += 1
    return dict(name for name, _ in counts.most_common())


def answer_of(results: Sequence[Mapping[str, Any]], name: str, kind: str, count: Count) -> Any:
    """One annotator's answer to a question: a list of classes, a number, or a tuple of marks; None without an answer.

    Who submits nothing at all says that no class fits.
    """
    values = [result["value"] for result in results if result.get("from_name") == name and result.get("type") == kind]
    if kind == "labels":
        return tuple(sorted(mark for value in values for mark in marks_of(value, count)))
    if not values:
        return None if results or kind == "rating" else []
    return values[0]["rating"] if kind == "rating" else [str(choice) for choice in values[0]["choices"]]


def marks_of(value: Mapping[str, Any], count: Count) -> Iterator[Mark]:
    """The mark of one region; of several labels the first is used."""
    count.add("marks of several labels, of which the first is used", int(len(value["labels"]) > 1))
    yield int(value["start"]), int(value["end"]), str(value["labels"][0])


def is_several(rows: Sequence[TableRow], question: str) -> bool:
    """Whether some annotator gave several classes for an answer."""
    answers = (answer for row, _ in rows for answer in row["answers"].get(question, ()))
    return has_several(answer for answer in answers if isinstance(answer, list))


def voted(answers: Sequence[Any], count: Count, *, several: bool) -> Any:
    """The answer of most annotators among those who answered."""
    given = [answer for answer in answers if answer is not None]
    if any(isinstance(answer, list) for answer in given):
        return voted_labels([a if isinstance(a, list) else [str(a)] for a in given], count, several=several)
    return majority(given, count)


def labelled_reading(
    answered: Sequence[TableRow], questions: Sequence[str], marked: str | None, count: Count
) -> ReadRows:
    """The rows with the first question as their label; marks become words with tags.

    Args:
        answered: of each row its `data`, and its `answers` to each question, one of each annotator.
    """
    several = [name for name in questions if is_several(answered, name)]
    rows: list[TableRow] = [
        (
            row["data"]
            | {name: voted(row["answers"].get(name, ()), count, several=name in several) for name in questions},
            line,
        )
        for row, line in answered
    ]
    if marked is None:
        others = [f"the label is {quoted(questions[0])}; also asked: {quoted(name)}" for name in questions[1:2]]
        names = dict.fromkeys(name for row, _ in rows for name in row)
        texts = {n for row, _ in rows for n, value in row.items() if isinstance(value, str) and n not in questions}
        text = next(iter(texts)) if len(texts) == 1 else None
        label = questions[0] if questions else None
        filled = [({**names, **row}, line) for row, line in rows]
        kind: Kind | None = "multilabel" if label in several else None
        return ReadRows(filled, Columns(text=text, label=label), kind, (*others, *count.notes()))
    tagged = []
    for row, line in rows:
        words, tags = tagged_words(text_of(row, questions), row[marked] or (), count)
        tagged.append((({"tokens": words, "tags": tags if row[marked] is not None else None}), line))
    return ReadRows(tagged, Columns(text="tokens", label="tags"), "tagging", count.notes())


def text_of(row: Mapping[str, Any], questions: Sequence[str]) -> str:
    """The text that was marked: the one with a usual name, else the longest."""
    texts = {name: value for name, value in row.items() if isinstance(value, str) and name not in questions}
    usual = next((texts[name] for name in TEXTS if name in texts), None)
    return usual if usual is not None else max(texts.values(), key=len, default="")


def is_flat(content: Content) -> bool:
    """Whether every row says who annotated it, and for how long."""
    return rows_with(content, "annotation_id", "annotator", "lead_time")


def read_flat(content: Content) -> ReadRows:
    """One row for each item: rows with the same id come from several annotators and are joined."""
    count = Count()
    plain = [({name: parsed(value) for name, value in row.items()}, line) for row, line in content.rows]
    names = [name for name in plain[0][0] if name not in ABOUT]
    answers = [name for name in names if any(is_answer(row.get(name)) for row, _ in plain)]
    marked = next((name for name in answers if any(isinstance(row.get(name), list) for row, _ in plain)), None)
    questions = answers or between(list(plain[0][0])) or choose(names, plain)
    groups: dict[str, list[TableRow]] = {}
    for n, (row, line) in enumerate(plain):
        groups.setdefault(str(row["id"]) if "id" in row else f"row {n}", []).append((row, line))
    count.add("rows of further annotators, joined with the first", len(plain) - len(groups))
    rows: list[TableRow] = []
    for group in groups.values():
        first, line = group[0]
        votes = {name: [flat_answer(row.get(name), count) for row, _ in group] for name in questions}
        data = {name: first.get(name) for name in names if name not in questions}
        rows.append(({"data": data, "answers": votes}, line))
    return labelled_reading(rows, questions, marked, count)


def parsed(value: Any) -> Any:
    """The value of a CSV cell, parsed where it holds JSON."""
    if not (isinstance(value, str) and value[:1] in ("[", "{")):
        return value
    try:
        return read_json(value, None, TaskError)
    except TaskError:
        return value


def is_answer(value: Any) -> bool:
    """Whether a value can only be an answer: several choices, or marks."""
    if isinstance(value, dict):
        return "choices" in value
    return (
        isinstance(value, list) and bool(value) and all(isinstance(part, dict) and "labels" in part for part in value)
    )


def between(names: Sequence[str]) -> list[str]:
    """The columns between `id` and `annotator`, where JSON-MIN writes the answers."""
    if "id" not in names or names.index("id") > names.index("annotator"):
        return []
    return [name for name in names[names.index("id") + 1 : names.index("annotator")] if name not in ABOUT]


def choose(names: Sequence[str], rows: Sequence[TableRow]) -> list[str]:
    """The column with the fewest different values, taken for the answers where nothing else shows which it is."""
    return sorted(names, key=lambda name: len({str(row.get(name)) for row, _ in rows}))[:1]


def flat_answer(value: Any, count: Count) -> Any:
    """One annotator's answer: classes, a class, a number, or a tuple of marks; None where there is no answer."""
    if isinstance(value, dict):
        return [str(choice) for choice in value["choices"]]
    if isinstance(value, list):
        return tuple(sorted(mark for region in value for mark in marks_of(region, count)))
    return value if value != "" else None


def task_of(
    data: Mapping[str, Any],
    columns: tuple[str, str],
    prediction: str | tuple[str, ...],
    probability: float,
    model: str,
) -> dict[str, Any]:
    """A task that no one has annotated, with a predicted class, or several labels.

    Args:
        data: what the task shows, by name.
        columns: the name of the text among these, and of the question, as the labelling interface has them.
        model: what the prediction is said to come from.
    """
    text, question = columns
    chosen = list(prediction) if isinstance(prediction, tuple) else [prediction]
    result = {"from_name": question, "to_name": text, "type": "choices", "value": {"choices": chosen}}
    predictions = [{"model_version": model, "score": round(probability, 4), "result": [result]}]
    return {"data": dict(data), "annotations": [], "predictions": predictions}


def interface_of(columns: tuple[str, str], classes: Sequence[str], *, several: bool) -> str:
    """The labelling interface for such tasks, as XML.

    Args:
        several: whether a row may get more than one of the classes.
    """
    text, question = map(quoteattr, columns)
    choices = "".join(f"<Choice value={quoteattr(name)}/>" for name in classes)
    shown = quoteattr(f"${columns[0]}")
    many = "multiple" if several else "single"
    asked = f'<Choices name={question} toName={text} choice="{many}">{choices}</Choices>'
    return f"<View><Text name={text} value={shown}/>{asked}</View>"


JSON = Format("Label Studio JSON", is_json, read_json_export)
FLAT = Format("Label Studio JSON-MIN or CSV", is_flat, read_flat)
