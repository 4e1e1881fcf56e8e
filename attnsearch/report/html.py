"""One page that needs nothing else: styles, pictures and the script that sorts its tables are inside it.

Everything that a study says is escaped by jinja2; the policy in the page's head lets nothing be loaded and no
script run but the one whose hash it names.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from attnsearch.core.estimate import Estimate
from attnsearch.core.text import capital
from attnsearch.report import (
    cards,
    glossary,
    page_data,
    placement,
    provenance,
    sentences,
    training_images,
    warnings,
)
from attnsearch.report.arch_strip import Strip
from attnsearch.report.archs import cost_name, is_listed
from attnsearch.report.formatting import Table, Value, number
from attnsearch.report.picture import BLOCKS
from attnsearch.report.tables import Report

if TYPE_CHECKING:
    from jinja2 import Template
    from markupsafe import Markup

    from attnsearch.report.picture import Picture

_WEB = Path(__file__).parent / "web"
TABLES = _WEB / "tables.js"  # sorts any table; a page without a plot needs no more
_MAPS = 12  # placement maps at most
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
class PlacementMap:
    """The drawing of one architecture, what it is called and what it reaches."""

    name: str
    detail: str
    drawing: Markup


@dataclass(frozen=True)
class Shown:
    """A picture, the address it is shown from, and that of the one for a telephone."""

    picture: Picture
    source: str
    narrow: str = ""


def render(report: Report, pictures: Sequence[Picture], narrow: Sequence[Picture] = ()) -> str:
    """The page; opens from a disk, offline, in light and dark.

    Args:
        narrow: those of the pictures that there are for a telephone too.
    """
    from markupsafe import Markup

    lead = sentences.best(report)  # the cards say it already
    next_step = sentences.next_step(report)
    phones = {picture.name: source(picture) for picture in narrow}
    return template("page.html.j2", scripts(), report.notation.blocks).render(
        report=report,
        title=f"{report.record.name}: attnsearch report",
        study=report.record.name,
        question=report.info.space.question or "",
        running=bool(report.counts.running),
        audit=report.audit,
        data=Markup(page_data.text(report)),  # every `<` is an escape there
        maps=maps(report),
        evidence=[table for table in (report.importances, report.stops) if table is not None and table.rows],
        costs=costs(report),
        heading=f"{capital(report.info.metric.error)} against cost",
        warnings=warnings.warnings(report),
        cards=cards.cards(report),
        samples=training_images.samples(report.info),
        answer=[line for line in sentences.answer(report) if line not in (lead, next_step)],
        next_step=next_step,
        caveats=sentences.caveats(report),
        words=glossary.words(report),
        facts=provenance.facts(report),
        details=details(report),
        sites=list(report.info.space.sites.items()),
        pictures={
            picture.name: Shown(picture, source(picture), phones.get(picture.name, ""))
            for picture in pictures
        },
        version=provenance.own_version(),
        written=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        fingerprint=provenance.fingerprint(report.record),
    )


def template(name: str, script: str, blocks: Sequence[str]) -> Template:
    """A page of ours, with the page's styles, the one script that its policy lets run, and the blocks' colours."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    style = (_WEB / "page.css").read_text(encoding="utf-8")
    environment = Environment(loader=FileSystemLoader(_WEB), autoescape=True, undefined=StrictUndefined)
    environment.globals["cells"] = cells
    environment.globals["colour"] = {block: i % len(BLOCKS) for i, block in enumerate(blocks)}.get
    environment.globals["policy"] = policy(style, script)
    environment.globals["style"] = Markup(style)  # our own files, never a study's words
    environment.globals["script"] = Markup(script)
    environment.filters["code"] = code
    return environment.get_template(name)


def scripts() -> str:
    """D3's modules in their order, then our own: the one script of the page."""
    modules = json.loads((_WEB / "d3" / "SOURCES.json").read_text(encoding="utf-8"))["modules"]
    ours = (_WEB / name for name in ("tables.js", "data.js", "scales.js", "controls.js", "front.js"))
    files = [*(_WEB / "d3" / module["file"] for module in modules), *ours]
    return "\n".join(file.read_text(encoding="utf-8") for file in files)


def maps(report: Report) -> list[PlacementMap]:
    """Of the architecture that the report leads with, then of the front; of a design of every variant."""
    colours = {block: i % len(BLOCKS) for i, block in enumerate(report.notation.blocks)}
    lead = sentences.chosen(report)
    rows = [row for row in report.rows if not row.baseline and not row.control]
    wanted = [row for row in rows if row.name or row.observed or row is lead]
    wanted.sort(key=lambda row: (row is not lead, row.number))
    found = []
    for row in wanted[:_MAPS]:
        strip, over = report.strip(row), row.difference
        gain = "" if over is None else f", {number(over.mean, 2, True)} pp against the baseline"
        ratio = "" if row.ratio is None else f", {row.ratio:.3f} x its {cost_name(report.cost)}"
        detail = f"{row.outcome}: {report.info.metric.error} {sentences.estimate(row.error)}{gain}{ratio}"
        found.append(
            PlacementMap(f"A{row.number}", detail, placement.drawing(strip, colours, f"A{row.number}"))
        )
    return found


def costs(report: Report) -> Table:
    """All counted and measured costs of the listed architectures."""
    names = {"number", "ratio", *(name for row in report.rows for name in row.all_costs)}
    columns = report.archs.columns
    keep = [i for i, column in enumerate(columns) if column.name in names]
    rows = tuple(
        tuple(values[i] for i in keep)
        for row, values in zip(report.rows, report.archs.rows, strict=True)
        if is_listed(row)
    )
    measured = any("latency" in columns[i].name for i in keep)
    title = "Counted costs and measured latency" if measured else "Counted costs"
    return Table("costs", title, tuple(columns[i] for i in keep), rows)


def details(report: Report) -> list[Table]:
    """The tables that are folded; of a design without what only a search has."""
    shown = {table.name for table in (*report.main(), *report.classes)} | {"importances", "stops"}
    rest = [table for table in report.tables() if table.name not in shown]
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


def cells(table: Table, limit: int | None = None) -> Iterator[Row]:
    """A table's rows, the first `limit`, with the text to show and the value to sort by."""
    for index, values in enumerate(table.rows[:limit]):
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
    for n, light in enumerate(_DARK):
        svg = svg.replace(light, f"var(--c{n})").replace(light.upper(), f"var(--c{n})")
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
