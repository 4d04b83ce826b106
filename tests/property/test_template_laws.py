"""A template is what its text says: written and read again it is the same, and filling keeps every word of it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from promptgraft.errors import UsageError
from promptgraft.task.task import Example
from promptgraft.template.parts import FIELDS, Blank, Demos, Field, FieldText, Soft, TemplatePart, Wording
from promptgraft.template.template import Template

wordings = st.builds(Wording, st.text(max_size=12) | st.sampled_from(["{", "}", "{{x}}", " It was ", "：", '"']))
softs = st.integers(1, 512).map(Soft) | st.text(min_size=1).filter(str.strip).map(lambda words: Soft(words=words))
fields = st.sampled_from(FIELDS).map(Field)
demos = st.builds(Demos, st.integers(1, 256), st.text(max_size=5), st.booleans())


@st.composite
def templates(draw: st.DrawFn, *, with_demos: bool = True) -> Template:
    """Any template: an introduction, demonstrations or none, then fields and at most one place of the answer."""
    parts: list[TemplatePart] = draw(st.lists(wordings | softs, max_size=3))
    if with_demos and draw(st.booleans()):
        parts.append(draw(demos))
    before, after = (draw(st.lists(wordings | softs | fields, max_size=4)) for _ in range(2))
    return Template((*parts, *before, *([Blank()] if draw(st.booleans()) else []), *after))


@given(templates())
def test_what_is_written_is_read_again(template: Template) -> None:
    assert Template.parse(str(template)) == template
    assert str(Template.parse(str(template))) == str(template)


@given(st.text(alphabet=st.sampled_from('{}":mask softdemlabeltext_a5\\n'), max_size=60) | st.text(max_size=60))
def test_any_text_is_a_template_or_one_line(text: str) -> None:
    template, error = read(text)
    assert "\n" not in error
    assert template is None or Template.parse(str(template)) == template


def read(text: str) -> tuple[Template | None, str]:
    """The template of a text, or the line that says why there is none."""
    try:
        return Template.parse(text), ""
    except UsageError as error:
        return None, str(error)


@given(templates(with_demos=False), st.text(), st.text(), st.lists(st.text(), max_size=3))
def test_filling_keeps_the_templates_words_and_the_rows_texts(
    template: Template, text: str, pair: str, choices: list[str]
) -> None:
    filled = template.filled(Example(text=text, pair=pair, choices=tuple(choices)))
    assert [part for part in filled if not isinstance(part, FieldText)] == [
        part for part in template.parts if not isinstance(part, Field)
    ]
    contents = [part for part in filled if isinstance(part, FieldText)]
    assert [part.field for part in contents] == [part.name for part in template.parts if isinstance(part, Field)]
    given_texts = {"text": text, "text_a": text, "text_b": pair, "choices": "; ".join(choices)}
    assert all(part.text == given_texts[part.field] for part in contents)


@pytest.mark.parametrize("text", ["{mask}", "{label}", "{ mask }"])
def test_both_spellings_are_one_place(text: str) -> None:
    assert Template.parse(text) == Template((Blank(),))
    assert str(Template.parse(text)) == "{mask}"
