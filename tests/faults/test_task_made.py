"""A task that was made in Python and could be no file is one line, at every verb that takes a task."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

import promptgraft as pg
from promptgraft.api.opening import open_task
from promptgraft.bank.bank import open_bank
from promptgraft.errors import PromptgraftError, TaskError
from promptgraft.model.load import load_backbone
from promptgraft.task.kinds import KINDS
from promptgraft.task.task import SPLITS, Example, Kind, Task
from toys import masked_model, toy_task


def with_row(task: Task, split: str, row: Example) -> Task:
    return task.replace(splits={**task.splits, split: (*task.splits[split], row)})


@pytest.mark.parametrize("kind", KINDS)
def test_what_a_file_holds_is_taken(kind: Kind) -> None:
    task = toy_task(kind)
    assert open_task(task) is task


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("kind", KINDS)
def test_a_row_without_a_label_is_named(kind: Kind, split: str) -> None:
    task = toy_task(kind)
    number = len(task.splits[split])
    unlabelled = with_row(task, split, replace(task.splits[split][0], label=None))
    with pytest.raises(TaskError, match=rf"^{task.name}, {split}, row {number}: the row has no label; give it one"):
        open_task(unlabelled)


@pytest.mark.parametrize(
    ("kind", "changes", "message"),
    [
        ("classification", {"label": "positiv"}, "unknown label 'positiv'; did you mean 'positive'?"),
        ("multilabel", {"label": ("negative", "other")}, "unknown label 'other'; "),
        ("choice", {"label": "none of these"}, "'none of these' is none of its choices; give the right one's text"),
        ("choice", {"choices": ("great",), "label": "great"}, "there is nothing to choose from; give two choices"),
    ],
)
def test_a_label_that_is_none_of_the_tasks_is_named(kind: Kind, changes: dict[str, object], message: str) -> None:
    task = toy_task(kind)
    wrong = with_row(task, "test", replace(task.test[0], **changes))  # type: ignore[arg-type]
    with pytest.raises(TaskError) as caught:
        open_task(wrong)
    assert f"row {len(task.test)}: {message}" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", ["classification", "pair", "multilabel", "choice", "tagging"])
def test_texts_alone_are_a_task_and_nothing_to_fit_to(kind: Kind, tmp_path: Path) -> None:
    backbone, task = load_backbone(masked_model(tmp_path)), toy_task(kind)
    texts = {split: tuple(replace(row, label=None) for row in rows) for split, rows in task.splits.items()}
    bare = task.replace(splits=texts)
    assert open_task(bare) is bare
    for verb in (pg.tune, partial(pg.transfer, bank=open_bank(tmp_path / "bank", create=True))):
        with pytest.raises(PromptgraftError, match="label"):
            verb(bare, backbone)  # type: ignore[operator]


def test_the_verbs_say_so(tmp_path: Path) -> None:
    backbone = load_backbone(masked_model(tmp_path))
    wrong = with_row(toy_task(), "train", Example(text="a text"))
    banked = (partial(verb, bank="starter") for verb in (pg.rank, pg.transfer))
    verbs: tuple[Callable[..., object], ...] = (*banked, pg.tune, pg.compare, pg.search)
    for verb in verbs:
        with pytest.raises(TaskError, match="the row has no label"):
            verb(wrong, backbone)
