"""Texts that a model writes: learned through a prompt, judged by what is written, kept and written again."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from torch.nn.functional import one_hot

from causal_models import causal_folder
from promptgraft import api
from promptgraft.engine.writer import Decoding, longest_read, write
from promptgraft.errors import RunError, UsageError
from promptgraft.model.backbone import Backbone, Batch
from promptgraft.model.writing import Rules, Writing
from promptgraft.prompt.reading import Reading
from promptgraft.readout.readout import Given
from promptgraft.readout.written import Written
from promptgraft.task.task import Example, References, Task
from promptgraft.train.run import Tuned
from seq2seq import write_small
from toys import tiny_model, toy_task

WRITERS = ("llama", "gpt2", "t5", "bart")
TEMPLATE = "w1 {text} w2 {mask}"
WORDS = {"template": "{text} {mask}", "verbalizer": "negative=bad,positive=good"}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    made = {}
    for name in WRITERS:
        made[name] = tmp_path_factory.mktemp(name)
        if name in ("t5", "bart"):
            write_small(name, made[name])
        else:
            causal_folder(made[name], name)
    return made


@pytest.fixture(scope="module")
def models(folders: dict[str, Path]) -> dict[str, Backbone]:
    return {name: api.load_backbone(folder, dtype="fp32") for name, folder in folders.items()}


def texts(answer: str = "w7 w3", rows: int = 12) -> Task:
    """Rows for which one text is always to be written."""
    examples = tuple(Example(f"w{5 + n} w{9 + n}", label=References((answer, "w9"))) for n in range(rows))
    splits = {"train": examples, "validation": examples[:4], "test": examples[4:8]}
    return Task("toy", "text", "rougeL", {}, splits)


def untrained(template: str = TEMPLATE) -> Tuned:
    readout = Written.create(texts(), 1, torch.Generator(), Given(lambda words: torch.zeros(len(words), 1)))
    return Tuned(None, readout, Reading("answer", template=template))


def test_the_loss_is_the_mean_over_the_answers_tokens_and_its_end(
    models: dict[str, Backbone], folders: dict[str, Path]
) -> None:
    theirs = transformers.T5ForConditionalGeneration.from_pretrained(folders["t5"])
    model, tuned = models["t5"], untrained()
    rows = texts().train[:3]
    tokens = model.tokenize(rows, "text", tuned.reading)
    states = model.forward(Batch(tokens), None, "answer")
    loss = tuned.readout.loss(tuned.readout.scores(states, tokens), tuned.readout.gold(rows, tokens, texts()))
    assert tokens.answers is not None
    for row, value in enumerate(loss.tolist()):
        first, last = tokens.starts[row : row + 2].tolist()
        ids, is_answer = tokens.ids[first:last], tokens.answers[first:last]
        assert int(ids[-1]) == theirs.config.eos_token_id
        wanted = theirs(input_ids=ids[~is_answer][None], labels=ids[is_answer][None]).loss
        assert value == pytest.approx(float(wanted.detach()), abs=1e-4)


@pytest.mark.parametrize("name", WRITERS)
def test_rows_without_a_text_are_read_without_one(models: dict[str, Backbone], name: str) -> None:
    tuned, bare = untrained(), (Example("w5 w9"),)
    labelled = (Example("w5 w9", label=References(("w7",))),)
    model = models[name]
    tokens = model.tokenize(bare, "text", tuned.reading)
    assert tokens.answers is None or not tokens.answers.any()
    assert torch.equal(tokens.ids, model.tokenize(labelled, "text", tuned.reading.unanswered).ids)
    assert len(model.tokenize(labelled, "text", tuned.reading).ids) > len(tokens.ids)
    gold = tuned.readout.gold((*bare, *labelled), tokens, texts())
    assert gold.tolist() == [-100, 0]
    assert tuned.readout.loss(torch.tensor([-2.0, -2.0]), gold).tolist() == [0, 2]


@pytest.mark.parametrize("name", WRITERS)
def test_all_weights_learn_to_write(models: dict[str, Backbone], name: str) -> None:
    """Over all words, those that no text has among them, whether the head is the table of words or another one."""
    model = models[name]
    outcome = api.tune(
        texts(), model, method="model-tuning", steps=60, weights_rate=3e-3, evaluations=3, most=8, template=TEMPLATE
    )
    assert outcome.best.result.scores["test"]["score"] > 60
    assert outcome.best.result.parameters >= sum(weight.numel() for weight in model.weights.values())


@pytest.mark.parametrize("name", WRITERS)
def test_all_weights_learn_classes(models: dict[str, Backbone], name: str) -> None:
    outcome = api.tune(toy_task(), models[name], method="model-tuning", steps=4, batch=8, evaluations=1)
    assert 0 <= outcome.best.result.scores["test"]["score"] <= 100


def test_an_answer_that_ends_within_a_character_ends_before_it() -> None:
    """At its most tokens; what a model writes of its own accord stays as it is."""
    written = Writing(2, Rules(2, {0}), lambda tokens: bytes(tokens).decode("utf-8", "replace"))
    for first, second in ((ord("a"), ord("b")), (0xE5, ord("c"))):
        written.add(one_hot(torch.tensor([first, second]), 256).float())
    assert written.texts == ["a", "bc"]


FORMS = (
    {"template": TEMPLATE, "depth": "deep"},
    {"template": TEMPLATE, "depth": "shallow", "placement": "peft"},
    {"template": "w1 {text} {soft:4} {mask}"},
    {},
)


@pytest.mark.parametrize("form", FORMS, ids=["deep", "shallow", "soft", "plain"])
@pytest.mark.parametrize("name", WRITERS)
def test_a_prompt_learns_to_write_and_to_stop(
    models: dict[str, Backbone], name: str, form: dict[str, str], tmp_path: Path
) -> None:
    outcome = api.tune(texts(), models[name], steps=60, length=6, rate=0.2, evaluations=3, most=8, out=tmp_path, **form)
    history = (tmp_path / "jobs" / outcome.best.job.id / "history.csv").read_text().splitlines()
    cells = [row.split(",")[history[0].split(",").index("loss")] for row in history[1:]]
    losses = [float(cell) for cell in cells if cell]  # the untouched start has none
    assert min(losses[-5:]) < losses[0]
    assert "validation_loss" in history[0]
    assert outcome.best.result.readout == "written"
    assert set(outcome.best.result.scores["test"]) >= {"score", "rouge1"}
    rows = [Example(row.text) for row in texts().test]
    written = outcome.predictor.predict(rows)
    assert written == api.load(tmp_path, models[name]).predict(rows)
    assert outcome.predictor.evaluate(texts().test)["score"] == outcome.best.result.scores["test"]["score"]
    if form.get("depth") == "deep" and name in ("llama", "t5"):  # the others of random weights move too little
        assert "w7 w3" in written


@pytest.mark.parametrize("name", WRITERS)
def test_it_writes_the_same_alone_and_beside_others(models: dict[str, Backbone], name: str) -> None:
    rows, tuned, decoding = [Example(f"w{n} w9 " * n) for n in range(1, 6)], untrained(), Decoding(most=6)

    def written(examples: list[Example]) -> list[str]:
        return write(models[name], tuned, models[name].tokenize(examples, "text", tuned.reading.unanswered), decoding)

    assert written(rows) == [text for row in rows for text in written([row])]


@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_an_empty_row_stops_no_other_where_nothing_stands_before_it(
    models: dict[str, Backbone], folders: dict[str, Path], name: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The models' tokenizer puts nothing before a text: what is written for none is what transformers writes."""
    texts_given = ["w5 w9", "", "w6"]
    written = api.generate(models[name], texts_given, most=6)
    assert caplog.messages == ["1 of 3 rows hold no text (first: row 1): their answers say nothing"]
    assert written[::2] == [api.generate(models[name], [text], most=6)[0] for text in ("w5 w9", "w6")]
    theirs = transformers.AutoModelForCausalLM.from_pretrained(folders[name])
    ids = theirs.generate(max_new_tokens=6, do_sample=False)[0, 1:].tolist()
    engine = models[name]._tokenizer.engine  # type: ignore[attr-defined]
    end = theirs.config.eos_token_id
    whole = engine.decode(ids[: ids.index(end)] if end in ids else ids).rstrip("\ufffd")  # a character is whole or not
    assert written[1] == whole.strip()


@pytest.mark.parametrize(
    "form",
    [
        {"method": "zero-shot", "options": {"calibration": "empty"}, **WORDS},
        {"method": "linear-probe"},
        {"steps": 2, "length": 2, "evaluations": 1, **WORDS},
    ],
    ids=["words", "states", "prompt"],
)
def test_empty_rows_are_learned_from_and_labelled_like_any_other(
    models: dict[str, Backbone], form: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    task = toy_task()
    train = (Example("", label=task.train[0].label), *task.train)
    outcome = api.tune(task.replace(splits={**task.splits, "train": train}), models["llama"], **form)
    caplog.clear()
    assert len(outcome.predictor.predict(["w5", " ", "", "w6"])) == 4
    assert "2 of 4 rows hold no text (first: row 1): their answers say nothing" in caplog.text


@pytest.mark.parametrize("name", WRITERS)
def test_it_chooses_among_given_texts(models: dict[str, Backbone], name: str) -> None:
    tuned = untrained()
    tokens = models[name].tokenize([Example("w5 w9"), Example("w6")], "text", tuned.reading.unanswered)
    assert set(write(models[name], tuned, tokens, Decoding(among=("w7 w3", "w8")))) <= {"w7 w3", "w8"}


def test_without_training_and_without_a_template(models: dict[str, Backbone], caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="promptgraft"):
        outcome = api.tune(texts(), models["llama"], method="zero-shot", shots=0, most=4)
    notes = [record.getMessage() for record in caplog.records if "no template" in record.getMessage()]
    assert notes == [r"toy: no template was given, so the model writes behind the text: '{text}\n{mask}'"]
    assert outcome.best.result.template == "{text}\n{mask}"
    assert outcome.best.result.scores["test"]["score"] >= 0


def test_demonstrations_show_the_first_text(models: dict[str, Backbone]) -> None:
    outcome = api.tune(texts(), models["llama"], method="zero-shot", template="{demos:2}\n{text} so {mask}", most=4)
    assert outcome.best.result.template is not None
    assert outcome.best.result.template.count("so w7 w3\n") == 2


def test_a_line_end_ends_texts_of_one_line_alone() -> None:
    given = Given(lambda words: torch.zeros(len(words), 1))
    readouts = [Written.create(texts(answer), 1, torch.Generator(), given) for answer in ("w7 w3", "w7\nw3")]
    assert [readout.stop for readout in readouts] == [("\n",), ()]
    assert [Written.load(readout.state()).stop for readout in readouts] == [("\n",), ()]


def test_a_text_has_room_behind_its_row(models: dict[str, Backbone]) -> None:
    model = models["llama"]
    assert longest_read(model, None, 384, 16) == model.max_length - 16
    with pytest.raises(RunError, match="leave no room for a text") as caught:
        longest_read(model, None, 384, model.max_length)
    assert caught.value.do == "write fewer (--most)"
    long = Example("w5 " * 300)
    outcome = api.tune(texts(), model, method="zero-shot", shots=0, most=4)
    assert outcome.predictor.predict([long])


def test_what_cannot_write_is_refused(tmp_path: Path, models: dict[str, Backbone]) -> None:
    with pytest.raises(RunError, match="needs a model that generates"):
        api.tune(texts(), tiny_model(tmp_path / "bert", "bert"), arithmetic="fp32", template=TEMPLATE)
    with pytest.raises((RunError, UsageError), match="no place of the answer"):
        api.tune(texts(), models["llama"], method="zero-shot", shots=0, template="w1 {text}")
