"""Where a verb puts what it makes: in its own folder, not over another task's, and tried before it trains."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from command import QUICK, Command, Said, Tuned
from promptgraft.engine.local import LocalEngine

PROBE = ("--method", "linear-probe", "--shots", 2)
HOSTILE = "x/../../../../site"
NAMES = ("/etc/site", "..", "a\\\\b", "x\\u0000y", "my reviews (final v2)")
ROWS = "text,label\n" + "fine pan,good\nawful pan,bad\n" * 6
OTHER = "text,label\n" + "where is my parcel,parcel\nsend the bill,bill\n" * 6


def write_task(folder: Path, name: str, rows: str = ROWS) -> Path:
    """A data folder whose task.toml gives the task a name of its own choosing."""
    folder.mkdir(parents=True)
    (folder / "train.csv").write_text(rows)
    (folder / "task.toml").write_text(f'name = "{name}"\n')
    return folder


@pytest.fixture
def untrained(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail where anything is run."""
    monkeypatch.setattr(LocalEngine, "run", lambda *_, **__: pytest.fail("it ran"))


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, deep enough that four steps up are still the test's own."""
    folder = tmp_path / "a/b/c/work"
    folder.mkdir(parents=True)
    monkeypatch.chdir(folder)
    return folder


VERBS: dict[str, tuple[object, ...]] = {
    "tune": ("tune", *PROBE),
    "transfer": ("transfer", "--source", "shop_questions_zh", "--no-baselines", "--shots", 2, *QUICK),
    "compare": ("compare", "--methods", "linear-probe", "--shots", 2, "--seeds", 2),
    "rank": ("rank", "--shots", 2),
    "estimate": ("estimate", "tune", *PROBE),
}


@pytest.mark.parametrize(("verb", "name"), [*((verb, HOSTILE) for verb in VERBS), *(("tune", name) for name in NAMES)])
def test_a_tasks_name_leads_nowhere(
    verb: str, name: str, done: Command, splade_tiny: Path, tuned: Tuned, place: Path, tmp_path: Path
) -> None:
    words = [*VERBS[verb]]
    words.insert(2 if verb == "estimate" else 1, write_task(place / "data", name))
    bank = () if verb == "tune" else ("--bank", tuned.bank)
    before = {path for path in tmp_path.rglob("*") if place not in path.parents}
    done(*words, "--model", splade_tiny, *bank)
    assert {path for path in tmp_path.rglob("*") if place not in path.parents} == before
    made = {path.name for path in place.iterdir()} - {"data"}
    assert made <= {"runs"}
    assert all(path.name.startswith(f"{verb}-") for path in place.glob("runs/*"))


def test_a_tasks_name_becomes_a_safe_one_in_a_bank_and_that_is_said(
    done: Command, splade_tiny: Path, place: Path
) -> None:
    data = write_task(place / "data", "my reviews (final v2)")
    said = done("tune", data, "--model", splade_tiny, *PROBE, "--bank", "mine")
    assert "note: in the bank it is called 'my-reviews-final-v2'" in said.err
    assert "in the bank mine as my-reviews-final-v2" in said.out
    assert [path.name for path in (place / "mine").iterdir() if path.is_dir()] == ["my-reviews-final-v2"]


def hold(path: Path) -> Path:
    """Something else stands where a folder would have to be made."""
    path.write_text("x")
    return path


REFUSED: dict[str, tuple[Callable[[Path], tuple[object, ...]], str]] = {
    "starter": (lambda _: ("--bank", "starter"), "cannot be changed; give the folder of a bank of your own"),
    "unsafe": (lambda _: ("--bank", "mine", "--name", "a/b"), "'a/b' cannot be a name in a bank; 'a-b' could be"),
    "no place": (lambda at: ("--bank", hold(at / "file") / "x"), "file/x: cannot be created (not a directory)"),
    "a file": (lambda at: ("--bank", hold(at / "file")), "is a file, not a bank"),
    "run folder": (lambda at: ("--out", hold(at / "file") / "run"), "file/run: cannot be written (not a directory)"),
    "run folder is a file": (lambda at: ("--out", hold(at / "file")), "file: cannot be written (file exists)"),
}


@pytest.mark.parametrize("case", REFUSED)
@pytest.mark.usefixtures("untrained")
def test_a_place_that_cannot_be_used_is_refused_before_the_work(
    case: str, pg: Command, splade_tiny: Path, place: Path
) -> None:
    words, line = REFUSED[case]
    said = pg("tune", write_task(place / "data", "mine"), "--model", splade_tiny, *PROBE, "--quiet", *words(place))
    assert line in said.err
    assert (said.status, said.err.count("\n")) == (1, 1), said.err


@pytest.fixture
def first(done: Command, splade_tiny: Path, place: Path) -> Said:
    """A task called `data` was tuned, and is kept in a bank and in its run folder."""
    (place / "a").mkdir()
    (place / "a/data.csv").write_text(ROWS)
    (place / "b").mkdir()
    (place / "b/data.csv").write_text(OTHER)
    return done("tune", "a/data.csv", "--model", splade_tiny, *PROBE, "--bank", "mine")


def labels(bank: Path) -> set[str]:
    from promptgraft.bank.bank import open_bank

    return {label for summary in open_bank(bank).list() for label in summary.card.task.labels}


@pytest.mark.usefixtures("first", "untrained")
@pytest.mark.parametrize("out", [(), ("--out", "elsewhere")])
def test_another_tasks_prompt_is_not_replaced_unasked(
    out: tuple[str, ...], pg: Command, splade_tiny: Path, place: Path
) -> None:
    said = pg("tune", "b/data.csv", "--model", splade_tiny, *PROBE, "--bank", "mine", *out)
    what, do = (
        ("mine: already has 'data', which was tuned on other data", "choose another name (--name), or replace it")
        if out
        else ("runs/tune-data: holds a run on other data (data)", "choose another folder (--out), or replace it")
    )
    [line] = [line for line in said.err.splitlines() if line.startswith("promptgraft:")]
    assert line == f"promptgraft: {what}; {do} (--replace)"
    assert said.status == 1
    assert labels(place / "mine") == {"good", "bad"}


@pytest.mark.usefixtures("first", "untrained")
@pytest.mark.parametrize("keep", [("--out", "new", "--keep-in", "mine"), ("--out", "runs/tune-data")])
def test_nor_by_a_transfer(keep: tuple[str, ...], pg: Command, splade_tiny: Path, tuned: Tuned, place: Path) -> None:
    said = pg("transfer", "b/data.csv", "--model", splade_tiny, "--bank", tuned.bank, "--source", "auto", *keep)
    assert "on other data" in said.err.splitlines()[-1]
    assert labels(place / "mine") == {"good", "bad"}


@pytest.mark.usefixtures("first")
def test_it_is_replaced_where_that_is_asked_for(done: Command, splade_tiny: Path, place: Path) -> None:
    done("tune", "b/data.csv", "--model", splade_tiny, *PROBE, "--bank", "mine", "--replace")
    assert labels(place / "mine") == {"parcel", "bill"}


@pytest.mark.usefixtures("first")
def test_the_same_task_is_tuned_again_as_before(done: Command, splade_tiny: Path, place: Path) -> None:
    said = done("tune", "a/data.csv", "--model", splade_tiny, "--seed", 1, *PROBE, "--bank", "mine")
    assert "note: 'data' in mine is replaced: it was tuned on the same data" in said.err
    assert labels(place / "mine") == {"good", "bad"}


def test_a_comparisons_page_is_not_replaced_by_another_tasks(
    done: Command, pg: Command, splade_tiny: Path, tuned: Tuned, place: Path
) -> None:
    one, two = (write_task(place / name, "data", rows) for name, rows in (("a", ROWS), ("b", OTHER)))
    words = ["--model", splade_tiny, "--bank", tuned.bank, *VERBS["compare"][1:]]
    done("compare", one, *words)
    page = (place / "runs/compare-data/report.html").read_text()
    said = pg("compare", two, *words)
    assert "runs/compare-data: holds a run on other data (data)" in said.err
    assert (place / "runs/compare-data/report.html").read_text() == page
    done("compare", two, *words, "--replace")
    assert (place / "runs/compare-data/report.html").read_text() != page


@pytest.mark.usefixtures("first", "untrained")
def test_the_same_from_python(splade_tiny: Path, place: Path) -> None:
    import promptgraft as pg
    from promptgraft.errors import BankError, RunError

    how = {"method": "linear-probe", "shots": 2}
    with pytest.raises(BankError, match="already has 'data'"):
        pg.tune("b/data.csv", splade_tiny, bank="mine", **how)
    with pytest.raises(RunError, match="holds a run on other data"):
        pg.tune("b/data.csv", splade_tiny, out="runs/tune-data", **how)
    with pytest.raises(BankError, match="'a/b' cannot be a name in a bank"):
        pg.tune("b/data.csv", splade_tiny, bank="mine", name="a/b", **how)


READERS: dict[str, tuple[object, ...]] = {
    "predict": ("--file", "rows.csv", "--out", "labelled.csv"),
    "suggest": ("--file", "rows.csv", "--out", "next.csv"),
    "explain": ("--file", "rows.csv", "--out", "page"),
}


@pytest.mark.parametrize("verb", READERS)
def test_a_file_in_the_place_of_a_folder_is_named_before_the_work(
    verb: str, pg: Command, tuned: Tuned, splade_tiny: Path, place: Path
) -> None:
    (place / "rows.csv").write_text("text\n杯子碎了\n")
    (place / "taken").write_text("x")
    out = Path("taken") / str(READERS[verb][-1])
    said = pg(verb, tuned.run, *READERS[verb][:-1], out, "--model", splade_tiny)
    assert (said.status, said.out) == (2, "")
    assert said.err == f"promptgraft: --out {out}: taken is a file, not a folder; choose another place\n"


@pytest.mark.parametrize("verb", ["predict", "suggest"])
def test_a_folder_in_the_place_of_a_file_is_one_line(
    verb: str, pg: Command, tuned: Tuned, splade_tiny: Path, place: Path
) -> None:
    (place / "rows.csv").write_text("text\n杯子碎了\n")
    said = pg(verb, tuned.run, "--file", place, "--model", splade_tiny)
    assert said.status == 2
    assert f"--file {place}: this is a folder; name a file in it" in said.err
    said = pg(verb, tuned.run, "--file", "rows.csv", "--out", place, "--model", splade_tiny)
    assert said.status == 2
    assert f"--out {place}: this is a folder; name a file in it" in said.err


def test_advice_on_a_pipes_format_is_of_the_verb(pg: Command, tuned: Tuned) -> None:
    assert "save it in a file" in pg("suggest", tuned.run, "--file", "-").err
    assert "add --format csv" in pg("predict", tuned.run, "--file", "-").err


def test_a_run_folder_in_the_place_of_an_artefact_is_told_where_it_is(
    pg: Command, tuned: Tuned, tmp_path: Path
) -> None:
    said = pg("bank", "import", tmp_path / "bank", tuned.run)
    assert f"name the artefact in it: {tuned.run / 'artefact'}" in said.err.replace("\n", " ")
