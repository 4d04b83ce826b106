"""The bank as its users see it."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from banks import MOOD, TINY, small_artefact
from promptgraft.bank import bank as bank_room
from promptgraft.bank.bank import Bank, open_bank
from promptgraft.errors import ArtefactError, BankError, PromptgraftError
from promptgraft.prompt.artefact import save


@pytest.fixture
def bank(tmp_path: Path) -> Bank:
    """Three artefacts: mood (tiny, English), laune (tiny, German), stars (of another backbone, regression)."""
    bank = open_bank(tmp_path / "bank", create=True)
    bank.add(small_artefact(0))
    bank.add(small_artefact(1, task=MOOD.model_copy(update={"language": "de"})), "laune")
    regression = MOOD.model_copy(update={"kind": "regression", "family": "ratings", "labels": {}})
    other = TINY.model_copy(update={"fingerprint": "0" * 64, "name": "minilm"})
    bank.add(small_artefact(2, task=regression, backbone=other), "stars")
    return bank


def listed(bank: Bank, **filters: str) -> list[str]:
    return [summary.name for summary in bank.list(**filters)]


def test_what_is_added_is_listed_loaded_and_removed(bank: Bank) -> None:
    assert listed(bank) == ["laune", "mood", "stars"]
    assert bank.load("mood").hash == small_artefact(0).hash == next(s.hash for s in bank.list() if s.name == "mood")
    bank.remove("mood")
    assert listed(bank) == ["laune", "stars"]
    assert bank.verify() == ()


def test_the_list_can_be_narrowed(bank: Bank) -> None:
    assert listed(bank, fingerprint="f" * 64) == ["laune", "mood"]
    assert listed(bank, kind="regression") == ["stars"]
    assert listed(bank, language="de") == ["laune"]
    assert listed(bank, family="sentiment", language="en") == ["mood"]
    assert listed(bank, family="none") == []


def test_opening_and_listing_a_bank_loads_no_torch(bank: Bank) -> None:
    listing = "from promptgraft.bank.bank import open_bank; print(len(open_bank(sys.argv[1]).list()))"
    code = f"import sys; {listing}; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code, str(bank.folder)], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["3", "False"]


def test_adding_the_same_again_changes_nothing_and_another_needs_to_be_asked_for(bank: Bank) -> None:
    before = (bank.folder / "mood").stat().st_ino
    assert bank.add(small_artefact(0), "mood") == "mood"
    assert (bank.folder / "mood").stat().st_ino == before
    with pytest.raises(BankError) as caught:
        bank.add(small_artefact(9), "mood")
    assert str(caught.value) == (
        f"{bank.folder}: already has an artefact 'mood'; choose another name, or replace it (replace=True)"
    )
    bank.add(small_artefact(9), "mood", replace=True)
    assert bank.load("mood").hash == small_artefact(9).hash


def test_a_folder_is_added_under_its_own_name(bank: Bank, tmp_path: Path) -> None:
    save(small_artefact(3), tmp_path / "run 7")
    assert bank.add(tmp_path / "run 7") == "run-7"
    with pytest.raises(ArtefactError, match="does not exist"):
        bank.add(tmp_path / "nothing")


def test_names_that_are_unknown_or_unsafe(bank: Bank) -> None:
    with pytest.raises(BankError, match=r"'moood'; did you mean 'mood'\?"):
        bank.load("moood")
    with pytest.raises(BankError, match="did you mean 'stars'"):
        bank.remove("star")
    for name in ("../x", "a/b", "", ".hidden", "-x", "a\0", "x" * 121, "con\n"):
        with pytest.raises(BankError, match="cannot be a name in a bank"):
            bank.add(small_artefact(), name)
    assert bank.add(small_artefact(5), "评论_v1.2") == "评论_v1.2"


def test_another_backbone_is_refused_at_load(bank: Bank) -> None:
    with pytest.raises(ArtefactError, match=r"was tuned on minilm \(0{12}\), not on splade-tiny \(f{12}\)"):
        bank.load("stars", fingerprint="f" * 64, backbone="splade-tiny")


@pytest.mark.parametrize("suffix", ["", ".zip"])
def test_export_and_import_give_the_same_artefact(suffix: str, bank: Bank, tmp_path: Path) -> None:
    made = bank.export("mood", tmp_path / "out" / f"mood2{suffix}")
    other = open_bank(tmp_path / "other", create=True)
    assert other.import_(made) == "mood2"
    assert other.load("mood2").hash == bank.load("mood").hash
    with pytest.raises(BankError, match="exists already"):
        bank.export("mood", made)


def test_a_zip_depends_on_the_content_alone(bank: Bank, tmp_path: Path) -> None:
    one, two = (bank.export("mood", tmp_path / f"{name}.zip") for name in "ab")
    assert one.read_bytes() == two.read_bytes()


@pytest.mark.parametrize(
    "members",
    [
        ["../card.json"],
        ["/etc/card.json"],
        ["a/../../card.json"],
        ["card.json", "run.py"],
        ["a/card.json", "b/card.json"],
    ],
)
def test_an_archive_of_anything_else_writes_nothing(members: list[str], bank: Bank, tmp_path: Path) -> None:
    path = tmp_path / "evil.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for member in members:
            archive.writestr(member, "x")
    before = sorted(str(file) for file in tmp_path.rglob("*"))
    with pytest.raises(BankError, match="not one artefact"):
        bank.import_(path)
    assert {str(file) for file in tmp_path.rglob("*")} - set(before) <= {str(bank.folder / ".lock")}


def test_what_is_no_archive_is_one_line(bank: Bank, tmp_path: Path) -> None:
    (tmp_path / "x.zip").write_bytes(b"PK no")
    with pytest.raises(BankError, match=r"x.zip: cannot be unpacked \(File is not a zip file\); export it again"):
        bank.import_(tmp_path / "x.zip")
    with pytest.raises(BankError, match="does not exist"):
        bank.import_(tmp_path / "y.zip")


def test_verify_names_what_is_wrong_and_the_rest_goes_on(bank: Bank) -> None:
    (bank.folder / "mood" / "prompt.safetensors").write_bytes(b"x")
    (bank.folder / "stars" / "card.json").unlink()
    (bank.folder / "stray").mkdir()
    problems = {problem.name: problem.what for problem in bank.verify()}
    assert problems.keys() == {"mood", "stars", "stray"}
    assert "damaged or cut short" in problems["mood"]
    assert "has no card.json" in problems["stars"]
    (bank.folder / "laune" / "card.json").write_text("{")
    with pytest.warns(UserWarning, match="left out of the list: .*laune/card.json: this is no JSON"):
        assert listed(bank) == ["mood"]


def test_a_bank_that_must_not_be_written(bank: Bank) -> None:
    frozen = Bank(bank.folder, read_only=True)
    before = sorted(path.name for path in bank.folder.iterdir())
    assert listed(frozen) == ["laune", "mood", "stars"]
    assert frozen.verify() == ()
    assert frozen.load("mood").hash == small_artefact(0).hash
    for change in (lambda: frozen.add(small_artefact(8), "x"), lambda: frozen.remove("mood")):
        with pytest.raises(BankError, match="cannot be changed; give the folder of a bank of your own"):
            change()
    assert sorted(path.name for path in bank.folder.iterdir()) == before


@pytest.fixture
def starter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bank:
    """A starter bank for two models: mood for both, laune for tiny alone."""
    monkeypatch.setattr(bank_room, "STARTER", tmp_path / "starter")
    tiny = open_bank(tmp_path / "starter" / "tiny", create=True)
    tiny.add(small_artefact(0))
    tiny.add(small_artefact(1), "laune")
    minilm = TINY.model_copy(update={"fingerprint": "0" * 64, "name": "minilm"})
    open_bank(tmp_path / "starter" / "minilm", create=True).add(small_artefact(2, backbone=minilm))
    return open_bank("starter")


def test_the_starter_bank_lists_every_models_prompts(starter: Bank) -> None:
    for name in ("starter", "builtin:", "builtin:starter"):
        assert listed(open_bank(name)) == ["minilm/mood", "tiny/laune", "tiny/mood"]
    assert listed(starter, fingerprint="0" * 64) == ["minilm/mood"]
    assert starter.names() == ("minilm/mood", "tiny/laune", "tiny/mood")
    assert starter.verify() == ()
    assert starter.load("minilm/mood").hash != starter.load("tiny/mood").hash == small_artefact(0).hash


def test_a_name_that_one_model_has_needs_no_model(starter: Bank) -> None:
    assert starter.load("laune").hash == starter.load("tiny/laune").hash
    with pytest.raises(BankError, match="'mood' is there for several models; name one of minilm/mood, tiny/mood"):
        starter.load("mood")
    with pytest.raises(BankError, match="did you mean 'tiny/laune'"):
        starter.load("tiny/laun")


def test_a_model_gets_its_own_part_of_the_starter_bank(starter: Bank) -> None:
    tiny = starter.serving("f" * 64, "tiny")
    assert listed(tiny) == ["laune", "mood"]
    assert tiny.read_only
    assert tiny.load("mood").hash == small_artefact(0).hash
    with pytest.raises(BankError, match="no prompt for other: the starter bank is for minilm, tiny; tune one with"):
        starter.serving("a" * 64, "other")


def test_every_other_bank_serves_every_model(bank: Bank) -> None:
    assert bank.serving("a" * 64, "other") is bank


def test_the_starter_bank_is_read_only(starter: Bank, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for shipped in (starter, starter.serving("f" * 64, "tiny")):
        with pytest.raises(BankError, match="cannot be changed; give the folder of a bank of your own"):
            shipped.add(small_artefact(8), "x")
    monkeypatch.setattr(bank_room, "STARTER", tmp_path / "nowhere")
    with pytest.raises(BankError, match="this installation has no starter bank"):
        open_bank("starter")


def test_what_is_no_bank_is_one_line(tmp_path: Path) -> None:
    save(small_artefact(), tmp_path / "mood")
    (tmp_path / "file").write_text("x")
    cases = {"nothing": "there is no bank", "file": "is a file, not a bank", "mood": "is an artefact, not a bank"}
    for name, message in cases.items():
        with pytest.raises(BankError, match=message):
            open_bank(tmp_path / name)
    with pytest.raises(PromptgraftError, match="cannot be created"):
        open_bank(tmp_path / "file" / "x", create=True)
