"""Parameterisations of a prompt while it is trained; what is saved is always the prompt's values."""

from __future__ import annotations

import math
from typing import ClassVar, Protocol, Self

import torch
from jaxtyping import Float
from torch import Tensor

from promptgraft.errors import unknown
from promptgraft.prompt.prompt import Prompt


class Parameterisation(Protocol):
    """Computes a prompt's values from trainable tensors.

    At step 0 `values()` is the given prompt, bit for bit, so that an initialisation and a parameterisation
    can be chosen apart from each other.
    """

    name: ClassVar[str]

    @classmethod
    def create(cls, start: Prompt, generator: torch.Generator) -> Self:
        """A parameterisation of the prompt that a run starts from; random weights come from `generator`."""
        ...

    def parameters(self) -> dict[str, Tensor]:
        """The trainable leaf tensors by name; with `start` they are the whole state."""
        ...

    def values(self) -> Float[Tensor, "..."]:
        """The prompt's values, `[P, E]` or `[L, 2, P, H]`, differentiable in the parameters."""
        ...


PARAMETERISATIONS: dict[str, type[Parameterisation]] = {}


def register(kind: type[Parameterisation]) -> type[Parameterisation]:
    """Class decorator that registers a parameterisation under its name."""
    PARAMETERISATIONS[kind.name] = kind
    return kind


def parameterise(name: str, start: Prompt, generator: torch.Generator) -> Parameterisation:
    """The parameterisation of a name for a prompt. An unknown name is an error that suggests the nearest one."""
    if name not in PARAMETERISATIONS:
        raise unknown("parameterisation", name, PARAMETERISATIONS)
    return PARAMETERISATIONS[name].create(start, generator)


@register
class Direct:
    """Trains the values themselves."""

    name: ClassVar[str] = "direct"

    def __init__(self, prompt: Float[Tensor, "..."]) -> None:
        self._prompt = prompt

    @classmethod
    def create(cls, start: Prompt, generator: torch.Generator) -> Self:
        return cls(_leaf(start.values))

    def parameters(self) -> dict[str, Tensor]:
        return {"prompt": self._prompt}

    def values(self) -> Float[Tensor, "..."]:
        return self._prompt


@register
class Mlp:
    """Trains a vector for each position, and one two-layer network that turns it into the position's values.

    Source: Li & Liang 2021 (Prefix-Tuning), section 4.3. Differs: the network makes a change that is added to
    the start, and its last layer starts at zero; inner width is the backbone's (the paper: 512 or 800).
    """

    name: ClassVar[str] = "mlp"

    def __init__(self, start: Float[Tensor, "..."], parts: dict[str, Tensor]) -> None:
        self._start = start
        self._parts = parts

    @classmethod
    def create(cls, start: Prompt, generator: torch.Generator) -> Self:
        width = start.values.shape[-1]
        size = start.values.numel() // start.length
        parts = {
            "positions": _random((start.length, width), 1, generator),
            "inner.weight": _random((width, width), width, generator),
            "inner.bias": torch.zeros(width),
            "outer.weight": torch.zeros(size, width),
            "outer.bias": torch.zeros(size),
        }
        return cls(start.values.detach().clone(), _leaves(parts, start))

    def parameters(self) -> dict[str, Tensor]:
        return self._parts

    def values(self) -> Float[Tensor, "..."]:
        part = self._parts
        inner = torch.tanh(torch.nn.functional.linear(part["positions"], part["inner.weight"], part["inner.bias"]))
        change = torch.nn.functional.linear(inner, part["outer.weight"], part["outer.bias"])
        *layers, length, width = self._start.shape
        return self._start + change.view(length, *layers, width).movedim(0, -2)


@register
class Residual:
    """Trains the vectors and a bottleneck network shared by them: x + LN(up(relu(down(x)))).

    Source: Razdaibiedina et al. 2023 (Residual Prompt Tuning), section 3; shared over positions (and, for deep
    prompts, over layers, keys and values). Differs: the gain of the normalisation starts at zero, not one.
    """

    name: ClassVar[str] = "residual"

    def __init__(self, parts: dict[str, Tensor]) -> None:
        self._parts = parts

    @classmethod
    def create(cls, start: Prompt, generator: torch.Generator) -> Self:
        width = start.values.shape[-1]
        narrow = max(1, width // 4)
        parts = {
            "prompt": start.values,
            "down.weight": _random((narrow, width), width, generator),
            "down.bias": torch.zeros(narrow),
            "up.weight": _random((width, narrow), narrow, generator),
            "up.bias": torch.zeros(width),
            "norm.weight": torch.zeros(width),
            "norm.bias": torch.zeros(width),
        }
        return cls(_leaves(parts, start))

    def parameters(self) -> dict[str, Tensor]:
        return self._parts

    def values(self) -> Float[Tensor, "..."]:
        part = self._parts
        prompt = part["prompt"]
        down = torch.relu(torch.nn.functional.linear(prompt, part["down.weight"], part["down.bias"]))
        up = torch.nn.functional.linear(down, part["up.weight"], part["up.bias"])
        change = torch.nn.functional.layer_norm(up, up.shape[-1:], part["norm.weight"], part["norm.bias"])
        return prompt + change


def _leaves(parts: dict[str, Tensor], start: Prompt) -> dict[str, Tensor]:
    """Trainable copies, on the device of the prompt that the run starts from."""
    return {name: _leaf(values.to(start.values.device)) for name, values in parts.items()}


def _leaf(values: Tensor) -> Tensor:
    """A trainable copy."""
    return values.detach().to(torch.float32, copy=True).requires_grad_()


def _random(shape: tuple[int, ...], fan_in: int, generator: torch.Generator) -> Tensor:
    """Gaussian weights with variance 1 / fan-in, so that activations keep their spread."""
    return torch.randn(shape, generator=generator) / math.sqrt(fan_in)
