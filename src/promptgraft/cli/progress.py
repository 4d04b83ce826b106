"""How far long work is and how long it will still take: bars on a terminal, elsewhere a line every ten seconds."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.text import Text

from promptgraft.cli.say import Say

if TYPE_CHECKING:
    from promptgraft.engine.local import Event

FIRST, EVERY = 2.0, 10.0  # seconds until the first line, and between two
Told = Callable[["Event"], None]


@contextmanager
def progress(say: Say) -> Iterator[Told | None]:
    """What to hand to the engine as its `progress`; None with `--quiet`."""
    if say.quiet:
        yield None
    elif say.err.is_terminal:
        with bars(say) as shown:
            yield Bars(shown).tell
    else:
        yield Lines(say).tell


def bars(say: Say) -> Progress:
    """Two bars that vanish when the work is done."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    return Progress(*columns, TextColumn("{task.fields[left]}"), console=say.err, transient=True)


class Bars:
    """A bar of jobs, and one of the steps of those in training."""

    def __init__(self, shown: Progress) -> None:
        self.shown = shown
        self.began = time.monotonic()
        self.rows: dict[str, TaskID] = {}

    def tell(self, event: Event) -> None:
        self._set("jobs", "jobs", event.done, event.jobs, left(event, self.began))
        if event.steps:
            self._set("steps", event.label, event.step, event.steps, f"loss {event.loss:.3f}")

    def _set(self, row: str, name: str, done: int, total: int, text: str) -> None:
        if row not in self.rows:
            self.rows[row] = self.shown.add_task(name, total=total, left=text)
        self.shown.update(self.rows[row], description=name, completed=done, total=total, left=text)


class Lines:
    """A line every ten seconds."""

    def __init__(self, say: Say) -> None:
        self.say = say
        self.began = time.monotonic()
        self.next = self.began + FIRST

    def tell(self, event: Event) -> None:
        now = time.monotonic()
        if now < self.next:
            return
        self.next = now + EVERY
        training = f", step {event.step} of {event.steps} of {event.label}" if event.steps else ""
        jobs = f"{event.done} of {event.jobs} jobs{training}"
        self.say.err.print(Text(f"{jobs}, {now - self.began:.0f} s, {left(event, self.began)}"), soft_wrap=True)


def left(event: Event, began: float) -> str:
    """Time to the end at the pace so far."""
    training = event.together * event.step / event.steps if event.steps else 0.0
    share = (event.done + training) / max(1, event.jobs)
    if share <= 0 or share >= 1:
        return ""
    seconds = (time.monotonic() - began) * (1 - share) / share
    return f"about {seconds:.0f} s left" if seconds < 100 else f"about {seconds / 60:.0f} min left"
