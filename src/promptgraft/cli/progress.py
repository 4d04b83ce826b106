"""Shows how far long work is and when it should end: bars on a terminal, elsewhere a line every ten seconds.

The work sends an event whenever it has moved. A thread beside it repeats what runs now and for how long, so that a long
step is never silent.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.text import Text

from promptgraft.cli.say import Say
from promptgraft.untrusted import visible

if TYPE_CHECKING:
    from promptgraft.engine.progress import Event

FIRST, EVERY = 2.0, 10.0  # seconds until the first line, and between two
BEAT = 0.5
FOUNDED = 0.05  # of the cost of all work: less says nothing of the pace
LONG = 10.0  # seconds after which it is said how long something has run
ProgressCallback = Callable[["Event"], None]


class Display(Protocol):
    """Shows progress, as bars or as lines."""

    def tell(self, event: Event) -> None:
        """Take in an event of the work."""
        ...

    def beat(self) -> None:
        """Refresh what is shown, since time has passed."""
        ...


@contextmanager
def progress(say: Say, first: str = "reading task and model") -> Iterator[ProgressCallback | None]:
    """A context with the callback to give the engine as its `progress`; None with `--quiet`.

    Args:
        first: what is done before anything is told.
    """
    if say.quiet:
        yield None
    elif say.err.is_terminal:
        with bars(say) as display, above(say), beating(Bars(display, Pace(first))) as callback:
            yield callback
    else:
        with beating(ProgressLines(say, Pace(first))) as callback:
            yield callback


@contextmanager
def above(say: Say) -> Iterator[None]:
    """A context in which results are printed above bars on the same terminal; else the bars would overwrite them."""
    out = say.out
    try:
        shares = os.path.sameopenfile(out.file.fileno(), say.err.file.fileno())
    except OSError:  # a stream that is no file
        shares = False
    say.out = say.err if shares else out
    try:
        yield
    finally:
        say.out = out


@contextmanager
def beating(display: Display) -> Iterator[ProgressCallback]:
    """A context with a display's callback, which refreshes the display regularly until the work ends or is stopped."""
    ended = threading.Event()

    def beat() -> None:
        while not ended.wait(BEAT):
            display.beat()

    thread = threading.Thread(target=beat, name="progress", daemon=True)
    thread.start()
    try:
        yield display.tell
    finally:
        ended.set()
        thread.join(timeout=1.0)


class Pace:
    """Follows the work: where it is, since when, and when it should end.

    Args:
        first: what is done before anything is told.
        clock: seconds that only grow.
    """

    def __init__(self, first: str, clock: Callable[[], float] = time.monotonic) -> None:
        self.first, self.clock = first, clock
        self.event: Event | None = None
        self.started = self._began = self._moved = self._named = clock()
        self._done_before = 0.0

    def tell(self, event: Event) -> None:
        """Take in an event of the work; a new kind of pieces starts a pace of its own."""
        now, before = self.clock(), self.event
        if before is None or (before.unit, before.jobs) != (event.unit, event.jobs) or event.done < before.done:
            self._began, self._done_before = now, event.share
        elif event.steps and not before.steps:
            self._done_before += event.share - before.share  # steps that an earlier call had done
        if before is None or event.label != before.label:
            self._named = now
        self.event, self._moved = event, now

    @property
    def passed(self) -> float:
        """Seconds since the command began."""
        return self.clock() - self.started

    @property
    def now(self) -> str:
        """The name of what runs now, and for how long if it has run long."""
        if self.event is None:
            return lasting(self.first, self.passed)
        event = self.event
        step = f"step {event.step} of {event.steps} of " if event.step < event.steps else ""
        return lasting(step + event.label, self.clock() - self._named)

    @property
    def left(self) -> str:
        """The time left at the pace so far; empty where too little is done, or what runs now is overdue."""
        if self.event is None or (done := self.event.share - self._done_before) < FOUNDED or self.event.share >= 1:
            return ""
        total, silent = (self._moved - self._began) / done, self.clock() - self._moved
        runs_on = total * (self.event.behind + self.event.running - self.event.share)
        seconds = total * (1 - self.event.share) - silent
        if seconds <= 0 or silent > runs_on + LONG:
            return ""
        return f"about {seconds:.0f} s left" if seconds < 100 else f"about {seconds / 60:.0f} min left"


def lasting(what: str, seconds: float) -> str:
    """The name of what runs, and for how long if it has run long."""
    return f"{what} for {seconds:.0f} s" if what and seconds >= LONG else what


def bars(say: Say) -> Progress:
    """The bars on a terminal, which vanish when the work is done."""
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[count]}"), TimeElapsedColumn())
    return Progress(*columns, TextColumn("{task.fields[aside]}"), console=say.err, transient=True)


class Bars:
    """Shows progress as two bars: one for all jobs, and one for what runs now."""

    def __init__(self, display: Progress, pace: Pace) -> None:
        self.display, self.pace = display, pace
        self.rows: dict[str, TaskID] = {}
        self._one_at_a_time = threading.Lock()
        self.beat()

    def tell(self, event: Event) -> None:
        self.pace.tell(event)
        self.beat()

    def beat(self) -> None:
        with self._one_at_a_time:
            event = self.pace.event
            if event is None:
                self._set("now", self.pace.now, 0, None, "")
                return
            self._set("all", event.unit, event.done, event.jobs, self.pace.left)
            loss = f"loss {event.loss:.3f}" if event.steps and event.loss else ""
            self._set("now", self.pace.now, event.step, event.steps or None, loss)

    def _set(self, row: str, name: str, done: int, total: int | None, aside: str) -> None:
        if row not in self.rows:
            self.rows[row] = self.display.add_task("", total=total, aside=aside, count="")
        count = "" if total is None else f"{done}/{total}"
        self.display.update(
            self.rows[row], description=escape(visible(name)), completed=done, total=total, aside=aside, count=count
        )


class ProgressLines:
    """Shows progress as a line every ten seconds, and no more often."""

    def __init__(self, say: Say, pace: Pace) -> None:
        self.say, self.pace = say, pace
        self._next = pace.clock() + FIRST
        self._one_at_a_time = threading.Lock()

    def tell(self, event: Event) -> None:
        self.pace.tell(event)
        self.beat()

    def beat(self) -> None:
        with self._one_at_a_time:
            if self.pace.clock() < self._next:
                return
            self._next = self.pace.clock() + EVERY
            event = self.pace.event
            done = "" if event is None else f"{event.done} of {event.jobs} {event.unit}"
            facts = ", ".join(filter(None, (done, f"{self.pace.passed:.0f} s", self.pace.left)))
            line = f"{facts}: {self.pace.now}" if self.pace.now else facts
            self.say.err.print(Text(visible(line)), soft_wrap=True)
