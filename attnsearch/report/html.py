"""One page that needs nothing else: styles, pictures and the script that sorts its tables are inside it.

Everything that a study says is escaped by jinja2; the policy in the page's head lets nothing be loaded and no
script run but the one whose hash it names.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from attnsearch.core.estimate import Estimate
from attnsearch.core.text import capital
from attnsearch.report import cards, glossary, provenance, sentences, warnings
from attnsearch.report.archs import cost_name
from attnsearch.report.picture import BLOCKS
from attnsearch.report.strip import Strip
from attnsearch.report.table import Table, Value
from attnsearch.report.tables import Report

if TYPE_CHECKING:
    from markupsafe import Markup

    from attnsearch.report.picture import Picture

_HERE = Path(__file__).parent
# Colours of the pictures -> the same on dark paper.
_DARK = {
    "#ffffff": "#15181c",
    "#222222": "#e8eaed",
    "#e4e4e4": "#2c323a",
    "#0072b2": "#6bbcf0",
    "#d55e00": "#ff9d57",
    "#009e73": "#3fd0a4",
    "#9a9a9a": "#8b939d",
}


@dataclass(frozen=True)
class Cell:
    """A table's cell: what it shows, its class, what it is sorted by, and the architecture where it is one."""

    text: str
    kind: str
    sort: str
    strip: Strip | None = None


@dataclass(frozen=True)
class Row:
    cells: tuple[Cell, ...]
    strong: bool


@dataclass(frozen=True)
class Shown:
    """A picture and the address it is shown from."""

    picture: Picture
    source: str


def render(report: Report, pictures: Sequence[Picture]) -> str:
    """The page; opens from a disk, offline, in light and dark."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    lead = sentences.best(report)  # the cards say it already
    style, script = ((_HERE / name).read_text(encoding="utf-8") for name in ("report.css", "report.js"))
    environment = Environment(loader=FileSystemLoader(_HERE), autoescape=True, undefined=StrictUndefined)
    environment.globals["cells"] = cells
    environment.globals["colour"] = {b: i % len(BLOCKS) for i, b in enumerate(report.notation.blocks)}.get
    environment.filters["code"] = code
    return environment.get_template("report.html.j2").render(
        report=report,
        title=f"{report.record.name}: attnsearch report",
        study=report.record.name,
        question=report.info.space.question or "",
        running=bool(report.counts.running),
        audit=report.audit,
        policy=policy(style, script),
        style=Markup(style),  # our own files, never a study's words
        script=Markup(script),
        cost_name=cost_name(report.cost),
        error=report.info.metric.error,
        heading=f"{capital(report.info.metric.error)} against cost",
        warnings=warnings.warnings(report),
        cards=cards.cards(report),
        answer=[line for line in sentences.answer(report) if line != lead],
        caveats=sentences.caveats(report),
        words=glossary.words(report),
        facts=provenance.facts(report),
        details=details(report),
        sites=list(report.info.space.sites.items()),
        pictures={picture.name: Shown(picture, source(picture)) for picture in pictures},
        version=provenance.own_version(),
        written=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        fingerprint=provenance.fingerprint(report.record),
    )


def details(report: Report) -> list[Table]:
    """The tables that are folded; of a design without what only a search has."""
    rest = [table for table in report.tables() if table not in (*report.main(), *report.classes)]
    if report.verdicts is None:
        return rest
    searched = ("p_front", f"search_{report.info.metric.error_column}", "optimism_points")
    return [table.without(*searched) if table is report.archs else table for table in rest]


def code(text: str) -> Markup:
    """Escaped text with its `quoted` words as code."""
    from markupsafe import Markup, escape

    return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(text))))


def policy(style: str, script: str) -> str:
    """Nothing from anywhere, but these two texts and pictures inside the page."""
    return (
        f"default-src 'none'; style-src '{_hash(style)}'; script-src '{_hash(script)}'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )


def cells(table: Table) -> Iterator[Row]:
    """A table's rows with the text to show and the value to sort by."""
    for index, values in enumerate(table.rows):
        shown = zip(table.texts(index), table.columns, values, strict=True)
        yield Row(
            tuple(
                Cell(
                    text,
                    _kind(column.name, column.numeric, text),
                    _sort(value),
                    value if isinstance(value, Strip) else None,
                )
                for text, column, value in shown
            ),
            index in table.strong,
        )


def source(picture: Picture) -> str:
    """A data address of the SVG, which follows the reader's light or dark."""
    svg = picture.svg
    for number, light in enumerate(_DARK):
        svg = svg.replace(light, f"var(--c{number})").replace(light.upper(), f"var(--c{number})")
    light_vars = "".join(f"--c{n}:{c};" for n, c in enumerate(_DARK))
    dark_vars = "".join(f"--c{n}:{c};" for n, c in enumerate(_DARK.values()))
    style = f"<style>:root{{{light_vars}}}@media(prefers-color-scheme:dark){{:root{{{dark_vars}}}}}</style>"
    at = svg.index(">", svg.index("<svg")) + 1
    data = base64.b64encode((svg[:at] + style + svg[at:]).encode()).decode()
    return f"data:image/svg+xml;base64,{data}"


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _kind(name: str, numeric: bool, text: str) -> str:
    if numeric:
        return "num"
    return "text arch" if name in ("arch", "variant") else "text" if len(text) > 24 else "text short"


def _sort(value: Value) -> str:
    if value is None:
        return ""
    return repr(value.mean) if isinstance(value, Estimate) else str(value)
