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
from promptgraft.readout.evidence import Blend, Candidates, blend, candidates, weigh
from promptgraft.readout.features import features
from promptgraft.readout.probe import cross_validate, deal_folds, fit_probe
from promptgraft.readout.problem import pose
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


def _states(
    view: View, sources: Sequence[tuple[str, Prompt | None, Pooling]], encoding: Encoding
) -> Iterator[Float[Tensor, "N F"]]:
    """Features of the training rows under each source in turn, neighbours that are read alike in shared batches."""
    for (pooling, is_prompt), group in groupby(sources, lambda named: (named[2], named[1] is not None)):
        prompts = [prompt for _, prompt, _ in group if prompt is not None]
        states = (
            view.states_each("train", prompts, pooling, encoding)
            if is_prompt
            else [view.states("train", None, pooling, encoding)]
        )
        yield from states


def _of_classes(job: Job, view: View, members: int) -> Fit:
    task, encoding = view.task, encoding_for(view, "direction")
    sources, tokens = _sources(job, view), view.tokens("train", encoding)
    y = np.array(class_indices((row.label for row in task.train), task))
    fold: Int[Array, "U"] | None = None
    found: list[Candidates] = []
    for (_, _, pooling), states in zip(sources, _states(view, sources, encoding), strict=True):
        seen = features(states, tokens, encoding)
        if fold is None:
            fold = deal_folds(pose(task, task.train, seen, tokens), job.seed)
        described = None
        if task.kind == "classification":
            described = view.describe(list(task.labels.values()), pooling).double().numpy()
        found.append(candidates(seen.double().numpy(), y, fold, described, len(task.classes)))
    assert fold is not None, "there is the backbone alone"
    mixture = blend(found, y, fold, members)
    models, names = [], []
    for place, share in zip(mixture.prompts, mixture.shares, strict=True):
        name, prompt, pooling = sources[place]
        models.append(Tuned(prompt, _direction(found[place], share, mixture, task.classes), pooling, encoding))
        names.append((name, float(share.sum())))
    hits = float((mixture.unseen.argmax(1) == y).mean())
    note = f"{_listed(names)}; {100 * hits:.1f} % of {len(y)} rows right when left out"
    return Fit(job.id, _joined(models), _fitted(models), (note,))


def _direction(own: Candidates, share: Float[Array, "J"], mixture: Blend, classes: Sequence[str]) -> Readout:
    """A prompt's candidates as one readout: a product of experts adds their scores."""
    weight = np.einsum("j,jkh->kh", share, own.weights) / mixture.temperature
    bias = share @ own.biases / mixture.temperature
    tensors = {"weight": torch.from_numpy(weight).float(), "bias": torch.from_numpy(bias).float()}
    return Directional.load({"labels": encode_names(classes), **tensors})


def _of_probes(job: Job, view: View, members: int) -> Fit:
    """Kinds whose probes are one readout each: numbers, choices, tags."""
    task, encoding = view.task, encoding_for(view, "regression")
    sources, tokens = _sources(job, view), view.tokens("train", encoding)
    seen = [features(states, tokens, encoding) for states in _states(view, sources, encoding)]
    evidence = []
    for own in seen:
        judged = cross_validate(task, task.train, own, tokens, job.seed) if len(task.train) > 1 else None
        evidence.append(np.array([0.0 if judged is None else judged.likelihood.sum()]))
    models, names = [], []
    for place, share in weigh(evidence, members).items():
        name, prompt, pooling = sources[place]
        readout = fit_probe(task, task.train, seen[place], tokens, job.seed).readout
        models.append(Tuned(prompt, _scaled(readout, float(share[0])), pooling, encoding))
        names.append((name, float(share[0])))
    return Fit(job.id, _joined(models), _fitted(models), (_listed(names),))


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
    return "graft of " + ", ".join(f"{name} {share:.2f}" for name, share in names)
