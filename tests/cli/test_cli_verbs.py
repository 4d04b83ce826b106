"""Every verb does what it says, end to end, on the sample data and a real small model."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from causal_models import causal_folder
from command import QUICK, Command, Tuned
from paths import let_bf16_be
from promptgraft.cli import doctor
from promptgraft.study.compare import ROWS


def sealed(folder: Path) -> bytes:
    return (folder / "artefact" / "prompt.safetensors").read_bytes()


def test_tune_says_what_it_chose_and_where_it_is(tuned: Tuned) -> None:
    assert f"kept: prompt-tuning, seed 0, in {tuned.run}" in tuned.said.out
    assert f"and in the bank {tuned.bank} as shop_questions_zh" in tuned.said.out
    assert "note: pooling: " in tuned.said.err, "what was chosen by a probe is said"
    assert sealed(tuned.run) == (tuned.bank / "shop_questions_zh" / "prompt.safetensors").read_bytes()


def test_the_same_seed_gives_the_same_bytes(done: Command, reviews: Path, splade_tiny: Path, tmp_path: Path) -> None:
    for name in ("one", "two"):
        done("tune", reviews, "--model", splade_tiny, "--shots", 4, "--seed", 7, "--out", tmp_path / name, *QUICK)
    done("tune", reviews, "--model", splade_tiny, "--shots", 4, "--seed", 8, "--out", tmp_path / "three", *QUICK)
    assert sealed(tmp_path / "one") == sealed(tmp_path / "two")
    assert sealed(tmp_path / "one") != sealed(tmp_path / "three")


def test_what_is_finished_is_not_done_again(done: Command, questions: Path, splade_tiny: Path, tuned: Tuned) -> None:
    results = list((tuned.run / "jobs").glob("*/result.json"))
    before = [path.stat().st_mtime_ns for path in results]
    done("tune", questions, "--model", splade_tiny, "--out", tuned.run, *QUICK)
    assert [path.stat().st_mtime_ns for path in results] == before


@pytest.mark.parametrize("method", ["linear-probe", "model-tuning", "zero-shot"])
def test_tune_by_other_methods(method: str, done: Command, reviews: Path, splade_tiny: Path, tmp_path: Path) -> None:
    words = ["tune", reviews, "--model", splade_tiny, "--method", method, "--out", tmp_path, *QUICK]
    said = done(*words, "--json", "--seeds", "1,4")
    assert {result["seed"] for row in said.json["rows"] for result in row["results"]} == {1, 4}
    assert "prediction" in done("predict", tmp_path, "--text", "fine", "--model", splade_tiny).out


def test_a_csv_without_a_task_file(done: Command, splade_tiny: Path, tmp_path: Path) -> None:
    rows = [("hält gut", "gut"), ("kaputt", "schlecht")] * 10
    text = "Satz,Urteil\n" + "".join(f"{sentence} {n},{label}\n" for n, (sentence, label) in enumerate(rows))
    (tmp_path / "urteile.csv").write_text(text, encoding="utf-8")
    words = ["tune", tmp_path / "urteile.csv", "--model", splade_tiny, "--out", tmp_path / "run", *QUICK]
    said = done(
        *words, "--text-column", "Satz", "--label-column", "Urteil", "--metric", "macro_recall", "--test-rows", 2
    )
    assert "macro_recall in percent" in said.out
    assert "note: kind inferred: classification" in said.err
    assert "one file, split by seed 13" in said.err
    assert "test: 2 of 4 rows" in said.err


def test_rank_orders_and_prices(done: Command, reviews: Path, splade_tiny: Path, tuned: Tuned) -> None:
    words = ["rank", reviews, "--model", splade_tiny, "--bank", tuned.bank, "--shots", 4, *QUICK]
    shown = done(*words).out
    assert "shop_questions_zh is first: the only candidate" in shown
    assert "task-embedding" not in shown, "it trains, so it is computed where it is asked for"
    ranking = done(*words, "--measures", "probe,task-embedding", "--json").json
    assert [row["source"] for row in ranking["rows"]] == ["shop_questions_zh"]
    assert set(ranking["rows"][0]["scores"]) == {"probe", "task-embedding"}
    assert all(passes > 0 for passes in ranking["passes"].values())


def test_rank_says_what_is_no_candidate(pg: Command, questions: Path, splade_tiny: Path, tuned: Tuned) -> None:
    said = pg("rank", questions, "--model", splade_tiny, "--bank", tuned.bank, "--shots", 4)
    assert said.status == 1
    assert "shop_questions_zh: tuned on the target itself" in said.err


def test_transfer_shows_the_alternatives(
    done: Command, reviews: Path, splade_tiny: Path, tuned: Tuned, tmp_path: Path
) -> None:
    words = ["transfer", reviews, "--model", splade_tiny, "--bank", tuned.bank, "--shots", 4, "--seeds", 2]
    said = done(
        *words, "--out", tmp_path / "run", "--keep-in", tmp_path / "mine", "--name", "grafted", *QUICK, "--json"
    )
    assert [row["method"] for row in said.json["rows"]] == ["graft", "linear-probe", "prompt-tuning:linear"]
    assert said.json["best"]["source"] == "shop_questions_zh"
    assert said.json["rows"][0]["gain"]["count"] == 2
    assert "note: graft of " in said.err
    card = done("bank", "show", tmp_path / "mine", "grafted", "--json").json
    assert [origin["name"] for origin in card["lineage"]] == ["shop_questions_zh"]


@pytest.mark.parametrize("readout", ["new", "keep", "label-text", "linear"])
def test_transfer_by_every_readout(
    readout: str, done: Command, reviews: Path, splade_tiny: Path, tuned: Tuned, tmp_path: Path
) -> None:
    words = ["transfer", reviews, "--model", splade_tiny, "--bank", tuned.bank, "--shots", 4, "--no-baselines"]
    words += ["--source", "shop_questions_zh", "--readout", readout, "--out", tmp_path, *QUICK]
    assert f"pot:{readout}" in done(*words).out


def test_transfer_without_a_single_label(
    done: Command, reviews: Path, splade_tiny: Path, tuned: Tuned, tmp_path: Path
) -> None:
    words = ["transfer", reviews, "--model", splade_tiny, "--bank", tuned.bank, "--source", "shop_questions_zh"]
    said = done(*words, "--shots", 0, "--label-map", "positive=发票,negative=退货", "--out", tmp_path, "--json")
    [row] = said.json["rows"]
    assert row["parameters"] == 0
    assert row["validation"] is None


def test_panda_takes_its_options_and_unlabelled_text(
    done: Command, root: Path, reviews: Path, splade_tiny: Path, tuned: Tuned, tmp_path: Path
) -> None:
    words = ["transfer", reviews, "--model", splade_tiny, "--bank", tuned.bank, "--shots", 4, "--method", "panda"]
    words += ["--mode", "gated", "--teacher", "shuffled", "--weight", "0.5", "--temperature", 3, "--share", "0.25"]
    words += ["--unlabelled", root / "examples/data/unlabelled_home_reviews.txt", "--no-baselines"]
    result = done(*words, "--out", tmp_path, *QUICK, "--json").json["best"]
    expected = {"mode": "gated", "teacher": "shuffled", "weight": "0.5", "temperature": "3", "share": "0.25"}
    assert result["options"] == expected


def test_compare_writes_a_report(done: Command, reviews: Path, splade_tiny: Path, tuned: Tuned, tmp_path: Path) -> None:
    words = ["compare", reviews, "--model", splade_tiny, "--bank", tuned.bank, "--shots", 4, "--seeds", 2]
    words += ["--methods", "linear-probe,prompt-tuning,pot", "--test-rows", 20, "--out", tmp_path, *QUICK]
    said = done(*words)
    assert "Validation chooses " in said.out
    assert f"written: {tmp_path / 'report.html'}, {tmp_path / 'results.csv'}" in said.out
    again = done(*words, "--json").json
    labels = {row["method"] for row in again["rows"]} | set(again["skipped"])
    tuned_from_scratch = {"linear-probe", "prompt-tuning:linear", "prompt-tuning:label-text"}
    assert labels == tuned_from_scratch | {"pot:new", "pot:keep", "pot:label-text"}
    with (tmp_path / "results.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert {(row["method"], row["seed"]) for row in rows} == {(row["method"], seed) for row in rows for seed in "01"}
    assert all(row["test_rows"] == "20" for row in rows)


@pytest.mark.slow
def test_compare_runs_every_method(
    done: Command, reviews: Path, splade_tiny: Path, tuned: Tuned, tmp_path: Path
) -> None:
    words = ["compare", reviews, "--model", splade_tiny, "--bank", tuned.bank, "--shots", 4, "--seed", 0]
    compared = done(*words, "--out", tmp_path, *QUICK, "--json").json
    assert len(compared["rows"]) + len(compared["skipped"]) == len(ROWS)
    assert not {label for label in compared["skipped"] if not label.startswith("pot:keep")}, compared["skipped"]


def test_predict_a_text_in_chinese(done: Command, splade_tiny: Path, tuned: Tuned) -> None:
    rows = done("predict", tuned.run, "--text", "请给我开一张发票", "--model", splade_tiny, "--json").json
    assert rows[0]["text"] == "请给我开一张发票"
    assert rows[0]["prediction"] in ("退货", "物流", "发票", "商品咨询")
    assert 0.25 <= rows[0]["probability"] <= 1


@pytest.mark.parametrize("ending", ["csv", "tsv", "jsonl"])
def test_predict_keeps_the_columns_of_a_file(
    ending: str, done: Command, splade_tiny: Path, tuned: Tuned, tmp_path: Path
) -> None:
    texts = ["发票, 谢谢", 'says "no"', "two\nlines", "x " * 5000]
    rows = [{"id": str(n), "text": text, "stars": "5"} for n, text in enumerate(texts)]
    (tmp_path / "new.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    out = tmp_path / f"labelled.{ending}"
    said = done("predict", tuned.run, "--file", tmp_path / "new.jsonl", "--out", out, "--model", splade_tiny)
    assert said.out == f"4 rows labelled in {out}\n"
    with out.open(encoding="utf-8", newline="") as file:
        if ending == "jsonl":
            labelled = [json.loads(line) for line in file]
        else:
            labelled = list(csv.DictReader(file, delimiter={"csv": ",", "tsv": "\t"}[ending]))
    assert list(labelled[0]) == ["id", "text", "stars", "prediction", "probability"]
    assert [{name: row[name] for name in rows[0]} for row in labelled] == rows


def test_predict_in_int8_says_how_often_it_agrees(done: Command, root: Path, splade_tiny: Path, tuned: Tuned) -> None:
    file = root / "examples/data/unlabelled_home_reviews.txt"
    said = done("predict", tuned.run, "--file", file, "--model", splade_tiny, "--arithmetic", "int8", "--json")
    assert "int8 gives the answer of" in said.err
    exact = done("predict", tuned.run, "--file", file, "--model", splade_tiny, "--json").json
    same = sum(one["prediction"] == other["prediction"] for one, other in zip(said.json, exact, strict=True))
    assert same >= 0.9 * len(exact)


@pytest.fixture(params=[True, False], ids=["bf16 is fast", "bf16 is slow"])
def fast_bf16(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """On both kinds of processor, whichever this one is."""
    let_bf16_be(request.param, monkeypatch)
    return bool(request.param)


ASKED_FOR = "note: bf16 is slower than fp32 on this processor"


@pytest.mark.parametrize("verb", ["tune", "rank", "transfer", "compare", "estimate", "predict"])
def test_slow_bf16_is_remarked_on_once(
    verb: str, fast_bf16: bool, pg: Command, reviews: Path, tuned: Tuned, tmp_path: Path
) -> None:
    """By the verb, before a model is loaded; the library does as it is told."""
    tmp_path.joinpath("config.json").write_text("{}", encoding="utf-8")
    task = [tuned.run, "--text", "fine"] if verb == "predict" else [reviews]
    words = [verb, *(["tune"] if verb == "estimate" else []), *task, "--model", tmp_path, "--device", "cpu"]
    assert pg(*words, "--arithmetic", "bf16").err.count(ASKED_FOR) == (not fast_bf16)
    for other in ("auto", "fp32"):
        assert ASKED_FOR not in pg(*words, "--arithmetic", other).err


def test_what_a_model_takes_is_said_before_it_is_loaded(
    done: Command, pg: Command, splade_tiny: Path, reviews: Path, tmp_path: Path
) -> None:
    causal_folder(tmp_path, "llama")
    words = ["estimate", "memory", "--model", tmp_path, "--device", "cpu", "--batch", 4, "--seeds", 2]
    assert [line.split()[0] for line in done(*words).out.splitlines()[1:5]] == ["fp32", "bf16", "int8", "int4"]
    said = json.loads(done(*words, "--json").out)
    assert all(line["fits"] == "yes" and line["step"] >= line["weights"] for line in said["lines"])
    assert [line["again"] for line in json.loads(done(*words[:2], "-m", splade_tiny, "--json").out)["lines"]] == [
        None
    ] * 2
    assert pg("estimate", "memory", reviews, "-m", splade_tiny).err.startswith("promptgraft: what a model takes")
    assert "estimate tune needs a task" in pg("estimate", "tune", "-m", splade_tiny).err


def test_a_causal_model_is_tuned_with_little_memory_in_few_bits(
    done: Command, pg: Command, reviews: Path, tmp_path: Path
) -> None:
    causal_folder(tmp_path, "llama")
    words = ["tune", reviews, "--model", tmp_path, "--shots", 4, "--steps", 2, "--length", 2, "--max-length", 24]
    words += ["--template", "{text} It is {mask}", "--verbalizer", "positive=good,negative=bad", "--device", "cpu"]
    kept = []
    for number, more in enumerate((["--memory", "low"], ["--memory", "8GB"], [])):
        done(*words, "--arithmetic", "int4", *more, "--out", tmp_path / str(number))
        kept.append((tmp_path / str(number) / "artefact" / "prompt.safetensors").read_bytes())
    assert kept[0] == kept[1] == kept[2]
    assert "memory 'much' is no size" in pg(*words, "--memory", "much").err


def test_auto_is_the_faster_and_what_was_tuned_in_one_is_used_in_the_other(
    fast_bf16: bool, done: Command, reviews: Path, splade_tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["tune", reviews, "--model", splade_tiny, "--shots", 4, "--device", "cpu", "--out", tmp_path, *QUICK]
    done(*words)
    card = json.loads((tmp_path / "artefact" / "card.json").read_text(encoding="utf-8"))
    assert card["recipe"]["arithmetic"] == ("bf16" if fast_bf16 else "fp32")
    shares = []
    for fast in (True, False):
        let_bf16_be(fast, monkeypatch)
        said = done("predict", tmp_path, "--text", "fine", "--model", splade_tiny, "--device", "cpu", "--json")
        shares.append(said.json[0]["probability"])
    assert shares[0] == pytest.approx(shares[1], abs=0.05)


def test_predict_a_plain_text_file(done: Command, root: Path, splade_tiny: Path, tuned: Tuned) -> None:
    file = root / "examples/data/unlabelled_home_reviews.txt"
    rows = done("predict", tuned.run, "--file", file, "--model", splade_tiny, "--json").json
    assert [row["text"] for row in rows] == file.read_text(encoding="utf-8").splitlines()


def test_a_bank_is_looked_at_and_exchanged(done: Command, tuned: Tuned, tmp_path: Path) -> None:
    assert "1 prompts in" in done("bank", "list", tuned.bank).out
    page = done("bank", "show", tuned.bank, "shop_questions_zh").out
    assert page.startswith("# shop_questions_zh on splade-tiny")
    done("bank", "export", tuned.bank, "shop_questions_zh", tmp_path / "given.zip")
    other = tmp_path / "other"
    assert done("bank", "import", other, tmp_path / "given.zip", "--name", "taken").out == f"taken is in {other}\n"
    done("bank", "add", other, tuned.run, "--name", "added")
    listed = done("bank", "list", other, "--json").json
    assert [entry["name"] for entry in listed] == ["added", "taken"]
    assert len({entry["hash"] for entry in listed}) == 1
    assert "2 prompts in" in done("bank", "verify", other).out
    done("bank", "remove", other, "taken")
    assert [entry["name"] for entry in done("bank", "list", other, "--json").json] == ["added"]


def test_models_are_listed_and_found(done: Command, splade_tiny: Path) -> None:
    known = {entry["name"]: entry for entry in done("models", "list", "--json").json}
    assert {"minilm", "splade-tiny", "bge-small-en", "e5-small", "albert-tiny-zh"} <= set(known)
    assert known["splade-tiny"]["pulled"]
    assert known["m3e-small-zh"]["restricted"], "weights with strings attached say so"
    assert Path(done("models", "path", "splade-tiny").out.strip()).samefile(splade_tiny)


def test_quiet_is_quiet(done: Command, reviews: Path, splade_tiny: Path, tmp_path: Path) -> None:
    said = done("tune", reviews, "--model", splade_tiny, "--shots", 4, "--out", tmp_path, "--quiet", *QUICK)
    assert said.err == ""


def test_doctor_looks_at_what_is_needed(pg: Command, splade_tiny: Path) -> None:
    said = pg("doctor", "--json")
    found = {one["what"]: one for one in said.json}
    assert {"python", "torch", "transformers", "threads", "PROMPTGRAFT_HOME", "starter bank", "extra zh"} <= set(found)
    assert Path(found["model splade-tiny"]["state"]).samefile(splade_tiny)
    assert said.status == int(any(one["broken"] for one in found.values()))


def test_doctor_says_how_an_extra_is_installed_from_a_clone(monkeypatch: pytest.MonkeyPatch) -> None:
    """No release is on the package index yet."""
    monkeypatch.setattr(doctor.importlib.util, "find_spec", lambda _: None)
    states = {finding.what: finding.state for finding in doctor.extras()}
    assert states["extra setfit"] == "no; pip install '.[setfit]' in a clone of promptgraft"


def test_a_prompt_goes_to_peft_and_back(
    pg: Command, done: Command, tuned: Tuned, splade_tiny: Path, tmp_path: Path
) -> None:
    adapter, back = tmp_path / "adapter", tmp_path / "back"
    words = ["bank", "export", tuned.bank, "shop_questions_zh", adapter, "--peft"]
    refused = pg(*words)
    assert refused.status == 1
    assert "PEFT would not predict the same" in refused.err
    assert "PEFT will predict differently" in done(*words, "--differing").err
    done("bank", "import", back, adapter, "--model", splade_tiny, "--name", "returned")
    assert [entry["name"] for entry in done("bank", "list", back, "--json").json] == ["returned"]


def test_compare_goes_without_sources_where_no_bank_serves_the_model(
    done: Command, reviews: Path, splade_tiny: Path, tmp_path: Path
) -> None:
    words = ["compare", reviews, "--model", splade_tiny, "--methods", "linear-probe,zero-shot,pot", "--seeds", 1]
    said = done(*words, "--shots", 4, "--out", tmp_path / "run")
    assert "no banked prompts: methods that start from a source are left out" in said.err
    assert "linear-probe" in said.out
    assert "pot" not in said.out
