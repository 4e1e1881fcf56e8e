"""`attnsearch report`: what a study says, finished or not."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from attnsearch.cli.common import Json, Out, Storage, StudyArgument, show_json

if TYPE_CHECKING:
    from attnsearch.trial import StudyRecord


def report(
    study: StudyArgument = None,
    storage: Storage = None,
    out: Out = Path("results"),
    files: Annotated[bool, typer.Option(help="Write tables, pictures and report.html too.")] = True,
    json: Json = False,
) -> None:  # fmt: skip
    """Show the front or the verdicts of a study, finished or not.

    Tables, pictures and one HTML page are written to OUT/STUDY as well.
    """
    from attnsearch import reports
    from attnsearch.studies import open_study

    opened = open_study(study, storage, out=out)
    print_report(opened.record, json)
    if files:
        written = reports.write(opened.record, out / opened.name)
        typer.echo(f"\n{len(written)} files in {out / opened.name}; open {written[-1]}", err=True)


def print_report(record: StudyRecord, json: bool) -> None:
    """The report on stdout, as tables or as JSON."""
    from attnsearch import reports

    if json:
        show_json(reports.as_json(record))
    else:
        reports.show(record)
