"""Private names of torch: in one file, each with a public way that gives the same."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

import promptgraft
from promptgraft.kernels import private, processor
from promptgraft.kernels.native import library

PACKAGE = Path(promptgraft.__file__).parent
KEPT = {
    "kernels/private.py": {
        "_fused_adamw_",
        "_foreach_norm",
        "_foreach_mul",
        "_version",
        "_scaled_dot_product_flash_attention_for_cpu",
    },
    "kernels/native/openmp.py": {"_C"},  # where torch's own library lies; without it the native path stays off
}


@pytest.fixture
def tensors() -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(shape, generator=generator) for shape in ((4, 2, 7, 16), (300,), (2, 5))]


def test_adamw_without_torch_s_own(tensors: list[Tensor], monkeypatch: pytest.MonkeyPatch) -> None:
    own = moved(tensors)
    monkeypatch.delattr(torch, "_fused_adamw_")
    for one, other, tensor in zip(moved(tensors), own, tensors, strict=True):
        torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-6)
        assert not torch.equal(one, tensor)


def moved(tensors: list[Tensor]) -> list[Tensor]:
    """Where three steps of AdamW take tensors; the last of them begins a step later."""
    values = [one.clone() for one in tensors]
    averages, squares = ([torch.zeros_like(one) for one in tensors] for _ in range(2))
    for step in range(1, 4):
        lists = [values, [one + step for one in tensors], averages, squares, [step, step, step - 1]]
        some = [one[:2] for one in lists] if step == 1 else lists
        private.adamw(*some, rate=0.1, betas=(0.9, 0.98), decay=0.1, epsilon=1e-8)
    return values


def test_norms_without_torch_s_own(tensors: list[Tensor], monkeypatch: pytest.MonkeyPatch) -> None:
    own = private.norms(tensors)
    monkeypatch.delattr(torch, "_foreach_norm")
    found = private.norms(tensors)
    assert torch.equal(torch.stack(found), torch.stack(own))
    torch.testing.assert_close(torch.stack(found), torch.stack([one.square().sum().sqrt() for one in tensors]))


def test_attention_without_torch_s_own(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(0)
    queries, keys, values = (torch.randn(3, length, 8, generator=generator) for length in (70, 40, 40))
    own = private.attended(queries, keys, values, 0.3)
    monkeypatch.delattr(torch, "_scaled_dot_product_flash_attention_for_cpu")
    for mine, other in zip(private.attended(queries, keys, values, 0.3), own, strict=True):
        torch.testing.assert_close(mine, other, atol=1e-5, rtol=1e-5)


def test_scaling_without_torch_s_own(tensors: list[Tensor], monkeypatch: pytest.MonkeyPatch) -> None:
    factors = torch.tensor([0.5, 1.0, 3.0])
    own = private.scaled(tensors, factors)
    monkeypatch.delattr(torch, "_foreach_mul")
    found = private.scaled(tensors, factors)
    for one, other, tensor, factor in zip(found, own, tensors, factors, strict=True):
        assert torch.equal(one, other)
        assert torch.equal(one, tensor * factor)


def test_a_write_is_counted() -> None:
    tensor = torch.zeros(2)
    before = private.version(tensor)
    tensor.add_(1)
    assert private.version(tensor) != before


def test_a_tensor_that_does_not_count_its_writes() -> None:
    class Uncounted(Tensor):
        @property
        def _version(self) -> int:
            raise AttributeError

    assert private.version(torch.zeros(2).as_subclass(Uncounted)) is None
    with torch.inference_mode():
        assert private.version(torch.zeros(2)) is None


def test_no_other_file_uses_a_private_name_of_torch() -> None:
    used = {str(path.relative_to(PACKAGE)): set(private_names(path)) for path in PACKAGE.rglob("*.py")}
    assert {file: names for file, names in used.items() if names} == KEPT


def private_names(path: Path) -> Iterator[str]:
    """`torch._x`, `torch.a._x`, and what is asked for by such a name in words."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Attribute) and _is_private(node.attr) and _root(node) in ("torch", "F"):
            yield node.attr
        if isinstance(node, ast.Attribute) and node.attr == "_version":
            yield node.attr
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "getattr" and len(node.args) > 1:
            name = getattr(node.args[1], "value", None)
            if isinstance(name, str) and _is_private(name):
                yield name
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "torch":
            names = [*(node.module or "").split("."), *(one.name for one in node.names)]
            yield from filter(_is_private, names)


def _is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")


def _root(node: ast.expr) -> str:
    while isinstance(node, ast.Attribute):
        node = node.value
    return getattr(node, "id", "")


@pytest.mark.parametrize(
    ("flags", "can"),
    [
        ("fpu sse2 avx2 fma", ["avx2"]),
        ("avx2", []),
        ("avx2 fma avx512f avx512bw avx512vl avx512dq", ["avx512", "avx2"]),
        ("avx2 fma avx512f avx512bw avx512vl avx512dq avx512_vnni avx512_bf16", list(library.VARIANTS)[1:]),
        ("avx2 fma avx512f avx512bw avx512vl avx512dq avx512_vnni avx512_bf16 amx_tile amx_bf16 amx_int8",
         list(library.VARIANTS)),
    ],
)  # fmt: skip
def test_what_a_processor_can_run_follows_from_the_system_s_list(
    flags: str, can: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "cpuinfo"
    file.write_text(
        f"processor\t: 0\nmodel name\t: Some Processor\nflags\t\t: {flags}\n\nprocessor\t: 1\nflags\t\t: \n"
    )
    monkeypatch.setattr(processor, "LIST", file)
    assert [variant for variant, able in library.able().items() if able] == can
    assert processor.name() == "Some Processor"


def test_a_system_without_the_list(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processor, "LIST", tmp_path / "nothing")
    assert not any(library.able().values())
    assert isinstance(processor.name(), str)
