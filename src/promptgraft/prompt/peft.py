"""Imports and exports PEFT adapter folders: PROMPT_TUNING, PREFIX_TUNING and CARTRIDGE.

Layout as PEFT 0.21 writes it: the prompt's rows (`peft_layout.py`), and the head of a classifier as
`base_model.classifier.*`; adapters of language models have none. What PEFT has no place for is in promptgraft.json
beside it, because older releases of PEFT fail on keys of adapter_config.json that they do not know.
"""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from promptgraft.errors import ArtefactError, listed
from promptgraft.prompt import atomic, files
from promptgraft.prompt.artefact import Artefact, other_backbone
from promptgraft.prompt.card import NO_READOUT, BackboneCard, Card, PromptCard, TaskCard, read_card
from promptgraft.prompt.files import LIMITS
from promptgraft.prompt.peft_layout import (
    DEPTHS,
    EMBEDDINGS,
    FORM,
    check_task_type,
    config_of,
    from_rows,
    held,
    to_rows,
    writes_words,
)
from promptgraft.prompt.prompt import Prompt
from promptgraft.prompt.tensors import check_finite, check_numbers, load_tensors, plain, reason, remedy, tensor_hash
from promptgraft.untrusted import read_bytes, read_json, visible

CONFIG, TENSORS, OURS = "adapter_config.json", "adapter_model.safetensors", "promptgraft.json"
WEIGHT, BIAS = "base_model.classifier.weight", "base_model.classifier.bias"
# Families whose classification model in transformers is pooler -> dropout -> one linear layer.
LINEAR_HEADS = ("bert", "albert")
HEADS = ("linear", "multilabel", "regression")
"""Readouts that are such a layer; of `multilabel`, transformers takes the sigmoid that its problem_type asks for."""
WITHOUT = "delete it to import the adapter without it"
LARGEST_JSON = 2 * LIMITS[files.CARD]
"""The most bytes of a JSON file that are read; one of the files holds a card."""


def export_peft(
    artefact: Artefact,
    folder: str | Path,
    *,
    base_model: str,
    layers: int,
    heads: int,
    exact: bool = True,
    peft_type: str | None = None,
) -> tuple[str, ...]:
    """Write an artefact as a PEFT adapter folder.

    With PEFT it is used on the backbone's ForSequenceClassification model with as many labels as the task, or on the
    language model itself.

    Args:
        base_model: the backbone's hub name or folder, as PEFT will look for it.
        layers: of the backbone, of its decoder where it has two sides.
        heads: those that have keys of their own.
        exact: refuse where PEFT would not give the same predictions.
        peft_type: of the adapter; default: the one that the artefact came from, else what fits the prompt's depth.
    Returns: why predictions will differ, empty where they will not.
    Raises:
        ArtefactError: nothing PEFT could load, or (with `exact`) nothing it would compute alike; a folder that is
            not empty, or no room.
    """
    folder = Path(folder)
    if artefact.prompt is None:
        raise ArtefactError("an artefact without a prompt has nothing for PEFT", do="export one that was prompt-tuned")
    card, family = artefact.card, artefact.card.backbone.family
    kind = _type_of(artefact.prompt, card, peft_type)
    prompt, lost = held(artefact.prompt, family, layers)
    differences = (*_differences(prompt, card), *lost, *_beside(artefact))
    if differences and exact:
        do = "tune with placement 'peft', an encoder with pooling 'pooler', or export it knowing that it will differ"
        raise ArtefactError(f"PEFT would not predict the same: {'; '.join(differences)}", do=do)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ArtefactError("is not an empty folder", where=folder, do="choose another place")
    tensors = {EMBEDDINGS: to_rows(prompt, family), **_head(artefact)}
    config = config_of(prompt, family, kind, base_model=base_model, layers=layers, heads=heads, head=WEIGHT in tensors)
    described = card.replace(prompt=PromptCard.of(prompt))
    ours = {"adapter": tensor_hash(tensors), "card": json.loads(described.to_json())}
    _write(folder, tensors, {CONFIG: config, OURS: ours})
    return differences


def import_peft(folder: str | Path, backbone: BackboneCard, task: TaskCard | None = None) -> Artefact:
    """Read a PEFT adapter folder; the prompt and the head are exactly those of the file.

    An adapter that `export_peft` wrote and that is unchanged keeps its card. Any other gets a new one, with
    readout `none` (and a warning) where its head is not a linear layer on the pooler.

    Args:
        backbone: the model the adapter belongs to; PEFT does not record which weights it was tuned on.
        task: what it was tuned for, labels in the order of the head's rows; without it labels are 0, 1, ...
    Raises:
        ArtefactError: not a prompt of these types, damaged, or of another backbone than `backbone`.
    """
    folder = Path(folder)
    config = _read_config(folder)
    tensors = load_tensors(folder / TENSORS, LIMITS[files.TENSORS])
    check_finite(tensors, str(folder / TENSORS))
    check_task_type(config, backbone.family, backbone.name, folder / CONFIG)
    prompt = Prompt(from_rows(tensors, config, folder / TENSORS), "peft")
    _check_head(tensors, folder / TENSORS)
    card = _own_card(folder, tensors)
    if card is not None and (card.prompt is None or card.prompt.shape != tuple(prompt.values.shape)):
        raise ArtefactError("does not describe the adapter beside it", where=folder / OURS, do=WITHOUT)
    if card is not None and card.backbone.fingerprint != backbone.fingerprint:
        raise other_backbone(card, backbone.fingerprint, backbone.name, where=str(folder))
    if card is None:
        card = _new_card(folder, tensors, config, prompt, backbone, task)
    return Artefact(prompt, _readout(tensors, card), card)


def _type_of(prompt: Prompt, card: Card, wanted: str | None) -> str:
    """The type of adapter that a prompt becomes.

    Raises:
        ArtefactError: there is no such type, or it is for prompts of another depth.
    """
    origin = card.options.get("peft_type") if card.method == "peft" else None
    fitting = [kind for kind, depth in DEPTHS.items() if depth == prompt.depth]
    if wanted is not None and wanted not in fitting:
        message = f"a {prompt.depth} prompt is no {visible(wanted)} adapter"
        raise ArtefactError(message, do=f"export it as {' or '.join(fitting)}")
    return wanted or (str(origin) if origin in fitting else fitting[0])


def _beside(artefact: Artefact) -> tuple[str, ...]:
    """What an adapter has no place for: further models that are added up, and which labels a row gets."""
    count, differences = len(artefact.others) + 1, []
    if artefact.others:
        differences.append(f"it is the weightiest of {count} models whose scores are added")
    if artefact.card.readout == "multilabel":
        state = artefact.readout
        share = 1 / (1 + math.exp(-float(state["threshold"])))
        if share != 0.5:
            differences.append(f"labels are given from a probability of {share:.2f}, which an adapter does not hold")
        if float(state["least"]):
            differences.append("every row gets its likeliest label, which an adapter does not say")
    return tuple(differences)


def _differences(prompt: Prompt, card: Card) -> tuple[str, ...]:
    """The reasons why PEFT's model would predict differently from ours; empty where it would not."""
    family, placement = card.backbone.family, prompt.placement
    if writes_words(family):
        checks = {
            f"placement is {placement}, PEFT's own is peft": placement != "peft",
            f"the readout {card.readout} has no counterpart: PEFT's model gives words": card.readout != NO_READOUT,
        }
        return tuple(text for text, differs in checks.items() if differs)
    checks = {
        f"placement is {placement}, PEFT's own is peft": placement != "peft",
        f"pooling is {card.pooling}, transformers' head reads the pooler": card.pooling != "pooler",
        f"pairs are encoded {card.encoding}, PEFT knows one sequence": card.encoding != "cross",
        f"the readout {card.readout} has no counterpart": card.readout not in HEADS,
        f"the head of {family} is not one linear layer": family not in LINEAR_HEADS,
        f"PEFT has no prefix tuning for {family}": prompt.depth == "deep" and family == "albert",
    }
    return tuple(text for text, differs in checks.items() if differs)


def _check_head(tensors: Mapping[str, Tensor], where: Path) -> None:
    """Raises an ArtefactError where a classifier is incomplete or is no linear layer."""
    weight, bias = tensors.get(WEIGHT), tensors.get(BIAS)
    for name in (WEIGHT, BIAS):
        if name in tensors:
            check_numbers(name, tensors[name], str(where))
    if weight is None and bias is None:
        return
    if weight is None or bias is None or weight.ndim != 2 or bias.shape != weight.shape[:1] or 0 in weight.shape:
        raise ArtefactError("its classifier is no linear layer", where=where, do="save it with PEFT again")


def _head(artefact: Artefact) -> dict[str, Tensor]:
    """The readout as the tensors of transformers' classifier; empty where it has no such form."""
    state, card = artefact.readout, artefact.card
    if card.backbone.family not in LINEAR_HEADS or card.encoding != "cross":
        return {}
    if card.readout in ("linear", "multilabel"):
        return {WEIGHT: plain(state["weight"]), BIAS: plain(state["bias"])}
    if card.readout == "regression":  # predictions are score * sd + mean, which PEFT's model has no place for
        mean, sd = state["moments"]
        return {WEIGHT: plain(state["weight"] * sd)[None], BIAS: plain(state["bias"] * sd + mean)[None]}
    return {}


def _readout(tensors: Mapping[str, Tensor], card: Card) -> dict[str, Tensor]:
    """The state of our readout, from the classifier's tensors."""
    if card.readout not in HEADS or WEIGHT not in tensors:
        return {}
    weight, bias = tensors[WEIGHT], tensors[BIAS]
    if card.readout == "regression":
        return {"weight": weight[0], "bias": bias[0], "moments": torch.tensor([0.0, 1.0])}
    names = json.dumps(list(card.task.labels)).encode("ascii")
    state = {"labels": torch.tensor(list(names), dtype=torch.uint8), "weight": weight, "bias": bias}
    rule = {"threshold": torch.tensor(0.0), "least": torch.tensor(0.0)} if card.readout == "multilabel" else {}
    return state | rule


def _write(folder: Path, tensors: Mapping[str, Tensor], pages: Mapping[str, object]) -> None:
    try:
        with atomic.writing_folder(folder) as temporary:
            safetensors.torch.save_file(dict(tensors), temporary / TENSORS, metadata={"format": "pt"})
            for name, page in pages.items():
                (temporary / name).write_text(json.dumps(page, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    except (OSError, SafetensorError) as error:
        raise ArtefactError(f"could not be written ({reason(error)})", where=folder, do=remedy(error)) from error


def _read_config(folder: Path) -> dict[str, Any]:
    path = folder / CONFIG
    if not path.exists():
        raise ArtefactError("is missing", where=path, do="name the folder that PEFT's save_pretrained wrote")
    config = read_json(read_bytes(path, LARGEST_JSON, ArtefactError), path, ArtefactError)
    peft_type = config.get("peft_type") if isinstance(config, dict) else None
    if not isinstance(peft_type, str):
        raise ArtefactError("names no peft_type", where=path, do="name the folder that PEFT's save_pretrained wrote")
    if peft_type not in DEPTHS:
        what = f"is a {visible(peft_type)} adapter"
        raise ArtefactError(what, where=path, do=f"only {listed(list(DEPTHS))} can be imported")
    if not all(type(config.get(key)) is int for key in FORM):
        raise ArtefactError(f"lacks one of {', '.join(FORM)}", where=path, do="save it with PEFT again")
    return dict(config)


def _own_card(folder: Path, tensors: Mapping[str, Tensor]) -> Card | None:
    """The card that our export wrote, if there is one and the tensors have not changed since."""
    path = folder / OURS
    if not path.is_file():
        return None
    ours = read_json(read_bytes(path, LARGEST_JSON, ArtefactError), path, ArtefactError)
    if not isinstance(ours, dict) or not {"adapter", "card"} <= ours.keys():
        raise ArtefactError("is not what export wrote", where=path, do=WITHOUT)
    adapter, card = ours["adapter"], json.dumps(ours["card"])
    if adapter != tensor_hash(tensors):
        warnings.warn(f"{path}: the adapter was changed since; its card is not used", stacklevel=3)
        return None
    own_card = read_card(card, str(path))
    return own_card if WEIGHT in tensors else own_card.replace(readout=NO_READOUT)


def _new_card(
    folder: Path,
    tensors: Mapping[str, Tensor],
    config: Mapping[str, Any],
    prompt: Prompt,
    backbone: BackboneCard,
    task: TaskCard | None,
) -> Card:
    """A card for an adapter that PEFT made."""
    weight = tensors.get(WEIGHT) if backbone.family in LINEAR_HEADS else None
    rows = 0 if weight is None else weight.shape[0]
    if weight is None and any("classifier" in name or "score" in name for name in tensors):
        warnings.warn(f"{folder}: its head is not a linear layer on the pooler and was left out", stacklevel=3)
    task = task if task is not None else _default_task(folder, rows)
    if task.labels and rows and len(task.labels) != rows:
        what = f"its head has {rows} rows, the task {task.name} has {len(task.labels)} labels"
        raise ArtefactError(what, where=folder, do="give the labels it was trained with, in their order")
    return Card(
        task=task,
        backbone=backbone,
        prompt=PromptCard.of(prompt),
        pooling="pooler" if rows else "mean",
        readout=NO_READOUT if not rows else task.kind if task.kind in ("multilabel", "regression") else "linear",
        method="peft",
        options={"peft_type": config["peft_type"]},
        trainable=sum(tensor.numel() for tensor in tensors.values()),
    )


def _default_task(folder: Path, rows: int) -> TaskCard:
    """A task card named after the folder, with numbered labels, since PEFT keeps neither name nor labels."""
    name = folder.resolve().name
    if rows == 1:
        return TaskCard(name=name, kind="regression", metric="pearson_spearman")
    return TaskCard(
        name=name, kind="classification", metric="accuracy", labels={str(row): str(row) for row in range(rows)}
    )
