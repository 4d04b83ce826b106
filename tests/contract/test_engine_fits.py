"""What a model would take is estimated before it is loaded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from causal_models import batch_of, causal_folder, drawn, rows_of
from promptgraft import api
from promptgraft.engine.fits import NeededMemory, fitting
from promptgraft.errors import ModelError, UsageError
from promptgraft.model.causal import CausalBackbone
from promptgraft.model.load import load_backbone
from promptgraft.model.sizes import read_sizes
from promptgraft.model.stored import StoredProjection
from promptgraft.prompt.prompt import Prompt, stack
from toys import tiny_model


@pytest.fixture(scope="module", params=["llama", "llama-tied-biased", "qwen3", "gemma2", "gpt2"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp(request.param)
    causal_folder(path, request.param)
    return path


def held(backbone: CausalBackbone) -> int:
    """Bytes of a backbone's weights, each storage once."""
    sizes = {
        weight.untyped_storage().data_ptr(): weight.untyped_storage().nbytes() for weight in backbone.weights.values()
    }
    stored = 0
    for layer in backbone._decoder.layers:
        for product in (layer.queries, layer.keys_values, layer.attended, layer.wide, layer.narrow):
            if isinstance(product, StoredProjection):
                stored += product.weight.bytes  # type: ignore[attr-defined]
    return sum(sizes.values()) + stored


@pytest.mark.parametrize("dtype", ["bf16", "int8"])
def test_weights_are_as_large_as_was_said(folder: Path, dtype: Any) -> None:
    backbone = load_backbone(folder, dtype=dtype)
    assert isinstance(backbone, CausalBackbone)
    width = backbone.weights[backbone.words].element_size()
    sizes = read_sizes(folder)
    said = sizes.weights(dtype) + (width - 2) * sizes.others  # where fp32 is faster all else is stored in it
    assert said == pytest.approx(held(backbone), rel=0.25)  # of so small a model scales and biases are much


def test_every_number_grows_with_what_it_counts(folder: Path) -> None:
    def line(arithmetic: str = "bf16", **given: Any) -> NeededMemory:
        found = api.estimate_memory(folder, device="cpu", **given)
        return next(line for line in found.lines if line.arithmetic == arithmetic)

    base = line(batch=64, max_length=90)
    assert line(batch=128, max_length=90).step > base.step
    assert base.again is not None
    assert base.again < base.step
    assert line("fp32", batch=64, max_length=90).step > base.step
    assert line("int4").weights < line("int8").weights < line("bf16").weights < line("fp32").weights
    more, less = line(most=64).writing, line(most=8).writing
    assert more is not None
    assert less is not None
    assert more > less


def test_many_runs_take_what_the_loop_gives_them(folder: Path) -> None:
    one, many = (
        api.estimate_memory(folder, runs=runs, device="cpu", batch=4, max_length=8).lines[0] for runs in (1, 4096)
    )
    assert many.step > one.step
    assert many.again is not None


def test_an_encoder_has_no_few_bits_and_writes_nothing(tmp_path: Path) -> None:
    for family in ("bert", "modernbert"):
        found = api.estimate_memory(tiny_model(tmp_path / family, family), device="cpu")
        assert [line.arithmetic for line in found.lines] == ["fp32", "bf16"]
        assert all(line.again is None and line.writing is None and line.step > line.weights > 0 for line in found.lines)


def test_what_fits_is_said() -> None:
    lines = (
        NeededMemory("fp32", 1, 2, 30, 20, None),
        NeededMemory("bf16", 1, 2, 15, 8, None),
        NeededMemory("int4", 1, 2, 9, 5, None),
    )
    assert fitting(lines, 10) == {"fp32": "no", "bf16": "with layers computed again", "int4": "yes"}


def test_a_step_keeps_about_what_was_said(folder: Path) -> None:
    """Of the states that a step keeps, without what the allocator loses between them."""
    backbone = load_backbone(folder)
    kept: dict[int, int] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    tokens = rows_of(drawn([64] * 16))
    values = torch.zeros(backbone.prompt_layers, 2, 4, backbone.key_width).requires_grad_()
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        backbone.forward(batch_of(tokens, [0] * 16), stack([Prompt(values)]), "mean")
    for weight in backbone.weights.values():
        kept.pop(weight.untyped_storage().data_ptr(), None)
    assert sum(kept.values()) == pytest.approx(len(tokens.ids) * read_sizes(folder).kept * 4, rel=0.4)


@pytest.mark.parametrize(
    ("given", "error", "line"),
    [({"batches": 3}, UsageError, "unknown argument"), ({"batch": 0}, UsageError, "batch 0")],
)
def test_wrong_settings_are_one_line(folder: Path, given: dict[str, Any], error: type[Exception], line: str) -> None:
    with pytest.raises(error, match=line):
        api.estimate_memory(folder, **given)


def test_damaged_headers_are_one_line(folder: Path, tmp_path: Path) -> None:
    for name in ("config.json", "tokenizer.json"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    (tmp_path / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes()[:40])
    with pytest.raises(ModelError, match="damaged or incomplete weights"):
        api.estimate_memory(tmp_path)
