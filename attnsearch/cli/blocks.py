"""`attnsearch blocks [NAME]`: what may stand in a slot, where it comes from and what it costs."""

from __future__ import annotations

import re
from typing import Annotated, Any

import typer

from attnsearch.cli.common import Json, Plugins, add_plugins, show_json, show_table, show_text, whole


def blocks(
    name: Annotated[
        str | None, typer.Argument(metavar="[NAME]", help="A block or preset; all blocks when left out.")
    ] = None,
    channels: Annotated[
        int, typer.Option("--channels", parser=whole, metavar="N", help="Width of the list's costs.")
    ] = 64,
    side: Annotated[
        int, typer.Option("--map", parser=whole, metavar="N", help="Side of the list's map, in places.")
    ] = 32,
    plugin: Plugins = [],  # noqa: B006  # typer makes a fresh list for each call
    json: Json = False,
) -> None:
    """List all blocks, or show one.

    One by name: formula, differences from its paper, options, presets, costs, widths it refuses.
    """
    add_plugins(plugin)
    if name is not None:
        _show(name, json)
        return
    from attnsearch.blocks import registry
    from attnsearch.tools import catalog

    if json:
        known = registry.blocks()
        show_json([_facts(each, catalog.block_cost(each, channels, side)) for each in known])
        return
    show_table(catalog.blocks(channels, side))
    show_text()
    show_text("Options and their defaults", "bold")
    for facts in registry.blocks().values():
        show_text(f"{facts.name}: {catalog.options_text(facts)}", indent="  ", hanging=4)
    show_text()
    show_text("More of one: attnsearch blocks NAME")
    show_text("One of your own: attnsearch check my_block.py")


def _show(name: str, json: bool) -> None:
    from attnsearch.blocks import registry

    base, _ = registry.expand(name)  # before anything heavy is imported

    from attnsearch.report.json import table_of
    from attnsearch.tools import catalog

    facts, refused = registry.info(base), catalog.refused_widths(name)
    tables = [catalog.options(facts), catalog.presets(facts), catalog.block_costs(name)]
    if json:
        costs = {table.name: table_of(table)["rows"] for table in tables}
        show_json(
            {
                **_facts(base, catalog.block_cost(name, 64, 32)),
                **costs,
                "refused": [{"channels": widths, "reason": why} for widths, why in refused],
            }
        )
        return
    _show_doc(f"{name} ({facts.slot} slot)", facts.doc)
    show_text()
    _show_doc("As built", facts.class_doc)
    for table in tables:
        if table.rows:
            show_text()
            show_table(table)
    show_text()
    for widths, sentence in refused:
        show_text(f"Refuses {', '.join(map(str, widths))} channels. At {widths[-1]}: {sentence}")
    if facts.slot != "neck" and not refused:
        show_text(f"Fits every width tried: {', '.join(map(str, catalog.TRIED))} channels.")


def _show_doc(title: str, doc: str) -> None:
    """A docstring, its paragraphs wrapped to the terminal; formulas stay lines of their own."""
    show_text(title, "bold")
    for paragraph in _paragraphs(doc):
        text = paragraph.strip()
        indent = " " * (len(paragraph) - len(paragraph.lstrip()))
        show_text(text, indent=indent, hanging=4 if indent else 0)


def _paragraphs(doc: str) -> list[str]:
    """Lines that belong together, joined: prose, and `name: what` or `name  what` with what hangs below it."""
    joined: list[str] = []
    open_until = -1  # a line indented by more than this goes on with the last one; prose is at 0
    for line in doc.splitlines():
        indent = len(line) - len(line.lstrip())
        goes_on = indent > open_until >= 0 or (indent == 0 and open_until == -2)
        if line and joined and goes_on:
            joined[-1] = f"{joined[-1]} {line.strip()}"
            continue
        joined.append(line)
        item = re.match(r" +\w[\w, ]*?(: | {2,})", line)
        open_until = indent if item else -2 if line and not indent else -1
    return joined


def _facts(name: str, costs: dict[str, int]) -> dict[str, Any]:
    from attnsearch.blocks import registry
    from attnsearch.tools import catalog

    facts = registry.info(name)
    return {
        "block": name,
        "slot": facts.slot,
        "summary": facts.summary,
        "doc": facts.doc,
        "source": catalog.source(facts),
        "as_published": catalog.faithful(facts),
        "options": {option.name: option.default for option in facts.options},
        "presets": {preset: dict(options) for preset, options in facts.presets.items()},
        "costs": costs,
    }
