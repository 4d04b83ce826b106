"""What a card promises is held by the tensors beside it, or one line says what is not; a bank goes on without it."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import safetensors.torch
import torch
from torch import Tensor

from banks import MOOD, small_artefact
from command import call
from promptgraft.api.opening import as_bank
from promptgraft.bank.bank import Bank, open_bank
from promptgraft.errors import ArtefactError, BankError
from promptgraft.prompt.artefact import Artefact, load, save
from promptgraft.prompt.prompt import Prompt
from promptgraft.prompt.tensors import tensor_hash
from promptgraft.readout.classes import encode_names
from promptgraft.readout.restore import restore


def with_readout(**changes: Tensor | None) -> Callable[[Artefact], Artefact]:
    """Other tensors in the readout; None takes one out."""

    def change(artefact: Artefact) -> Artefact:
        tensors = {**artefact.readout, **changes}
        return artefact.replace(readout={name: value for name, value in tensors.items() if value is not None})

    return change


def with_card(**changes: object) -> Callable[[Artefact], Artefact]:
    return lambda artefact: artefact.replace(card=artefact.card.replace(**changes))


def bytes_of(text: str | bytes) -> Tensor:
    return torch.tensor(list(text if isinstance(text, bytes) else text.encode()), dtype=torch.uint8)


BROKEN: dict[str, tuple[Callable[[Artefact], Artefact], str]] = {
    "a tensor is missing": (with_readout(bias=None), "has the tensors labels, weight, not bias, labels, weight"),
    "no tensors": (with_readout(bias=None, weight=None, labels=None), "has the tensors none"),
    "one too many": (with_readout(more=torch.zeros(2)), "has the tensors bias, labels, more, weight"),
    "wrong shape": (with_readout(weight=torch.zeros(2, 8, 1)), r"its weight is \[2, 8, 1\], not \[2, 8\]"),
    "no dimension": (with_readout(weight=torch.tensor(1.0)), r"its weight is \[\]"),
    "one class for two labels": (
        with_readout(weight=torch.zeros(1, 8), bias=torch.zeros(1)),
        r"its weight is \[1, 8\], not \[2, 8\]",
    ),
    "whole numbers": (with_readout(weight=torch.zeros(2, 8, dtype=torch.int64)), "weight holds int64 numbers"),
    "too large": (with_readout(weight=torch.full((2, 8), 3e38)), "weight holds values beyond"),
    "labels that are not UTF-8": (with_readout(labels=bytes_of(b'["\xff"]')), "its labels cannot be read"),
    "labels that are no list": (with_readout(labels=bytes_of('{"a": 1}')), "its labels cannot be read"),
    "labels that are nested": (with_readout(labels=bytes_of("[" * 9000)), "its labels cannot be read"),
    "labels that are numbers": (with_readout(labels=torch.zeros(5)), "its labels cannot be read"),
    "other labels": (with_readout(labels=encode_names(("up", "down"))), "its labels are not those of its card"),
    "other order": (with_readout(labels=encode_names(("bad", "good"))), "its labels are not those of its card"),
    "no labels": (with_card(task=MOOD.model_copy(update={"labels": {}})), "its card has no labels"),
    "another kind": (
        with_card(task=MOOD.model_copy(update={"kind": "tagging"})),
        "'linear' cannot read a tagging task",
    ),
    "another readout": (with_card(readout="label-text"), "has the tensors bias, labels, weight, not bias, delta"),
    "no readout": (with_card(readout="liner"), "unknown readout 'liner'; did you mean 'linear'"),
    "no length": (with_card(recipe={"max_length": -5}), "its max_length is no number of tokens"),
    "another encoding": (with_card(readout="label-text", encoding="separate"), "cannot read pairs encoded separate"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_readout_that_is_not_what_the_card_says(case: str, tmp_path: Path) -> None:
    change, message = BROKEN[case]
    save(change(small_artefact()), tmp_path / "mood")
    artefact = load(tmp_path / "mood")
    with pytest.raises(ArtefactError, match=message) as caught:
        restore(artefact)
    assert "\n" not in str(caught.value)
    with pytest.raises(ArtefactError, match=message):
        as_bank(tmp_path / "bank", create=True).add(tmp_path / "mood")


def test_a_sound_readout_is_restored(tmp_path: Path) -> None:
    save(small_artefact(), tmp_path / "mood")
    assert set(restore(load(tmp_path / "mood")).state()) == {"labels", "weight", "bias"}


def write(folder: Path, tensors: dict[str, Tensor], **changes: object) -> None:
    """Tensors of one's own in an artefact's folder, with the digest that the card has to have."""
    safetensors.torch.save_file(tensors, folder / "prompt.safetensors")
    card = json.loads((folder / "card.json").read_text())
    (folder / "card.json").write_text(json.dumps(card | {"tensors": tensor_hash(tensors)} | changes))


TENSORS: dict[str, tuple[dict[str, Tensor], str]] = {
    "3e38": ({"prompt_kv": torch.full((2, 2, 3, 8), 3e38)}, "prompt holds values beyond 1,000,000"),
    "NaN": ({"prompt_kv": torch.full((2, 2, 3, 8), float("nan"))}, "values that are not finite"),
    "whole numbers": ({"prompt_kv": torch.zeros(2, 2, 3, 8, dtype=torch.int32)}, "prompt holds int32 numbers"),
    "complex": ({"prompt_kv": torch.zeros(2, 2, 3, 8, dtype=torch.complex64)}, "of type complex64, which is not used"),
    "float8": ({"prompt_kv": torch.zeros(2, 2, 3, 8).to(torch.float8_e4m3fn)}, "of type float8_e4m3fn, which is not"),
    "embedding": (
        {"prompt_kv": torch.zeros(2, 2, 3, 8), "embedding.cls": torch.zeros(2, 8)},
        r"embedding.cls \[2, 8\] is no task embedding",
    ),
    "two widths": (
        {"prompt_kv": torch.zeros(2, 2, 3, 8), "embedding.cls": torch.zeros(8), "embedding.mean": torch.zeros(7)},
        "its task embeddings differ in width",
    ),
    "hostile name": (
        {"prompt_kv": torch.zeros(2, 2, 3, 8), "\x1b]52;c;x": torch.zeros(1)},
        r"unknown tensor '\\\\x1b\]52;c;x'",
    ),
}


@pytest.mark.parametrize("case", TENSORS)
def test_tensors_with_the_right_digest_and_no_sense(case: str, tmp_path: Path) -> None:
    tensors, message = TENSORS[case]
    save(small_artefact(), tmp_path / "mood")
    write(tmp_path / "mood", tensors)
    with pytest.raises(ArtefactError, match=message) as caught:
        load(tmp_path / "mood")
    assert "\x1b" not in str(caught.value)


@pytest.mark.parametrize(
    ("weight", "message"),
    [
        (torch.zeros(2, dtype=torch.int64), "holds int64 numbers"),
        (torch.full((2,), 3e38), "holds values beyond"),
        (torch.full((2,), float("nan")), "values that are not finite"),
    ],
)
def test_tuned_weights_that_no_model_computes_with(weight: Tensor, message: str, tmp_path: Path) -> None:
    save(small_artefact().replace(weights={"a": torch.zeros(2)}), tmp_path / "mood")
    safetensors.torch.save_file({"a": weight}, tmp_path / "mood/weights.safetensors")
    card = json.loads((tmp_path / "mood/card.json").read_text())
    stored = safetensors.torch.load_file(tmp_path / "mood/prompt.safetensors")
    (tmp_path / "mood/card.json").write_text(
        json.dumps(card | {"tensors": tensor_hash(stored | {"weights.a": weight})})
    )
    with pytest.raises(ArtefactError, match=message):
        load(tmp_path / "mood")


@pytest.mark.parametrize(
    "form",
    [
        {"depth": "shallow"},
        {"depth": "deep", "layers": None},
        {"length": 0},
        {"width": -8, "length": -3},
    ],
)
def test_a_form_that_is_not_the_prompts(form: dict[str, object], tmp_path: Path) -> None:
    save(small_artefact(), tmp_path / "mood")
    prompt = json.loads((tmp_path / "mood/card.json").read_text())["prompt"]
    length = form.get("length", 3)
    tensors = {"prompt_kv": torch.zeros(2, 2, length if length >= 0 else 3, 8)}
    write(tmp_path / "mood", tensors, prompt=prompt | form)
    with pytest.raises(ArtefactError, match=r"the card says|does not describe"):
        load(tmp_path / "mood")


def nested(folder: Path) -> None:
    (folder / "card.json").write_text('{"version": 1, "task": ' + "[" * 3000 + "]" * 3000 + "}")


def float8(folder: Path) -> None:
    write(folder, TENSORS["float8"][0])


def huge(folder: Path) -> None:
    write(folder, TENSORS["3e38"][0])


def pipe(folder: Path) -> None:
    (folder / "card.json").unlink()
    os.mkfifo(folder / "card.json")


def pipe_of_tensors(folder: Path) -> None:
    (folder / "prompt.safetensors").unlink()
    os.mkfifo(folder / "prompt.safetensors")


def loop(folder: Path) -> None:
    folder.rename(folder.with_name("gone"))
    (folder.parent / "gone").joinpath("card.json").unlink()
    folder.symlink_to(folder)


def loop_of_cards(folder: Path) -> None:
    (folder / "card.json").unlink()
    (folder / "card.json").symlink_to("card.json")


def long_number(folder: Path) -> None:
    card = json.loads((folder / "card.json").read_text())
    (folder / "card.json").write_text(json.dumps(card | {"seed": 0}).replace('"seed": 0', '"seed": ' + "9" * 5000))


def lone_surrogate(folder: Path) -> None:
    card = json.loads((folder / "card.json").read_text())
    (folder / "card.json").write_text(json.dumps(card | {"method": "\ud800"}))


def large(folder: Path) -> None:
    with (folder / "card.json").open("r+b") as file:
        file.truncate(1 << 30)


BAD: tuple[Callable[[Path], None], ...] = (
    nested, float8, huge, pipe, pipe_of_tensors, loop, loop_of_cards, long_number, lone_surrogate, large,
)  # fmt: skip


@pytest.fixture
def mixed(tmp_path: Path) -> Bank:
    """A bank with a good entry on either side of what will be a bad one."""
    bank = open_bank(tmp_path / "bank", create=True)
    for seed, name in enumerate(("a", "bad", "c")):
        bank.add(small_artefact(seed), name)
    return bank


@pytest.mark.parametrize("damage", BAD, ids=lambda damage: damage.__name__)
@pytest.mark.filterwarnings("ignore:left out of the list")
def test_one_bad_entry_is_named_and_the_rest_goes_on(damage: Callable[[Path], None], mixed: Bank) -> None:
    damage(mixed.folder / "bad")
    names = [summary.name for summary in mixed.list()]
    assert {"a", "c"} <= set(names)
    if "bad" not in names:
        with pytest.warns(UserWarning, match=r"left out of the list: .*bad.card.json: "):
            mixed.list()
    assert "bad" in {problem.name for problem in mixed.verify()} <= {"bad", "gone"}
    said = call("bank", "verify", mixed.folder)
    assert said.status == 1
    assert said.out.startswith("bad: ")
    listed = call("bank", "list", mixed.folder)
    assert listed.status == 0
    assert "bad" in names or "bad cannot be read" in listed.err


@pytest.mark.parametrize("damage", BAD, ids=lambda damage: damage.__name__)
@pytest.mark.filterwarnings("ignore:left out of the list")
def test_sources_are_ranked_without_a_bad_one(damage: Callable[[Path], None], mixed: Bank) -> None:
    from types import SimpleNamespace

    from promptgraft.engine.rank import candidates
    from toys import toy_task

    backbone = SimpleNamespace(
        name="tiny", fingerprint="f" * 64, hidden=8, embedding_width=8, prompt_layers=2, key_width=8
    )
    damage(mixed.folder / "bad")
    found, _ = candidates(mixed, backbone, toy_task())  # type: ignore[arg-type]
    assert [source.name for source in found] == ["a", "c"]


def test_a_source_that_does_not_fit_the_backbone_is_left_out(mixed: Bank) -> None:
    from types import SimpleNamespace

    from promptgraft.engine.rank import candidates
    from toys import toy_task

    wider = Prompt(torch.zeros(2, 2, 3, 9))
    artefact = small_artefact().replace(prompt=wider)
    mixed.add(artefact.replace(card=artefact.card.replace(seed=7)), "wider")
    backbone = SimpleNamespace(
        name="tiny", fingerprint="f" * 64, hidden=8, embedding_width=8, prompt_layers=2, key_width=8
    )
    found, left_out = candidates(mixed, backbone, toy_task())  # type: ignore[arg-type]
    assert [source.name for source in found] == ["a", "bad", "c"]
    assert left_out == ("wider: is not as wide or as deep as tiny",)


@pytest.mark.parametrize("index", ["link", "dangling link", "view", "spoof", "folder"])
def test_what_calls_itself_an_index_is_neither_read_nor_written(index: str, mixed: Bank, tmp_path: Path) -> None:
    import sqlite3

    file, other = mixed.folder / "index.sqlite", tmp_path / "other.sqlite"
    with sqlite3.connect(other) as database:
        database.executescript("CREATE TABLE artefacts (name, stamp, card); INSERT INTO artefacts VALUES (1, 2, 3)")
    if index == "link":
        file.symlink_to(other)
    elif index == "dangling link":
        file.symlink_to(tmp_path / "nothing")
    elif index == "folder":
        file.mkdir()
    else:
        rows = "SELECT * FROM artefacts" if index == "view" else "SELECT 'ghost', '0', x'00'"
        with sqlite3.connect(file) as database:
            database.executescript(f"CREATE VIEW artefacts AS {rows}")
    before = other.read_bytes()
    assert [summary.name for summary in mixed.list()] == ["a", "bad", "c"]
    mixed.remove("bad")
    assert [summary.name for summary in Bank(mixed.folder).list()] == ["a", "c"]
    assert other.read_bytes() == before
    assert not (tmp_path / "nothing").exists()


@pytest.mark.parametrize("mask", [0o022, 0o027, 0o077])
def test_files_are_as_readable_as_the_user_wants(mask: int, tmp_path: Path) -> None:
    before = os.umask(mask)
    try:
        save(small_artefact(), tmp_path / "mood")
        Bank(tmp_path).export("mood", tmp_path / "mood.zip")
    finally:
        os.umask(before)
    modes = {path.name: path.stat().st_mode & 0o777 for path in (tmp_path / "mood").iterdir()}
    assert set(modes.values()) == {0o666 & ~mask}, modes
    assert (tmp_path / "mood.zip").stat().st_mode & 0o777 == 0o666 & ~mask


@pytest.mark.parametrize("name", ["card.json", "prompt.safetensors"])
def test_what_may_not_be_read_is_not_called_damaged(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(small_artefact(), tmp_path / "mood")
    refused = Path.open

    def refuse(path: Path, *arguments: object, **how: object) -> object:
        if path.name == name:
            raise PermissionError(13, "Permission denied", str(path))
        return refused(path, *arguments, **how)  # type: ignore[call-overload]

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(ArtefactError, match="permission denied"):
        load(tmp_path / "mood")


def test_a_small_archive_cannot_become_a_large_card(tmp_path: Path) -> None:
    import zipfile

    with (
        zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("card.json", "w") as file,
    ):
        for _ in range(5):
            file.write(b" " * (1 << 20))
    bank = open_bank(tmp_path / "bank", create=True)
    with pytest.raises(BankError, match=r"its card.json has 5,242,880 bytes; at most 4,194,304 are read"):
        bank.import_(tmp_path / "bomb.zip")


@pytest.mark.parametrize("way", ["lzma", "bzip2"])
def test_an_archive_packed_in_another_way_is_one_line(way: str, tmp_path: Path) -> None:
    import zipfile

    how = {"lzma": zipfile.ZIP_LZMA, "bzip2": zipfile.ZIP_BZIP2}[way]
    save(small_artefact(), tmp_path / "mood")
    with zipfile.ZipFile(tmp_path / "x.zip", "w", how) as archive:
        for file in (tmp_path / "mood").iterdir():
            archive.write(file, file.name)
    with pytest.raises(BankError, match="is packed in a way that is not read here"):
        open_bank(tmp_path / "bank", create=True).import_(tmp_path / "x.zip")
