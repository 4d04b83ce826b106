"""What the build of the native path does with compilers of all kinds: `cc` stands in for one."""

from __future__ import annotations

from pathlib import Path

import pytest

from promptgraft.kernels.native import build as native
from promptgraft.kernels.native.build import VARIANTS, build, library, report

COMPILER = """#!/bin/sh
for word in "$@"; do
    for unknown in $UNKNOWN; do
        case "$word" in $unknown)
            echo "In file included from somewhere:" >&2
            echo "cc: error: unrecognized command line option '$word'" >&2
            exit 1;;
        esac
    done
done
echo "$@" >> "$CALLS"
mark=$(echo "$@" | sed -n 's/.*--build-id=0x\\([0-9a-f]*\\).*/\\1/p')
while [ "$1" != -o ]; do shift; done
{ printf '%s' "$SAYS"; printf "$(echo "$mark" | sed 's/../\\\\x&/g')"; } > "$2"
"""


@pytest.fixture
def calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A compiler that writes the mark it is told, refuses the options in $UNKNOWN, and notes its calls in this file."""
    program, calls = tmp_path / "cc", tmp_path / "calls"
    program.write_text(COMPILER.replace("#!/bin/sh", "#!/bin/bash"), encoding="utf-8")
    program.chmod(0o755)
    calls.touch()
    monkeypatch.setenv("CXX", str(program))
    monkeypatch.setenv("CALLS", str(calls))
    return calls


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where the libraries go."""
    path = tmp_path / "libraries"
    path.mkdir()
    return path


def there(folder: Path) -> list[str]:
    return [variant for variant in VARIANTS if library(variant, folder).exists()]


def test_every_variant_is_compiled_once(calls: Path, folder: Path) -> None:
    assert build(folder) == {}
    assert there(folder) == list(VARIANTS)
    assert sorted(path.name for path in folder.iterdir()) == sorted(f"{variant}.so" for variant in VARIANTS)
    before = calls.read_text()
    assert build(folder) == {}
    assert calls.read_text() == before


def test_other_options_are_compiled_again(calls: Path, folder: Path) -> None:
    build(folder)
    before = len(calls.read_text().splitlines())
    build(folder, flags=("-g",))
    assert len(calls.read_text().splitlines()) == 2 * before


def test_another_source_is_compiled_again(calls: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    build(folder)
    before = len(calls.read_text().splitlines())
    other = folder.parent / "source"
    other.mkdir()
    (other / "native.cpp").write_text("// other", encoding="utf-8")
    monkeypatch.setattr(native, "HERE", other)
    build(folder)
    assert len(calls.read_text().splitlines()) == 2 * before


def test_an_old_compiler_gives_what_it_can(calls: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UNKNOWN", "-mamx-* -mavx512bf16")
    failed = build(folder)
    assert there(folder) == ["avx512vnni", "avx512", "avx2"]
    why = "cc: error: unrecognized command line option '-mavx512bf16'"
    assert report(failed) == [f"native path without amx, avx512bf16, the others serve: {why}"]


def test_a_compiler_without_openmp_is_one_line(calls: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UNKNOWN", "-fopenmp")
    why = "cc: error: unrecognized command line option '-fopenmp'"
    assert report(build(folder)) == [f"no native path, plain torch serves instead: {why}"]
    assert there(folder) == []


def test_clang_is_told_apart(calls: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAYS", "__kmpc_fork_call")
    [line] = report(build(folder))
    assert "is clang, whose OpenMP is another than torch's: g++ is needed" in line
    assert there(folder) == []


def test_a_library_of_an_older_source_does_not_stay(calls: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    library("amx", folder).write_bytes(b"old")
    monkeypatch.setenv("UNKNOWN", "-mamx-*")
    assert list(build(folder)) == ["amx"]
    assert "amx" not in there(folder)


@pytest.mark.parametrize("asked", ["", "nowhere-to-be-found"])
def test_no_compiler_is_one_line_and_takes_nothing_away(
    asked: str, calls: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build(folder)
    library("amx", folder).unlink()
    monkeypatch.setenv("CXX", asked)
    monkeypatch.setenv("PATH", str(folder))
    why = f"no C++ compiler{', CXX=nowhere-to-be-found is not there' if asked else ''}"
    assert report(build(folder)) == [f"native path without amx, the others serve: {why}"]
    assert there(folder) == ["avx512bf16", "avx512vnni", "avx512", "avx2"]


def test_the_compiler_may_be_several_words(calls: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", f"env {folder.parent / 'cc'}")
    assert build(folder) == {}
    assert there(folder) == list(VARIANTS)
