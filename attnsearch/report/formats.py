"""The files of a report: every format that there is, each rendered whole before anything is written."""

from __future__ import annotations

from pathlib import Path

from attnsearch.report import atomic, csv, html, json, latex, markdown, plots, provenance
from attnsearch.report.tables import Report

File = tuple[str, str | bytes]  # name within the report's folder, and content


def write(report: Report, folder: Path, *, pictures: bool = True, paper: bool = False) -> list[Path]:
    """Write every file into `folder`, each whole or not at all; the paths, report.html last.

    Args:
        pictures: False for tables alone, in a fraction of a second: for a run that is told to stop.
        paper: whether to write the figures at the width of a column and of a page too.
    """
    made = files(report, paper) if pictures else texts(report)
    return [atomic.write(folder / name, content) for name, content in made]


def texts(report: Report) -> list[File]:
    """The tables, and what says where they come from."""
    tables = [*report.main(), *report.classes, report.archs, report.trials]
    return [
        *((f"{table.name}.csv", csv.render(table)) for table in tables),
        ("front.md", markdown.render(report)),
        ("front.tex", latex.render(report)),
        ("report.json", json.render(report)),
        *([("space.yaml", str(space))] if (space := report.info.space.text) else []),
        ("provenance.json", provenance.render(report)),
    ]


def files(report: Report, paper: bool = False) -> list[File]:
    """Texts, pictures and the page; with `paper`, figures for one too."""
    pictures = plots.draw(report)
    return [
        *texts(report),
        *((f"plots/{picture.name}.png", picture.png) for picture in pictures),
        *((f"plots/{picture.name}.svg", picture.svg) for picture in pictures),
        *(plots.for_paper(report) if paper else []),
        ("report.html", html.render(report, pictures, plots.for_phones(report))),
    ]
