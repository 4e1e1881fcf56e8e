"""The report on a terminal: as wide as it is, coloured where wanted, ASCII where need be."""

from __future__ import annotations

import sys
import unicodedata
from typing import IO, TYPE_CHECKING

from attnsearch.reports import summary
from attnsearch.reports.table import Table
from attnsearch.reports.tables import Report

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

_ASCII = {"±": "+/-", "×": "x", "–": "-", "−": "-", "≤": "<=", "≥": ">=", "·": "*", "…": "...", "—": "-"}


def show(report: Report, file: IO[str] | None = None, width: int | None = None) -> None:
    """Print what is known, the main tables and where to read on. rich minds NO_COLOR and TERM=dumb itself."""
    out = file or sys.stdout
    console = _console(out, width)
    plain = not _can_show(out)

    def say(text: str, style: str = "") -> None:
        console.print(ascii_of(text) if plain else text, style=style, markup=False, highlight=False)

    say(summary.title(report), "bold")
    for line in summary.answer(report):
        say("- " + line)
    for table in report.main():
        if table.rows:
            say("")
            say(f"{table.title} ({report.audit})", "bold")
            console.print(_render(_essential(table), console.width, plain), markup=False, highlight=False)
            for note in table.notes:
                say("  " + note, "dim")
    say("")
    say(summary.where_trials_went(report.counts) + ".")
    say("Why it ended: " + dict(summary.facts(report))["why it ended"])


def ascii_of(text: str) -> str:
    """The same text for a terminal that shows ASCII only; what has no likeness becomes `?`."""
    text = "".join(_ASCII.get(char, char) for char in text)
    text = "".join(c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c))
    return text.encode("ascii", "replace").decode("ascii")


def clean(text: str) -> str:
    """Text without control characters: a study's strings must not steer the terminal."""
    return "".join(char if char.isprintable() else " " for char in text)


def _console(out: IO[str], width: int | None) -> Console:
    from rich.console import Console

    # A file or a pipe has no width: tables keep their rows whole there, for grep.
    return Console(file=out, width=width if width or out.isatty() else 200, highlight=False, soft_wrap=False)


def _can_show(out: IO[str]) -> bool:
    encoding = getattr(out, "encoding", None) or "utf-8"
    try:
        "±×–≥…".encode(encoding)
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def _essential(table: Table) -> Table:
    return table.narrow()


def _render(table: Table, width: int, plain: bool) -> RenderableType:
    """A table where it fits; below 80 columns, one short paragraph per row."""
    from rich import box
    from rich.table import Table as RichTable
    from rich.text import Text

    def shown(text: str) -> str:
        return ascii_of(clean(text)) if plain else clean(text)

    if width < 80:
        lines = []
        for index in range(len(table.rows)):
            cells = table.texts(index)
            pairs = zip(table.columns[2:], cells[2:], strict=True)
            lines.append(f"{cells[0]}. {cells[1]}" if table.columns[0].numeric else f"{cells[0]}: {cells[1]}")
            lines += [f"   {column.title}: {cell}" for column, cell in pairs if cell != "–"]
        return Text("\n".join(shown(line) for line in lines))
    grid = RichTable(box=box.ASCII2 if plain else box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for column in table.columns:
        grid.add_column(
            Text(shown(column.title)), justify="right" if column.numeric else "left", overflow="fold"
        )
    for index in range(len(table.rows)):
        style = "bold" if index in table.strong else ""
        grid.add_row(*(Text(shown(cell)) for cell in table.texts(index)), style=style)
    return grid
