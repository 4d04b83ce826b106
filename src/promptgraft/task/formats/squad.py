"""SQuAD's json (CMRC's and DRCD's too): paragraphs with questions."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from promptgraft.task.formats.contract import Content, Format, Reading, rows_by, rows_with
from promptgraft.task.table import Columns


def recognise(content: Content) -> bool:
    """Whether every row is an article with paragraphs."""
    return rows_with(content, "paragraphs") and all(isinstance(row["paragraphs"], list) for row, _ in content.rows)


def read(content: Content) -> Reading:
    """A row a question."""
    return Reading(rows_by(content, questions), Columns(text="question", pair="context", label="answers"), "span")


def questions(article: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The questions of an article."""
    for paragraph in article["paragraphs"]:
        for asked in paragraph["qas"]:
            yield {"question": asked["question"], "context": paragraph["context"], "answers": answers(asked)}


def answers(asked: dict[str, Any]) -> dict[str, list[Any]] | None:
    """The answers of a question as two lists; None where there are none to know."""
    if "answers" not in asked:
        return None
    given = [] if asked.get("is_impossible") else asked["answers"]
    return {key: [answer[key] for answer in given] for key in ("text", "answer_start")}


FORMAT = Format("SQuAD", recognise, read, kind="span")
