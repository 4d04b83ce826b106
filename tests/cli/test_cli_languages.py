"""Text in a language that the model hardly knows is said to be so once, by every verb that reads rows."""

from __future__ import annotations

import csv
import re
from pathlib import Path

import pytest

from command import Command, Tuned
from promptgraft.api.searching import setting_for
from seq2seq import write_small

LABELS = ("物流", "退货")
TEXTS = ("退货怎么办理？", "多少钱？", "能送货吗", "什么时候发货", "可以退款吗", "质量问题谁负责")
QUICK = "--steps 1 --length 2 --evaluations 1"
WORDED = "--template {text}:{mask} --verbalizer 物流=good,退货=bad"

# words of a verb in which RUN stands for a run folder, FILE for labelled rows, MORE for rows of every class of the run,
# TEXTS for rows without labels, MODEL and SPEAKER for models, OUT for a new folder -> the beginning of the note, in
# which N stands for as many rows as the verb reads
VERBS = {
    "tune FILE -m MODEL --method linear-probe --out OUT": "rows: N rows hold",
    f"tune FILE -m MODEL {QUICK} --out OUT": "rows: N rows hold",
    f"tune FILE -m MODEL --method zero-shot {WORDED} --out OUT": "rows: N rows hold",
    f"tune FILE -m MODEL {WORDED} {QUICK} --out OUT": "rows: N rows hold",
    "rank FILE -m MODEL --bank BANK": "rows: N rows hold",
    "transfer FILE -m MODEL --bank BANK --no-baselines --out OUT": "rows: N rows hold",
    f"transfer FILE -m MODEL --bank BANK --method pot --no-baselines {QUICK} --out OUT": "rows: N rows hold",
    f"compare FILE -m MODEL --bank BANK --methods linear-probe --seeds 1 {QUICK} --out OUT": "rows: N rows hold",
    f"distil {{text}}是{{mask}} --to {{text}}{{mask}} --file FILE -m MODEL --verbalizer 物流=good,退货=bad {QUICK} "
    "--out OUT": "rows: N rows hold",
    "bank record BANK FILE -m MODEL --label 物流=mail --label 退货=returns": "rows: N rows hold",
    "predict RUN --file TEXTS -m MODEL": "6 of 6 rows hold",
    "suggest RUN --file TEXTS -m MODEL": "shop_questions_zh: 6 of 6 rows hold",
    "explain RUN --file TEXTS -m MODEL --out OUT": "6 of 6 rows hold",
    "extend RUN --rows MORE -m MODEL --out OUT": "shop_questions_zh: 4 of 4 rows hold",
    "generate SPEAKER --file TEXTS --most 2": "6 of 6 rows hold",
}


@pytest.fixture(scope="module")
def speaker(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("t5")
    write_small("t5", folder)
    return folder


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("files")
    rows = [(text + mark, LABELS[place % 2]) for mark in ("", "？") for place, text in enumerate(TEXTS)]
    with (folder / "rows.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("text", "label"), *rows])
    (folder / "texts.csv").write_text("\n".join(["text", *TEXTS]) + "\n", encoding="utf-8")
    more = zip(TEXTS, ("退货", "物流", "发票", "商品咨询"), strict=False)
    (folder / "more.csv").write_text("text,label\n" + "".join(f"{','.join(row)}\n" for row in more), encoding="utf-8")
    return {"FILE": folder / "rows.csv", "TEXTS": folder / "texts.csv", "MORE": folder / "more.csv"}


@pytest.mark.parametrize("words", VERBS)
def test_rows_of_unknown_words_are_said_once(
    words: str,
    done: Command,
    tuned: Tuned,
    splade_tiny: Path,
    speaker: Path,
    files: dict[str, Path],
    tmp_path: Path,
) -> None:
    places = {"RUN": tuned.run, "BANK": tuned.bank, "MODEL": splade_tiny, "SPEAKER": speaker, "OUT": tmp_path / "out"}
    said = done(*((places | files).get(word, word) for word in words.split()))
    model = speaker.name if "SPEAKER" in words else "splade-tiny"
    notes = [line for line in said.err.splitlines() if "words that" in line]
    assert len(notes) == 1, said.err
    beginning = re.escape(f"note: {VERBS[words]} few or no words that {model} knows").replace("N", r"\d+", 1)
    assert re.match(beginning, notes[0])
    assert "first: row" not in notes[0], "a number among the rows that are left of a file names none of its lines"


def test_a_search_says_which_rows_its_model_does_not_know(splade_tiny: Path, files: dict[str, Path]) -> None:
    _, notes = setting_for(files["FILE"], splade_tiny, shots=2, verbalizer="物流=good,退货=bad")
    assert any(note.endswith("rows hold few or no words that splade-tiny knows") for note in notes)


def test_nothing_is_said_of_rows_that_it_knows(done: Command, splade_tiny: Path, reviews: Path, tmp_path: Path) -> None:
    words = ("--method", "linear-probe", "--shots", 4, "--out", tmp_path)
    assert "words that" not in done("tune", reviews, "--model", splade_tiny, *words).err
