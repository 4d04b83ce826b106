"""What the READMEs and pages tell people to type works, and is the same in both languages."""

from __future__ import annotations

import ast
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer.main

from promptgraft.cli.main import app

ROOT = Path(__file__).resolve().parents[2]
ENGLISH, CHINESE = "README.md", "README.zh-CN.md"
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")])
HELP = ROOT / "docs" / "cli.md"  # help texts: usage lines are no commands
RESULTS = ROOT / "docs" / "results"


def blocks(page: Path, language: str) -> list[str]:
    """The fenced blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def commands(page: Path) -> list[str]:
    """Every line in a fenced block of shell that calls promptgraft."""
    lines = [line for language in ("", "sh", "bash") for block in blocks(page, language) for line in block.splitlines()]
    return [line for line in lines if line.startswith("promptgraft ")]


def parsed(words: list[str]) -> dict[str, Any]:
    """The arguments of a command as the command line takes them, nothing run."""
    command: Any = typer.main.get_command(app)
    context = command.make_context("promptgraft", list(words))
    while hasattr(command, "resolve_command"):
        name, command, rest = command.resolve_command(context, [*context._protected_args, *context.args])
        context = command.make_context(name, rest, parent=context)
    return dict(context.params)


@pytest.mark.parametrize(
    ("page", "line"), [(page.name, line) for page in PAGES if page != HELP for line in commands(page)]
)
def test_every_command_is_one(page: str, line: str) -> None:
    assert parsed(shlex.split(line, comments=True)[1:])


def test_a_command_that_is_none_would_be_noticed() -> None:
    with pytest.raises(Exception, match="No such option"):
        parsed(["tune", "data", "--modell", "minilm"])


@pytest.mark.parametrize("language", ["bash", "python"])
def test_both_readmes_show_the_same(language: str) -> None:
    english = blocks(ROOT / ENGLISH, language)
    assert english
    assert english == blocks(ROOT / CHINESE, language)


def test_the_first_example_is_the_one_that_ships() -> None:
    source = (ROOT / "examples" / "quickstart.py").read_text(encoding="utf-8")
    about = ast.get_docstring(ast.parse(source))
    assert blocks(ROOT / ENGLISH, "python")[0] == source.removeprefix(f'"""{about}"""\n\n')


@pytest.mark.parametrize("readme", [ENGLISH, CHINESE])
def test_the_table_names_every_verb(readme: str) -> None:
    listed = re.findall(r"^\| `([a-z]+)` \|", (ROOT / readme).read_text(encoding="utf-8"), re.MULTILINE)
    groups = [str(group.name) for group in app.registered_groups]
    assert sorted(listed) == sorted([*groups, *(str(command.name) for command in app.registered_commands)])


@pytest.mark.parametrize("page", [page.relative_to(ROOT).as_posix() for page in PAGES])
def test_links_lead_somewhere(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    links = {link.partition("#")[0] for link in re.findall(r"\]\(([^)\s]+)\)", text) if "://" not in link} - {""}
    dead = [link for link in links if not (ROOT / page).parent.joinpath(link).exists()]
    pending = [link for link in dead if (ROOT / page).parent.joinpath(link).resolve().parent == RESULTS]
    assert dead == pending
    if pending:
        pytest.skip(f"not measured yet: {', '.join(pending)}")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, home: Path) -> tuple[Path, dict[str, str]]:
    """A folder with the sample data, and surroundings in which `promptgraft` and `python` are those under test."""
    folder = tmp_path_factory.mktemp("readme")
    shutil.copytree(ROOT / "examples", folder / "examples")
    tools = folder / "tools"
    tools.mkdir()
    for name, call in (("promptgraft", "-m promptgraft.cli.main"), ("python", "")):
        (tools / name).write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} {call} "$@"\n')
        (tools / name).chmod(0o755)
    surroundings = {
        "PATH": os.pathsep.join([str(tools), os.environ["PATH"]]),
        "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), *sys.path]),
        "PROMPTGRAFT_HOME": str(home),
    }
    return folder, os.environ | surroundings


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_the_commands_work_in_order(place: tuple[Path, dict[str, str]], minilm: Path, e5_small: Path) -> None:
    folder, surroundings = place
    for line in "".join(blocks(ROOT / ENGLISH, "bash")).splitlines():
        done = subprocess.run(["sh", "-c", line], cwd=folder, env=surroundings, capture_output=True, text=True)
        assert done.returncode == 0, f"{line}\n{done.stderr}"
        assert done.stdout, line
    assert len((folder / "runs/labelled.csv").read_text(encoding="utf-8").splitlines()) > 1
    assert "<svg" in (folder / "runs/compare/report.html").read_text(encoding="utf-8")


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize(("page", "number"), [(ENGLISH, 0), (ENGLISH, 1), ("docs/models.md", 0)])
def test_the_python_works(page: str, number: int, place: tuple[Path, dict[str, str]], minilm: Path) -> None:
    folder, surroundings = place
    code = blocks(ROOT / page, "python")[number]
    done = subprocess.run(["python", "-c", code], cwd=folder, env=surroundings, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_page_on_python_works_from_top_to_bottom(place: tuple[Path, dict[str, str]], minilm: Path) -> None:
    folder, surroundings = place
    code = "".join(blocks(ROOT / "docs" / "python.md", "python"))
    assert code.count("import promptgraft as pg") == 1
    done = subprocess.run(["python", "-c", code], cwd=folder, env=surroundings, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "a mistake" not in done.stderr
    assert (folder / "runs" / "page" / "report.html").exists()


MINUTES = {1: ("one minute", "一"), 2: ("two", "两"), 3: ("three", "三"), 4: ("four", "四"), 5: ("five", "五")}


def test_the_readmes_say_how_long_the_demo_was_measured_to_take() -> None:
    rows = json.loads((ROOT / "benchmarks" / "results" / "demo.json").read_text(encoding="utf-8"))
    rows.sort(key=lambda row: row["mimicked"], reverse=True)  # a real processor of a class has the last word
    seconds = {row["processor"]: row["seconds"] for row in rows if row["what"] == "demo"}
    amx, avx2 = (MINUTES[max(1, round(seconds[kind] / 60))] for kind in ("amx", "avx2"))
    english = f"on two cores about {amx[0]} with AMX, {avx2[0]} with AVX2, after downloads"
    chinese = f"下载之外，双核带 AMX 约{amx[1]}分钟，只有 AVX2 约{avx2[1]}分钟"
    for readme, sentence in ((ENGLISH, english), (CHINESE, chinese)):
        assert sentence in (ROOT / readme).read_text(encoding="utf-8")
