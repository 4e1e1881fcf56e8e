"""`attnsearch check FILE|NAME`: does a block keep what it promises?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from attnsearch.cli.common import Json, show_json, show_text, whole

if TYPE_CHECKING:
    from attnsearch.tools.check import Finding

BADGES = {True: "ok", False: "FAILED", None: "skipped"}


def check(
    what: Annotated[
        str,
        typer.Argument(metavar="FILE|NAME", help="A Python file with blocks, or a shipped block or preset."),
    ],
    channels: Annotated[
        int, typer.Option("--channels", parser=whole, metavar="N", help="Width to try at.")
    ] = 64,
    json: Json = False,
) -> None:
    """Audit a block of yours, or a shipped one.

    Shapes, gradients, state, modes, precision, export, cost; exit code 2 if a property fails.
    """
    from dataclasses import asdict

    names = _names(what)  # before the audit, which imports torch

    from attnsearch.tools.check import audit

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
