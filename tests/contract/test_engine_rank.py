"""A ranking is what each source would score alone: the batches that sources share change no order and no score."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from paths import PLAIN
from promptgraft.bank.bank import Bank
from promptgraft.engine import share
from promptgraft.engine.keep import make_artefact
from promptgraft.engine.local import LocalEngine
from promptgraft.engine.progress import Event
from promptgraft.engine.rank import candidates, rank_sources, weighed
from promptgraft.engine.share import Shared, companies
from promptgraft.errors import RunError
from promptgraft.method.job import Job, Source
from promptgraft.model.backbone import Backbone, Read
from promptgraft.model.load import load_backbone
from promptgraft.prompt.init import Init, initial
from promptgraft.prompt.prompt import Prompt
from promptgraft.prompt.reading import Reading
from promptgraft.task.task import Kind
from promptgraft.train.recipe import Recipe
from toys import tiny_model, toy_task

KINDS: tuple[Kind, ...] = ("classification", "multilabel", "pair", "regression", "choice", "tagging")


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory, each_path: str) -> Backbone:
    """On every path: where last bits depend on what else is in a batch, too."""
    return load_backbone(tiny_model(tmp_path_factory.mktemp("models") / "bert", "bert"))


@pytest.fixture
def engine(backbone: Backbone, monkeypatch: pytest.MonkeyPatch) -> LocalEngine:
    monkeypatch.setenv("PROMPTGRAFT_CACHE_MB", "0")
    return LocalEngine(backbone)


def prompts(backbone: Backbone) -> list[Prompt]:
    """Deep and shallow, of several lengths."""
    stream = torch.Generator().manual_seed(0)
    return [
        initial(Init(std=0.5), backbone, length, depth, "after_cls", stream)
        for length, depth in ((3, "deep"), (5, "deep"), (2, "deep"), (4, "shallow"), (1, "shallow"), (3, "deep"))
    ]


def sources(backbone: Backbone) -> list[Source]:
    job = Job(toy_task(), backbone.fingerprint, "prompt-tuning", 0, Recipe(steps=1, batch=4, length=2, evaluations=1))
    engine = LocalEngine(backbone)
    [finished] = engine.run([job])
    made = make_artefact(finished, engine.view(job))
    pooled = [made.replace(prompt=prompt, card=made.card.replace(pooling=("mean", "cls")[place % 2]))
              for place, prompt in enumerate(prompts(backbone))]  # fmt: skip
    return [Source(f"source {place}", one) for place, one in enumerate(pooled)]


def labelled(backbone: Backbone, kind: Kind) -> Job:
    return Job(toy_task(kind), backbone.fingerprint, "linear-probe", 0, Recipe(), 4)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("most", [share.COMPANY_TOKENS, 1], ids=["in company", "one by one"])
def test_together_they_score_as_each_alone(
    kind: Kind, most: int, engine: LocalEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(share, "COMPANY_TOKENS", most)
    some, job = sources(engine.backbone), labelled(engine.backbone, kind)
    together = rank_sources(engine, job, some, ("probe",), ())
    alone = [rank_sources(LocalEngine(engine.backbone), job, [one], ("probe",), ()).rows[0] for one in some]
    alone.sort(key=lambda row: (-row.scores["probe"].value, row.source.name))
    assert [row.source.name for row in together.rows] == [row.source.name for row in alone]
    for one, other in zip(together.rows, alone, strict=True):
        assert one.scores["probe"].value == pytest.approx(other.scores["probe"].value, abs=1e-5)
        assert one.scores["probe"].rows == pytest.approx(other.scores["probe"].rows, abs=1e-5)


@pytest.mark.every_path
@pytest.mark.parametrize("read", ["mean", "cls", "tokens"])
def test_states_in_company_are_those_of_each_alone(
    read: Read, each_path: str, backbone: Backbone, engine: LocalEngine
) -> None:
    task = toy_task()
    tokens = engine.shared.tokens(task.train, task.kind, Reading("mean"), 16, task.name)
    some = prompts(backbone)
    found = list(engine.shared.states_each(tokens, some, read))
    alone = [engine.shared.states(tokens, prompt, read) for prompt in some]
    for one, other in zip(found, alone, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)
        if each_path != PLAIN:
            assert torch.equal(one, other), "the native path promises the same bits"


def test_neighbours_of_one_kind_share_batches_of_bounded_size(backbone: Backbone) -> None:
    deep, shallow = [prompts(backbone)[place] for place in (0, 3)]
    given = [deep, deep, deep, shallow, deep]
    assert [len(some) for some in companies(given, 10)] == [3, 1, 1]
    assert [len(some) for some in companies(given, share.COMPANY_TOKENS // 2)] == [2, 1, 1, 1]
    assert [len(some) for some in companies(given, 10**9)] == [1] * 5


@pytest.mark.every_path
def test_the_order_of_questions_and_the_cache_change_no_bits(
    backbone: Backbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever asked before, from memory or from the disk: what is kept is what would be computed."""
    monkeypatch.setenv("PROMPTGRAFT_HOME", str(tmp_path))
    monkeypatch.setenv("PROMPTGRAFT_CACHE_MB", "50")
    monkeypatch.setattr("promptgraft.engine.cache.LEAST_SECONDS", 0.0)
    monkeypatch.setattr("promptgraft.engine.cache.READ_BYTES", 1e18)
    task, some = toy_task(), prompts(backbone)[:3]

    def asked(alone_first: bool) -> list[torch.Tensor]:
        shared = Shared(backbone)
        tokens = shared.tokens(task.train, task.kind, Reading("mean"), 16, task.name)
        alone = [shared.states(tokens, some[0], "mean")] if alone_first else []
        together = list(shared.states_each(tokens, some, "mean"))
        return [*together, *(alone or [shared.states(tokens, some[0], "mean")])]

    first = asked(True)
    for again in (asked(False), asked(True)):
        assert all(map(torch.equal, first, again))


def test_a_bank_is_ranked_as_its_prompts_are(engine: LocalEngine, tmp_path: Path) -> None:
    (tmp_path / "bank").mkdir()
    bank = Bank(tmp_path / "bank")
    for one in sources(engine.backbone):
        card = one.artefact.card
        other = card.task.model_copy(update={"name": one.name, "fingerprint": one.name})
        bank.add(one.artefact.replace(card=card.replace(task=other)), one.name.replace(" ", "-"))
    found, left_out = candidates(bank, engine.backbone, toy_task())
    assert (len(found), left_out) == (6, ())
    ranking = rank_sources(engine, labelled(engine.backbone, "classification"), found, ("probe",), ())
    values = [row.scores["probe"].value for row in ranking.rows]
    assert values == sorted(values, reverse=True)


def test_it_says_how_many_prompts_are_done(backbone: Backbone) -> None:
    told: list[Event] = []
    some = sources(backbone)
    engine = LocalEngine(backbone, progress=told.append)
    rank_sources(engine, labelled(backbone, "classification"), some, ("probe",), ())
    assert {event.unit for event in told} == {"prompts"}
    assert [event.done for event in told] == sorted(event.done for event in told)
    assert (told[-1].done, told[-1].jobs) == (6, 6)
    assert any("rows" in event.label and "through the model" in event.label for event in told)
    assert all(event.share == 0 for event in told), "how long a ranking takes is not known"


def test_what_cannot_be_judged_is_one_line(engine: LocalEngine) -> None:
    with pytest.raises(RunError, match="no measure can rank"):
        rank_sources(engine, labelled(engine.backbone, "span"), sources(engine.backbone), ("probe",), ())


def test_one_row_a_class_is_judged_by_label_text(engine: LocalEngine) -> None:
    """A probe cannot be cross-validated on it; scores that say nothing are not given."""
    task = toy_task()
    first = {row.label: row for row in task.train}
    job = labelled(engine.backbone, "classification").replace(
        task=task.replace(splits={"train": tuple(first.values())})
    )
    ranking = rank_sources(engine, job.replace(shots=None), sources(engine.backbone), ("probe",), ())
    assert ranking.measures == ("label-text",)
    assert ranking.instead == (
        "toy-classification: measure 'probe' cannot be cross-validated on one row a class; "
        "label a second row of a class; sources are ordered by label-text",
    )
    assert len({row.scores["label-text"].value for row in ranking.rows}) > 1


def test_it_says_what_graft_would_keep(engine: LocalEngine) -> None:
    bank, task = sources(engine.backbone), toy_task()
    job = Job(task, engine.backbone.fingerprint, "linear-probe", 0, Recipe(steps=1, batch=4))
    said = weighed(engine, job, bank)
    [grafted] = engine.run([job.replace(method="graft", bank=tuple(bank))])
    assert said == grafted.result.notes[0]
    assert said.startswith("graft of ")
    assert weighed(engine, job.replace(task=toy_task("span")), bank) == ""
