"""These verbs load tuned artefacts for prediction, and move them to and from PEFT."""

from __future__ import annotations

from pathlib import Path

from promptgraft.api.checking import check_given
from promptgraft.api.opening import as_bank, open_model, open_task
from promptgraft.arguments import checked
from promptgraft.bank.bank import Bank
from promptgraft.bank.names import DEFAULT
from promptgraft.engine.predictor import Predictor
from promptgraft.engine.store import ARTEFACT
from promptgraft.errors import ArtefactError, ModelError, RunError, nearest
from promptgraft.model.backbone import Backbone
from promptgraft.model.catalog import entries, resolve
from promptgraft.model.device import DeviceName
from promptgraft.model.load import DType
from promptgraft.model.places import place_of
from promptgraft.prompt import artefact as artefacts
from promptgraft.prompt.artefact import Artefact
from promptgraft.prompt.card import BackboneCard, TaskCard
from promptgraft.prompt.files import CARD
from promptgraft.prompt.peft import export_peft, import_peft
from promptgraft.task.frames import TaskData
from promptgraft.task.task import Task
from promptgraft.untrusted import file_name


@checked
def load(
    path: str | Path,
    model: Backbone | str | Path | None = None,
    *,
    device: DeviceName = "auto",
    arithmetic: DType = "auto",
    memory: str | None = None,
) -> Predictor:
    """Load a tuned artefact, by its folder or a run folder that holds one, ready to predict.

    Args:
        model: the backbone; default: the one named on the card.
        arithmetic: of the backbone. Predictions in `int8` may differ: `engine.agreement` measures how often.
        memory: memory limit, as for `load_backbone`.
    """
    check_given(model, recipe={"arithmetic": arithmetic, "memory": memory}, device=device)
    artefact = artefacts.load(artefact_folder(path))
    backbone = model if model is not None else _local_model(artefact.card.backbone, path)
    return Predictor(artefact, open_model(backbone, arithmetic, device, memory))


def as_predictor(
    run: Artefact | Predictor | str | Path, model: Backbone | str | Path | None, device: DeviceName
) -> tuple[Predictor, str]:
    """An artefact, ready to predict, and what it is called.

    Args:
        run: a run folder, an artefact's folder, an artefact (with `model`), or a predictor.
    """
    if isinstance(run, Predictor):
        return run, run.artefact.card.task.name
    if not isinstance(run, Artefact):
        return load(run, model, device=device), Path(run).resolve().name
    if model is None:
        raise RunError("an artefact alone has no model", where=run.card.task.name, do="pass model=, or its folder")
    return Predictor(run, open_model(model, device=device)), run.card.task.name


def _local_model(model: BackboneCard, where: str | Path) -> str | Path:
    """The name or the folder under which a card's model is found on this machine.

    Raises:
        ModelError: it is not here; a name of the catalog says how to get it, of another the caller knows where it is.
    """
    name, folder = model.name, place_of(model.fingerprint)
    if folder is not None and name not in entries():
        return folder
    try:
        resolve(name)
    except ModelError as error:
        if name in entries():
            raise
        message = f"it was tuned on {name!r}, which is not found from here"
        raise ModelError(message, where=where, do="say where that model is: --model FOLDER, or model=FOLDER") from error
    return name


@checked
def artefact_folder(path: str | Path) -> Path:
    """The folder of the artefact at a path: the path itself, or the artefact's folder inside a run folder.

    Raises:
        ArtefactError: there is none.
    """
    path = Path(path)
    for place in (path, path / ARTEFACT):
        if (place / CARD).exists():
            return place
    entries_here = sorted(card.parent for card in path.glob(f"*/{CARD}"))
    if entries_here:
        do = f"name one of its entries, such as {entries_here[0]}"
        raise ArtefactError("this is a bank, not an artefact", where=path, do=do)
    near = None
    if not path.exists() and path.parent.is_dir():
        near = nearest(path.name, sorted(place.name for place in path.parent.iterdir() if place.is_dir()))
    usual = "give a run folder of tune or transfer, or a bank's entry"
    do = usual if near is None else f"did you mean {str(path.parent / near)!r}?"
    raise ArtefactError("no artefact here", where=path, do=do)


@checked
def export_to_peft(
    bank: Bank | str | Path,
    name: str,
    folder: str | Path,
    *,
    model: Backbone | str | Path | None = None,
    exact: bool = True,
    peft_type: str | None = None,
) -> tuple[str, ...]:
    """Write a banked prompt as a PEFT adapter folder (PROMPT_TUNING, PREFIX_TUNING or CARTRIDGE).

    Args:
        model: its backbone; default: the one named on the card.
        exact: refuse if PEFT would not give the same predictions.
        peft_type: of the adapter; default: the type that the prompt came from, else the one for its depth.
    Returns: the reasons why predictions will differ; empty if they will not.
    """
    check_given(model)
    artefact = as_bank(bank).load(name)
    backbone = open_model(model if model is not None else _local_model(artefact.card.backbone, name))
    base = artefact.card.backbone.hub or artefact.card.backbone.name
    cross = backbone.prompt_layers - backbone.layers  # a decoder beside an encoder has these attentions too
    return export_peft(
        artefact,
        folder,
        base_model=base,
        layers=cross or backbone.layers,
        heads=backbone.key_heads,
        exact=exact,
        peft_type=peft_type,
    )


@checked
def import_from_peft(
    bank: Bank | str | Path,
    folder: str | Path,
    model: Backbone | str | Path,
    *,
    task: Task | TaskData | None = None,
    name: str | None = None,
    replace: bool = False,
) -> str:
    """Add a PEFT adapter folder to a bank; return its name there.

    Args:
        model: the backbone the adapter belongs to; PEFT does not record which weights it was tuned on.
        task: the task it was tuned for; without it, labels are 0, 1, ...
    """
    check_given(model, name=name)
    card = None if task is None else TaskCard.of(open_task(task))
    artefact = import_peft(folder, BackboneCard.of(open_model(model)), card)
    return as_bank(bank, create=True).add(
        artefact, name or file_name(Path(folder).resolve().name, DEFAULT), replace=replace
    )
