"""`attnsearch report`: what a study says, finished or not."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from attnsearch.cli.common import (
    HostModule,
    Json,
    Out,
    Plugins,
    Storage,
    StudyArgument,
    add_plugins,
    check_study,
    note,
    setting,
    show_json,
)
from attnsearch.core.errors import UsageError

if TYPE_CHECKING:
    from attnsearch.report.tables import Report

Compare = Annotated[
    tuple[str, str] | None,
    typer.Option(
        "--compare", metavar="STUDY STUDY", help="Two studies side by side: what agrees, what does not."
    ),
]


def report(
    study: StudyArgument = None,
    storage: Storage = None,
    out: Out = Path("results"),
    files: Annotated[bool, typer.Option(help="Write tables, pictures and report.html too.")] = True,
    test: Annotated[bool, typer.Option("--test", help="Open the test split for the frozen front, once.")] = False,
    paper: Annotated[bool, typer.Option("--paper", help="Write figures for a paper too: PDF, SVG, PNG.")] = False,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda, for --test.")] = "auto",
    weights: Annotated[str | None, setting("weights")] = None,
    plugin: Plugins = [],  # noqa: B006  # typer makes a fresh list for each call
    host_module: HostModule = None,
    compare: Compare = None,
    json: Json = False,
) -> None:  # fmt: skip
    """Show the front or the verdicts of a study, finished or not.

    Tables, pictures and one HTML page are written to OUT/STUDY as well.
    """
    if compare:
        if study or test or paper:
            raise UsageError("--compare takes its two studies itself: leave out STUDY, --test and --paper")
        add_plugins(plugin)
        _compare(compare, storage, out, files, json)
        return
    if paper and not files:
        raise UsageError("--paper writes files, --no-files does not: leave out one of them")
    check_study(study, storage, out)
    add_plugins(plugin)

    from attnsearch import report as reports
    from attnsearch.study.study import open_study

    if test:
        from attnsearch.study import test_split

        test_split.open_test_split(
            study,
            storage=storage,
            out=out,
            device=device,
            weights=weights,
            host_module=host_module,
            notify=note,
        )
    gc.disable()  # what follows ends in seconds, of which looking for garbage would take a tenth
    try:
        opened = open_study(study, storage, out=out)
        built = reports.build(opened.record)
        print_report(built, json)
        if files:
            written = reports.write(built, out / opened.name, paper=paper)
            typer.echo(f"\n{len(written)} files in {out / opened.name}; open {written[-1]}", err=True)
    finally:
        gc.enable()


def _compare(names: tuple[str, str], storage: str | None, out: Path, files: bool, json: bool) -> None:
    """Two studies of one storage: what agrees, what does not; as files in OUT/FIRST-and-SECOND too."""
    for name in names:
        check_study(name, storage, out)

    from attnsearch import report as reports
    from attnsearch.report import comparison, comparison_files
    from attnsearch.study.study import open_study

    first, second = (reports.build(open_study(name, storage, out=out).record) for name in names)
    found = comparison.compare(first, second)
    if json:
        show_json(comparison_files.values(found))
    else:
        comparison_files.show(found)
    if files:
        folder = out / "-and-".join(names)
        written = comparison_files.write(found, folder)
        typer.echo(f"\n{len(written)} files in {folder}; open {written[-1]}", err=True)


def print_report(report: Report, json: bool) -> None:
    """The report on stdout, as tables or as JSON."""
    from attnsearch import report as reports

    if json:
        show_json(reports.as_json(report))
    else:
        reports.show(report)
