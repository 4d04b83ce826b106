"""What a search found is used on: it starts a prompt, joins a graft, and is kept in a bank with where it is from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import promptgraft as pg
from causal_models import causal_folder
from promptgraft.api.finding import FOUND, found_words
from promptgraft.engine.worded import wording
from promptgraft.errors import PromptgraftError
from promptgraft.model.backbone import Backbone
from promptgraft.model.load import load_backbone
from promptgraft.prompt import artefact as artefacts
from promptgraft.prompt.readme import readme
from promptgraft.task.task import Task
from toys import masked_model, toy_task

FEW: dict[str, Any] = {"steps": 2, "batch": 4, "evaluations": 1, "length": 2}


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Backbone:
    folder = tmp_path_factory.mktemp("masked")
    masked_model(folder)
    return load_backbone(folder)


@pytest.fixture(scope="module")
def task() -> Task:
    return toy_task()


@pytest.fixture(scope="module")
def searched(backbone: Backbone, task: Task, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("searched") / "run"
    pg.search(
        task, backbone, passes=120, shots=4, out=folder, template="{text} was {mask} .",
        verbalizer="negative=bad,positive=good",
    )  # fmt: skip
    return folder


def test_the_best_on_choosing_rows_is_taken(searched: Path) -> None:
    entries = {path.parent.name: json.loads(path.read_text(encoding="utf-8")) for path in searched.glob(f"*/{FOUND}")}
    found = found_words(searched)
    best = max(entry["choosing"]["score"] for entry in entries.values())
    assert found.card.choosing.value == best
    assert found.template == entries[found.card.algorithm]["text"]
    assert found.card.model
    alone = found_words(searched / "library")
    assert (alone.card.algorithm, alone.template) == ("library", entries["library"]["text"])


def test_found_words_start_a_prompt_and_are_kept_with_where_they_are_from(
    searched: Path, backbone: Backbone, task: Task, tmp_path: Path
) -> None:
    found = found_words(searched)
    outcome = pg.tune(task, backbone, shots=4, template=str(searched), bank=tmp_path / "bank", name="kept", **FEW)
    kept = pg.open_bank(tmp_path / "bank").load("kept")
    assert kept.card.template is not None
    assert kept.card.search == found.card
    assert "words found by" in readme(kept.card)
    assert any("report rows" in note for note in outcome.notes)
    typed = pg.tune(task, backbone, shots=4, template=found.template, verbalizer=found.verbalizer, **FEW)
    assert typed.artefact.digest == outcome.artefact.digest
    assert typed.artefact.card.search is None
    artefacts.save(kept, tmp_path / "again")
    assert artefacts.load(tmp_path / "again").hash == kept.hash


def test_found_words_start_vectors_of_a_model_without_a_template(
    searched: Path, backbone: Backbone, task: Task
) -> None:
    outcome = pg.tune(task, backbone, shots=4, init="text", init_text=str(searched / "library"), **FEW)
    assert outcome.artefact.card.template is None
    assert outcome.artefact.card.recipe["init_text"] == wording(found_words(searched / "library").template)
    assert outcome.artefact.card.search is not None


def test_found_words_join_a_graft(searched: Path, backbone: Backbone, task: Task, tmp_path: Path) -> None:
    bank = pg.open_bank(tmp_path / "bank", create=True)
    bank.add(pg.tune(task, backbone, shots=4, **FEW).artefact, "own")
    kept = pg.transfer(task, backbone, bank, method="graft", template=str(searched), baselines=False)
    words = [member.reading.template for member in kept.artefact.others if member.reading.template is not None]
    assert words == [found_words(searched).template]
    assert kept.artefact.card.search is not None


def test_words_of_other_labels_are_left(searched: Path, backbone: Backbone, task: Task) -> None:
    other = task.replace(
        labels={"bad": "bad", "good": "good"},
        splits={
            name: tuple(
                pg.Example(row.text, label={"negative": "bad", "positive": "good"}[str(row.label)]) for row in rows
            )
            for name, rows in task.splits.items()
        },
    )
    outcome = pg.tune(other, backbone, shots=4, template=str(searched), **FEW)
    assert any("has other labels" in note for note in outcome.notes)


def test_a_folder_without_a_search_is_one_line(backbone: Backbone, task: Task, tmp_path: Path) -> None:
    with pytest.raises(PromptgraftError, match="no search has ended"):
        pg.tune(task, backbone, template=str(tmp_path), **FEW)
    (tmp_path / FOUND).write_text("[1]", encoding="utf-8")
    with pytest.raises(PromptgraftError, match="not what a search writes"):
        pg.tune(task, backbone, template=str(tmp_path), **FEW)


def test_found_words_are_shown_with_rows(searched: Path, task: Task) -> None:
    found = found_words(searched)
    tried = pg.try_template(task, str(searched))
    assert tried.template == pg.try_template(task, found.template).template
    assert tried.words.words == {"negative": ("bad",), "positive": ("good",)}
    assert "report rows" in tried.notes[0]
    other = pg.try_template(task.replace(labels={"negative": "", "positive": "", "odd": ""}), str(searched))
    assert any("has other labels" in note for note in other.notes)


def test_found_words_are_written_behind(searched: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    causal_folder(tmp_path / "causal", "llama")
    words = {"template": "library", "text": "{text} was {mask}"}
    (tmp_path / "one").mkdir()
    entry = json.loads((searched / "library" / FOUND).read_text(encoding="utf-8")) | words
    (tmp_path / "one" / FOUND).write_text(json.dumps(entry), encoding="utf-8")
    with caplog.at_level("INFO", "promptgraft"):
        written = pg.generate(tmp_path / "causal", ["the film"], template=str(tmp_path / "one"), most=3)
    assert written == pg.generate(tmp_path / "causal", ["the film"], template="{text} was {mask}", most=3)
    assert any("report rows" in record.getMessage() for record in caplog.records)


def test_found_words_are_distilled(searched: Path, backbone: Backbone, task: Task) -> None:
    short, few = "{text} {mask}", {"steps": 2, "batch": 4}
    distilled = pg.distil(str(searched), backbone, task, to=short, length=2, **few)
    found = found_words(searched)
    typed = pg.distil(found.template, backbone, task, to=short, length=2, verbalizer=found.verbalizer, **few)
    assert distilled.outcome.artefact.digest == typed.outcome.artefact.digest
    assert any("report rows" in note for note in distilled.outcome.notes)


def test_a_search_begins_with_found_words(searched: Path, backbone: Backbone, task: Task) -> None:
    again = pg.search(task, backbone, passes=60, shots=4, template=str(searched))
    found = found_words(searched)
    [untouched] = [entry for entry in again.found if entry.algorithm == "library"]
    assert untouched.candidate.verbalizer == found.verbalizer
    assert any("report rows" in note for note in again.notes)
