"""`attnsearch`, and `python -m attnsearch`."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; the exit code, see `attnsearch.cli.failures`."""
    from attnsearch.cli import app, failures
    from attnsearch.core import secrets
    from attnsearch.report import console

    arguments = list(sys.argv[1:] if argv is None else argv)
    secrets.remember(*arguments, os.environ.get("ATTNSEARCH_STORAGE", ""))
    # --debug belongs to all commands, so it may stand anywhere.
    args = sorted(arguments, key=lambda word: word != "--debug")
    with console.patient_streams():
        return failures.fail_cleanly(
            lambda: app(args, prog_name="attnsearch", standalone_mode=False), debug="--debug" in arguments
        )


if __name__ == "__main__":
    sys.exit(main())
