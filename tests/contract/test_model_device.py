"""Where a model lies: one rule, one error, and the same batch however it is padded for a recorded pass."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from promptgraft import api
from promptgraft.errors import ModelError, UsageError
from promptgraft.model.backbone import Batch
from promptgraft.model.device import place, resolve_device
from promptgraft.model.graphs import padded, rounded, size_of, unpacked
from promptgraft.model.layout import lay_out, marked_first
from promptgraft.model.load import PACKED, load_backbone
from promptgraft.model.tokens import Tokens
from promptgraft.prompt.prompt import Prompt, stack
from toys import tiny_model

HERE = torch.cuda.is_available()


@pytest.mark.parametrize("family", tuple(dict.fromkeys(PACKED.values())))
def test_what_a_forward_gives_lies_where_the_backbone_does(family: str, tmp_path: Path) -> None:
    backbone = load_backbone(tiny_model(tmp_path / family, family), device="auto")
    assert backbone.device.type == ("cuda" if HERE else "cpu")
    tokens = backbone.tokenize_texts(["the film was good", "a plot"])
    assert tokens.ids.device.type == "cpu"
    assert backbone.forward(Batch(tokens), None, "mean").device == backbone.device
    assert backbone.embed(tokens.ids).device.type == backbone.keys_values(tokens.ids).device.type == "cpu"


def test_the_processor_is_the_default(tmp_path: Path) -> None:
    assert load_backbone(tiny_model(tmp_path / "bert", "bert")).device.type == "cpu"


@pytest.mark.skipif(HERE, reason="there is a GPU here")
def test_no_gpu_is_one_line_of_error(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no CUDA device"):
        resolve_device("cuda")
    with pytest.raises(ModelError, match="no CUDA device"):
        api.open_model(tiny_model(tmp_path / "bert", "bert"), device="cuda")


def test_a_loaded_backbone_stays_where_it_is(tmp_path: Path) -> None:
    backbone = load_backbone(tiny_model(tmp_path / "bert", "bert"))
    assert api.open_model(backbone, device="cpu") is backbone
    with pytest.raises(UsageError, match="loaded on cpu"):
        api.open_model(backbone, device="cuda")
    with pytest.raises(UsageError, match="tpu"):
        api.open_model(backbone, device="tpu")  # type: ignore[arg-type]


def test_nothing_moves_on_the_processor() -> None:
    batch = batch_of([3, 2], [0, 0])
    layout = lay_out(batch, None, "cls", 40)
    assert place(batch, layout, None, torch.device("cpu")) == (batch, layout, None)


@given(st.integers(1, 1 << 20))
def test_rounding_up_wastes_an_eighth_at_most(count: int) -> None:
    assert count <= rounded(count) < max(count + 128, count * 9 / 8 + 1)
    assert rounded(rounded(count)) == rounded(count)


@given(st.lists(st.integers(1, 30), min_size=1, max_size=20), st.sampled_from(["cls", "mean", "tokens", "mark"]))
@settings(max_examples=30)
def test_a_padded_batch_holds_the_batch(lengths: list[int], read: str) -> None:
    batch = batch_of(lengths, [index % 2 for index in range(len(lengths))])
    prompts = stack([Prompt(torch.zeros(2, 2, length, 4)) for length in (3, 5)])
    layout = lay_out(batch, prompts, read, 40)  # type: ignore[arg-type]
    if read == "mark":
        batch, layout = marked_first(batch, layout)
    size = size_of(batch, layout, prompts, read)  # type: ignore[arg-type]
    wide, there, table = unpacked(padded(batch, layout, prompts, size), prompts.table, size)
    count, sequences = sum(lengths), len(lengths)
    assert torch.equal(wide.tokens.ids[:count], batch.tokens.ids)
    assert torch.equal(there.positions[:count], layout.positions)
    assert torch.equal(there.starts[: sequences + 1], layout.starts)
    assert there.starts.diff()[sequences:].eq(0).all()
    assert len(there.positions) > there.starts[-1], "an empty sequence's first row has to be there"
    assert wide.prompt_of is not None
    assert wide.prompt_of[sequences:].eq(-1).all()
    assert torch.equal(table.starts, prompts.starts)
    assert (there.read is None) == (layout.read is None)
    if there.read is not None and layout.read is not None:
        assert torch.equal(there.read[:sequences], layout.read)
    assert there.limits is not None
    assert there.limits.tokens >= max(lengths)
    assert there.limits.prompt == (5 if sequences > 1 else 3)


def batch_of(lengths: list[int], whose: list[int]) -> Batch:
    starts = torch.tensor([0, *lengths]).cumsum(0)
    ids = torch.arange(int(starts[-1])) + 1
    tokens = Tokens(ids, torch.zeros_like(ids), starts, torch.arange(len(starts)), marks=torch.tensor(lengths) - 1)
    return Batch(tokens, torch.tensor(whose))
