"""Graft combines readouts of frozen features under banked prompts, weighted by cross-validation; it trains nothing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import groupby
from typing import ClassVar, Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor

from promptgraft.errors import RunError, quoted
from promptgraft.method.job import WHOLE, Job, Source
from promptgraft.method.members import (
    FrozenPrompt,
    GraftMember,
    JudgedRows,
    SourceRead,
    TrainedPrompt,
    directional,
    frozen_prompt,
    judged_rows,
    label_directional,
    neighbours,
    scaled,
)
from promptgraft.method.method import Method, Need, View, Work, register
from promptgraft.method.options import Options
from promptgraft.method.race import finalists, rows_read
from promptgraft.method.setup import encoding_for, new_readout, reading_for
from promptgraft.method.spoken import beside_descriptions, spoken, words_alone
from promptgraft.prompt.reading import AT_WORDS, Encoding, Pooling, Reading, for_task
from promptgraft.readout.by_class import ByLabel, of_labels
from promptgraft.readout.classes import indicators, labels_given
from promptgraft.readout.direction import Directional
from promptgraft.readout.evidence import (
    FITTED,
    FOLDS,
    JUDGED,
    KNOWN,
    Blend,
    Evidence,
    balanced,
    blend,
    centre_of,
    log_softmax,
    nearest_description,
    strength,
    strongest,
    weigh,
)
from promptgraft.readout.features import features
from promptgraft.readout.label_evidence import (
    LabelCandidates,
    LabelEvidence,
    fitted_labels,
    label_blend,
    label_candidates,
)
from promptgraft.readout.label_text import LabelText
from promptgraft.readout.probe import cross_validate, deal_labels, fit_probe, rarest_label
from promptgraft.task.draws import Array
from promptgraft.task.labels import name_notes
from promptgraft.task.task import Kind, Task
from promptgraft.train.run import Fit, HeldOut, Tuned

BACKBONE = "the backbone alone"
DESCRIBED: tuple[Kind, ...] = ("classification", "multilabel")
"""Kinds whose descriptions of labels say what a text is about; those of pairs speak of how two texts relate."""


class GraftOptions(Options):
    members: int = Field(
        default=3,
        ge=1,
        le=32,
        description="Maximum number of prompts that are kept; predicting takes one pass for each.",
    )
    effort: Literal["quick", "full"] = Field(
        default="quick",
        description="full: also train prompts on the rows, from scratch and from the best source, and weigh them too.",
    )
    words_model: str = Field(default="", description="The model that reads the template (default: the model itself).")


@register
class Graft(Method):
    """Readouts of frozen features under every banked prompt, and under none, mixed by their cross-validated evidence.

    Classes: `readout.evidence`; several labels: `readout.label_evidence`. Numbers, choices and tags: each prompt's
    probe, weighed by the same evidence. The scores of the prompts that are kept are added. With effort `full` prompts
    trained on the rows are candidates too: they are judged as the others are, by runs that have not seen the rows.
    """

    name: ClassVar[str] = "graft"
    summary: ClassVar[str] = "readouts under every banked prompt, weighed by cross-validation; nothing is trained"
    needs: ClassVar[frozenset[Need]] = frozenset({"bank"})
    options: ClassVar[type[GraftOptions]] = GraftOptions

    def requires(self, job: Job) -> tuple[Job, ...]:
        return tuple(part for way in _ways(job, self.options.read(self.name, job.options)) for part in way)

    def work(self, job: Job) -> Work:
        options = self.options.read(self.name, job.options)
        words = options.words_model if job.recipe.template else None
        reads = partial(_rows_read, job.task, 1 + len(job.bank), options.members)
        return Work(None, probes=1 + len(job.bank), reads=reads, words=words)

    def setup(self, job: Job, view: View) -> Fit:
        if not view.task.facts.probe:
            what = f"graft fits readouts without training, and none of a {view.task.kind} task can be fitted so"
            raise RunError(what, where=view.task.name, do="use --method pot")
        options = self.options.read(self.name, job.options)
        if options.words_model and not job.recipe.template:
            what = f"{options.words_model} is to read the words of a template, and there is none"
            raise RunError(what, where=view.task.name, do="add --template, or leave --words-model out")
        if any(row.label is None for row in view.task.train):
            what = "graft fits readouts to labelled rows, and the training rows have no labels"
            raise RunError(what, where=view.task.name, do="put them into the split 'unlabelled'")
        if not view.task.train and options.effort == "full":
            what = "--effort full trains on labelled rows, and there are none"
            raise RunError(what, where=view.task.name, do="leave it out, or label some rows")
        if not view.task.train:
            several = view.task.facts.several
            fit = _of_label_text(job, view) if several else _of_descriptions(job, view, options.members)
            return _with_words(fit, job, view, options.words_model) if job.recipe.template else fit
        if view.task.facts.one_class:
            return _of_classes(job, view, options)
        if options.effort == "full":
            what = f"--effort full trains readouts of classes, and {view.task.name} is a {view.task.kind} task"
            raise RunError(what, do="leave it out")
        return (_of_labels if view.task.facts.several else _of_probes)(job, view, options.members)


def _rows_read(task: Task, prompts: int, members: int, rows: int) -> int:
    """How many rows are read under prompts, of so many for training: to judge them, and to fit those that are kept."""
    sample, judged = min(rows, FITTED), min(rows, JUDGED)
    if not task.facts.one_class and not task.facts.several:
        return rows_read(prompts, judged, sample, members)
    return prompts * judged + (members * sample if rows > judged else 0)


def _ways(job: Job, options: GraftOptions) -> list[list[Job]]:
    """For each way to train a prompt: a run without each part of the cross-validation, and one on all rows."""
    if options.effort == "quick" or job.shots == 0 or not job.task.train or not job.task.facts.one_class:
        return []
    from_scratch, carried = ("label-text",) * 2 if job.task.kind == "classification" else ("linear", "new")
    plain = job.replace(source=None, bank=(), unlabelled=())
    ways = [plain.replace(method="prompt-tuning", options={"readout": from_scratch})]
    if job.source is not None:
        ways.append(plain.replace(method="pot", options={"readout": carried}, source=job.source))
    return [[way.replace(part=part) for part in (*range(FOLDS), WHOLE)] for way in ways]


def _trained(view: View, way: Sequence[Job], rows: JudgedRows) -> TrainedPrompt:
    """Judge the runs of one way to train a prompt."""
    unseen = np.empty((len(rows.chosen), len(view.task.classes)))
    for number in range(rows.fold.max() + 1):
        part = rows.fold == number
        scores = view.answers(view.finished(way[number]), "train").double().numpy()
        unseen[part] = log_softmax(scores)[rows.chosen][part]
    final = way[-1]
    name = f"trained from {final.source.name}" if final.source else "trained from scratch"
    tuned = view.finished(final)
    if isinstance(tuned.readout, LabelText):  # its scale has bounds, so that no share of it is one of its kind
        weight, bias = tuned.readout.linear()
        tuned = replace(tuned, readout=directional(weight, bias, view.task.classes))
    return TrainedPrompt(name, tuned, Evidence(unseen[None]))


def _sources(job: Job, view: View, encoding: Encoding) -> list[SourceRead]:
    """What features are read under: no prompt, then every banked one with its own reading, those alike together."""
    plain, scored = Reading(view.pooling, encoding), view.task.facts.scored
    banked = [
        SourceRead(source.name, source, for_task(source.reading, plain, scored)) for source in neighbours(job.bank)
    ]
    return [SourceRead(BACKBONE, None, plain), *banked]


def _features(view: View, sources: Sequence[SourceRead], rows: tuple[int, ...]) -> Iterator[Float[Tensor, "N F"]]:
    """Features of training rows under each source in turn, neighbours that are read alike in shared batches."""
    for reading, group in groupby(sources, lambda read: read.reading):
        tokens = view.tokens("train", reading, rows)
        prompts = (read.prompt for read in group)
        for states in view.states_each("train", prompts, reading, rows):
            yield features(states, tokens, reading.encoding)


def _of_classes(job: Job, view: View, options: GraftOptions) -> Fit:
    """Kinds whose rows have one class each: readouts under every prompt, mixed by their evidence."""
    rows = judged_rows(job, view)
    banked = _frozen(job, view, rows, options.members + bool(job.recipe.template))
    words = [spoken(job, view, options.words_model, rows)] if job.recipe.template else []
    members: list[GraftMember] = [*banked, *(_trained(view, way, rows) for way in _ways(job, options)), *words]
    evidence, gains = [member.judged for member in members], [member.gain for member in members]
    mixture = blend(evidence, rows.y, rows.fold, rows.weight, gains, options.members + len(words))
    more = balanced(rows.everything, FITTED, job.seed)
    chosen = _refitted(view, [members[place] for place in mixture.prompts], rows, more)
    models = [member.mixed(share, mixture.temperature) for member, share in zip(chosen, mixture.shares, strict=True)]
    models.sort(key=lambda model: not isinstance(model.readout, Directional))  # the first is the artefact's own
    shares = [(member.name, float(share.sum())) for member, share in zip(chosen, mixture.shares, strict=True)]
    hits = float((mixture.unseen.argmax(1) == rows.y).mean())
    note = f"{_listed(shares)}; {100 * hits:.1f} % of {len(rows.y)} rows right when left out"
    tuned = replace(_joined(models), held_out=_held_out(mixture, rows.y))
    return Fit(job.id, tuned, _fitted(models), (note, *_sampled(rows.chosen, more, len(rows.everything))))


def _frozen(job: Job, view: View, rows: JudgedRows, count: int) -> list[FrozenPrompt]:
    """Every banked prompt and none, with their readouts judged on the rows; so many may be kept."""
    task = view.task
    sources = _sources(job, view, encoding_for(view, "direction"))
    described = _described(view, sources)
    gains = _gains(job, [read.name for read in sources])
    seen = zip(sources, _features(view, sources, rows.numbers), gains, strict=True)
    found = (
        frozen_prompt(read, states, described.get(read.reading.pooling), rows, task.classes, gain)
        for read, states, gain in seen
    )

    def weight(prompt: FrozenPrompt) -> float:
        return strength((rows.weight * prompt.judged.likelihood(rows.y)).sum(1) + KNOWN * prompt.gain)

    return strongest(found, weight, FrozenPrompt.lightened, count)


def _described(view: View, sources: Sequence[SourceRead]) -> dict[Pooling, Float[Array, "C H"]]:
    """Embeddings of the label descriptions by pooling, where features of a text are what describes them."""
    task = view.task
    return {
        pooling: view.describe(list(task.labels.values()), pooling).double().numpy()
        for pooling in dict.fromkeys(read.reading.pooling for read in sources)
        if task.kind in DESCRIBED and pooling not in AT_WORDS
    }


def _refitted(view: View, members: Sequence[GraftMember], rows: JudgedRows, more: Int[Array, "M"]) -> list[GraftMember]:
    """The members with those that are frozen fitted to more rows, where there are more than they were judged on."""
    if len(more) == len(rows.chosen):
        return list(members)
    return [
        member.fitted_to(_alone(view, member.read, more), more, rows) if isinstance(member, FrozenPrompt) else member
        for member in members
    ]


def _held_out(mixture: Blend, y: Int[Array, "N"]) -> HeldOut:
    """How sure the mixture was of each row that it was judged on, and whether it was right."""
    right = torch.from_numpy(mixture.unseen.argmax(1) == y)
    return HeldOut(torch.from_numpy(np.exp(mixture.unseen.max(1))).float(), right)


def _of_descriptions(job: Job, view: View, members: int) -> Fit:
    """Without labels: label descriptions under the prompts that have helped other tasks most."""
    task = view.task
    if task.kind not in DESCRIBED:
        what = f"without labelled rows graft reads label descriptions, and a {task.kind} task has none to read"
        raise RunError(what, where=task.name, do="use --shots 1 or more, or --source NAME")
    free = view.task.splits.get("unlabelled", ())
    models, gains = [], []
    for source, gain in _helpers(job, members):
        prompt = None if source is None else source.artefact.prompt
        pooling = view.pooling if source is None else source.card.pooling
        service = None if source is None else source.service
        described = view.describe(list(task.labels.values()), pooling).double().numpy()
        _refuse_equal(described, task)
        generic = None if service is None else np.array(service.centre)
        if generic is not None and len(generic) != described.shape[1]:
            what = f"the record of {source and source.name} has {len(generic)} features, not {described.shape[1]}"
            raise RunError(what, where=task.name, do="make it anew with `promptgraft bank record`")
        seen = view.states("unlabelled", prompt, Reading(pooling)).double().numpy() if free else described[:0]
        weights, biases = nearest_description(described, centre_of(seen, generic))
        models.append(Tuned(prompt, directional(weights, biases, task.classes), Reading(pooling)))
        gains.append((BACKBONE if source is None else source.name, gain))
    shared = [replace(model, readout=scaled(model.readout, 1 / len(models))) for model in models]
    helped = ", ".join(name if gain is None else f"{name} ({gain:+.1f} points)" for name, gain in gains)
    known = "" if gains[0][1] is None else ", and what reading under them gained on other tasks"
    unread = "" if free else "; unlabelled text of the task (--unlabelled) would tell what its texts have in common"
    note = f"no labelled rows are used: descriptions are read under {helped}{known}{unread}"
    return Fit(job.id, _joined(shared), 0, (note, *_undescribed(task)))


def _of_label_text(job: Job, view: View) -> Fit:
    """Without labels, of several a row: label text.

    Where rows have one class, prompts that helped other tasks and a centre of the texts better it; here they do not:
    how near all texts are to a description says how frequent its label is, and the centre takes that out (it costs 2.9
    points of micro F1 on the six tasks of `UNJUDGED`; without it the best prompts gain 0.2 of the ranking and lose 0.9
    of micro F1).
    """
    reading = reading_for(view, "multilabel-text")
    _refuse_equal(view.describe(list(view.task.labels.values()), reading.pooling).double().numpy(), view.task)
    readout = new_readout(job, view, "multilabel-text", reading)
    note = "no labelled rows are used: the backbone alone reads descriptions, and labels are given from 25 % on"
    unread = "; unlabelled text is not read where a row may have several labels" if job.unlabelled else ""
    return Fit(job.id, Tuned(None, readout, reading), 0, (note + unread, *_undescribed(view.task)))


def _undescribed(task: Task) -> list[str]:
    """A note on labels whose names are read, unless the task's notes have it."""
    return [note for note in name_notes(task.labels) if note not in task.notes]


def _with_words(fit: Fit, job: Job, view: View, model: str) -> Fit:
    """Without labels: the words of the template beside the descriptions."""
    words, balance = beside_descriptions(words_alone(job, view, model), fit.tuned, view)
    note = f"the template's words are read by {model or view.backbone.name}, {balance}"
    return replace(fit, tuned=replace(fit.tuned, others=(*fit.tuned.others, words)), notes=(*fit.notes, note))


def _refuse_equal(described: Float[Array, "K H"], task: Task) -> None:
    """Raises a RunError where two descriptions read the same to the model, so that it could only guess."""
    for later, label in enumerate(task.classes):
        for earlier, other in enumerate(task.classes[:later]):
            if np.allclose(described[later], described[earlier], atol=1e-6):
                what = f"the descriptions of {quoted(other)} and {quoted(label)} read the same to the model"
                do = "say what sets them apart, or take a model that reads their language"
                raise RunError(what, where=task.name, do=do)


def _helpers(job: Job, members: int) -> list[tuple[Source | None, float | None]]:
    """The prompts that have helped tasks of other names most, with what they gained; else the backbone alone."""
    known = [
        (source, source.service.gain(job.task.name))
        for source in job.bank
        if source.service is not None and source.card.template is None
    ]
    helpful = [(source, gain) for source, gain in known if gain is not None and gain > 0]
    best = sorted(helpful, key=lambda found: (-found[1], found[0].name))[:members]
    return [*best] or [(None, None)]


def _gains(job: Job, names: Sequence[str]) -> list[float]:
    """What each prompt has gained on tasks of other names; 0 for those of which nothing is known."""
    services = {source.name: source.service for source in job.bank if source.service is not None}
    return [services[name].gain(job.task.name) or 0.0 if name in services else 0.0 for name in names]


def _alone(view: View, source: SourceRead, rows: Int[Array, "M"]) -> Float[Tensor, "M F"]:
    """Features of training rows under one source."""
    (seen,) = _features(view, [source], tuple(rows.tolist()))
    return seen


def _sampled(rows: Int[Array, "N"], more: Int[Array, "M"], count: int) -> tuple[str, ...]:
    """A note where not all rows were looked at."""
    if len(rows) == count:
        return ()
    return (f"prompts were judged on {len(rows):,} of {count:,} training rows and fitted to {len(more):,}",)


def _of_labels(job: Job, view: View, members: int) -> Fit:
    """Several labels a row: readouts of each label under every prompt, mixed by their evidence."""
    task = view.task
    everything = indicators([row.label for row in task.train], task)
    chosen = balanced(rarest_label(everything), JUDGED, job.seed)
    y, fold = everything[chosen], deal_labels(rarest_label(everything), job.seed)[chosen]
    sources = _sources(job, view, encoding_for(view, "multilabel"))
    described = _described(view, sources)
    seen = zip(sources, _features(view, sources, tuple(chosen.tolist())), strict=True)
    judged: Iterator[LabelEvidence] = (
        label_candidates(states.double().numpy(), y, fold, described.get(read.reading.pooling)) for read, states in seen
    )

    def weight(prompt: LabelEvidence) -> float:
        return strength(prompt.likelihood(y).sum(1))

    found = strongest(judged, weight, lambda prompt: LabelEvidence(prompt.unseen), members)
    mixture = label_blend(found, y, fold, members)
    more = balanced(rarest_label(everything), FITTED, job.seed)
    models, names = [], []
    for place, share in zip(mixture.prompts, mixture.shares, strict=True):
        read, fits = sources[place], found[place]
        assert isinstance(fits, LabelCandidates), "what is kept has its fits"
        weights, biases = fits.weights, fits.biases
        if len(more) > len(chosen):
            states = _alone(view, sources[place], more).double().numpy()
            parts = np.ones((1, len(more)), dtype=bool)
            weights, biases = fitted_labels(states, everything[more], parts, described.get(read.reading.pooling))
            weights, biases = weights[:, 0], biases[:, 0]
        mixed = np.einsum("j,jch->ch", share, weights) / mixture.temperature
        readout = label_directional(mixed, share @ biases / mixture.temperature, task)
        models.append(Tuned(read.prompt, readout, read.reading))
        names.append((read.name, float(share.sum())))
    notes = (_listed(names), *_sampled(chosen, more, len(task.train)))
    return Fit(job.id, _settled(_joined(models), mixture, y, task), _fitted(models), notes)


def _of_probes(job: Job, view: View, members: int) -> Fit:
    """Kinds whose probes are one readout each: numbers, choices, tags."""
    task = view.task
    sources = _sources(job, view, encoding_for(view, "regression"))
    sample = balanced(np.zeros(len(task.train), dtype=np.int64), FITTED, job.seed)
    rows, examples = tuple(sample.tolist()), [task.train[row] for row in sample]
    tokens = view.tokens("train", sources[0].reading, rows)

    def likelihood(own: Tensor, places: Int[Array, "F"]) -> float:
        if len(places) < 2:
            return 0.0
        shown = view.tokens("train", sources[0].reading, tuple(sample[places].tolist()))
        return float(cross_validate(task, [examples[place] for place in places], own, shown, job.seed).likelihood.sum())

    def judge(group: Sequence[SourceRead], first: Int[Array, "F"]) -> Iterator[float]:
        return (likelihood(own, first) for own in _features(view, group, tuple(sample[first].tolist())))

    first = balanced(np.zeros_like(sample), JUDGED, job.seed)
    sources = finalists(sources, first, len(sample), members, judge)
    every = np.arange(len(sample))
    seen = ((own, np.array([likelihood(own, every)])) for own in _features(view, sources, rows))
    found = strongest(seen, lambda prompt: strength(prompt[1]), lambda prompt: (prompt[0][:0], prompt[1]), members)
    models, names = [], []
    for place, share in weigh([evidence for _, evidence in found], members).items():
        read = sources[place]
        readout = fit_probe(task, examples, found[place][0], tokens, job.seed).readout
        models.append(Tuned(read.prompt, scaled(readout, float(share[0])), read.reading))
        names.append((read.name, float(share[0])))
    notes = (_listed(names), *_sampled(np.arange(len(sample)), sample, len(task.train)))
    return Fit(job.id, _joined(models), _fitted(models), notes)


def _settled(model: Tuned, mixture: Blend, y: Int[Array, "U C"], task: Task) -> Tuned:
    """The model with the threshold of its labels, and with how sure it was of those that unseen rows get by it."""
    readout = model.readout
    assert isinstance(readout, ByLabel), "labels are read one by one"
    if len(y) > 1:
        readout = readout.settled(of_labels(torch.from_numpy(mixture.unseen)), torch.from_numpy(y), task)
    places = labels_given(readout.chosen(torch.from_numpy(mixture.unseen)), task.classes)
    confidence = torch.from_numpy(mixture.unseen[places]).sigmoid().float()
    held_out = HeldOut(confidence, torch.from_numpy(y[places] > 0))
    return replace(model, readout=readout, held_out=held_out, unseen=torch.from_numpy(mixture.unseen).float())


def _fitted(models: Sequence[Tuned]) -> int:
    """Numbers that were fitted."""
    return sum(value.numel() for model in models for value in model.readout.parameters().values())


def _joined(models: Sequence[Tuned]) -> Tuned:
    first, *others = models
    return replace(first, others=tuple(others))


def _listed(names: Sequence[tuple[str, float]]) -> str:
    """Which prompts were kept, and the share of each in the evidence of those."""
    return "graft of " + ", ".join(f"{name} (weight {share:.2f})" for name, share in names)
