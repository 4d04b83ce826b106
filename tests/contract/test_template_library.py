"""The library of templates: complete in styles and languages, found by name, with words for the labels of tasks."""

from __future__ import annotations

import dataclasses
from collections import Counter

import pytest

from promptgraft.errors import UsageError
from promptgraft.task.kinds import KINDS
from promptgraft.task.task import Task
from promptgraft.template.known import STYLES, KnownTemplate, find_template, index, open_template, templates
from promptgraft.template.words import words_for
from toys import toy_task

ALL = templates()


def task_of(language: str = "en", **labels: str) -> Task:
    """A task with labels and their descriptions."""
    named = {label.replace("_", " ", 1) if label.startswith("very_") else label: text for label, text in labels.items()}
    return toy_task().replace(labels=named, language=language)


def test_every_family_has_three_styles_in_two_languages() -> None:
    places = Counter((known.family, known.style, known.language) for known in ALL)
    families = {known.family for known in ALL}
    assert len(families) >= 12
    assert len(ALL) >= 48
    assert set(places) == {(family, style, lang) for family in families for style in STYLES for lang in ("en", "zh")}
    assert sum(known.language == "zh" for known in ALL) * 2 == len(ALL)


@pytest.mark.parametrize("known", ALL, ids=lambda known: known.name)
def test_a_template_of_the_library_is_whole(known: KnownTemplate) -> None:
    assert find_template(known.name) is known
    assert known.name == f"{known.family}-{known.style}-{known.language}"
    assert str(known.template) == known.text
    assert known.template.has_blank
    assert known.template.demos is None
    assert set(known.kinds) <= {*KINDS, "text"}
    for kind in set(known.kinds) & set(KINDS):
        known.template.check(toy_task(kind))  # type: ignore[arg-type]
    if known.words:
        firsts = [words[0] for words in known.words.values()]
        usual = [label for label in known.words if label not in ("yes", "no", "not entailment")]  # they exclude others
        assert all(words and all(words) for words in known.words.values())
        assert len(firsts) >= 2
        assert usual
    else:
        assert set(known.kinds) <= {"choice", "span", "text"}


def test_names_and_texts_are_distinct() -> None:
    assert len({known.text for known in ALL}) == len(ALL) == len(index())


def test_the_library_is_listed_by_what_one_looks_for() -> None:
    assert [known.name for known in templates(language="zh", style="cloze", family="sentiment")] == [
        "sentiment-cloze-zh"
    ]
    assert {known.family for known in templates(kind="pair")} == {"inference", "paraphrase", "reading"}


@pytest.mark.parametrize(
    ("filters", "line"),
    [
        ({"family": "sentimnt"}, "unknown family of templates 'sentimnt'; did you mean 'sentiment'?"),
        ({"style": "clozes"}, "unknown style of templates 'clozes'; did you mean 'cloze'?"),
        ({"language": "fr"}, "unknown language of templates 'fr'; known: en, zh"),
        ({"kind": "pairs"}, "unknown kind of templates 'pairs'; did you mean 'pair'?"),
    ],
)
def test_what_the_library_lacks_is_one_line(filters: dict[str, str], line: str) -> None:
    with pytest.raises(UsageError) as caught:
        templates(**filters)
    assert str(caught.value) == line


def test_a_template_is_a_name_or_a_text() -> None:
    assert open_template("topic-cloze-en") is find_template("topic-cloze-en")
    own = open_template("{text} It was {label}.")
    assert (own.text, own.words, own.name) == ("{text} It was {mask}.", {}, "")
    with pytest.raises(UsageError, match=r"unknown template 'topic-cloze'; did you mean 'topic-cloze-"):
        open_template("topic-cloze")
    with pytest.raises(UsageError, match=r"the template 'It was great' has no slot; write \{text\} where"):
        open_template("It was great")


def test_a_field_behind_the_answer_is_for_masked_models() -> None:
    assert not find_template("inference-cloze-en").left_to_right
    assert find_template("inference-question-en").left_to_right


LABELS = {
    "names": (
        "sentiment-cloze-en",
        task_of(positive="", negative=""),
        {"positive": ("great", "good", "wonderful"), "negative": ("terrible", "bad", "awful")},
    ),
    "spellings": (
        "sentiment-question-en",
        task_of(POS="POS", Neg="Neg"),
        {"POS": ("positive", "good"), "Neg": ("negative", "bad")},
    ),
    "descriptions": (
        "sentiment-question-en",
        task_of(**{"0": "a negative review", "1": "a positive review"}),
        {"0": ("negative", "bad"), "1": ("positive", "good")},
    ),
    "what a description denies": (
        "toxicity-question-en",
        task_of(**{"0": "not hate speech", "1": "hate speech"}),
        {"0": ("no",), "1": ("yes",)},
    ),
    "a word that all begin with": (
        "topic-cloze-en",
        task_of(news_sport="", news_tech=""),
        {"news_sport": ("sports", "football"), "news_tech": ("technology", "science", "computers")},
    ),
    "five steps": (
        "sentiment-cloze-en",
        task_of(very_negative="", negative="", neutral="", positive="", very_positive=""),
        {
            "very negative": ("horrible", "dreadful"),
            "negative": ("terrible", "bad", "awful"),
            "neutral": ("okay", "average"),
            "positive": ("great", "good", "wonderful"),
            "very positive": ("fantastic", "excellent"),
        },
    ),
    "Chinese descriptions": (
        "sentiment-cloze-zh",
        task_of("zh", a="好评", b="差评"),
        {"a": ("好", "棒"), "b": ("差", "糟")},
    ),
    "one word, one label": (
        "inference-descriptive-en",
        task_of(entailment="", contradiction="", neutral=""),
        {"entailment": ("true",), "contradiction": ("false",), "neutral": ("unknown", "possible")},
    ),
    "labels of their own": (
        "intent-cloze-en",
        task_of(card_is_lost="the card is lost", cancel_transfer="cancel a transfer"),
        {"card_is_lost": ("card is lost",), "cancel_transfer": ("cancel transfer",)},
    ),
    "Chinese for foreign names": (
        "intent-cloze-zh",
        task_of("zh", bus="汽车票", map="地图"),
        {"bus": ("汽车票",), "map": ("地图",)},
    ),
    "numbers say what they stand for": ("topic-cloze-en", task_of(**{"7": "old maps"}), {"7": ("old maps",)}),
}


@pytest.mark.parametrize("case", LABELS)
def test_labels_have_words(case: str) -> None:
    name, task, words = LABELS[case]
    assert dict(words_for(find_template(name), task).words) == words


def test_notes_say_where_words_come_from() -> None:
    task = task_of(positive="", odd_label="")
    assert words_for(find_template("sentiment-cloze-en"), task).notes == (
        "words of the template sentiment-cloze-en: positive = great or good or wonderful",
        "labels that stand for themselves: odd_label = odd label",
    )


def test_an_own_template_has_the_labels_themselves() -> None:
    assert words_for(open_template("{text} {mask}"), toy_task()).words == {
        "negative": ("negative",),
        "positive": ("positive",),
    }


@pytest.mark.parametrize("known", [known for known in ALL if known.words], ids=lambda known: known.name)
def test_no_word_stands_for_two_labels(known: KnownTemplate) -> None:
    labels = [label for label in known.words if not label.startswith("not ")]
    task = dataclasses.replace(toy_task(), labels={label: label for label in labels})
    words = words_for(known, task).words
    shared = [word for word, count in Counter(word for own in words.values() for word in own).items() if count > 1]
    firsts = Counter(own[0] for own in known.words.values())
    assert all(firsts[word] > 1 for word in shared)  # "no" is what contradiction and "not entailment" both say
