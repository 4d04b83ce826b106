"""The native path against plain torch: every variant this processor runs, every activation, odd shapes."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from command import call
from encoders import VARIANTS, Case, backbone, case, random_encoder, shape_of
from paths import PATHS, PLAIN, taken
from promptgraft.errors import RunError
from promptgraft.kernels.dropout import Dropout
from promptgraft.kernels.native import build as native_build
from promptgraft.kernels.native import library
from promptgraft.kernels.native.build import compiler, is_made_for_this_machine
from promptgraft.kernels.native.library import ACTIVATIONS, able
from promptgraft.model.backbone import Batch, Read
from promptgraft.model.encoder import Dense, Encoder, Layer, Norm
from promptgraft.model.load import load_folder
from promptgraft.model.native import NativeEncoder, NativeRows
from promptgraft.model.packed import PackedBackbone
from promptgraft.model.resolved import Resolved
from promptgraft.model.tokens import Tokens
from promptgraft.prompt.prompt import Prompt, stack
from toys import tiny_model

pytestmark = pytest.mark.skipif(not VARIANTS, reason="the native path is not compiled here")
READS: tuple[Read, ...] = ("cls", "mean", "tokens")


def test_every_variant_of_this_processor_is_compiled() -> None:
    if not is_made_for_this_machine() or not compiler():
        pytest.skip("no compiler")
    assert [variant for variant, can in able().items() if can and knows(compiler(), variant)] == VARIANTS


def knows(program: tuple[str, ...], variant: str) -> bool:
    """Whether the compiler takes the options of a variant."""
    command = [*program, "-fopenmp", *native_build.VARIANTS[variant], "-fsyntax-only", "-x", "c++", os.devnull]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def outcome(
    model: PackedBackbone, given: Case, read: Read, dropout: Dropout | None = None
) -> tuple[Tensor, list[Tensor]]:
    """States, and the gradients of the prompts for a direction that is the same for every row."""
    prompts = [prompt.clone().requires_grad_() for prompt in given.prompts]
    table = stack([Prompt(prompt, "after_cls") for prompt in prompts]) if prompts else None
    states = model.forward(Batch(given.tokens, given.owner), table, read, dropout=dropout)
    direction = torch.randn(states.shape[1], generator=torch.Generator().manual_seed(1))
    if not prompts:
        return states, []
    return states.detach(), list(torch.autograd.grad((states * direction).sum(), prompts, allow_unused=True))


def assert_alike(ours: tuple[Tensor, list[Tensor]], plain: tuple[Tensor, list[Tensor]], tolerance: float) -> None:
    torch.testing.assert_close(ours[0], plain[0], atol=tolerance, rtol=tolerance)
    for mine, theirs in zip(ours[1], plain[1], strict=True):
        assert float((mine - theirs).norm()) <= tolerance * (float(theirs.norm()) + 1e-6)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("read", READS)
def test_values_and_gradients_of_every_activation(variant: str, activation: str, read: Read) -> None:
    shape = shape_of(activation=activation)
    given = case(shape, [5, 1, 9, 30, 2], [4, 1, 17])
    ours, plain = backbone(shape, variant), backbone(shape, None)
    assert_alike(outcome(ours, given, read), outcome(plain, given, read), 1e-5)


def keys(count: int, seed: int = 0) -> Tensor:
    return Dropout.draw(0.0, count, torch.Generator().manual_seed(seed)).keys


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("read", READS)
@pytest.mark.parametrize("drops_narrow", [True, False])
def test_both_paths_drop_the_same_values(variant: str, read: Read, drops_narrow: bool) -> None:
    shape = replace(shape_of(40, 2, 70, 3), drops_narrow=drops_narrow)
    given, dropout = case(shape, [5, 1, 9, 30, 90], [4, 1, 17]), Dropout(0.2, keys(5))
    ours, plain = backbone(shape, variant), backbone(shape, None)
    found = outcome(ours, given, read, dropout)
    assert_alike(found, outcome(plain, given, read, dropout), 1e-5)
    assert not torch.allclose(found[0], outcome(ours, given, read)[0], atol=0.01)


@pytest.mark.parametrize("variant", VARIANTS)
@settings(max_examples=25)
@given(
    width=st.sampled_from([(8, 1), (24, 3), (26, 1), (32, 2), (48, 3), (66, 2), (96, 1)]),
    wide=st.integers(1, 70),
    layers=st.integers(1, 3),
    lengths=st.lists(st.integers(1, 90), min_size=1, max_size=6),
    prompts=st.lists(st.integers(0, 40), max_size=3),
    read=st.sampled_from(READS),
    seed=st.integers(0, 99),
)
def test_odd_shapes(
    variant: str,
    width: tuple[int, int],
    wide: int,
    layers: int,
    lengths: list[int],
    prompts: list[int],
    read: Read,
    seed: int,
) -> None:
    shape = shape_of(*width, wide, layers)
    given_case = case(shape, lengths, prompts, seed)
    ours, plain = backbone(shape, variant, seed), backbone(shape, None, seed)
    assert_alike(outcome(ours, given_case, read), outcome(plain, given_case, read), 2e-5)


@pytest.mark.parametrize("variant", VARIANTS)
def test_long_sequences_and_long_prompts(variant: str) -> None:
    shape = shape_of(32, 2, 64, 2)
    given = case(shape, [512, 3, 200, 65], [130, 64])
    ours, plain = backbone(shape, variant), backbone(shape, None)
    assert_alike(outcome(ours, given, "mean"), outcome(plain, given, "mean"), 2e-5)


@pytest.mark.parametrize("variant", VARIANTS)
def test_bf16_is_as_near_to_fp32_as_the_plain_path_in_bf16(variant: str) -> None:
    shape = shape_of(64, 2, 128, 4)
    given = case(shape, [24, 9, 40, 17, 5], [16, 20])
    exact = outcome(backbone(shape, None, dtype=torch.bfloat16), given, "cls")[0]
    weights = random_encoder(shape, 0, torch.bfloat16)
    reference = backbone(shape, None)
    reference._frozen = as_floats(weights)
    truth, gradients = outcome(reference, given, "cls")
    mine, my_gradients = outcome(backbone(shape, variant, dtype=torch.bfloat16), given, "cls")
    assert float((mine - truth).norm()) <= 1.1 * float((exact - truth).norm())
    for one, other in zip(my_gradients, gradients, strict=True):
        assert float((one - other).norm()) <= 0.03 * float(other.norm())


@pytest.mark.parametrize("variant", VARIANTS)
@settings(max_examples=25)
@given(
    width=st.sampled_from([(32, 1), (64, 2), (64, 1), (96, 3), (128, 2)]),
    lengths=st.lists(st.integers(1, 150), min_size=1, max_size=5),
    prompts=st.lists(st.integers(0, 40), max_size=3),
    read=st.sampled_from(READS),
    rate=st.sampled_from([0.0, 0.2]),
    seed=st.integers(0, 99),
)
def test_bf16_on_odd_shapes(
    variant: str, width: tuple[int, int], lengths: list[int], prompts: list[int], read: Read, rate: float, seed: int
) -> None:
    shape = shape_of(*width, 48, 2)
    given_case, dropout = case(shape, lengths, prompts, seed), Dropout(rate, keys(len(lengths)))
    reference = backbone(shape, None)
    reference._frozen = as_floats(random_encoder(shape, seed, torch.bfloat16))
    states, gradients = outcome(reference, given_case, read, dropout)
    mine, my_gradients = outcome(backbone(shape, variant, seed, torch.bfloat16), given_case, read, dropout)
    assert float((mine - states).norm()) <= 0.02 * float(states.norm())
    assert all(torch.isfinite(one).all() for one in my_gradients)
    wanted, found = (
        torch.cat([one.flatten() for one in gradients or [torch.zeros(1)]]),
        my_gradients or [torch.zeros(1)],
    )
    assert float((torch.cat([one.flatten() for one in found]) - wanted).norm()) <= 0.1 * float(wanted.norm()) + 1e-6


@pytest.mark.parametrize("variant", VARIANTS)
def test_bf16_over_more_inputs_than_stay_in_the_cache(variant: str) -> None:
    shape = shape_of(32, 1, 2100, 2)
    given_case = case(shape, [30, 9, 40], [4, 7])
    reference = backbone(shape, None)
    reference._frozen = as_floats(random_encoder(shape, 0, torch.bfloat16))
    states, gradients = outcome(reference, given_case, "mean")
    mine, my_gradients = outcome(backbone(shape, variant, dtype=torch.bfloat16), given_case, "mean")
    assert float((mine - states).norm()) <= 0.02 * float(states.norm())
    for one, other in zip(my_gradients, gradients, strict=True):
        assert float((one - other).norm()) <= 0.05 * float(other.norm())


def as_floats(encoder: Encoder) -> Encoder:
    """The same values in fp32."""

    def linear(one: Dense) -> Dense:
        return Dense(one.weight.float(), one.bias.float())

    def norm(one: Norm) -> Norm:
        return Norm(one.weight.float(), one.bias.float())

    def layer(one: Layer) -> Layer:
        first = linear(one.qkv), linear(one.attended), norm(one.attended_norm)
        return Layer(*first, linear(one.wide), linear(one.narrow), norm(one.narrow_norm))

    layers = tuple(map(layer, encoder.layers))
    tables = (encoder.words.float(), encoder.types.float(), encoder.positions.float())
    return Encoder(*tables, norm(encoder.embedded_norm), None, layers, None)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("rate", [0.0, 0.1])
def test_company_and_threads_change_no_bit(variant: str, dtype: torch.dtype, rate: float) -> None:
    """A run's states and gradient are the same bits alone, among other runs, and on any number of threads."""
    shape = shape_of(64, 2, 128, 2)
    model = backbone(shape, variant, dtype=dtype)
    mine = case(shape, [24, 9, 40, 17, 60, 3, 33], [16], seed=1)
    others = case(shape, [70, 5, 5, 81], [7, 16], seed=2)
    dropped, all_dropped = Dropout(rate, keys(7)), Dropout(rate, torch.cat([keys(4, 1), keys(7)]))
    alone = outcome(model, mine, "cls", dropped)
    packed = together(mine, others)
    threads = torch.get_num_threads()
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            states, gradients = outcome(model, packed, "cls", all_dropped)
            assert torch.equal(states[4:], alone[0])
            assert torch.equal(gradients[2], alone[1][0])
    finally:
        torch.set_num_threads(threads)


def together(mine: Case, others: Case) -> Case:
    """Both batches in one, the others first."""
    from promptgraft.model.tokens import concatenate

    owner = torch.cat([torch.tensor([0, 0, 1, 1]), torch.full((mine.tokens.sequences,), 2)])
    return Case(concatenate([others.tokens, mine.tokens]), (*others.prompts, *mine.prompts), owner)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("family", ["bert", "roberta", "electra", "albert"])
@pytest.mark.parametrize("placement", ["after_cls", "peft"])
@pytest.mark.parametrize("dropped", [False, True])
def test_shallow_prompts_of_every_family(
    variant: str, family: str, placement: Any, dropped: bool, tmp_path: Path
) -> None:
    found = []
    for model in plain_and_native(tiny_model(tmp_path, family), variant):
        generator = torch.Generator().manual_seed(3)
        prompt = torch.randn(5, model.embedding_width, generator=generator).requires_grad_()
        ids = torch.randint(4, 15, (14,), generator=generator)
        tokens = Tokens(ids, torch.zeros_like(ids), torch.tensor([0, 6, 14]), torch.arange(3))
        dropout = Dropout(0.2, keys(2)) if dropped else None
        batch = Batch(tokens, torch.zeros(2, dtype=torch.long))
        states = model.forward(batch, stack([Prompt(prompt, placement)]), "tokens", dropout=dropout)
        direction = torch.randn(states.shape, generator=generator)
        found.append((states.detach(), list(torch.autograd.grad((states * direction).sum(), [prompt]))))
    assert_alike(found[0], found[1], 1e-5)


def plain_and_native(folder: Path, variant: str) -> list[PackedBackbone]:
    """The model of a folder on both paths."""
    found = []
    for path in (None, variant):
        model = load_folder(Resolved("toy", folder, "", None, False))
        assert isinstance(model, PackedBackbone)
        assert model._frozen is not None
        model.__dict__["_native"] = None if path is None else NativeEncoder(model._frozen, model._shape, path)
        found.append(model)
    return found


def learned(model: PackedBackbone, read: Read, dropout: Dropout | None, threads: int = 2) -> dict[str, Tensor]:
    """States, and the gradient of every weight and of a deep prompt."""
    weights = {name: weight.float().clone().requires_grad_() for name, weight in model.weights.items()}
    generator = torch.Generator().manual_seed(3)
    prompt = torch.randn(model.layers, 2, 3, model.hidden, generator=generator).requires_grad_()
    ids = torch.randint(4, 15, (41,), generator=generator)
    tokens = Tokens(ids, ids % 2, torch.tensor([0, 6, 14, 15, 41]), torch.arange(5))
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        states = model.with_weights(weights).forward(
            Batch(tokens, torch.zeros(4, dtype=torch.long)), stack([Prompt(prompt)]), read, dropout=dropout
        )
        direction = torch.randn(states.shape, generator=generator)
        inputs = {**weights, "prompt": prompt}
        found = torch.autograd.grad((states * direction).sum(), list(inputs.values()), allow_unused=True)
    finally:
        torch.set_num_threads(before)
    there = {name: one for name, one in zip(inputs, found, strict=True) if one is not None}
    return {"states": states.detach(), **there}


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("family", ["bert", "albert"])
@pytest.mark.parametrize("read", READS)
@pytest.mark.parametrize("rate", [0.0, 0.2])
def test_weights_that_learn_have_the_gradients_of_the_plain_path(
    variant: str, family: str, read: Read, rate: float, tmp_path: Path
) -> None:
    plain, native = plain_and_native(tiny_model(tmp_path, family), variant)
    dropout = Dropout(rate, keys(4)) if rate else None
    wanted = learned(plain, read, dropout)
    assert wanted.keys() - {"states", "prompt"} <= plain.weights.keys()
    for threads in (1, 2):
        found = learned(native, read, dropout, threads)
        assert found.keys() == wanted.keys()
        for name, value in wanted.items():
            distance = float((found[name] - value).norm())
            assert distance <= 1e-5 * float(value.norm()) + 1e-5, name


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("spoil", ["ids", "types", "positions", "prompt_of", "starts"])
def test_an_index_out_of_range_is_said_and_nothing_crashes(variant: str, spoil: str) -> None:
    shape = shape_of()
    encoder = NativeEncoder(random_encoder(shape, 0), shape, variant)
    parts = {
        "starts": torch.tensor([0, 3, 5]),
        "ids": torch.tensor([1, 2, 3, 4, 5]),
        "types": torch.zeros(5, dtype=torch.long),
        "positions": torch.tensor([0, 1, 2, 0, 1]),
        "prompt_of": torch.tensor([0, 0]),
    }
    for bad in (-1, 10_000):
        spoiled = {**parts, spoil: parts[spoil].clone()}
        spoiled[spoil][1] = bad
        rows = NativeRows(**spoiled, prompt_starts=torch.tensor([0, 2]), read_first=True)
        with pytest.raises(RunError, match="out of range"):
            encoder(rows, torch.zeros(2, 2, 2, 24), None)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_prompts_that_changed_in_place_are_read_anew(variant: str, dtype: torch.dtype) -> None:
    shape = shape_of(32, 1)
    model, given = backbone(shape, variant, dtype=dtype), case(shape, [4, 6, 9], [3, 5])
    prompts, batch = stack([Prompt(prompt) for prompt in given.prompts]), Batch(given.tokens, given.owner)
    with torch.no_grad():
        first, again = (model.forward(batch, prompts, "cls") for _ in range(2))
        prompts.table.mul_(2)
        changed = model.forward(batch, prompts, "cls")
        fresh = backbone(shape, variant, dtype=dtype).forward(batch, prompts, "cls")
    assert torch.equal(first, again)
    assert not torch.equal(first, changed)
    assert torch.equal(changed, fresh)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_one_table_that_is_divided_otherwise_is_read_anew(variant: str, dtype: torch.dtype) -> None:
    shape = shape_of(24, 2)
    model, given = backbone(shape, variant, dtype=dtype), case(shape, [4, 6, 9], [3, 5])
    prompts, batch = stack([Prompt(prompt) for prompt in given.prompts]), Batch(given.tokens, given.owner)
    divided = replace(prompts, starts=torch.tensor([0, 6, 8]))
    with torch.no_grad():
        model.forward(batch, prompts, "cls")
        again = model.forward(batch, divided, "cls")
        fresh = backbone(shape, variant, dtype=dtype).forward(batch, divided, "cls")
    assert torch.equal(again, fresh)


@pytest.mark.parametrize("variant", VARIANTS)
def test_inference_mode_is_no_obstacle(variant: str) -> None:
    shape = shape_of(24, 2)
    model, given = backbone(shape, variant), case(shape, [4, 6, 9], [3, 5])
    batch = Batch(given.tokens, given.owner)
    with torch.inference_mode():
        prompts = stack([Prompt(prompt) for prompt in given.prompts])
        first, again = (model.forward(batch, prompts, "cls") for _ in range(2))
    plain = backbone(shape, None).forward(batch, stack([Prompt(prompt) for prompt in given.prompts]), "cls")
    assert torch.equal(first, again)
    torch.testing.assert_close(first, plain, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_second_backward_is_refused(variant: str) -> None:
    shape = shape_of()
    given = case(shape, [4, 6], [3])
    prompt = given.prompts[0].clone().requires_grad_()
    states = backbone(shape, variant).forward(
        Batch(given.tokens, given.owner), stack([Prompt(prompt, "after_cls")]), "cls"
    )
    states.sum().backward(retain_graph=True)
    with pytest.raises(RunError, match="second backward"):
        states.sum().backward()


@pytest.mark.parametrize("path", ["", *PATHS])
def test_the_switch_is_obeyed_and_doctor_says_so(path: str, tmp_path: Path) -> None:
    with taken(path):
        model = load_folder(Resolved("toy", tiny_model(tmp_path, "bert"), "", None, False))
        assert isinstance(model, PackedBackbone)
        used = PLAIN if model._native is None else model._native.variant
        said = next(one["state"] for one in call("doctor", "--json").json if one["what"] == "native path")
    assert used in ([path] if path else PATHS)
    assert said.startswith("no, plain torch instead" if used == PLAIN else used)


def test_a_variant_that_cannot_run_here_is_not_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(library, "able", lambda: {"amx": False, "avx2": True})
    with taken("amx"):
        assert library.runnable() == ((), "PROMPTGRAFT_NATIVE=amx, but this processor cannot run it")


CHECKED_FILES = (__file__, str(Path(__file__).with_name("test_kernels_int8.py")))
CHECKED = """
import pathlib
def pytest_sessionstart(session):
    import promptgraft.kernels.native.library as library
    library.library = lambda variant: pathlib.Path({folder!r}) / f"{{variant}}.so"
"""


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_nothing_is_read_or_written_out_of_bounds(tmp_path: Path) -> None:
    """This file and that of int8 once more, on libraries with AddressSanitizer in them."""
    from promptgraft.kernels.native.build import build

    program = compiler()
    if not program:
        pytest.skip("no compiler")
    assert build(tmp_path, flags=("-fsanitize=address", "-g", "-O1")) == {}
    preload = [  # the second: torch throws through it, and the sanitizer has to find it before torch does
        subprocess.run(
            [*program, f"-print-file-name={name}"], capture_output=True, text=True, check=True
        ).stdout.strip()
        for name in ("libasan.so", "libstdc++.so")
    ]
    (tmp_path / "checked.py").write_text(CHECKED.format(folder=str(tmp_path)), encoding="utf-8")
    only = ("-m", "not slow", "-k", "not switch")
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-s", "-p", "checked", *only, *CHECKED_FILES]
    environment = {
        **os.environ,
        "LD_PRELOAD": " ".join(preload),
        "ASAN_OPTIONS": "detect_leaks=0",
        "PYTHONPATH": str(tmp_path),
    }
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
