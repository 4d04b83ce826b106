"""What every method keeps, for every kind of task it serves, every choice of its readout and every family of backbones.

The cases come from walking the registries: a method, a value of an option or a family is tested from the moment it is
registered.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from itertools import pairwise

import pytest
import torch

from promptgraft.engine.keep import make_artefact
from promptgraft.engine.local import LocalEngine
from promptgraft.engine.predictor import Predictor
from promptgraft.engine.result import Finished
from promptgraft.engine.store import Store
from promptgraft.errors import RunError
from promptgraft.method.all import methods
from promptgraft.method.job import Job, Source
from promptgraft.method.method import Method
from promptgraft.method.options import choices
from promptgraft.method.setup import fresh_prompt
from promptgraft.model.backbone import Backbone
from promptgraft.model.fingerprint import fingerprint
from promptgraft.model.load import PACKED, load_backbone
from promptgraft.prompt import artefact as artefacts
from promptgraft.prompt.reading import AT_WORDS, Reading
from promptgraft.readout.all import readouts
from promptgraft.task.kinds import KINDS, OF_ONE_CLASS
from promptgraft.task.task import Example, Kind
from promptgraft.train.predict import answer_one
from promptgraft.train.recipe import Recipe
from promptgraft.train.run import Fit, Run
from toys import LABELS, MAKE, tiny_model, toy_task

FAMILIES = tuple(dict.fromkeys(PACKED.values()))
RECIPE = Recipe(steps=8, batch=24, length=3, evaluations=2, rate=3e-2, readout_rate=3e-2, weights_rate=1e-3)
CHOSEN = ("readout", "mode", "teacher", "prompt")
"""Options whose every value is a way of its own to set up a run; the others are numbers and words."""
READOUTS_OF = {
    "prompt-tuning": ("auto", "linear", "label-text"),
    "pot": ("auto", "new", "keep", "label-text"),
}
SOURCE_READOUTS = {"classification": "label-text", "multilabel": "label-text"}

TEXT_ONLY = frozenset(("classification",))
CLASSES = frozenset(("classification", "multilabel", "pair"))
ONE_GOLD = frozenset(("classification", "pair", "choice"))
ANSWERED = frozenset(kind for kind in MAKE if not KINDS[kind].written)
"""Kinds that a readout of states answers."""
NO_SPAN = ANSWERED - {"span"}
UNITS_ARE_ROWS = ANSWERED - {"tagging"}
SERVES: dict[tuple[str, str, str], frozenset[Kind]] = {
    ("linear-probe", "", ""): NO_SPAN,
    ("frozen-source", "", ""): NO_SPAN,
    ("graft", "", ""): NO_SPAN,
    ("prompt-tuning", "readout", "label-text"): CLASSES,
    ("pot", "readout", "label-text"): CLASSES,
    ("zero-shot", "", ""): CLASSES,
    ("zero-shot", "prompt", "none"): CLASSES,
    ("zero-shot", "prompt", "source"): CLASSES,
    ("zero-shot", "readout", "auto"): CLASSES,
    ("zero-shot", "readout", "label-text"): CLASSES,
    ("panda", "", ""): NO_SPAN,
    ("panda", "mode", "paper"): NO_SPAN,
    ("panda", "mode", "released"): UNITS_ARE_ROWS,
    ("panda", "mode", "gated"): NO_SPAN,
    ("panda", "teacher", "source"): NO_SPAN,
    ("panda", "teacher", "shuffled"): NO_SPAN,
    ("panda", "teacher", "shuffled-in-class"): ANSWERED - {"span", "regression", "multilabel"},
}
"""(method, option, value) -> the kinds it serves, where these are not all."""

Case = tuple[str, str, str]


def cases() -> Iterator[Case]:
    """Every method as it is, and with every value of every option that changes its set-up."""
    for name, method in methods().items():
        if name in ("setfit", "distil"):
            continue  # have tests of their own: one trains in another library, one matches two templates
        yield name, "", ""
        for option in CHOSEN:
            for value in values_of(method, option):
                yield name, option, value


def values_of(method: Method, option: str) -> tuple[str, ...]:
    """The words an option takes, the default first; of readouts, which others may add to, those of the house."""
    field = method.options.model_fields.get(option)
    if field is None:
        return ()
    in_words = {
        name for name, readout in readouts().items() if readout.reads in AT_WORDS
    }  # these have suites of their own
    return tuple(value for value in choices(field) or READOUTS_OF[method.name] if value not in in_words)


def served(case: Case) -> frozenset[Kind]:
    return SERVES.get(case, ANSWERED)


def name(value: object) -> str:
    return ":".join(filter(None, value)) if isinstance(value, tuple) else str(value)


@pytest.fixture(scope="module")
def backbones(each_path: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Backbone]:
    folder = tmp_path_factory.mktemp("models")
    return {family: load_backbone(tiny_model(folder / family, family)) for family in FAMILIES}


@pytest.fixture(scope="module")
def sources(backbones: dict[str, Backbone]):  # type: ignore[no-untyped-def]
    """The source of a family and kind, tuned when it is first asked for."""

    @cache
    def tuned(family: str, kind: Kind) -> Source:
        kind = kind if kind in ANSWERED else "classification"  # texts are written by other models than these
        options = {"readout": SOURCE_READOUTS[kind]} if kind in SOURCE_READOUTS else {}
        engine = LocalEngine(backbones[family])
        job = Job(toy_task(kind, seed=9), engine.backbone.fingerprint, "prompt-tuning", 0, RECIPE, None, None, options)
        [finished] = engine.run([job])
        return Source(f"toy-{kind}", make_artefact(finished, engine.view(job)))

    return tuned


def make_job(case: Case, backbone: Backbone, kind: Kind, source: Source, **changes: object) -> Job:
    method, option, value = case
    options = {option: value} if option else {}
    if case == ("zero-shot", "readout", "keep"):
        options["prompt"] = "source"
    needs = "source" in methods()[method].needs or options.get("prompt") == "source"
    job = Job(toy_task(kind), backbone.fingerprint, method, 0, RECIPE, None, source if needs else None, options)
    return job.replace(**changes)


def run(backbone: Backbone, job: Job, store: Store | None = None) -> tuple[Finished, LocalEngine]:
    engine = LocalEngine(backbone, store=store)
    [finished] = engine.run([job])
    assert finished.job.id == job.id
    return finished, engine


def trained_numbers(finished: Finished, backbone: Backbone, steps: int) -> int:
    """How many numbers the case should have trained, by formula."""
    job, tuned = finished.job, finished.tuned
    assert tuned is not None
    readout = sum(value.numel() for value in tuned.readout.parameters().values())
    if tuned.weights is not None:
        return readout + sum(value.numel() for value in backbone.weights.values())
    if job.method in ("zero-shot",):
        return 0
    if job.method in ("linear-probe", "frozen-source", "graft"):
        return readout
    return readout + backbone.layers * 2 * job.recipe.length * backbone.hidden


def keeps_its_promises(case: Case, family: str, kind: Kind, backbones, sources, folder) -> None:  # type: ignore[no-untyped-def]
    backbone = backbones[family]
    before = fingerprint(backbone.weights)
    store = Store(folder)
    finished, engine = run(backbone, make_job(case, backbone, kind, sources(family, kind)), store)
    assert fingerprint(backbone.weights) == before == backbone.fingerprint, "the backbone was changed"
    assert not any(weight.requires_grad or weight.grad is not None for weight in backbone.weights.values())
    if finished.history:
        losses = [row["label_loss"] for row in finished.history if row["step"]]
        assert len(losses) == RECIPE.steps
        assert min(losses[1:]) < losses[0], "the loss did not fall"
    assert finished.result.parameters == trained_numbers(finished, backbone, RECIPE.steps)
    assert set(finished.result.scores) == {"validation", "test"}
    again(finished, engine, backbone, store)


def again(finished: Finished, engine: LocalEngine, backbone: Backbone, store: Store) -> None:
    """Saved, loaded and computed anew, it is the same to the last bit."""
    job, tuned = finished.job, finished.tuned
    assert tuned is not None
    examples = engine.task(job).test
    tokens = engine.view(job).tokens("test", tuned.reading)
    kept = artefacts.load(store.place(job) / "artefact", fingerprint=backbone.fingerprint)
    predictor = Predictor(kept, backbone)
    with torch.no_grad():
        assert torch.equal(answer_one(backbone, predictor.tuned, tokens), answer_one(backbone, tuned, tokens))
    assert predictor.evaluate(examples) == pytest.approx(finished.result.scores["test"])
    says_how_sure_it_is(finished, predictor, examples)
    if backbone.family == "bert":
        anew, other = run(backbone, job)
        assert make_artefact(anew, other.view(job)).digest == kept.digest, "the same seed gave other bits"
    [second] = engine.run([job])
    assert second.result == store.result(job), "a kept result was computed again"


def says_how_sure_it_is(finished: Finished, predictor: Predictor, examples: Sequence[Example]) -> None:
    """Where there are classes, probabilities are judged, and answers held back by rows that it was not fitted to."""
    result = finished.result
    if finished.job.task.facts.several:
        gives_labels_by_risk(finished, predictor, examples)
        return
    if finished.job.task.kind not in OF_ONE_CLASS:
        assert not result.reliability
        assert not result.selective
        with pytest.raises(RunError, match="an answer could be held back"):
            predictor.answers(examples, risk=0.05)
        return
    assert set(result.reliability) == {"validation", "test"}
    assert sum(part.rows for part in result.reliability["test"].bins) == result.rows["test"] == len(examples)
    confidence = predictor.answers(examples).probabilities.max(1)
    limit = predictor.threshold(0.05)
    assert limit.known >= result.rows["validation"]
    assert result.selective["test"].coverage == pytest.approx(limit.answers(confidence).mean())
    given = [predictor.answers(examples, risk=risk).given for risk in (0.0, 0.05, 0.3, 1.0)]
    for less, more in pairwise(given):
        assert not (less & ~more).any(), "more risk, and an answer less"
    assert given[-1].all()


def gives_labels_by_risk(finished: Finished, predictor: Predictor, examples: Sequence[Example]) -> None:
    """Of several labels each is given or held back by itself; a row none of whose labels is sure is held back."""
    everything = predictor.predict(examples)
    assert predictor.predict(examples, risk=1.0) == everything
    assert set(finished.result.selective) == {"test"}
    for row, names in zip(predictor.predict(examples, risk=0.0, abstain_as="ask"), everything, strict=True):
        assert row == ("ask" if names else ())
    given = [predictor.answers(examples, risk=risk).given for risk in (0.0, 0.05, 0.3, 1.0)]
    for less, more in pairwise(given):
        assert not (less & ~more).any(), "more risk, and a label less"
    limit = predictor.threshold(0.3)
    shares = predictor.predict_proba(examples)
    for row, names, share in zip(predictor.predict(examples, risk=0.3), everything, shares, strict=True):
        sure = tuple(name for name in names if share[predictor.classes.index(name)] >= limit.value - 1e-4)
        assert row == (sure if sure or not names else None)


def everywhere() -> Iterator[object]:
    """Every case on every family and kind. What `make test` runs of them: every case on BERT's classification, every
    method as it is on BERT's other kinds, on the other families' classification, and on the other paths.
    """
    for case in cases():
        for family in FAMILIES:
            for kind in MAKE:
                others = (case[1] != "") + (family != "bert") + (kind != "classification")
                marks = {0: [pytest.mark.every_path], 1: []}.get(others, [pytest.mark.slow])
                yield pytest.param(case, family, kind, marks=marks)


@pytest.mark.parametrize(("case", "family", "kind"), list(everywhere()), ids=name)
def test_everywhere(case: Case, family: str, kind: Kind, backbones, sources, tmp_path) -> None:  # type: ignore[no-untyped-def]
    """A kind that a case does not serve is refused in one line."""
    if kind in served(case):
        keeps_its_promises(case, family, kind, backbones, sources, tmp_path)
        return
    with pytest.raises(RunError) as caught:
        run(backbones[family], make_job(case, backbones[family], kind, sources(family, kind)))
    assert "\n" not in str(caught.value)


def test_every_readout_is_trained_by_some_case(backbones, sources) -> None:  # type: ignore[no-untyped-def]
    """So that a readout that is registered but never reached fails here."""
    reached = set()
    for case in [("prompt-tuning", "", ""), ("prompt-tuning", "readout", "linear"), ("graft", "", "")]:
        for kind in served(case):
            finished, _ = run(backbones["bert"], make_job(case, backbones["bert"], kind, sources("bert", kind)))
            reached.add(finished.result.readout)
    assert reached == {name for name, readout in readouts().items() if readout.reads not in AT_WORDS}


@pytest.mark.parametrize("case", list(cases()), ids=name)
def test_zero_steps_give_the_start(case: Case, backbones, sources) -> None:  # type: ignore[no-untyped-def]
    """The prompt is the initialiser's, or the source's, bit for bit."""
    backbone, source = backbones["bert"], sources("bert", "classification")
    job = make_job(case, backbone, "classification", source, recipe=RECIPE.changed(steps=0))
    engine = LocalEngine(backbone)
    [finished] = engine.run([job])
    assert finished.tuned is not None
    prompt = finished.tuned.prompt
    if prompt is None:
        assert job.method in ("linear-probe", "zero-shot", "model-tuning", "graft")
        return
    carried = job.method in ("pot", "frozen-source", "zero-shot") or job.options.get("mode") == "gated"
    start = source.artefact.prompt if carried else fresh_prompt(job, engine.view(job), Reading("mean"))
    assert torch.equal(prompt.values, start.values)
    assert not prompt.values.requires_grad


def test_the_default_of_every_option_is_its_first_value(backbones, sources) -> None:  # type: ignore[no-untyped-def]
    """Naming the default changes nothing that is trained."""
    backbone, source = backbones["bert"], sources("bert", "classification")
    for case in cases():
        method, option, value = case
        if not option or methods()[method].options.model_fields[option].default != value:
            continue
        plain, _ = run(backbone, make_job((method, "", ""), backbone, "classification", source))
        named, _ = run(backbone, make_job(case, backbone, "classification", source))
        assert plain.result.scores == named.result.scores, case


@pytest.mark.parametrize("kind", list(LABELS))
def test_what_needs_no_training_says_so(kind: Kind, backbones, sources) -> None:  # type: ignore[no-untyped-def]
    """A method that does not ask for gradients gives a fit; one that does gives a run."""
    backbone = backbones["bert"]
    for case in cases():
        if kind not in served(case):
            continue
        job = make_job(case, backbone, kind, sources("bert", kind))
        engine = LocalEngine(backbone)
        list(engine.run(methods()[job.method].requires(job)))
        made = methods()[job.method].setup(job, engine.view(job))
        assert isinstance(made, Fit) is ("gradients" not in methods()[job.method].needs), case
        assert isinstance(made, Run) is ("validation" in methods()[job.method].needs), case
