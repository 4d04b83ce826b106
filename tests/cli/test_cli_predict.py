"""predict reads a file as it was tuned, says what it read, and refuses what it cannot read."""

from __future__ import annotations

import csv
import datetime
import json
import shutil
import subprocess
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import pytest

from command import Command, Said
from promptgraft.cli.predict import check_typed
from promptgraft.errors import UsageError
from promptgraft.task.task import Kind
from toys import toy_task

GOOD, BAD = ("lights the whole desk", "feels solid", "works well"), ("died in a week", "went flat", "broke at once")
FOOTER = "Sent from my phone, regards, this footer is the same in every ticket that we get at the help desk"


def tickets(path: Path, columns: tuple[str, ...] = ("ticket", "subject", "body", "label"), rows: int = 24) -> Path:
    """A file whose short column decides, and whose long one is the same everywhere."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        for number in range(rows):
            label = ("good", "bad")[number % 2]
            said = f"The lamp {(GOOD, BAD)[number % 2][number // 2 % 3]}"
            values = {"ticket": number, "subject": said, "headline": said, "body": FOOTER, "label": label}
            writer.writerow([values[name] for name in columns])
    return path


@pytest.fixture(scope="module")
def probe(done: Command, splade_tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder tuned from the column `subject`."""
    folder = tmp_path_factory.mktemp("probe")
    words = ["tune", tickets(folder / "tickets.csv"), "--text-column", "subject", "--method", "linear-probe"]
    done(*words, "--model", splade_tiny, "--out", folder / "run")
    return folder / "run"


def test_a_file_is_read_by_the_columns_it_was_tuned_from(
    done: Command, probe: Path, splade_tiny: Path, tmp_path: Path
) -> None:
    file = tickets(tmp_path / "new.csv", ("ticket", "subject", "body"))
    said = done("predict", probe, "--file", file, "--model", splade_tiny, "--json")
    assert {row["prediction"] for row in said.json} == {"good", "bad"}
    assert "note: columns read: text = 'subject', as tuned (not used: 'ticket', 'body')" in said.err


def test_another_column_is_read_where_it_is_named(
    done: Command, probe: Path, splade_tiny: Path, tmp_path: Path
) -> None:
    file = tickets(tmp_path / "new.csv", ("ticket", "subject", "body"))
    said = done("predict", probe, "--file", file, "--model", splade_tiny, "--text-column", "body", "--json")
    assert len({row["probability"] for row in said.json}) == 1
    assert "note: columns read: text = 'body', tuned from 'subject' (not used: 'ticket', 'subject')" in said.err


@pytest.mark.parametrize(
    ("columns", "hint"),
    [
        (("ticket", "body", "label"), "its columns: ticket, body, label. Name it with --text-column"),
        (("Subject", "body"), "did you mean 'Subject'? Name it with --text-column"),
    ],
)
def test_a_file_without_the_column_is_refused(
    columns: tuple[str, ...], hint: str, pg: Command, probe: Path, splade_tiny: Path, tmp_path: Path
) -> None:
    file = tickets(tmp_path / "new.csv", tuple(name.lower() for name in columns))
    file.write_text(file.read_text(encoding="utf-8").replace("subject", "Subject", 1), encoding="utf-8")
    said = pg("predict", probe, "--file", file, "--model", splade_tiny)
    assert said.status == 1
    assert said.err.endswith(f"new.csv: no column 'subject', from which tickets is read; {hint}\n")


def test_a_single_column_is_the_text_whatever_its_name(
    done: Command, probe: Path, splade_tiny: Path, tmp_path: Path
) -> None:
    file = tickets(tmp_path / "new.csv", ("headline",))
    said = done("predict", probe, "--file", file, "--model", splade_tiny, "--json")
    assert {row["prediction"] for row in said.json} == {"good", "bad"}
    assert "note: columns read: text = 'headline', tuned from 'subject'" in said.err


def test_what_stands_in_the_label_column_is_not_read(
    done: Command, probe: Path, splade_tiny: Path, tmp_path: Path
) -> None:
    rows = [{"subject": "The lamp went flat", "label": {"not": "a label"}}, {"subject": "The lamp feels solid"}]
    (tmp_path / "new.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    said = done("predict", probe, "--file", tmp_path / "new.jsonl", "--model", splade_tiny, "--json")
    assert said.json[0]["label"] == {"not": "a label"}


def test_a_card_without_columns_still_loads_and_says_what_it_infers(
    done: Command, probe: Path, splade_tiny: Path, tmp_path: Path
) -> None:
    old = tmp_path / "old"
    old.mkdir()
    for file in (probe / "artefact").iterdir():
        (old / file.name).write_bytes(file.read_bytes())
    card = json.loads((old / "card.json").read_text(encoding="utf-8"))
    assert card["task"].pop("columns") == {"text": "subject", "label": "label"}
    (old / "card.json").write_text(json.dumps(card), encoding="utf-8")
    file = tickets(tmp_path / "new.csv", ("ticket", "subject", "body"))
    said = done("predict", old, "--file", file, "--model", splade_tiny)
    assert "note: columns inferred, since the prompt's card names none: text = 'body'" in said.err
    said = done("predict", old, "--file", file, "--model", splade_tiny, "--text-column", "subject", "--json")
    assert {row["prediction"] for row in said.json} == {"good", "bad"}


def test_both_columns_of_a_pair_are_kept(done: Command, pg: Command, splade_tiny: Path, tmp_path: Path) -> None:
    rows = [("the pan is hot", f"pan {n}", "cold", n % 2) for n in range(24)]
    lines = ["claim,note,reply,verdict", *(f"{a},{b},{c},{'yes' if d else 'no'}" for a, b, c, d in rows)]
    (tmp_path / "pairs.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    words = ["tune", tmp_path / "pairs.csv", "--text-column", "claim", "--pair-column", "reply"]
    words += ["--label-column", "verdict", "--method", "linear-probe", "--model", splade_tiny]
    done(*words, "--out", tmp_path / "run")
    new = tmp_path / "new.csv"
    new.write_text("note,reply,claim\nx,it is cold,the pan is hot\n", encoding="utf-8")
    said = done("predict", tmp_path / "run", "--file", new, "--model", splade_tiny)
    assert "columns read: text = 'claim', pair = 'reply', as tuned (not used: 'note')" in said.err
    said = done("predict", tmp_path / "run", "--file", new, "--model", splade_tiny, "--pair-column", "note")
    assert "columns read: text = 'claim', pair = 'note', tuned from 'claim', 'reply'" in said.err
    new.write_text("note,claim\nx,the pan is hot\n", encoding="utf-8")
    said = pg("predict", tmp_path / "run", "--file", new, "--model", splade_tiny)
    assert said.err.endswith(
        "no column 'reply', from which pairs is read; its columns: note, claim. Name it with --pair-column\n"
    )


def labelled(done: Command, probe: Path, model: Path, file: Path, *words: object) -> Said:
    return done("predict", probe, "--file", file, "--model", model, *words)


@pytest.fixture
def optional(tmp_path: Path) -> Path:
    """Keys that only some rows have, nulls, and cells that break lines."""
    rows = [
        {"subject": "The pan\tis\ngreat", "lang": "en", "tags": ["a", {"b": None}]},
        {"subject": "The mug broke", "user": None},
        {"subject": "=1+1", "user": 7},
    ]
    path = tmp_path / "optional.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def test_keys_that_some_rows_lack_are_empty_cells(
    done: Command, probe: Path, splade_tiny: Path, optional: Path, tmp_path: Path
) -> None:
    labelled(done, probe, splade_tiny, optional, "--out", tmp_path / "out.csv")
    with (tmp_path / "out.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["lang"] for row in rows] == ["en", "", ""]
    assert [row["user"] for row in rows] == ["", "", "7"]
    assert rows[0]["subject"] == "The pan\tis\ngreat"
    labelled(done, probe, splade_tiny, optional, "--out", tmp_path / "out.json")
    rows = json.loads((tmp_path / "out.json").read_text(encoding="utf-8"))
    assert [set(row) - {"prediction", "probability"} for row in rows] == [
        {"subject", "lang", "tags"},
        {"subject", "user"},
        {"subject", "user"},
    ]
    assert rows[1]["user"] is None


def test_a_record_is_one_line_on_the_screen(done: Command, probe: Path, splade_tiny: Path, optional: Path) -> None:
    lines = labelled(done, probe, splade_tiny, optional).out.splitlines()
    assert len(lines) == 4
    assert "The pan\\tis\\ngreat" in lines[1]


def test_safe_cells_are_no_formulas(
    done: Command, pg: Command, probe: Path, splade_tiny: Path, optional: Path, tmp_path: Path
) -> None:
    for words, kept in (([], "\n=1+1,"), (["--safe-cells"], "\n'=1+1,")):
        labelled(done, probe, splade_tiny, optional, "--out", tmp_path / "out.csv", *words)
        assert kept in (tmp_path / "out.csv").read_text(encoding="utf-8")
    words = ["predict", probe, "--file", optional, "--safe-cells", "--model", splade_tiny]
    assert "--safe-cells is for csv and tsv, not jsonl" in pg(*words, "--out", tmp_path / "out.jsonl").err
    assert "--safe-cells is for files" in pg(*words).err


@pytest.mark.parametrize("ending", ["csv", "tsv", "jsonl", "json", "parquet", "screen", "--json"])
def test_what_parquet_holds_is_written(
    ending: str, done: Command, probe: Path, splade_tiny: Path, tmp_path: Path
) -> None:
    import pyarrow
    import pyarrow.parquet

    row = {
        "subject": "The lamp went flat",
        "when": datetime.datetime(2024, 1, 2, 3, 4, 5),
        "day": datetime.date(2024, 1, 2),
        "price": Decimal("1.20"),
        "raw": b"\xff\x00",
        "took": datetime.timedelta(seconds=90),
        "nested": {"when": datetime.date(2024, 1, 2)},
    }
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist([row]), tmp_path / "when.parquet")
    if ending in ("screen", "--json"):
        said = labelled(done, probe, splade_tiny, tmp_path / "when.parquet", *([ending] if ending == "--json" else []))
        assert "2024-01-02T03:04:05" in said.out
        return
    out = tmp_path / f"out.{ending}"
    labelled(done, probe, splade_tiny, tmp_path / "when.parquet", "--out", out)
    if ending == "parquet":
        [found] = pyarrow.parquet.read_table(out).to_pylist()
        assert {name: found[name] for name in row} == row
    else:
        written = out.read_text(encoding="utf-8")
        assert all(text in written for text in ("2024-01-02T03:04:05", "1.20", "/wA=", "P0DT90S"))


def test_columns_called_like_ours_are_kept(done: Command, probe: Path, splade_tiny: Path, tmp_path: Path) -> None:
    (tmp_path / "clash.csv").write_text("subject,prediction,probability\nThe lamp,good,by hand\n", encoding="utf-8")
    said = labelled(done, probe, splade_tiny, tmp_path / "clash.csv", "--out", tmp_path / "out.csv")
    assert "note: the file has a column 'prediction': ours is 'prediction_2'" in said.err
    with (tmp_path / "out.csv").open(encoding="utf-8", newline="") as file:
        [row] = csv.DictReader(file)
    assert (row["prediction"], row["probability"]) == ("good", "by hand")
    assert row["prediction_2"] in ("good", "bad")
    assert 0.5 <= float(row["probability_2"]) <= 1


@pytest.mark.parametrize(
    ("out", "message"),
    [
        ("out.xlsx", "cannot write 'xlsx'; use one of: csv, tsv, jsonl, json, parquet"),
        ("out", "cannot write ''; use one of"),
        ("folder.csv", "this is a folder"),
    ],
)
def test_where_nothing_can_be_written_is_refused_before_anything_is_loaded(
    out: str, message: str, pg: Command, tmp_path: Path
) -> None:
    (tmp_path / "folder.csv").mkdir()
    said = pg("predict", tmp_path / "no-such-run", "--file", tmp_path / "new.csv", "--out", tmp_path / out)
    assert said.status == 2
    assert message in said.err


def test_the_file_to_label_is_not_written_over(pg: Command, tmp_path: Path) -> None:
    file = tmp_path / "new.csv"
    file.write_text("text\nfine\n", encoding="utf-8")
    said = pg("predict", tmp_path / "no-such-run", "--file", file, "--out", tmp_path / "." / "new.csv")
    assert said.status == 2
    assert "this is the file to label; name another file" in said.err
    assert file.read_text(encoding="utf-8") == "text\nfine\n"


def test_what_cannot_be_written_is_refused_before_any_row_is_labelled(
    pg: Command, probe: Path, splade_tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from promptgraft.engine.predictor import Predictor

    monkeypatch.setattr(Predictor, "answers", lambda *_, **__: pytest.fail("a row was labelled"))
    rows = [{"subject": "a", "n": 1}, {"subject": "b", "n": "x"}]
    (tmp_path / "new.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    out = tmp_path / "out.parquet"
    said = pg("predict", probe, "--file", tmp_path / "new.jsonl", "--out", out, "--model", splade_tiny)
    assert said.status == 2
    assert "column 'n' is no column of parquet" in said.err


def test_numbers_and_tags_keep_their_types_in_json(done: Command, splade_tiny: Path, tmp_path: Path) -> None:
    rows = [{"text": f"text {n}", "score": n / 8} for n in range(16)]
    (tmp_path / "scores.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    words = ["tune", tmp_path / "scores.jsonl", "--kind", "regression", "--method", "linear-probe"]
    done(*words, "--model", splade_tiny, "--out", tmp_path / "run")
    [row] = done("predict", tmp_path / "run", "--text", "text 3", "--model", splade_tiny, "--json").json
    assert isinstance(row["prediction"], float)


def test_what_is_cut_is_said_and_windows_read_it(done: Command, probe: Path, splade_tiny: Path, tmp_path: Path) -> None:
    long = "The lamp works well. " * 300 + "It broke at once."
    (tmp_path / "new.jsonl").write_text(json.dumps({"subject": long}) + "\n", encoding="utf-8")
    said = labelled(done, probe, splade_tiny, tmp_path / "new.jsonl", "--json")
    assert "note: 1 input was longer than allowed and cut; --windows reads long texts whole" in said.err
    whole = labelled(done, probe, splade_tiny, tmp_path / "new.jsonl", "--json", "--windows")
    assert "longer than allowed" not in whole.err
    assert "note: 1 texts were read in " in whole.err
    assert whole.json[0]["probability"] != said.json[0]["probability"]


def test_rows_that_hold_no_text_are_said(done: Command, probe: Path, splade_tiny: Path, tmp_path: Path) -> None:
    said = done("predict", probe, "--text", "", "--text", "It broke.", "--model", splade_tiny)
    assert "note: 1 of 2 rows hold no text (first: text 1): their answers say nothing" in said.err
    file = tmp_path / "new.csv"
    file.write_text('subject,body\nIt broke.,a\n"",b\n"",c\n', encoding="utf-8")
    said = labelled(done, probe, splade_tiny, file)
    assert f"note: 2 of 3 rows hold no text (first: {file}:3): their answers say nothing" in said.err


def test_rows_of_unknown_words_are_said(done: Command, probe: Path, splade_tiny: Path) -> None:
    said = done("predict", probe, "--text", "w" * 200_000, "--text", "It broke.", "--model", splade_tiny)
    known = "hold few or no words that splade-tiny knows (first: text 1)"
    assert f"note: 1 of 2 rows {known}: what it says of them means little" in said.err
    assert len(said.out) < 5000


@pytest.mark.parametrize("name", ["-", "/dev/stdin"])
def test_standard_input_is_read(
    name: str, process: Callable[..., subprocess.Popen[str]], probe: Path, splade_tiny: Path
) -> None:
    words = ["predict", probe, "--file", name, "--model", splade_tiny, "--json"]
    started = process(*words, "--format", "csv", input=True)
    out, err = started.communicate("subject,body\nThe lamp went flat,x\n")
    assert started.returncode == 0, err
    assert json.loads(out)[0]["subject"] == "The lamp went flat"
    started = process(*words, input=True)
    _, err = started.communicate("subject,body\nThe lamp went flat,x\n")
    assert started.returncode == 2
    assert f"promptgraft: --file {name}: nothing says what it holds; add --format csv|tsv|json" in err
    started = process(*words, "--format", "csv", input=True)
    _, err = started.communicate('subject,body\n"The lamp,x\n')
    assert started.returncode == 1
    assert "/tmp" not in err


def test_bytes_that_are_no_text_are_refused(pg: Command, probe: Path, splade_tiny: Path) -> None:
    said = pg("predict", probe, "--text", "caf\udce9", "--model", splade_tiny)
    assert said.status == 2
    assert "--text is not valid text in this locale" in said.err


def test_a_model_in_a_folder_is_found_again_while_it_is_there(
    done: Command, pg: Command, splade_tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "out").mkdir()
    shutil.copytree(splade_tiny, tmp_path / "out" / "mymodel", ignore=shutil.ignore_patterns("source.json"))
    monkeypatch.chdir(tmp_path)
    words = ["tune", tickets(tmp_path / "tickets.csv"), "--text-column", "subject", "--method", "linear-probe"]
    done(*words, "--model", "out/mymodel", "--out", tmp_path / "run")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    done("predict", tmp_path / "run", "--text", "fine")
    (tmp_path / "out").rename(tmp_path / "moved")
    said = pg("predict", tmp_path / "run", "--text", "fine")
    assert said.status == 1
    assert "which is not found from here; say where that model is: --model FOLDER" in said.err
    assert "models pull" not in said.err
    done("predict", tmp_path / "run", "--text", "fine", "--model", tmp_path / "moved" / "mymodel")


def test_a_model_of_the_catalog_is_pulled(
    pg: Command, probe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    card = json.loads((probe / "artefact" / "card.json").read_text(encoding="utf-8"))
    assert card["backbone"]["name"] == "splade-tiny"
    monkeypatch.setenv("PROMPTGRAFT_HOME", str(tmp_path))
    assert "promptgraft models pull splade-tiny" in pg("predict", probe, "--text", "fine").err


def test_a_prediction_that_is_stopped_promises_nothing(
    pg: Command, probe: Path, splade_tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from promptgraft.engine.predictor import Predictor

    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Predictor, "answers", stop)
    words = ["predict", probe, "--file", tickets(tmp_path / "new.csv"), "--out", tmp_path / "out.csv"]
    said = pg(*words, "--model", splade_tiny)
    assert said.status == 130
    assert said.err.splitlines()[-1] == "promptgraft: stopped"
    assert not (tmp_path / "out.csv").exists()


def tags(path: Path, joint: str = ";") -> Path:
    """Rows with any number of labels."""
    sets = (("fault",), ("fault", "urgent"), ("praise",), ())
    lines = [f"The lamp {(*BAD, *GOOD)[n % 6]} {n},{joint.join(sets[n % 4])}" for n in range(32)]
    path.write_text("\n".join(["text,labels", *lines, ""]), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def of_labels(done: Command, splade_tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("labels")
    file = tags(folder / "tags.csv")
    said = done("tune", file, "--method", "linear-probe", "--model", splade_tiny, "--out", folder / "run")
    assert "kind inferred: multilabel (up to 2 labels a row, joined by ';'" in said.err
    assert "rows have no label" in said.err
    assert "micro_f1" in said.out
    return folder / "run"


def test_labels_are_lists_and_in_csv_joined_as_the_file_joined_them(
    done: Command, of_labels: Path, splade_tiny: Path, tmp_path: Path
) -> None:
    new = tags(tmp_path / "new.csv")
    done("predict", of_labels, "--file", new, "--model", splade_tiny, "--out", tmp_path / "out.csv")
    done("predict", of_labels, "--file", new, "--model", splade_tiny, "--out", tmp_path / "out.jsonl")
    with (tmp_path / "out.csv").open(encoding="utf-8", newline="") as file:
        cells = list(csv.DictReader(file))
    rows = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [row["prediction"].split(";") if row["prediction"] else [] for row in cells] == [
        row["prediction"] for row in rows
    ]
    assert any(len(row["prediction"]) > 1 for row in rows)
    for row, answer in zip(cells, rows, strict=True):
        assert len(answer["probability"]) == len(answer["prediction"])
        assert [float(share) for share in row["probability"].split(";") if share] == answer["probability"]
    shown = done("predict", of_labels, "--text", "The lamp died in a week", "--model", splade_tiny, "--json")
    assert isinstance(shown.json[0]["prediction"], list)


def test_each_label_is_given_or_held_back_by_itself(
    done: Command, of_labels: Path, splade_tiny: Path, tmp_path: Path
) -> None:
    new = tags(tmp_path / "new.csv")
    words = ["predict", of_labels, "--file", new, "--model", splade_tiny, "--abstain-as", "ask"]
    everything = done(*words, "--risk", "1", "--json")
    total = sum(len(row["prediction"]) for row in everything.json)
    assert f"note: {total} of {total} labels given (100.0 %)" in everything.err
    nothing = done(*words, "--risk", "0", "--json")
    assert f"note: 0 of {total} labels given (0.0 %)" in nothing.err
    assert "labels of rows left out" in nothing.err
    for row, full in zip(nothing.json, everything.json, strict=True):
        assert row["prediction"] == ("ask" if full["prediction"] else [])
    done(*words, "--risk", "0", "--out", tmp_path / "out.csv")
    assert {row["prediction"] for row in rows_in(tmp_path / "out.csv")} <= {"ask", ""}


def test_rows_of_several_labels_are_suggested_with_their_labels(
    done: Command, of_labels: Path, splade_tiny: Path, tmp_path: Path
) -> None:
    new = tmp_path / "new.txt"
    new.write_text("".join(f"The lamp {word}\n" for word in (*GOOD, *BAD)), encoding="utf-8")
    words = ["suggest", of_labels, "--file", new, "--count", "3", "--model", splade_tiny]
    rows = done(*words, "--json").json
    assert all(isinstance(row["prediction"], list) and 0 <= row["probability"] <= 1 for row in rows)
    done(*words, "--out", tmp_path / "next.csv")
    assert [row["prediction"] for row in rows_in(tmp_path / "next.csv")] == [
        ";".join(row["prediction"]) for row in rows
    ]


def test_a_task_of_its_own_answers_is_the_same_kind(
    done: Command, of_labels: Path, splade_tiny: Path, tmp_path: Path
) -> None:
    """What predict wrote can be tuned from."""
    new = tags(tmp_path / "new.csv")
    done("predict", of_labels, "--file", new, "--model", splade_tiny, "--out", tmp_path / "out.csv")
    words = ["tune", tmp_path / "out.csv", "--label-column", "prediction", "--kind", "multilabel"]
    again = done(*words, "--method", "linear-probe", "--model", splade_tiny, "--out", tmp_path / "again")
    assert "micro_f1" in again.out
    answers = done("predict", tmp_path / "again", "--file", new, "--model", splade_tiny, "--json").json
    with (tmp_path / "out.csv").open(encoding="utf-8", newline="") as file:
        known = {label for row in csv.DictReader(file) for label in row["prediction"].split(";") if label}
    assert {label for row in answers for label in row["prediction"]} <= known


def test_one_of_columns_of_0_and_1_is_taken_alone(done: Command, splade_tiny: Path, tmp_path: Path) -> None:
    lines = [f"The lamp {(*BAD, *GOOD)[n % 6]} {n},{n % 2},{n // 2 % 2}" for n in range(32)]
    (tmp_path / "hot.csv").write_text("\n".join(["text,fault,urgent", *lines, ""]), encoding="utf-8")
    words = ["tune", tmp_path / "hot.csv", "--method", "linear-probe", "--model", splade_tiny]
    both = done(*words, "--out", tmp_path / "both")
    assert "2 columns of 0 and 1 are the labels: 'fault', 'urgent' (one of them alone: --label-column)" in both.err
    alone = done(*words, "--label-column", "fault", "--out", tmp_path / "alone")
    assert "accuracy" in alone.out


@pytest.fixture(scope="module")
def held(done: Command, splade_tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder of a task that is easy: its labelled rows are answered right when left out."""
    folder = tmp_path_factory.mktemp("held")
    words = ["tune", tickets(folder / "tickets.csv", rows=240), "--text-column", "subject", "--method", "linear-probe"]
    done(*words, "--model", splade_tiny, "--out", folder / "run")
    return folder / "run"


def test_what_is_not_sure_enough_is_held_back(done: Command, held: Path, splade_tiny: Path, tmp_path: Path) -> None:
    file = tickets(tmp_path / "new.csv", ("ticket", "subject"))
    words = ["predict", held, "--file", file, "--model", splade_tiny]
    everything = done(*words, "--json").json
    for risk, text in (("0", None), ("0.2", "ask"), ("1", "ask")):
        extra = [] if text is None else ["--abstain-as", text]
        said = done(*words, "--json", "--risk", risk, *extra)
        assert [row["probability"] for row in said.json] == [row["probability"] for row in everything]
        answers = {(row["prediction"], full["prediction"]) for row, full in zip(said.json, everything, strict=True)}
        assert all(given in (text, own) for given, own in answers)
        count = sum(row["prediction"] != text for row in said.json)
        assert f"note: {count} of 24 answered" in said.err
        assert count == {"0": 0, "1": 24}.get(risk, count)


@pytest.mark.parametrize("ending", ["csv", "tsv", "jsonl", "json", "parquet"])
def test_every_format_keeps_what_was_held_back(
    ending: str, done: Command, held: Path, splade_tiny: Path, tmp_path: Path
) -> None:
    file, out = tickets(tmp_path / "new.csv", ("ticket", "subject"), rows=4), tmp_path / f"out.{ending}"
    words = ["predict", held, "--file", file, "--model", splade_tiny, "--risk", "0", "--out", out]
    done(*words)
    assert [row["prediction"] or None for row in rows_in(out)] == [None] * 4
    done(*words, "--abstain-as", "=ask a person")
    assert [row["prediction"] for row in rows_in(out)] == ["=ask a person"] * 4


def rows_in(path: Path) -> list[dict[str, object]]:
    """The rows of a file that predict wrote."""
    import pyarrow.parquet

    if path.suffix == ".parquet":
        return list(pyarrow.parquet.read_table(path).to_pylist())
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".json":
        return list(json.loads(text))
    if path.suffix == ".jsonl":
        return [json.loads(line) for line in text.splitlines()]
    return list(csv.DictReader(text.splitlines(), delimiter="\t" if path.suffix == ".tsv" else ","))


def test_few_rows_promise_nothing_and_that_is_said(
    done: Command, probe: Path, splade_tiny: Path, tmp_path: Path
) -> None:
    said = done("predict", probe, "--text", "The lamp went flat", "--model", splade_tiny, "--risk", "0.05")
    assert "bear out no answer at a risk of 5 %" in said.err
    shutil.copytree(probe / "artefact", tmp_path / "old")
    forget_rows(tmp_path / "old")
    said = done("predict", tmp_path / "old", "--text", "The lamp went flat", "--model", splade_tiny, "--risk", "0.05")
    assert "0 of 1 answered (0.0 %); no labelled row was left out to learn a threshold from" in said.err


def forget_rows(folder: Path) -> None:
    """Make an artefact one of before labelled rows were kept."""
    from promptgraft.prompt.artefact import load, save

    save(load(folder).replace(labelled={}), folder)


def test_text_unlike_the_rows_is_marked_and_said(
    done: Command, pg: Command, held: Path, splade_tiny: Path, tmp_path: Path
) -> None:
    (tmp_path / "new.txt").write_text("The lamp went flat\nqqqq zzzz 999 ::: xkcd wombat\n" * 2, encoding="utf-8")
    words = ["predict", held, "--file", tmp_path / "new.txt", "--model", splade_tiny]
    said = done(*words, "--mark-unlike", "--json")
    assert [row["unlike"] for row in said.json] == [False, True] * 2
    assert "note: 2 of 4 texts are unlike the labelled rows (5 in 100 would be by chance)" in said.err
    assert "; the column 'unlike' says which" in said.err
    assert "; --mark-unlike says which" in done(*words).err
    assert [row["prediction"] for row in done(*words, "--risk", "0.9", "--json").json][1] is None
    shutil.copytree(held / "artefact", tmp_path / "old")
    forget_rows(tmp_path / "old")
    refused = pg("predict", tmp_path / "old", *words[2:], "--mark-unlike")
    assert refused.status == 2
    assert "has no features of labelled rows" in refused.err


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (("--risk", "2"), "risk 2 is no share of wrong answers; give a number from 0 to 1, such as 0.05"),
        (("--risk", "nan"), "risk nan is no share of wrong answers"),
        (("--risk", "0.1", "--abstain-as", "bad"), "--abstain-as bad is one of the classes"),
        (("--abstain-as", "x"), "--abstain-as says what an answer that is held back becomes; add --risk, such as 0.05"),
    ],
)
def test_a_risk_that_is_none_is_one_line(
    words: tuple[str, ...], problem: str, pg: Command, probe: Path, splade_tiny: Path
) -> None:
    said = pg("predict", probe, "--text", "The lamp went flat", "--model", splade_tiny, *words)
    assert said.status != 0
    assert problem in said.err
    assert said.err.strip().count("\n") == 0


def test_a_number_cannot_be_held_back(done: Command, pg: Command, splade_tiny: Path, tmp_path: Path) -> None:
    lines = ["text,stars", *(f"the lamp is good {n},{n / 10:.1f}" for n in range(3, 30))]
    (tmp_path / "stars.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    words = ["tune", tmp_path / "stars.csv", "--kind", "regression", "--method", "linear-probe"]
    done(*words, "--model", splade_tiny, "--out", tmp_path / "run")
    said = pg("predict", tmp_path / "run", "--text", "good", "--model", splade_tiny, "--risk", "0.05")
    assert said.status != 0
    assert "a regression task has no class probabilities, by which an answer could be held back" in said.err


def test_a_second_text_that_would_not_be_read_is_refused(pg: Command, probe: Path, splade_tiny: Path) -> None:
    said = pg("predict", probe, "--text", "works well", "--pair", "broke", "--model", splade_tiny)
    assert said.status == 2
    assert said.err.splitlines()[-1] == "promptgraft: a row of tickets is a text; leave --pair out"


@pytest.mark.parametrize(
    ("kind", "advice"),
    [
        ("choice", "give file instead"),
        ("tagging", "a row of .* is a list of words; give file instead"),
        ("pair", "the second"),
    ],
)
def test_a_text_alone_is_refused_where_a_row_is_more(kind: Kind, advice: str) -> None:
    with pytest.raises(UsageError, match=advice):
        check_typed(toy_task(kind), paired=False)
    check_typed(toy_task("pair"), paired=True)
