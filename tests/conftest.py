"""What all tests share: real small models, the shared folder, a home of their own."""

from __future__ import annotations

import os

# Before anything imports torch: every worker of pytest-xdist is one process of one thread, whatever it is told outside.
os.environ["OMP_NUM_THREADS"] = "1"
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("MPLBACKEND", "Agg")

from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

ROOT = Path(__file__).resolve().parents[1]

hypothesis.settings.register_profile("local", deadline=None, max_examples=50)
hypothesis.settings.register_profile("ci", deadline=None, max_examples=50, derandomize=True)
hypothesis.settings.load_profile("ci" if os.environ.get("CI") else "local")


@pytest.fixture(scope="session")
def root() -> Path:
    """The repository."""
    return ROOT


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of shared data and research beside the repository, or a skip."""
    path = Path(os.environ.get("PROMPTGRAFT_SHARED") or ROOT.parent / "shared")
    if not path.is_dir():
        pytest.skip("needs the shared folder beside the repository, or its path in PROMPTGRAFT_SHARED")
    return path


@pytest.fixture(scope="session", autouse=True)
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A PROMPTGRAFT_HOME of this session's own, in which only the models are the user's.

    PROMPTGRAFT_TEST_MODELS names another folder of ready models (NAME/config.json, ...).
    """
    from promptgraft.model.home import models as user_models  # not above: shapes are checked from here on

    models = Path(os.environ.get("PROMPTGRAFT_TEST_MODELS") or user_models()).resolve()
    models.mkdir(parents=True, exist_ok=True)
    path = tmp_path_factory.mktemp("home")
    (path / "models").symlink_to(models, target_is_directory=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PROMPTGRAFT_HOME", str(path))
        yield path


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """What asks for `each_path`, itself or through a fixture, runs once on every path of this processor."""
    if "each_path" in metafunc.fixturenames:
        from paths import PATHS

        metafunc.parametrize("each_path", PATHS, indirect=True, scope="module")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """On all paths but the first: what is marked `every_path` is quick, all else is slow; what is slow is left out."""
    from paths import PATHS

    left_out = []
    for item in items:
        asked = item.callspec.params if isinstance(item, pytest.Function) and hasattr(item, "callspec") else {}
        if asked.get("each_path", PATHS[0]) == PATHS[0] or item.get_closest_marker("every_path"):
            continue
        if item.get_closest_marker("slow"):
            left_out.append(item)
        item.add_marker(pytest.mark.slow)
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        gone = set(left_out)
        items[:] = [item for item in items if item not in gone]


@pytest.fixture(scope="module")
def each_path(request: pytest.FixtureRequest) -> Iterator[str]:
    """A variant of the native path, or `0` for plain torch: what `PROMPTGRAFT_NATIVE` is while the test runs."""
    from paths import taken

    with taken(request.param):
        yield request.param


def ready_model(home: Path, name: str, *, pull: bool) -> Path:
    """Folder of a model that is there, or is pulled now; else a skip."""
    path = home / "models" / name
    if (path / "config.json").is_file():
        return path
    if not pull:
        pytest.skip(f"{name} is not here: promptgraft models pull {name}, or PROMPTGRAFT_TEST_PULL=1")
    from promptgraft.model.pull import pull as pull_model

    return pull_model(name)


@pytest.fixture(scope="session")
def splade_tiny(home: Path) -> Path:
    """2 x 128 BERT with an MLM head; small enough that every machine pulls it."""
    return ready_model(home, "splade-tiny", pull=True)


@pytest.fixture(scope="session")
def minilm(home: Path) -> Path:
    """6 x 384, the default English encoder."""
    return ready_model(home, "minilm", pull=bool(os.environ.get("PROMPTGRAFT_TEST_PULL")))


@pytest.fixture(scope="session")
def e5_small(home: Path) -> Path:
    """12 x 384, about 100 languages; wants "query: " before its texts."""
    return ready_model(home, "e5-small", pull=bool(os.environ.get("PROMPTGRAFT_TEST_PULL")))


@pytest.fixture(scope="session")
def bge_small_en(home: Path) -> Path:
    """12 x 384, read at [CLS]."""
    return ready_model(home, "bge-small-en", pull=bool(os.environ.get("PROMPTGRAFT_TEST_PULL")))


@pytest.fixture(scope="session")
def smollm2_135m(home: Path) -> Path:
    """30 x 576, a causal model with byte-level BPE."""
    return ready_model(home, "smollm2-135m", pull=bool(os.environ.get("PROMPTGRAFT_TEST_PULL")))


@pytest.fixture(scope="session")
def flan_t5_small_titler(home: Path) -> Path:
    """8 + 8 x 512, a T5 with SentencePiece's unigrams."""
    return ready_model(home, "flan-t5-small-titler", pull=bool(os.environ.get("PROMPTGRAFT_TEST_PULL")))


@pytest.fixture(scope="session")
def albert_tiny_zh(home: Path) -> Path:
    """4 x 312 Chinese ALBERT with an MLM head; embeddings narrower than the hidden states."""
    return ready_model(home, "albert-tiny-zh", pull=bool(os.environ.get("PROMPTGRAFT_TEST_PULL")))
