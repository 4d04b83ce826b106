"""Puts the table of the library into docs/templates.md: python docs/templates.py"""

from __future__ import annotations

from pathlib import Path

from promptgraft.template.known import KnownTemplate, templates

PAGE = Path(__file__).parent / "templates.md"
BEGIN, END = "<!-- made by `python docs/templates.py` -->\n", "<!-- end -->\n"
HEAD = "| name | kinds | template |\n| --- | --- | --- |\n"


def table() -> str:
    """The library as a table; a template that only masked models can read is marked."""
    return HEAD + "".join(map(_row, templates()))


def _row(known: KnownTemplate) -> str:
    text = known.text.replace("|", "\\|").replace("\n", "⏎")
    name = f"`{known.name}`" + ("" if known.left_to_right else " *")
    return f"| {name} | {', '.join(known.kinds)} | `{text}` |\n"


def page(text: str) -> str:
    """The page with the table in its place."""
    before, _, rest = text.partition(BEGIN)
    return f"{before}{BEGIN}\n{table()}\n{END}{rest.partition(END)[2]}"


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
