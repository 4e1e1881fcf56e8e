"""What the page's script reads: every architecture with its place, its intervals and its costs, as plain JSON.

Columns are arrays of equal length and cells of strips are numbered: ten thousand architectures take little room.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any

from attnsearch.core.estimate import Estimate
from attnsearch.report.arch_notation import Notation
from attnsearch.report.arch_strip import StripCell
from attnsearch.report.archs import cost_name, cost_title, is_listed, seeds_kind
from attnsearch.report.front_plot import MARKS, is_squeezed
from attnsearch.report.picture import BLUE, GREEN, GREY, INK, ORANGE
from attnsearch.report.tables import Report
from attnsearch.statistics.front import ArchResult

_COLOURS = {BLUE: "blue", ORANGE: "orange", GREEN: "green", GREY: "grey", INK: "ink"}


def page_data(report: Report) -> dict[str, Any]:
    """`archs` by column, `cells` that their strips point to, `costs` to choose an axis from, `marks` by status."""
    rows = report.rows
    cells, strips = _cells([report.strip(row).cells for row in rows], report.notation)
    names = list(dict.fromkeys([report.cost, *(name for row in rows for name in row.all_costs)]))
    return {
        "error": report.info.metric.error,
        "design": report.verdicts is not None,
        "blocks": list(report.notation.blocks),
        "stages": list(dict.fromkeys(cell["stage"] for cell in cells)),
        "costs": [{"name": n, "title": cost_title(n, report.info), "short": cost_name(n)} for n in names],
        "above": is_squeezed([row.costs[0] for row in rows if is_listed(row) and not row.control]),
        "marks": {word: [m, _COLOURS[colour], filled] for word, (m, colour, filled) in MARKS.items()},
        "cells": cells,
        "archs": {**_columns(rows), "strip": strips, "title": [_title(report, row) for row in rows]},
        "price": {name: [_short(row.all_costs.get(name)) for row in rows] for name in names},
    }


def text(report: Report) -> str:
    """The same as JSON that no word of a study can end: `<`, `>` and `&` are written as escapes."""
    found = json.dumps(page_data(report), ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for char in "<>&\u2028\u2029":
        found = found.replace(char, f"\\u{ord(char):04x}")
    return found


def _columns(rows: Sequence[ArchResult]) -> dict[str, list[Any]]:
    return {
        "number": [row.number for row in rows],
        "status": [row.outcome for row in rows],
        "kind": [seeds_kind(row) for row in rows],
        "listed": [int(is_listed(row)) for row in rows],
        "observed": [int(row.observed) for row in rows],
        "baseline": [int(row.baseline) for row in rows],
        "control": [int(bool(row.control)) for row in rows],
        "n": [row.error.n for row in rows],
        "error": [_places(row.mean) for row in rows],
        "low": [_places(row.error.low) for row in rows],
        "high": [_places(row.error.high) for row in rows],
        "over": [_ends(row.difference) for row in rows],
        "p": [_places(row.p_front) for row in rows],
        "ratio": [_places(row.ratio, 4) for row in rows],
    }


def _title(report: Report, row: ArchResult) -> str:
    """What stands for the cells where they do not say what the row is."""
    strip = report.strip(row)
    return str(strip) if strip.name or strip.widths else strip.role


def _cells(
    strips: Sequence[Sequence[StripCell]], notation: Notation
) -> tuple[list[dict[str, Any]], list[list[int]]]:
    """Every distinct cell once, and each strip as the numbers of its cells."""
    known: dict[StripCell, int] = {}
    numbered = [[known.setdefault(cell, len(known)) for cell in cells] for cells in strips]
    return [
        {
            "stage": cell.stage,
            "text": cell.text,
            "block": cell.block.split("+")[0],
            "options": [
                f"{block} {name.replace('_', ' ')} {value}"
                for block, name, value in cell.options
                if name in notation.varying.get(block, ())
            ],
        }
        for cell in known
    ], numbered


def _places(value: float | None, digits: int = 3) -> float | None:
    """Rounded, but so that its two places are those of every other format: 2.97499999 is no 2.98."""
    if value is None or not math.isfinite(value):
        return None
    rounded = round(value, digits)
    return rounded if f"{rounded:.2f}" == f"{value:.2f}" else round(value, 2)


def _short(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else float(f"{value:.7g}")


def _ends(value: Estimate | None) -> list[float | None] | None:
    return None if value is None else [_places(value.mean), _places(value.low), _places(value.high)]
