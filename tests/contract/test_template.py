"""Templates: what is wrong with one is a line, and demonstrations are written into it."""

from __future__ import annotations

from collections import Counter

import pytest

from promptgraft.errors import UsageError
from promptgraft.task.kinds import KINDS
from promptgraft.task.task import Example
from promptgraft.template.demonstrations import LONGEST_SHOWN_TEXT, demonstrations
from promptgraft.template.parts import Soft, Wording
from promptgraft.template.template import Template
from toys import toy_task

WRONG = {
    "{txt} {mask}": "'{txt}' is no slot of a template; did you mean 'text'?",
    "{kind} {mask}": "'{kind}' is no slot of a template; known: choices, demos, label, mask, soft, text, text_a,",
    "{} {mask}": "a slot of the template has no name; write '{{' and '}}' for braces",
    "{text {mask}": "a '{' at character 1 of the template closes nowhere; write '{{' for a brace",
    "text} {mask}": "a '}' at character 5 of the template opens nowhere; write '}}' for a brace",
    "{text} {mask": "a '{' at character 8 of the template closes nowhere",
    "{text} {mask} {label}": "two places of the answer in the template; keep one {mask} (or {label})",
    "{text:3} {mask}": "{text} in the template takes nothing after a colon; write {text}",
    "{soft} {text}": '{soft} in the template is not understood; write {soft:5} or {soft:"It was"}',
    "{soft:0} {text}": "{soft:0} in the template; give 1 to 512 vectors",
    "{soft:9999} {text}": "{soft:9999} in the template; give 1 to 512 vectors",
    '{soft:" "} {text}': '{soft:" "} in the template has no words',
    '{soft:"It was} {text}': "{soft} in the template is not understood",
    "{demos:four} {text}": "{demos} in the template is not understood; write {demos:4}, {demos:4 near} or {demos:4:",
    "{demos:4:5} {text}": "{demos} in the template is not understood",
    "{demos:0} {text}": "{demos:0} in the template; give 1 to 256 examples",
    "{demos:2}{demos:2} {text}": "{demos} twice in the template; keep one of them",
    "{text} {demos:2} {mask}": "{demos:2} stands behind what it repeats; put {demos:2} before the fields and {mask}",
    "x" * 100_001: "a template of 100,001 characters; give 100,000 at most",
}


@pytest.mark.parametrize("text", WRONG)
def test_what_is_no_template_is_one_line(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        Template.parse(text)
    assert str(caught.value).startswith(WRONG[text])
    assert "\n" not in str(caught.value)


def test_braces_are_doubled() -> None:
    template = Template.parse('{{"a": {text}}} {{mask}}')
    assert template.parts[0] == Wording('{"a": ')
    assert template.told(Example("x"), "y") == '{"a": x} {mask}'


UNFIT = {
    ("classification", "{text_a} {mask}"): "toy-classification has single texts: no {text_a} for the template; write",
    ("classification", "{text} {choices} {mask}"): "toy-classification has single texts: no {choices}",
    ("classification", "It was {mask}."): "the template has no {text}; toy-classification has single texts; write",
    ("classification", "{text}"): "the template has no place of the answer; write {mask} where the answer stands",
    ("pair", "{text} {mask}"): "toy-pair has two texts a row: no {text} for the template; write {text_a} and {text_b}",
    ("pair", "{text_a} {mask}"): "the template has no {text_b}; toy-pair has two texts a row",
    ("span", "{text} {mask}"): "toy-span has two texts a row: no {text}",
    ("tagging", "{text} {mask}"): "toy-tagging tags words, and a template has one answer",
}


@pytest.mark.parametrize(("kind", "text"), UNFIT)
def test_a_template_that_does_not_fit_its_task_is_one_line(kind: str, text: str) -> None:
    with pytest.raises(UsageError) as caught:
        Template.parse(text).check(toy_task(kind))  # type: ignore[arg-type]
    assert str(caught.value).startswith(UNFIT[kind, text])


FIT = dict.fromkeys(KINDS, "{text} {mask}") | {
    "pair": "{text_a} {mask} {text_b}",
    "span": "{text_b} {text_a} {mask}",
    "choice": "{text} {choices} {mask}",
}
KINDS_OF_ONE_ANSWER = [kind for kind in KINDS if kind != "tagging"]


@pytest.mark.parametrize("kind", KINDS_OF_ONE_ANSWER)
def test_every_kind_but_tags_has_templates(kind: str) -> None:
    Template.parse(FIT[kind]).check(toy_task(kind))  # type: ignore[arg-type]


def test_without_an_answer_it_needs_no_place_of_one() -> None:
    Template.parse("A review: {text}").check(toy_task(), blank=False)


@pytest.mark.parametrize("kind", KINDS_OF_ONE_ANSWER)
def test_demonstrations_are_the_line_itself_with_its_answer(kind: str) -> None:
    task = toy_task(kind)  # type: ignore[arg-type]
    rows, notes = demonstrations(task, 4, seed=3)
    template = Template.parse("Look:\n{demos:4}\n" + FIT[kind])
    written = template.written_out(rows, task)
    assert len(rows) == 4
    assert notes == ("4 demonstrations from the training rows, by seed 3",)
    assert written.demos is None
    assert Template.parse(str(written)) == written
    text = written.told(Example("T", "P", ("X", "Y")), "A")
    assert len(text.splitlines()) == 6
    for line, example in zip(text.splitlines()[1:5], rows, strict=True):
        assert example.text in line
        assert (example.pair or "") in line
        if isinstance(example.label, str):
            assert example.label in line


def test_demonstrations_are_balanced_and_follow_the_seed() -> None:
    task = toy_task(train=200)
    rows, _ = demonstrations(task, 6, seed=0)
    assert Counter(example.label for example in rows) == {"positive": 3, "negative": 3}
    assert demonstrations(task, 6, seed=0)[0] == rows
    assert demonstrations(task, 6, seed=1)[0] != rows
    assert all(example in task.train for example in rows)


def test_few_rows_and_long_ones_are_said() -> None:
    rows = (Example("word " * 2_000, label="a"), Example("short", label="b"))
    task = toy_task().replace(splits={"train": rows}, labels={"a": "a", "b": "b"})
    shown, notes = demonstrations(task, 4, seed=0)
    assert max(len(example.text) for example in shown) <= LONGEST_SHOWN_TEXT
    assert "4 demonstrations were asked for; there are 2 training rows" in notes
    assert f"1 demonstrations are cut to {LONGEST_SHOWN_TEXT} characters a text" in notes


def test_a_label_says_its_words_and_a_separator_stands_between() -> None:
    task = toy_task().replace(splits={"train": (Example("{odd}", label="positive"), Example("no", label="negative"))})
    template = Template.parse('{demos:2:" | "} | {text} It was {label}.').written_out(
        task.train, task, {"positive": "great"}
    )
    assert template.told(Example("new"), "?") == "{odd} It was great. | no It was negative. | new It was ?."
    assert Template.parse(str(template)) == template


def test_vectors_are_words_or_nothing_in_demonstrations() -> None:
    template = Template.parse('{demos:1}\n{text} {soft:3} {soft:"It was"} {mask}')
    task = toy_task()
    written = template.written_out((Example("a", label="positive"),), task)
    assert written.parts[0] == Wording("a It was positive\n")
    assert sum(isinstance(part, Soft) for part in written.parts) == 2


def test_no_rows_for_demonstrations_is_one_line() -> None:
    task, template = toy_task().replace(splits={}), Template.parse("{demos:2} {text} {mask}")
    with pytest.raises(UsageError, match="toy-classification has no training rows for demonstrations"):
        demonstrations(task, 2, seed=0)
    with pytest.raises(UsageError, match=r"no labelled rows for {demos:2}"):
        template.written_out((), task)
    with pytest.raises(UsageError, match="the demonstration 'x' has no label; give labelled rows"):
        template.written_out((Example("x"),), task)
    with pytest.raises(UsageError, match=r"{demos:2} of the template is not written out yet"):
        template.filled(Example("x"))
