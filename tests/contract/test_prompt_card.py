"""The card: its schema in the docs, its page for people."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import yaml

from banks import MOOD, small_artefact, small_card
from promptgraft.errors import ArtefactError
from promptgraft.prompt.card import Origin, TaskCard, read_card, schema
from promptgraft.prompt.readme import readme
from promptgraft.task.task import Example, Task


def test_the_schema_in_the_docs_is_that_of_the_code(root: Path) -> None:
    program = "from promptgraft.prompt.card import schema; print(schema(), end=str())"
    remake = f"python -c '{program}' > docs/card.schema.json"
    assert (root / "docs" / "card.schema.json").read_text(encoding="utf-8") == schema(), remake


def test_every_part_of_a_card_is_explained_in_the_docs(root: Path) -> None:
    page = (root / "docs" / "formats.md").read_text(encoding="utf-8")
    described = json.loads(schema())
    fields = [*described["properties"]]
    assert len(fields) >= 18
    assert [field for field in fields if f"`{field}`" not in page] == []


def test_a_task_says_all_of_itself_to_its_card() -> None:
    task = Task("m", "classification", "f1", {"a": "A", "b": "B"}, {"train": (Example("x", label="a"),)}, positive="b")
    columns = {"text": "subject", "label": "verdict"}
    more = {"family": "f", "language": "zh", "licence": "MIT", "source": "s", "columns": columns, "separator": "|"}
    card = TaskCard.of(task.replace(**more))
    assert (card.labels, card.positive, card.fingerprint) == ({"a": "A", "b": "B"}, "b", task.fingerprint)
    assert (card.family, card.language, card.licence, card.source) == ("f", "zh", "MIT", "s")
    assert (card.columns, card.separator) == (columns, "|")


def test_a_card_without_columns_keeps_the_hash_it_had() -> None:
    card = small_card(None, created="2026-01-01T00:00:00Z")
    older = json.loads(card.to_json())
    del older["task"]["columns"], older["task"]["separator"]
    assert read_card(json.dumps(older), "card.json").hash == card.hash
    named = card.replace(task=card.task.model_copy(update={"columns": {"text": "subject"}}))
    assert named.hash != card.hash
    assert card.hash == "f04b0eb61cfab308ef5bb687f659c12597fcd9759ee1493cf407cdf3819b98a9"


def test_the_page_shows_people_and_hubs_what_they_look_for() -> None:
    lineage = (Origin(role="source", name="sst2", hash="c" * 64),)
    page = readme(small_artefact(lineage=lineage).card)
    matter = yaml.safe_load(page.split("---\n")[1])
    assert matter["library_name"] == "promptgraft"
    assert matter["base_model"] == "splade-tiny"
    assert matter["license"] == "cc0-1.0"
    [result] = matter["model-index"][0]["results"]
    assert result["metrics"] == [{"type": "accuracy", "value": 0.91}]
    for shown in ("0.9100 | 0.8800 to 0.9400 | 200", "**good**: it is good", "source: sst2 (cccccccccccc)"):
        assert shown in page


def test_a_licence_the_hub_does_not_know_keeps_its_name() -> None:
    page = readme(small_card(None, task=MOOD.model_copy(update={"licence": "not stated"})))
    matter = yaml.safe_load(page.split("---\n")[1])
    assert (matter["license"], matter["license_name"]) == ("other", "not stated")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "{",
            "card.json: this is no JSON: Expecting property name enclosed in double quotes: line 1 column 2 (char 1)",
        ),
        ("[]", "card.json: schema version None, this release reads version 1; is this a promptgraft artefact?"),
        ('{"version": 2}', "card.json: schema version 2, this release reads version 1; install a newer promptgraft"),
        ('{"version": 1}', "card.json: task: Field required (and 4 more); restore the file or tune again"),
    ],
)
def test_a_card_that_cannot_be_read_is_one_line(text: str, message: str) -> None:
    with pytest.raises(ArtefactError) as caught:
        read_card(text, "card.json")
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


HOSTILE = "# a\n\n<script>alert(1)</script> | ![x](http://x/y) \x1b]52;c;\x07 `*_b_*` &lt; \u202e"


def test_no_text_of_a_card_becomes_markup_in_its_page() -> None:
    task = MOOD.model_copy(
        update=dict.fromkeys(("name", "family", "language", "licence", "source", "metric"), HOSTILE)
        | {"labels": {HOSTILE: HOSTILE}}
    )
    card = small_card(None, task=task, method=HOSTILE, readout=HOSTILE)
    card = card.replace(
        backbone=card.backbone.model_copy(update={"name": HOSTILE, "fingerprint": HOSTILE}),
        scores={HOSTILE: card.scores["test"]},
        lineage=({"role": "source", "name": HOSTILE, "hash": HOSTILE},),
    )
    whole = readme(card)
    assert not [letter for letter in whole if not letter.isprintable() and letter != "\n"]
    _, matter, page = whole.split("---\n", 2)
    assert yaml.safe_load(matter)["model-index"][0]["name"] == HOSTILE
    signs = re.sub(r"\\[!-/:-@\[-`{-~]", "", page)
    assert not set("<`") & set(signs)
    assert {line.count("|") for line in signs.splitlines() if line.startswith("|")} == {3, 6}
    assert "](" not in signs
    headings = [line[:6] for line in signs.splitlines() if line.startswith("#")]
    assert headings == ["# # a ", "## Sco", "## Lab", "## Cam"]


def test_an_ordinary_name_stays_as_it_is() -> None:
    card = small_card(None, task=MOOD.model_copy(update={"name": "shop_questions_zh (v1.2)"}))
    assert "# shop_questions_zh (v1.2) on splade-tiny" in readme(card)
