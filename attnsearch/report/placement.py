"""Which block stands where: one row for each listed architecture, one cell for each stage, shared options said once."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from attnsearch.report.archs import is_listed
from attnsearch.report.table import quantity
from attnsearch.report.tables import Report

_COMMA = re.compile(r",(?![^(\[]*[)\]])")  # outside brackets


@dataclass(frozen=True)
class Placement:
    """`stages` are the heads; `shared` says what is the same wherever a block stands; `rows` have one cell a stage."""

    stages: tuple[str, ...]
    shared: tuple[str, ...]
    rows: tuple[PlacementRow, ...]


@dataclass(frozen=True)
class PlacementRow:
    """One architecture: short name, cells (empty where nothing stands), error and cost as people read them."""

    name: str
    cells: tuple[str, ...]
    error: str
    cost: str


def placement(report: Report) -> Placement | None:
    """None where the trials do not say what stands where."""
    rows = [row for row in report.rows if is_listed(row) and row.sites]
    if not rows:
        return None
    stages = tuple(dict.fromkeys(stage for row in rows for stage in row.sites))
    shared = shared_options(option for row in rows for option in row.sites.values())
    return Placement(
        stages,
        tuple(
            f"{block}: {', '.join(f'{k} {v}' for k, v in options.items())}"
            for block, options in shared.items()
            if options
        ),
        tuple(
            PlacementRow(
                f"A{row.number}",
                tuple(short(row.sites.get(stage, "none"), shared) for stage in stages),
                f"{row.mean:.2f}" + (f" ± {row.error.half:.2f}" if row.error.half is not None else ""),
                quantity(row.costs[0]),
            )
            for row in rows
        ),
    )


def parts(option: str) -> tuple[str, dict[str, str]]:
    """`cbam(kernel=3,ratio=8)` as its block and its options; what is spelt otherwise is a block as a whole."""
    matched = re.fullmatch(r"([^()]+)\((.*)\)", option)
    pairs = [pair.partition("=") for pair in _COMMA.split(matched[2])] if matched else []
    if not matched or not all(equals for _, equals, _ in pairs):
        return option, {}
    return matched[1], {name.strip(): value for name, _, value in pairs}


def shared_options(options: Iterable[str]) -> dict[str, dict[str, str]]:
    """For each block, the options with the same value wherever it stands."""
    shared: dict[str, dict[str, str]] = {}
    for option in options:
        block, own = parts(option)
        known = shared.get(block, own)
        shared[block] = {name: value for name, value in known.items() if own.get(name) == value}
    return shared


def short(option: str, shared: Mapping[str, Mapping[str, str]]) -> str:
    """A block with the options that vary alone; empty for none."""
    if option == "none":
        return ""
    block, own = parts(option)
    left = [f"{name} {value}" for name, value in own.items() if name not in shared.get(block, {})]
    return " ".join([block, *([", ".join(left)] if left else [])])
