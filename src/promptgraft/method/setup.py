"""These functions are shared by methods that set up a run: they make its readout, rows and prompt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial

import torch
from jaxtyping import Float, Int
from torch import Tensor

from promptgraft.errors import RunError, unknown
from promptgraft.method.job import Job, Source
from promptgraft.method.method import Split, View
from promptgraft.model.backbone import Speaks
from promptgraft.model.tokens import concatenate
from promptgraft.prompt.init import Init, initial
from promptgraft.prompt.prompt import Prompt
from promptgraft.prompt.reading import Encoding, Reading
from promptgraft.prompt.reparam import parameterise
from promptgraft.readout.all import find as find_readout
from promptgraft.readout.all import readouts
from promptgraft.readout.classes import class_indices
from promptgraft.readout.features import width_of
from promptgraft.readout.readout import Given, Readout, on_device
from promptgraft.readout.restore import restore
from promptgraft.task.task import Task
from promptgraft.template.template import Template
from promptgraft.train.data import Data, make_data
from promptgraft.train.recipe import Recipe
from promptgraft.train.run import Run, Tuned
from promptgraft.train.terms import Term
from promptgraft.train.weights import Weights


def generator(job: Job, salt: int = 0) -> torch.Generator:
    """The random numbers of a job; each salt gives a stream of its own."""
    return torch.Generator().manual_seed(job.seed * 1_000_003 + salt)


def carried_by_default(task: Task) -> str:
    """The default readout of transfers: label text for single texts, which carries over to other labels."""
    return task.facts.carried


def known_readout(name: str, *words: str) -> str:
    """Check that a name is a readout's, or one of the method's own words.

    Raises:
        ValueError: neither.
    """
    if name not in words and name not in readouts():
        raise ValueError(str(unknown("readout", name, [*words, *readouts()])))
    return name


def readout_name(job: Job, view: View, wanted: str, default: str) -> str:
    """The name of the readout to use, checked to read the task's kind; with a template, by default one of words.

    Raises:
        RunError: it cannot.
    """
    task = view.task
    if job.recipe.template and wanted == "auto":
        return in_words(view)
    name = default if wanted == "auto" else task.facts.readout if wanted in ("linear", "new") else wanted
    name = task.facts.in_words or name if name == "label-text" else name
    if task.kind not in find_readout(name).kinds:
        raise RunError(f"readout {name!r} cannot read a {task.kind} task", where=task.name, do="use --readout auto")
    return name


def in_words(view: View) -> str:
    """The default readout of a template: the words at the answer's place, whole answers of options, or texts."""
    if view.task.facts.written:
        return view.task.facts.readout
    is_detector = "original" in view.backbone.reads
    name = "option-completion" if view.task.kind == "choice" else "detector" if is_detector else "verbalizer"
    if view.task.kind not in find_readout(name).kinds:
        raise RunError(
            f"no readout reads a {view.task.kind} task in words", where=view.task.name, do="leave out --template"
        )
    return name


def encoding_for(view: View, readout: str) -> Encoding:
    """The encoding of pairs: the view's choice if the readout can read separate sequences, else `cross`."""
    paired = any(example.pair is not None for rows in view.task.splits.values() for example in rows[:1])
    readable = view.task.facts.pairs_apart and paired and find_readout(readout).pairs
    return view.encoding() if readable else "cross"


def reading_for(view: View, readout: str) -> Reading:
    """How a readout of that name reads the job's rows: those that read words in the job's template."""
    reads = find_readout(readout).reads
    if reads == "mark" or reads == "answer" or reads == "original":
        return view.in_words(reads)
    return Reading(view.pooling, encoding_for(view, readout))


def new_readout(job: Job, view: View, name: str, reading: Reading) -> Readout:
    """A fresh readout for the job's task."""
    kind = find_readout(name)
    width = width_of(view.backbone, kind.reads, reading.encoding)
    return kind.create(view.task, width, generator(job, 1), given_for(view, reading))


def given_for(view: View, reading: Reading) -> Given:
    """What a readout may ask of the backbone that it reads so."""
    if reading.template is None:
        return Given(partial(view.describe, pooling=reading.pooling))
    backbone = view.backbone
    columns = partial(columns_of, backbone) if isinstance(backbone, Speaks) else None
    rows = partial(labelled_states, view, reading) if "mark" in backbone.reads else None
    return Given(lambda texts: view.describe(texts, view.pooling), view.words, columns, rows)


def labelled_states(view: View, reading: Reading) -> tuple[Float[Tensor, "N E"], Int[Tensor, "N"]]:
    """Frozen states of the training rows at the answer's place, without a prompt, and their classes."""
    assert reading.template is not None, "words are read in a template"
    words = str(Template.parse(reading.template).without_vectors)
    states = view.states("train", None, replace(reading, pooling="mark", template=words, answers=()))
    return states, torch.tensor(class_indices((row.label for row in view.task.train), view.task), dtype=torch.long)


def columns_of(backbone: Speaks, words: Sequence[str]) -> tuple[Float[Tensor, "M E"], Float[Tensor, "M"]]:
    """The head's weights and biases of words.

    Of a word of several tokens a masked model is asked for their mean, since it fills one mask; others for the first,
    which is what they say next.
    """
    ids = backbone.word_ids(words)
    for word, tokens in zip(words, ids, strict=True):
        if not tokens:
            raise RunError(f"the model has no token for the word {word!r}", do="give the label another word")
    groups = [tokens if backbone.mask is not None else tokens[:1] for tokens in ids]
    weights, biases = backbone.columns(torch.tensor([token for group in groups for token in group]))
    owner = torch.arange(len(groups)).repeat_interleave(torch.tensor([len(group) for group in groups]))
    share = torch.nn.functional.one_hot(owner, len(groups)).float().T
    share /= share.sum(1, keepdim=True)
    return share @ weights, share @ biases


def source_tuned(source: Source) -> Tuned:
    """The source's model as it is stored.

    Raises:
        RunError: the artefact has no prompt (a probe, or model tuning).
        ArtefactError: its readout is not what its card says.
    """
    artefact = source.artefact
    if artefact.prompt is None:
        raise RunError("has no prompt to carry over", where=source.name, do="choose a source tuned with prompt-tuning")
    return Tuned(artefact.prompt, restore(artefact), artefact.reading)


def carried_readout(job: Job, view: View, label_map: Mapping[str, str]) -> Tuned:
    """The source's prompt with its readout carried over to the job's labels, nothing trained.

    Raises:
        RunError: the kinds differ, or the readout cannot serve the labels.
    """
    assert job.source is not None
    tuned = source_tuned(job.source)
    if view.task.kind not in type(tuned.readout).kinds:
        message = f"its readout {type(tuned.readout).name!r} cannot read a {view.task.kind} task"
        raise RunError(message, where=job.source.name, do="use --readout new")
    for label in label_map:
        if label not in view.task.labels:
            raise unknown(f"label of {view.task.name} in the label map", label, view.task.classes, RunError)
    reading = tuned.reading
    if reading.pooling == "answer" or reading.pooling == "original":  # what each class says is the target's own
        reading = replace(reading, answers=view.in_words(reading.pooling).answers)
    return replace(tuned, readout=tuned.readout.carry(view.task, given_for(view, reading), label_map), reading=reading)


def label_text_on(job: Job, view: View, label_map: Mapping[str, str]) -> Tuned:
    """The source's prompt with a label-text readout: carried where the source has one, else from descriptions alone."""
    assert job.source is not None
    tuned = source_tuned(job.source)
    if view.task.facts.in_words is None:
        raise RunError(f"label text cannot read a {view.task.kind} task", where=view.task.name, do="use --readout new")
    kind = find_readout(view.task.facts.in_words)
    if type(tuned.readout) is kind:
        return carried_readout(job, view, label_map)
    reading = replace(tuned.reading, encoding="cross")
    readout = kind.create(view.task, view.backbone.hidden, generator(job, 1), given_for(view, reading))
    return Tuned(tuned.prompt, readout, reading)


def fresh_prompt(job: Job, view: View, reading: Reading) -> Prompt:
    """A prompt from scratch, as the recipe says, or as the template does that leaves room for its vectors."""
    recipe = job.recipe
    starts = () if reading.template is None else view.backbone.slots(reading.template)
    if starts:
        return _in_slots(job, view, starts)
    return initial(
        Init(recipe.init, text=recipe.init_text),
        view.backbone,
        recipe.length,
        recipe.depth,
        recipe.placement,
        generator(job, 2),
        task=view.task,
    )


def _in_slots(job: Job, view: View, starts: Sequence[int | None]) -> Prompt:
    """A prompt for a template's vectors: embeddings of the words they start from, else as the recipe says."""
    given = Init("normal" if job.recipe.init == "text" else job.recipe.init)
    prompt = initial(given, view.backbone, len(starts), "shallow", "template", generator(job, 2), task=view.task)
    places = [place for place, token in enumerate(starts) if token is not None]
    values = prompt.values.clone()
    values[places] = view.backbone.embed(
        torch.tensor([token for token in starts if token is not None], dtype=torch.long)
    )
    return Prompt(values, "template")


def training_rows(view: View, readout: Readout, reading: Reading) -> tuple[Data, Data]:
    """The run's training rows (unlabelled ones after the labelled) and its validation rows."""
    labelled = view.task.train
    free = view.task.splits.get("unlabelled", ())
    tokens = view.tokens("train", reading)
    if free:
        tokens = concatenate([tokens, view.tokens("unlabelled", reading)])
    train = make_data(view.task, (*labelled, *free), tokens, readout, len(labelled))
    rows = view.task.validation
    return train, make_data(view.task, rows, view.tokens("validation", reading), readout, len(rows))


def make_run(
    job: Job,
    view: View,
    start: Tuned,
    *,
    recipe: Recipe | None = None,
    terms: tuple[Term, ...] = (),
    dropout: float = 0.0,
    streams: tuple[torch.Generator, ...] = (),
    data: tuple[Data, Data] | None = None,
    weights: Weights | None = None,
    carried: bool = False,
) -> Run:
    """Make a run that trains the prompt and readout of `start`, and weights if given, on the backbone's device."""
    recipe = recipe or job.recipe
    device = view.backbone.device
    prompt = None if start.prompt is None else start.prompt.to(device)
    if prompt is not None:
        recipe = recipe.changed(depth=prompt.depth, placement=prompt.placement, length=prompt.length)
    train, validation = data or training_rows(view, start.readout, start.reading)
    if prompt is not None:
        check_room(view, prompt, start.reading)
    return Run(
        name=job.id,
        seed=job.seed,
        recipe=recipe,
        prompt=None if prompt is None else parameterise(recipe.parameterisation, prompt, generator(job, 3)),
        placement=recipe.placement,
        readout=start.readout if device.type == "cpu" else on_device(start.readout, device),
        reading=start.reading,
        train=train,
        validation=validation,
        terms=terms,
        weights=weights,
        dropout=dropout,
        streams=streams,
        carried=carried,
    )


def check_room(view: View, prompt: Prompt, reading: Reading) -> None:
    """Check that every row fits beside the prompt, before the first of them is trained on.

    Raises:
        RunError: the longest row and the prompt take more positions than the backbone has.
    """
    if prompt.depth == "deep" and prompt.placement == "after_cls":  # takes no position
        return
    splits = (view.tokens(split, reading) for split in SPLITS if view.task.splits.get(split))
    longest = max((int(tokens.lengths.max()) for tokens in splits if len(tokens.lengths)), default=0)
    room = view.backbone.max_length - prompt.length
    if longest > room:
        message = f"a row of {longest} tokens and a prompt of {prompt.length} take more than {view.backbone.max_length}"
        do = f"use --max-length {room}, or --depth deep, whose vectors take no positions"
        raise RunError(f"{message} positions of {view.backbone.name}", where=view.task.name, do=do)


SPLITS: tuple[Split, ...] = ("train", "validation", "test", "unlabelled")


def scratch(job: Job, view: View, readout: str) -> Tuned:
    """A fresh prompt and readout from scratch."""
    reading = reading_for(view, readout)
    return Tuned(fresh_prompt(job, view, reading), new_readout(job, view, readout, reading), reading)


# Carried parts start near where they should end: measured on minilm, a carried prompt at the full rate loses what
# it brought (research pilot: 3e-3 against 1e-2, readout 5e-3 against 1e-2).
CARRIED_PROMPT_RATE, CARRIED_READOUT_RATE = 0.3, 0.5


def carried_recipe(recipe: Recipe) -> Recipe:
    """The recipe for a run whose prompt and readout both come from a source."""
    return recipe.changed(
        rate=recipe.rate * CARRIED_PROMPT_RATE, readout_rate=recipe.readout_rate * CARRIED_READOUT_RATE
    )
