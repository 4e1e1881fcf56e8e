"""Commands, found by being there: the function `name` of `cli/name.py` is `attnsearch name`, of the class `COMMAND`
where the file names one.

A command parses, calls and prints. What it needs beyond typer it imports inside the function, so that help and
mistakes answer at once.
"""

from __future__ import annotations

import importlib
import pkgutil
from typing import Annotated

import typer

_FIRST = ("run", "report", "spaces", "blocks", "cost")  # what a newcomer wants; the others by name

app = typer.Typer(
    add_completion=False,
    rich_markup_mode=None,  # plain help needs no rich, fits 40 columns, and greps
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)


@app.callback(invoke_without_command=True)
def _help(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of every error.")] = False,
) -> None:
    """Which attention block, where in my ResNet, in which form, is worth its cost, and is the gain real?

    Begin with: attnsearch run --space cbam_variants
    """
    if version:
        from attnsearch import __version__

        typer.echo(f"attnsearch {__version__}")
    elif context.invoked_subcommand is None:
        typer.echo(context.get_help())


def _add_commands() -> None:
    names = [found.name for found in pkgutil.iter_modules(__path__) if not found.name.startswith("_")]
    for name in sorted(names, key=lambda name: (_FIRST.index(name) if name in _FIRST else len(_FIRST), name)):
        module = importlib.import_module(f"{__name__}.{name}")
        command = getattr(module, name, None)
        if isinstance(command, typer.Typer):
            app.add_typer(command, name=name)
        elif command is not None:
            app.command(name, cls=getattr(module, "COMMAND", None))(command)


_add_commands()
