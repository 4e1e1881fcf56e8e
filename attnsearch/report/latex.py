"""The main tables for a paper: numbers as wide as a column of 3.5 inches, architectures and notes below them.

An architecture is spelled in macros, `attncell` for a stage, `attnnone` for an empty one, which a paper may redefine.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from attnsearch.report import sentences
from attnsearch.report.arch_strip import Strip
from attnsearch.report.formatting import Column, Table, Value
from attnsearch.report.tables import Report

_PREAMBLE = r"""% needs \usepackage{booktabs} and \usepackage[T1]{fontenc}
\providecommand{\attncell}[2]{#2}% block, text: a stage
\providecommand{\attnnone}{$\cdot$}% a stage into which nothing was put
\providecommand{\attnbar}{ \textbar{} }% between stages
"""
COLUMN = 252.0  # points, 3.5 inches
_LETTER, _GAP = 4.5, 6.0  # of \footnotesize on average; between two columns
_LONG, _WRAPPED = 16, 70.0  # letters from which a column of words is wrapped, and its width then
_SELECTION = "selection"
# What goes first where the numbers are wider than a column.
_SPARE = (
    *(
        "control",
        "next",
        "bytes_moved_ratio",
        "params_ratio",
        "latency_ms_ratio",
        "p",
        "seeds_kind",
        "status",
    ),
    *("over_frozen_points", "over_matched_points", "ratio", "seeds", "p_front", "visible_points"),
)

_ESCAPES = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "#": r"\#",
    "%": r"\%",
    "_": r"\_",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "|": r"\textbar{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "±": r"$\pm$",
    "×": r"$\times$",
    "–": "--",
    "−": r"$-$",
    "≤": r"$\le$",
    "≥": r"$\ge$",
    "·": r"$\cdot$",
    '"': r"\textquotedbl{}",
    "Δ": r"$\Delta$",
    "…": r"\ldots{}",
}


def render(report: Report) -> str:
    """One table per question that the study answers; needs `booktabs`."""
    tables = (table_of(table.narrow(), sentences.title(report), report.audit) for table in report.main())
    return _PREAMBLE + "\n".join(tables)


def table_of(table: Table, title: str, audit: str) -> str:
    """A `table` float: bold rows are those that the table calls strong, as the notes below it say."""
    named = next(
        (column for column, values in _columns(table) if any(isinstance(v, Strip) for v in values)), None
    )
    numbers = _fitting(table.without(named.name) if named and table.columns[0].kind == "arch" else table)
    long = [_is_long(numbers, i) for i in range(len(numbers.columns))]
    spec = "".join(_spec(column, wrapped) for column, wrapped in zip(numbers.columns, long, strict=True))
    body = [_row(table, numbers, index, long) for index in range(len(table.rows))]
    return "\n".join(
        [
            r"\begin{table}",
            r"  \centering\footnotesize\setlength{\tabcolsep}{3pt}",
            f"  \\caption{{{breakable(f'{title}: {table.title} ({audit}).')}}}",
            f"  \\label{{tab:{re.sub('[^a-z0-9]', '-', table.name.lower())}}}",
            f"  \\begin{{tabular}}{{@{{}}{spec}@{{}}}}",
            r"  \toprule",
            "  " + " & ".join(_head(column) for column in numbers.columns) + r" \tabularnewline",
            r"  \midrule",
            *body,
            r"  \bottomrule",
            r"  \end{tabular}",
            "",
            r"  \smallskip",
            r"  \begin{minipage}{\linewidth}\scriptsize\raggedright",
            *(f"  {line}\\par" for line in _below(table, numbers, named)),
            r"  \end{minipage}",
            r"\end{table}",
            "",
        ]
    )


def _row(table: Table, numbers: Table, index: int, long: list[bool]) -> str:
    """A line of numbers; of a strong row the name and the first number with an interval are bold."""
    names, kinds = [c.name for c in numbers.columns], [c.kind for c in numbers.columns]
    bold = {0, kinds.index("estimate") if "estimate" in kinds else 0} if index in table.strong else set()
    cells = [escape(cell) for cell in numbers.texts(index)]
    if _is_selection(table, index) and "seeds" in names:
        cells[names.index("seeds")] += r"\textsuperscript{s}"
    cells = [rf"\raggedright {cell}" if wrapped else cell for cell, wrapped in zip(cells, long, strict=True)]
    return (
        "  "
        + " & ".join(rf"\textbf{{{c}}}" if i in bold else c for i, c in enumerate(cells))
        + r" \tabularnewline"
    )


def _columns(table: Table) -> Iterator[tuple[Column, list[Value]]]:
    for i, column in enumerate(table.columns):
        yield column, [row[i] for row in table.rows]


def _fitting(table: Table) -> Table:
    """The table less what it takes to be no wider than a column of a page."""
    spare = [name for name in _SPARE if any(name == column.name for column in table.columns)]
    while spare and sum(_width(table, i) for i in range(len(table.columns))) > COLUMN:
        table = table.without(spare.pop(0))
    return table


def _width(table: Table, at: int) -> float:
    if _is_long(table, at):
        return _WRAPPED + _GAP
    texts = [
        *_title(table.columns[at]).split(" ("),
        *(table.texts(index)[at] for index in range(len(table.rows))),
    ]
    return _LETTER * max(map(len, texts)) + _GAP


def _is_long(table: Table, at: int) -> bool:
    texts = (table.texts(index)[at] for index in range(len(table.rows)))
    return not table.columns[at].numeric and max(map(len, texts), default=0) > _LONG


def _spec(column: Column, wrapped: bool) -> str:
    return f"p{{{_WRAPPED:g}pt}}" if wrapped else "r" if column.numeric else "l"


def _title(column: Column) -> str:
    return column.short or column.title


def _head(column: Column) -> str:
    """The heading, its unit in a second line."""
    title, bracket, unit = _title(column).partition(" (")
    if not bracket or column.kind == "text":
        return escape(_title(column))
    return rf"\shortstack[r]{{{escape(title)}\\({escape(unit)}}}"


def _is_selection(table: Table, index: int) -> bool:
    return any(
        column.name == "seeds_kind" and values[index] == _SELECTION for column, values in _columns(table)
    )


def _below(table: Table, numbers: Table, named: Column | None) -> Iterator[str]:
    """What the rows stand for, what they share, and the notes on the columns that are there."""
    if named is not None and named.name not in [column.name for column in numbers.columns]:
        at = table.columns.index(named)
        for index, row in enumerate(table.rows):
            yield rf"\textbf{{{escape(table.texts(index)[0])}}} {_spelt(row[at])}"
    for line in table.lead:
        yield f"{breakable(line)}."
    shown = any(column.name == "seeds" for column in numbers.columns)
    if shown and any(_is_selection(table, index) for index in range(len(table.rows))):
        yield r"\textsuperscript{s} on the seed that selected the architecture, hence optimistically biased."
    for note in numbers.notes:
        if not note.startswith("seeds used:"):
            yield f"{breakable(note[0].upper() + note[1:])}."


def _spelt(value: Value) -> str:
    """An architecture in macros."""
    if not isinstance(value, Strip) or value.name or value.widths or not value.texts:
        return breakable(str(value))
    cells = [
        rf"\attncell{{{escape(cell.block)}}}{{{breakable(cell.text)}}}" if cell.text else r"\attnnone{}"
        for cell in value.cells
    ]
    role = f" ({escape(value.role)})" if value.role else ""
    return r"\attnbar{}".join(cells) + role


def breakable(text: str) -> str:
    """Text whose words of more than 20 letters may be broken behind signs, since nothing hyphenates them."""
    words = re.split(r"(\s+)", text)
    pieces = (re.split(r"(?<=[,=_/.(|-])", word) if len(word) > 20 else [word] for word in words)
    return "".join(r"\allowbreak{}".join(map(escape, parts)) for parts in pieces)


def escape(text: str) -> str:
    """Text that LaTeX prints as it is; characters that pdfTeX has no glyph for become `?`.

    Quoted words are set as code, and a minus before a number as a minus instead of a hyphen.
    """
    out = "".join(_ESCAPES.get(char, char) for char in re.sub(r"\s+", " ", text))
    out = re.sub(r"`([^`]*)`", r"\\texttt{\1}", out)
    out = re.sub(r"(?<![\w-])-(?=\d)", "$-$", out)
    return "".join(char if char.isprintable() and ord(char) < 0x250 else "?" for char in out)
