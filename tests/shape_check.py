"""The type checker of the test run: beartype, for the hints that say a shape.

mypy checks all other types without running anything. At run time they would get in the way: a user's mistake has to
meet our own error first, and a Protocol with properties would compute them to be checked.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, get_args

from beartype import beartype
from jaxtyping import AbstractArray


def check(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function with its shapes checked; the same function where it has none."""
    shapes = {name: hint for name, hint in function.__annotations__.items() if says_shape(hint)}
    function.__annotations__ = shapes
    return beartype(function) if shapes else function


def says_shape(hint: object) -> bool:
    """Whether a hint is a shape, or has one inside (`Float[Tensor, "B H"] | None`)."""
    if isinstance(hint, type) and issubclass(hint, AbstractArray):
        return True
    return any(says_shape(part) for part in get_args(hint))
