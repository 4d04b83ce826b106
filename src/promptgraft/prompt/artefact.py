"""The artefact: a tuned prompt with its readout and card, and its folder on disk."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from promptgraft.errors import ArtefactError
from promptgraft.prompt import atomic
from promptgraft.prompt.card import BackboneCard, Card, MemberCard, PromptCard, card_of, read_card
from promptgraft.prompt.files import CARD, LIMITS, README, TENSORS, WEIGHTS
from promptgraft.prompt.memory import LabelMemory, Memory, load_memory
from promptgraft.prompt.pool import LabelledPool
from promptgraft.prompt.prompt import Prompt
from promptgraft.prompt.reading import Encoding, Reading
from promptgraft.prompt.readme import readme
from promptgraft.prompt.tensors import (
    as_full,
    as_half,
    check_finite,
    check_numbers,
    load_tensors,
    plain,
    reason,
    remedy,
    tensor_hash,
)
from promptgraft.untrusted import read_bytes, visible

TRIES = 5
POOLINGS = ("cls", "mean")
OTHERS = "others"
GROUPS = ("readout", "embedding", "memory", "labelled", "pool")
"""What the tensors beside the prompt belong to, by the first part of their names."""


@dataclass(frozen=True, eq=False)
class Member:
    """A model beside the artefact's own: its prompt, its readout's state, and how it reads rows.

    Attributes:
        kind: of its readout; None: as the artefact's.
        backbone: another one than the artefact's; None: the same.
    """

    prompt: Prompt | None
    readout: Mapping[str, Tensor]
    reading: Reading
    kind: str | None = None
    backbone: BackboneCard | None = None

    @property
    def card(self) -> MemberCard:
        """Its part of the card."""
        prompt = None if self.prompt is None else PromptCard.of(self.prompt)
        return MemberCard(prompt=prompt, readout=self.kind, backbone=self.backbone, **card_of(self.reading))


@dataclass(frozen=True, eq=False)
class Artefact:
    """A tuned prompt, its readout, and where both come from.

    Attributes:
        prompt: None for a linear probe or a tuned model.
        readout: the readout's state.
        embeddings: task embeddings of the training rows, `cls` and `mean`, each `[H]`.
        weights: the backbone's own weights after model tuning; None where it stayed frozen.
        others: models whose scores are added to its own.
        memory: of the rows it was fitted to; None where it keeps none.
        half: whether its file holds 16-bit numbers; in memory they are fp32 all the same.
        pool: of labelled rows that are shown to a row as demonstrations; None where none are chosen for each row.
        labelled: of labelled rows, where there are classes: `confidence` and `correct`, `[N]`, of answers by fits that
            had not seen the row; `features`, `[M, F]` at unit length, of rows it was fitted to.
    """

    prompt: Prompt | None
    readout: Mapping[str, Tensor]
    card: Card
    embeddings: Mapping[str, Tensor] = field(default_factory=dict)
    weights: Mapping[str, Tensor] | None = None
    others: tuple[Member, ...] = ()
    memory: Memory | LabelMemory | None = None
    half: bool = False
    labelled: Mapping[str, Tensor] = field(default_factory=dict)
    pool: LabelledPool | None = None

    @property
    def reading(self) -> Reading:
        """How rows are shown and read."""
        return dataclasses.replace(self.card.reading, pool=self.pool)

    @cached_property
    def digest(self) -> str:
        """sha256 over names, types, shapes and bytes of all tensors as they are stored."""
        weights = {f"weights.{name}": tensor for name, tensor in (self.weights or {}).items()}
        return tensor_hash(_flat(self) | weights)

    @cached_property
    def hash(self) -> str:
        """Content hash: equal for equal tensors and cards, whenever and wherever they were saved."""
        return self._whole_card().hash

    def _whole_card(self) -> Card:
        prompt = None if self.prompt is None else PromptCard.of(self.prompt)
        others = tuple(member.card for member in self.others)
        return self.card.replace(prompt=prompt, others=others, tensors=self.digest)

    def replace(self, **changes: object) -> Artefact:
        """A copy with some fields changed."""
        return dataclasses.replace(self, **changes)  # type: ignore[arg-type]


def halved(artefact: Artefact) -> Artefact:
    """The artefact with its numbers rounded to 16 bits, so that its file has half the size.

    Single numbers and a tuned model's weights stay as they are.
    """
    others = tuple(
        dataclasses.replace(
            member,
            prompt=_rounded_prompt(member.prompt),
            readout=_rounded(member.readout),
            reading=dataclasses.replace(member.reading, pool=_rounded_pool(member.reading.pool)),
        )
        for member in artefact.others
    )
    return artefact.replace(
        prompt=_rounded_prompt(artefact.prompt),
        readout=_rounded(artefact.readout),
        embeddings=_rounded(artefact.embeddings),
        labelled=_rounded(artefact.labelled),
        others=others,
        pool=_rounded_pool(artefact.pool),
        half=True,
    )


def _rounded_prompt(prompt: Prompt | None) -> Prompt | None:
    return None if prompt is None else dataclasses.replace(prompt, values=as_full(as_half(prompt.values)))


def _rounded_pool(pool: LabelledPool | None) -> LabelledPool | None:
    return None if pool is None else dataclasses.replace(pool, features=as_full(as_half(pool.features)))


def _rounded(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: as_full(as_half(tensor)) for name, tensor in tensors.items()}


def save(artefact: Artefact, folder: str | Path) -> None:
    """Write the artefact's folder, whole or not at all; one that was there stays until the new one is whole.

    Raises:
        ArtefactError: values that are not finite, a folder that holds something else, no room on the disk.
    """
    folder = Path(folder)
    check_finite(_flat(artefact) | dict(artefact.weights or {}), str(folder))
    for prompt in (artefact.prompt, *(member.prompt for member in artefact.others)):
        if prompt is not None:
            check_numbers("prompt", prompt.values, str(folder))
    _check_embeddings(artefact.embeddings, str(folder))
    _check_labelled(artefact.labelled, str(folder))
    _check_weights(artefact.weights or {}, str(folder))
    check_place(folder)
    try:
        with atomic.writing_folder(folder) as temporary:
            _write(artefact, temporary)
    except (OSError, SafetensorError) as error:
        raise ArtefactError(f"could not be written ({reason(error)})", where=folder, do=remedy(error)) from error


def load(folder: str | Path, *, fingerprint: str | None = None, backbone: str = "the backbone given") -> Artefact:
    """Read an artefact's folder and check it.

    Args:
        fingerprint: of the backbone it is to be used with; None does not ask.
        backbone: that backbone's name, for the error.
    Raises:
        ArtefactError: missing, damaged or foreign files, an unknown schema, another backbone, other shapes,
            values that are not finite.
    """
    card, stored, weights = _read_whole(Path(folder))
    if fingerprint is not None and fingerprint != card.backbone.fingerprint:
        raise other_backbone(card, fingerprint, backbone, where=str(folder))
    check_finite(stored | (weights or {}), str(folder))
    is_half = _is_half(stored)
    if is_half:
        stored = {name: as_full(tensor) for name, tensor in stored.items()}
    inner, beside = _apart(stored, len(card.others), str(folder))
    groups = _grouped(inner, str(folder))
    prompt = _prompt(groups["prompt"], card.prompt, str(folder))
    _check_embeddings(groups["embedding"], str(folder))
    _check_labelled(groups["labelled"], str(folder))
    _check_weights(weights or {}, str(folder))
    others = tuple(
        _member(tensors, member, card.encoding, str(folder))
        for tensors, member in zip(beside, card.others, strict=True)
    )
    memory = load_memory(groups["memory"], len(card.task.labels), str(folder))
    return Artefact(
        prompt,
        groups["readout"],
        card,
        groups["embedding"],
        weights,
        others,
        memory,
        is_half,
        groups["labelled"],
        _pool(groups["pool"], str(folder)),
    )


def _is_half(stored: Mapping[str, Tensor]) -> bool:
    """Whether a file's tensors are those of an artefact of 16-bit numbers, all of them."""
    return any(tensor.dtype == torch.float16 for tensor in stored.values()) and all(
        as_half(as_full(tensor)).dtype == tensor.dtype for tensor in stored.values()
    )


def load_card(folder: str | Path) -> Card:
    """Read only the card of an artefact's folder.

    Raises:
        ArtefactError: there is none, or it cannot be read.
    """
    path = atomic.current(Path(folder)) / CARD
    return read_card(_bytes(path), str(path))


def other_backbone(card: Card, fingerprint: str, backbone: str, where: str) -> ArtefactError:
    """The error for a prompt that is used with a backbone it was not tuned on."""
    name, fingerprint_start = visible(card.backbone.name), visible(card.backbone.fingerprint[:12])
    what = f"it was tuned on {name} ({fingerprint_start}), not on {backbone} ({fingerprint[:12]})"
    model = "the folder it was tuned with" if card.backbone.name == backbone else name
    return ArtefactError(what, where=where, do=f"pass --model {model}")


def _write(artefact: Artefact, folder: Path) -> None:
    card = artefact._whole_card()
    safetensors.torch.save_file(_flat(artefact), folder / TENSORS, metadata={"format": "pt"})
    if artefact.weights is not None:
        weights = {name: plain(tensor) for name, tensor in artefact.weights.items()}
        safetensors.torch.save_file(weights, folder / WEIGHTS, metadata={"format": "pt"})
    (folder / README).write_text(readme(card), encoding="utf-8")
    (folder / CARD).write_text(card.to_json(), encoding="utf-8")


def _flat(artefact: Artefact) -> dict[str, Tensor]:
    """The tensors of prompt.safetensors as they are stored, by their names in that file."""
    memory = {} if artefact.memory is None else artefact.memory.state()
    groups = {
        "readout": artefact.readout,
        "embedding": artefact.embeddings,
        "memory": memory,
        "labelled": artefact.labelled,
        "pool": {} if artefact.pool is None else artefact.pool.state(),
    }
    flat = {f"{group}.{name}": plain(value) for group, members in groups.items() for name, value in members.items()}
    for number, member in enumerate(artefact.others):
        pool = {} if member.reading.pool is None else member.reading.pool.state()
        named = {f"readout.{name}": plain(value) for name, value in member.readout.items()} | _named(member.prompt)
        named |= {f"pool.{name}": plain(value) for name, value in pool.items()}
        flat |= {f"{OTHERS}.{number}.{name}": value for name, value in named.items()}
    flat |= _named(artefact.prompt)
    return {name: as_half(tensor) for name, tensor in flat.items()} if artefact.half else flat


def _named(prompt: Prompt | None) -> dict[str, Tensor]:
    """A prompt's values by their name in the file; nothing where there is no prompt."""
    if prompt is None:
        return {}
    return {"prompt" if prompt.depth == "shallow" else "prompt_kv": plain(prompt.values)}


def _apart(
    stored: Mapping[str, Tensor], count: int, where: str
) -> tuple[dict[str, Tensor], tuple[dict[str, Tensor], ...]]:
    """The artefact's own tensors, and those of each of so many models beside it, by their names within it."""
    inner: dict[str, Tensor] = {}
    beside: tuple[dict[str, Tensor], ...] = tuple({} for _ in range(count))
    for key, tensor in stored.items():
        group, _, rest = key.partition(".")
        number, _, name = rest.partition(".")
        if group != OTHERS:
            inner[key] = tensor
        elif number in {str(place) for place in range(count)} and name:
            beside[int(number)][name] = tensor
        else:
            what = f"{TENSORS} holds {visible(key)!r}, the card knows {count} models beside its own"
            raise ArtefactError(what, where=where, do="tune it again")
    return inner, beside


def _member(tensors: Mapping[str, Tensor], card: MemberCard, encoding: Encoding, where: str) -> Member:
    """A model beside the artefact's own, checked against its part of the card."""
    groups = _grouped(tensors, where)
    if groups["embedding"] or groups["memory"] or groups["labelled"]:
        what = "a model beside its own has embeddings, a memory or labelled rows"
        raise ArtefactError(what, where=where, do="tune it again")
    return Member(
        _prompt(groups["prompt"], card.prompt, where),
        groups["readout"],
        dataclasses.replace(card.reading(encoding), pool=_pool(groups["pool"], where)),
        card.readout,
        card.backbone,
    )


def _grouped(stored: Mapping[str, Tensor], where: str) -> dict[str, dict[str, Tensor]]:
    """The file's tensors by group; both forms of a prompt belong to the group `prompt`."""
    groups: dict[str, dict[str, Tensor]] = {"prompt": {}, **{group: {} for group in GROUPS}}
    for key, tensor in stored.items():
        group, _, name = key.partition(".")
        if key in ("prompt", "prompt_kv"):
            groups["prompt"][key] = tensor
        elif group in GROUPS and name:
            groups[group][name] = tensor
        else:
            what = f"{TENSORS} holds an unknown tensor {visible(key)!r}"
            raise ArtefactError(what, where=where, do="is it an artefact?")
    return groups


def _pool(tensors: Mapping[str, Tensor], where: str) -> LabelledPool | None:
    """The pool of labelled rows that demonstrations are chosen from; None where there is none."""
    return LabelledPool.load(tensors, where) if tensors else None


def _prompt(tensors: Mapping[str, Tensor], form: PromptCard | None, where: str) -> Prompt | None:
    """The prompt, checked against the card's form."""
    expected = None if form is None else ("prompt" if form.layers is None else "prompt_kv", form.shape)
    shapes = [(name, tuple(tensor.shape)) for name, tensor in tensors.items()]
    if shapes != ([] if expected is None else [expected]):
        stored = ", ".join(f"{name} {list(shape)}" for name, shape in shapes) or "no prompt"
        expected_text = "no prompt" if expected is None else f"{expected[0]} {list(expected[1])}"
        raise ArtefactError(f"{TENSORS} holds {stored}, the card says {expected_text}", where=where, do="tune it again")
    if form is None:
        return None
    values = next(iter(tensors.values()))
    check_numbers("prompt", values, where)
    prompt = Prompt(values, form.placement)
    if PromptCard.of(prompt) != form or 0 in values.shape:
        raise ArtefactError(f"its card does not describe the prompt of {TENSORS}", where=where, do="tune it again")
    return prompt


def _check_embeddings(embeddings: Mapping[str, Tensor], where: str) -> None:
    """Raises an ArtefactError unless these are task embeddings: one vector for each pooling, all of one width."""
    for name, tensor in embeddings.items():
        if name not in POOLINGS or tensor.ndim != 1 or not len(tensor):
            what = f"embedding.{visible(name)} {list(tensor.shape)} is no task embedding"
            raise ArtefactError(what, where=where, do="tune it again")
        check_numbers(f"embedding.{name}", tensor, where)
    if len({len(tensor) for tensor in embeddings.values()}) > 1:
        raise ArtefactError("its task embeddings differ in width", where=where, do="tune it again")


def _check_labelled(labelled: Mapping[str, Tensor], where: str) -> None:
    """Raises an ArtefactError unless these are answers on labelled rows, features of some, both, or nothing."""
    known = {"confidence": 1, "correct": 1, "features": 2}
    sound = all(known.get(name) == tensor.ndim for name, tensor in labelled.items())
    rows = [tensor.shape[0] for name, tensor in labelled.items() if sound and name != "features"]
    if not sound or len(rows) not in (0, 2) or len(set(rows)) > 1:
        listed = ", ".join(f"{visible(name)} {list(tensor.shape)}" for name, tensor in labelled.items())
        raise ArtefactError(f"what it holds of labelled rows is odd ({listed})", where=where, do="tune it again")
    for name, tensor in labelled.items():
        check_numbers(f"labelled.{name}", tensor, where)
        if name != "features" and bool(((tensor < 0) | (tensor > 1)).any()):
            raise ArtefactError(f"labelled.{name} is not between 0 and 1", where=where, do="tune it again")


def _check_weights(weights: Mapping[str, Tensor], where: str) -> None:
    """Raises an ArtefactError unless a model can compute with these tuned weights."""
    for name, tensor in weights.items():
        check_numbers(visible(name), tensor, where)


def _read_whole(folder: Path) -> tuple[Card, dict[str, Tensor], dict[str, Tensor] | None]:
    """Reads card and tensors that belong together, again where the folder was replaced in between."""
    for _ in range(TRIES):
        before = _identity(folder)
        try:
            card = load_card(folder)
            return card, *_read_tensors(folder, card)
        except ArtefactError:
            if _identity(folder) == before:
                raise
    raise ArtefactError("was replaced over and over while it was read", where=folder, do="try again")


def _identity(folder: Path) -> tuple[Path, int] | None:
    """The path and inode of the folder at a place, which tell whether it was replaced; None where there is none."""
    place = atomic.current(folder)
    try:
        return place, place.stat().st_ino
    except OSError:
        return None


def _read_tensors(folder: Path, card: Card) -> tuple[dict[str, Tensor], dict[str, Tensor] | None]:
    """Reads the tensors beside a card and checks them against its digest."""
    place = atomic.current(folder)
    stored = load_tensors(place / TENSORS, LIMITS[TENSORS])
    weights = load_tensors(place / WEIGHTS, LIMITS[WEIGHTS]) if (place / WEIGHTS).exists() else None
    if tensor_hash(stored | {f"weights.{name}": tensor for name, tensor in (weights or {}).items()}) != card.tensors:
        raise ArtefactError("its tensors are not those of its card", where=folder, do="restore it or tune it again")
    return stored, weights


def _bytes(path: Path) -> bytes:
    if not os.path.lexists(path):
        what = f"has no {path.name}" if path.parent.is_dir() else "does not exist"
        inside = path.parent / "artefact" / path.name
        do = f"name the artefact in it: {inside.parent}" if inside.exists() else "is this the folder of an artefact?"
        raise ArtefactError(what, where=path.parent, do=do)
    return read_bytes(path, LIMITS[CARD], ArtefactError)


def check_place(folder: Path) -> None:
    """Raises an ArtefactError where something else than an artefact is in the place of one."""
    if folder.exists() and not _is_ours(folder):
        raise ArtefactError("exists and is not an artefact", where=folder, do="choose another place")


def _is_ours(folder: Path) -> bool:
    """Whether saving may write here: the folder is empty or holds an artefact, even one that lost a file."""
    if not folder.is_dir():
        return False
    names = {path.name for path in folder.iterdir()}
    return not names or bool(names & {CARD, TENSORS, WEIGHTS})
