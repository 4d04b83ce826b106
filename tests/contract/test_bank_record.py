"""The record of a bank: what is kept of how its prompts served other tasks, and what graft makes of it unasked."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from promptgraft import api
from promptgraft.api import recording
from promptgraft.bank.bank import LOCK, Bank, open_bank
from promptgraft.bank.record import FILE, Record, Service
from promptgraft.engine.keep import make_artefact
from promptgraft.engine.local import LocalEngine
from promptgraft.errors import ArtefactError, BankError, PromptgraftError, RunError, UsageError
from promptgraft.method.job import Job, Source
from promptgraft.model.backbone import Backbone
from promptgraft.model.load import load_backbone
from promptgraft.prompt.init import Init, initial
from promptgraft.readout.evidence import UNSEEN_LENGTH, centre_of, nearest_description
from promptgraft.task.task import Example, Task
from promptgraft.train.recipe import Recipe
from toys import tiny_model, toy_task

RECIPE = Recipe(steps=1, batch=4, length=2, evaluations=1)


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Backbone:
    return load_backbone(tiny_model(tmp_path_factory.mktemp("models") / "bert", "bert"))


@pytest.fixture
def bank(backbone: Backbone, tmp_path: Path) -> Bank:
    """Three prompts, each tuned on a task of its own name."""
    engine = LocalEngine(backbone)
    bank = open_bank(tmp_path / "bank", create=True)
    stream = torch.Generator().manual_seed(0)
    for name in ("a", "b", "c"):
        task = toy_task(seed=ord(name)).replace(name=name)
        job = Job(task, backbone.fingerprint, "prompt-tuning", 0, RECIPE)
        [finished] = engine.run([job])
        prompt = initial(Init(std=0.5), backbone, 3, "deep", "after_cls", stream)
        bank.add(make_artefact(finished, engine.view(job)).replace(prompt=prompt), name)
    return bank


def services(bank: Bank) -> dict[str, Service]:
    """The record by the prompts' names."""
    known = bank.record().prompts
    return {entry.name: known[entry.hash] for entry in bank.list() if entry.hash in known}


def test_a_record_counts_every_task_but_the_prompts_own(bank: Bank, backbone: Backbone) -> None:
    tasks = [toy_task(seed=ord(name)).replace(name=name) for name in ("a", "b")]
    api.record(bank, backbone, tasks)
    found = services(bank)
    assert {name: set(service.tasks) for name, service in found.items()} == {
        "a": {"b"},
        "b": {"a"},
        "c": {"a", "b"},
    }
    assert all(len(service.centre) == backbone.hidden for service in found.values())
    assert bank.names() == ("a", "b", "c")
    assert bank.verify() == ()


def test_a_record_is_of_the_prompt_and_not_of_its_name(bank: Bank, backbone: Backbone) -> None:
    api.record(bank, backbone, [toy_task(seed=3).replace(name="other")])
    bank.add(bank.load("a").replace(embeddings={}, prompt=bank.load("b").prompt), "a", replace=True)
    assert set(services(bank)) == {"b", "c"}


def test_a_gain_leaves_the_target_out() -> None:
    service = Service(gains={"x": {"a": 10.0}, "y": {"b": -2.0}}, centre=(0.0,))
    assert service.gain("a") == -2.0
    assert service.gain("b") == 10.0
    assert Service(gains={"x": {"a": 1.0}}, centre=(0.0,)).gain("a") is None


def test_a_task_that_the_record_has_is_another_job_than_one_of_its_rows_by_another_name(bank: Bank) -> None:
    """What a prompt gained on a task of that name does not count, so that the result is another."""
    service = Service(gains={"x": {"a": 10.0}, "y": {"b": -2.0}}, centre=(0.0,))
    sources = (Source("donor", bank.load(bank.names()[0]), service),)
    jobs = {name: Job(toy_task().replace(name=name), "f", "graft", 0, RECIPE, bank=sources) for name in "abcd"}
    assert len({jobs[name].id for name in "abc"}) == 3
    assert jobs["c"].id == jobs["d"].id, "names that the record does not have decide nothing"


def test_a_family_of_tasks_counts_once() -> None:
    service = Service(gains={"question": {"a": 30.0, "b": 36.0}, "topic": {"c": -3.0}}, centre=(0.0,))
    assert service.gain("c") == 33.0
    assert service.gain() == 0.0, "the mean of 33 and -3 is within its standard error of 0"
    sure = Service(gains={"question": {"a": 5.0}, "topic": {"c": 4.0}, "intent": {"d": 3.0}}, centre=(0.0,))
    assert sure.gain() == pytest.approx(4 - 1 / 3**0.5)
    worse = Service(gains={"question": {"a": -5.0}, "topic": {"c": -4.0}, "intent": {"d": -3.0}}, centre=(0.0,))
    assert worse.gain() == pytest.approx(-4 + 1 / 3**0.5)


def job_of(backbone: Backbone, task: Task, sources: tuple[Source, ...], free: tuple[Example, ...] = ()) -> Job:
    return Job(task, backbone.fingerprint, "graft", 0, RECIPE, 0, None, {"members": 2}, free, sources)


def with_gains(bank: Bank, backbone: Backbone, **gains: float) -> tuple[Source, ...]:
    centre = (0.01,) * backbone.hidden
    return tuple(
        Source(name, bank.load(name), Service(gains={"x": {"elsewhere": gains[name], "toy": -50.0}}, centre=centre))
        for name in bank.names()
    )


def test_without_labels_the_prompts_that_helped_most_are_read(bank: Bank, backbone: Backbone) -> None:
    engine, task = LocalEngine(backbone), toy_task().replace(name="toy")
    [finished] = engine.run([job_of(backbone, task, with_gains(bank, backbone, a=1.0, b=9.0, c=5.0))])
    assert finished.result.source == "b, c"
    assert "no labelled rows are used" in finished.result.notes[0]
    assert "b (+9.0 points)" in finished.result.notes[0]
    assert finished.result.rows["test"] == len(task.test)


def test_prompts_that_helped_nothing_are_not_read(bank: Bank, backbone: Backbone) -> None:
    engine, task = LocalEngine(backbone), toy_task().replace(name="toy")
    [finished] = engine.run([job_of(backbone, task, with_gains(bank, backbone, a=-1.0, b=0.0, c=-5.0))])
    assert finished.result.source is None
    assert "the backbone alone" in finished.result.notes[0]


def test_unlabelled_text_moves_the_centre(bank: Bank, backbone: Backbone) -> None:
    engine, task = LocalEngine(backbone), toy_task().replace(name="toy")
    sources = with_gains(bank, backbone, a=1.0, b=9.0, c=5.0)
    free = tuple(Example(row.text) for row in task.train)
    plain, moved = engine.run([job_of(backbone, task, sources), job_of(backbone, task, sources, free)])
    assert plain.tuned is not None
    assert moved.tuned is not None
    assert "--unlabelled" in plain.result.notes[0]
    assert "--unlabelled" not in moved.result.notes[0]
    before, after = (found.tuned.readout.state()["bias"] for found in (plain, moved))
    assert not torch.equal(before, after)


def test_what_has_no_centre_reads_descriptions_as_they_are() -> None:
    described = np.array([[3.0, 4.0], [4.0, 3.0]])
    weights, biases = nearest_description(described, centre_of(np.zeros((0, 2)), None))
    np.testing.assert_allclose(weights, UNSEEN_LENGTH * described / 5)
    assert biases.tolist() == [0.0, 0.0]
    few, many = (centre_of(np.tile([0.0, 1.0], (count, 1)), np.array([1.0, 0.0])) for count in (1, 1000))
    assert few is not None
    assert many is not None
    assert few.tolist() == pytest.approx([30 / 31, 1 / 31])
    assert many[1] > 0.97


def test_another_record_is_another_job(bank: Bank, backbone: Backbone) -> None:
    task = toy_task()
    jobs = [job_of(backbone, task, with_gains(bank, backbone, a=a, b=2.0, c=3.0)) for a in (1.0, 4.0)]
    assert jobs[0].id != jobs[1].id


def test_transfer_without_labels_is_graft(bank: Bank, backbone: Backbone) -> None:
    api.record(bank, backbone, [toy_task(seed=ord(name)).replace(name=name) for name in ("a", "b", "c")])
    outcome = api.transfer(toy_task(), backbone, bank, shots=0)
    assert outcome.best.result.method == "graft"
    assert not outcome.baselines


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("{", "record.json"),
        ('{"prompts": {"x": {"gains": {}, "centre": []}}}', "prompts.x.centre"),
        ("[]", "record.json"),
    ],
)
def test_a_damaged_record_is_one_line(text: str, problem: str, bank: Bank) -> None:
    (bank.folder / FILE).write_text(text)
    with pytest.raises(ArtefactError, match=problem) as caught:
        bank.record()
    assert "\n" not in str(caught.value)
    assert [damage.name for damage in bank.verify()] == [FILE]
    assert "record.json: : " not in str(caught.value)
    assert str(caught.value).endswith("delete it, and make it anew with `promptgraft bank record`")
    with pytest.raises(ArtefactError):  # what it says of prompts of other models is not thrown away
        api.record(bank, "minilm", ["no task is opened"])


def test_what_is_known_of_other_prompts_stays(bank: Bank) -> None:
    service = Service(gains={"x": {"y": 1.0}}, centre=(1.0, 2.0))
    bank.keep_record(Record(prompts={"a": service}))
    assert bank.keep_record(Record(prompts={"b": service})) == bank.record()
    assert set(bank.record().prompts) == {"a", "b"}


def test_what_is_known_from_other_tasks_stays_and_a_task_that_comes_again_counts_anew(bank: Bank) -> None:
    first = Service(gains={"x": {"y": 1.0, "z": 3.0}}, centre=(1.0, 2.0))
    again = Service(gains={"x": {"z": 5.0}, "v": {"w": 2.0}}, centre=(4.0, 2.0))
    bank.keep_record(Record(prompts={"a": first}))
    found = bank.keep_record(Record(prompts={"a": again})).prompts["a"]
    assert found.gains == {"x": {"y": 1.0, "z": 5.0}, "v": {"w": 2.0}}
    assert found.centre == (3.0, 2.0), "of one task that stayed and two new ones"
    moved = Service(gains={"u": {"y": 1.0, "z": 1.0}}, centre=(7.0, 7.0))
    assert first.joined(moved) == moved


def test_a_bank_without_a_prompt_of_the_model_has_no_record(backbone: Backbone, tmp_path: Path) -> None:
    with pytest.raises(BankError, match="has no prompt of"):
        api.record(api.as_bank(tmp_path / "empty", create=True), backbone, [toy_task()])


def test_no_tasks_are_one_line(bank: Bank, backbone: Backbone) -> None:
    with pytest.raises(UsageError, match="no task was given"):
        api.record(bank, backbone, [])


def test_what_cannot_be_recorded_is_one_line(bank: Bank, backbone: Backbone) -> None:
    with pytest.raises(RunError, match="regression"):
        api.record(bank, backbone, [toy_task("regression")])
    task = toy_task()
    with pytest.raises(RunError, match="labelled training rows"):
        api.record(bank, backbone, [task.replace(splits={"test": task.test})])
    read_only = Bank(bank.folder, read_only=True)
    with pytest.raises(PromptgraftError):
        read_only.keep_record(Record(prompts={}))


def test_a_bank_that_cannot_be_changed_is_refused_before_anything_is_measured(
    bank: Bank, monkeypatch: pytest.MonkeyPatch
) -> None:
    def measured(*_: object, **__: object) -> None:
        raise AssertionError("the model was opened")

    monkeypatch.setattr(recording, "open_model", measured)
    with pytest.raises(BankError, match=r"starter: cannot be changed; give the folder of a bank of your own$"):
        api.record("starter", "splade-tiny", [toy_task()])
    (bank.folder / LOCK).unlink(missing_ok=True)
    (bank.folder / LOCK).mkdir()
    with pytest.raises(BankError, match="cannot be written"):
        api.record(bank, "splade-tiny", [toy_task()])


def test_a_record_of_another_width_is_one_line(bank: Bank, backbone: Backbone) -> None:
    source = Source("a", bank.load("a"), Service(gains={"x": {"y": 1.0}}, centre=(1.0, 2.0)))
    with pytest.raises(RunError, match="2 features"):
        list(LocalEngine(backbone).run([job_of(backbone, toy_task(), (source,))]))


def test_other_kinds_without_labels_are_one_line(backbone: Backbone) -> None:
    with pytest.raises(RunError, match="pair task"):
        list(LocalEngine(backbone).run([job_of(backbone, toy_task("pair"), ())]))
