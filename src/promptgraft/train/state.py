"""The state of a run while it is being trained, and how it is saved and restored."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor

from promptgraft.errors import RunError
from promptgraft.train.checkpoint import Saved
from promptgraft.train.draw import Order
from promptgraft.train.optimiser import Group, Leaf
from promptgraft.train.run import Run

PLAIN = ("step", "best_key", "best_step", "stale", "done", "failure", "seconds", "history")


@dataclass
class State:
    """The state of a run while it is being trained.

    Attributes:
        groups: its leaves with what the optimiser remembers of them.
        generator: what its rows and its own dropout are drawn from.
        best, best_key, best_step: its leaves at their best so far, (score, minus loss) there, and when.
        stale: how many looks at validation gained nothing since.
        failure: why it cannot go on; empty while it can.
    """

    run: Run
    groups: dict[str, Group]
    generator: torch.Generator
    order: Order
    step: int = 0
    best: dict[str, Tensor] = field(default_factory=dict)
    best_key: tuple[float, float] = (-math.inf, -math.inf)
    best_step: int = 0
    stale: int = 0
    done: bool = False
    failure: str = ""
    seconds: float = 0.0
    history: list[dict[str, float]] = field(default_factory=list)


def begin(run: Run) -> State:
    """The state of a run before its first step."""
    recipe = run.recipe
    rates = {"prompt": recipe.rate, "readout": recipe.readout_rate, "weights": recipe.weights_rate}
    groups = {
        name: Group(leaves, rate, recipe.weight_decay if name == "weights" else 0.0, recipe.clip)
        for name, rate in rates.items()
        if (leaves := _leaves(run, name))
    }
    if not groups:
        raise RunError("nothing to train", where=run.name)
    generator = torch.Generator().manual_seed(run.seed)
    state = State(run, groups, generator, Order(run.train, recipe.batch, generator))
    state.best = copy_of(run)
    state.done = recipe.steps == 0
    return state


def _leaves(run: Run, group: str) -> dict[str, Leaf]:
    members = {name: value for name, value in run.trainable().items() if name.split(".", 1)[0] == group}
    return {name: Leaf.at_rest(value) for name, value in members.items()}


def copy_of(run: Run) -> dict[str, Tensor]:
    """Copy a run's leaves as they are now."""
    return {name: value.detach().clone() for name, value in run.trainable().items()}


def dump(state: State) -> Saved:
    """Turn a state into tensors and plain values; nothing is pickled."""
    tensors = {f"now.{name}": value.detach() for name, value in state.run.trainable().items()}
    tensors |= {f"best.{name}": value for name, value in state.best.items()}
    tensors |= {f"generator.{index}": stream.get_state() for index, stream in enumerate(_streams(state))}
    for name, leaf in _all_leaves(state):
        tensors |= {f"{name}.exp_avg": leaf.exp_avg, f"{name}.exp_avg_sq": leaf.exp_avg_sq}
    return tensors | {"order": state.order.left}, {name: getattr(state, name) for name in PLAIN}


def _streams(state: State) -> tuple[torch.Generator, ...]:
    """Every source of random numbers that a run draws from."""
    return (state.generator, *state.run.streams)


def _all_leaves(state: State) -> Iterator[tuple[str, Leaf]]:
    for group in state.groups.values():
        yield from group.leaves.items()


def is_whole(state: State, saved: Saved) -> bool:
    """Whether saved values have all that `restore` needs, in this run's shapes."""
    (tensors, plain), (expected, names) = saved, dump(state)
    shapes = all(
        name == "order" or tensors[name].shape == value.shape for name, value in expected.items() if name in tensors
    )
    return tensors.keys() == expected.keys() and plain.keys() == names.keys() and shapes


def restore(state: State, saved: Saved) -> None:
    """Set a state to the values that `dump` gave."""
    tensors, plain = saved
    with torch.no_grad():
        for name, value in state.run.trainable().items():
            value.copy_(tensors[f"now.{name}"])
    state.best = {name.removeprefix("best."): value for name, value in tensors.items() if name.startswith("best.")}
    for number, stream in enumerate(_streams(state)):
        stream.set_state(tensors[f"generator.{number}"])
    for name, leaf in _all_leaves(state):
        leaf.exp_avg.copy_(tensors[f"{name}.exp_avg"])
        leaf.exp_avg_sq.copy_(tensors[f"{name}.exp_avg_sq"])
    state.order.left = tensors["order"]
    for key in PLAIN:
        setattr(state, key, plain[key])
    state.best_key = (state.best_key[0], state.best_key[1])
