"""The report as plain JSON values: the same tables, with full precision."""

from __future__ import annotations

import json
import math
from typing import Any

from attnsearch.report import findings, provenance, sentences, warnings
from attnsearch.report.formatting import Table
from attnsearch.report.tables import Report


def render(report: Report) -> str:
    return dump(values(report))


def dump(plain: dict[str, Any]) -> str:
    """Plain values as text."""
    return json.dumps(plain, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


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
