"""`search` finds a prompt in words by algorithm, within one counted budget, and says what it is worth."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from dataclasses import replace as replace_fields
from pathlib import Path
from typing import Any

from promptgraft.api.checking import check_given
from promptgraft.api.finding import with_found
from promptgraft.api.keeping import owner_of
from promptgraft.api.opening import bank_for, log_notes, open_model, open_task
from promptgraft.arguments import checked
from promptgraft.bank.bank import Bank
from promptgraft.engine.progress import Event, Progress
from promptgraft.engine.rank import banked as bank_sources
from promptgraft.engine.store import ARTEFACT, Store
from promptgraft.engine.unread import unknown_words_note, unread_rows
from promptgraft.errors import MissingExtraError, RunError, UsageError, within_memory
from promptgraft.model.backbone import Backbone, Writes
from promptgraft.model.device import DeviceName
from promptgraft.model.seq2seq import SequenceBackbone
from promptgraft.prompt.artefact import save as save_artefact
from promptgraft.prompt.atomic import remove_folder, write_text
from promptgraft.prompt.reading import Reading
from promptgraft.readout.features import says_words, speechless
from promptgraft.searches.algorithm import Algorithm, Skill
from promptgraft.searches.all import PLACEBOS, find
from promptgraft.searches.banked import BankedSpan, banked_span
from promptgraft.searches.candidate import Words
from promptgraft.searches.outcome import SearchOutcome
from promptgraft.searches.run import FoundPrompt, Setting, run_algorithm
from promptgraft.searches.scorer import Scorer
from promptgraft.searches.space import make_space
from promptgraft.searches.split import search_split
from promptgraft.searches.vectors import RandomVectors
from promptgraft.task.frames import TaskData
from promptgraft.task.task import Example, Task, content_hash
from promptgraft.untrusted import file_name

PASSES = 2000
OWN_BANK = "name a bank of your own: --bank FOLDER"
IDENTITY = "search.json"
"""The file of a search's folder that says which search it is."""


@dataclass(frozen=True)
class SearchCost:
    """What a search will cost.

    Attributes:
        passes: the maximum for all algorithms and the reports.
        seconds: at the speed of scoring the first template once.
    """

    passes: int
    seconds: float


@checked
@within_memory()
def search(
    task: Task | TaskData,
    model: Backbone | str | Path,
    algorithms: Sequence[str] = (),
    *,
    passes: int = PASSES,
    shots: int | None = 16,
    seed: int = 0,
    template: str = "",
    verbalizer: str = "",
    proposer: Backbone | str | Path | None = None,
    max_length: int | None = None,
    bank: Bank | str | Path | None = None,
    start: str = "",
    out: str | Path | None = None,
    replace: bool = False,
    device: DeviceName = "auto",
    progress: Progress | None = None,
) -> SearchOutcome:
    """Search for a text prompt by one or several algorithms, with placebos at the same budget.

    Args:
        algorithms: names; the placebos (`none`, `library`, `random`) always run.
        passes: the budget of each algorithm, in passes of a row through a model.
        shots: labelled rows for each class to search on, and as many to choose on; None: all.
        template: the template that edits start from, or the folder of a search; default: the library's.
        verbalizer: the labels' words (`good=great|fine,bad=terrible`), which are then not changed.
        proposer: the model that is asked for words and texts; default: the model itself.
        max_length: maximum number of tokens of a row; None: 128, or 384 for texts to be written.
        bank: a bank whose prompts span the space in which vectors are searched; `random-vectors`, the placebo, is
            then run too.
        start: the name of the prompt in the bank from which a search for vectors starts.
        out: the folder for all results; the same call continues where it stopped.
        replace: replace another search in the folder.
    Raises:
        UsageError: an unknown name, or a budget that is too small for any candidate.
        RunError: a task that cannot be searched with the model, or a model without a head over words.
    """
    check_given(out=out)
    kinds = _kinds(algorithms, bank)
    setting, notes = setting_for(
        task, model, passes=passes, shots=shots, seed=seed, template=template, verbalizer=verbalizer,
        proposer=proposer, max_length=max_length, bank=bank, start=start, device=device,
    )  # fmt: skip
    folder = None if out is None else Path(out)
    with nullcontext() if folder is None else Store(folder).alone():
        if folder is not None:
            _claim(folder, _identity(setting), replace)
        found, problems = _run(kinds, setting, folder, progress)
    notes = (*notes, *(f"{name} is left out: {problem}" for name, problem in problems.items()))
    log_notes(notes)
    outcome = SearchOutcome(setting.space.task, setting.split.report, tuple(found), problems, notes)
    if found and folder is not None:
        save_artefact(outcome.best.artefact, folder / ARTEFACT)
    if not found:
        raise RunError("no algorithm found a prompt", where=setting.space.task.name, do=next(iter(problems.values())))
    return outcome


@checked
def estimate_search(
    task: Task | TaskData, model: Backbone | str | Path, algorithms: Sequence[str] = (), **values: Any
) -> SearchCost:
    """Predict the cost of a search, by scoring the first template once on the search rows.

    Args:
        values: the arguments of `search`.
    """
    kinds = _kinds(algorithms, values.get("bank"))
    setting, _ = setting_for(task, model, **values)
    rows = setting.split.search
    sheet = setting.scorer.sheet(setting.space.start, rows, range(len(rows)), own=True)
    seconds = 0.0
    for _ in range(2):  # the first time, what is made once is made
        began = time.monotonic()
        setting.scorer.shares([sheet])
        seconds = time.monotonic() - began
    total = len(kinds) * (setting.passes + len(setting.split.report) * setting.passes_a_row)
    return SearchCost(total, seconds / sheet.tokens.sequences * total)


def _kinds(names: Sequence[str], bank: Bank | str | Path | None) -> list[type[Algorithm]]:
    """The algorithms that run: the placebos, that of vectors among them where a bank is given, and those named.

    Raises:
        UsageError: a name that there is not, or a bank that no algorithm named uses.
    """
    kinds = [find(name) for name in dict.fromkeys(names)]
    if bank is not None and not any("vectors" in kind.needs for kind in kinds):
        raise UsageError("a bank spans searches for vectors, and none is named", do="add cma-es to the algorithms")
    placebos = (*PLACEBOS, *(() if bank is None else (RandomVectors.name,)))
    return [find(name) for name in dict.fromkeys((*placebos, *names))]


@checked
def setting_for(
    task: Task | TaskData,
    model: Backbone | str | Path,
    *,
    passes: int = PASSES,
    shots: int | None = 16,
    seed: int = 0,
    template: str = "",
    verbalizer: str = "",
    proposer: Backbone | str | Path | None = None,
    max_length: int | None = None,
    bank: Bank | str | Path | None = None,
    start: str = "",
    device: DeviceName = "auto",
) -> tuple[Setting, tuple[str, ...]]:
    """Open what a search needs, and draw its rows before anything else; with notes. See `search`."""
    recipe = {"template": template, "verbalizer": verbalizer, "max_length": max_length}
    check_given(model, proposer, recipe=recipe, bank=bank, seeds=(seed,), shots=shots, device=device)
    if passes < 1:
        raise UsageError(f"--passes {passes:,}", do="give 1 or more")
    if start and bank is None:
        raise UsageError("no bank was given", do=OWN_BANK)
    opened = open_task(task)
    split = search_split(opened, shots, seed)
    backbone = open_model(model, "auto", device)
    if not says_words(backbone):
        raise speechless(backbone, "no words can be searched for it", opened.name)
    given, words = with_found({"template": template, "verbalizer": verbalizer}, opened)
    space, notes = make_space(opened, split.search, backbone, str(given["template"]), str(given["verbalizer"]))
    notes = (*(words.notes if words is not None else ()), *notes)
    banked, found = _banked(bank, backbone, opened, start)
    space = replace_fields(space, banked=banked)
    limit = min(max_length or opened.facts.max_length, backbone.max_length)
    scorer = Scorer(backbone, opened, split.search, limit)
    scorer.answers, more = _whole_answers(scorer, space.start.words)
    more = (*more, *unknown_words_note(backbone, dict(space.start.words)))
    asked = backbone if proposer is None else open_model(proposer, "auto", device)
    setting = Setting(space, split, scorer, asked, passes, seed, shots)
    if passes < setting.least:
        raise UsageError(
            f"--passes {passes:,} is too small: one candidate on all rows takes {setting.least:,}",
            do=f"give {setting.least:,} or more, or fewer --shots",
        )
    rows = (*split.search, *split.choosing, *split.report)
    return setting, (*opened.notes, *split.notes, *_unread(backbone, opened, rows, limit), *notes, *found, *more)


def _unread(backbone: Backbone, task: Task, rows: Sequence[Example], limit: int) -> Iterator[str]:
    """A note where rows hold few or no words that the model knows."""
    tokens = backbone.tokenize(rows, task.kind, Reading("mean"), max_length=limit)
    if numbers := backbone.unread(rows, tokens):
        yield f"{task.name}: {unread_rows(len(numbers), backbone.name)}"


def _banked(
    bank: Bank | str | Path | None, backbone: Backbone, task: Task, start: str
) -> tuple[BankedSpan | None, tuple[str, ...]]:
    """Where a bank's prompts let a search for vectors begin, None without a bank; and notes.

    Raises:
        UsageError: a prompt to begin with, and no bank; or none of that name.
        RunError: the bank has too few prompts that are alike.
    """
    opened = bank_for(bank, backbone)
    if opened is None:
        if bank is not None:
            raise UsageError(f"the bank that ships has no prompt for {backbone.name}", do=OWN_BANK)
        return None, ()
    sources, _ = bank_sources(opened, backbone)
    return banked_span(sources, backbone, task, start)


def _whole_answers(scorer: Scorer, words: Words) -> tuple[bool, tuple[str, ...]]:
    """Whether whole answers are read, and a note.

    They are where rows have their own answers, and where the labels' first words do not tell labels apart.

    Raises:
        RunError: they should be, and the model gives no probability of one.
    """
    task, can = scorer.task, "answer" in scorer.backbone.reads
    if not task.facts.one_class:
        if not can or (task.facts.written and not isinstance(scorer.backbone, Writes)):
            do = "take a causal or sequence-to-sequence model"
            raise RunError(f"{scorer.backbone.name} gives no probability of whole answers", where=task.name, do=do)
        return True, ()
    try:
        scorer.columns_of_words(words)
    except RunError as error:
        if not can:
            raise RunError(error.what, where=task.name, do="give them other words with --verbalizer") from None
        return True, (f"{error.what}: whole answers are compared, a pass for each label",)
    return False, ()


def _identity(setting: Setting) -> dict[str, object]:
    """What decides a search's answers, but for the names of its algorithms."""
    space, scorer = setting.space, setting.scorer
    banked = space.banked
    rows = content_hash(repr(part) for part in (setting.split.search, setting.split.choosing, setting.split.report))
    return {
        "task": space.task.name,
        "rows": rows,
        "model": scorer.backbone.name,
        "backbone": scorer.backbone.fingerprint,
        "proposer": setting.proposer.fingerprint,
        "arithmetic": scorer.backbone.arithmetic,
        "passes": setting.passes,
        "seed": setting.seed,
        "start": space.start.key,
        "fixed_words": space.fixed_words,
        "limit": scorer.limit,
        **({} if banked is None else {"bank": [origin.hash for origin in banked.origins], "starts": banked.starts}),
    }


def _claim(folder: Path, identity: dict[str, object], replace: bool) -> None:
    """Make sure that a folder is this search's.

    Raises:
        RunError: another search, or another run, is kept there.
    """
    path = folder / IDENTITY
    if not path.exists() and not replace and owner_of(folder) is not None:
        raise RunError(
            "a run that is no search is kept there", where=folder, do="name another folder, or pass --replace"
        )
    text = json.dumps(identity, ensure_ascii=False, indent=1)
    if path.exists() and path.read_text(encoding="utf-8") != text:
        if not replace:
            raise RunError("another search is kept there", where=folder, do="name another folder, or pass --replace")
        for journal in folder.glob("*/journal.jsonl"):
            remove_folder(journal.parent)
        if (folder / ARTEFACT).exists():
            remove_folder(folder / ARTEFACT)
    write_text(path, text)


def _run(
    kinds: Sequence[type[Algorithm]], setting: Setting, folder: Path | None, progress: Progress | None
) -> tuple[list[FoundPrompt], dict[str, str]]:
    """Run each algorithm; one that cannot be run takes no other with it."""
    found, problems = [], {}
    for number, kind in enumerate(kinds):
        problem = _lacking(kind, setting)
        if problem:
            problems[kind.name] = problem
            continue
        own = None if folder is None else folder / file_name(kind.name)
        if own is not None:
            own.mkdir(parents=True, exist_ok=True)
        try:
            found.append(run_algorithm(kind, setting, own, _teller(progress, number, len(kinds), setting.passes)))
        except (RunError, MissingExtraError) as error:
            problems[kind.name] = error.line
    return found, problems


def _teller(progress: Progress | None, number: int, count: int, passes: int) -> Callable[[int, str], None]:
    def tell(spent: int, name: str) -> None:
        if progress is not None:
            behind, running = number / count, 1 / count
            progress(
                Event(
                    number, count, name, min(spent, passes), passes, unit="algorithms", behind=behind, running=running
                )
            )

    return tell


def _lacking(kind: type[Algorithm], setting: Setting) -> str:
    """Why an algorithm cannot be run on this task with these models; empty where it can."""
    if kind.of_labels and not setting.space.task.facts.one_class:
        return f"rows of kind {setting.space.task.kind} have no labels whose words could be searched"
    able = skills(setting.scorer.backbone, setting.proposer)
    missing = sorted(kind.needs - able)
    texts: dict[Skill, str] = {
        "words": "a model that says likely words (masked or causal)",
        "text": "a model that writes: --proposer smollm2-135m",
        "spans": "a sequence-to-sequence model that fills gaps: --proposer NAME",
        "gradients": "a model with gradients",
        "vectors": "a model with gradients",
    }
    return "it needs " + " and ".join(texts[name] for name in missing) if missing else ""


def skills(backbone: Backbone, proposer: Backbone) -> frozenset[Skill]:
    """What models can be asked beside scores."""
    able: set[Skill] = set()
    if says_words(proposer) and hasattr(proposer, "lone_words"):
        able.add("words")
    if isinstance(proposer, Writes):
        able.add("text")
    if isinstance(proposer, SequenceBackbone) and proposer.fills:
        able.add("spans")
    if backbone.arithmetic != "int8":
        able |= {"gradients", "vectors"}
    return frozenset(able)
