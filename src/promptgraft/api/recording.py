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

    `transfer` without labels reads texts under the prompts that have helped other tasks most.

    Args:
        tasks: labelled classification tasks; what a prompt does on the task it was tuned on does not count.
        max_length: tokens a text; longer ones are cut.
    Raises:
        BankError: it has no prompt of the model, or cannot be written.
        RunError: a task of another kind, or without labelled rows.
    """
    opened_bank, backbone = as_bank(bank), open_model(model, device=device)
    sources, left_out = banked(opened_bank, backbone)
    shared = Shared(backbone)
    fresh = make_record(shared, sources, [open_task(task) for task in tasks], max_length)
    others = {name: service for name, service in opened_bank.record().prompts.items() if name not in fresh.prompts}
    kept = Record(prompts={**others, **fresh.prompts})
    opened_bank.keep_record(kept)
    log_notes([*left_out, *(f"{name}: {count} inputs were cut" for name, count in sorted(shared.cut.items()))])
    return kept
