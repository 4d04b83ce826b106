"""promptgraft cache | cache clear"""

from __future__ import annotations

from typing import Annotated

import typer

from promptgraft.cli.say import Say
from promptgraft.cli.verb import verb

KINDS_HELP = "Only these: tokens, states or descriptions."

cache = typer.Typer(invoke_without_command=True)


@cache.callback()
@verb
def show(context: typer.Context, say: Say) -> None:
    """What is kept so that it is not computed twice: tokens of large splits, frozen states, descriptions.

    It lies under PROMPTGRAFT_HOME, holds 2048 MB unless PROMPTGRAFT_CACHE_MB says otherwise (0 turns it off), forgets
    what was used longest ago, and may be deleted at any time.

        promptgraft cache

        promptgraft cache clear --kind states
    """
    if context.invoked_subcommand is not None:
        return
    from promptgraft.engine.cache import open_cache

    opened = open_cache()
    usage = opened.usage()
    total = sum(one.size for one in usage)
    say.table(
        ("kind", "entries ", "MB ", "found again "),
        [(one.kind, str(one.entries), f"{one.size / 2**20:.1f}", str(one.hits)) for one in usage],
    )
    said = f"{total / 2**20:.1f} of {opened.limit / 2**20:.0f} MB" if opened.limit else "turned off"
    say.line(f"{said}, in {opened.folder}")
    kinds = {one.kind: {"entries": one.entries, "bytes": one.size, "hits": one.hits} for one in usage}
    say.data({"path": str(opened.folder), "limit": opened.limit, "bytes": total, "kinds": kinds})


@cache.command("clear")
@verb
def clear(say: Say, kind: Annotated[str | None, typer.Option(help=KINDS_HELP, show_default=False)] = None) -> None:
    """Delete it, or one kind of entry.

    promptgraft cache clear --kind states
    """
    from promptgraft.engine.cache import open_cache

    opened = open_cache()
    count = opened.clear(kind)
    say.line(f"{count} entries deleted from {opened.folder}")
    say.data({"path": str(opened.folder), "deleted": count})
