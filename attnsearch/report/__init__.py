"""A study as tables, sentences and pictures: on the terminal, as files, as JSON. No torch on this side.

build(record) -> Report          what there is to say; `NoResultError` where no trial has finished
show(report)                     on the terminal
write(report, folder) -> paths   trials.csv, archs.csv, front.{csv,md,tex}, plots, report.html, ...
as_json(report)                  plain values
"""

from __future__ import annotations

from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    from attnsearch.core.study_info import StudyRecord
    from attnsearch.report.tables import Report


def build(record: StudyRecord) -> Report:
    """Work out the tables of a study, finished or not; `NoResultError` where no trial has finished."""
    from attnsearch.report import tables

    return tables.build(record)


def show(report: Report, file: IO[str] | None = None, width: int | None = None) -> None:
    """Print the report; `width` in columns, the terminal's own when None."""
    from attnsearch.report import terminal

    terminal.show(report, file, width)


def as_json(report: Report) -> dict[str, Any]:
    """The report as plain JSON values."""
    from attnsearch.report import json

    return json.values(report)


def write(report: Report, folder: Path, *, pictures: bool = True, paper: bool = False) -> list[Path]:
    """Write every file of the report into `folder`, each whole or not at all; the paths, report.html last.

    Args:
        pictures: False for tables alone, in a fraction of a second: for a run that is told to stop.
        paper: whether to write the figures at the width of a column and of a page too.
    """
    from attnsearch.report import atomic

    return [
        atomic.write(folder / name, content)
        for name, content in (files(report, paper) if pictures else texts(report))
    ]


def texts(report: Report) -> list[tuple[str, str | bytes]]:
    """Name and content of the tables, and of what says where they come from."""
    from attnsearch.report import csv, json, latex, markdown, provenance

    return [
        *(
            (f"{table.name}.csv", csv.render(table))
            for table in [*report.main(), *report.classes, report.archs, report.trials]
        ),
        ("front.md", markdown.render(report)),
        ("front.tex", latex.render(report)),
        ("report.json", json.render(report)),
        *([("space.yaml", str(space))] if (space := report.info.space.text) else []),
        ("provenance.json", provenance.render(report)),
    ]


def files(report: Report, paper: bool = False) -> list[tuple[str, str | bytes]]:
    """Name and content of every file, all rendered before the first is written; `paper`: figures for one too."""
    from attnsearch.report import html, plots

    pictures = plots.draw(report)
    return [
        *texts(report),
        *((f"plots/{picture.name}.png", picture.png) for picture in pictures),
        *((f"plots/{picture.name}.svg", picture.svg) for picture in pictures),
        *(plots.for_paper(report) if paper else []),
        ("report.html", html.render(report, pictures, plots.for_phones(report))),
    ]


__all__ = ["as_json", "build", "files", "show", "write"]
