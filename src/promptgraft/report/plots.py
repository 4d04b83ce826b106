"""Draws the pictures of a comparison: scores, scores against time, paired differences."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from promptgraft.engine.interval import wilson
from promptgraft.engine.reliability import BINS
from promptgraft.report import words
from promptgraft.report.place import beside_points
from promptgraft.report.rows import bins, group, on_test, tested, tests
from promptgraft.report.svg import COLOURS, STYLE, inline
from promptgraft.study.compare import BASELINE, Comparison, Row
from promptgraft.study.judge import Mean
from promptgraft.untrusted import visible

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH = 5.6
ROW_HEIGHT = 0.26
AROUND = 0.75
"""Inches of a figure's width, of a row's height, and of what surrounds the rows."""

MARKS = {"scratch": "o", "source": "D", "panda": "s", "placebo": "X"}
"""Groups differ by shape as well as by colour."""

SEED_MARKS = "ov^<>PX*"


@dataclass(frozen=True)
class Plot:
    """A picture with its heading and what to read from it."""

    title: str
    svg: str
    caption: str


def draw(comparison: Comparison) -> list[Plot]:
    """All pictures for which the comparison has values."""
    import matplotlib

    rows = tuple(replace(row, label=visible(row.label)) for row in comparison.rows)
    comparison = replace(comparison, rows=rows, best=visible(comparison.best))
    with matplotlib.rc_context(STYLE):
        plots = [_scores(comparison), _cost(comparison)] if tested(comparison) else []
        if any(row.gain is not None for row in comparison.rows):
            plots.append(_gains(comparison))
        chosen = next((row for row in comparison.rows if row.label == comparison.best), comparison.rows[0])
        if bins(chosen):
            plots.append(_reliability(chosen))
    return plots


def _scores(comparison: Comparison) -> Plot:
    """The picture of every method's mean, interval and seeds, best on top, with a line at the baseline."""
    rows = sorted(comparison.rows, key=lambda row: on_test(row).value)
    figure, axes = _listing([row.label for row in rows], comparison.best)
    tips = {}
    for place, row in enumerate(rows):
        values = tests(row).values()
        axes.plot(list(values), [place] * len(values), "o", color=_colour(row), markersize=2.6, zorder=3)
        tips[_mean_mark(axes, place, row, on_test(row), f"row{place}")] = (
            f"{row.label}: {words.with_interval(on_test(row))}"
        )
    base = next((row for row in rows if row.label == BASELINE), None)
    if base is not None:
        axes.axvline(on_test(base).value, color=COLOURS["scratch"], linewidth=1, linestyle=(0, (4, 3)), zorder=1)
    cut = _limit(axes, [on_test(row) for row in rows], [value for row in rows for value in tests(row).values()])
    axes.set_xlabel(f"{rows[0].results[0].metric} on test, percent")
    line = f" The dashed line is {BASELINE}." if base is not None else ""
    return Plot(
        "Scores on test",
        inline(figure, "scores", "Scores on test of every method", tips),
        f"{_what_marks_are(rows)}{line}{_cut_words(cut)}",
    )


def _cost(comparison: Comparison) -> Plot:
    """The picture of scores against time, on a logarithmic axis."""
    from matplotlib.ticker import FuncFormatter, NullFormatter

    figure = _figure(WIDTH, 3.6)
    axes = figure.add_subplot()
    times = {row.label: max(row.seconds, 0.01) for row in comparison.rows}
    tips = {}
    for place, row in enumerate(sorted(comparison.rows, key=lambda row: group(row) != "placebo")):
        (mark,) = axes.plot(times[row.label], on_test(row).value, **_mark(row, size=8))
        mark.set_gid(f"row{place}")
        tips[f"row{place}"] = f"{row.label}: {words.score(on_test(row))} in {words.duration(row.seconds)}"
    axes.set_xscale("log")
    axes.set_xlim(*_decades(times.values()))
    axes.margins(y=0.12)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda seconds, _: f"{seconds:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel("seconds a run: set-up, training, validation")
    axes.set_ylabel(f"{comparison.rows[0].results[0].metric} on test, percent")
    axes.grid(alpha=0.6)
    named_rows = _rows_to_name(comparison)
    points = [(times[row.label], on_test(row).value) for row in comparison.rows]
    beside_points(
        axes, {row.label: (times[row.label], on_test(row).value) for row in named_rows}, points, comparison.best
    )
    return Plot(
        "Score against time",
        inline(figure, "cost", "Score on test against seconds of every method", tips),
        "Up and to the left is better. Named: what nothing quicker beats, the chosen row, the baselines.",
    )


def _gains(comparison: Comparison) -> Plot:
    """The picture of paired differences to the baseline, seed by seed."""
    gains = [(row, row.gain) for row in comparison.rows if row.gain is not None]
    gains.sort(key=lambda pair: pair[1].value)
    base = tests(next(row for row in comparison.rows if row.label == BASELINE))
    figure, axes = _listing([row.label for row, _ in gains], comparison.best)
    axes.axvline(0, color=COLOURS["muted"], linewidth=1, zorder=1)
    tips, differences, marks = {}, [], _seed_marks(sorted(base))
    for place, (row, gain) in enumerate(gains):
        for seed, value in tests(row).items():
            if seed not in base:
                continue
            differences.append(value - base[seed])
            axes.plot(value - base[seed], place, marks[seed], color=_colour(row), markersize=4, zorder=3)
        tips[_mean_mark(axes, place, row, gain, f"row{place}")] = f"{row.label}: {words.difference_with_interval(gain)}"
    cut = _limit(axes, [gain for _, gain in gains], differences)
    axes.set_xlabel(f"points to {BASELINE}")
    _seed_key(figure, marks)
    return Plot(
        "Differences seed by seed",
        inline(figure, "gains", "Paired differences to the baseline by seed", tips),
        f"Right of the line: better than {BASELINE} on the same rows. "
        f"{_what_marks_are(comparison.rows)}{_cut_words(cut)}",
    )


def _reliability(row: Row) -> Plot:
    """The picture of how often answers are right at each probability, with how many rows have it below."""
    parts = bins(row)
    total = sum(part.rows for part in parts)
    figure = _figure(WIDTH, 4.2)
    axes, counts = figure.subplots(2, 1, sharex=True, height_ratios=(4, 1))
    axes.plot([0, 100], [0, 100], color=COLOURS["muted"], linewidth=1, linestyle=(0, (4, 3)), zorder=1)
    tips = {}
    for place, part in enumerate(parts):
        sure, right = 100 * part.confidence, 100 * part.accuracy
        count = max(part.rows // len(row.results), 1)  # the seeds' answers are to the same rows
        low, high = wilson(round(part.accuracy * count), count)
        axes.plot([sure, sure], [low, high], color=_colour(row), linewidth=7, alpha=0.28, solid_capstyle="butt")
        (mark,) = axes.plot(sure, right, **_mark(row, size=7.5))
        mark.set_gid(f"bin{place}")
        rows = words.count(part.rows, "answer")
        tips[f"bin{place}"] = f"probability {sure:.0f} %: {right:.0f} % of {rows} right"
        counts.bar(
            100 * (int(part.confidence * BINS) + 0.5) / BINS,
            100 * part.rows / total,
            width=80 / BINS,
            color=_colour(row),
        )
    axes.set_xlim(math.floor(100 * parts[0].confidence / 10) * 10 - 2, 102)
    axes.set_ylim(-2, 102)
    axes.set_ylabel("right answers, percent")
    counts.set_ylabel("rows, %")
    counts.set_xlabel("probability of the answer, percent")
    for panel in (axes, counts):
        panel.grid(alpha=0.6)
        panel.set_axisbelow(True)
    error = words.with_interval(row.ece)
    return Plot(
        f"Reliability of {row.label}",
        inline(figure, "reliability", f"Share of right answers by their probability, {row.label}", tips),
        f"On the line, answers are right as often as their probability says; below it the model is too sure. Bars: "
        f"95 % intervals over the rows of one seed. Expected calibration error: {error} points.",
    )


def _figure(width: float, height: float) -> Figure:
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def _listing(labels: Sequence[str], best: str) -> tuple[Figure, Axes]:
    """A figure with one line for each method, and the chosen method's name in bold."""
    from matplotlib.ticker import MaxNLocator

    figure = _figure(WIDTH, AROUND + ROW_HEIGHT * len(labels))
    axes = figure.add_subplot()
    axes.set_yticks(range(len(labels)), labels)
    for name, tick in zip(labels, axes.get_yticklabels(), strict=True):
        tick.set_color(COLOURS["ink"])
        if name == best:
            tick.set_fontweight("bold")
    axes.set_ylim(-0.7, len(labels) - 0.3)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="both", alpha=0.6)
    axes.set_axisbelow(True)
    axes.xaxis.set_major_locator(MaxNLocator(8, integer=True))
    return figure, axes


def _mean_mark(axes: Axes, place: int, row: Row, mean: Mean, gid: str) -> str:
    """Draw a mean with its interval, and return the gid of its mark."""
    if mean.low is not None and mean.high is not None:
        ends = [mean.low, mean.high]
        axes.plot(ends, [place] * 2, "-", color=_colour(row), linewidth=7, alpha=0.28, solid_capstyle="butt", zorder=2)
    (mark,) = axes.plot(mean.value, place, **_mark(row, size=7.5))
    mark.set_gid(gid)
    return gid


def _mark(row: Row, size: float) -> dict[str, Any]:
    return {
        "marker": MARKS[group(row)],
        "color": _colour(row),
        "markeredgecolor": COLOURS["card"],
        "markersize": size,
        "linestyle": "none",
        "zorder": 4,
    }


def _colour(row: Row) -> str:
    return COLOURS[group(row)]


def _limit(axes: Axes, means: Sequence[Mean], values: Sequence[float]) -> bool:
    """Limit the axis to all values and as much of the intervals as leaves them readable; True where any is cut."""
    low, high = min(values), max(values)
    room = max(high - low, 1.0) * 0.5
    least = min(mean.value if mean.low is None else mean.low for mean in means)
    most = max(mean.value if mean.high is None else mean.high for mean in means)
    left, right = min(low, max(least, low - room)), max(high, min(most, high + room))
    pad = max((right - left) * 0.03, 0.6)
    axes.set_xlim(left - pad, right + pad)
    return least < left - pad or most > right + pad


def _decades(times: Iterable[float]) -> tuple[float, float]:
    """The whole decades that enclose all times, so that the axis always has labelled ticks."""
    logs = [math.log10(time) for time in times]
    return 10 ** math.floor(min(logs) - 0.1), 10 ** math.ceil(max(logs) + 0.1)


def _rows_to_name(comparison: Comparison) -> list[Row]:
    """The rows that get a name beside their point."""
    front, best = [], -math.inf
    for row in sorted(comparison.rows, key=lambda row: (row.seconds, -on_test(row).value)):
        if on_test(row).value > best:
            front.append(row)
            best = on_test(row).value
    labels = {comparison.best, BASELINE, "linear-probe", "model-tuning", *(row.label for row in front)}
    return [row for row in comparison.rows if row.label in labels]


def _seed_marks(seeds: Sequence[int]) -> dict[int, str]:
    """The mark of each seed; one mark for all where there are more seeds than shapes one can tell apart."""
    shapes = SEED_MARKS if len(seeds) <= len(SEED_MARKS) else "o" * len(seeds)
    return dict(zip(seeds, shapes, strict=False))


def _seed_key(figure: Figure, marks: dict[int, str]) -> None:
    """Draw the key that tells which mark is which seed, above the picture."""
    from matplotlib.lines import Line2D

    if len(set(marks.values())) < 2:
        return
    keys = [Line2D([], [], color=COLOURS["muted"], marker=mark, linestyle="none") for mark in marks.values()]
    figure.legend(
        keys,
        [f"seed {seed}" for seed in marks],
        loc="outside upper right",
        ncols=min(len(marks), 5),
        frameon=False,
        fontsize=9,
        markerscale=0.75,
        handletextpad=0.1,
        columnspacing=1.0,
    )


def _what_marks_are(rows: Sequence[Row]) -> str:
    if max(on_test(row).count for row in rows) == 1:
        return "One seed: a mark is its score, and there are no intervals."
    return "Large mark and bar: mean and 95 % interval; small marks: seeds."


def _cut_words(cut: bool) -> str:
    return " Bars that touch the edge go on outside the picture." if cut else ""
