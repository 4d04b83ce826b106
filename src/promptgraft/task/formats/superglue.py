"""Reads SuperGLUE's jsonl files whose rows hold more than one or two texts with a label."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from promptgraft.task.formats.contract import Content, Format, ReadRows, rows_by, rows_with
from promptgraft.task.table import Columns

PAIR = Columns(text="text", pair="pair", label="label")


def is_copa(content: Content) -> bool:
    """Whether the rows are a premise, two choices and a question."""
    return rows_with(content, "premise", "choice1", "choice2", "question")


def read_copa(content: Content) -> ReadRows:
    """Rows of two choices; the label is the number of the right one, from 0."""
    columns = Columns(text="text", question="question", choices="choices", label="label")
    return ReadRows(rows_by(content, copa), columns, "choice")


def copa(row: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """One question with its choices. A label that numbers no choice is kept, and refused where labels are read."""
    choices = [str(row["choice1"]), str(row["choice2"])]
    number = str(row.get("label"))
    label = choices[int(number)] if number in ("0", "1") else row.get("label")
    yield {"text": row["premise"], "question": row["question"], "choices": choices, "label": label}


def is_wic(content: Content) -> bool:
    """Whether the rows are a word in two sentences."""
    return rows_with(content, "word", "sentence1", "sentence2")


def read_wic(content: Content) -> ReadRows:
    """Pairs; the word stands before the first sentence."""
    return ReadRows(rows_by(content, wic), PAIR, "pair", ("the word stands before the first sentence",))


def wic(row: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The pair of a row: the word with the first sentence, and the second sentence."""
    yield {"text": f"{row['word']}: {row['sentence1']}", "pair": row["sentence2"], "label": row.get("label")}


def is_wsc(content: Content) -> bool:
    """Whether the rows are a text in which a pronoun may stand for a noun."""
    return rows_with(content, "text", "target") and all(
        isinstance(row["target"], dict) and {"span1_text", "span2_text"} <= row["target"].keys()
        for row, _ in content.rows
    )


def read_wsc(content: Content) -> ReadRows:
    """Pairs of the text and `pronoun: noun`."""
    return ReadRows(rows_by(content, wsc), PAIR, "pair", ("the second text is the pronoun and what it may stand for",))


def wsc(row: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The pair of a row: the text, and the pronoun with the noun."""
    question = f"{row['target']['span2_text']}: {row['target']['span1_text']}"
    yield {"text": row["text"], "pair": question, "label": row.get("label")}


def is_multirc(content: Content) -> bool:
    """Whether the rows are a passage with questions that have answers."""
    return rows_with(content, "passage") and all(
        isinstance(row["passage"], dict) and isinstance(row["passage"].get("questions"), list)
        for row, _ in content.rows
    )


def read_multirc(content: Content) -> ReadRows:
    """One pair for each answer: question with answer, and the passage."""
    notes = ("the first text is a question with an answer, the second its passage",)
    return ReadRows(rows_by(content, multirc), PAIR, "pair", notes)


def multirc(row: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The pairs of one passage: one for each answer to each question."""
    for question in row["passage"]["questions"]:
        for answer in question["answers"]:
            text = f"{question['question']} {answer['text']}"
            yield {"text": text, "pair": row["passage"]["text"], "label": answer.get("label")}


FORMATS = (
    Format("COPA", is_copa, read_copa),
    Format("WiC", is_wic, read_wic),
    Format("WSC", is_wsc, read_wsc),
    Format("MultiRC", is_multirc, read_multirc),
)
