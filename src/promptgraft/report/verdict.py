"""States the results of a comparison in plain sentences."""

from __future__ import annotations

from collections.abc import Mapping

from promptgraft.report import words
from promptgraft.report.rows import against, against_placebos, find, group, missing, seed_count
from promptgraft.study.compare import BASELINE, Comparison, Row
from promptgraft.study.judge import Mean

PROBE = "linear-probe"
NAMES = {BASELINE: "prompt tuning from scratch", PROBE: "the linear probe"}


def verdict(comparison: Comparison) -> list[str]:
    """Sentences on what validation chose, its difference on test, and whether that is within noise."""
    best = find(comparison, comparison.best)
    if best is None:
        return ["No method has a score on validation, so none is chosen."]
    metric, count = best.results[0].metric, len(best.results)
    judged = [row for row in comparison.rows if row.validation is not None]
    sentences = [
        f"Validation chooses {best.label}: {words.score(best.validation)} there, the highest "
        f"{'score' if count == 1 else 'mean'} of {words.count(len(judged), 'method')} "
        f"({words.count(count, 'seed')}).",
        *_unjudged(comparison),
        _on_test(best, metric),
    ]
    if missing(best):
        sentences.append(f"It is a placebo ({missing(best)}): what it gained is not owed to a source.")
    sentences += filter(None, (_to(comparison, best, label) for label in NAMES if label != best.label))
    sentences += _higher_on_test(comparison, best)
    return sentences


def _unjudged(comparison: Comparison) -> list[str]:
    """A sentence on the rows that trained on every labelled row, so that validation could not choose them."""
    labels = [row.label for row in comparison.rows if row.validation is None]
    return [f"Without rows held out for validation, and so not in that choice: {', '.join(labels)}."] if labels else []


def _on_test(best: Row, metric: str) -> str:
    if best.test is None:
        return "There are no test rows, so how good it is on rows that no choice has seen cannot be said."
    return f"On test it scores {words.with_interval(best.test)} {metric}."


def noise(gain: Mean) -> str:
    """The end of a sentence: whether a paired difference is more than the seeds' noise (its interval excludes 0)."""
    if gain.count == 1:
        return "one seed gives no interval, so whether that is more than noise cannot be said"
    if gain.low is None or gain.high is None or gain.count == 2:
        return f"{gain.count} seeds cannot say whether that is more than noise"
    if gain.low > 0 or gain.high < 0:
        return "clear of noise"
    return "within noise"


def placebos(comparison: Comparison) -> str:
    """Sentences on whether PANDA beat its own placebos; empty where none was run beside it."""
    gains = {f"{pair.mode.label} to {pair.placebo.label}": pair.gain for pair in against_placebos(comparison)}
    known = {name: gain for name, gain in gains.items() if gain is not None}
    if not known:
        return ""
    above = [name for name, gain in known.items() if gain.low is not None and gain.low > 0]
    below = [name for name, gain in known.items() if gain.high is not None and gain.high < 0]
    if all(gain.low is None for gain in known.values()):
        text = _above_on_one_seed(known)
    elif len(above) == len(known):
        text = f"PANDA beats its own placebos here: {_all_of(known)} above 0, clear of noise."
    elif above:
        text = (
            f"PANDA beats only some of its own placebos here, {len(above)} of {len(known)} differences clear of noise: "
            f"{words.listed(above)}. To be owed to the source, a gain has to beat them all."
        )
    else:
        text = (
            f"PANDA does not beat its own placebos here: of {words.count(len(known), 'difference')} none is above 0, "
            "clear of noise. That the teacher's knowledge of the source helps is not shown."
        )
    worse = f" Below a placebo, clear of noise: {words.listed(below)}." if below else ""
    return text + worse + _without_placebo(comparison)


def intervals(comparison: Comparison) -> str:
    """Sentences on what the intervals are, and what they do not cover."""
    count = seed_count(comparison)
    if count == 1:
        text = "One seed: no intervals."
    else:
        text = (
            f"Intervals: 95 %, Student's t over {count} seeds, cut to what the metric can be; a seed draws the "
            "training rows and starts the run. "
        )
        text += (
            "By two seeds no difference is called clear of noise."
            if count == 2
            else "Clear of noise is a difference whose interval leaves out 0."
        )
    if count in (2, 3):
        text += (
            f" {count} seeds know little of their own spread, hence intervals this wide; five or more say something."
        )
    compared = sum(row.gain is not None and row.gain.low is not None for row in comparison.rows)
    if compared > 1:
        text += f" Of {compared} such intervals of differences about {compared * 0.05:.1f} miss by chance alone."
    return " ".join(filter(None, (text, _test_rows(comparison), _looks(comparison))))


def _looks(comparison: Comparison) -> str:
    """A sentence on validation scores that are not of one kind; empty where they are."""
    rows = [row for row in comparison.rows if row.validation is not None]
    trained = [row for row in rows if row.results[0].steps]
    if not trained or len(trained) == len(rows):
        return ""
    return (
        f"The validation score of a trained row is the best of {comparison.recipe.evaluations} looks or fewer, that of "
        "a row without steps is one look: on few rows the choice by validation leans to what was trained."
    )


def _test_rows(comparison: Comparison) -> str:
    """A sentence on what another draw of the test rows would give, which the seeds do not tell."""
    row = find(comparison, comparison.best) or comparison.rows[0]
    result = row.results[0]
    if "test" not in result.intervals:
        return ""
    low, high = result.intervals["test"]
    return (
        f"All are scored on the same {words.count(result.rows['test'], 'test row')}; another draw of as many would put "
        f"{row.label} of seed {result.seed} at {low:.1f} to {high:.1f} (95 %)."
    )


def _above_on_one_seed(gains: Mapping[str, Mean]) -> str:
    above = sum(gain.value > 0 for gain in gains.values())
    return (
        f"PANDA is above its placebo in {above} of {words.count(len(gains), 'difference')}; "
        "one seed cannot say whether that is more than noise."
    )


def _all_of(gains: Mapping[str, Mean]) -> str:
    return "the one difference is" if len(gains) == 1 else f"all {len(gains)} differences are"


def _without_placebo(comparison: Comparison) -> str:
    """A sentence on the modes that were run without a placebo to compare with."""
    compared = {pair.mode.label for pair in against_placebos(comparison)}
    alone = [row.label for row in comparison.rows if group(row) == "panda" and row.label not in compared]
    return f" Run without a placebo of its own: {words.listed(alone)}." if alone else ""


def _to(comparison: Comparison, best: Row, label: str) -> str:
    """A sentence on the chosen row's difference on test to another row."""
    if best.test is None:
        return ""
    name, other = NAMES[label], find(comparison, label)
    if other is None:
        reason = comparison.skipped.get(label)
        return f"It cannot be held against {name}, which was not run{f' ({reason})' if reason else ''}."
    gain = against(best, other)
    if gain is None:
        return f"It cannot be held against {name}, which was run on other seeds."
    side = "above" if gain.value > 0 else "below"
    between = words.difference_interval(gain)
    return (
        f"That is {abs(gain.value):.1f} points {side} {name}{f' ({between})' if between else ''}, {noise(gain)}."
        if round(gain.value, 1) != 0
        else f"That equals {name}{f' ({between})' if between else ''}, {noise(gain)}."
    )


def _higher_on_test(comparison: Comparison, best: Row) -> list[str]:
    """A sentence on the row with the best score on test, where validation did not choose it."""
    rows = {row.label: (row, row.test) for row in comparison.rows if row.test is not None}
    if best.test is None or not rows:
        return []
    top, test = max(rows.values(), key=lambda pair: pair[1].value)
    if test.value <= best.test.value:
        return []
    kind = " (a placebo)" if group(top) == "placebo" else ""
    return [f"{top.label}{kind} scores higher on test, {words.with_interval(test)}; test is not what one chooses by."]
