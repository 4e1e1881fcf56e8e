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
    """Write every file of the report into `folder`; see `formats.write`."""
    from attnsearch.report import formats

    return formats.write(report, folder, pictures=pictures, paper=paper)
