"""Turns figures into inline SVG with the page's font and colours (light and dark), and ids of their own."""

from __future__ import annotations

import io
import re
import warnings
from typing import TYPE_CHECKING, Any
from xml.sax.saxutils import escape, quoteattr

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLOURS = {
    "ink": "#1f2328",
    "muted": "#59636e",
    "grid": "#d8dee4",
    "card": "#ffffff",
    "scratch": "#0072b2",
    "source": "#c8500a",
    "panda": "#008060",
    "placebo": "#7d7d7d",
    "chosen": "#b8860b",
}
"""For each CSS variable of the page, the colour that stands for it while matplotlib draws."""

STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "promptgraft",
    "font.size": 10,
    "font.sans-serif": ["DejaVu Sans"],
    "text.parse_math": False,
    "text.color": COLOURS["ink"],
    "axes.edgecolor": COLOURS["grid"],
    "axes.labelcolor": COLOURS["muted"],
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "xtick.color": COLOURS["muted"],
    "ytick.color": COLOURS["muted"],
    "grid.color": COLOURS["grid"],
    "figure.facecolor": "none",
    "axes.facecolor": "none",
}
FONT = re.compile(r"font: ([\d.]+)px [^;\"]*")


def inline(figure: Figure, prefix: str, title: str, tips: dict[str, str]) -> str:
    """The SVG element of a figure.

    Args:
        prefix: leads every id, so that several figures fit on one page.
        title: what a screen reader says.
        tips: gid of an artist -> the text shown over it.
    """
    text = _saved(figure)
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r' xmlns(:\w+)?="[^"]*"', "", text).replace("xlink:href", "href")
    text = re.sub(r'<g id="([^"]+)">', lambda match: match[0] + _tip(tips.get(match[1])), text)
    text = re.sub(r'\bid="([^"]+)"', rf'id="{prefix}-\1"', text)
    text = re.sub(r"(href=\"|url\()#", rf"\1#{prefix}-", text)
    text = FONT.sub(r"font-size: \1px", text)
    for name, colour in COLOURS.items():
        text = text.replace(colour, f"var(--{name})")
    return re.sub(
        r'<svg [^>]*?(viewBox="[^"]*")[^>]*>', rf'<svg \1 role="img" aria-label={_quoted(title)}>', text, count=1
    )


def _saved(figure: Figure) -> str:
    import matplotlib

    file = io.StringIO()
    with matplotlib.rc_context(STYLE), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from")  # the browser has its own fonts
        figure.savefig(file, format="svg")
    return file.getvalue()


def _tip(text: str | None) -> str:
    return "" if text is None else f"<title>{escape(text)}</title>"


def _quoted(text: str) -> str:
    return quoteattr(text).replace("\\", "\\\\")
