"""The recipe: every number that decides how a run is trained, and the defaults by backbone size."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field

from promptgraft.model.backbone import Arithmetic, Backbone, Encoding, Pooling
from promptgraft.prompt.prompt import Depth, Placement
from promptgraft.task.task import Kind


class Recipe(BaseModel):
    """How a run is trained; part of its job's id.

    Attributes:
        steps: optimiser steps.
        batch: labelled rows a step (all of them where there are fewer).
        rate: peak learning rate of the prompt.
        readout_rate: of the readout.
        weights_rate: of the backbone's weights, in model tuning only.
        warmup: share of the steps in which the rate rises from 0; then it falls linearly to 0.
        clip: largest norm of a run's gradient (prompt, readout and weights each by itself); 0 = off.
        evaluations: how often validation is looked at; the best state is kept (metric, ties by loss).
        patience: evaluations without gain after which a run stops; 0 = never.
        length, depth, placement, init, parameterisation: of the prompt.
        init_text: the words `init="text"` starts from.
        max_length: tokens a sequence; longer ones are cut.
        pooling, encoding: `auto` takes what the encoder declares, else what a cross-validated probe reads best; a
            prompt that is carried keeps the pooling it was tuned for.
        arithmetic: of the backbone the run is made for; its results in fp32 and bf16 differ in the last places;
            int8 is for methods without gradients.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    steps: int = Field(default=150, ge=0)
    batch: int = Field(default=16, ge=1)
    rate: float = Field(default=1e-2, ge=0)
    readout_rate: float = Field(default=1e-2, ge=0)
    weights_rate: float = Field(default=5e-5, ge=0)
    weight_decay: float = Field(default=0.0, ge=0)
    warmup: float = Field(default=0.1, ge=0, le=1)
    clip: float = Field(default=1.0, ge=0)
    evaluations: int = Field(default=10, ge=1)
    patience: int = Field(default=0, ge=0)
    length: int = Field(default=16, ge=1)
    depth: Depth = "deep"
    placement: Placement = "after_cls"
    init: Literal["normal", "vocabulary", "labels", "text"] = "normal"
    init_text: str = ""
    parameterisation: str = "direct"
    max_length: int = Field(default=128, ge=8)
    pooling: Literal["auto"] | Pooling = "auto"
    encoding: Literal["auto"] | Encoding = "auto"
    arithmetic: Arithmetic = "fp32"

    def changed(self, **values: object) -> Self:
        """A copy with other values, validated again; None leaves a value as it is."""
        given = {name: value for name, value in values.items() if value is not None}
        return type(self).model_validate(self.model_dump() | given)


def default_recipe(backbone: Backbone, rows: int, kind: Kind = "classification") -> Recipe:
    """The recipe for a backbone, `rows` labelled rows and a kind of task.

    Few rows: 60 or 100 steps (on minilm at 8 rows a class validation chose step 6 to 30 of 60); narrow backbones want
    a larger rate. Many rows: about three passes, at most 600 steps. Span tasks read 384 tokens, all others 128.
    """
    rate = 1e-2 if backbone.hidden >= 256 else 2e-2
    few = rows <= 512
    steps = (60 if rows < 64 else 100) if few else min(600, max(200, 3 * rows // 32))
    return Recipe(
        steps=steps,
        batch=16 if few else 32,
        rate=rate,
        readout_rate=rate,
        patience=0 if few else 5,
        depth="deep" if backbone.deep else "shallow",
        max_length=min(384 if kind == "span" else 128, backbone.max_length),
        arithmetic=backbone.arithmetic,
    )
