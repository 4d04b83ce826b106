"""The usual names of columns, by role, most usual first."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

PAIRS = (
    ("text_a", "text_b"),
    ("sentence1", "sentence2"),
    ("sentence_1", "sentence_2"),
    ("sentence_a", "sentence_b"),
    ("premise", "hypothesis"),
    ("question1", "question2"),
    ("text1", "text2"),
    ("question", "sentence"),
    ("query", "document"),
    ("question", "passage"),
)
TEXTS = ("text", "sentence", "content", "review", "comment", "body", "utterance", "query", "tweet", "message",
         "document", "title", "question", "文本", "内容", "评论", "句子", "正文", "標題", "标题")  # fmt: skip
LABELS = ("label", "labels", "class", "category", "target", "sentiment", "intent", "emotion", "topic", "score",
          "rating", "stars", "标签", "標籤", "类别", "類別", "分类", "情感", "评分",
          "categories", "topics", "emotions", "genres", "tags")  # fmt: skip
WORDS = ("tokens", "words")
TAGS = ("tags", "ner_tags", "pos_tags", "labels")
CHOICES = ("choices", "options", "endings", "candidates")
ANSWERS = ("answers", "answer")
CONTEXTS = ("context", "passage", "paragraph", "document")
SOURCES = ("source", "input", "src", "document", "article", "dialogue", "原文", "输入")
"""Names of texts that another text is written for, before those of `TEXTS`."""
TARGETS = ("target", "summary", "output", "tgt", "highlights", "headline", "title", "translation", "reference",
           "references", "response", "completion", "译文", "输出", "摘要", "标题", "標題")  # fmt: skip
"""Names of texts that are to be written."""
SURE_TARGETS = ("target", "summary", "highlights", "headline", "references", "摘要")
"""Those of `TARGETS` that show a task of writing where nothing says the kind."""
REFERENCES = ("references",)
"""Names of lists of all texts that may be written for a row."""
CLASSES = ("label", "labels", "class", "category", "intent", "emotion", "topic", "标签", "標籤", "類別", "类别", "分类")
"""Names of labels that are classes even where they are whole numbers."""
IDS = ("", "id", "idx", "index", "guid", "uid", "qid", "编号", "序号")
USUAL = {
    *(name for pair in PAIRS for name in pair),
    *TEXTS,
    *LABELS,
    *WORDS,
    *TAGS,
    *CHOICES,
    *ANSWERS,
    *CONTEXTS,
    *SOURCES,
    *TARGETS,
    *IDS,
}
"""Names that show that a line is a header and not a row."""


def pick(names: Iterable[str], row: Mapping[str, Any]) -> str | None:
    """The row's own spelling of the first of the names that it has, whatever the case."""
    spellings = {column.strip().lower(): column for column in row}
    return next((spellings[name] for name in names if name in spellings), None)
