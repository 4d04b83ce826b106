"""Arguments and options that several verbs have in common."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from promptgraft.errors import UsageError
from promptgraft.untrusted import file_name

if TYPE_CHECKING:
    from promptgraft.cli.say import Say
    from promptgraft.model.device import DeviceName
    from promptgraft.task.task import Task

TASK_HELP = "A file (csv, tsv, json, jsonl, parquet; .gz too), a folder with task.toml, or hub:DATASET."
MODEL_HELP = "The frozen model: a name of `promptgraft models list`, a folder, or a hub name that is here."
BANK_HELP = "The bank to choose from: a folder, or `starter`, which ships with promptgraft."
SHOTS_HELP = "Labelled rows a class; without it all of the training split."

TaskArgument = Annotated[str, typer.Argument(metavar="TASK", help=TASK_HELP, show_default=False)]
ModelOption = Annotated[str, typer.Option("--model", "-m", help=MODEL_HELP, show_default=False)]
BankOption = Annotated[str, typer.Option("--bank", "-b", help=BANK_HELP)]
ShotsOption = Annotated[int | None, typer.Option("--shots", min=0, help=SHOTS_HELP, show_default=False)]
OutOption = Annotated[
    Path | None,
    typer.Option("--out", "-o", help="Run folder (default: runs/VERB-TASK); the same command goes on where it was."),
]
ReplaceOption = Annotated[
    bool, typer.Option("--replace", help="Take the place of what other data gave, in the run folder and the bank.")
]
SourceOption = Annotated[
    str, typer.Option("--source", help="A name in the bank, or `auto`: the best by a probe on the labelled rows.")
]
DeviceOption = Annotated[
    Literal["auto", "cpu", "cuda"],
    typer.Option("--device", help="Where the model runs; auto: the GPU if there is one."),
]
UnlabelledOption = Annotated[
    Path | None,
    typer.Option("--unlabelled", help="A file of target text without labels, for PANDA's distillation term."),
]
NoHeaderOption = Annotated[
    bool,
    typer.Option("--no-header", help="The first line of a csv or tsv is a row; columns are column_1, column_2, ..."),
]


@dataclass(frozen=True)
class Columns:
    """How the task's data are read; what is not said is inferred and noted."""

    text_column: Annotated[str | None, typer.Option(rich_help_panel="Data", help="Column of the text.")] = None
    pair_column: Annotated[str | None, typer.Option(rich_help_panel="Data", help="Of the second text.")] = None
    label_column: Annotated[str | None, typer.Option(rich_help_panel="Data", help="Of the label.")] = None
    no_header: Annotated[
        bool,
        typer.Option(
            "--no-header",
            rich_help_panel="Data",
            help="The first line of a csv or tsv is a row; columns are column_1, column_2, ...",
        ),
    ] = False
    kind: Annotated[
        Literal["classification", "pair", "regression", "choice", "tagging", "span"] | None,
        typer.Option(rich_help_panel="Data", help="Kind of task."),
    ] = None
    metric: Annotated[str | None, typer.Option(rich_help_panel="Data", help="What is reported and chosen by.")] = None
    positive: Annotated[
        str | None, typer.Option(rich_help_panel="Data", help="The class whose F1 counts with --metric f1.")
    ] = None
    test_rows: Annotated[
        int | None, typer.Option(min=1, rich_help_panel="Data", help="At most so many test rows, drawn by seed.")
    ] = None

    def open(self, task: str) -> Task:
        """The task."""
        from promptgraft.api import open_task

        columns: dict[str, Any] = {"text": self.text_column, "pair": self.pair_column, "label": self.label_column}
        named: dict[str, Any] = {"kind": self.kind, "metric": self.metric, "positive": self.positive}
        return open_task(task, test_rows=self.test_rows, header=not self.no_header, **columns, **named)


@dataclass(frozen=True)
class Seeds:
    """Which random draws: rows, order and initial values."""

    seed: Annotated[int | None, typer.Option(help="One seed (default: 0).", show_default=False)] = None
    seeds: Annotated[
        str | None, typer.Option(metavar="N|A,B,...", help="So many seeds from 0, or a list.", show_default=False)
    ] = None

    def chosen(self, default: int = 1) -> tuple[int, ...]:
        """The seeds; `default` of them where none were named."""
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


@dataclass(frozen=True)
class MethodOptions:
    """Options of methods; a method refuses what it does not know."""

    readout: Annotated[
        Literal["auto", "new", "keep", "label-text", "linear"] | None,
        typer.Option(rich_help_panel="Method", help="What turns hidden states into labels."),
    ] = None
    label_map: Annotated[
        str | None,
        typer.Option(metavar="A=B,...", rich_help_panel="Method", help="This task's label = the source's label."),
    ] = None
    prompt: Annotated[
        Literal["none", "source"] | None,
        typer.Option(rich_help_panel="Method", help="Of zero-shot: no prompt, or the source's."),
    ] = None


@dataclass(frozen=True)
class PandaOptions:
    """Options of PANDA alone."""

    mode: Annotated[
        Literal["paper", "released", "gated"] | None,
        typer.Option(rich_help_panel="PANDA", help="Which reading of PANDA."),
    ] = None
    teacher: Annotated[
        Literal["source", "self", "shuffled-in-class", "shuffled", "random"] | None,
        typer.Option(rich_help_panel="PANDA", help="The teacher; all but the first are placebos."),
    ] = None
    weight: Annotated[
        float | None, typer.Option(rich_help_panel="PANDA", help="Of the distillation term; 0 takes it out.")
    ] = None
    temperature: Annotated[float | None, typer.Option(rich_help_panel="PANDA", help="Of the teacher's scores.")] = None
    share: Annotated[
        float | None, typer.Option(rich_help_panel="PANDA", help="Of the term's gradient, in mode gated.")
    ] = None
    similarity: Annotated[
        Literal["own", "common", "one"] | None,
        typer.Option(rich_help_panel="PANDA", help="Whose examples the task similarity is measured on."),
    ] = None
    embedding: Annotated[
        Literal["cls", "mean"] | None, typer.Option(rich_help_panel="PANDA", help="Pooling of the task embeddings.")
    ] = None


@dataclass(frozen=True)
class RecipeOptions:
    """Numbers of the recipe; what is not given follows from the size of the model and of the data."""

    steps: Annotated[int | None, typer.Option(min=0, rich_help_panel="Recipe", help="Optimiser steps.")] = None
    batch: Annotated[int | None, typer.Option(min=1, rich_help_panel="Recipe", help="Labelled rows a step.")] = None
    rate: Annotated[float | None, typer.Option(rich_help_panel="Recipe", help="Learning rate of the prompt.")] = None
    readout_rate: Annotated[float | None, typer.Option(rich_help_panel="Recipe", help="Of the readout.")] = None
    weights_rate: Annotated[
        float | None, typer.Option(rich_help_panel="Recipe", help="Of the weights, in model tuning.")
    ] = None
    weight_decay: Annotated[float | None, typer.Option(rich_help_panel="Recipe", help="Of all that is trained.")] = None
    warmup: Annotated[
        float | None, typer.Option(rich_help_panel="Recipe", help="Share of steps in which the rate rises.")
    ] = None
    clip: Annotated[
        float | None, typer.Option(rich_help_panel="Recipe", help="Largest norm of the gradient; 0 = off.")
    ] = None
    evaluations: Annotated[
        int | None, typer.Option(min=1, rich_help_panel="Recipe", help="Looks at validation; the best is kept.")
    ] = None
    patience: Annotated[
        int | None, typer.Option(min=0, rich_help_panel="Recipe", help="Looks without gain until it stops; 0 = never.")
    ] = None
    length: Annotated[int | None, typer.Option(min=1, rich_help_panel="Recipe", help="Vectors of the prompt.")] = None
    depth: Annotated[
        Literal["deep", "shallow"] | None,
        typer.Option(rich_help_panel="Recipe", help="Keys and values a layer, or input embeddings."),
    ] = None
    placement: Annotated[
        Literal["after_cls", "peft"] | None, typer.Option(rich_help_panel="Recipe", help="Where the prompt stands.")
    ] = None
    init: Annotated[
        Literal["normal", "vocabulary", "labels", "text"] | None,
        typer.Option(rich_help_panel="Recipe", help="What a prompt from scratch starts as."),
    ] = None
    init_text: Annotated[str | None, typer.Option(rich_help_panel="Recipe", help="The words of --init text.")] = None
    parameterisation: Annotated[str | None, typer.Option(rich_help_panel="Recipe", help="direct, mlp or residual.")] = (
        None
    )
    max_length: Annotated[
        int | None, typer.Option(min=8, rich_help_panel="Recipe", help="Tokens a row; longer ones are cut.")
    ] = None

    pooling: Annotated[
        Literal["auto", "cls", "mean", "pooler"] | None,
        typer.Option(rich_help_panel="Recipe", help="Which state of a text is read; auto: as declared or probed."),
    ] = None
    encoding: Annotated[
        Literal["auto", "cross", "separate", "cosine"] | None,
        typer.Option(rich_help_panel="Recipe", help="Pairs as one sequence or two; auto: by a probe."),
    ] = None

    arithmetic: Annotated[
        Literal["auto", "fp32", "bf16", "int8"] | None,
        typer.Option(
            rich_help_panel="Recipe",
            help="Of the matrix products; auto: bf16 where it is faster. int8: for probes and zero-shot.",
        ),
    ] = None

    def given(self) -> dict[str, Any]:
        """Those that were given."""
        return {name: value for name, value in dataclasses.asdict(self).items() if value is not None}


def note_slow_arithmetic(say: Say, arithmetic: str | None, device: DeviceName) -> None:
    """Say that bf16 was asked for where fp32 is faster; the library does as it is told, and says nothing."""
    if arithmetic != "bf16":
        return
    from promptgraft.model.device import resolve_device
    from promptgraft.model.load import fastest

    place = resolve_device(device)
    if fastest(place) != "bf16":
        what = "processor" if place.type == "cpu" else "GPU"
        say.note(f"bf16 is slower than fp32 on this {what}")


def option_values(*groups: MethodOptions | PandaOptions) -> dict[str, str]:
    """The options that were given, as a job takes them."""
    named = {name: value for group in groups for name, value in dataclasses.asdict(group).items() if value is not None}
    return {
        name.replace("_", "-"): f"{value:g}" if isinstance(value, float) else value for name, value in named.items()
    }


def run_folder(out: Path | None, verb: str, task: Task) -> Path:
    """The run folder: the one given, or runs/VERB-TASK."""
    return out if out is not None else Path("runs") / f"{verb}-{file_name(task.name)}"
