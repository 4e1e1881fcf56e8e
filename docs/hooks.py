"""Pages that are made from the package itself: one a block, every command's help, the glossary.

mkdocs calls `on_files` before it reads any page; what is made here exists in no folder.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

from attnsearch.blocks import registry
from attnsearch.blocks.registry import BlockInfo
from attnsearch.report.formatting import Table
from attnsearch.report.glossary import GLOSSARY
from attnsearch.tools import catalog

ROOT = Path(__file__).parent.parent
IMAGES = {
    "first_run.png": "results/first_run/plots/pareto.png",
    "pretrained.png": "results/pretrained/plots/forest.png",
    "pretrained_frozen.png": "results/pretrained_frozen/plots/forest.png",
}
SLOTS = {
    "attention": "Gates: (B, C, H, W) to the same shape",
    "conv": "In the place of a unit's 3×3 convolution",
    "neck": "Read several stages",
}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """The pages of the folder and those made here."""
    for name, text in (*block_pages(), ("commands.md", commands()), ("glossary.md", glossary())):
        files.append(File.generated(config, f"reference/{name}", content=text))
    for name, path in IMAGES.items():
        files.append(File.generated(config, f"images/{name}", abs_src_path=str(ROOT / path)))
    return files


def block_pages() -> Iterator[tuple[str, str]]:
    """A list of all blocks, and a page for each."""
    known = list(registry.blocks().values())
    lines = ["# Blocks", "", "Counts are of one image; `attnsearch blocks NAME` prints the same pages.", ""]
    for slot, title in SLOTS.items():
        lines += [f"## {title}", "", "| block | what it does | source |", "|---|---|---|"]
        lines += [
            f"| [`{block.name}`]({block.name}.md) | {_cell(block.summary)} | {catalog.source(block)} |"
            for block in known
            if block.slot == slot
        ]
        lines.append("")
    yield "blocks/index.md", "\n".join(lines)
    for block in known:
        yield f"blocks/{block.name}.md", block_page(block)


def block_page(block: BlockInfo) -> str:
    """Formula, paper, differences from it, options, presets, costs and refused widths."""
    parts = [f"# {block.name}", _preformatted(block.doc), "## As built", _preformatted(block.class_doc)]
    for table in (catalog.options(block), catalog.presets(block), catalog.block_costs(block.name)):
        parts += [f"## {table.title}", _markdown(table)] if table.rows else []
    refused = catalog.refused_widths(block.name)
    if refused:
        parts.append("## Widths that it refuses")
        parts += [
            f"* {', '.join(map(str, widths))} channels; at {widths[-1]}: {why}" for widths, why in refused
        ]
    return "\n\n".join(parts)


def commands() -> str:
    """The help of every command, as the terminal shows it."""
    import os

    os.environ.update(COLUMNS="100", NO_COLOR="1", TERM="dumb")
    from typer.testing import CliRunner

    from attnsearch.cli import app

    names = [command.name or "" for command in app.registered_commands]
    names += [group.name or "" for group in app.registered_groups]
    parts = ["# Commands", "What `attnsearch COMMAND --help` prints."]
    for name in names:
        result = CliRunner().invoke(app, [name, "--help"], prog_name="attnsearch")
        assert result.exit_code == 0, result.output
        parts += [f"## attnsearch {name}", f"```text\n{result.output.strip()}\n```"]
    return "\n\n".join(parts)


def glossary() -> str:
    """The terms of reports; `attnsearch explain TERM` and the report's tooltips say the same."""
    lines = [
        "# Glossary",
        "",
        "`attnsearch explain TERM` prints the same.",
        "",
        "| term | meaning |",
        "|---|---|",
    ]
    return "\n".join(
        [
            *lines,
            *(f"| {term} | {_cell(text)} |" for term, text in sorted(GLOSSARY.items(), key=_alphabetical)),
        ]
    )


def _alphabetical(entry: tuple[str, str]) -> str:
    return entry[0].lower()


def _preformatted(doc: str) -> str:
    return f"```text\n{doc.strip()}\n```"


def _markdown(table: Table) -> str:
    head = " | ".join(column.title for column in table.columns)
    rows = [" | ".join(map(_cell, table.texts(i))) for i in range(len(table.rows))]
    return "\n".join([f"| {head} |", "|---" * len(table.columns) + "|", *(f"| {row} |" for row in rows)])


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
