"""`attnsearch check FILE|NAME`: does a block keep what it promises? With --data DIR: can the images be trained on?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from attnsearch.cli.common import Json, option, show_json, show_table, show_text, whole
from attnsearch.core.errors import UsageError

if TYPE_CHECKING:
    from attnsearch.tools.check_block import Finding
    from attnsearch.tools.check_data import DataCheck

BADGES = {True: "ok", False: "FAILED", None: "skipped"}


def check(
    what: Annotated[
        str,
        typer.Argument(metavar="FILE|NAME", help="A Python file with blocks, or a shipped block or preset."),
    ] = "",
    data: Annotated[str, option("Images instead: a folder, a .parquet or .npz file, a name.")] = "",
    channels: Annotated[
        int, typer.Option("--channels", parser=whole, metavar="N", help="Width to try at.")
    ] = 64,
    json: Json = False,
) -> None:
    """Audit a block, or the images of --data.

    Of a block: shapes, gradients, state, modes, precision, export, cost; exit code 2 if a property fails. Of images:
    bad files, classes, splits, copies across splits; exit code 3 if a file cannot be read.
    """
    if bool(what) == bool(data):
        raise UsageError(
            "check takes a block (attnsearch check se) or images (attnsearch check --data DIR), one of them"
        )
    if data:
        _check_data(data, json)
        return
    from dataclasses import asdict

    names = _names(what)  # before the audit, which imports torch

    from attnsearch.tools.check_block import audit

    found = {name: audit(name, channels) for name in names}
    if json:
        show_json({name: [asdict(finding) for finding in findings] for name, findings in found.items()})
    else:
        for name, findings in found.items():
            _show(name, findings, channels)
    if any(finding.passed is False for findings in found.values() for finding in findings):
        raise typer.Exit(2)
    if what not in names and not json:
        show_text(f"Use it in a space: attnsearch run --space my_space.yaml --plugin {what}")


def _check_data(name: str, json: bool) -> None:
    from attnsearch.core import checks

    checks.check_data(name)  # before anything heavy is imported

    from attnsearch.tools.check_data import check_data

    found = check_data(name, {})
    if json:
        show_json(found.to_dict())
    else:
        _show_data(found)
    if found.bad:
        raise typer.Exit(3)


def _show_data(found: DataCheck) -> None:
    from attnsearch.report.formatting import Column, Table, Value

    show_text(found.data.summary(), "bold")
    for warning in found.warnings:
        show_text(f"Warning: {warning}", hanging=9)
    for sentence in found.bad:
        show_text(f"Bad: {sentence}", hanging=5)
    splits = tuple(found.data.counts)
    rows: tuple[tuple[Value, ...], ...] = tuple(
        (kind, *(found.data.counts[split][kind] for split in splits)) for kind in found.data.classes
    )
    columns = (Column("class", "class"), *(Column(split, f"{split} images", "number", 0) for split in splits))
    show_text()
    show_table(Table("classes", "Classes", columns, rows))


def _names(what: str) -> list[str]:
    from attnsearch.blocks import registry

    if what.endswith(".py") or "/" in what:
        return [facts.name for facts in registry.add_plugin(Path(what))]
    registry.expand(what)
    return [what]


def _show(name: str, findings: list[Finding], channels: int) -> None:
    failed = sum(finding.passed is False for finding in findings)
    skipped = sum(finding.passed is None for finding in findings)
    verdict = f"{failed} of {len(findings)} properties FAILED" if failed else "every property tried holds"
    also = f", {skipped} skipped" if skipped else ""
    show_text(f"{name} at {channels} channels: {verdict}{also}", "bold")
    for finding in findings:
        style = "bold" if finding.passed is False else ""
        badge = f"{BADGES[finding.passed]:<9}"
        show_text(f"{badge}{finding.name}: {finding.reason or finding.fact}", style, hanging=len(badge))
    show_text()
