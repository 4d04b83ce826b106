"""`record` finds out how a bank's prompts serve tasks of which no label is known, and keeps that with the bank."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from promptgraft.api.checking import check_given
from promptgraft.api.opening import LOG, as_bank, open_model, open_task
from promptgraft.arguments import checked
from promptgraft.bank.bank import Bank
from promptgraft.bank.record import Record
from promptgraft.engine.rank import banked
from promptgraft.engine.record import make_record
from promptgraft.engine.share import Shared
from promptgraft.errors import BankError, RunError, UsageError
from promptgraft.model.backbone import Backbone
from promptgraft.model.device import DeviceName
from promptgraft.task.frames import TaskData
from promptgraft.task.task import Task

MAX_LENGTH = 128


@checked
def record(
    bank: Bank | str | Path,
    model: Backbone | str | Path,
    tasks: Sequence[Task | TaskData],
    *,
    max_length: int = MAX_LENGTH,
    device: DeviceName = "auto",
) -> Record:
    """Measure how much better texts are classified without labels under each prompt of a bank, and record it there.

    Figures for other tasks are kept; a task that is measured again replaces its old figure. `transfer` without labels
    uses the prompts that helped other tasks most; with labels, graft uses the record as a prior.

    Args:
        tasks: labelled classification tasks; a prompt is not measured on the data that it was tuned on.
        max_length: maximum number of tokens of a text; longer ones are cut.
    Raises:
        BankError: the bank has no prompt of the model, or cannot be written.
        ArtefactError: the existing record is damaged.
        RunError: a task of another kind, or without labelled rows; or every prompt was tuned on these tasks.
    """
    check_given(model, recipe={"max_length": max_length}, bank=bank, device=device)
    if not tasks:
        raise UsageError("no task was given", do="give one or more labelled tasks")
    opened_bank = as_bank(bank)
    opened_bank.check_writable()
    opened_bank.record()  # a damaged one is found before the work
    backbone = open_model(model, device=device)
    sources, left_out = banked(opened_bank, backbone)
    if not sources:
        raise BankError(f"has no prompt of {backbone.name}", where=opened_bank.folder, do="tune one with --bank")
    shared = Shared(backbone)
    fresh = make_record(shared, sources, [open_task(task) for task in tasks], max_length)
    if not fresh.prompts:
        what = "every prompt was tuned on the data of these tasks, on which it does not count"
        raise RunError(what, where=opened_bank.folder, do="give tasks of other data")
    kept = opened_bank.keep_record(fresh)
    for note in (*left_out, *shared.notes()):
        LOG.warning("%s", note)
    return kept
