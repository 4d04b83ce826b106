"""The page of a comparison: whole, by itself, and true for what was and was not run."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from promptgraft.engine.reliability import Bin
from promptgraft.report.compare import page, write
from promptgraft.report.rows import group, missing
from promptgraft.report.verdict import intervals, placebos, verdict
from promptgraft.study.compare import BASELINE, ROWS, Comparison
from report_samples import LEVEL, SEEDS, made_comparison, made_reliability

VOID = {"meta", "br", "wbr", "link", "img", "input", "hr"}
PANDAS = [row for row in ROWS if row[0] == "panda"]


class Reader(HTMLParser):
    """Text and attributes of a page; fails on tags that are not closed in order."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.text: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] not in ("style", "title"):
            self.text.append(data)


def read(html: str) -> Reader:
    reader = Reader()
    reader.feed(html)
    reader.close()
    assert reader.open == []
    return reader


def seen(html: str) -> str:
    return re.sub(r"\s+", " ", "".join(read(html).text))


@pytest.fixture(scope="module")
def full() -> Comparison:
    return made_comparison(skipped={"setfit": "needs the extra 'setfit'"})


@pytest.fixture(scope="module")
def html(full: Comparison) -> str:
    return page(full, command="promptgraft compare kitchen --model minilm --shots 8")


def test_every_row_note_and_reason_is_on_the_page(full: Comparison, html: str) -> None:
    text = seen(html)
    for row in full.rows:
        assert text.count(row.label) >= 2, row.label  # in the table and in a picture
        assert f"{row.test.value:.1f}" in text
    wanted = ("reviews_kitchen on minilm", "setfit", "needs the extra 'setfit'", "labels inferred", full.notes[0])
    for said in (*wanted, "promptgraft compare kitchen --model minilm --shots 8", "8 labelled rows a class"):
        assert said in text


def test_nothing_is_loaded_from_elsewhere(html: str) -> None:
    assert "http" not in html
    assert "@import" not in html
    for tag, attributes in read(html).tags:
        assert tag not in ("script", "link", "img", "iframe", "object", "embed")
        assert "src" not in attributes
        assert (attributes.get("href") or "#").startswith("#")


def test_ids_are_the_pages_own_and_every_reference_is_met(html: str) -> None:
    tags = read(html).tags
    ids = [attributes["id"] for _, attributes in tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    used = set(re.findall(r'(?:href="|url\()#([^")]+)', html))
    assert used
    assert used <= set(ids)


def test_pictures_follow_the_colours_of_the_page(html: str) -> None:
    pictures = re.findall(r"<svg.*?</svg>", html, flags=re.DOTALL)
    assert len(pictures) == 4
    for picture in pictures:
        colours = set(re.findall(r"#[0-9a-f]{6}\b", picture))
        assert colours == set(), "these would not change with the page"
        assert 'viewBox="0 0 ' in picture
        assert 'role="img"' in picture


def test_the_chosen_row_is_marked_once(full: Comparison, html: str) -> None:
    assert html.count('class="badge"') == 1
    (row,) = re.findall(r'<tr class="chosen">.*?</tr>', html, flags=re.DOTALL)
    assert full.best in "".join(read(row).text)


def test_names_are_shown_as_they_are() -> None:
    nasty = '<script>&"中文</script>$x_1$'
    made = made_comparison((0, 1), ROWS[:8], name=nasty, source="来源<&>", notes=("cut: <b>3</b> & more",))
    html = page(made, command="promptgraft compare 'a<b>'")
    assert "<script" not in html
    text = seen(html)
    for said in (nasty, "来源<&>", "cut: <b>3</b> & more", "promptgraft compare 'a<b>'"):
        assert said in text


def test_one_seed_has_no_intervals() -> None:
    made = made_comparison((3,), ROWS)
    text = seen(page(made))
    assert "One seed: no intervals." in text
    assert "clear of noise" not in text
    assert "within noise" not in text
    assert "cannot be said" in text
    assert re.search(r"\d to [+−]?\d", "".join(text.split("Methods")[1].split("One seed")[0])) is None


def test_without_the_baseline_it_says_so() -> None:
    rows = [row for row in ROWS if row[0] in ("pot", "frozen-source")]
    made = made_comparison(rows=rows, skipped={BASELINE: "no labels"})
    text = seen(page(made))
    assert "cannot be held against prompt tuning from scratch, which was not run (no labels)." in text
    assert "cannot be held against the linear probe, which was not run." in text
    assert f"Differences are to {BASELINE}, which was not run." in text
    assert "Differences seed by seed" not in text
    assert ">difference<" not in page(made)
    assert ">difference<" in page(made_comparison())


def test_without_validation_none_is_chosen() -> None:
    made = made_comparison(rows=[("zero-shot", {"prompt": "none"})], validated=False)
    assert made.best == ""
    text = seen(page(made))
    assert "none is chosen" in text
    assert "chosen by" not in text


def test_what_trained_on_every_row_is_said_to_be_outside_the_choice() -> None:
    made = made_comparison()
    probe, *others = made.rows
    said = verdict(replace(made, rows=(replace(probe, validation=None), *others)))
    assert f"Without rows held out for validation, and so not in that choice: {probe.label}." in said
    assert f"of {len(others)} methods" in said[0]
    assert not any("not in that choice" in sentence for sentence in verdict(made))


def test_a_gain_is_put_in_words_with_its_interval() -> None:
    high = made_comparison(levels=LEVEL | {"pot": 90.0})
    said = " ".join(verdict(high))
    assert said.startswith("Validation chooses pot:")
    assert re.search(r"\d+\.\d points above prompt tuning from scratch \(\+.* to \+.*\), clear of noise", said)
    flat = made_comparison(rows=ROWS[:4], levels=dict.fromkeys(LEVEL, 69.0))
    assert "within noise" in " ".join(verdict(flat))


def test_a_better_test_score_does_not_choose() -> None:
    made = next(one for one in (made_comparison((0, 1, seed)) for seed in range(2, 50)) if top(one) != one.best)
    assert any(said.startswith(top(made)) and "not what one chooses by" in said for said in verdict(made))


def top(made: Comparison) -> str:
    return max(made.rows, key=lambda row: row.test.value).label


def test_placebos_are_told_from_panda(full: Comparison) -> None:
    groups = {row.label: group(row) for row in full.rows}
    assert groups["panda:paper"] == "panda"
    assert groups["pot:keep"] == "source"
    assert groups["linear-probe"] == "scratch"
    placebo = [label for label, name in groups.items() if name == "placebo"]
    assert placebo == [f"panda:paper:{name}" for name in ("self", "shuffled-in-class", "shuffled", "random")] + [
        "panda:released:weight=0",
        "panda:gated:shuffled",
    ]
    assert all(missing(row) for row in full.rows if row.label in placebo)


def test_whether_panda_beats_its_placebos_is_said() -> None:
    assert placebos(made_comparison(rows=ROWS[:8])) == ""
    same = placebos(made_comparison(rows=PANDAS))
    assert same.startswith("PANDA does not beat its own placebos here: of 6 differences none")
    better = made_comparison(rows=PANDAS, lifts={"panda:paper": 9.0, "panda:released": 9.0, "panda:gated": 9.0})
    assert placebos(better).startswith("PANDA beats its own placebos here: all 6 differences are above 0")
    some = made_comparison(rows=PANDAS, lifts={"panda:paper": 9.0})
    assert "only some of its own placebos here, 4 of 6" in placebos(some)
    worse = made_comparison(rows=PANDAS, lifts={"panda:paper:random": 9.0})
    assert "Below a placebo, clear of noise: panda:paper to panda:paper:random." in placebos(worse)


def test_what_the_intervals_leave_out_is_said(full: Comparison) -> None:
    said = intervals(full)
    assert f"over {len(SEEDS)} seeds" in said
    assert "1,000 test rows" in said


def test_the_same_comparison_gives_the_same_page(full: Comparison, html: str) -> None:
    assert page(full, command="promptgraft compare kitchen --model minilm --shots 8") == html


def test_files_are_written_whole(full: Comparison, tmp_path: Path) -> None:
    folder = tmp_path / "new" / "folder"
    paths = write(full, folder)
    assert sorted(path.name for path in folder.iterdir()) == sorted(paths) == ["report.html", "results.csv"]
    read(paths["report.html"].read_text(encoding="utf-8"))
    assert paths["report.html"].stat().st_size < 300_000


@pytest.mark.parametrize(("seeds", "rows"), [((0,), ROWS[:1]), (tuple(range(20)), ROWS[:3])])
def test_few_rows_and_many_seeds_can_be_drawn(
    seeds: tuple[int, ...], rows: tuple[tuple[str, dict[str, str]], ...]
) -> None:
    assert read(page(made_comparison(seeds, rows)))


def test_nothing_on_the_page_acts_or_turns_its_direction(full: Comparison) -> None:
    hostile = "\x1b]52;c;aGk=\x07 \u202etxt.exe \x9b31m"
    task = full.task.replace(name=hostile, notes=(hostile,))
    [first, *others] = full.rows
    results = tuple(result.model_copy(update={"options": {"readout": hostile}}) for result in first.results)
    rows = (replace(first, label=f"{first.label}:{hostile}", results=results), *others)
    comparison = replace(full, task=task, rows=rows, skipped={hostile: hostile}, notes=(hostile,), best=rows[0].label)
    html = page(comparison, command=hostile)
    assert not set("\x1b\x07\u202e\x9b") & set(html)
    assert html.count("\\x1b]52") >= 6
    assert "<svg" in html


def test_probabilities_that_one_seed_alone_gave_are_drawn() -> None:
    comparison = made_comparison()
    sure = made_reliability(80.0).model_copy(update={"bins": (Bin(rows=9, confidence=0.9, accuracy=1.0),)})
    rows = []
    for row in comparison.rows:
        bins = (Bin(rows=2 * len(row.results) - 1, confidence=0.5, accuracy=1.0),)
        unsure = {"test": sure.model_copy(update={"bins": bins})}
        first, *others = row.results
        results = [result.model_copy(update={"reliability": {"test": sure}}) for result in others]
        rows.append(replace(row, results=(first.model_copy(update={"reliability": unsure}), *results)))
    assert "probability 50 %: 100 % of" in page(replace(comparison, rows=tuple(rows)))
