"""The command `promptgraft VERB ...`, also as `python -m promptgraft VERB ...`."""

from __future__ import annotations

import sys

STOPPED = 130


def main() -> None:
    """Run the command line; it can be stopped from the first moment on, while its parts are still imported."""
    try:
        from promptgraft.cli.main import app

        app(prog_name="promptgraft")
    except KeyboardInterrupt:
        print("promptgraft: stopped", file=sys.stderr)
        sys.exit(STOPPED)


if __name__ == "__main__":
    main()
