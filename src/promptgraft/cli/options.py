"""Arguments and options that several verbs share."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, get_args, get_origin

import typer

from promptgraft.cli.verb import Late
from promptgraft.errors import UsageError
from promptgraft.task.kinds import Kind
from promptgraft.untrusted import file_name

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo

    from promptgraft.cli.say import Say
    from promptgraft.method.method import Method
    from promptgraft.model.device import DeviceName
    from promptgraft.task.task import Task

TASK_HELP = "A file (csv, tsv, json, jsonl, parquet; .gz too), a folder with task.toml, or hub:DATASET."
MODEL_HELP = "The frozen model: a name from `promptgraft models list`, a folder, or a hub name that was downloaded."
BANK_HELP = "The bank to choose from: a folder, or `starter`, which ships with promptgraft."
MEMORY_HELP = (
    "Memory limit, such as 4GB: a causal model recomputes layers in the backward pass if a step would take more; "
    "low: always recompute (default: the free memory)."
)
MEMORY_METAVAR = "SIZE|low"
SHOTS_HELP = "Labelled rows for each class (default: the whole training split)."
RUN_HELP = "A run folder of tune or transfer, or a bank's entry."
NO_HEADER_HELP = "Read the first line of a csv or tsv as a row; columns are then text, or column_1, column_2, ..."

TaskArgument = Annotated[str, typer.Argument(metavar="TASK", help=TASK_HELP, show_default=False)]
RunArgument = Annotated[Path, typer.Argument(metavar="RUN", help=RUN_HELP)]
ModelOption = Annotated[str, typer.Option("--model", "-m", help=MODEL_HELP, show_default=False)]
CardModelOption = Annotated[
    str | None, typer.Option("--model", "-m", help="The frozen model (default: the model named on the card).")
]
BankOption = Annotated[str, typer.Option("--bank", "-b", help=BANK_HELP)]
CompareBankOption = Annotated[
    str, typer.Option("--bank", "-b", help=f"{BANK_HELP} auto: starter, if it has prompts for the model.")
]
ShotsOption = Annotated[int | None, typer.Option("--shots", min=0, help=SHOTS_HELP, show_default=False)]
ValidationFromOption = Annotated[
    Literal["extra", "within"],
    typer.Option(
        help="Where validation rows come from. extra: as many rows again as --shots. within: a quarter of each class "
        "of the labelled rows, for methods that choose a step on them; graft and probes train on all labelled rows."
    ),
]
OutOption = Annotated[
    Path | None,
    typer.Option(
        "--out", "-o", help="Run folder (default: runs/VERB-TASK). The same command continues where it stopped."
    ),
]
FileOutOption = Annotated[
    Path | None,
    typer.Option(
        "--out", "-o", help="Output file: csv, tsv, jsonl, json or parquet, by its ending (default: the screen)."
    ),
]
KeepOption = Annotated[
    str | None, typer.Option("--bank", "-b", help="A bank to also save the prompt in; created if it does not exist.")
]
NameOption = Annotated[
    str | None, typer.Option("--name", help="The prompt's name in the bank (default: the task's name).")
]
ReplaceOption = Annotated[
    bool, typer.Option("--replace", help="Replace results of other data in the run folder and the bank.")
]
SourceOption = Annotated[
    str,
    typer.Option(
        "--source", help="A prompt in the bank; auto: the best by a probe on the labelled rows (graft uses all)."
    ),
]
DeviceOption = Annotated[
    Literal["auto", "cpu", "cuda"],
    typer.Option("--device", help="Where the model runs; auto: the GPU if there is one."),
]
UnlabelledOption = Annotated[
    Path | None,
    typer.Option(
        "--unlabelled",
        help="A file of the target's texts without labels, for PANDA and for graft without labelled rows.",
    ),
]
NoHeaderOption = Annotated[bool, typer.Option("--no-header", help=NO_HEADER_HELP)]
TextColumnOption = Annotated[str | None, typer.Option(help="Column of the text in the file (default: as in tuning).")]
PairColumnOption = Annotated[str | None, typer.Option(help="Column of the second text.")]
LabelColumnOption = Annotated[str | None, typer.Option(help="Column of the label.")]


def columns_given(text: str | None, pair: str | None, label: str | None) -> dict[str, str]:
    """What a column holds -> its name, of those that are named."""
    roles = {"text": text, "pair": pair, "label": label}
    return {role: name for role, name in roles.items() if name is not None}


def described(labels: Sequence[str]) -> dict[str, str | None]:
    """Label -> description; None where only a name is given.

    Raises:
        UsageError: a label that is given twice, or has no name.
    """
    pairs = [given.partition("=") for given in labels]
    names = [name.strip() for name, _, _ in pairs]
    if "" in names:
        raise UsageError("a label has no name", do="write NAME=DESCRIPTION")
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise UsageError(f"--label {twice} is given twice", do="keep one of them")
    return {name: text.strip() or None for name, (_, _, text) in zip(names, pairs, strict=True)}


@dataclass(frozen=True)
class ColumnOptions:
    """The options for reading a task's rows and labels; what is not given is inferred, with a note."""

    text_column: Annotated[str | None, typer.Option(rich_help_panel="Data", help="Column of the text.")] = None
    pair_column: Annotated[str | None, typer.Option(rich_help_panel="Data", help="Column of the second text.")] = None
    label_column: Annotated[str | None, typer.Option(rich_help_panel="Data", help="Column of the label.")] = None
    no_header: Annotated[bool, typer.Option("--no-header", rich_help_panel="Data", help=NO_HEADER_HELP)] = False
    kind: Annotated[
        Kind | None,
        typer.Option(rich_help_panel="Data", help="Kind of task."),
    ] = None
    label: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=DESCRIPTION",
            rich_help_panel="Data",
            help="A label and its description; once for each label. With them, transfer needs no labelled rows.",
        ),
    ] = None

    def open(self, task: str) -> Task:
        """Load the task with these options."""
        from promptgraft.api import open_task

        return open_task(task, **self.settings())

    def settings(self) -> dict[str, Any]:
        """What a task is loaded with."""
        columns = {"text": self.text_column, "pair": self.pair_column, "label": self.label_column}
        labels = described(self.label) if self.label else None
        return {"header": not self.no_header, "kind": self.kind, "labels": labels, **columns}

    def typed(self) -> list[str]:
        """The options that were given, as they are typed."""
        return [f"--{name.replace('_', '-')}" for name, value in dataclasses.asdict(self).items() if value]


@dataclass(frozen=True)
class DataOptions(ColumnOptions):
    """Those, and the options for what a task is judged by."""

    metric: Annotated[
        str | None,
        typer.Option(
            rich_help_panel="Data",
            help="The metric to report and to choose by. f1 is the mean of all classes' F1 unless --positive is given.",
        ),
    ] = None
    positive: Annotated[
        str | None, typer.Option(rich_help_panel="Data", help="The positive class for --metric f1.")
    ] = None
    test_rows: Annotated[
        int | None, typer.Option(min=1, rich_help_panel="Data", help="Maximum number of test rows, drawn by seed.")
    ] = None

    def settings(self) -> dict[str, Any]:
        judged = {"metric": self.metric, "positive": self.positive, "test_rows": self.test_rows}
        return super().settings() | judged


@dataclass(frozen=True)
class Seeds:
    """The options for seeds, which decide the draws of rows, order and initial values."""

    seed: Annotated[int | None, typer.Option(help="One seed (default: 0).", show_default=False)] = None
    seeds: Annotated[
        str | None,
        typer.Option(metavar="N|A,B,...", help="That many seeds, counted from 0, or a list.", show_default=False),
    ] = None

    def chosen(self, default: int = 1) -> tuple[int, ...]:
        """The chosen seeds; where none were given, the first `default` seeds."""
        if self.seed is not None and self.seeds is not None:
            raise UsageError("--seed and --seeds are both given", do="keep one of them")
        if self.seed is not None:
            return (self.seed,)
        text = self.seeds or str(default)
        try:
            listed = tuple(dict.fromkeys(int(part) for part in text.split(",")))
        except ValueError:
            raise UsageError(f"--seeds {text!r} is no number", do="write --seeds 5 or --seeds 1,5,9") from None
        if "," in text:
            return listed
        if listed[0] < 1:
            raise UsageError(f"--seeds {text}: there must be one or more", do="write --seeds 5 or --seeds 1,5,9")
        return tuple(range(listed[0]))


class MethodOptions(Late):
    """The options `--method` and those of all methods, read from their models; a method refuses the others' options."""

    method: str
    default: ClassVar[str | None]
    wants: ClassVar[str] = "The method"

    @classmethod
    def takes(cls, method: Method) -> bool:
        """Whether the verb can run a method."""
        return True

    @classmethod
    def group(cls) -> type:
        from promptgraft.method.all import methods

        available = {name: method for name, method in sorted(methods().items()) if cls.takes(method)}
        flags = {"method": (str | None, typer.Option(help=f"{cls.wants}: {', '.join(available)}."), cls.default)}
        for name, method in available.items():
            for field_name, field in method.options.model_fields.items():
                panel = "Method" if field_name in SHARED else f"Options of {name}"
                flags.setdefault(field_name, flag(field, panel))
        return make_group(cls, flags)

    def given(self) -> dict[str, object]:
        """The options that were given, by the names a job uses."""
        from promptgraft.method.options import hyphened

        values = dataclasses.asdict(self)  # type: ignore[call-overload]
        return {hyphened(name): value for name, value in values.items() if value is not None and name != "method"}


SHARED = ("readout", "label_map", "prompt")
"""Options of several methods."""


class TuneMethod(MethodOptions):
    """The methods that `tune` can run: those that need no source."""

    default = "prompt-tuning"
    wants = "The method"

    @classmethod
    def takes(cls, method: Method) -> bool:
        return "source" not in method.needs


class TransferMethod(MethodOptions):
    """The methods that `transfer` can run: those that start from a source, or can."""

    default = None
    wants = "The method (default: graft; pot for a named source, for kinds span and text, and with options of pot)"

    @classmethod
    def takes(cls, method: Method) -> bool:
        return bool({"source", "bank"} & method.needs) or "prompt" in method.options.model_fields


class AnyMethod(MethodOptions):
    """All methods, for verbs that can run each."""

    default = None
    wants = "The method of tune or transfer (default: that of the command)"


class RecipeOptions(Late):
    """The options for the recipe; what is not given follows from the size of the model and of the data."""

    arithmetic: str | None

    @classmethod
    def group(cls) -> type:
        from promptgraft.train.recipe import Recipe

        flags = {name: flag(field, "Recipe") for name, field in Recipe.model_fields.items()}
        flags["arithmetic"] = flag(Recipe.model_fields["arithmetic"], "Recipe", "auto")
        flags["memory"] = (
            str | None,
            typer.Option(help=MEMORY_HELP, metavar=MEMORY_METAVAR, rich_help_panel="Recipe"),
            None,
        )
        return make_group(cls, flags)

    def given(self) -> dict[str, Any]:
        """The values that were given."""
        values = dataclasses.asdict(self)  # type: ignore[call-overload]
        return {name: value for name, value in values.items() if value is not None}


Flag = tuple[Any, Any, Any]
"""An option: its type, typer's description of it, and its default."""


def make_group(base: type, flags: Mapping[str, Flag]) -> type:
    """A dataclass whose fields are the given flags."""
    fields = [(name, Annotated[kind, option], default) for name, (kind, option, default) in flags.items()]
    return dataclasses.make_dataclass(base.__name__, fields, bases=(base,), frozen=True)


def flag(field: FieldInfo, panel: str, *more: str) -> Flag:
    """The command-line option for a model's field: its type, bounds and description, with None as default.

    Args:
        more: words that it takes here beside the field's.
    """
    from promptgraft.method.options import choices

    kind: Any = str
    if words := (*more, *choices(field)):
        kind = Literal[words]
    elif {int, float} & {field.annotation, *get_args(field.annotation)}:
        kind = int if field.annotation is int else float
    bounds = {"ge": "min", "le": "max"}
    limits = {bounds[name]: getattr(limit, name) for limit in field.metadata for name in bounds if hasattr(limit, name)}
    metavar = "A=B,..." if get_origin(field.annotation) is Mapping else None
    help_text = f"{field.description}"
    return kind | None, typer.Option(help=help_text, metavar=metavar, rich_help_panel=panel, **limits), None


def note_slow_arithmetic(say: Say, arithmetic: str | None, device: DeviceName) -> None:
    """Note that bf16 was asked for where fp32 is faster; the library itself uses what it is given, silently."""
    if arithmetic != "bf16":
        return
    from promptgraft.model.device import resolve_device
    from promptgraft.model.load import fastest

    place = resolve_device(device)
    if fastest(place) != "bf16":
        what = "processor" if place.type == "cpu" else "GPU"
        say.note(f"bf16 is slower than fp32 on this {what}")


def run_folder(out: Path | None, verb: str, task: Task) -> Path:
    """The run folder: the one given, or runs/VERB-TASK."""
    return out if out is not None else Path("runs") / f"{verb}-{file_name(task.name)}"
