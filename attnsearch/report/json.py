"""The report as plain JSON values: the same tables, with full precision."""

from __future__ import annotations

import json
import math
import re
from typing import Any

from attnsearch.report import findings, provenance, sentences, warnings
from attnsearch.report.formatting import Table
from attnsearch.report.tables import Report


def render(report: Report) -> str:
    return dump(values(report))


def dump(plain: dict[str, Any]) -> str:
    """Plain values as text; a row of a table is a line, since to indent each of its values takes five times as long."""
    tables = plain.get("tables", {})
    rows = iter([_lines(table["rows"]) for table in tables.values()])
    bare = {name: {**table, "rows": []} for name, table in tables.items()}
    text = _text({**plain, "tables": bare} if tables else plain, 2)
    return (
        _ROWS.sub(lambda found: found[1] + next(rows), text) + "\n"
    )  # no word of a study is a line of its own


_ROWS = re.compile(r'^(      "rows": )\[\]', re.M)


def _lines(rows: list[dict[str, Any]]) -> str:
    return "[" + ",".join(f"\n        {_text(row)}" for row in rows) + ("\n      ]" if rows else "]")


def _text(value: Any, indent: int | None = None) -> str:
    return json.dumps(value, indent=indent, ensure_ascii=False, allow_nan=False)


def values(report: Report) -> dict[str, Any]:
    """The report's words and tables by name.

    study, finding, findings (of an ablation: one a variant), proxy, warnings, answer, caveats, facts, noise,
    tables: {name: {title, columns, notes, rows}}
    """
    variants = [found.to_dict() for found in findings.findings(report)]
    return {
        "study": report.record.name,
        "finding": findings.finding(report).to_dict(),
        **({"findings": variants} if variants else {}),
        "proxy": report.audit,
        "warnings": list(warnings.warnings(report)),
        "answer": list(sentences.answer(report)),
        "caveats": list(sentences.caveats(report)),
        "facts": dict(provenance.facts(report)),
        "noise": {"sd_points": report.assessed.sd, "degrees": report.assessed.degrees},
        "tables": {table.name: table_of(table) for table in report.tables()},
    }


def table_of(table: Table) -> dict[str, Any]:
    """Rows as objects; infinities and NaN, which JSON lacks, as null."""
    names, rows = table.flat()
    return {
        "title": table.title,
        "columns": {column.name: column.title for column in table.columns},
        "notes": list(table.notes),
        "rows": [dict(zip(names, map(_plain, row), strict=True)) for row in rows],
    }


def _plain(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
