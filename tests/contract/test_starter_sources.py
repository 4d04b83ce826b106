"""The source tasks of the starter banks that are derived from others."""

from __future__ import annotations

import importlib
from collections import Counter
from pathlib import Path
from types import ModuleType

import pytest

from promptgraft.bank.bank import STARTER, Bank


@pytest.fixture
def sources(root: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """scripts/starter_sources.py"""
    monkeypatch.syspath_prepend(str(root / "scripts"))
    return importlib.import_module("starter_sources")


ENGLISH = {
    "Who wrote the book ?": "person",
    "in what year was the church built ?": "time",
    "how many people live there ?": "number",
    "Why did the king leave ?": "reason",
    "how is glass made ?": "manner",
    "Which country won ?": "place",
    "What colour is it ?": "thing",
    "Name the river .": None,
}
CHINESE = {
    "基金会现任董事会主席是谁？": "人物",
    "莎莉公司成立于哪一年？": "时间",
    "潛江市隸屬於中國的哪一個省份?": "地点",
    "䲟体长可达多少厘米？": "数量",
    "人口大量死亡的原因是什么？": "原因",
    "他如何学会画画？": "方式",
    "蓍的别名是什么？": "事物",
    "请说出它的名字。": None,
}


@pytest.mark.parametrize(("language", "question"), [("en", text) for text in ENGLISH] + [("zh", t) for t in CHINESE])
def test_a_question_is_of_the_kind_of_its_question_word(language: str, question: str, sources: ModuleType) -> None:
    patterns, expected = (sources.QUESTIONS, ENGLISH) if language == "en" else (sources.QUESTIONS_ZH, CHINESE)
    assert sources._kind_of(question, patterns) == expected[question]


def test_every_kind_of_question_has_a_description(sources: ModuleType) -> None:
    assert sources.QUESTIONS.keys() == sources.QUESTION_LABELS.keys()
    assert sources.QUESTIONS_ZH.keys() == sources.QUESTION_LABELS_ZH.keys()


def test_the_ten_domains_have_fifteen_intents_each_and_share_none(sources: ModuleType) -> None:
    intents = [intent for group in sources.DOMAINS.values() for intent in group.split()]
    assert len(intents) == len(set(intents)) == 150
    assert {len(group.split()) for group in sources.DOMAINS.values()} == {15}
    assert sources.DOMAINS.keys() == sources.DOMAIN_LABELS.keys()


def test_half_the_pairs_have_a_wrong_partner_of_another_group(sources: ModuleType) -> None:
    pairs = [(f"what is {number}", f"it is number {number}") for number in range(40)]
    groups = [str(number % 10) for number in range(40)]
    rows = sources._matched(pairs, "right", "wrong", "word", groups)
    assert Counter(row.label for row in rows) == {"right": 20, "wrong": 20}
    owner = {second: group for (_, second), group in zip(pairs, groups, strict=True)}
    for row, (first, second), group in zip(rows, pairs, groups, strict=True):
        assert row.text == first
        assert (row.pair == second) == (row.label == "right")
        assert row.label == "right" or owner[row.pair] != group


def test_what_ships_is_what_the_script_builds(sources: ModuleType) -> None:
    recipes = {model: recipes for model, (recipes, _) in importlib.import_module("build_starter").SOURCES.items()}
    for folder in STARTER.iterdir():
        assert set(Bank(folder).names()) == set(recipes[folder.name])
