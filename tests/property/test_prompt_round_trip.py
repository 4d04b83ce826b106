"""Whatever an artefact holds comes back from disk as it was."""

from __future__ import annotations

import tempfile
from pathlib import Path

import hypothesis.strategies as st
import torch
from hypothesis import given, settings
from torch import Tensor

from banks import MOOD, TINY, small_card
from promptgraft.bank.names import check_name
from promptgraft.prompt.artefact import Artefact, load, save
from promptgraft.prompt.card import Origin, SplitScore, read_card
from promptgraft.prompt.prompt import Prompt
from promptgraft.prompt.readme import front_matter, readme
from promptgraft.untrusted import file_name

text = st.text(st.characters(codec="utf-8"), max_size=20)
names = st.text("abcdefg_.-0123", min_size=1, max_size=8)
scores = st.builds(SplitScore, value=st.floats(-1, 1), low=st.none() | st.floats(-1, 1), rows=st.integers(1, 10**6))
origins = st.builds(Origin, role=st.sampled_from(["source", "teacher"]), name=text, hash=text)
plain = st.none() | st.booleans() | st.integers(-9, 9) | text | st.lists(text, max_size=2)
options = st.dictionaries(names, plain, max_size=3)
tasks = st.builds(
    lambda labels, **fields: MOOD.model_copy(update={"labels": labels, **fields}),
    labels=st.dictionaries(text, text, max_size=4),
    name=text,
    language=st.none() | text,
    licence=st.none() | text,
    source=st.none() | text,
)


@st.composite
def tensors(draw: st.DrawFn, shape: tuple[int, ...] | None = None) -> Tensor:
    size = shape or tuple(draw(st.lists(st.integers(0, 4), max_size=3)))
    kind = draw(st.sampled_from([torch.float32, torch.bfloat16, torch.float64, torch.int64, torch.uint8, torch.bool]))
    values = torch.randint(0, 100, size, generator=torch.Generator().manual_seed(draw(st.integers(0, 999))))
    made = (values - 50 if kind.is_floating_point else values).to(kind)
    return made.transpose(0, -1) if made.ndim > 1 and shape is None and draw(st.booleans()) else made


@st.composite
def artefacts(draw: st.DrawFn) -> Artefact:
    shape = draw(st.sampled_from([None, (1, 4), (5, 3), (2, 2, 3, 4), (1, 2, 1, 1)]))
    values = None if shape is None else draw(tensors(shape)).to(draw(st.sampled_from([torch.float32, torch.bfloat16])))
    prompt = None if values is None else Prompt(values, draw(st.sampled_from(["after_cls", "peft"])))
    card = small_card(
        prompt,
        task=draw(tasks),
        backbone=TINY.model_copy(update={"name": draw(text), "hub": draw(st.none() | text)}),
        options=draw(options),
        recipe=draw(options),
        scores=draw(st.dictionaries(names, scores, max_size=2)),
        lineage=tuple(draw(st.lists(origins, max_size=2))),
        shots=draw(st.none() | st.integers(0, 99)),
    )
    readout = draw(st.dictionaries(names, tensors(), max_size=3))
    weights = {name: tensor.float() for name, tensor in draw(st.dictionaries(names, tensors(), max_size=3)).items()}
    width = draw(st.integers(1, 4))
    poolings = draw(st.sets(st.sampled_from(["cls", "mean"])))
    embeddings = {pooling: torch.arange(width, dtype=torch.float32) for pooling in poolings}
    return Artefact(prompt, readout, card, embeddings, weights if draw(st.booleans()) else None)


def same(one: dict[str, Tensor] | None, other: dict[str, Tensor] | None) -> bool:
    if one is None or other is None:
        return one is other
    return one.keys() == other.keys() and all(
        one[key].dtype == other[key].dtype and torch.equal(one[key], other[key]) for key in one
    )


@given(artefacts())
@settings(max_examples=25)
def test_every_artefact_comes_back_as_it_was(artefact: Artefact) -> None:
    with tempfile.TemporaryDirectory() as folder:
        save(artefact, Path(folder) / "a")
        again = load(Path(folder) / "a")
        save(again, Path(folder) / "b")
        assert load(Path(folder) / "b").card == again.card
    assert again.hash == artefact.hash == again.card.hash
    assert same(dict(again.readout), dict(artefact.readout))
    assert same(dict(again.embeddings), dict(artefact.embeddings))
    assert same(again.weights and dict(again.weights), artefact.weights and dict(artefact.weights))
    assert (again.prompt is None) == (artefact.prompt is None)
    if again.prompt is not None and artefact.prompt is not None:
        assert torch.equal(again.prompt.values, artefact.prompt.values)
        assert again.prompt.placement == artefact.prompt.placement
    assert list(again.card.task.labels) == list(artefact.card.task.labels), "the order of labels is that of classes"


@given(artefacts())
@settings(max_examples=25)
def test_the_front_matter_is_yaml_whatever_the_card_says(artefact: Artefact) -> None:
    import yaml

    page = readme(artefact.card)
    _, matter, body = page.split("---\n", 2)
    assert yaml.safe_load(matter) == front_matter(artefact.card)
    assert body.strip()


@given(artefacts(), st.integers(0, 10**6))
def test_the_hash_follows_the_meaning_and_nothing_else(artefact: Artefact, seconds: int) -> None:
    card = artefact.card
    later = card.replace(seconds=float(seconds), versions={}, created="2030-01-01T00:00:00Z")
    assert artefact.replace(card=later).hash == artefact.hash
    assert artefact.replace(card=card.replace(seed=card.seed + 1)).hash != artefact.hash
    assert artefact.replace(readout={**artefact.readout, "new": torch.ones(1)}).hash != artefact.hash
    turned = dict(reversed(card.task.labels.items()))
    other = card.replace(task=card.task.model_copy(update={"labels": turned}))
    assert (artefact.replace(card=other).hash == artefact.hash) == (len(turned) < 2)
    shuffled = card.replace(options=dict(reversed(card.options.items())))
    assert artefact.replace(card=shuffled).hash == artefact.hash


@given(artefacts())
def test_a_card_is_read_from_its_own_json(artefact: Artefact) -> None:
    assert read_card(artefact.card.to_json(), "card.json") == artefact.card


@given(st.text())
def test_a_name_made_from_any_text_is_allowed(words: str) -> None:
    name = file_name(words)
    assert check_name(name) == name
