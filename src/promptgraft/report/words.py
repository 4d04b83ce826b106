"""Numbers as people read them: scores, intervals, differences, durations, counts."""

from __future__ import annotations

from promptgraft.study.judge import Mean

MINUS = "\u2212"
NOTHING = "\u2013"
"""What an empty cell shows."""


def score(value: Mean | None) -> str:
    """`81.4`."""
    return NOTHING if value is None else _minus(f"{value.value:.1f}")


def interval(value: Mean | None) -> str:
    """`79.9 to 82.9`; nothing where there is none."""
    if value is None or value.low is None or value.high is None:
        return ""
    return _minus(f"{value.low:.1f} to {value.high:.1f}")


def with_interval(value: Mean | None) -> str:
    """`81.4 (79.9 to 82.9)`."""
    return _joined(score(value), interval(value))


def difference(value: Mean | None) -> str:
    """`+6.2`."""
    return NOTHING if value is None else signed(value.value)


def difference_interval(value: Mean | None) -> str:
    """`+3.1 to +9.3`; nothing where there is none."""
    if value is None or value.low is None or value.high is None:
        return ""
    return f"{signed(value.low)} to {signed(value.high)}"


def difference_with_interval(value: Mean | None) -> str:
    """`+6.2 (+3.1 to +9.3)`."""
    return _joined(difference(value), difference_interval(value))


def plus_minus(shown: str, value: Mean | None) -> str:
    """`81.4 ±1.5`: what is shown of a mean with half its interval, where a line has little room."""
    if value is None or value.high is None:
        return shown
    return f"{shown} ±{value.high - value.value:.1f}"


def signed(value: float) -> str:
    """`+6.2`, `0.0` or `-1.3` with a true minus."""
    shown = f"{value:+.1f}"
    return "0.0" if shown in ("+0.0", "-0.0") else _minus(shown)


def duration(seconds: float) -> str:
    """`0.03 s`, `4.1 s`, `47 s`, `3 min 20 s`, `1 h 5 min`."""
    if seconds < 59.5:
        return f"{seconds:.2f} s" if seconds < 1 else f"{seconds:.1f} s" if seconds < 9.95 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min"


def count(number: int, one: str, many: str = "") -> str:
    """`1 seed`, `5 seeds`, `22,713,216 parameters`."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def short(number: int) -> str:
    """`385`, `148 k`, `22.7 M`."""
    if number < 10_000:
        return f"{number:,}"
    return f"{number / 1000:.0f} k" if number < 999_500 else f"{number / 1_000_000:.1f} M"


def listed(names: list[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    return " and ".join(part for part in (", ".join(names[:-1]), *names[-1:]) if part)


def _minus(text: str) -> str:
    return text.replace("-", MINUS)


def _joined(value: str, between: str) -> str:
    return f"{value} ({between})" if between else value
