"""Reads SQuAD's json, which CMRC and DRCD use too: paragraphs with questions."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from promptgraft.task.formats.contract import Content, Format, ReadRows, rows_by, rows_with
from promptgraft.task.table import Columns


def recognise(content: Content) -> bool:
    """Whether every row is an article with paragraphs."""
    return rows_with(content, "paragraphs") and all(isinstance(row["paragraphs"], list) for row, _ in content.rows)


def read(content: Content) -> ReadRows:
    """One row for each question."""
    return ReadRows(rows_by(content, questions), Columns(text="question", pair="context", label="answers"), "span")


def questions(article: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The questions of an article."""
    for paragraph in article["paragraphs"]:
        for question in paragraph["qas"]:
            yield {"question": question["question"], "context": paragraph["context"], "answers": answers(question)}


def answers(question: dict[str, Any]) -> dict[str, list[Any]] | None:
    """The answers of a question as two lists; None where the file gives none, as in a hidden test set."""
    if "answers" not in question:
        return None
    gold = [] if question.get("is_impossible") else question["answers"]
    return {key: [answer[key] for answer in gold] for key in ("text", "answer_start")}


FORMAT = Format("SQuAD", recognise, read, kind="span")
