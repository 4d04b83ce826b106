"""A press for what comes from strangers: cards, tensors and archives, changed in any way, are read or are one line.

A few hundred trials run always, thousands where slow tests do.
"""

from __future__ import annotations

import io
import json
import random
import shutil
import struct
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import Tensor

from banks import small_artefact
from promptgraft.api.opening import as_bank
from promptgraft.bank.bank import open_bank
from promptgraft.errors import PromptgraftError
from promptgraft.prompt.artefact import load, save
from promptgraft.prompt.peft import export_peft, import_peft
from promptgraft.prompt.tensors import tensor_hash
from promptgraft.readout.restore import check_artefact

FEW = 120
MANY = 1100
NUMBERS: tuple[Any, ...] = (0, -1, 1, 1e308, -1e-320, 2**63, 10**400, float("nan"), float("inf"), True)
TEXTS = ("", "\0", "\x1b]52;c;x\x07", "\ud800", "../../x", "\u202e", "a\nb", "a" * 5000, "nan", "[" * 200)
VALUES: tuple[Any, ...] = (*NUMBERS, *TEXTS, None, [], {}, [[[]]], {"a": {"a": {"a": 1}}}, ["a"] * 50)
TYPES = (
    torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.int8, torch.uint8, torch.bool,
    torch.complex64, torch.float8_e4m3fn, torch.float8_e5m2,
)  # fmt: skip
FILLS = (0.0, 1.0, -1.0, 3e38, float("nan"), float("inf"), -1e30, 1e-40)


ROWS = {"confidence": torch.rand(4), "correct": torch.ones(4), "features": torch.rand(3, 8).half()}
"""Labelled rows of an artefact."""


def paths_of(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Where every part of a JSON value stands."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(place for key, part in inner for place in paths_of(part, (*path, key)))]


def changed_json(value: Any, chance: random.Random) -> Any:
    """The value with one part replaced, taken out, doubled or renamed."""
    whole = json.loads(json.dumps(value))
    *above, last = chance.choice([path for path in paths_of(whole) if path])
    place = whole
    for key in above:
        place = place[key]
    way = chance.randrange(4)
    if way == 0:
        del place[last]
    elif way == 1 and isinstance(place, dict):
        place[chance.choice(TEXTS)] = place.pop(last)
    elif way == 2:
        place[last] = [place[last], place[last]]
    else:
        place[last] = chance.choice(VALUES)
    return whole


def changed_bytes(data: bytes, chance: random.Random) -> bytes:
    """The data with a few bytes flipped, cut out, doubled or overwritten."""
    content = bytearray(data)
    for _ in range(chance.randint(1, 4)):
        start = chance.randrange(len(content) + 1)
        end = min(len(content), start + chance.choice([1, 2, 8, 64]))
        way = chance.randrange(4)
        if way == 0:
            content[start:end] = bytes(chance.randrange(256) for _ in range(end - start))
        elif way == 1:
            del content[start:end]
        elif way == 2:
            content[start:start] = content[start:end]
        else:
            content[start:end] = chance.choice([b"\0", b"\xff", b"[", b"{", b'"', b"9"]) * (end - start)
    return bytes(content)


def changed_tensors(tensors: dict[str, Tensor], chance: random.Random) -> dict[str, Tensor]:
    """The tensors with one of another type, shape, name or value, or without it."""
    name = chance.choice(sorted(tensors))
    tensor, rest = tensors[name], {key: value for key, value in tensors.items() if key != name}
    way = chance.randrange(5)
    if way == 0:
        return rest
    if way == 1:
        return rest | {name: tensor.to(chance.choice(TYPES))}
    if way == 2:
        shape = [chance.randint(0, 5) for _ in range(chance.randint(0, 4))]
        return rest | {name: torch.zeros(shape, dtype=tensor.dtype)}
    if way == 3:
        return rest | {chance.choice([*TEXTS[:2], "prompt", "readout.x", "readout.", "embedding.cls", "a.b"]): tensor}
    return rest | {name: torch.full_like(tensor.float(), chance.choice(FILLS)).to(tensor.dtype)}


def card_of(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / "card.json").read_text())
    return content


def attack_card(folder: Path, chance: random.Random) -> None:
    card = changed_json(card_of(folder), chance)
    (folder / "card.json").write_text(json.dumps(card))


def attack_card_bytes(folder: Path, chance: random.Random) -> None:
    path = folder / "card.json"
    path.write_bytes(changed_bytes(path.read_bytes(), chance))


def attack_tensors(folder: Path, chance: random.Random) -> None:
    """With the digest that the card has to have, so that the tensors are believed to be its own."""
    tensors = changed_tensors(safetensors.torch.load_file(folder / "prompt.safetensors"), chance)
    safetensors.torch.save_file(tensors, folder / "prompt.safetensors")
    card = card_of(folder) | {"tensors": tensor_hash(tensors)}
    if chance.random() < 0.3:
        card = changed_json(card, chance)
    (folder / "card.json").write_text(json.dumps(card))


def attack_tensor_bytes(folder: Path, chance: random.Random) -> None:
    path = folder / "prompt.safetensors"
    data = path.read_bytes()
    if chance.random() < 0.5:
        length = struct.unpack("<Q", data[:8])[0]
        header = changed_json(json.loads(data[8 : 8 + length]), chance)
        text = json.dumps(header).encode()
        path.write_bytes(struct.pack("<Q", len(text)) + text + data[8 + length :])
    else:
        path.write_bytes(changed_bytes(data, chance))


ATTACKS = (attack_card, attack_card_bytes, attack_tensors, attack_tensor_bytes)


def zipped(folder: Path, chance: random.Random) -> bytes:
    """An archive of the folder, under other names, packed in another way, or changed afterwards."""
    buffer = io.BytesIO()
    how = chance.choice([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
    names = {path: path.name for path in folder.iterdir()}
    if chance.random() < 0.3:
        names[chance.choice(sorted(names))] = chance.choice(
            ["../card.json", "/x", "a/b/card.json", "run.py", "\x1b.md"]
        )
    with warnings.catch_warnings(), zipfile.ZipFile(buffer, "w", how) as archive:
        warnings.simplefilter("ignore")
        for path, name in names.items():
            archive.write(path, name)
    return changed_bytes(buffer.getvalue(), chance) if chance.random() < 0.7 else buffer.getvalue()


def tried(door: Callable[[], object]) -> str:
    """What a door says: nothing, or one line without a hidden character."""
    try:
        door()
    except PromptgraftError as error:
        line = str(error)
        assert not [letter for letter in line if not letter.isprintable()], repr(line)
        return line
    return ""


def try_artefact(sound: Path, work: Path, chance: random.Random) -> str:
    """A changed artefact through every door of one; what the first says."""
    folder = work / "bank/mood"
    shutil.copytree(sound, folder)
    chance.choice(ATTACKS)(folder, chance)
    line = tried(lambda: check_artefact(load(folder)))
    open_bank(work / "bank").list()
    assert bool(line) == bool(as_bank(work / "bank").verify())
    tried(lambda: as_bank(work / "other", create=True).import_(folder))
    tried(lambda: as_bank(work / "bank").export("mood", work / "mood.zip"))
    assert {path.name for path in work.iterdir()} <= {"bank", "other", "mood.zip"}
    return line


def try_archive(sound: Path, work: Path, chance: random.Random) -> str:
    """A changed archive of an artefact into a bank."""
    work.mkdir()
    (work / "mood.zip").write_bytes(zipped(sound, chance))
    line = tried(lambda: as_bank(work / "bank", create=True).import_(work / "mood.zip"))
    assert {path.name for path in work.iterdir()} <= {"bank", "mood.zip"}
    assert {path.name for path in (work / "bank").iterdir()} <= {".lock", "mood"}
    return line


def try_adapter(sound: Path, work: Path, chance: random.Random) -> str:
    """A changed PEFT adapter."""
    artefact = small_artefact()
    export_peft(load(sound), work, base_model="tiny", layers=2, heads=2, exact=False)
    file = work / chance.choice(["adapter_config.json", "promptgraft.json", "adapter_model.safetensors"])
    if file.suffix == ".safetensors":
        tensors = changed_tensors(safetensors.torch.load_file(file), chance)
        safetensors.torch.save_file(tensors, file)
    elif chance.random() < 0.5:
        file.write_text(json.dumps(changed_json(json.loads(file.read_text()), chance)))
    else:
        file.write_bytes(changed_bytes(file.read_bytes(), chance))
    return tried(lambda: check_artefact(import_peft(work, artefact.card.backbone)))


@pytest.mark.parametrize(
    "trials", [pytest.param(range(FEW), id="few"), pytest.param(range(FEW, MANY), id="many", marks=pytest.mark.slow)]
)
@pytest.mark.parametrize("attempt", [try_artefact, try_archive, try_adapter], ids=lambda attempt: attempt.__name__)
@pytest.mark.filterwarnings("ignore:left out of the list", "ignore:.*the adapter was changed since")
@pytest.mark.filterwarnings("ignore:.*its head is not a linear layer")
def test_what_was_changed_is_read_or_is_one_line(
    attempt: Callable[[Path, Path, random.Random], str], trials: range, tmp_path: Path
) -> None:
    save(small_artefact().replace(labelled=ROWS), tmp_path / "sound")
    lines = []
    for seed in trials:
        work = tmp_path / f"trial-{seed}"
        lines.append(attempt(tmp_path / "sound", work, random.Random(seed)))
        shutil.rmtree(work)
    assert len(lines) / 5 < sum(map(bool, lines)) < len(lines), "many changes are noticed, some change nothing"
