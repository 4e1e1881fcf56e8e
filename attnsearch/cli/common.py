"""What several commands share: options that mean the same everywhere, numbers that are checked, and printing.

Results go to stdout, messages to stderr. `screen.patient_streams` (in `__main__`) keeps both alive when a pipe
closes, and turns them into ASCII where need be, so `print` is safe everywhere.
"""

from __future__ import annotations

import json
import os
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from attnsearch.core import checks, settings
from attnsearch.core.errors import UsageError

if TYPE_CHECKING:
    from attnsearch.report.formatting import Table


def as_parser(check: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """A check of `core.checks` as typer takes one; typer passes defaults through it too."""

    def parse(value: Any) -> Any:
        try:
            return check(value)
        except ValueError as error:
            raise typer.BadParameter(str(error)) from None

    return parse


whole = as_parser(checks.whole)
positive = as_parser(checks.positive)
workers = as_parser(settings.workers)


def image_shape(text: str) -> tuple[int, int, int]:
    """`3x224x224` as (3, 224, 224)."""
    parts = text.lower().replace("×", "x").split("x")
    if len(parts) != 3 or not all(part.isdecimal() and int(part) > 0 for part in parts):
        raise typer.BadParameter(f"must be channels x height x width, such as 3x224x224, got '{text}'")
    channels, height, width = map(int, parts)
    return channels, height, width


def study_name(name: str | None) -> str | None:
    """Callback of a study's name."""
    return None if name is None else checks.check_study_name(name)


def storage_url(url: str | None) -> str | None:
    """Callback of `--storage`: the scheme must be known; a password on the command line is seen by `ps`."""
    if url is not None:
        checks.check_url(url)
        if checks.masked(url) != url:
            note("other users of this machine can read the password in `ps`; set ATTNSEARCH_STORAGE instead")
    elif stored := os.environ.get("ATTNSEARCH_STORAGE"):
        checks.check_url(stored)
    return url


def required_space(value: str) -> str:
    """Callback of `--space`: where it is missing, an error that lists the choices."""
    if value:
        return value
    from attnsearch.space.space import shipped_spaces

    known = sorted(shipped_spaces(), key=lambda name: name != "cbam_variants")  # the one to begin with first
    raise UsageError(f"Missing option '--space' (choose from: {', '.join(known)}, or a YAML file)")


WIDE = 120  # columns from which a table shows its wide columns too
PROSE = 100  # columns beyond which prose is hard to follow

# Options that mean the same in every command.
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]
Out = Annotated[Path, typer.Option("--out", help="Folder of results.")]
Storage = Annotated[
    str | None,
    typer.Option(
        "--storage",
        metavar="URL",
        callback=storage_url,
        help="Study database: sqlite:///FILE or postgresql://USER@HOST/DB; "
        "else $ATTNSEARCH_STORAGE, else OUT/attnsearch.db.",
    ),
]
StudyOption = Annotated[
    str | None, typer.Option("--study", metavar="NAME", callback=study_name, help="Name of the study.")
]
StudyArgument = Annotated[
    str | None,
    typer.Argument(metavar="[STUDY]", callback=study_name, help="A study's name; the latest when left out."),
]
RequiredSpace = Annotated[
    str,
    typer.Option(
        "--space",
        metavar="NAME|FILE",
        callback=required_space,
        help="The question: a shipped space's name (attnsearch spaces), or a YAML file. Required.",
    ),
]
Plugins = Annotated[
    list[Path], typer.Option("--plugin", metavar="FILE", help="A Python file with blocks of your own.")
]
HostModule = Annotated[
    str | None, typer.Option("--host-module", metavar="FILE", help=settings.flags()["host_module"].help)
]


def option(help: str, metavar: str | None = None, parser: Any = None) -> Any:
    """An option that is named as its parameter is."""
    return typer.Option(help=help, metavar=metavar, parser=parser)


def setting(name: str) -> Any:
    """The option of a field of `Settings`, for commands that take some of them."""
    flag, kind = settings.flags()[name], settings.kind_of(name)
    numeric = flag.check is not None and kind in (int, float)
    switch = f"--{flag.name or name.replace('_', '-')}"
    return typer.Option(
        switch,
        help=flag.help,
        metavar=flag.metavar,
        parser=as_parser(flag.check) if numeric and flag.check else None,
    )


def add_plugins(files: list[Path]) -> None:
    """Make the blocks of the named files known."""
    from attnsearch.blocks import registry

    for file in files:
        registry.add_plugin(file)


def allow_host_module(file: str | None) -> None:
    """Let the space or arch that is read next name this file as its host."""
    if file:
        from attnsearch.study.own_model import allow

        allow(file)


def check_host_module(file: str | None, module: str | None, host: str | None) -> None:
    """Refuse `--host-module` where nothing in the question is a module."""
    if file and not module:
        raise UsageError(f"--host-module {file}: the host is {host}, which is no model of your own")


def check_study(name: str | None, storage: str | None, out: Path) -> None:
    """Answer the name of a study that is not there, before anything heavy is imported to read one."""
    from attnsearch.store import sqlite

    sqlite.check_study(name, settings.Settings(storage=storage, out=out).url())


def note(message: str) -> None:
    """One line beside the results."""
    print(f"note: {checks.masked(message)}", file=sys.stderr, flush=True)


def show_json(values: Any) -> None:
    """Plain values as JSON on stdout."""
    print(json.dumps(values, indent=2, ensure_ascii=False))


def show_table(table: Table) -> None:
    """A table with its title and notes, as wide as the terminal, on stdout."""
    from attnsearch.report import terminal
    from attnsearch.report.console import make_console

    console = make_console()
    shown = table.narrow() if console.width < WIDE else table
    show_text(table.title, "bold")
    terminal.print_lines(terminal.table_lines(shown, console.width), console)
    for remark in shown.notes:
        show_text(remark, "dim", indent="  ")


def show_text(text: str = "", style: str = "", indent: str = "", hanging: int = 0) -> None:
    """A paragraph on stdout, wrapped to the terminal; lines after the first stand `hanging` columns further in."""
    from attnsearch.report import terminal
    from attnsearch.report.console import make_console

    console = make_console()
    width = max(20, min(console.width, PROSE) - 2)  # ≤ takes two columns in ASCII
    below = indent + " " * hanging
    lines = textwrap.wrap(text, width, initial_indent=indent, subsequent_indent=below) or [""]
    terminal.print_lines([(line, style) for line in lines], console)
