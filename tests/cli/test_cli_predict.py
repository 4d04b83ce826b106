"""predict reads a file as it was tuned, says what it read, and refuses what it cannot read."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from command import Command

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
        (("ticket", "body", "label"), "its columns: ticket, body, label"),
        (("Subject", "body"), "did you mean 'Subject'?"),
    ],
)
def test_a_file_without_the_column_is_refused(
    columns: tuple[str, ...], hint: str, pg: Command, probe: Path, splade_tiny: Path, tmp_path: Path
) -> None:
    file = tickets(tmp_path / "new.csv", tuple(name.lower() for name in columns))
    file.write_text(file.read_text(encoding="utf-8").replace("subject", "Subject", 1), encoding="utf-8")
    said = pg("predict", probe, "--file", file, "--model", splade_tiny)
    assert said.status == 1
    assert f"no column 'subject', from which tickets was tuned; {hint}" in said.err


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
    assert "no column 'reply', from which pairs was tuned" in said.err
