"""A progress bar is shown in notebooks while a verb works."""

from __future__ import annotations

import sys
import time
from html import escape
from typing import Any

from promptgraft.engine.progress import Event, Progress
from promptgraft.untrusted import visible

EVERY = 0.2  # seconds between two updates, but for the last


def notebook_progress() -> Progress | None:
    """A new progress bar if the caller is a notebook, else None."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return Bar() if type(shell).__name__ == "ZMQInteractiveShell" else None


class Bar:
    """A progress bar that shows the latest event in place of the one before."""

    def __init__(self) -> None:
        self._display: Any = None
        self._next = 0.0

    def __call__(self, event: Event) -> None:
        now = time.monotonic()
        if now < self._next and event.done < event.jobs:
            return
        self._next = now + EVERY
        from IPython.display import HTML, display

        shown = HTML(bar(event))
        if self._display is None:
            self._display = display(shown, display_id=True)
        else:
            self._display.update(shown)


def bar(event: Event) -> str:
    """Render an event as HTML."""
    share = event.share or (event.done / event.jobs if event.jobs else 0.0)
    step = f", step {event.step} of {event.steps}" if event.step < event.steps else ""
    words = f"{event.done} of {event.jobs} {event.unit}" + (f": {event.label}{step}" if event.done < event.jobs else "")
    return f'<progress value="{share:.3f}" max="1"></progress> {escape(visible(words))}'
