"""A comparison of two studies on the terminal, as JSON and as files."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

from attnsearch.report import atomic, csv, html, json, markdown, provenance, terminal
from attnsearch.report.comparison import Comparison
from attnsearch.report.console import make_console
from attnsearch.report.picture import Picture
from attnsearch.report.plots import between


def show(found: Comparison, file: IO[str] | None = None, width: int | None = None) -> None:
    """Print the sentences and the table."""
    console = make_console(file, width)
    lines = [*terminal.wrapped(title(found), console.width, "bold")]
    for sentence in found.sentences:
        lines += terminal.wrapped(sentence, min(console.width, terminal.PROSE), bullet="- ")
    for table in (found.table.narrow(), found.setup):
        lines += [("", ""), *terminal.titled(table, console.width)]
    terminal.print_lines(lines, console)


def title(found: Comparison) -> str:
    return f"{found.names[0]} and {found.names[1]}"


def values(found: Comparison) -> dict[str, Any]:
    """studies, answer, tables: {name: as in a report's JSON}."""
    return {
        "studies": list(found.names),
        "answer": list(found.sentences),
        "tables": {table.name: json.table_of(table) for table in (found.table, found.setup)},
    }


def write(found: Comparison, folder: Path) -> list[Path]:
    """Write comparison.csv, .json and .md, the picture, and comparison.html last; the paths."""
    picture = between(found)
    parts = [
        f"# {markdown.escape(title(found))}",
        "\n".join(f"- {markdown.escape(line)}" for line in found.sentences),
        *(markdown.table_of(table, "") for table in (found.table.narrow(), found.setup)),
    ]
    files: list[tuple[str, str | bytes]] = [
        ("comparison.csv", csv.render(found.table)),
        ("comparison.json", json.dump(values(found))),
        ("comparison.md", "\n\n".join(parts) + "\n"),
        ("plots/comparison.png", picture.png),
        ("plots/comparison.svg", picture.svg),
        ("comparison.html", page(found, picture)),
    ]
    return [atomic.write(folder / name, content) for name, content in files]


def page(found: Comparison, picture: Picture) -> str:
    """One page that needs nothing else, under the same policy as a report's."""
    script = html.TABLES.read_text(encoding="utf-8")
    return html.template("comparison.html.j2", script, found.blocks).render(
        title=f"{title(found)}: attnsearch comparison",
        heading=title(found),
        questions=list(dict.fromkeys(report.info.space.question for report in (found.first, found.second))),
        sentences=found.sentences,
        picture=html.Shown(picture, html.source(picture)),
        tables=[found.table.narrow(), found.setup],
        version=provenance.own_version(),
        written=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
    )
