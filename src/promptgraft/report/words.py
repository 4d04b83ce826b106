"""Writes numbers for people: scores, intervals, differences, durations, counts."""

from __future__ import annotations

from promptgraft.study.judge import Mean

MINUS = "\u2212"
NOTHING = "\u2013"
"""What an empty cell shows."""


def score(value: Mean | None) -> str:
    """A score, as `81.4`."""
    return NOTHING if value is None else _minus(f"{value.value:.1f}")


def interval(value: Mean | None) -> str:
    """An interval, as `79.9 to 82.9`; empty where there is none."""
    if value is None or value.low is None or value.high is None:
        return ""
    return _minus(f"{value.low:.1f} to {value.high:.1f}")


def with_interval(value: Mean | None) -> str:
    """A score with its interval, as `81.4 (79.9 to 82.9)`."""
    return _joined(score(value), interval(value))


def difference(value: Mean | None) -> str:
    """A difference, as `+6.2`."""
    return NOTHING if value is None else signed(value.value)


def difference_interval(value: Mean | None) -> str:
    """The interval of a difference, as `+3.1 to +9.3`; empty where there is none."""
    if value is None or value.low is None or value.high is None:
        return ""
    return f"{signed(value.low)} to {signed(value.high)}"


def difference_with_interval(value: Mean | None) -> str:
    """A difference with its interval, as `+6.2 (+3.1 to +9.3)`."""
    return _joined(difference(value), difference_interval(value))


def plus_minus(text: str, value: Mean | None) -> str:
    """A mean's text with half its interval, as `81.4 ±1.5`, where a line has little room.

    An interval that ends where the metric does is cut on that side, and the other one tells how wide it is.
    """
    if value is None or value.low is None or value.high is None:
        return text
    return f"{text} ±{max(value.high - value.value, value.value - value.low):.1f}"


def signed(value: float) -> str:
    """A number with its sign, as `+6.2`, `0.0` or `-1.3` (with a true minus)."""
    text = f"{value:+.1f}"
    return "0.0" if text in ("+0.0", "-0.0") else _minus(text)


def duration(seconds: float) -> str:
    """A duration, as `0.03 s`, `4.1 s`, `47 s`, `3 min 20 s` or `1 h 5 min`."""
    if seconds < 59.5:
        return f"{seconds:.2f} s" if seconds < 1 else f"{seconds:.1f} s" if seconds < 9.95 else f"{seconds:.0f} s"
    minutes, remainder = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {remainder} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min"


def count(number: int, singular: str, plural: str = "") -> str:
    """A number with its noun, as `1 seed`, `5 seeds` or `22,713,216 parameters`."""
    return f"{number:,} {singular if number == 1 else plural or singular + 's'}"


def short(number: int) -> str:
    """A number cut short, as `385`, `148 k` or `22.7 M`."""
    if number < 10_000:
        return f"{number:,}"
    return f"{number / 1000:.0f} k" if number < 999_500 else f"{number / 1_000_000:.1f} M"


def listed(names: list[str]) -> str:
    """Names in a sentence, as `a`, `a and b` or `a, b and c`."""
    return " and ".join(part for part in (", ".join(names[:-1]), *names[-1:]) if part)


def _minus(text: str) -> str:
    return text.replace("-", MINUS)


def _joined(value: str, between: str) -> str:
    return f"{value} ({between})" if between else value
