"""Tells what a single label is: missing, a number, and which name it has as a class."""

from __future__ import annotations

import math
import re
from collections.abc import Collection
from datetime import datetime, time
from decimal import Decimal
from typing import Any

NUMBER = re.compile(r"[+-]?\d+(\.\d+)?")
WHOLE = re.compile(r"([+-]?\d+)\.0+")
"""A whole number as some write it: its digits are what others write."""
NAN = ("nan", "NaN", "NAN")
TRUTH = ("true", "false")


def missing(value: Any) -> bool:
    """Whether a label is missing: None, empty, or not a number (NaN)."""
    return value is None or value != value or (isinstance(value, str) and (not value.strip() or value.strip() in NAN))


def is_number(value: Any) -> bool:
    """Whether a value is a number, or a text that writes one; true and false are names."""
    if isinstance(value, str):
        return NUMBER.fullmatch(value.strip()) is not None
    return isinstance(value, int | float | Decimal) and not isinstance(value, bool)


def as_float(value: Any) -> float:
    """A number, infinite where it is beyond what a float holds."""
    try:
        return float(value)
    except OverflowError:
        return math.inf


def label_name(value: Any) -> str:
    """A class label as its name: 1, 1.0 and "1" are the same class, true and false are names, a day has no time."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    if isinstance(value, datetime) and value.timetz() == time():
        return value.date().isoformat()
    return str(value).strip()


def as_class(name: str, classes: Collection[str]) -> str:
    """The class that a label's name stands for: that of its name, else the only one that writes the same value.

    Truth values are True in some files and true in others, and whole numbers are 1 or 1.0.
    """
    value = None if name in classes else _value(name)
    same = {known for known in classes if _value(known) == value} if value is not None else set()
    return same.pop() if len(same) == 1 else name


def _value(name: str) -> str | None:
    """The one spelling of a truth value or a whole number; None for any other name."""
    if name.casefold() in TRUTH:
        return name.casefold()
    number = WHOLE.fullmatch(name)
    return number[1] if number else name if NUMBER.fullmatch(name) else None
