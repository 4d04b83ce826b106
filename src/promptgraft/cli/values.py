"""Writes values of data files as JSON or as a cell's text: dates in ISO 8601, bytes in base64, decimals as text."""

from __future__ import annotations

import base64
import datetime
import json
import math
import uuid
from decimal import Decimal
from typing import Any


def json_value(value: Any) -> Any:
    """A value converted to one that JSON can hold.

    Numbers that are not finite are null, since JSON has none. Decimals are text, so that no digit is lost.

    Raises:
        TypeError: a value of a type that no data file gives.
    """
    match value:
        case None | bool() | str():
            return value
        case int():
            return int(value)
        case float():
            return float(value) if math.isfinite(value) else None
        case dict():
            return {str(key): json_value(part) for key, part in value.items()}
        case list() | tuple():
            return [json_value(part) for part in value]
        case _:
            return _text_of(value)


def cell(value: Any) -> str:
    """A value as the text of one cell: null is empty, lists and objects are JSON."""
    match value:
        case None:
            return ""
        case str():
            return value
        case bool():
            return "true" if value else "false"
        case int() | float():
            return str(value)
        case dict() | list() | tuple():
            return json.dumps(json_value(value), ensure_ascii=False)
        case _:
            return _text_of(value)


def _text_of(value: Any) -> str:
    match value:
        case datetime.timedelta():
            return _iso_duration(value)
        case datetime.date() | datetime.time():  # a datetime is a date
            return value.isoformat()
        case bytes():
            return base64.b64encode(value).decode("ascii")
        case Decimal() | uuid.UUID():
            return str(value)
        case _:
            raise TypeError(f"a {type(value).__name__} has no text")


def _iso_duration(span: datetime.timedelta) -> str:
    """A duration in ISO 8601, in days and seconds: `P1DT2.5S`."""
    sign, span = ("-", -span) if span < datetime.timedelta(0) else ("", span)
    seconds = f"{span.seconds + span.microseconds / 1e6:.6f}".rstrip("0").rstrip(".")
    return f"{sign}P{span.days}DT{seconds}S"
