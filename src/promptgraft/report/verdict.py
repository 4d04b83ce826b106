"""What a comparison says, in plain sentences."""

from __future__ import annotations

from promptgraft.report import words
from promptgraft.report.rows import AgainstPlacebo, against, against_placebos, find, group, missing
from promptgraft.study.compare import BASELINE, Comparison, Row
from promptgraft.study.judge import Mean

PROBE = "linear-probe"
NAMES = {BASELINE: "prompt tuning from scratch", PROBE: "the linear probe"}


def verdict(comparison: Comparison) -> list[str]:
    """What won by validation, by how much on test, and whether that is within noise."""
    best = find(comparison, comparison.best)
    if best is None:
        return ["No method has a score on validation, so none is chosen."]
    metric = best.results[0].metric
    said = [
        f"Validation chooses {best.label}: {words.score(best.validation)} there, the highest mean of "
        f"{words.count(len(comparison.rows), 'method')} ({words.count(best.test.count, 'seed')}).",
        f"On test it scores {words.with_interval(best.test)} {metric}.",
    ]
    if missing(best):
        said.append(f"It is a placebo ({missing(best)}): what it gained is not owed to a source.")
    said += [_to(comparison, best, label) for label in NAMES if label != best.label]
    said += _higher_on_test(comparison, best)
    return said


def noise(gain: Mean) -> str:
    """Whether a paired difference is more than the seeds' noise, as the end of a sentence."""
    if gain.low is None or gain.high is None:
        return "one seed gives no interval, so whether that is more than noise cannot be said"
    if gain.low > 0 or gain.high < 0:
        return "clear of noise: the interval does not hold 0"
    return "within noise: the interval holds 0"


def placebos(comparison: Comparison) -> str:
    """Whether PANDA beat its own placebos here; empty where it was not run beside one."""
    pairs = [pair for pair in against_placebos(comparison) if pair.gain is not None]
    if not pairs:
        return ""
    if all(pair.gain is not None and pair.gain.low is None for pair in pairs):
        above = sum(pair.gain is not None and pair.gain.value > 0 for pair in pairs)
        return (
            f"PANDA is above {above} of its {words.count(len(pairs), 'placebo')}; one seed cannot say whether that "
            "is more than noise."
        )
    clear = [pair for pair in pairs if _clear(pair, above=True)]
    worse = [pair for pair in pairs if _clear(pair, above=False)]
    end = f"; it is below {_placebo_names(worse)} clear of noise" if worse else ""
    if not clear:
        return (
            f"PANDA does not beat its own placebos here: not one of {words.count(len(pairs), 'difference')} is above 0 "
            f"clear of noise{end}. What the teacher knows of the source is not what moves the score."
        )
    if len(clear) == len(pairs):
        return (
            f"PANDA beats its own placebos here: all of {words.count(len(pairs), 'difference')} are above 0, clear of "
            "noise. What the teacher knows of the source does move the score."
        )
    return (
        f"PANDA beats some of its own placebos here: {_placebo_names(clear)}, but not the rest, clear of noise{end}. "
        "A claim for what the teacher knows of the source needs all of them."
    )


def intervals(comparison: Comparison) -> str:
    """What the intervals are, and what they do not cover."""
    rows = comparison.rows[0].results[0].rows.get("test", 0)
    on = (
        f"All scores are on the same {words.count(rows, 'test row')}"
        if rows
        else "All scores are on the same test rows"
    )
    count = max(row.test.count for row in comparison.rows)
    if count == 1:
        return f"One seed: no intervals. {on}."
    compared = sum(row.gain is not None for row in comparison.rows)
    chance = (
        f" Of {compared} intervals at 95 %, about {compared * 0.05:.1f} miss their true value by chance alone."
        if compared > 1
        else ""
    )
    return (
        f"Intervals: 95 %, Student's t over {count} seeds. A seed draws the training rows and starts the run. {on}, "
        f"so that the draw of the test rows is not in them.{chance}"
    )


def _to(comparison: Comparison, best: Row, label: str) -> str:
    """How far the chosen row is from another on test."""
    name, other = NAMES[label], find(comparison, label)
    if other is None:
        reason = comparison.skipped.get(label)
        return f"There is no difference to {name}: it was not run{f' ({reason})' if reason else ''}."
    gain = against(best, other)
    if gain is None:
        return f"There is no difference to {name}: it was run on other seeds."
    side = "above" if gain.value > 0 else "below"
    between = words.difference_interval(gain)
    return (
        f"That is {abs(gain.value):.1f} points {side} {name}{f' ({between})' if between else ''}, {noise(gain)}."
        if round(gain.value, 1) != 0
        else f"That equals {name}{f' ({between})' if between else ''}, {noise(gain)}."
    )


def _higher_on_test(comparison: Comparison, best: Row) -> list[str]:
    """The row a look at test would have chosen."""
    top = max(comparison.rows, key=lambda row: row.test.value)
    if top.test.value <= best.test.value:
        return []
    kind = " (a placebo)" if group(top) == "placebo" else ""
    return [
        f"{top.label}{kind} scores higher on test, {words.with_interval(top.test)}; test is not what one chooses by."
    ]


def _clear(pair: AgainstPlacebo, *, above: bool) -> bool:
    gain = pair.gain
    if gain is None or gain.low is None or gain.high is None:
        return False
    return gain.low > 0 if above else gain.high < 0


def _placebo_names(pairs: list[AgainstPlacebo]) -> str:
    return words.listed([pair.placebo.label for pair in pairs])
