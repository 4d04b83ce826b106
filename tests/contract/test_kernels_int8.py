"""Products in int8: the native path against plain torch, what they give up against fp32, what they refuse."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from encoders import VARIANTS, Case, backbone, case, shape_of
from promptgraft import api
from promptgraft.errors import ModelError, RunError, UsageError
from promptgraft.kernels.native.library import INT8
from promptgraft.model.backbone import Batch, Read
from promptgraft.model.encoder import Dense, Int8Dense
from promptgraft.model.load import load_backbone
from promptgraft.model.packed import PackedBackbone
from promptgraft.prompt.prompt import Prompt, stack
from toys import tiny_model

ABLE = [variant for variant in VARIANTS if variant in INT8]
STORED = [(variant, torch.float32) for variant in ABLE] + [("amx", torch.bfloat16)] * ("amx" in ABLE)
READS: tuple[Read, ...] = ("cls", "mean", "tokens")


def states(model: PackedBackbone, given_case: Case, read: Read) -> Tensor:
    prompts = [Prompt(prompt, "after_cls") for prompt in given_case.prompts]
    with torch.no_grad():
        return model.forward(Batch(given_case.tokens, given_case.owner), stack(prompts) if prompts else None, read)


def away(mine: Tensor, other: Tensor) -> float:
    return float((mine - other).norm() / other.norm())


@pytest.mark.parametrize("rows", [1, 5])
def test_a_product_is_as_exact_as_its_steps_allow(rows: int) -> None:
    generator = torch.Generator().manual_seed(0)
    linear = Dense(torch.randn(7, 50, generator=generator), torch.randn(7, generator=generator))
    x = torch.randn(rows, 50, generator=generator)
    whole = Int8Dense.of(linear)
    step = (x.amax(1) - x.amin(1))[:, None] / 255
    bound = step / 2 * linear.weight.abs().sum(1) + x.abs().sum(1)[:, None] * whole.scale / 2
    assert ((whole(x) - linear(x)).abs() <= bound + step / 2 * whole.scale * 50).all()
    torch.testing.assert_close(Int8Dense.of(whole)(x), whole(x))


def test_rows_of_one_value_and_weights_of_nothing_are_exact() -> None:
    linear = Dense(torch.tensor([[0.0, 0.0], [1.0, -1.0]]), torch.tensor([0.5, 0.25]))
    x = torch.tensor([[0.0, 0.0], [3.0, 3.0], [-2.0, -2.0]])
    torch.testing.assert_close(Int8Dense.of(linear)(x), linear(x))


@pytest.mark.parametrize(("variant", "dtype"), STORED)
@pytest.mark.parametrize("read", READS)
def test_both_paths_give_the_same_states(variant: str, dtype: torch.dtype, read: Read) -> None:
    shape = shape_of(64, 2, 128, 2)
    given_case = case(shape, [24, 9, 40, 17, 5], [16, 20])
    plain = states(backbone(shape, None, int8=True), given_case, read)
    mine = states(backbone(shape, variant, dtype=dtype, int8=True), given_case, read)
    assert away(mine, plain) <= (0.005 if dtype == torch.float32 else 0.02)


@pytest.mark.parametrize(("variant", "dtype"), STORED)
@settings(max_examples=25)
@given(
    width=st.sampled_from([(8, 1), (24, 3), (26, 1), (32, 2), (66, 2), (96, 1), (128, 2)]),
    wide=st.integers(1, 150),
    lengths=st.lists(st.integers(1, 90), min_size=1, max_size=6),
    prompts=st.lists(st.integers(0, 40), max_size=3),
    read=st.sampled_from(READS),
    seed=st.integers(0, 99),
)
def test_odd_shapes(
    variant: str,
    dtype: torch.dtype,
    width: tuple[int, int],
    wide: int,
    lengths: list[int],
    prompts: list[int],
    read: Read,
    seed: int,
) -> None:
    shape = shape_of(*width, wide, 1)
    given_case = case(shape, lengths, prompts, seed)
    plain = states(backbone(shape, None, seed, int8=True), given_case, read)
    mine = states(backbone(shape, variant, seed, dtype, int8=True), given_case, read)
    assert away(mine, plain) <= 0.03
    assert away(mine, states(backbone(shape, None, seed), given_case, read)) <= 0.1


@pytest.mark.parametrize(("variant", "dtype"), STORED)
def test_company_and_threads_change_no_bit(variant: str, dtype: torch.dtype) -> None:
    shape = shape_of(64, 2, 128, 2)
    model = backbone(shape, variant, dtype=dtype, int8=True)
    lengths = [24, 9, 40, 17, 60, 3, 33]
    alone = case(shape, lengths, [], seed=1)
    rows = states(model, alone, "tokens")
    for start, length in zip(alone.tokens.starts.tolist(), lengths, strict=False):
        one = case(shape, [length], [])
        one.tokens.ids[:] = alone.tokens.ids[start : start + length]
        one.tokens.types[:] = alone.tokens.types[start : start + length]
        assert torch.equal(states(model, one, "tokens"), rows[start : start + length])
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        assert torch.equal(states(model, alone, "tokens"), rows)
    finally:
        torch.set_num_threads(threads)


@pytest.mark.parametrize("variant", [None, *ABLE])
@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_what_is_no_number_is_not_hidden(variant: str | None, value: float) -> None:
    shape = shape_of(32, 2, 64, 1)
    given_case = case(shape, [5, 7], [4])
    given_case.prompts[0][0, 1, 2, 3] = value
    assert not states(backbone(shape, variant, int8=True), given_case, "cls").isfinite().any()


@pytest.mark.every_path
@pytest.mark.usefixtures("each_path")
def test_gradients_are_refused_and_passes_without_are_not(tmp_path: Path) -> None:
    model = load_backbone(tiny_model(tmp_path / "bert", "bert"), dtype="int8")
    tokens = model.tokenize_texts(["a small text", "another"])
    prompt = torch.randn(model.layers, 2, 3, model.hidden).requires_grad_()
    given_stack = stack([Prompt(prompt, "after_cls")])
    batch = Batch(tokens, torch.zeros(2, dtype=torch.long))
    with pytest.raises(RunError, match="int8 has no gradients"):
        model.forward(batch, given_stack, "cls")
    with torch.no_grad():
        assert model.forward(batch, given_stack, "cls").shape == (2, model.hidden)
    with pytest.raises(RunError, match="int8 has no gradients"):
        model.with_weights({name: weight.clone().requires_grad_() for name, weight in model.weights.items()})


@pytest.mark.every_path
@pytest.mark.usefixtures("each_path")
@pytest.mark.parametrize("family", ["bert", "roberta", "electra", "albert"])
@pytest.mark.parametrize("depth", ["deep", "shallow"])
def test_every_family_is_near_its_fp32(family: str, depth: str, tmp_path: Path) -> None:
    folder = tiny_model(tmp_path / family, family)
    exact, quick = load_backbone(folder), load_backbone(folder, dtype="int8")
    assert (exact.arithmetic, quick.arithmetic) == ("fp32", "int8")
    assert exact.fingerprint == quick.fingerprint
    wide = (exact.layers, 2, 3, exact.hidden) if depth == "deep" else (3, exact.embedding_width)
    prompts = stack([Prompt(torch.randn(wide, generator=torch.Generator().manual_seed(0)), "after_cls")])
    batch = Batch(exact.tokenize_texts(["a small text", "another"]), torch.zeros(2, dtype=torch.long))
    with torch.no_grad():
        assert away(quick.forward(batch, prompts, "mean"), exact.forward(batch, prompts, "mean")) < 0.1


@pytest.mark.every_path
@pytest.mark.usefixtures("each_path")
def test_weights_that_were_trained_are_used_in_int8(tmp_path: Path) -> None:
    folder = tiny_model(tmp_path / "bert", "bert")
    exact, quick = load_backbone(folder), load_backbone(folder, dtype="int8")
    other = {name: weight * 1.1 for name, weight in exact.weights.items()}
    batch = Batch(exact.tokenize_texts(["a small text", "another"]))
    with torch.no_grad():
        mine, wanted = (model.with_weights(other).forward(batch, None, "mean") for model in (quick, exact))
    assert quick.with_weights(other).arithmetic == "int8"
    assert away(mine, wanted) < 0.1
    assert not torch.equal(mine, wanted)


def test_methods_that_differentiate_say_so(tmp_path: Path) -> None:
    rows = tmp_path / "rows.csv"
    rows.write_text("text,label\n" + "".join(f"word {n},{'ab'[n % 2]}\n" for n in range(40)), encoding="utf-8")
    folder = tiny_model(tmp_path / "bert", "bert")
    with pytest.raises(RunError, match="prompt-tuning needs gradients, and int8 has none"):
        api.tune(rows, folder, arithmetic="int8")
    done = api.tune(rows, folder, method="linear-probe", arithmetic="int8")
    assert done.best.job.recipe.arithmetic == "int8"
    with pytest.raises(ModelError, match="int4 is for causal models"):
        api.tune(rows, folder, arithmetic="int4")
    with pytest.raises(UsageError, match="arithmetic"):
        api.tune(rows, folder, arithmetic="int2")


def test_other_encoders_refuse_it(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="int8 is for causal models and encoders of the BERT family"):
        load_backbone(tiny_model(tmp_path / "ernie", "ernie"), dtype="int8")
