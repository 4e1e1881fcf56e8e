"""Tables for spreadsheets and pandas: full precision, one header row, units in the names."""

from __future__ import annotations

import csv
import io

from attnsearch.report.formatting import Table

# A cell that begins so is a formula to a spreadsheet (OWASP, "CSV Injection").
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")


def render(table: Table) -> str:
    names, rows = table.flat()
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(names)
    writer.writerows([["" if value is None else safe(value) for value in row] for row in rows])
    return out.getvalue()


def safe(value: str | int | float | bool) -> str | int | float | bool:
    """Text that a spreadsheet would run gets an apostrophe in front; numbers stay numbers."""
    if isinstance(value, str):
        value = value.replace("\0", "")
        return "'" + value if value.lstrip(" ").startswith(_FORMULA) else value
    return value
