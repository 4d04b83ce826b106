"""`record` finds out how a bank's prompts serve tasks of which no label is known, and keeps that with the bank."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from promptgraft.api.opening import as_bank, log_notes, open_model, open_task
from promptgraft.bank.bank import Bank
from promptgraft.bank.record import Record
from promptgraft.engine.rank import banked
from promptgraft.engine.record import make_record
from promptgraft.engine.share import Shared
from promptgraft.errors import BankError, RunError
from promptgraft.model.backbone import Backbone
from promptgraft.model.device import DeviceName
from promptgraft.task.task import Task

MAX_LENGTH = 128


def record(
    bank: Bank | str | Path,
    model: Backbone | str | Path,
    tasks: Sequence[Task | str | Path],
    *,
    max_length: int = MAX_LENGTH,
    device: DeviceName = "auto",
) -> Record:
    """Find out how much better texts are told apart under each prompt of a bank, and keep it beside the prompts.

    What was known of a prompt from other tasks stays; of a task that comes again the new figure counts.

    `transfer` without labels reads texts under the prompts that have helped other tasks most.

    Args:
        tasks: labelled classification tasks; what a prompt does on the task it was tuned on does not count.
        max_length: tokens a text; longer ones are cut.
    Raises:
        BankError: it has no prompt of the model, or cannot be written.
        ArtefactError: the record that it has is damaged.
        RunError: a task of another kind, or without labelled rows; or every prompt was tuned on these tasks.
    """
    opened_bank = as_bank(bank)
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
    log_notes([*left_out, *(f"{name}: {count} inputs were cut" for name, count in sorted(shared.cut.items()))])
    return kept
