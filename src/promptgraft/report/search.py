"""Writes the page of a search: what each algorithm found, score against passes, the words along the way."""

from __future__ import annotations

from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING

from promptgraft.prompt.atomic import write_text
from promptgraft.report import words
from promptgraft.report.pages import render
from promptgraft.report.plots import Plot
from promptgraft.report.svg import COLOURS, STYLE, inline
from promptgraft.searches.all import PLACEBOS
from promptgraft.searches.outcome import SearchOutcome
from promptgraft.searches.run import FoundPrompt
from promptgraft.untrusted import visible

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PAGE = "search.html"
WIDTH, HEIGHT = 5.6, 3.6
LINES = ("scratch", "source", "panda", "chosen", "ink")
"""Colours of algorithms in turn; placebos are grey."""
DASHES = ("solid", "dashed", "dashdot", "dotted")


def write(outcome: SearchOutcome, folder: Path, command: str | None = None) -> Path:
    """Write the page of a search, whole or not at all.

    Args:
        command: what was typed to get here.
    Raises:
        OSError: as from writing.
    """
    path = folder / PAGE
    write_text(path, page(outcome, command))
    return path


def page(outcome: SearchOutcome, command: str | None = None) -> str:
    """The text of search.html: everything in one file, no scripts, nothing loaded from elsewhere."""
    return render(
        "search.html",
        outcome=outcome,
        title=f"Prompts found for {outcome.task.name}",
        best=outcome.best,
        placebos=PLACEBOS,
        plot=curves(outcome),
        words=words,
        command=command,
    )


def curves(outcome: SearchOutcome) -> Plot:
    """The picture of the best candidates' scores on the search rows against passes."""
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, HEIGHT), layout="constrained")
        tips = _draw(figure, outcome)
        svg = inline(figure, "curves", "Score of the best candidate on the search rows against passes", tips)
    return Plot(
        "Score against passes",
        svg,
        "Of the best candidate so far, on the search rows; the mark at the end is its score on the report rows, which "
        "nothing looked at before. What lies between the two was luck.",
    )


def _draw(figure: Figure, outcome: SearchOutcome) -> dict[str, str]:
    """Draw a step line and a mark for each algorithm; what is shown over each."""
    axes = figure.add_subplot()
    colours, tips = cycle(LINES), {}
    for place, entry in enumerate(outcome.found):
        is_placebo = entry.algorithm in PLACEBOS
        colour = COLOURS["placebo"] if is_placebo else COLOURS[next(colours)]
        passes, scores = _steps(entry)
        (line,) = axes.step(
            passes, scores, where="post", color=colour, linestyle=DASHES[place % len(DASHES)], label=entry.algorithm
        )
        (mark,) = axes.plot(passes[-1], entry.report.score, "o", color=colour, markersize=6)
        line.set_gid(f"line{place}")
        mark.set_gid(f"mark{place}")
        tips[f"line{place}"] = f"{entry.algorithm}: on the search rows"
        tips[f"mark{place}"] = visible(f"{entry.algorithm}: {entry.report.score:.1f} on the report rows")
    axes.set_xlabel("passes")
    axes.set_ylabel("percent")
    axes.grid(alpha=0.6)
    axes.legend(frameon=False, fontsize=8, ncols=2)
    return tips


def _steps(entry: FoundPrompt) -> tuple[list[int], list[float]]:
    """Passes and scores of the best candidates, up to the end of the search."""
    passes = [point.passes for point in entry.curve]
    scores = [point.score for point in entry.curve]
    return [*passes, max(entry.passes, passes[-1])], [*scores, scores[-1]]
