"""`promptgraft generate` as a user calls it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from causal_models import causal_folder
from command import Command
from promptgraft import api
from promptgraft.errors import RunError
from promptgraft.model.backbone import Batch
from promptgraft.model.causal import CausalBackbone
from seq2seq import write_small
from toys import tiny_model


@pytest.fixture(scope="module")
def causal(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("llama")
    causal_folder(folder, "llama")
    return folder


@pytest.fixture(scope="module")
def t5(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("t5")
    write_small("t5", folder)
    return folder


@pytest.fixture
def news(tmp_path: Path) -> Path:
    path = tmp_path / "news.csv"
    rows = "\n".join(f'{n},"w{n + 3} w{n + 9}, w4"' for n in range(6))
    path.write_text(f"id,text\n{rows}\n", encoding="utf-8")
    return path


def test_texts_of_the_line_are_written_for_and_python_writes_the_same(done: Command, causal: Path, t5: Path) -> None:
    for model in (causal, t5):
        said = done("generate", model, "w3 w4", "w5", "--template", "w1 {text} w2 {mask}", "--most", 5, "--json")
        written = [row["written"] for row in said.json]
        assert [row["text"] for row in said.json] == ["w3 w4", "w5"]
        assert written == api.generate(model, ["w3 w4", "w5"], template="w1 {text} w2 {mask}", most=5)


def test_a_file_keeps_its_columns(done: Command, t5: Path, news: Path, tmp_path: Path) -> None:
    out = tmp_path / "written.jsonl"
    said = done("generate", t5, "--file", news, "--most", 4, "--out", out)
    assert "note: columns inferred: text = 'text' (not used: 'id')" in said.err
    rows = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
    assert [list(row) for row in rows] == [["id", "text", "written"]] * 6
    assert said.out == f"6 rows written in {out}\n"


def test_an_empty_row_of_a_file_stops_no_other_and_is_named(
    done: Command, causal: Path, t5: Path, tmp_path: Path
) -> None:
    """The causal model has no token before a text, the other one has one behind it."""
    file = tmp_path / "news.csv"
    file.write_text('id,text\n1,w3 w4\n2,""\n3,w5\n', encoding="utf-8")
    for model in (causal, t5):
        for template in ((), ("--template", "{text} {mask}")):
            said = done("generate", model, "--file", file, "--most", 3, "--json", *template)
            assert len(said.json) == 3
            assert f"note: 1 of 3 rows hold no text (first: {file}:3): their answers say nothing" in said.err
    said = done("generate", causal, "w3", " ", "--most", 3)
    assert "note: 1 of 2 rows hold no text (first: text 2): their answers say nothing" in said.err


def test_draws_are_the_seeds(done: Command, causal: Path) -> None:
    def written(*more: object) -> str:
        return done("generate", causal, "w3 w4", "--most", 12, "--temperature", 1.5, "-q", *more).out

    assert written("--seed", 3) == written("--seed", 3)
    assert len({written("--seed", seed) for seed in range(4)}) > 1


def rows_at_once(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many rows each batch of a causal model has that is written from here on."""
    counts = []
    whole = CausalBackbone.generate

    def counted(self: CausalBackbone, batch: Batch, *words: object, **values: object) -> list[str]:
        counts.append(batch.tokens.count)
        return whole(self, batch, *words, **values)  # type: ignore[arg-type]

    monkeypatch.setattr(CausalBackbone, "generate", counted)
    return counts


@pytest.mark.parametrize(
    ("memory", "counts", "notes"),
    [(None, [3], 0), ("4GB", [3], 0), ("1KB", [1, 1, 1], 1), ("low", [1, 1, 1], 0)],
)
def test_as_many_rows_are_written_at_once_as_there_is_memory_for(
    done: Command, causal: Path, monkeypatch: pytest.MonkeyPatch, memory: str | None, counts: list[int], notes: int
) -> None:
    texts = ("w3 w4", "w5", "w6 w7 w8")
    at_once = rows_at_once(monkeypatch)
    said = done("generate", causal, *texts, "--most", 6, *(() if memory is None else ("--memory", memory)), "--json")
    assert at_once == counts
    assert said.err.count("there is room for") == notes
    assert [row["written"] for row in said.json] == api.generate(causal, texts, most=6, memory=memory)


def test_one_row_has_no_fewer_beside_it(done: Command, causal: Path) -> None:
    assert "there is room for" not in done("generate", causal, "w3 w4", "--most", 2, "--memory", "1KB").err


def test_what_two_sides_write_goes_by_memory_too(done: Command, t5: Path, caplog: pytest.LogCaptureFixture) -> None:
    plain, low = (done("generate", t5, "w3 w4", "w5", "--most", 5, *more).out for more in ((), ("--memory", "low")))
    assert plain == low
    line = f"memory bounds what {t5.name} takes while it writes; a training step takes what it needs"
    assert caplog.messages == [line]


def test_weights_in_few_bits_write(done: Command, causal: Path) -> None:
    said = done("generate", causal, "w3 w4", "--most", 6, "--arithmetic", "int4", "-q")
    assert said.out.rstrip("\n") == api.generate(causal, ["w3 w4"], most=6, arithmetic="int4")[0]


def test_no_memory_to_write_is_one_line_in_python_too(
    pg: Command, causal: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object, **__: object) -> list[str]:
        raise RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory: 1 bytes")

    monkeypatch.setattr(CausalBackbone, "generate", refused)
    said = pg("generate", causal, "w3", "-q")
    line = "out of memory; write fewer tokens (--most), or use --memory low, a smaller model, or for a causal model "
    assert said.err == f"promptgraft: {line}--arithmetic int4\n"
    with pytest.raises(RunError, match=r"out of memory; write fewer tokens \(most\), or use memory low"):
        api.generate(causal, ["w3"])


def test_one_of_given_texts_is_written(done: Command, causal: Path) -> None:
    said = done("generate", causal, "w3", "--template", "{text} is {mask}", "--among", "good", "--among", "bad", "-q")
    assert said.out in ("good\n", "bad\n")


def test_a_stop_keeps_what_was_written(
    pg: Command, t5: Path, news: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from promptgraft.api import generating

    calls = []

    def interrupted(*words: object) -> list[str]:
        calls.append(words)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return ["one", "two"]

    monkeypatch.setattr(generating, "AT_ONCE", 2)
    monkeypatch.setattr(generating, "write", interrupted)
    out = tmp_path / "written.csv"
    said = pg("generate", t5, "--file", news, "--out", out)
    assert said.status == 130
    assert said.err.splitlines()[-1] == "promptgraft: stopped"
    assert said.out == f"4 of 6 rows written in {out}\n"
    assert [line.rpartition(",")[2] for line in out.read_text().splitlines()] == ["written", "one", "two", "one", "two"]


def test_a_run_writes_in_its_own_words(done: Command, pg: Command, causal: Path, tmp_path: Path) -> None:
    task = tmp_path / "titles.csv"
    rows = "\n".join(f'"w{n} w{n + 1} w{n + 2}",the title {n} of three words' for n in range(12))
    task.write_text(f"text,title\n{rows}\n", encoding="utf-8")
    run, soft = tmp_path / "run", tmp_path / "soft"
    common = ("--model", causal, "--kind", "text", "--steps", 2, "--evaluations", 1, "--most", 4)
    done("tune", task, *common, "--template", "w1 {text} so {mask}", "--length", 3, "--out", run)
    texts = done("generate", run, "w3 w4", "--most", 4, "-q").out
    assert json.loads(done("predict", run, "--text", "w3 w4", "--json").out)[0]["prediction"] == texts.strip("\n")
    done("tune", task, *common, "--template", "{soft:3} {text} so {mask}", "--out", soft)
    said = pg("generate", soft, "w3", "--template", "{text}{mask}")
    assert said.err == "promptgraft: its vectors stand in the template it was tuned with; leave --template out\n"


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ((), "give what to write for; either texts or --file FILE"),
        (("a", "--template", "{demos:2}\n{text} {mask}"), "{demos:2} of the template needs labelled rows; "),
        (("a", "--template", "{soft:2} {text} {mask}"), "the vectors of {soft} are not tuned; "),
        (("a", "--template", "{text} so"), "the template has no place of the answer; "),
        (("a", "--template", "{text_b} {mask}"), "the texts has single texts: no {text_b} for the template; "),
        (("a", "--most", "90"), "90 tokens to write leave no room for a text: "),
        (("a", "--memory", "much"), "memory 'much' is no size; write 4GB, 800MB, or low"),
        (("a", "--among", "good", "--among", " "), "a text to choose from (--among) is empty; leave it out"),
        (("a", "--stop", ""), "a stop word is empty; leave it out"),
        (("a", "--model", "minilm"), "is no run, so that it has no other model; leave --model out"),
    ],
)
def test_what_cannot_be_is_one_line(pg: Command, causal: Path, words: tuple[str, ...], line: str) -> None:
    said = pg("generate", causal, *words, "-q")
    assert said.status in (1, 2)
    assert said.err.count("\n") == 1
    assert line in said.err


def test_an_encoder_gives_no_text(pg: Command, tmp_path: Path) -> None:
    said = pg("generate", tiny_model(tmp_path / "bert", "bert"), "a", "-q")
    assert said.status == 1
    assert "gives no text; use a causal or a sequence-to-sequence model" in said.err
