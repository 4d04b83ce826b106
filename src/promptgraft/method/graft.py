"""Graft: everything a bank knows, weighed by the few labelled rows, with nothing trained."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import groupby
from typing import ClassVar

import numpy as np
import torch
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor

from promptgraft.errors import RunError
from promptgraft.method.job import Job
from promptgraft.method.method import Method, Need, View, Work, register
from promptgraft.method.options import Options
from promptgraft.method.setup import encoding_for
from promptgraft.model.backbone import Encoding
from promptgraft.model.resolved import Pooling
from promptgraft.prompt.prompt import Prompt
from promptgraft.readout.classes import class_indices, encode_names
from promptgraft.readout.direction import Directional
from promptgraft.readout.evidence import (
    FITTED,
    JUDGED,
    Blend,
    Candidates,
    balanced,
    blend,
    candidates,
    refitted,
    weigh,
)
from promptgraft.readout.features import features
from promptgraft.readout.probe import cross_validate, deal_labels, fit_probe
from promptgraft.readout.readout import Readout
from promptgraft.task.draws import Array
from promptgraft.train.run import Fit, Tuned

BACKBONE = "the backbone alone"


class GraftOptions(Options):
    members: int = Field(
        default=3, ge=1, le=32, description="Prompts that are kept, at most; predicting takes a pass for each."
    )


@register
class Graft(Method):
    """Readouts of frozen features under every banked prompt, and under none, mixed by their cross-validated evidence.

    Classes: `readout.evidence`. Numbers, choices and tags: each prompt's probe, weighed by the same evidence. The
    scores of the prompts that are kept are added.
    """

    name: ClassVar[str] = "graft"
    summary: ClassVar[str] = "readouts under every banked prompt, weighed by cross-validation; nothing is trained"
    needs: ClassVar[frozenset[Need]] = frozenset({"labels", "bank"})
    options: ClassVar[type[GraftOptions]] = GraftOptions

    def requires(self, job: Job) -> tuple[Job, ...]:
        return ()

    def work(self, job: Job) -> Work:
        return Work(None, probes=1 + len(job.bank))

    def setup(self, job: Job, view: View) -> Fit:
        if view.task.kind == "span":
            what = "graft fits readouts without training, and no readout of spans can be fitted so"
            raise RunError(what, where=view.task.name, do="use --method pot")
        if not view.task.train:
            raise RunError("graft needs labelled rows", where=view.task.name, do="use --shots 1 or more")
        members = self.options.read(self.name, job.options).members
        if view.task.kind in ("classification", "pair"):
            return _of_classes(job, view, members)
        return _of_probes(job, view, members)


def _sources(job: Job, view: View) -> list[tuple[str, Prompt | None, Pooling]]:
    """What features are read under: no prompt, then every banked one with its own pooling, those alike together."""
    banked = [(source.name, source.artefact.prompt, source.artefact.card.pooling) for source in job.bank]
    ordered = sorted(banked, key=lambda named: (named[2], named[1] is not None and named[1].depth, named[0]))
    return [(BACKBONE, None, view.pooling), *ordered]


def _features(
    view: View, sources: Sequence[tuple[str, Prompt | None, Pooling]], encoding: Encoding, rows: tuple[int, ...]
) -> Iterator[Float[Tensor, "N F"]]:
    """Features of training rows under each source in turn, neighbours that are read alike in shared batches."""
    tokens = view.tokens("train", encoding, rows)
    for pooling, group in groupby(sources, lambda named: named[2]):
        prompts = [prompt for _, prompt, _ in group]
        for states in view.states_each("train", prompts, pooling, encoding, rows):
            yield features(states, tokens, encoding)


def _of_classes(job: Job, view: View, members: int) -> Fit:
    task, encoding = view.task, encoding_for(view, "direction")
    sources = _sources(job, view)
    everything = np.array(class_indices((row.label for row in task.train), task))
    rows = balanced(everything, JUDGED, job.seed)
    y = everything[rows]
    fold = deal_labels(y, job.seed)
    described = {
        pooling: view.describe(list(task.labels.values()), pooling).double().numpy()
        for pooling in dict.fromkeys(pooling for _, _, pooling in sources)
        if task.kind == "classification"
    }
    own = [
        candidates(seen.double().numpy(), y, fold, described.get(pooling), len(task.classes))
        for (_, _, pooling), seen in zip(sources, _features(view, sources, encoding, tuple(rows.tolist())), strict=True)
    ]
    mixture = blend(own, y, fold, members)
    kept = [sources[place] for place in mixture.prompts]
    readouts = [own[place] for place in mixture.prompts]
    more = balanced(everything, FITTED, job.seed)
    if len(more) > len(rows):
        readouts = [
            refitted(judged, seen.double().numpy(), everything[more], described.get(pooling), len(task.classes))
            for judged, (_, _, pooling), seen in zip(
                readouts, kept, _each_alone(view, kept, encoding, tuple(more.tolist())), strict=True
            )
        ]
    models, names = [], []
    for (name, prompt, pooling), readout, share in zip(kept, readouts, mixture.shares, strict=True):
        models.append(Tuned(prompt, _direction(readout, share, mixture, task.classes), pooling, encoding))
        names.append((name, float(share.sum())))
    hits = float((mixture.unseen.argmax(1) == y).mean())
    note = f"{_listed(names)}; {100 * hits:.1f} % of {len(y)} rows right when left out"
    return Fit(job.id, _joined(models), _fitted(models), (note, *_sampled(rows, more, len(everything))))


def _each_alone(
    view: View, kept: Sequence[tuple[str, Prompt | None, Pooling]], encoding: Encoding, rows: tuple[int, ...]
) -> Iterator[Float[Tensor, "N F"]]:
    """Features under sources in the order of their weight, in which neighbours are not alike."""
    return (seen for source in kept for seen in _features(view, [source], encoding, rows))


def _sampled(rows: Int[Array, "N"], more: Int[Array, "M"], count: int) -> tuple[str, ...]:
    """A note where not all rows were looked at."""
    if len(rows) == count:
        return ()
    return (f"prompts were judged on {len(rows):,} of {count:,} training rows and fitted to {len(more):,}",)


def _direction(own: Candidates, share: Float[Array, "J"], mixture: Blend, classes: Sequence[str]) -> Readout:
    """A prompt's candidates as one readout: a product of experts adds their scores."""
    weight = np.einsum("j,jkh->kh", share, own.weights) / mixture.temperature
    bias = share @ own.biases / mixture.temperature
    tensors = {"weight": torch.from_numpy(weight).float(), "bias": torch.from_numpy(bias).float()}
    return Directional.load({"labels": encode_names(classes), **tensors})


def _of_probes(job: Job, view: View, members: int) -> Fit:
    """Kinds whose probes are one readout each: numbers, choices, tags."""
    task, encoding = view.task, encoding_for(view, "regression")
    sources = _sources(job, view)
    sample = balanced(np.zeros(len(task.train), dtype=np.int64), FITTED, job.seed)
    rows, examples = tuple(sample.tolist()), [task.train[row] for row in sample]
    tokens = view.tokens("train", encoding, rows)
    seen = list(_features(view, sources, encoding, rows))
    evidence = []
    for own in seen:
        judged = cross_validate(task, examples, own, tokens, job.seed) if len(examples) > 1 else None
        evidence.append(np.array([0.0 if judged is None else judged.likelihood.sum()]))
    models, names = [], []
    for place, share in weigh(evidence, members).items():
        name, prompt, pooling = sources[place]
        readout = fit_probe(task, examples, seen[place], tokens, job.seed).readout
        models.append(Tuned(prompt, _scaled(readout, float(share[0])), pooling, encoding))
        names.append((name, float(share[0])))
    notes = (_listed(names), *_sampled(sample, sample, len(task.train)))
    return Fit(job.id, _joined(models), _fitted(models), notes)


def _scaled(readout: Readout, share: float) -> Readout:
    """The readout whose scores are a share of another's."""
    state = readout.state()
    return type(readout).load({**state, **{name: share * state[name] for name in readout.trained}})


def _fitted(models: Sequence[Tuned]) -> int:
    """Numbers that were fitted."""
    return sum(value.numel() for model in models for value in model.readout.parameters().values())


def _joined(models: Sequence[Tuned]) -> Tuned:
    first, *others = models
    return replace(first, others=tuple(others))


def _listed(names: Sequence[tuple[str, float]]) -> str:
    """Which prompts were kept, and the share of each in the evidence of those."""
    return "graft of " + ", ".join(f"{name} (weight {share:.2f})" for name, share in names)
