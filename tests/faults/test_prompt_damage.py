"""Damaged, foreign and half-written artefacts: one line each, and nothing lost."""

from __future__ import annotations

import errno
import json
import pickle
import resource
from collections.abc import Callable
from pathlib import Path

import pytest
import safetensors.torch
import torch

from banks import small_artefact
from promptgraft.errors import ArtefactError
from promptgraft.prompt import atomic
from promptgraft.prompt.artefact import load, save
from promptgraft.prompt.prompt import Prompt


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save(small_artefact(), tmp_path / "mood")
    return tmp_path / "mood"


def change_card(folder: Path, **changes: object) -> None:
    card = json.loads((folder / "card.json").read_text())
    (folder / "card.json").write_text(json.dumps(card | changes))


def cut(folder: Path) -> None:
    file = folder / "prompt.safetensors"
    file.write_bytes(file.read_bytes()[:-7])


def flip(folder: Path) -> None:
    data = bytearray((folder / "prompt.safetensors").read_bytes())
    data[-1] ^= 1
    (folder / "prompt.safetensors").write_bytes(data)


def pickled(folder: Path) -> None:
    (folder / "prompt.safetensors").write_bytes(pickle.dumps({"prompt": 1}))


def other_tensors(folder: Path) -> None:
    safetensors.torch.save_file({"prompt": torch.zeros(3, 8)}, folder / "prompt.safetensors")


DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "cut": (cut, "prompt.safetensors: is damaged or cut short ("),
    "empty": (lambda folder: (folder / "prompt.safetensors").write_bytes(b""), "prompt.safetensors: is damaged or cut"),
    "pickled": (pickled, "prompt.safetensors: is damaged or cut short ("),
    "flipped": (flip, "mood: its tensors are not those of its card; restore it or tune it again"),
    "exchanged": (other_tensors, "mood: its tensors are not those of its card; restore it or tune it again"),
    "no tensors": (lambda folder: (folder / "prompt.safetensors").unlink(), "prompt.safetensors: is missing; restore"),
    "no card": (lambda folder: (folder / "card.json").unlink(), "mood: has no card.json; is this the folder of an art"),
    "future": (
        lambda folder: change_card(folder, version=9),
        "card.json: schema version 9, this release reads",
    ),
    "unknown field": (
        lambda folder: change_card(folder, colour="red"),
        "card.json: colour: Extra inputs are",
    ),
    "binary card": (
        lambda folder: (folder / "card.json").write_bytes(b"\xff\xfe\x00"),
        "card.json: this JSON is not UTF-8",
    ),
}


@pytest.mark.parametrize("name", sorted(DAMAGE))
def test_damage_is_one_line_that_names_the_file(name: str, folder: Path) -> None:
    damage, message = DAMAGE[name]
    damage(folder)
    with pytest.raises(ArtefactError) as caught:
        load(folder)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_shapes_that_are_not_the_cards_are_named(folder: Path) -> None:
    prompt = json.loads((folder / "card.json").read_text())["prompt"]
    change_card(folder, prompt=prompt | {"length": 4})
    with pytest.raises(ArtefactError, match=r"holds prompt_kv \[2, 2, 3, 8\], the card says prompt_kv \[2, 2, 4, 8\]"):
        load(folder)
    change_card(folder, prompt=None)
    with pytest.raises(ArtefactError, match="the card says no prompt"):
        load(folder)


@pytest.mark.parametrize(
    "labelled",
    [
        {"confidence": torch.rand(4)},
        {"confidence": torch.rand(4), "correct": torch.ones(3)},
        {"confidence": torch.rand(4, 1), "correct": torch.ones(4)},
        {"confidence": torch.rand(4) + 1, "correct": torch.ones(4)},
        {"features": torch.rand(4)},
        {"other": torch.rand(4)},
    ],
)
def test_labelled_rows_that_are_none_are_refused(labelled: dict[str, torch.Tensor], tmp_path: Path) -> None:
    with pytest.raises(ArtefactError, match="labelled"):
        save(small_artefact().replace(labelled=labelled), tmp_path / "mood")
    assert not (tmp_path / "mood").exists()


def test_another_backbone_is_named_beside_the_right_one(folder: Path) -> None:
    assert load(folder, fingerprint="f" * 64).card.backbone.name == "splade-tiny"
    with pytest.raises(ArtefactError) as caught:
        load(folder, fingerprint="0" * 64, backbone="minilm")
    assert str(caught.value) == (
        f"{folder}: it was tuned on splade-tiny (ffffffffffff), not on minilm (000000000000); pass model splade-tiny"
    )


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ArtefactError, match="nothing: does not exist"):
        load(tmp_path / "nothing")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_values_that_are_not_finite_are_never_kept(value: float, folder: Path) -> None:
    bad = Prompt(torch.full((3, 8), value))
    with pytest.raises(ArtefactError, match="prompt holds values that are not finite"):
        save(small_artefact().replace(prompt=bad), folder)
    assert load(folder).hash == small_artefact().hash


def test_a_folder_with_other_things_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("x")
    with pytest.raises(ArtefactError, match="exists and is not an artefact"):
        save(small_artefact(), tmp_path)
    assert (tmp_path / "thesis.tex").read_text() == "x"


def left_over(folder: Path) -> list[str]:
    return [path.name for path in folder.parent.iterdir() if path.name != folder.name]


def test_a_full_disk_keeps_the_old_artefact(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    for step in ("_sync_tree", "_take_place"):
        with monkeypatch.context() as patch:
            patch.setattr(atomic, step, full)
            with pytest.raises(ArtefactError) as caught:
                save(small_artefact(1), folder)
        assert str(caught.value) == (
            f"{folder}: could not be written (No space left on device); make room on the disk; nothing was changed"
        )
        assert load(folder).hash == small_artefact().hash
        assert left_over(folder) == []


def test_a_file_size_limit_keeps_the_old_artefact(folder: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, hard))
    try:
        with pytest.raises(ArtefactError, match="could not be written") as caught:
            save(small_artefact(1, size=256), folder)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "\n" not in str(caught.value)
    assert load(folder).hash == small_artefact().hash
    assert left_over(folder) == []


@pytest.mark.parametrize("swaps", [True, False])
def test_replacing_works_with_and_without_an_exchange_in_one_step(
    swaps: bool, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not swaps:
        monkeypatch.setattr(atomic, "exchange", lambda one, other: False)
    save(small_artefact(1), folder)
    assert load(folder).hash == small_artefact(1).hash
    assert left_over(folder) == []


def test_between_two_renames_the_old_folder_still_counts(folder: Path) -> None:
    folder.rename(folder.with_name(".mood.0a1b2c3d.old"))
    assert load(folder).hash == small_artefact().hash
    with pytest.raises(ArtefactError, match="does not exist"):
        load(folder.with_name("moo"))
    atomic.tidy(folder.parent)
    assert left_over(folder) == []
    assert load(folder).hash == small_artefact().hash


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "a.txt"
    atomic.write_text(file, "old")
    monkeypatch.setattr("os.fsync", lambda handle: (_ for _ in ()).throw(OSError(errno.ENOSPC, "full")))
    with pytest.raises(OSError, match="full"):
        atomic.write_text(file, "new")
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]
    assert file.read_text() == "old"
