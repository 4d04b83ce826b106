"""Options of methods are typed and documented, and are read from text or from Python values.

A method declares a model of its options; the command line, `check`, the help texts and the job's id follow from it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from types import NoneType
from typing import Annotated, Any, Self, get_args

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
)
from pydantic.fields import FieldInfo

from promptgraft.errors import PromptgraftError, UsageError, unknown
from promptgraft.untrusted import read_json


def hyphened(name: str) -> str:
    """The name of an option as users write it: `label-map` for the field `label_map`."""
    return name.replace("_", "-")


class Options(BaseModel):
    """The options of one method; each field has a description, which is its help text."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, alias_generator=hyphened, populate_by_name=True
    )

    @classmethod
    def read(cls, method: str, given: Mapping[str, object]) -> Self:
        """Read options from a job's, whose values may be text.

        Raises:
            UsageError: a name or a value that the method does not know.
        """
        names = {hyphened(name): field for name, field in cls.model_fields.items()}
        for name in given:
            if hyphened(name) not in names:
                raise unknown(f"option of {method}", name, names)
        try:
            return cls.model_validate(dict(given))
        except ValidationError as error:
            first = error.errors()[0]
            message = str(first["msg"]).removeprefix("Value error, ")
            if not first["loc"]:
                raise UsageError(f"options of {method}: {message}") from None
            name = hyphened(str(first["loc"][0]))
            if first["type"] == "missing":
                raise UsageError(f"option {name} of {method} is missing", do=f"give {name} a value") from None
            raise wrong_value(method, name, names[name], given, message) from None

    @field_validator("*", mode="before")
    @classmethod
    def _read_none(cls, value: object, info: ValidationInfo) -> object:
        """None, where an option may be that, from its text."""
        field = cls.model_fields[str(info.field_name)]
        return None if value == str(None) and NoneType in get_args(field.annotation) else value

    def placebo(self) -> str:
        """What a placebo run lacks, in words; empty for a run that is no placebo."""
        return ""


def wrong_value(
    method: str, name: str, field: FieldInfo, given: Mapping[str, object], message: str
) -> PromptgraftError:
    """The error for a value that an option does not take."""
    value = next(value for key, value in given.items() if hyphened(key) == name)
    if allowed := choices(field):
        return unknown(f"value of {method}'s {name}", str(value), allowed)
    return UsageError(f"option {name}={value!r} of {method}: {message}")


def choices(field: FieldInfo) -> tuple[str, ...]:
    """The words that a field takes, the default first; empty where it takes others too."""
    words = tuple(dict.fromkeys(literals(field.annotation)))
    return tuple(sorted(words, key=lambda word: word != field.default))


def literals(annotation: Any) -> list[str]:
    """The words of a Literal, or of a union of them."""
    parts = get_args(annotation)
    return [word for part in parts for word in ([part] if isinstance(part, str) else literals(part))]


def text_of(value: object) -> str:
    """The text of a value in a job's id: the shortest that reads back as the value."""
    if isinstance(value, Mapping):
        return json.dumps(dict(sorted(value.items())), ensure_ascii=False)
    if not isinstance(value, float):
        return str(value)
    text = format(value, ".15g")
    return text if float(text) == value else repr(value)


def read_label_map(value: object) -> object:
    """Read a label map, target label -> source label: `a=b,c=d`, or JSON where a label has a comma or equals sign."""
    if not isinstance(value, str):
        return value
    if value.lstrip().startswith("{"):
        return read_json(value, "label map", UsageError)
    entries = [entry.partition("=") for entry in value.split(",") if entry.strip()]
    for target, sign, source in entries:
        if not (sign and target.strip() and source.strip()):
            raise ValueError(f"label map entry {target.strip()!r} has no '='; write target=source,target=source")
    labels: dict[str, str] = {}
    for target, _, source in entries:
        if target.strip() in labels:
            raise ValueError(f"the map names the label {target.strip()!r} twice; write each label once")
        labels[target.strip()] = source.strip()
    return labels


LabelMap = Annotated[
    Mapping[str, str],
    BeforeValidator(read_label_map),
    Field(description="Labels of this task and their equals in the source: a=b,c=d, or a JSON object."),
]
