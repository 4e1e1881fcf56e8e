"""The report on a terminal: as wide as it is, coloured where wanted, ASCII where need be."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import IO, TYPE_CHECKING

from attnsearch.report.arch_strip import Strip
from attnsearch.report.console import ascii_of, clean, make_console, shows_unicode
from attnsearch.report.formatting import Column, Table, Value

if TYPE_CHECKING:
    from rich.console import Console

    from attnsearch.report.tables import Report

# What goes first where space is short.
_SPARE = (
    *("bytes_moved_ratio", "params_ratio", "control", "next", "latency_ms_ratio", "p", "seeds_kind"),
    *("over_frozen_points", "over_matched_points", "ratio", "seeds", "p_front"),
)
PROSE = 100  # columns beyond which a line of prose is hard to follow


def show(report: Report, file: IO[str] | None = None, width: int | None = None) -> None:
    """Print what is known, the main tables, and where the trials went; `width` as in `make_console`."""
    console = make_console(file, width)
    print_lines(lines(report, console.width), console)


def print_lines(lines: Iterable[tuple[str, str]], console: Console) -> None:
    """Print lines with their styles, unwrapped; control characters never reach the terminal."""
    plain = not shows_unicode(console.file)
    for line, style in lines:
        shown = clean(ascii_of(line) if plain else line)
        console.print(shown, style=style, no_wrap=True, crop=False)


def lines(report: Report, width: int) -> Iterator[tuple[str, str]]:
    """Every line with its style."""
    from attnsearch.report import provenance, sentences, warnings  # other commands print a table alone

    prose, printed = min(width, PROSE), set[str]()
    yield from wrapped(sentences.title(report), prose, "bold")
    for line in warnings.warnings(report):
        yield from wrapped(f"Warning: {line}", prose, "yellow")
    for line in sentences.answer(report):
        yield from wrapped(line, prose, bullet="- ")
    for table in report.main():
        if table.rows:
            yield "", ""
            shown = replace(table.narrow(), title=f"{table.title} ({report.audit})")
            yield from titled(shown, width, printed)
    yield "", ""
    yield from wrapped(provenance.where_trials_went(report.counts) + ".", prose)
    yield from wrapped(f"Stopped because: {provenance.ended(report)}.", prose)


def titled(table: Table, width: int, printed: set[str] | None = None) -> Iterator[tuple[str, str]]:
    """A table under its title and what its rows share, above its notes; lines in `printed` are left out."""
    prose, printed = min(width, PROSE), set() if printed is None else printed
    yield from wrapped(table.title, prose, "bold")
    for line in table.lead:
        if line not in printed:
            yield from wrapped(line, prose, "dim", "  ")
    yield from table_lines(table, width)
    for note in _notes(table):
        if note not in printed:
            yield from wrapped(note, prose, "dim", "  ")
    printed.update(table.lead, _notes(table))


def table_lines(table: Table, width: int) -> Iterator[tuple[str, str]]:
    """One line per row where all fits; else the row's name on lines of its own; else a line per cell."""
    name = next(i for i, column in enumerate(table.columns) if not column.numeric)
    if _width(table) <= width:
        yield from _grid(table, None)
        return
    spare = [column for column in _SPARE if any(column == c.name for c in table.columns)]
    rest = table
    while _width(rest.without(table.columns[name].name)) > width and spare:
        rest = rest.without(spare.pop(0))
    if _width(rest.without(table.columns[name].name)) <= width:
        yield from _grid(rest, name, width)
        return
    for index in range(len(table.rows)):
        cells = table.texts(index)
        style = "bold" if index in table.strong else ""
        if name:
            yield cells[0], style
        yield from _named(table.rows[index][name], width, style)
        for column, cell in zip(table.columns[name + 1 :], cells[name + 1 :], strict=True):
            if cell != "–":
                yield from wrapped(f"{column.title}: {cell}", width, "", "     ")


def wrapped(text: str, width: int, style: str = "", bullet: str = "") -> Iterator[tuple[str, str]]:
    """A paragraph in lines of at most `width`, those after the first as far in as the bullet is long."""
    indent = " " * len(bullet)
    # Three columns are spared: in ASCII a plus-minus sign takes that many instead of one.
    for line in textwrap.wrap(text, max(20, width - 3), initial_indent=bullet, subsequent_indent=indent):
        yield line, style


def _notes(table: Table) -> Iterator[str]:
    """The table's notes, and the units of headings that were shortened."""
    for column in table.columns:
        if column.short and not column.note and "(" in column.title:
            yield column.title
    yield from table.notes


def _heads(table: Table) -> list[str]:
    return [column.short or column.title for column in table.columns]


def _widths(table: Table) -> list[int]:
    rows = [_heads(table), *(table.texts(index) for index in range(len(table.rows)))]
    return [max(len(ascii_of(row[i])) for row in rows) for i in range(len(table.columns))]


def _width(table: Table) -> int:
    return sum(_widths(table)) + 2 * (len(table.columns) - 1)


def _grid(table: Table, name: int | None, width: int = 0) -> Iterator[tuple[str, str]]:
    """Aligned lines; the column `name`, where given, stands below its row, in lines of at most `width`."""
    keep = [i for i in range(len(table.columns)) if i != name]
    widths = _widths(table)

    def line(cells: list[str]) -> str:
        return "  ".join(_aligned(cells[i], widths[i], table.columns[i]) for i in keep).rstrip()

    yield line(_heads(table)), "underline"
    for index in range(len(table.rows)):
        cells = table.texts(index)
        style = "bold" if index in table.strong else ""
        yield line(cells), style
        if name is not None:
            yield from _named(table.rows[index][name], width, style)


def _named(value: Value, width: int, style: str) -> Iterator[tuple[str, str]]:
    """A row's name, indented; an architecture is broken between its stages alone."""
    if not isinstance(value, Strip):
        yield from wrapped(str(value), width, style, "     ")
        return
    for line in value.lines(width - 5):
        yield f"     {line}", style


def _aligned(cell: str, width: int, column: Column) -> str:
    return cell.rjust(width) if column.numeric else cell.ljust(width)
