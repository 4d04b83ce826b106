"""A stored readout is restored and checked against its card, because artefacts come from anyone."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from promptgraft.errors import ArtefactError, unknown
from promptgraft.model.backbone import Backbone
from promptgraft.prompt.artefact import Artefact, Member
from promptgraft.prompt.card import NO_READOUT, Card
from promptgraft.prompt.reading import Encoding, Reading
from promptgraft.prompt.tensors import check_numbers
from promptgraft.readout.all import find, readouts
from promptgraft.readout.classes import decode_names
from promptgraft.readout.features import width_of
from promptgraft.readout.readout import Readout
from promptgraft.template.template import Template
from promptgraft.untrusted import visible

LARGEST = 1e15
"""Of a readout's weights: their squares and sums are still finite in fp32."""
DO = "tune it again"


def restore(artefact: Artefact, backbone: Backbone | None = None) -> Readout:
    """Restore the readout of an artefact.

    Args:
        backbone: which it will read; None: any that its tensors agree on.
    Raises:
        ArtefactError: there is no such readout, it cannot read the task's kind, or its tensors are not those of so many
            labels and such features.
    """
    return restore_state(artefact.readout, artefact.card, backbone)


def restore_member(member: Member, card: Card, backbone: Backbone | None = None) -> Readout:
    """The readout of a model beside the artefact's own; of one that another backbone reads widths are not checked."""
    named = card if member.kind is None else card.replace(readout=member.kind)
    return restore_state(member.readout, named, None if member.backbone is not None else backbone)


def restore_state(state: Mapping[str, Tensor], card: Card, backbone: Backbone | None = None) -> Readout:
    """A readout of the card's kind from its tensors; the arguments and errors are those of `restore`."""
    where = f"the readout of {card.task.name!r}"
    kind = _kind(card, where)
    sizes = {"classes": len(card.task.labels)}
    if backbone is not None:
        sizes["width"] = width_of(backbone, kind.reads, card.encoding)
    _check_shapes(state, kind, sizes, where)
    if "labels" in kind.form and _names(state, where) != tuple(card.task.labels):
        raise ArtefactError("its labels are not those of its card", where=where, do=DO)
    return kind.load(state)


def check_artefact(artefact: Artefact, backbone: Backbone | None = None) -> None:
    """Make sure that an artefact is what its card says, and fits a backbone where one is given.

    Raises:
        ArtefactError: it is not.
    """
    if backbone is not None:
        check_fits(artefact, backbone)
    if artefact.card.readout != NO_READOUT:
        restore_state(artefact.readout, artefact.card, backbone)
        for member in artefact.others:
            restore_member(member, artefact.card, backbone)


def check_fits(artefact: Artefact, backbone: Backbone) -> None:
    """Make sure that prompt, task embeddings and labelled rows are as wide as a backbone.

    Raises:
        ArtefactError: they are not.
    """
    where, deep = f"the prompt of {artefact.card.task.name!r}", (backbone.prompt_layers, backbone.key_width)
    for form in (artefact.card.prompt, *(member.card.prompt for member in artefact.others)):
        wanted = None if form is None else deep if form.depth == "deep" else (None, backbone.embedding_width)
        if form is not None and (form.layers, form.width) != wanted:
            raise ArtefactError(f"is not as wide or as deep as {backbone.name}", where=where, do=DO)
    if any(len(vector) != backbone.hidden for vector in artefact.embeddings.values()):
        raise ArtefactError(f"its task embeddings are not as wide as {backbone.name}", where=where, do=DO)
    for reading in (artefact.reading, *(member.reading for member in artefact.others if member.backbone is None)):
        _check_pool(reading, backbone, where)
    features = artefact.labelled.get("features")
    if features is not None and features.shape[1] != width_of(backbone, *_features_of(artefact.card)):
        raise ArtefactError(f"its labelled rows are not as wide as features of {backbone.name}", where=where, do=DO)


def _check_pool(reading: Reading, backbone: Backbone, where: str) -> None:
    """Raise an ArtefactError unless demonstrations that are chosen for each row have rows to be chosen from."""
    pool, template = reading.pool, reading.template
    demos = None if template is None else Template.parse(template).demos
    if demos is not None and demos.near and pool is None:
        raise ArtefactError(f"it holds no labelled rows for {demos} of its template", where=where, do=DO)
    if pool is not None and pool.features.shape[1] != backbone.hidden:
        raise ArtefactError(f"its pool of labelled rows is not as wide as {backbone.name}", where=where, do=DO)


def _features_of(card: Card) -> tuple[str, Encoding]:
    """What the features of labelled rows are: states at the answer's place, or pooled ones."""
    return "mark" if card.pooling == "mark" else "pooled", card.encoding


def _kind(card: Card, where: str) -> type[Readout]:
    """The readout that the card names, if it can read the card's task as the card says."""

    if card.readout not in readouts():
        raise unknown("readout", card.readout, readouts(), ArtefactError)
    kind = find(card.readout)
    if card.task.kind not in kind.kinds:
        raise ArtefactError(f"{card.readout!r} cannot read a {card.task.kind} task", where=where, do=DO)
    if card.encoding != "cross" and not kind.pairs:
        raise ArtefactError(f"{card.readout!r} cannot read pairs encoded {card.encoding}", where=where, do=DO)
    for name in ("max_length", "most"):
        length = card.recipe.get(name)
        if length is not None and (type(length) is not int or length < 1):
            raise ArtefactError(f"its {name} is no number of tokens", where=where, do=DO)
    return kind


def _check_shapes(state: Mapping[str, Tensor], kind: type[Readout], sizes: dict[str, int], where: str) -> None:
    """Raise an ArtefactError unless the tensors match the readout's form, with each named size the same everywhere."""
    if state.keys() != kind.form.keys():
        actual, required = (", ".join(sorted(names)) or "none" for names in (state, kind.form))
        raise ArtefactError(f"has the tensors {visible(actual)}, not {required}", where=where, do=DO)
    if "classes" in {size for shape in kind.form.values() for size in shape} and not sizes["classes"]:
        raise ArtefactError("its card has no labels", where=where, do=DO)
    for name, shape in kind.form.items():
        tensor = state[name]
        if name != "labels":
            check_numbers(name, tensor, where, LARGEST)
        named_sizes = dict(zip(shape, tensor.shape, strict=False)) | sizes
        expected = [named_sizes.get(size, 0) if isinstance(size, str) else size for size in shape]
        if list(tensor.shape) != expected or 0 in expected:
            raise ArtefactError(f"its {name} is {list(tensor.shape)}, not {expected}", where=where, do=DO)
        sizes |= {size: length for size, length in named_sizes.items() if isinstance(size, str)}


def _names(state: Mapping[str, Tensor], where: str) -> tuple[str, ...]:
    try:
        return decode_names(state["labels"])
    except (ValueError, TypeError, RecursionError):
        raise ArtefactError("its labels cannot be read", where=where, do=DO) from None
