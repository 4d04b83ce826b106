"""Artefacts whose numbers are stored in 16 bits."""

from __future__ import annotations

from pathlib import Path

import pytest
import safetensors.torch
import torch
from torch import Tensor

from banks import small_artefact
from promptgraft.errors import ArtefactError
from promptgraft.prompt.artefact import Artefact, Member, halved, load, save
from promptgraft.prompt.files import TENSORS
from promptgraft.prompt.prompt import Prompt
from promptgraft.prompt.reading import Reading


def grafted() -> Artefact:
    """An artefact with every place for numbers: prompt, readout, embeddings, and a model beside its own."""
    artefact = small_artefact()
    readout = dict(artefact.readout) | {"raw_scale": torch.tensor(0.123456789)}
    other = Member(
        Prompt(torch.ones(2, 2, 3, 8) / 3), {name: value.clone() for name, value in readout.items()}, Reading("cls")
    )
    return artefact.replace(readout=readout, others=(other,))


def numbers(artefact: Artefact) -> dict[str, Tensor]:
    parts = {"own": artefact.readout, "embedding": artefact.embeddings, "beside": artefact.others[0].readout}
    assert artefact.prompt is not None
    assert artefact.others[0].prompt is not None
    named = {f"{part}.{name}": value for part, values in parts.items() for name, value in values.items()}
    return named | {"prompt": artefact.prompt.values, "other": artefact.others[0].prompt.values}


def test_a_halved_artefact_comes_back_in_fp32_as_it_was_stored(tmp_path: Path) -> None:
    artefact = halved(grafted())
    save(artefact, tmp_path / "half")
    back = load(tmp_path / "half")
    assert back.half
    assert back.hash == artefact.hash == back.card.hash
    for name, value in numbers(back).items():
        assert value.dtype == (torch.uint8 if name.endswith("labels") else torch.float32), name
        assert torch.equal(value, numbers(artefact)[name]), name
        assert torch.allclose(value.float(), numbers(grafted())[name].float(), rtol=1e-3), name


def test_its_file_holds_16_bits_a_number_and_single_numbers_whole(tmp_path: Path) -> None:
    save(grafted(), tmp_path / "whole")
    save(halved(grafted()), tmp_path / "half")
    stored = safetensors.torch.load_file(tmp_path / "half" / TENSORS)
    types = {name: value.dtype for name, value in stored.items()}
    assert {types[name] for name in ("prompt_kv", "readout.weight", "embedding.cls", "others.0.prompt_kv")} == {
        torch.float16
    }
    assert types["readout.raw_scale"] == torch.float32
    assert not load(tmp_path / "whole").half
    assert load(tmp_path / "whole").hash != load(tmp_path / "half").hash


def test_saving_it_again_changes_nothing(tmp_path: Path) -> None:
    save(halved(grafted()), tmp_path / "first")
    save(load(tmp_path / "first"), tmp_path / "second")
    save(halved(load(tmp_path / "first")), tmp_path / "third")
    first = (tmp_path / "first" / TENSORS).read_bytes()
    assert (tmp_path / "second" / TENSORS).read_bytes() == (tmp_path / "third" / TENSORS).read_bytes() == first


def test_a_file_of_mixed_types_is_left_as_it_is(tmp_path: Path) -> None:
    artefact = small_artefact()
    embeddings = {name: value.half() for name, value in artefact.embeddings.items()}
    mixed = artefact.replace(embeddings=embeddings)
    save(mixed, tmp_path / "mixed")
    back = load(tmp_path / "mixed")
    assert not back.half
    assert back.hash == mixed.hash
    assert back.embeddings["cls"].dtype == torch.float16


def test_what_16_bits_cannot_hold_is_one_line(tmp_path: Path) -> None:
    artefact = small_artefact()
    assert artefact.prompt is not None
    far = artefact.replace(prompt=Prompt(artefact.prompt.values + 70_000))
    with pytest.raises(ArtefactError, match="values that are not finite"):
        save(halved(far), tmp_path / "far")
