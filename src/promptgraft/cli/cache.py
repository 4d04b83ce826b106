"""promptgraft cache | cache clear"""

from __future__ import annotations

from typing import Annotated

import typer

from promptgraft.cli.say import Say
from promptgraft.cli.usage import VerbGroup
from promptgraft.cli.verb import verb

KINDS_HELP = "Only entries of this kind: tokens, states, descriptions or calibration."

cache = typer.Typer(cls=VerbGroup, invoke_without_command=True)


@cache.callback()
@verb
def show(context: typer.Context, say: Say) -> None:
    """Show stored intermediate results: tokens of large splits, frozen states, descriptions, calibration.

    The cache is under PROMPTGRAFT_HOME, holds 2048 MB unless PROMPTGRAFT_CACHE_MB says otherwise (0 turns
    it off), drops the entries that were not used for longest, and may be deleted at any time.

        promptgraft cache

        promptgraft cache clear --kind states
    """
    if context.invoked_subcommand is not None:
        return
    from promptgraft.engine.cache import open_cache

    store = open_cache()
    usage = store.usage()
    total = sum(row.size for row in usage)
    say.table(
        ("kind", "entries ", "MB ", "found again "),
        [(row.kind, str(row.entries), f"{row.size / 2**20:.1f}", str(row.hits)) for row in usage],
    )
    size = f"{total / 2**20:.1f} of {store.limit / 2**20:.0f} MB" if store.limit else "turned off"
    say.line(f"{size}, in {store.folder}")
    kinds = {row.kind: {"entries": row.entries, "bytes": row.size, "hits": row.hits} for row in usage}
    say.data({"path": str(store.folder), "limit": store.limit, "bytes": total, "kinds": kinds})


@cache.command("clear")
@verb
def clear(say: Say, kind: Annotated[str | None, typer.Option(help=KINDS_HELP, show_default=False)] = None) -> None:
    """Delete the cache, or one kind of entry.

    promptgraft cache clear --kind states
    """
    from promptgraft.engine.cache import open_cache

    store = open_cache()
    count = store.clear(kind)
    say.line(f"{count} entries deleted from {store.folder}")
    say.data({"path": str(store.folder), "deleted": count})
