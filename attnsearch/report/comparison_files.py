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


def show(comparison: Comparison, file: IO[str] | None = None, width: int | None = None) -> None:
    """Print the sentences and the table."""
    console = make_console(file, width)
    lines = [*terminal.wrapped(title(comparison), console.width, "bold")]
    for sentence in comparison.sentences:
        lines += terminal.wrapped(sentence, min(console.width, terminal.PROSE), bullet="- ")
    for table in (comparison.table.narrow(), comparison.setup):
        lines += [("", ""), *terminal.titled(table, console.width)]
    terminal.print_lines(lines, console)


def title(comparison: Comparison) -> str:
    return f"{comparison.names[0]} and {comparison.names[1]}"


def values(comparison: Comparison) -> dict[str, Any]:
    """studies, answer, tables: {name: as in a report's JSON}."""
    return {
        "studies": list(comparison.names),
        "answer": list(comparison.sentences),
        "tables": {table.name: json.table_of(table) for table in (comparison.table, comparison.setup)},
    }


def write(comparison: Comparison, folder: Path) -> list[Path]:
    """Write comparison.csv, .json and .md, the picture, and comparison.html last; the paths."""
    picture = between(comparison)
    parts = [
        f"# {markdown.escape(title(comparison))}",
        "\n".join(f"- {markdown.escape(line)}" for line in comparison.sentences),
        *(markdown.table_of(table, "") for table in (comparison.table.narrow(), comparison.setup)),
    ]
    files: list[tuple[str, str | bytes]] = [
        ("comparison.csv", csv.render(comparison.table)),
        ("comparison.json", json.dump(values(comparison))),
        ("comparison.md", "\n\n".join(parts) + "\n"),
        ("plots/comparison.png", picture.png),
        ("plots/comparison.svg", picture.svg),
        ("comparison.html", page(comparison, picture)),
    ]
    return [atomic.write(folder / name, content) for name, content in files]


def page(comparison: Comparison, picture: Picture) -> str:
    """One page that needs nothing else, under the same policy as a report's."""
    script = html.TABLES.read_text(encoding="utf-8")
    return html.template("comparison.html.j2", script, comparison.blocks).render(
        title=f"{title(comparison)}: attnsearch comparison",
        heading=title(comparison),
        questions=list(
            dict.fromkeys(report.info.space.question for report in (comparison.first, comparison.second))
        ),
        sentences=comparison.sentences,
        picture=html.Shown(picture, html.source(picture)),
        tables=[comparison.table.narrow(), comparison.setup],
        version=provenance.own_version(),
        written=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
    )
