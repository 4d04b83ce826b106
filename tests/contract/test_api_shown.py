"""What Python users see: objects that fit a screen, figures as plain values, notes in the log, a bar in notebooks."""

from __future__ import annotations

import json
import logging
import sys
import types
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import promptgraft as pg
from promptgraft import api
from promptgraft.api.notebook import Bar, bar, notebook_progress
from promptgraft.engine.progress import Event
from promptgraft.sheet import HIGH, WIDE, Sheet
from promptgraft.task.kinds import KINDS
from toys import tiny_model, toy_task

HOSTILE = "\x1b]52;c;aGk=\x07 \u202e <script>alert(1)</script>\nsecond line"
ROWS: list[tuple[str, dict[str, str]]] = [("linear-probe", {}), ("prompt-tuning", {"readout": "linear"})]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("tiny"), "bert")


@pytest.fixture(scope="module")
def outcome(model: Path) -> Any:
    return pg.tune(toy_task(), model, seeds=(0, 1), steps=2, length=2)


@pytest.fixture(scope="module")
def comparison(model: Path) -> Any:
    return pg.compare(toy_task(), model, seeds=(0, 1), rows=ROWS, steps=2, length=2)


@pytest.fixture(scope="module")
def ranking(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    bank = tmp_path_factory.mktemp("bank") / "bank"
    for seed in (3, 4):
        pg.tune(toy_task(seed=seed).replace(name=f"toy{seed}"), model, bank=bank, steps=1, length=2)
    return pg.rank(toy_task(), model, bank)


def test_what_holds_a_model_is_one_line_in_a_console(outcome: Any, model: Path, tmp_path: Path) -> None:
    backbone = pg.load_backbone(model)
    bank = api.as_bank(tmp_path / "bank", create=True)
    for found, begin in (
        (outcome.predictor, "Predictor of toy-classification (classification, 2 classes) with "),
        (outcome.best, "Finished prompt-tuning on toy-classification, seed "),
        (bank, "Bank of 0 prompts in "),
        (backbone, f"{type(backbone).__name__} "),
    ):
        text = repr(found)
        assert text.startswith(begin)
        assert len(text) < 300
        assert "\n" not in text


class Tags(HTMLParser):
    """The names of all tags; fails on those that are not closed in order."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.seen: list[str] = []
        self.open: list[str] = []
        self.feed(html)
        assert not self.open

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.seen.append(tag)
        if tag != "br":
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def fits(shown: Any) -> None:
    text, html = repr(shown), shown._repr_html_()
    lines = text.splitlines()
    assert len(lines) <= HIGH + 8
    assert max(map(len, lines)) <= WIDE
    assert not set("\x1b\x07\u202e") & set(text + html)
    assert "script" not in Tags(html).seen
    assert len(html) < 10_000


def test_what_verbs_give_fits_a_screen(outcome: Any, comparison: Any, ranking: Any) -> None:
    for shown in (outcome, comparison, ranking):
        fits(shown)
        assert "toy-classification" in repr(shown) or shown is ranking
    assert "prompt-tuning" in repr(outcome)
    assert "linear-probe" in comparison._repr_html_()
    assert "toy3" in repr(ranking)


@pytest.mark.parametrize("kind", KINDS)
def test_a_large_task_fits_a_screen(kind: Any) -> None:
    task = toy_task(kind, train=3000)
    fits(task)
    assert "3,000 train" in repr(task)


def test_a_hostile_task_fits_a_screen_and_acts_on_nothing() -> None:
    rows = tuple(pg.Example(text=HOSTILE * 1000, label=f"{HOSTILE}{n}") for n in range(300))
    labels = {str(row.label): HOSTILE for row in rows}
    task = pg.Task(HOSTILE, "classification", "accuracy", labels, {"train": rows}, columns={"text": HOSTILE})
    fits(task)
    fits(pg.Task("empty", "regression", "pearson_spearman", {}, {}))


def test_a_table_says_how_many_rows_it_leaves_out() -> None:
    shown = Sheet("Things", columns=("a", "b"), rows=[[str(n), "x" * 200] for n in range(40)])
    assert f"... and {40 - HIGH} more" in shown.text()
    assert f"... and {40 - HIGH} more" in shown.html()


def test_an_outcome_is_saved_and_loaded(outcome: Any, tmp_path: Path) -> None:
    outcome.save(tmp_path / "mine")
    texts = ["the film was good", "a bad plot"]
    loaded = pg.load(tmp_path / "mine")
    assert np.array_equal(loaded.predict_proba(texts), outcome.predictor.predict_proba(texts))


def test_a_comparison_is_plain_values(comparison: Any, tmp_path: Path) -> None:
    plain = json.loads(json.dumps(comparison.to_dict()))
    assert [row["method"] for row in plain["rows"]] == ["linear-probe", "prompt-tuning:linear"]
    assert plain["best"] == comparison.best
    frame = comparison.to_frame()
    assert list(frame["method"]) == ["linear-probe", "prompt-tuning:linear"]
    assert frame["test"].tolist() == [row["test"] for row in plain["rows"]]
    files = comparison.report(tmp_path / "page")
    assert sorted(path.name for path in files.values()) == ["report.html", "results.csv"]
    assert all(path.is_file() for path in files.values())


def test_a_frame_without_pandas_is_one_line(comparison: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(pg.PromptgraftError, match="to_frame needs pandas; pip install pandas"):
        comparison.to_frame()


def test_notes_go_to_the_log(model: Path, caplog: pytest.LogCaptureFixture) -> None:
    task = toy_task().replace(notes=("kind inferred: classification",))
    with caplog.at_level(logging.INFO, "promptgraft"):
        outcome = pg.tune(task, model, steps=1, length=2)
    assert outcome.notes
    assert [record.getMessage() for record in caplog.records if record.name == "promptgraft"] == list(outcome.notes)
    assert all(record.levelno == logging.INFO for record in caplog.records if record.name == "promptgraft")


def test_a_name_and_the_loaded_model_do_the_same(model: Path) -> None:
    loaded = pg.load_backbone(model)
    by_name, by_object = (pg.tune(toy_task(), given, steps=2, length=2) for given in (model, loaded))
    assert by_name.best.job.id == by_object.best.job.id
    assert by_name.artefact.digest == by_object.artefact.digest
    assert by_name.predictor.backbone.arithmetic == loaded.arithmetic
    assert by_name.predictor.backbone.device == loaded.device


class ZMQInteractiveShell:
    """What a notebook's shell is called."""


@pytest.fixture
def notebook(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A notebook that keeps what it is shown."""
    shown: list[str] = []

    class Handle:
        def update(self, html: str) -> None:
            shown[-1] = html

    def display(html: str, display_id: bool) -> Handle:
        assert display_id
        shown.append(html)
        return Handle()

    module = types.ModuleType("IPython")
    module.get_ipython = ZMQInteractiveShell  # type: ignore[attr-defined]
    inner = types.ModuleType("IPython.display")
    inner.HTML, inner.display = str, display  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "IPython", module)
    monkeypatch.setitem(sys.modules, "IPython.display", inner)
    return shown


def test_a_notebook_has_one_bar_a_verb(model: Path, notebook: list[str]) -> None:
    pg.tune(toy_task(), model, seeds=(0, 1), steps=2, length=2)
    assert len(notebook) == 1
    assert "2 of 2 jobs" in notebook[0]
    assert "progress" in Tags(notebook[0]).seen
    seen: list[Event] = []
    pg.tune(toy_task(), model, steps=2, length=2, progress=seen.append)
    assert seen
    assert len(notebook) == 1, "who listens himself has no bar"


def test_elsewhere_there_is_no_bar() -> None:
    assert notebook_progress() is None


def test_a_bar_acts_on_nothing() -> None:
    html = bar(Event(1, 3, HOSTILE, step=2, steps=9))
    assert "1 of 3 jobs" in html
    assert "step 2 of 9" in html
    assert "script" not in Tags(html).seen
    assert "\x1b" not in html
    assert isinstance(Bar(), Bar)
