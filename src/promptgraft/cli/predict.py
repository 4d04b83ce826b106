"""promptgraft predict"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from promptgraft.cli.labelled import GivenRows, name_of, regular, rows_of
from promptgraft.cli.options import (
    CardModelOption,
    DeviceOption,
    FileOutOption,
    NoHeaderOption,
    PairColumnOption,
    RunArgument,
    TextColumnOption,
    columns_given,
    note_slow_arithmetic,
)
from promptgraft.cli.progress import progress
from promptgraft.cli.say import Say
from promptgraft.cli.values import cell
from promptgraft.cli.verb import verb
from promptgraft.cli.writing import check_target, check_writable, columns_of, free_name, holds_lists, joined, write
from promptgraft.errors import UsageError
from promptgraft.task.multilabel import separator_of

if TYPE_CHECKING:
    from promptgraft.cli.progress import ProgressCallback
    from promptgraft.engine.predictor import Predictions, Predictor
    from promptgraft.engine.risk import Threshold
    from promptgraft.task.task import Example, Task

AT_ONCE = 4096
"""Rows of a file that are labelled together: about a hundred batches, so that few batches are not full."""
FEW_BITS = ("int8", "int4")
ANSWERS = ("prediction", "probability")
UNLIKE = "unlike"
Fields = dict[str, Any]


@verb
def predict(
    path: RunArgument,
    say: Say,
    text: Annotated[list[str] | None, typer.Option(help="A text to label; may be repeated.")] = None,
    pair: Annotated[list[str] | None, typer.Option(help="The second text for each --text, for tasks of pairs.")] = None,
    file: Annotated[
        Path | None,
        typer.Option(help="A file to label: csv, tsv, json, jsonl, parquet, txt; `-` is standard input."),
    ] = None,
    form: Annotated[
        Literal["csv", "tsv", "json", "jsonl", "parquet", "txt"] | None,
        typer.Option("--format", help="Format of FILE, if its name does not say it."),
    ] = None,
    out: FileOutOption = None,
    safe_cells: Annotated[
        bool, typer.Option("--safe-cells", help="Put ' before cells that spreadsheets would run as formulas.")
    ] = False,
    model: CardModelOption = None,
    device: DeviceOption = "auto",
    arithmetic: Annotated[
        Literal["auto", "fp32", "bf16", "int8", "int4"],
        typer.Option(
            help="Arithmetic of matrix products; int8 and int4 are used only if a sample of rows gets equal labels."
        ),
    ] = "auto",
    windows: Annotated[
        bool,
        typer.Option(
            "--windows", help="Read long texts whole, in parts, and take the mean of the parts' probabilities."
        ),
    ] = False,
    risk: Annotated[
        float | None,
        typer.Option(help="Withhold answers so that at most this share of those given is wrong, such as 0.05."),
    ] = None,
    abstain_as: Annotated[
        str | None, typer.Option(metavar="TEXT", help="Written in place of a withheld answer (default: nothing).")
    ] = None,
    mark_unlike: Annotated[
        bool, typer.Option("--mark-unlike", help="Add a column `unlike`: whether a text is unlike the labelled rows.")
    ] = False,
    text_column: TextColumnOption = None,
    pair_column: PairColumnOption = None,
    no_header: NoHeaderOption = False,
) -> None:
    """Label new text with a tuned prompt.

    A file keeps its columns and gets `prediction`, and `probability` where there are classes (or
    `prediction_2` if it already has a column of that name). With `--risk` only answers that are sure
    enough are given; a note says how many, and how well the labelled rows support this.

        promptgraft predict runs/reviews --text "The blade broke on day two."

        promptgraft predict runs/reviews --file new.csv --out labelled.csv

        promptgraft predict runs/reviews --file new.csv --risk 0.05 --abstain-as "ask a person"
    """
    from promptgraft import api
    from promptgraft.api.checking import check_given
    from promptgraft.engine.risk import check_abstention

    if bool(text) == (file is not None):
        raise UsageError("give what to label", do="either --text TEXT or --file FILE")
    check_given(model)
    check_abstention(abstain_as, risk, ())
    check_target(out, safe_cells=safe_cells, read_from=file)
    note_slow_arithmetic(say, arithmetic, device)
    with (
        progress(say, "reading model and rows") as callback,
        nullcontext(None) if file is None else regular(file, form) as source,
    ):
        predictor = api.load(path, model, device=device, arithmetic="auto" if arithmetic in FEW_BITS else arithmetic)
        check_abstention(abstain_as, risk, predictor.classes)
        limit = None if risk is None else predictor.threshold(risk)
        if mark_unlike and predictor.familiar is None:
            raise UsageError("it has no features of labelled rows to hold texts against", do="leave --mark-unlike out")
        if file is None or source is None:
            check_typed(predictor.task, paired=bool(pair))
            given = typed(text or [], pair or [])
        else:
            columns = columns_given(text_column, pair_column, None)
            given = rows_of(source, predictor.task, columns, name=name_of(file), header=not no_header)
            say.note(*given.notes)
        rows, examples = given.rows, given.examples
        names = answer_names(rows, say, ANSWERS if not mark_unlike else (*ANSWERS, UNLIKE))
        if out is not None or say.json:
            check_writable(rows, out)
        if arithmetic in FEW_BITS:
            quick = api.load(path, model, device=device, arithmetic=arithmetic)
            predictor = quickened(predictor, quick, examples, say, windows=windows)
        answers = list(answered(predictor, examples, callback, windows=windows, risk=risk))
    note_answers(answers, given.places, predictor, say, unlike_in=names.get(UNLIKE))
    note_given(answers, limit, predictor.task, say)
    answer_rows = [row for batch in answers for row in as_rows(batch, predictor.task, names, abstain_as)]
    if not holds_lists(out, say):
        answer_rows = joined(answer_rows, separator_of(predictor.task))
    labelled = [row | answer for row, answer in zip(rows, answer_rows, strict=True)]
    hand_out(labelled, list(answer_rows[0]), "labelled", out, say, safe_cells=safe_cells)


def note_answers(
    answers: Sequence[Predictions], places: Sequence[str], predictor: Predictor, say: Say, unlike_in: str | None
) -> None:
    """What was cut, is blank, holds few known words, or is unlike the labelled rows.

    Args:
        unlike_in: the column that says which rows these are, where there is one.
    """
    note_cut(answers, predictor, say)
    note_silent(answers, places, say)
    note_unlike(answers, say, unlike_in)


def hand_out(
    rows: list[Fields], new: Sequence[str], what: str, out: Path | None, say: Say, *, safe_cells: bool = False
) -> None:
    """Write rows to a file, or show them, their new columns first.

    Args:
        what: they are in the file.
    """
    if out is not None:
        write(rows, out, safe_cells=safe_cells)
        say.line(f"{len(rows)} rows {what} in {out}")
    else:
        names = list(dict.fromkeys([*new, *columns_of(rows)]))
        say.table(names, [[cell(row.get(name)) for name in names] for row in rows])
    say.data({"rows": len(rows), "out": str(out)} if out is not None else rows)


def typed(texts: Sequence[str], pairs: Sequence[str]) -> GivenRows:
    """The rows of texts given on the command line.

    Raises:
        UsageError: texts and second texts are not as many, or hold bytes that are no text.
    """
    from promptgraft.task.task import Example

    for option, values in (("--text", texts), ("--pair", pairs)):
        for value in values:
            if any("\ud800" <= character <= "\udfff" for character in value):
                raise UsageError(f"{option} is not valid text in this locale", do="use UTF-8, or --file")
    if pairs and len(pairs) != len(texts):
        raise UsageError(f"{len(texts)} --text and {len(pairs)} --pair", do="give every text its second text")
    places = [f"text {number}" for number in range(1, len(texts) + 1)]
    if not pairs:
        return GivenRows([{"text": text} for text in texts], [Example(text=text) for text in texts], places)
    text_pairs = list(zip(texts, pairs, strict=True))
    rows: list[Fields] = [{"text": first, "pair": second} for first, second in text_pairs]
    return GivenRows(rows, [Example(text=first, pair=second) for first, second in text_pairs], places)


def check_typed(task: Task, *, paired: bool) -> None:
    """Check that a row of the task can be typed as a text, or as a text and its second.

    Raises:
        UsageError: it needs more, or has no second text, which would be left unread.
    """
    needs, what = task.facts.needs, f"a row of {task.name} is {task.facts.row}"
    if "choices" in needs or task.facts.label == "tags":
        raise UsageError(what, do="give --file instead of --text")
    if "pair" in needs and not paired:
        raise UsageError(what, do="give the second text of each --text with --pair")
    if paired and "pair" not in (*needs, *task.columns) and task.facts.row == "a text":
        raise UsageError(what, do="leave --pair out")


def answer_names(rows: Sequence[Fields], say: Say, answers: Sequence[str]) -> dict[str, str]:
    """The names of the answers' columns, changed with a note where the file already has a column of that name."""
    columns = columns_of(rows)
    names = {name: free_name(name, columns) for name in answers}
    for name in answers:
        if names[name] != name:
            say.note(f"the file has a column {name!r}: ours is {names[name]!r}")
    return names


def quickened(exact: Predictor, quick: Predictor, examples: Sequence[Example], say: Say, *, windows: bool) -> Predictor:
    """The quick predictor if it gives the same answers as the exact one on a sample, else the exact one."""
    from promptgraft.engine.agreement import agreement

    comparison = agreement(exact, quick, examples, windows=windows)
    say.note(comparison.verdict)
    return quick if comparison.holds else exact


def answered(
    predictor: Predictor,
    examples: Sequence[Example],
    callback: ProgressCallback | None,
    *,
    windows: bool,
    risk: float | None,
) -> Iterator[Predictions]:
    """The answers to all examples, in batches of a few thousand."""
    from promptgraft.engine.progress import Event

    for start in range(0, len(examples), AT_ONCE):
        if callback is not None:
            callback(Event(start, len(examples), "labelling", unit="rows", behind=start / len(examples)))
        yield predictor.answers(examples[start : start + AT_ONCE], windows=windows, risk=risk)


def note_cut(answers: Sequence[Predictions], predictor: Predictor, say: Say) -> None:
    """Note how many texts were cut, or read in several windows."""
    from promptgraft.engine.predictor import cut_note

    if cut := sum(batch.cut for batch in answers):
        say.note(cut_note(cut, predictor.task.kind, "--windows"))
    rows, parts = sum(len(batch.predictions) for batch in answers), sum(batch.windows for batch in answers)
    if parts > rows:
        say.note(f"{rows} texts were read in {parts} windows")


def note_silent(answers: Sequence[Predictions], places: Sequence[str], say: Say) -> None:
    """Note how many rows hold nothing to read, or few words that a model knows, and where the first of them is."""
    from promptgraft.engine.predictor import blank_note
    from promptgraft.engine.unread import unread_note

    starts = accumulate((len(batch.predictions) for batch in answers), initial=0)
    blank: list[int] = []
    unread: dict[str, list[int]] = {}
    for start, batch in zip(starts, answers, strict=False):
        blank += [start + number for number in batch.blank]
        for model, numbers in batch.unread.items():
            unread.setdefault(model, []).extend(start + number for number in numbers)
    if blank:
        say.note(blank_note(blank, len(places), places))
    say.note(*(unread_note(numbers, len(places), model, places) for model, numbers in unread.items()))


def note_unlike(answers: Sequence[Predictions], say: Say, column: str | None) -> None:
    """Note how many texts are unlike the labelled rows, where they are more than chance makes."""
    from promptgraft.engine.familiar import CHANCE, more_than_chance

    marks = [bool(mark) for batch in answers if batch.unlike is not None for mark in batch.unlike]
    if more_than_chance(sum(marks), len(marks)):
        count = f"{sum(marks):,} of {len(marks):,} texts are unlike the labelled rows"
        chance = f"{100 * CHANCE:.0f} in 100 would be by chance"
        which = "--mark-unlike" if column is None else f"the column {column!r}"
        say.note(f"{count} ({chance}): their answers may be wrong however sure they are; {which} says which")


def note_given(answers: Sequence[Predictions], limit: Threshold | None, task: Task, say: Say) -> None:
    """Note how many texts are answered under a limit, or labels given, and what error is expected among them."""
    import numpy as np

    from promptgraft.engine.risk import LABELS, ROWS
    from promptgraft.engine.risk import answered as sentence

    if limit is not None and answers:
        confidence, given = zip(*(batch.sureness(task.classes) for batch in answers), strict=True)
        words = LABELS if task.facts.several else ROWS
        say.note(sentence(limit, np.concatenate(confidence), np.concatenate(given), words))


def as_rows(answers: Predictions, task: Task, names: dict[str, str], abstain_as: str | None) -> Iterator[Fields]:
    """The answers as rows, by the names of their columns; of several labels a row as lists."""
    prediction, probability = (names[name] for name in ANSWERS)
    if answers.probabilities is None:
        yield from ({prediction: value} for value in answers.predictions)
        return
    index = {name: place for place, name in enumerate(task.classes)}
    kept = answers.held_to(task.classes, abstain_as)
    for number, (label, row) in enumerate(zip(answers.predictions, answers.probabilities, strict=True)):
        record: Fields
        given = kept[number]
        if isinstance(label, tuple):  # the probabilities of a row that is held back are those of what it would get
            names_given = given if isinstance(given, tuple) else label
            shares = [round(float(row[index[name]]), 4) for name in names_given]
            record = {prediction: list(given) if isinstance(given, tuple) else given, probability: shares}
        else:
            record = {prediction: given, probability: round(float(row[index[str(label)]]), 4)}
        if UNLIKE in names and answers.unlike is not None:
            record[names[UNLIKE]] = bool(answers.unlike[number])
        yield record
