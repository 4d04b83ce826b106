"""Every kind of task has its facts, and what the facts name exists."""

from __future__ import annotations

from typing import get_args

import pytest

from promptgraft.readout.all import find as find_readout
from promptgraft.task.examples import MAKERS
from promptgraft.task.infer import FINDERS
from promptgraft.task.kinds import KINDS, OF_ONE_CLASS, Kind
from promptgraft.task.metrics import METRICS
from promptgraft.task.task import References
from toys import toy_task


def test_every_kind_has_facts_a_reader_and_a_finder_of_columns() -> None:
    assert tuple(KINDS) == get_args(Kind)
    assert MAKERS.keys() == FINDERS.keys() == KINDS.keys()
    assert OF_ONE_CLASS == ("classification", "pair")


@pytest.mark.parametrize("kind", KINDS)
def test_facts_name_readouts_that_read_the_kind_and_metrics_that_exist(kind: Kind) -> None:
    facts = KINDS[kind]
    assert set(facts.metrics) <= METRICS.keys()
    readouts = {name for name in (facts.readout, facts.in_words) if name}
    assert all(kind in find_readout(name).kinds for name in readouts)


@pytest.mark.parametrize("kind", KINDS)
def test_facts_tell_what_the_rows_of_a_task_hold(kind: Kind) -> None:
    task = toy_task(kind)
    assert task.facts is KINDS[kind]
    assert bool(task.labels) is task.facts.named_labels
    for example in task.train:
        assert ("choices" in task.facts.needs) is bool(example.choices)
        assert (task.facts.scored == "word") is bool(example.tokens)
        assert (task.facts.label == "number") is isinstance(example.label, float)
        assert "pair" not in task.facts.needs or example.pair is not None
        assert task.facts.written is isinstance(example.label, References)
