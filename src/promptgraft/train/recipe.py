"""A recipe holds every number that decides how a run is trained; its defaults go by the size of backbone and data."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator

from promptgraft.model.backbone import Arithmetic, Backbone
from promptgraft.prompt.prompt import Depth, Placement
from promptgraft.prompt.reading import Encoding, Pooling
from promptgraft.task.kinds import KINDS, Kind


class Recipe(BaseModel):
    """How a run is trained; part of its job's id. Every value has its description, bounds and default in its field."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    steps: int = Field(default=150, ge=0, description="Optimiser steps.")
    batch: int = Field(default=16, ge=1, description="Labelled rows in each step; all of them if there are fewer.")
    rate: float = Field(default=1e-2, ge=0, description="Peak learning rate of the prompt.")
    readout_rate: float = Field(default=1e-2, ge=0, description="Peak learning rate of the readout.")
    weights_rate: float = Field(
        default=5e-5, ge=0, description="Peak learning rate of the backbone's weights, in model tuning only."
    )
    weight_decay: float = Field(
        default=0.0, ge=0, description="Weight decay of the backbone's weights, in model tuning only."
    )
    warmup: float = Field(
        default=0.1,
        ge=0,
        le=1,
        description="Share of steps in which learning rates rise from 0; then they fall linearly to 0.",
    )
    clip: float = Field(
        default=1.0, ge=0, description="Maximum norm of the gradient of prompt, readout or weights; 0: no clipping."
    )
    evaluations: int = Field(
        default=10,
        ge=1,
        description="Number of evaluations on validation; the best state is kept (by metric, then loss).",
    )
    patience: int = Field(default=0, ge=0, description="Stop after so many evaluations without a gain; 0: never.")
    length: int = Field(default=16, ge=1, description="Number of vectors of the prompt.")
    depth: Depth = Field(default="deep", description="deep: keys and values in every layer; shallow: input embeddings.")
    placement: Placement = Field(
        default="after_cls",
        description="after_cls: after the first token; peft: where PEFT puts it; template: at the {soft} slots.",
    )
    init: Literal["normal", "vocabulary", "labels", "text"] = Field(
        default="normal",
        description="What a prompt from scratch starts from: noise, random words, the labels' words, or --init-text.",
    )
    init_text: str = Field(
        default="",
        description="The words for --init text, or the folder of a search, whose words are then used.",
    )
    parameterisation: str = Field(default="direct", description="How the prompt is trained: direct, mlp or residual.")
    max_length: int = Field(
        default=128, ge=8, description="Maximum number of tokens of a sequence; longer ones are cut."
    )
    pooling: Literal["auto"] | Pooling = Field(
        default="auto",
        description="Which state of a text is read. auto: as the encoder declares, else by a cross-validated probe. "
        "A transferred prompt keeps its own.",
    )
    encoding: Literal["auto"] | Encoding = Field(
        default="auto", description="Pairs as one sequence (cross) or two. auto: by a cross-validated probe."
    )
    template: str = Field(
        default="",
        description="Text template for rows: a name from `promptgraft templates list`, a text with {text} and {mask}, "
        "or the folder of a search.",
    )
    verbalizer: str = Field(
        default="",
        description="The words of each label, as good=great|fine,bad=terrible; auto: found from the labelled rows "
        "(default: the template's words).",
    )
    most: int = Field(default=64, ge=1, description="Maximum number of tokens of a written text, in tasks of texts.")
    arithmetic: Arithmetic = Field(
        default="fp32",
        description="Arithmetic of the backbone's matrix products. fp32 and bf16 differ in the last digits; int8 of an "
        "encoder works only without gradients. Of a causal model, int8 and int4 are how its weights are stored.",
    )

    @field_validator("*", mode="before")
    @classmethod
    def _of_its_type(cls, value: object, info: ValidationInfo) -> object:
        """A value as it is; pydantic would read True as 1, and a text as the number in it."""
        is_number = cls.model_fields[str(info.field_name)].annotation in (int, float)
        if isinstance(value, bool) or (is_number and isinstance(value, str)):
            raise ValueError(f"this is no {'number' if is_number else 'text'}")
        return value

    def plain(self) -> dict[str, Any]:
        """Its values, for a job's id; later fields are left out at their defaults, so that older ids stay valid."""
        later = {name: type(self).model_fields[name].default for name in ("template", "verbalizer", "most")}
        return {name: value for name, value in self.model_dump().items() if name not in later or value != later[name]}

    def changed(self, **values: object) -> Self:
        """A copy with other values, validated again; None leaves a value as it is."""
        changes = {name: value for name, value in values.items() if value is not None}
        return type(self).model_validate(self.model_dump() | changes)


def default_recipe(backbone: Backbone, rows: int, kind: Kind = "classification") -> Recipe:
    """The recipe for a backbone, `rows` labelled rows and a kind of task.

    Few rows: 60 or 100 steps (on minilm at 8 rows a class validation chose step 6 to 30 of 60); narrow backbones want
    a larger rate. Many rows: about three passes, at most 600 steps. Span tasks read 384 tokens, all others 128.
    """
    rate = 1e-2 if backbone.hidden >= 256 else 2e-2
    is_few = rows <= 512
    steps = (60 if rows < 64 else 100) if is_few else min(600, max(200, 3 * rows // 32))
    return Recipe(
        steps=steps,
        batch=16 if is_few else 32,
        rate=rate,
        readout_rate=rate,
        patience=0 if is_few else 5,
        depth="deep" if backbone.deep else "shallow",
        max_length=min(KINDS[kind].max_length, backbone.max_length),
        arithmetic=backbone.arithmetic,
    )
