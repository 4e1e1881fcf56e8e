"""`attnsearch bench pack STUDY...`: studies as a small table for benchmarks without training."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from attnsearch.cli.common import Out, Storage, check_study

bench = typer.Typer(help="Tables of finished studies, for benchmarks without training.", no_args_is_help=True)


@bench.callback()
def _group() -> None:
    """Tables of finished studies, for benchmarks without training."""


@bench.command()
def pack(
    studies: Annotated[list[str], typer.Argument(metavar="STUDY...", help="Studies of the database.")],
    file: Annotated[Path, typer.Option("--file", metavar="FILE", help="Parquet file.")] = Path("bench.parquet"),
    storage: Storage = None,
    out: Out = Path("results"),
) -> None:  # fmt: skip
    """Write one row per training and epoch: arch, seed, epoch, error, losses and costs."""
    for study in studies:
        check_study(study, storage, out)

    from attnsearch.study.study import open_study
    from attnsearch.tools.packing import packed, write_parquet

    table = packed([open_study(study, storage, out=out).record for study in studies])
    write_parquet(table, file)
    typer.echo(
        f"{len(table):,} rows of {table.groupby(['study', 'key', 'seed']).ngroups:,} trainings in {file}"
    )
