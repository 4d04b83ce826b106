"""Pages in one file, made of the templates beside this module, with no scripts and nothing loaded from elsewhere."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version

from promptgraft import __version__
from promptgraft.untrusted import visible

LIBRARIES = ("torch", "transformers", "tokenizers", "scikit-learn", "scipy", "numpy")


def render(template: str, **values: object) -> str:
    """The text of a page.

    Args:
        template: its file's name.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("promptgraft.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        finalize=_visible,
    )
    return environment.get_template(template).render(**values)


def _visible(value: object) -> object:
    """A value as the page shows it: text without characters that control a screen or change its direction."""
    return visible(value, lines=True) if isinstance(value, str) and not hasattr(value, "__html__") else value


def versions() -> dict[str, str]:
    """The versions of what results depend on."""
    known = {"promptgraft": __version__, "Python": platform.python_version()}
    for name in LIBRARIES:
        try:
            known[name] = version(name)
        except PackageNotFoundError:
            continue
    return known
