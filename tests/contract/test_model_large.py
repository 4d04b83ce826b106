"""What makes large causal models fit: layers computed again, weights in few bits, and weights left on the processor."""

from __future__ import annotations

import logging
import weakref
from pathlib import Path

import pytest
import torch
from torch import Tensor

from causal_models import batch_of, causal_folder, drawn, rows_of
from promptgraft.errors import ModelError, RunError, UsageError
from promptgraft.kernels.quantised import EightBits, FourBits, product
from promptgraft.model.backbone import Read
from promptgraft.model.causal import CausalBackbone
from promptgraft.model.decoder import assemble
from promptgraft.model.load import load_backbone
from promptgraft.model.memory import MemoryLimit
from promptgraft.model.stored import Room, StoredProjection, TakeFrozen
from promptgraft.prompt.prompt import Placement, Prompt, stack
from toys import tiny_model

(INSTRUCTION,) = drawn([20], 7)
ON_GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU here")


@pytest.fixture(scope="module", params=["llama-tied-biased", "qwen3", "gemma2", "gpt2"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp(request.param)
    causal_folder(path, request.param)
    return path


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("llama")
    causal_folder(path, "llama")
    return path


def loaded(folder: Path, **given: object) -> CausalBackbone:
    found = load_backbone(folder, **given)  # type: ignore[arg-type]
    assert isinstance(found, CausalBackbone)
    return found


class Saved:
    """A tensor that a graph keeps."""

    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor.detach()  # a result that knows its graph would keep that alive


def step(backbone: CausalBackbone, depth: str = "deep", read: Read = "tokens") -> tuple[Tensor, Tensor]:
    """States of rows behind an instruction under two prompts, and the prompts' gradient."""
    generator = torch.Generator().manual_seed(0)
    rows = rows_of([INSTRUCTION + text for text in drawn([4, 7, 2, 9], 1)])
    shape = (backbone.prompt_layers, 2, 3, backbone.key_width) if depth == "deep" else (3, backbone.hidden)
    values = [torch.randn(shape, generator=generator).requires_grad_() for _ in range(2)]
    placement: Placement = "after_cls" if depth == "deep" else "peft"
    prompts = stack([Prompt(value, placement) for value in values])
    states = backbone.forward(batch_of(rows, [0, 1, 0, 1]), prompts, read)
    states.square().sum().backward()
    return states.detach(), torch.stack([value.grad for value in values if value.grad is not None])


@pytest.mark.parametrize(
    ("dtype", "depth", "read"),
    [("fp32", "deep", "mark"), ("fp32", "shallow", "tokens"), ("bf16", "deep", "tokens"), ("int4", "shallow", "mark")],
)
def test_layers_computed_again_change_no_bit(folder: Path, dtype: str, depth: str, read: Read) -> None:
    at_once, again = (step(loaded(folder, dtype=dtype, memory=memory), depth, read) for memory in (None, "low"))
    assert all(torch.equal(one, other) for one, other in zip(at_once, again, strict=True))
    assert torch.isfinite(again[1]).all()


def test_what_a_layer_keeps_is_gone_between_forward_and_backward(llama: Path) -> None:
    """What the graph of a step refers to is a layer's input alone."""

    def saved(memory: str | None) -> int:
        kept: weakref.WeakSet[Saved] = weakref.WeakSet()

        def pack(tensor: Tensor) -> Saved:
            kept.add(found := Saved(tensor))
            return found

        backbone = loaded(llama, memory=memory)
        values = torch.randn(3, 2, 3, backbone.key_width).requires_grad_()
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda found: found.tensor):
            states = backbone.forward(batch_of(rows_of(drawn([40, 50])), [0, 0]), stack([Prompt(values)]), "mark")
        assert states.requires_grad
        return sum(found.tensor.numel() for found in kept)

    assert saved("low") < saved(None) / 4


def test_too_little_memory_is_said_once(llama: Path, caplog: pytest.LogCaptureFixture) -> None:
    backbone = loaded(llama, memory="1KB")
    with caplog.at_level(logging.WARNING, "promptgraft"):
        for _ in range(2):
            step(backbone)
    assert len(caplog.messages) == 1
    assert "computed again" in caplog.messages[0]


def test_memory_that_a_model_does_not_go_by_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "promptgraft"):
        load_backbone(tiny_model(tmp_path / "bert", "bert"), memory="4GB")
        load_backbone(tiny_model(tmp_path / "albert", "albert"))
    assert caplog.messages == ["memory is for causal models; bert takes what it needs"]


def test_memory_is_a_size() -> None:
    assert [MemoryLimit.parse(text).limit for text in ("4GB", "800 MiB", "1.5g", "low", "64")] == [
        4 << 30, 800 << 20, 3 << 29, 0, 64,
    ]  # fmt: skip
    assert MemoryLimit.parse(None).limit is None
    for wrong in ("much", "-1GB", "4 GB of it", ""):
        with pytest.raises(UsageError, match="is no size"):
            MemoryLimit.parse(wrong)


@pytest.mark.parametrize(("kind", "error"), [(EightBits, 0.01), (FourBits, 0.1)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_few_bits_are_close(kind: type[EightBits] | type[FourBits], error: float, dtype: torch.dtype) -> None:
    weight = torch.randn(48, 128, generator=torch.Generator().manual_seed(0)).to(dtype)
    weight[3, 5], weight[7] = 40.0, 0.0
    whole = kind.of(weight).whole(weight)
    assert whole.dtype == dtype
    ordinary = [row for row in range(48) if row not in (3, 7)]
    assert float((whole - weight)[ordinary].norm() / weight[ordinary].norm()) < error
    assert not whole[7].any()
    torch.testing.assert_close(kind.of(weight).rows(4, 10).whole(weight), whole[4:10])
    torch.testing.assert_close(kind.of(whole).whole(weight), whole, atol=0.02 * float(whole.abs().max()), rtol=0)


@pytest.mark.parametrize("kind", [EightBits, FourBits])
def test_a_products_gradient_is_that_of_the_weight_it_multiplies_by(kind: type[EightBits] | type[FourBits]) -> None:
    generator = torch.Generator().manual_seed(0)
    stored, x = kind.of(torch.randn(6, 8, generator=generator)), torch.randn(3, 8, generator=generator)
    found = []
    for multiply in (lambda x: product(x, stored), lambda x: x @ stored.whole(x).T):
        leaf = x.clone().requires_grad_()
        out = multiply(leaf)
        out.square().sum().backward()
        found.append((out, leaf.grad))
    torch.testing.assert_close(found[0], found[1])


@pytest.mark.parametrize(("dtype", "cosine"), [("int8", 0.995), ("int4", 0.8)])
def test_every_family_trains_and_writes_with_weights_in_few_bits(folder: Path, dtype: str, cosine: float) -> None:
    exact, few = loaded(folder), loaded(folder, dtype=dtype)
    assert few.arithmetic == dtype
    assert few.learns
    assert few.fingerprint == exact.fingerprint
    for ours, theirs in zip(step(few), step(exact), strict=True):
        assert torch.nn.functional.cosine_similarity(ours.flatten(), theirs.flatten(), dim=0) > cosine
    assert few.generate(batch_of(rows_of(drawn([5, 3]))), None, most=2) is not None
    stored, whole = (sum(weight.nbytes for weight in backbone.weights.values()) for backbone in (few, exact))
    assert stored < whole


def test_weights_in_few_bits_do_not_learn_and_take_others(llama: Path) -> None:
    exact, few = loaded(llama), loaded(llama, dtype="int8")
    leaves = {name: weight.clone().requires_grad_() for name, weight in exact.weights.items()}
    with pytest.raises(RunError, match="learn in fp32 and bf16 alone"):
        few.with_weights(leaves)
    others = few.with_weights({name: 2 * weight for name, weight in exact.weights.items()})
    assert others.arithmetic == "int8"
    assert others.fingerprint != few.fingerprint


def test_an_encoder_in_four_bits_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="int4 is for causal models"):
        load_backbone(tiny_model(tmp_path / "bert", "bert"), dtype="int4")


def test_no_weight_lies_in_memory_twice(llama: Path) -> None:
    backbone = loaded(llama, dtype="bf16")
    layer, weights = backbone._decoder.layers[0], backbone.weights
    for product_, names in ((layer.wide, ("gate_proj", "up_proj")), (layer.narrow, ("down_proj",))):
        storage = product_.weight.untyped_storage().data_ptr()  # type: ignore[attr-defined]
        for name in names:
            assert weights[f"layers.0.mlp.{name}.weight"].untyped_storage().data_ptr() == storage


def left(folder: Path, device: str, dtype: str) -> CausalBackbone:
    """A backbone of whose products some have no room on the device."""
    whole = loaded(folder, dtype=dtype, device=device)
    weights = {
        name: weight.cpu()
        for name, weight in loaded(folder, dtype="bf16" if dtype == "bf16" else "fp32").weights.items()
    }
    variant = whole._scoring.variant
    take = TakeFrozen(weights, "left", whole._dtype, whole.device, whole.arithmetic, Room(6000), variant=variant)
    frozen = assemble(whole._shape, take)
    assert any(isinstance(layer.wide, StoredProjection) for layer in frozen.layers)
    return CausalBackbone(
        "left", whole._shape, weights, whole._tokenizer, dtype=whole._dtype, arithmetic=whole.arithmetic, pooling=None,
        fingerprint="left", frozen=frozen, variant=variant,
    )  # fmt: skip


@pytest.mark.parametrize("dtype", ["fp32", "bf16", "int4"])
def test_weights_left_behind_give_the_same(folder: Path, dtype: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Tensor, "pin_memory", lambda tensor: tensor)  # which needs a GPU
    whole, some = step(loaded(folder, dtype=dtype)), step(left(folder, "cpu", dtype))
    for one, other in zip(whole, some, strict=True):
        assert torch.equal(one, other)


@ON_GPU
@pytest.mark.parametrize("dtype", ["bf16", "int4"])
def test_weights_left_behind_give_the_same_on_a_gpu(llama: Path, dtype: str) -> None:
    whole, some = step(loaded(llama, dtype=dtype, device="cuda")), step(left(llama, "cuda", dtype))
    for one, other in zip(whole, some, strict=True):
        torch.testing.assert_close(other, one, atol=0.3, rtol=1e-2)


@ON_GPU
def test_four_bits_are_made_whole_on_a_gpu_as_on_a_processor() -> None:
    for dtype, width in ((torch.float32, 24), (torch.bfloat16, 1536)):
        stored = FourBits.of(torch.randn(34, width).to(dtype))
        there = FourBits(stored.pairs.cuda(), stored.scale.cuda(), stored.least.cuda())
        like = torch.zeros(1, dtype=dtype)
        torch.testing.assert_close(there.whole(like.cuda()).cpu(), stored.whole(like), atol=0.02, rtol=0.01)


@ON_GPU
@pytest.mark.parametrize("dtype", ["fp32", "bf16", "int8", "int4"])
def test_layers_computed_again_change_no_bit_on_a_gpu(llama: Path, dtype: str) -> None:
    at_once, again = (step(loaded(llama, dtype=dtype, device="cuda", memory=memory)) for memory in (None, "low"))
    assert all(torch.equal(one, other) for one, other in zip(at_once, again, strict=True))


@ON_GPU
def test_a_model_too_large_for_a_gpu_leaves_weights_behind(llama: Path) -> None:
    some, whole = loaded(llama, device="cuda", memory="1KB"), loaded(llama, device="cuda")
    assert any(isinstance(layer.wide, StoredProjection) for layer in some._decoder.layers)
    for one, other in zip(step(whole), step(some), strict=True):
        torch.testing.assert_close(other, one, atol=1e-3, rtol=1e-3)
