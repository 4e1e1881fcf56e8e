"""`attnsearch studies`: what the database holds; `studies remove NAME` deletes one."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from attnsearch.cli.common import Json, Out, Storage, check_study, show_json, show_table

studies = typer.Typer(help="List the studies of a database, or remove one.")


@studies.callback(invoke_without_command=True)
def list_all(
    context: typer.Context, storage: Storage = None, out: Out = Path("results"), json: Json = False
) -> None:
    """List the studies of a database: name, state, trainings, date and question."""
    if context.invoked_subcommand is not None:
        return
    check_study(None, storage, out)

    from attnsearch.core.settings import Settings
    from attnsearch.report.formatting import Column, Table
    from attnsearch.store.listing import list_studies

    entries = list_studies(Settings(storage=storage, out=out).url())
    if json:
        show_json([entry.to_dict() for entry in entries])
        return
    columns = (
        Column("study", "study"),
        Column("state", "state"),
        Column("trainings", "trainings", "integer"),
        Column("began", "began"),
        Column("question", "question", wide=True),
    )
    rows = tuple((e.name, e.state, e.trainings, e.began, e.question) for e in entries)
    show_table(Table("studies", f"{len(rows)} studies" if len(rows) != 1 else "1 study", columns, rows))


@studies.command()
def remove(
    name: Annotated[str, typer.Argument(metavar="STUDY", help="The study to delete.")],
    storage: Storage = None,
    out: Out = Path("results"),
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Delete a study from the database; its tables and pages in OUT/STUDY stay."""
    check_study(name, storage, out)

    from attnsearch.core.errors import UsageError
    from attnsearch.core.settings import Settings
    from attnsearch.store.listing import list_studies, remove_study

    url = Settings(storage=storage, out=out).url()
    if not yes:
        if not sys.stdin.isatty():
            raise UsageError(f"nobody to ask whether study '{name}' may be deleted: add --yes")
        count = next((entry.trainings for entry in list_studies(url) if entry.name == name), 0)
        if not typer.confirm(f"Delete study '{name}' with {count} trainings?", err=True):
            return
    remove_study(url, name)
    typer.echo(f"study '{name}' deleted; its files in {out / name} stay", err=True)
