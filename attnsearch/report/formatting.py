"""Table: what every format renders. Values and units, no layout; one place where a number becomes text."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from attnsearch.core.estimate import Estimate
from attnsearch.report.arch_strip import Strip

Kind = Literal["text", "integer", "number", "estimate", "probability", "quantity", "arch"]

Value = str | int | float | bool | Estimate | Strip | None


@dataclass(frozen=True)
class Column:
    """One column.

    Args:
        name: for machines, with the unit in it (`error_pct`).
        title: for people, with the unit in it (`error (%)`).
        kind: text (of a `Strip` its short form, its label for machines), arch (`A3`, the short name everywhere),
            integer, number (`digits` after the point), estimate (`1.20 ± 0.30`), probability (two digits, never 0
            or 1), quantity (four significant digits with k, M, G).
        signed: write a plus sign before positive numbers, for differences.
        wide: left out where space is short; CSV and JSON always have it.
        note: what the numbers are, where the title cannot say it.
        short: the title where space is short, on terminals.
    """

    name: str
    title: str
    kind: Kind = "text"
    digits: int = 2
    signed: bool = False
    wide: bool = False
    note: str = ""
    short: str = ""

    @property
    def numeric(self) -> bool:
        return self.kind != "text"


@dataclass(frozen=True)
class Table:
    """Columns and rows under a title; `remarks` say what is true of the table as a whole.

    `lead` is said once above the rows instead of in each of them.
    `strong` are the indices of rows that a format may set in bold; `strong_means` says why.
    """

    name: str
    title: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Value, ...], ...]
    remarks: tuple[str, ...] = ()
    strong: frozenset[int] = frozenset()
    strong_means: str = ""
    lead: tuple[str, ...] = ()

    @property
    def notes(self) -> tuple[str, ...]:
        """The notes of the columns, then the remarks, then what bold means."""
        described = [f"{column.title}: {column.note}" for column in self.columns if column.note]
        bold = [f"bold: {self.strong_means}"] if self.strong else []
        return (*described, *self.remarks, *bold)

    def texts(self, row: int) -> list[str]:
        """The row as people read it."""
        return [text(value, column) for value, column in zip(self.rows[row], self.columns, strict=True)]

    def column(self, name: str) -> list[Value]:
        at = next(i for i, column in enumerate(self.columns) if column.name == name)
        return [row[at] for row in self.rows]

    def without(self, *names: str) -> Table:
        """The same table less some columns."""
        keep = [i for i, column in enumerate(self.columns) if column.name not in names]
        columns = tuple(self.columns[i] for i in keep)
        rows = tuple(tuple(row[i] for i in keep) for row in self.rows)
        return replace(self, columns=columns, rows=rows)

    def narrow(self) -> Table:
        """The same table less its wide columns."""
        return self.without(*(column.name for column in self.columns if column.wide))

    def flat(self) -> tuple[list[str], list[list[str | int | float | bool | None]]]:
        """Names and values for machines; an estimate becomes three columns: mean, low, high."""
        names: list[str] = []
        for column in self.columns:
            ends = ("", "_low", "_high") if column.kind == "estimate" else ("",)
            names += [column.name + end for end in ends]
        return names, [self._flat_row(row) for row in self.rows]

    def _flat_row(self, row: tuple[Value, ...]) -> list[str | int | float | bool | None]:
        out: list[str | int | float | bool | None] = []
        for value, column in zip(row, self.columns, strict=True):
            if column.kind != "estimate":
                assert not isinstance(value, Estimate)
                out.append(value.label if isinstance(value, Strip) else value)
            elif isinstance(value, Estimate):
                out += [value.mean, value.low, value.high]
            else:
                out += [None, None, None]
        return out


@dataclass(frozen=True)
class Card:
    """One fact of the first screen; `strip` is the architecture, where that is the fact."""

    name: str
    value: str
    detail: str
    strip: Strip | None = None
    wide: bool = False


def text(value: Value, column: Column) -> str:
    """One cell as people read it; a missing value is an en dash."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Estimate):
        return estimate(value, column.digits, column.signed)
    if isinstance(value, str | Strip):
        return str(value)
    if column.kind == "arch":
        return f"A{value}"
    if column.kind == "probability":
        return probability(value)
    if column.kind == "quantity":
        return quantity(value)
    if column.kind == "integer":
        return f"{value:.0f}"
    return number(value, column.digits, column.signed)


def estimate(value: Estimate, digits: int = 2, signed: bool = False) -> str:
    """`1.20 ± 0.30`, or `1.20 (0.00 to 3.10)` where the interval is cut at a value beyond which nothing is possible."""
    mean = number(value.mean, digits, signed)
    if value.low is None or value.high is None:
        return mean
    if value.is_cut:
        return f"{mean} ({number(value.low, digits, signed)} to {number(value.high, digits, signed)})"
    return f"{mean} ± {value.half:.{digits}f}"


def number(value: float, digits: int = 2, signed: bool = False) -> str:
    """Fixed digits; a value that rounds to zero has no sign."""
    out = f"{value:+.{digits}f}" if signed else f"{value:.{digits}f}"
    return out.lstrip("+-") if float(out) == 0 else out


def probability(value: float) -> str:
    """Two digits; what was simulated is never said to be 0 or 1."""
    return "< 0.01" if value < 0.01 else "> 0.99" if value > 0.99 else f"{value:.2f}"


def quantities(values: Sequence[float]) -> list[str]:
    """Each as `quantity` writes it, with as many digits more as it takes that no two different ones look alike."""
    different = len(set(values))
    for digits in range(4, 10):
        found = [quantity(value, digits) for value in values]
        if len(set(found)) == different:
            break
    return found


def quantity(value: float, digits: int = 4) -> str:
    """Four significant digits, or as many, with a decimal prefix: 272474 is `272.5k`, 40813184 is `40.81M`."""
    for scale, letter in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= scale:
            return f"{value / scale:#.{digits}g}{letter}"
    return f"{value:.{digits}g}"
