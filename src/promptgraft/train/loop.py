"""The one loop trains K runs over one backbone in packed batches; K = 1 is nothing special."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, groupby

import torch
from jaxtyping import Float
from torch import Tensor

from promptgraft.errors import RunError
from promptgraft.kernels.dropout import Dropout
from promptgraft.model.backbone import Backbone, Batch, Writes
from promptgraft.model.device import CPU, tokens_at_once
from promptgraft.model.tokens import Tokens
from promptgraft.prompt.prompt import Prompt, PromptStack, stack
from promptgraft.readout.readout import Readout, on_device
from promptgraft.task.metrics import score as metric_score
from promptgraft.train.checkpoint import Checkpoints
from promptgraft.train.data import Data
from promptgraft.train.draw import Pool
from promptgraft.train.optimiser import plan, schedule, update
from promptgraft.train.predict import Question, answer
from promptgraft.train.run import Failed, Run, Trained, Tuned
from promptgraft.train.state import State, begin, copy_of, dump, is_whole, restore
from promptgraft.train.terms import Step, TermFigures
from promptgraft.train.together import Scored, score_together

# Tokens of one forward and backward on a processor. Runs do not share gradients, so cutting a step between runs is
# exact. What a piece keeps for its backward is most of the memory of many runs; pieces are so small that it fits into
# that of one run with PEFT. In fp32 that costs a wider model up to a tenth of the speed, in bf16 nothing; but in bf16 a
# pass through a causal model takes as long as 200 tokens before its first one, so that its pieces are longer.
LEAST_TOKENS, LEAST_CAUSAL_TOKENS, MOST_TOKENS = 512, 1024, 4096
KEPT_BYTES = 64 << 20
# What a layer keeps of a token, in widths of its states; about.
KEPT_WIDTHS = 12


@dataclass(frozen=True)
class GroupLoss:
    """The losses of runs that were scored together.

    Attributes:
        total: with its graph.
        figures: for the runs' histories.
    """

    states: Sequence[State]
    total: Float[Tensor, "K"]
    figures: TermFigures


LoopProgress = Callable[[int, int, float], None]
"""Called with steps behind (all of a run that has stopped early), steps in all, last mean loss."""


def train(
    backbone: Backbone,
    runs: Sequence[Run],
    *,
    checkpoints: Checkpoints | None = None,
    progress: LoopProgress | None = None,
) -> list[Trained | Failed]:
    """Train runs that can share a batch (`Run.pack` agrees), each as if it were alone.

    Each run draws its own rows, has its own optimiser, schedule, best state and end; the state with the best
    validation score (ties by validation loss) is what it returns; of a carried run the untouched start is one of
    these states. A run whose loss is no longer finite ends there as `Failed`, and the others go on. With
    `checkpoints`, a killed call goes on where it was.

    Raises:
        RunError: runs that cannot share a batch.
    """
    if len({run.pack for run in runs}) > 1:
        raise RunError("these runs cannot share a batch", do="train them one by one")
    states = [begin(run) for run in runs]
    if checkpoints is not None:
        _resume(states, checkpoints)
    _evaluate_starts(backbone, states)
    pool = Pool([run.train for run in runs])
    total, limit = sum(run.recipe.steps for run in runs), step_tokens(backbone)
    while active := [state for state in states if not state.done]:
        losses = []
        for piece in pieces([_tokens(state) for state in active], limit):
            chunk = active[piece.start : piece.stop]
            began = time.perf_counter()
            losses += _step(backbone, pool, chunk)
            _charge(chunk, time.perf_counter() - began)
        due = [state for state in active if not state.failure and _is_due(state)]
        if due:
            began = time.perf_counter()
            _evaluate(backbone, due)
            _charge(due, time.perf_counter() - began)
        if checkpoints is not None and checkpoints.is_time():
            checkpoints.save({state.run.name: dump(state) for state in states})
        if progress is not None:
            steps_done = sum(state.run.recipe.steps if state.done else state.step for state in states)
            progress(steps_done, total, _mean_of_finite(losses))
    if checkpoints is not None and len(states) > 1:  # until each of their results is kept, all can be had again
        checkpoints.save({state.run.name: dump(state) for state in states})
    return [_failed(state) if state.failure else _finish(backbone, state) for state in states]


def _evaluate_starts(backbone: Backbone, states: Sequence[State]) -> None:
    """Score the untouched starts of carried runs, so that training can only gain on validation."""
    fresh = [state for state in states if state.run.carried and not state.history and not state.done]
    if not fresh:
        return
    began = time.perf_counter()
    for state in fresh:
        state.history.append({"step": 0.0})
    _evaluate(backbone, fresh)
    _charge(fresh, time.perf_counter() - began)


def _mean_of_finite(losses: Sequence[float]) -> float:
    finite = [loss for loss in losses if math.isfinite(loss)]
    return sum(finite) / max(1, len(finite))


def _failed(state: State) -> Failed:
    return Failed(state.run.name, RunError(state.failure, where=state.run.name, do="lower the rate"))


def _resume(states: Sequence[State], checkpoints: Checkpoints) -> None:
    """Resume all runs from a checkpoint, if it is complete for each: one of an older version may lack something."""
    saved = checkpoints.load([state.run.name for state in states])
    if all(state.run.name in saved and is_whole(state, saved[state.run.name]) for state in states):
        for state in states:
            restore(state, saved[state.run.name])


def step_tokens(backbone: Backbone) -> int:
    """How many tokens go through one forward and backward."""
    width = backbone.weights[backbone.words].element_size()
    causal = isinstance(backbone, Writes) and backbone.speech == "causal"
    return tokens_at_once(backbone, most_tokens(backbone.layers * backbone.hidden, width, causal=causal))


def most_tokens(states: int, width: int, *, causal: bool) -> int:
    """How many tokens a processor takes at once.

    Args:
        states: how many numbers a token's states of all layers are.
        width: bytes of a number.
        causal: whether the model is a causal one.
    """
    least = LEAST_CAUSAL_TOKENS if causal and width < 4 else LEAST_TOKENS
    return min(MOST_TOKENS, max(least, KEPT_BYTES // (KEPT_WIDTHS * states * width)))


def kept_bytes(backbone: Backbone) -> int:
    """Bytes that the layers keep of a token for the backward."""
    return backbone.layers * backbone.hidden * KEPT_WIDTHS * backbone.weights[backbone.words].element_size()


def pieces(sizes: Sequence[float], most: int) -> Iterator[range]:
    """Cut a step between runs into pieces of like size, each of about `most` tokens.

    Args:
        sizes: tokens of each run.
    """
    total = sum(sizes)
    count = math.ceil(total / most)
    places = [int((end - size / 2) / total * count) for size, end in zip(sizes, accumulate(sizes), strict=True)]
    for _, members in groupby(range(len(sizes)), places.__getitem__):
        first, *rest = members
        yield range(first, first + 1 + len(rest))


def _tokens(state: State) -> float:
    """About how many tokens a run's step has."""
    data = state.run.train
    return len(data.tokens.ids) / max(1, len(data)) * state.order.size


def _step(backbone: Backbone, pool: Pool, states: Sequence[State]) -> list[float]:
    """One optimiser step of every run in one packed forward and backward."""
    rows = [state.order.draw() for state in states]
    counts = [len(index) for index in rows]
    tokens = pool.gather([state.run.train for state in states], rows)
    models = [state.run.tuned() for state in states]
    hidden = _forward(backbone, states, models, counts, tokens)
    losses: list[GroupLoss] = []
    for scored in score_together(models, counts, tokens, hidden):
        members = scored.members
        losses += _losses(scored, [states[member] for member in members], [rows[member] for member in members])
    values = _record(states, losses)
    torch.cat([loss.total for loss in losses]).sum().backward()  # no run's gradient depends on another's loss
    _update([state for state in states if not state.failure])
    for state in states:
        _forget_gradients(state)
    return values


def _forward(
    backbone: Backbone, states: Sequence[State], models: Sequence[Tuned], counts: Sequence[int], tokens: Tokens
) -> Float[Tensor, "N H"]:
    """Hidden states of all runs' rows, computed in one packed batch."""
    run = states[0].run
    model = backbone if run.weights is None else backbone.with_weights(run.weights.leaves)
    prompts = _stack(states, models)
    sequences = tokens.rows[torch.tensor([0, *counts]).cumsum(0)].diff()
    owner = torch.arange(len(states)).repeat_interleave(sequences) if prompts is not None else None
    if not run.dropout:
        return model.forward(Batch(tokens, owner), prompts, run.read)
    masks = [Dropout.draw(run.dropout, n, state.generator) for state, n in zip(states, sequences.tolist(), strict=True)]
    dropout = Dropout(run.dropout, torch.cat([mask.keys for mask in masks]))
    hidden = model.forward(Batch(tokens, owner), prompts, run.read, dropout=dropout)
    ends = tokens.starts[tokens.rows] if run.read == "tokens" else tokens.rows
    sizes = ends[torch.tensor([0, *counts]).cumsum(0)].diff().tolist()
    return torch.cat([drop(part, state) for part, state in zip(hidden.split(sizes), states, strict=True)])


def _stack(states: Sequence[State], models: Sequence[Tuned]) -> PromptStack | None:
    """Stack the runs' prompts in one table; train-mode dropout falls on the prompt too, as in P-tuning v2."""
    pairs = [(state, model.prompt) for state, model in zip(states, models, strict=True) if model.prompt is not None]
    if not pairs:
        return None
    prompts = [
        Prompt(drop(prompt.values, state), prompt.placement) if state.run.dropout else prompt for state, prompt in pairs
    ]
    return stack(prompts)


def drop(values: Float[Tensor, "..."], state: State) -> Float[Tensor, "..."]:
    """Apply inverted dropout to a run's values, with a mask from its generator."""
    mask = torch.rand(values.shape, generator=state.generator) >= state.run.dropout
    return values * mask.to(values.device) / (1 - state.run.dropout)


def _losses(scored: Scored, states: Sequence[State], rows: Sequence[Tensor]) -> Iterator[GroupLoss]:
    """Compute the losses of runs that were scored together, grouped by the kinds of their terms."""
    scores = scored.scores if len(states) > 1 else scored.scores.unsqueeze(0)
    for _, places in groupby(range(len(states)), lambda place: _terms(states[place])):
        first, *rest = places
        group = slice(first, first + 1 + len(rest))
        yield _loss(scored, scores[group], states[group], rows[group])


def _terms(state: State) -> list[Hashable]:
    return [term.kind for term in state.run.terms]


def _loss(scored: Scored, scores: Float[Tensor, "K ..."], states: Sequence[State], rows: Sequence[Tensor]) -> GroupLoss:
    """The loss of the labels plus the loss terms, for each run."""
    units = [state.run.train.unit_index(index) for state, index in zip(states, rows, strict=True)]
    gold = torch.stack([state.run.train.gold[index] for state, index in zip(states, units, strict=True)])
    gold = gold.to(scores.device)
    if len(scored.members) > 1:
        per_unit = scored.readers.readout.loss(scores, gold)
    else:  # a readout that stands for one run knows no axis of runs
        per_unit = scored.readers.readout.loss(scores[0], gold[0]).unsqueeze(0)
    labelled = gold.ne(-100).flatten(2).any(2) if gold.ndim > 2 else gold.ne(-100)
    labels = per_unit.sum(1) / labelled.sum(1).clamp_min(1)
    total, figures = labels, {"label_loss": labels.detach()}
    for terms in zip(*(state.run.terms for state in states), strict=True):
        loss, term_figures = type(terms[0]).together(terms, Step(rows, units, scores, gold, labels))
        total, figures = total + loss, figures | term_figures
    return GroupLoss(states, total, figures | {"loss": total.detach()})


def _record(states: Sequence[State], losses: Sequence[GroupLoss]) -> list[float]:
    """Write a step's figures into the histories and return every run's loss.

    The figures are read from the device all at once. A run whose loss is not finite ends here.
    """
    for state in states:
        state.history.append({"step": state.step + 1.0})
    figures = [(group.states, name, values) for group in losses for name, values in group.figures.items()]
    numbers = torch.cat([values for _, _, values in figures]).tolist()
    ends = accumulate(len(values) for _, _, values in figures)
    for (members, name, values), end in zip(figures, ends, strict=True):
        for state, number in zip(members, numbers[end - len(values) : end], strict=True):
            state.history[-1][name] = number
    for state in states:
        loss = state.history[-1]["loss"]
        if not math.isfinite(loss):
            state.failure, state.done = f"the loss is {loss} at step {state.step + 1}", True
    return [state.history[-1]["loss"] for state in states]


def _update(states: Sequence[State]) -> None:
    """Clip gradients and take an optimiser step at the scheduled rate, for all runs in one go."""
    moves = []
    for state in states:
        state.step += 1
        share = schedule(state.step, state.run.recipe.steps, state.run.recipe.warmup)
        for group in state.groups.values():
            moves.append(plan(group, [leaf.value.grad for leaf in group.leaves.values()], state.step, share))
        state.done = state.step >= state.run.recipe.steps
    if moves:
        update(moves)


def _forget_gradients(state: State) -> None:
    for group in state.groups.values():
        for leaf in group.leaves.values():
            leaf.value.grad = None


def _is_due(state: State) -> bool:
    every = max(1, state.run.recipe.steps // state.run.recipe.evaluations)
    return state.done or state.step % every == 0


def _evaluate(backbone: Backbone, states: Sequence[State]) -> None:
    """Score all runs on validation in shared batches; keep best states; stop runs that no longer gain."""
    weights = states[0].run.weights
    model = backbone if weights is None else backbone.with_weights(weights.whole())
    with torch.no_grad():
        tuned = [state.run.tuned() for state in states]
    places = [place for place, state in enumerate(states) if len(state.run.validation)]
    questions = [Question(tuned[place], states[place].run.validation.tokens) for place in places]
    answers = dict(zip(places, answer(model, questions), strict=True)) if questions else {}
    for place, state in enumerate(states):
        key = _judge(state, answers[place]) if place in answers else (0.0, float(state.step))
        if key > state.best_key:
            state.best, state.best_key, state.best_step, state.stale = copy_of(state.run), key, state.step, 0
        else:
            state.stale += 1
        state.done = state.done or 0 < state.run.recipe.patience <= state.stale


def _judge(state: State, scores: Tensor) -> tuple[float, float]:
    """Score a run on validation, note it in the history, and return (score, minus loss).

    Of a readout that predicts nothing by itself the score is minus the loss too: to have a model write texts at every
    look would take longer than to train it.
    """
    data = state.run.validation
    if state.run.readout.by_loss:
        loss = float(state.run.readout.loss(scores, data.gold).mean())
        state.history[-1]["validation_loss"] = loss
        return -loss, -loss
    readout = state.run.readout.settled(scores, data.gold, data.task)
    predictions = readout.predict(scores, data.tokens, data.examples, data.task)
    value = metric_score(data.task, predictions, data.examples)["score"]
    loss = float(readout.loss(scores, data.gold).mean())
    state.history[-1] |= {"validation": value, "validation_loss": loss}
    return value, -loss


def _charge(states: Sequence[State], seconds: float) -> None:
    for state in states:
        state.seconds += seconds / len(states)


def _finish(backbone: Backbone, state: State) -> Trained:
    """Restore a run's best state and return it, detached from the optimiser, its readout settled by validation."""
    state.groups.clear()  # what the optimiser remembers is twice as large as what is copied below
    with torch.no_grad():
        for name, value in state.run.trainable().items():
            value.copy_(state.best[name])
        tuned = state.run.tuned()
    values = None if tuned.prompt is None else tuned.prompt.values.detach().to("cpu", copy=True)
    prompt = None if tuned.prompt is None or values is None else Prompt(values, tuned.prompt.placement)
    learned = state.run.weights
    weights = None if learned is None else {name: value.cpu() for name, value in learned.whole().items()}
    readout, reading = state.run.answers or (on_device(tuned.readout, CPU), tuned.reading)
    best = Tuned(prompt, readout, reading, weights)
    if state.run.answers is None and best.readout.settles and len(state.run.validation):
        best = replace(best, readout=_settled(backbone, best, state.run.validation))
    history = tuple(state.history)
    return Trained(state.run.name, best, history, state.best_step, state.seconds, state.run.parameters)


def _settled(backbone: Backbone, tuned: Tuned, data: Data) -> Readout:
    """The readout of a model with what it sets by scores of validation rows."""
    return tuned.readout.settled(answer(backbone, [Question(tuned, data.tokens)])[0], data.gold, data.task)
